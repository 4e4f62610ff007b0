"""Volumes from and to files: HDF5, TIFF and Zarr."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks.publish import replacing
from nimco.errors import VolumeError

from . import _hdf5_volumes, _tiff_volumes, _zarr_volumes
from ._volume import ARRAYS, Volume, check_voxel_size, no_voxel_size


def read_volume(
    path: Path | str,
    *,
    voxel_size_nm: float | None = None,
    others: Mapping[str, Path | str] | None = None,
) -> Volume:
    """Read a volume that was reconstructed here or elsewhere.

    Parameters
    ----------
    path : Path or str
        HDF5 file, TIFF stack, folder of TIFF planes, or Zarr store; ``FILE::NAME`` names the dataset of the density in
        HDF5 and Zarr.
    voxel_size_nm : float, optional
        Edge of a voxel, before what the file says; needed where it says none.
    others : mapping of str to path, optional
        ``soc``, ``soc_sigma`` and ``mask`` from files of their own, before those of the file.

    Returns
    -------
    Volume

    Raises
    ------
    VolumeError, RecordingError
        It cannot be read, or does not say the size of its voxels in a unit.
    """
    where, name = _named(path)
    wanted: dict[str, str | None] = dict.fromkeys(ARRAYS)
    wanted["density"] = name
    unknown = [key for key in others or {} if key not in ARRAYS[1:]]
    if unknown:
        raise VolumeError(
            f"a volume has no '{unknown[0]}'; besides the density it has {', '.join(ARRAYS[1:])}."
        )
    found, size_nm = _read(where, wanted, ask_size=voxel_size_nm is None)
    if "density" not in found:
        raise VolumeError(f"{where} has no density; say which array it is with {where.name}::NAME.")
    for key, other in (others or {}).items():
        place, inner = _named(other)
        # The one array of another file, whatever it is called there.
        held, _ = _read(place, {"density": inner} if inner else {key: None, "density": None}, ask_size=False)
        found[key] = held[key] if key in held else held["density"]
    if voxel_size_nm is not None:
        size_nm = check_voxel_size(float(voxel_size_nm), str(where))
    if size_nm is None:
        raise no_voxel_size(str(where))
    if "soc" not in found:
        found.pop("soc_sigma", None)
    if "mask" in found:
        found["mask"] = np.asarray(found["mask"] > 0)
    return Volume(voxel_size_nm=size_nm, source=where.name, **found)


def write_volume(volume: Volume, path: Path | str) -> list[Path]:
    """Write a volume, replacing an older one as a whole.

    Parameters
    ----------
    volume : Volume
        What to write.
    path : Path or str
        By its suffix: ``.h5`` (NeXus), ``.zarr``, or ``.tif`` with a stack for each array (``NAME_soc.tif`` and so on
        beside the density).

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    VolumeError, ExportError
        The suffix is none of these, or it cannot be written.
    """
    place = Path(path)
    suffix = place.suffix.lower()
    if suffix in _hdf5_volumes.SUFFIXES:
        return [replacing(place, lambda unfinished: _hdf5_volumes.write_hdf5(unfinished, volume))]
    if suffix == ".zarr":
        _zarr_volumes.replace_zarr(place, volume)
        return [place]
    if suffix in _tiff_volumes.SUFFIXES:
        written = []
        for name, values in volume.arrays():
            one = place if name == "density" else place.with_stem(f"{place.stem}_{name}")
            plain = values.astype(np.uint8) if values.dtype == np.bool_ else values
            write = partial(
                _tiff_volumes.write_tiff, values=plain, voxel_size_nm=volume.voxel_size_nm, what=name
            )
            written.append(replacing(one, write))
        return written
    raise VolumeError(f"{place}: a volume is written as .h5, .zarr or .tif, not as '{suffix}'.")


def _named(path: Path | str) -> tuple[Path, str | None]:
    text, _, name = str(path).partition("::")
    return Path(text), name or None


def _read(
    path: Path, names: Mapping[str, str | None], *, ask_size: bool
) -> tuple[dict[str, npt.NDArray[Any]], float | None]:
    if not path.exists():
        raise VolumeError(f"There is no file {path}; check the path.")
    if _zarr_volumes.is_zarr(path):
        return _zarr_volumes.read_zarr(path, names, ask_size=ask_size)
    if path.is_dir() or path.suffix.lower() in _tiff_volumes.SUFFIXES:
        if not path.is_dir() and not path.is_file():
            raise VolumeError(f"{path} is no regular file; give a TIFF file.")
        values, size_nm = _tiff_volumes.read_tiff(path, ask_size=ask_size)
        found = {"density": values}
        for name in names:
            beside = path.with_stem(f"{path.stem}_{name}")
            if name != "density" and "density" in names and not path.is_dir() and beside.is_file():
                found[name] = _tiff_volumes.read_tiff(beside, ask_size=False)[0]
        return found, size_nm
    return _hdf5_volumes.read_hdf5(path, names, ask_size=ask_size)
