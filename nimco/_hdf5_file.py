"""Datasets of HDF5 files from elsewhere, looked at before anything is read: links, types, sizes, sources."""

import errno
import os
import resource
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from callbacks import RootMap
from nimco.errors import RecordingError

with suppress(ModuleNotFoundError):  # an extra; a file that needs it is refused by the name of its filter
    import hdf5plugin  # noqa: F401  (registers the compression filters beamlines write with)

_MOST_VALUES = 100_000  # as many energies as an energy grid may have
_DEEPEST = 8
# What reading HDF5 from elsewhere raises; h5py has no class of its own.
READING_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError)


def memory_bytes() -> int:
    """Memory that this process may use."""
    held = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    return held if allowed == resource.RLIM_INFINITY else min(held, allowed)


class FrameStack:
    """Frames (n, rows, cols) that are read one at a time; a single frame (rows, cols) is a stack of one.

    Attributes
    ----------
    shape : tuple of int
        Frames, rows, columns.
    dtype : numpy.dtype
        Of the frames as they are handed out: native byte order, floats of 4 or 8 bytes.
    missing : ndarray of bool, (n,)
        Frames of which the file holds no values, or not all; reading them gives the fill value.
    """

    def __init__(self, held: h5py.Dataset | npt.NDArray[Any], missing: npt.NDArray[np.bool_]) -> None:
        self._held = held
        self.shape: tuple[int, ...] = held.shape if len(held.shape) == 3 else (1, *held.shape)
        self.dtype = _handed_out(held.dtype)
        self.missing = missing

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        frame = self._held[index] if len(self._held.shape) == 3 else self._held[()]
        return np.asarray(frame).astype(self.dtype, copy=False)

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self[index] for index in range(len(self)))


