"""Volumes as HDF5: the layout written here (NeXus), and datasets of files from elsewhere."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from callbacks import RootMap
from nimco._hdf5_file import READING_ERRORS, Hdf5File, memory_bytes
from nimco.errors import VolumeError

from ._volume import Volume, size_in_nm

SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs")
_GROUP = "entry/volume"
_AXES = ("plane", "row", "column")
_MEANING = {
    "density": "density",
    "soc": "state of charge",
    "soc_sigma": "standard deviation of the state of charge",
    "mask": "1 where the volume can be used",
    "particles": "particle of each voxel, 0 for none",
    "cracks": "1 in wide cracks and pores, 2 in fine cracks",
}
# Where files from elsewhere keep a reconstruction, and the size of a voxel.
_DENSITY = (
    f"{_GROUP}/density", "density", "volume", "reconstruction", "recon", "rec", "data", "img", "entry/data/data",
    "entry/reconstruction/data", "exchange/reconstruction",
)  # fmt: skip
_SIZES = (
    f"{_GROUP}/voxel_size", "voxel_size", "pixel_size", "resolution", "process/acquisition/voxel_size",
    "measurement/instrument/detector/pixel_size",
)  # fmt: skip
_SIZES_NM = ("voxel_size_nm", "pixel_size_nm")


def write_hdf5(path: Path, volume: Volume) -> None:
    """Write a volume as an ``NXdata`` group with axes in nm, in chunks of a plane, compressed without loss."""
    with h5py.File(path, "w") as file:
        now = datetime.now(UTC).isoformat()
        file.attrs.update({"NX_class": "NXroot", "default": "entry", "file_time": now, "creator": "nimco"})
        entry = file.create_group("entry")
        entry.attrs.update({"NX_class": "NXentry", "default": "volume"})
        entry.create_dataset("title", data=volume.source or "volume")
        group = entry.create_group("volume")
        group.attrs.update({"NX_class": "NXdata", "signal": "density", "axes": list(_AXES)})
        for axis, (name, size) in enumerate(zip(_AXES, volume.density.shape, strict=True)):
            places = group.create_dataset(name, data=volume.voxel_size_nm * np.arange(size))
            places.attrs["units"] = "nm"
            group.attrs[f"{name}_indices"] = axis
        for name, values in volume.arrays():
            held = group.create_dataset(
                name,
                data=values,
                chunks=(1, *values.shape[1:]),
                compression="gzip",
                compression_opts=1,
                shuffle=True,
            )
            held.attrs.update({"units": "1", "long_name": _MEANING[name]})
        size_held = group.create_dataset("voxel_size", data=volume.voxel_size_nm)
        size_held.attrs["units"] = "nm"


def read_hdf5(
    path: Path, names: Mapping[str, str | None], *, ask_size: bool
) -> tuple[dict[str, npt.NDArray[Any]], float | None]:
    """Return arrays by what they are, and the size of a voxel in nm; as of Zarr stores.

    Raises
    ------
    VolumeError, RecordingError
        It cannot be read.
    """
    file = Hdf5File(path, RootMap())
    try:
        found = {}
        for what, name in names.items():
            usual = _DENSITY if what == "density" else (f"{_GROUP}/{what}", what)
            held = next((one for one in ([name] if name else usual) if _there(file, one)), None)
            if held is not None:
                found[what] = _values(file, held)
            elif name is not None:
                raise VolumeError(f"{path} has no dataset '{name}'; at its top it has {_listed(file)}.")
        if not found:
            raise VolumeError(
                f"{path} has no volume under a usual name; say which dataset it is with {path.name}::NAME; at its top "
                f"it has {_listed(file)}."
            )
        return found, _voxel_size(file) if ask_size else None
    finally:
        file.close()


def _there(file: Hdf5File, name: str) -> bool:
    """Return whether a name is that of a dataset; a group that a file keeps under it is none."""
    try:
        return file.find(name) is not None
    except VolumeError:
        raise
    except Exception as error:
        if "is a group" in str(error):
            return False
        raise


def _listed(file: Hdf5File) -> str:
    return ", ".join(file.names[:12]) or "nothing"


def _values(file: Hdf5File, name: str) -> npt.NDArray[Any]:
    dataset = file.find(name)
    if dataset is not None and dataset.dtype == np.bool_:
        return np.asarray(dataset[()])
    stack = file.frames(name)
    if stack is None or len(stack.shape) != 3 or (dataset is not None and dataset.ndim != 3):
        raise VolumeError(f"{file.path}: '{name}' is no volume (planes, rows, columns).")
    needed = int(np.prod([float(size) for size in stack.shape])) * stack.dtype.itemsize
    if needed > memory_bytes() // 2:
        raise VolumeError(
            f"{file.path}: '{name}' is {' x '.join(map(str, stack.shape))} ({needed / 1e9:.0f} GB), more than half of "
            "the memory here; cut or bin it first."
        )
    if stack.missing.all():
        raise VolumeError(f"{file.path}: '{name}' was never written; copy the file again.")
    values = np.empty(stack.shape, stack.dtype)
    try:
        for number in range(len(stack)):
            values[number] = stack[number]
    except READING_ERRORS as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise VolumeError(f"{file.path}: plane {number} of '{name}' cannot be read ({reason}).") from error
    if stack.missing.any():
        if values.dtype.kind != "f":
            missing = int(stack.missing.sum())
            raise VolumeError(
                f"{file.path}: {missing} planes of '{name}' were never written; copy the file again."
            )
        values[stack.missing] = np.nan
    return values


def _voxel_size(file: Hdf5File) -> float | None:
    for name in _SIZES_NM:
        if _there(file, name):
            return size_in_nm(_numbers(file, name), "nm", str(file.path))
    for name in _SIZES:
        if _there(file, name):
            dataset = file.find(name)
            unit = None if dataset is None else dataset.attrs.get("units", dataset.attrs.get("unit"))
            return size_in_nm(_numbers(file, name), unit, f"{file.path}: '{name}'")
    return None


def _numbers(file: Hdf5File, name: str) -> npt.NDArray[np.float64]:
    values = file.numbers(name)
    return np.full(1, np.nan) if values is None else values
