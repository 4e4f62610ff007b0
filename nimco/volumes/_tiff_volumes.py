"""Volumes as TIFF: one stack in a file, or a folder with a file for each plane."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nimco._hdf5_file import memory_bytes
from nimco.errors import VolumeError
from scan_contract import optional_import

from ._volume import size_in_nm

SUFFIXES = (".tif", ".tiff")
_NUMBER = re.compile(r"(\d+)(?!.*\d)")


def read_tiff(path: Path, *, ask_size: bool) -> tuple[npt.NDArray[Any], float | None]:
    """Return a stack, and the size of its voxels in nm; None where the file says none.

    Raises
    ------
    VolumeError
        It is no stack of gray planes, planes are missing, or it is damaged.
    """
    with optional_import("files", "TIFF files"):
        import tifffile
    if path.is_dir():
        planes = _planes(path)
        first = _image(tifffile, planes[0], 2)
        _check_memory(path, (len(planes), *first.shape), first.dtype)
        stack = np.empty((len(planes), *first.shape), first.dtype)
        for number, plane in enumerate(planes):
            image = first if number == 0 else _image(tifffile, plane, 2)
            if image.shape != first.shape or image.dtype != first.dtype:
                raise VolumeError(
                    f"{plane}: a plane of {image.shape} {image.dtype} among planes of {first.shape} {first.dtype}; "
                    "keep one volume in a folder."
                )
            stack[number] = image
        return stack, None
    return _image(tifffile, path, 3), _voxel_size(tifffile, path) if ask_size else None


def write_tiff(path: Path, values: npt.NDArray[Any], voxel_size_nm: float, what: str) -> None:
    """Write one array as a stack that ImageJ reads with its voxel size."""
    with optional_import("files", "TIFF files"):
        import tifffile
    # ImageJ knows these types only; what is none of them is kept as it is, without its metadata.
    imagej = values.dtype in (np.uint8, np.uint16, np.float32)
    per_um = 1000.0 / voxel_size_nm
    about = {
        "axes": "ZYX",
        "spacing": voxel_size_nm / 1000.0,
        "unit": "um",
        "voxel_size_nm": voxel_size_nm,
        "what": what,
    }
    # Beyond 4 GB ImageJ's own layout ends.
    tifffile.imwrite(
        path,
        values,
        imagej=imagej and values.nbytes < 2**32,
        bigtiff=not imagej or values.nbytes >= 2**32,
        resolution=(per_um, per_um),
        metadata=about,
    )


def _planes(folder: Path) -> list[Path]:
    found = [
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]
    if not found:
        raise VolumeError(f"{folder} holds no TIFF files; give a volume's folder of planes, or its file.")
    odd = [path for path in found if not path.is_file()]
    if odd:
        raise VolumeError(f"{odd[0]} is no regular file; keep nothing but planes in {folder}.")
    numbered = {path: _NUMBER.search(path.stem) for path in found}
    without = [path for path, number in numbered.items() if number is None]
    if without:
        raise VolumeError(f"{without[0]} has no number in its name: planes are put in order by it.")
    order = sorted((int(number[1]), path) for path, number in numbered.items() if number)
    numbers = [number for number, _ in order]
    steps = np.diff(numbers)
    if steps.size and ((steps == 0).any() or (steps != steps.min()).any()):
        at = int(np.argmax(steps != max(steps.min(), 1)))
        raise VolumeError(
            f"{folder}: the planes go from number {numbers[at]} to {numbers[at + 1]}; planes are "
            "missing or there twice."
        )
    return [path for _, path in order]


def _image(tifffile: Any, path: Path, ndim: int) -> npt.NDArray[Any]:
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series
            if not series:
                raise VolumeError(f"{path} holds no image.")
            shape, dtype = series[0].shape, series[0].dtype
            if len(series) > 1 or len(shape) != ndim or dtype is None or dtype.kind not in "fiub":
                what = "one gray plane" if ndim == 2 else "one stack of gray planes (planes, rows, columns)"
                held = f"{len(series)} images, the first of shape {shape} and type {dtype}"
                raise VolumeError(f"{path} holds {held} where {what} is needed.")
            _check_memory(path, shape, dtype)
            values = np.asarray(series[0].asarray())
    except VolumeError:
        raise
    except Exception as error:  # whatever a damaged file makes of a decoder
        raise VolumeError(
            f"{path} cannot be read as TIFF ({_short(error)}); it is damaged or of another format."
        ) from error
    if values.shape != shape:
        raise VolumeError(f"{path} is truncated: it holds {values.shape} of {shape}; copy it again.")
    return values


def _voxel_size(tifffile: Any, path: Path) -> float | None:
    with tifffile.TiffFile(path) as file:
        about: dict[str, Any] = {}
        for held in (file.imagej_metadata, *(file.shaped_metadata or ())):
            about |= held or {}
        tags = file.pages[0].tags
        resolution = [tags[name].value for name in ("XResolution", "YResolution") if name in tags]
    if "voxel_size_nm" in about:
        return size_in_nm(_number(about["voxel_size_nm"]), "nm", str(path))
    spacing, unit = about.get("spacing"), about.get("unit")
    if spacing is None and unit is None:
        return None  # a resolution alone is what any program writes, whatever the image is of
    lengths = [value[1] / value[0] for value in resolution if value[0]]
    if spacing is not None:
        lengths.append(_number(spacing))
    return size_in_nm(lengths, unit, str(path))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _check_memory(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    needed = int(np.prod([float(size) for size in shape])) * dtype.itemsize
    if needed > memory_bytes() // 2:
        raise VolumeError(
            f"{path} says it is {' x '.join(map(str, shape))} ({needed / 1e9:.0f} GB), more than half of the memory "
            "here; cut or bin it first."
        )


def _short(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]