class Hdf5File:
    """An HDF5 file and the files it points to; use as a context manager.

    Parameters
    ----------
    path : Path
        The file.
    roots : RootMap
        Where folders that links and virtual datasets name are now.

    Raises
    ------
    RecordingError
        The file, or what is asked of it, cannot be read; the message says why and what to do.
    """

    def __init__(self, path: Path, roots: RootMap) -> None:
        self.path = path
        self._roots = roots
        self._open = ExitStack()
        self._root = self._open.enter_context(_opened(path))

    def close(self) -> None:
        """Close the file and those it points to."""
        self._open.close()

    @property
    def names(self) -> list[str]:
        """Names of what the file holds at its top."""
        return sorted(self._root)

    def find(self, name: str) -> h5py.Dataset | None:
        """Return a dataset; None where nothing has this name."""
        node: Any = self._root
        for part in name.split("/"):
            link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
            if link is None:
                return None
            try:
                node = self._follow(node, part, link, 0)
            except (*READING_ERRORS, RecordingError) as error:
                target = getattr(link, "path", "an object")
                if isinstance(link, h5py.ExternalLink):
                    target += f" in {link.filename}"
                raise RecordingError(
                    f"{self.path}: '{name}' is a link to {target}, which cannot be reached; copy the files it points "
                    "to along with it, or say with --root OLD=NEW where they are now."
                ) from error
        if not isinstance(node, h5py.Dataset):
            raise RecordingError(f"{self.path}: '{name}' is a group where a dataset is needed.")
        if node.shape is None:
            raise RecordingError(f"{self.path}: '{name}' holds no values (a null dataset).")
        return node

    def numbers(self, name: str, shape: tuple[int, ...] | None = None) -> npt.NDArray[np.float64] | None:
        """Return a small dataset of numbers as float64; None where nothing has this name.

        Parameters
        ----------
        name : str
            The dataset.
        shape : tuple of int, optional
            The shape it must have; by default any of at most 100,000 values.
        """
        dataset = self.find(name)
        if dataset is None:
            return None
        if shape is not None and dataset.shape != shape:
            raise RecordingError(
                f"{self.path}: '{name}' has shape {dataset.shape} where {shape} is expected."
            )
        if shape is None and dataset.size > _MOST_VALUES:
            raise RecordingError(
                f"{self.path}: '{name}' has {dataset.size} values, more than the {_MOST_VALUES} a scan can have."
            )
        if dataset.dtype.kind in "OSU" and dataset.size == 1:
            return self._number_in_text(name, dataset)
        self._check_numbers(name, dataset)
        if dataset.size and self._missing(dataset, 0).any():
            raise RecordingError(
                f"{self.path}: the values of '{name}' were never written; copy the file again, with those "
                "it points to."
            )
        return np.asarray(dataset[()], dtype=np.float64)

    def frames(self, name: str) -> FrameStack | None:
        """Return a stack of images, unread; None where nothing has this name."""
        dataset = self.find(name)
        if dataset is None:
            return None
        self._check_numbers(name, dataset)
        if dataset.ndim not in (2, 3):
            colour = dataset.ndim == 4 and dataset.shape[-1] in (3, 4)
            raise RecordingError(
                f"{self.path}: '{name}' has shape {dataset.shape}: "
                + ("colour images" if colour else f"{dataset.ndim} dimensions")
                + " where gray frames (n, rows, cols) are needed."
            )
        if 0 in dataset.shape[-2:]:
            raise RecordingError(f"{self.path}: '{name}' of shape {dataset.shape} holds no frames.")
        count = dataset.shape[0] if dataset.ndim == 3 else 1
        if count > _MOST_VALUES:
            raise RecordingError(
                f"{self.path}: '{name}' has {count} frames, more than the {_MOST_VALUES} a scan can have."
            )
        chunk_bytes = prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
        if chunk_bytes > memory_bytes() // 4:
            raise RecordingError(
                f"{self.path}: '{name}' is stored in chunks of {chunk_bytes / 1e9:.1f} GB, more than the memory here "
                "allows; rewrite it with a chunk per frame (h5repack)."
            )
        return FrameStack(self._with_moved_sources(dataset), self._missing(dataset, 0))

    def _follow(self, group: h5py.Group, name: str, link: Any, depth: int) -> Any:
        """Return what a name in a group stands for.

        Links are followed here: HDF5 would open whatever they name, and wait for whoever writes into a pipe.
        """
        if isinstance(link, h5py.HardLink):
            return group[name]
        if link is None or depth >= _DEEPEST:
            raise KeyError(name)
        if isinstance(link, h5py.ExternalLink):
            node: Any = self._beside(Path(group.file.filename), link.filename)
        else:
            node = group.file if link.path.startswith("/") else group
        for part in filter(None, link.path.split("/")):
            if not isinstance(node, h5py.Group):
                raise KeyError(part)
            if part != ".":
                node = self._follow(node, part, node.get(part, getlink=True), depth + 1)
        return node

    def _number_in_text(self, name: str, dataset: h5py.Dataset) -> npt.NDArray[np.float64]:
        value = np.asarray(dataset[()]).ravel()[0]
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        try:
            return np.array([float(text)])
        except ValueError:
            raise RecordingError(
                f"{self.path}: '{name}' is the text {text[:40]!r} where a number is needed."
            ) from None

    def _check_numbers(self, name: str, dataset: h5py.Dataset) -> None:
        if dataset.dtype.kind not in "iuf":
            kinds = {
                "V": "records",
                "O": "objects or text",
                "S": "text",
                "c": "complex numbers",
                "b": "booleans",
            }
            held = kinds.get(dataset.dtype.kind, str(dataset.dtype))
            if dataset.dtype.subdtype is not None:
                held = "arrays"
            raise RecordingError(f"{self.path}: '{name}' holds {held} where numbers are needed.")
        filters = dataset.id.get_create_plist()
        for number in range(filters.get_nfilters()):
            code, _, _, label = filters.get_filter(number)
            if not h5py.h5z.filter_avail(code):
                raise RecordingError(
                    f"{self.path}: '{name}' is compressed with filter {code} "
                    f"({label.decode('utf-8', 'replace') or 'unnamed'}), which is not installed here; "
                    "run: pip install 'nimco[files]', or install the HDF5 plugin for it, "
                    "or rewrite the file with h5repack -f GZIP=4."
                )

    def _missing(self, dataset: h5py.Dataset, depth: int) -> npt.NDArray[np.bool_]:
        """Say for each index of the first axis (one in all for less than three axes) whether values are missing."""
        count = dataset.shape[0] if dataset.ndim >= 3 else 1
        if dataset.is_virtual:
            return self._missing_sources(dataset, count, depth)
        if dataset.external:
            return np.full(count, not self._has_raw_files(dataset))
        if dataset.chunks is None:
            return np.full(count, dataset.id.get_storage_size() == 0)
        in_rows = [-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
        if dataset.id.get_num_chunks() >= prod(in_rows):
            return np.zeros(count, bool)
        if dataset.ndim < 3:
            return np.ones(count, bool)
        written = np.zeros(in_rows[0], np.int64)

        def see(chunk: Any) -> None:
            row = chunk.chunk_offset[0] // dataset.chunks[0]
            if row < written.size:
                written[row] += 1

        dataset.id.chunk_iter(see)
        return np.repeat(written < prod(in_rows[1:]), dataset.chunks[0])[:count]

    def _missing_sources(self, dataset: h5py.Dataset, count: int, depth: int) -> npt.NDArray[np.bool_]:
        """Compare what the sources of a virtual dataset hold with what it shows: the rest is the fill value."""
        if depth >= _DEEPEST:
            return np.ones(count, bool)
        covered = np.zeros(count)
        for source in dataset.virtual_sources():
            try:
                _, held = self._source(dataset, source)
                missing = self._missing(held, depth + 1)
            except (*READING_ERRORS, RecordingError):
                continue
            shown, points = _frames_of(source.vspace, dataset.shape)
            taken, _ = _frames_of(source.src_space, held.shape)
            there = ~missing[taken[taken < missing.size]]
            if taken.size == shown.size:
                shown = shown[: there.size][there]
            elif not there.all():
                continue
            covered[shown] += points
        return np.asarray(covered < prod(dataset.shape[1:] if dataset.ndim >= 3 else dataset.shape))

    def _source(self, dataset: h5py.Dataset, source: Any) -> tuple[h5py.File, h5py.Dataset]:
        """Return the file of a source of a virtual dataset, and the source."""
        beside = Path(dataset.file.filename)
        file = dataset.file if source.file_name == "." else self._beside(beside, source.file_name)
        return file, file[source.dset_name]

    def _has_raw_files(self, dataset: h5py.Dataset) -> bool:
        folder = Path(dataset.file.filename).parent
        for name, offset, size in dataset.external:
            path = folder / name
            # A file that is too short is read as zeros.
            if not path.is_file() or (size < 2**60 and path.stat().st_size < offset + size):
                return False
        return True

    def _beside(self, path: Path, name: str) -> h5py.File:
        """Open a file that another names."""
        named = self._roots.path(name)
        # Where HDF5 itself looks: as named, beside the file that names it, and there by the last part of the name.
        places = (path.parent / named, named, path.parent / named.name)
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(named))
        return self._open.enter_context(h5py.File(found, "r"))

    def _with_moved_sources(self, dataset: h5py.Dataset) -> h5py.Dataset:
        """Return a virtual dataset whose sources are read from where they are now."""
        if not self._roots or not dataset.is_virtual:
            return dataset
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_layout(h5py.h5d.VIRTUAL)
        for source in dataset.virtual_sources():
            try:
                file, held = self._source(dataset, source)
            except READING_ERRORS:
                continue  # its frames count as missing
            # A whole source is stored as a selection without a size.
            whole = source.src_space.get_select_type() == h5py.h5s.SEL_ALL
            taken = held.id.get_space() if whole else source.src_space
            place = os.fsencode(Path(file.filename).resolve())
            creation.set_virtual(source.vspace, place, source.dset_name.encode(), taken)
        # Sources are opened by the driver and in the mode of the file that names them: a real one, only read.
        moved = Path(self._open.enter_context(tempfile.TemporaryDirectory())) / "moved.h5"
        with h5py.File(moved, "w") as made:
            h5py.h5d.create(made.id, b"it", dataset.id.get_type(), dataset.id.get_space(), creation)
        return self._open.enter_context(h5py.File(moved, "r"))["it"]


