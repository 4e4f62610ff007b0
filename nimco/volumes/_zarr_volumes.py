"""Volumes as Zarr: a group with an array of each quantity, or one array."""

import shutil
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nimco._hdf5_file import memory_bytes
from nimco.errors import VolumeError
from scan_contract import optional_import

from ._volume import Volume, size_in_nm

_CHUNK = 64
_MARKS = ("zarr.json", ".zgroup", ".zarray")


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr store."""
    return path.is_dir() and any((path / mark).is_file() for mark in _MARKS)


def write_zarr(path: Path, volume: Volume) -> None:
    """Write a volume as a group, its arrays in cubes of 64 voxels, each chunk written also where it is empty."""
    with optional_import("files", "Zarr volumes"):
        import zarr
    with zarr.config.set({"array.write_empty_chunks": True}):
        group = zarr.open_group(path, mode="w")
        group.attrs.update(
            {
                "voxel_size": volume.voxel_size_nm,
                "voxel_size_units": "nm",
                "source": volume.source,
                "signal": "density",
            }
        )
        for name, values in volume.arrays():
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                chunks=tuple(min(_CHUNK, size) for size in values.shape),
                dimension_names=("plane", "row", "column"),
            )
            array[:] = values


def replace_zarr(path: Path, volume: Volume) -> None:
    """Write a volume beside its place, then put it there; what is no Zarr store is never replaced."""
    if path.exists() and not is_zarr(path):
        raise VolumeError(f"{path} is there and is no Zarr volume; choose another name.")
    unfinished = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            write_zarr(unfinished, volume)
            if path.exists():
                shutil.rmtree(path)
            unfinished.rename(path)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise VolumeError(
            f"cannot write {path} ({error.strerror or error}); choose another folder or make room."
        ) from error


def read_zarr(
    path: Path, names: Mapping[str, str | None], *, ask_size: bool
) -> tuple[dict[str, npt.NDArray[Any]], float | None]:
    """Return arrays by what they are, and the size of a voxel in nm; None where the store says none.

    Parameters
    ----------
    path : Path
        The store.
    names : mapping of str to (str or None)
        Name in the store of each wanted array; None for the name it usually has, if there.

    Raises
    ------
    VolumeError
        It cannot be read.
    """
    with optional_import("files", "Zarr volumes"):
        import zarr
    try:
        opened = zarr.open(path, mode="r")
        if isinstance(opened, zarr.Array):
            attrs = dict(opened.attrs)
            return {"density": _values(opened, path, "density")}, _voxel_size(
                attrs, path
            ) if ask_size else None
        attrs = dict(opened.attrs)
        found = {}
        for what, name in names.items():
            node = _array(opened, name or _usual(opened, what, attrs), zarr)
            if node is not None:
                found[what] = _values(node, path, name or what)
            elif name is not None:
                raise VolumeError(f"{path} has no array '{name}'; it has {_listed(opened)}.")
        if not found:
            raise VolumeError(
                f"{path} has no array 'density'; say which is it with {path}::NAME: {_listed(opened)}."
            )
        return found, _voxel_size(attrs, path) if ask_size else None
    except VolumeError:
        raise
    except Exception as error:  # whatever damaged metadata or chunks make of a decoder
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise VolumeError(f"{path} cannot be read as Zarr ({reason}); copy it again.") from error


def _array(group: Any, name: str | None, zarr: Any) -> Any:
    if name is None or name.startswith("/") or ".." in name or name not in group:
        return None
    node = group[name]
    return node if isinstance(node, zarr.Array) else None


def _usual(group: Any, what: str, attrs: Mapping[str, Any]) -> str | None:
    if what != "density" or what in group:
        return what
    scales = _multiscale(attrs)
    if scales:
        return str(scales["datasets"][0]["path"])
    arrays = [name for name, node in group.members() if hasattr(node, "chunks")]
    return arrays[0] if len(arrays) == 1 else None


def _listed(group: Any) -> str:
    return ", ".join(sorted(name for name, _ in group.members())[:12]) or "nothing"


def _multiscale(attrs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what OME-Zarr says of an image and its resolutions."""
    held = attrs.get("multiscales") or (attrs.get("ome") or {}).get("multiscales")
    return dict(held[0]) if isinstance(held, list) and held else None


def _voxel_size(attrs: Mapping[str, Any], path: Path) -> float | None:
    if "voxel_size" in attrs:
        return size_in_nm(attrs["voxel_size"], attrs.get("voxel_size_units"), str(path))
    scales = _multiscale(attrs)
    if not scales:
        return None
    axes = [axis for axis in scales.get("axes", []) if isinstance(axis, dict) and axis.get("type") == "space"]
    units = {axis.get("unit") for axis in axes}
    for step in scales["datasets"][0].get("coordinateTransformations", []):
        if step.get("type") == "scale" and len(axes) == 3 and len(units) == 1:
            return size_in_nm(step["scale"][-3:], units.pop(), str(path))
    return None


def _values(array: Any, path: Path, name: str) -> npt.NDArray[Any]:
    shape = array.shape
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]  # times and channels of OME-Zarr
    if len(shape) != 3 or array.dtype.kind not in "fiub":
        raise VolumeError(
            f"{path}: '{name}' has shape {array.shape} and type {array.dtype} where numbers (planes, rows, columns) "
            "are needed."
        )
    stored = tuple(array.shards or array.chunks)
    for what, sizes in (("is", array.shape), ("is stored in chunks that are", stored)):
        needed = int(np.prod([float(size) for size in sizes])) * array.dtype.itemsize
        if needed > memory_bytes() // 2:
            raise VolumeError(
                f"{path}: '{name}' {what} {' x '.join(map(str, sizes))} ({needed / 1e9:.0f} GB), more than half of the "
                "memory here; cut, bin or rechunk it first."
            )
    missing = _missing_chunks(array, stored)
    if len(missing) == int(np.prod([-(-n // c) for n, c in zip(array.shape, stored, strict=True)])):
        raise VolumeError(f"{path}: no chunk of '{name}' is there; copy the whole folder.")
    values = np.asarray(array[...])
    if missing and values.dtype.kind == "f":
        # A chunk that was never written reads as the fill value: nothing is known there.
        values = np.array(values)
        for place in missing:
            values[tuple(slice(k * c, (k + 1) * c) for k, c in zip(place, stored, strict=True))] = np.nan
    return values.reshape(shape)


def _missing_chunks(array: Any, stored: tuple[int, ...]) -> list[tuple[int, ...]]:
    folder = Path(str(array.store.root)) / array.path
    missing = []
    for place in product(
        *(range(-(-size // chunk)) for size, chunk in zip(array.shape, stored, strict=True))
    ):
        chunk = folder / array.metadata.encode_chunk_key(place)
        if not chunk.exists():
            missing.append(place)
        elif not chunk.is_file():
            # A pipe would be waited for.
            raise VolumeError(f"{chunk} is no regular file; copy the volume again.")
    return missing
