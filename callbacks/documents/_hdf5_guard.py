"""HDF5 files from elsewhere, looked at before they are opened and read."""

import stat
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import h5py

# More than the exposures of one event, or a chunk of them, can be; it would be allocated whatever is in the file.
_LARGEST_BYTES = 2 * 2**30
_SAME_FILE = "."
_DEEPEST = 8

SourceFile = tuple[int, int, tuple[Path, ...]]


def not_a_file(path: Path) -> str:
    """Say what is at a path where a file is needed; empty for a file, and where nothing is yet.

    To open a pipe would wait for whoever writes into it.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return ""
    if stat.S_ISREG(mode):
        return ""
    return "a folder" if stat.S_ISDIR(mode) else "no regular file"


def leads_nowhere(file: h5py.File | h5py.Group, name: str, depth: int = 0) -> str:
    """Say which link on the way to an object names what is no file; empty where none does, or nothing is there.

    HDF5 itself would open it, and wait for whoever writes into a pipe.
    """
    node: Any = file.file if name.startswith("/") else file
    parts = [part for part in name.split("/") if part]
    for number, part in enumerate(parts):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        rest = "/".join(parts[number + 1 :])
        if isinstance(link, h5py.ExternalLink):
            folder, named = Path(node.file.filename).parent, Path(link.filename)
            for place in (folder / named, named, folder / named.name):
                if what := not_a_file(place):
                    return f"{place}, which is {what}"
                if place.is_file() and depth < _DEEPEST:
                    with h5py.File(place, "r") as other:
                        return leads_nowhere(other, f"{link.path}/{rest}", depth + 1)
            return ""
        if isinstance(link, h5py.SoftLink):
            return leads_nowhere(node, f"{link.path}/{rest}", depth + 1) if depth < _DEEPEST else ""
        if link is None:
            return ""
        node = node[part]
    return ""


def too_large(dataset: h5py.Dataset, n_images: int) -> str:
    """Say why so many images of a dataset cannot be read; empty where they can."""
    at_once = {
        "images": n_images * prod(dataset.shape[-2:]),
        "chunks": prod(dataset.chunks) if dataset.chunks else 0,
    }
    for what, size in at_once.items():
        if size * dataset.dtype.itemsize > _LARGEST_BYTES:
            return (
                f"{what} of {size * dataset.dtype.itemsize / 1e9:.3g} GB, more than the "
                f"{_LARGEST_BYTES / 1e9:.3g} GB that are read at once"
            )
    return ""


def source_files(dataset: h5py.Dataset) -> list[SourceFile]:
    """Return the other files that the values of a dataset are in: first and last image, and where each may be.

    What such a file does not hold is read as the fill value.
    """
    folder = Path(dataset.file.filename).parent
    if dataset.external:
        return [(0, dataset.shape[0], (folder / name,)) for name, _, _ in dataset.external]
    if not dataset.is_virtual:
        return []
    found: list[SourceFile] = []
    for source in dataset.virtual_sources():
        if source.file_name == _SAME_FILE or "%" in source.file_name:  # a pattern of names
            continue
        low, high = source.vspace.get_select_bounds() if dataset.ndim != 2 else ((0,), (dataset.shape[0],))
        name = Path(source.file_name)
        # Where HDF5 looks: beside the file that names it, as named, and there by the last part of the name.
        found.append((int(low[0]), int(high[0]), (folder / name, name, folder / name.name)))
    return found


def missing_source(files: Sequence[SourceFile], first: int, stop: int) -> str:
    """Say which of the files that hold the images from first to stop is not there; empty where all are."""
    for low, high, places in files:
        if low < stop and high >= first and not any(place.is_file() for place in places):
            return str(places[0])
    return ""


def is_written(dataset: h5py.Dataset, first: int, stop: int) -> bool:
    """Whether the images from first to stop have values, where they are in this file."""
    if dataset.is_virtual or dataset.external:
        return True
    if dataset.chunks is None:
        return bool(dataset.id.get_storage_size())
    return all(
        dataset.id.get_chunk_info_by_coord(origin).byte_offset is not None
        for origin in _chunks(dataset, first, stop)
    )


def _chunks(dataset: h5py.Dataset, first: int, stop: int) -> Iterator[tuple[int, ...]]:
    """Origins of the chunks that hold the images from first to stop."""
    # A dataset of two dimensions is one image.
    start = (0, 0) if dataset.ndim == 2 else (first, *[0] * (dataset.ndim - 1))
    end = dataset.shape if dataset.ndim == 2 else (stop, *dataset.shape[1:])
    grids = [
        range(low // size * size, high, size)
        for low, high, size in zip(start, end, dataset.chunks, strict=True)
    ]
    yield from product(*grids)