def _opened(path: Path) -> h5py.File:
    try:
        about = path.stat()
    except PermissionError as error:
        raise RecordingError(f"{path} may not be read; ask its owner for permission.") from error
    except (OSError, ValueError) as error:
        raise RecordingError(f"There is no file {path}; check the path.") from error
    if not stat.S_ISREG(about.st_mode):
        what = "a folder" if stat.S_ISDIR(about.st_mode) else "no regular file"
        raise RecordingError(f"{path} is {what}; give an HDF5 file.")
    if about.st_size == 0:
        raise RecordingError(f"{path} is empty; copy it again from the beamline.")
    try:
        return h5py.File(path, "r")
    except PermissionError as error:
        raise RecordingError(f"{path} may not be read; ask its owner for permission.") from error
    except OSError as error:
        raise RecordingError(f"{path} {_why_not_opened(error)}") from error


def _why_not_opened(error: OSError) -> str:
    reason = str(error).lower()
    if isinstance(error, BlockingIOError) or "already open for" in reason or "consistency flags" in reason:
        return (
            "is still open in the program that writes it, or that program died; wait until it closes the file, or "
            "clear the mark with h5clear -s."
        )
    if error.errno == errno.ENOLCK or "unable to lock" in reason:
        return "cannot be locked on this file system; set HDF5_USE_FILE_LOCKING=FALSE and try again."
    if "signature not found" in reason:
        return "is not HDF5; it is truncated or of another format: export it as HDF5."
    if "truncated" in reason:
        return "cannot be opened as HDF5: it is truncated; copy it again from the beamline."
    return (
        "cannot be opened as HDF5: it is truncated or damaged, or newer than the HDF5 library here; copy it again "
        "from the beamline."
    )


def _handed_out(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        return np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    return dtype.newbyteorder("=")


def _frames_of(space: h5py.h5s.SpaceID, shape: Iterable[int]) -> tuple[npt.NDArray[np.int64], float]:
    """Return the indices along the first of three axes that a selection touches, and how many values of each."""
    sizes = tuple(shape)
    stacked = len(sizes) >= 3
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS:
        count = sizes[0] if stacked else 1
        return np.arange(count), prod(sizes) / max(count, 1)
    if not space.is_regular_hyperslab():
        if not stacked:
            return np.zeros(1, np.int64), float(space.get_select_npoints())
        low, high = space.get_select_bounds()
        touched = np.arange(low[0], min(high[0] + 1, sizes[0]))
        return touched, space.get_select_npoints() / max(high[0] + 1 - low[0], 1)
    spans = []
    for size, start, stride, count, block in zip(sizes, *space.get_regular_hyperslab(), strict=True):
        # Without a limit the selection goes to the end of the dataset.
        most = max(-(-(size - start) // max(stride, 1)), 0)
        first = start + np.arange(min(count, most), dtype=np.int64) * stride
        indices = (first[:, np.newaxis] + np.arange(min(block, size))).ravel()
        spans.append(indices[indices < size])
    if not stacked:
        return np.zeros(1, np.int64), float(prod(span.size for span in spans))
    return spans[0], float(prod(span.size for span in spans[1:]))
