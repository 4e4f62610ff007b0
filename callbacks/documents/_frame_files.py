"""Frames out of files, also while they are being written: the only module that opens a detector's file."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from callbacks.errors import FrameError, MissingFrameError

from ._hdf5_guard import (
    SourceFile,
    is_written,
    leads_nowhere,
    missing_source,
    not_a_file,
    source_files,
    too_large,
)
from ._saturation import count_limit

_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.1
# A frame that is there and cannot be read may be in the middle of being written, not more.
_UNREADABLE_S = 1.0


@dataclass(frozen=True)
class FramePlace:
    """Where the exposures of one event are.

    Attributes
    ----------
    path : Path
        The file, or what the reader of a registered spec is given.
    dataset : str
        Dataset inside an HDF5 file.
    index : int
        Number of the event in the file.
    per_event : int
        Exposures per event.
    samples : int
        Values from the index on of a column that holds one a sample; 0 for images.
    spec : str or None
        None for HDF5, read here; otherwise the name of a reader that an installed package registers.
    resource_kwargs, datum_kwargs : mapping
        What such a reader is told.
    """

    path: Path
    dataset: str = ""
    index: int = 0
    per_event: int = 1
    samples: int = 0
    spec: str | None = None
    resource_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    datum_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def source(self) -> tuple[str, str]:
        """What tells one stream of frames from another."""
        return str(self.path), self.dataset or str(self.spec)


class FrameFiles:
    """Reads frames from files and waits, within bounds, for those that are not there yet.

    A file that has let one frame wait in vain is not waited for again until it has given a frame, or
    `wait_again` is called: a detector that writes nothing costs a run one wait, not one per frame.

    Parameters
    ----------
    timeout_s : float
        How long to wait for a frame.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._sources: dict[tuple[str, str], _Reader] = {}
        self._given_up: set[tuple[str, str]] = set()

    def read(self, place: FramePlace) -> npt.NDArray[Any]:
        """Return the exposures of one event.

        Returns
        -------
        ndarray, (n, rows, cols) or (samples,)
            As the detector wrote them.

        Raises
        ------
        MissingFrameError
            They have not come in time.
        FrameError
            The file can never give them.
        """
        wait_s = 0.0 if place.source in self._given_up else self._timeout_s
        began = time.monotonic()
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                block = self._read_once(place)
            except _NotYetError as reason:
                unreadable = isinstance(reason, _UnreadableError)
                allowed_s = min(wait_s, _UNREADABLE_S) if unreadable else wait_s
                left_s = began + allowed_s - time.monotonic()
                if left_s <= 0:
                    self._given_up.add(place.source)
                    what = (
                        f"a frame of {place.path} cannot be read ({reason})"
                        if unreadable
                        else f"a frame of {place.path} has not come within {self._timeout_s:g} s ({reason})"
                    )
                    raise MissingFrameError(what + MissingFrameError.OUTLOOK) from reason
                time.sleep(min(pause_s, left_s))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            self._given_up.discard(place.source)
            return block

    def wait_again(self) -> None:
        """Wait again for files that were given up."""
        self._given_up.clear()

    def close(self) -> None:
        """Close the files."""
        for source in self._sources.values():
            with contextlib.suppress(Exception):
                source.close()
        self._sources.clear()

    def _read_once(self, place: FramePlace) -> npt.NDArray[Any]:
        try:
            return self._source(place).read(place)
        except FrameError:
            raise
        except _NotYetError:
            # Another file may have taken the place of the one that is open.
            source = self._sources.get(place.source)
            if source is not None and source.identity != _identity(place.path):
                self._let_go(place)
            raise
        except Exception as error:
            # h5py reports a damaged chunk, a missing filter or a cut file as OSError, KeyError, RuntimeError,
            # ValueError; readers of other packages as anything.
            self._let_go(place)
            raise _UnreadableError(f"{type(error).__name__}: {error}") from error

    def _let_go(self, place: FramePlace) -> None:
        source = self._sources.pop(place.source, None)
        if source is not None:
            with contextlib.suppress(Exception):  # a damaged file may not even close well
                source.close()

    def _source(self, place: FramePlace) -> "_Reader":
        if place.source not in self._sources:
            self._sources[place.source] = _open_hdf5(place) if place.spec is None else _open_registered(place)
        return self._sources[place.source]


def mean_exposure(block: npt.NDArray[Any], saturation_counts: float | None = None) -> npt.NDArray[Any]:
    """Return the mean of several exposures (n, rows, cols) of one point; a single one stays as it is.

    A pixel at the limit of the camera in any of them has no mean and is infinite: nothing in the mean would
    tell that it was saturated.

    Parameters
    ----------
    block : ndarray, (n, rows, cols)
        Counts.
    saturation_counts : float, optional
        Limit of the camera where it is known; that of the integer type counts as well.
    """
    if block.shape[0] == 1:
        return np.asarray(block[0])
    mean: npt.NDArray[Any] = block.mean(axis=0, dtype=np.float64).astype(np.float32)
    limit = count_limit(block.dtype, saturation_counts)
    if limit < np.inf and not (block > limit).any():
        mean[(block == limit).any(axis=0)] = np.inf
    return mean


class _NotYetError(Exception):
    """The frame is not in the file, or the file is not there; it may still come."""


class _UnreadableError(_NotYetError):
    """The frame is there and cannot be read."""


@dataclass
class _Reader:
    read: Callable[[FramePlace], npt.NDArray[Any]]
    close: Callable[[], None]
    identity: tuple[int, int] | None = None


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one that has its name."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open_hdf5(place: FramePlace) -> _Reader:
    with contextlib.suppress(ModuleNotFoundError):  # an extra; frames that need it say so when they are read
        import hdf5plugin  # noqa: F401  registers the compressions that area detectors use
    identity = _identity(place.path)
    if what := not_a_file(place.path):
        raise FrameError(f"{place.path} is {what} where an HDF5 file is needed")
    try:
        # SWMR reads files that are being written, and closed ones all the same.
        file = h5py.File(place.path, "r", swmr=True)
    except FileNotFoundError as error:
        raise _NotYetError("there is no such file") from error
    except BlockingIOError as error:
        raise _NotYetError("its writer keeps it locked and does not write in SWMR mode") from error
    except OSError as error:
        raise _NotYetError(f"it cannot be opened: {error.strerror or error}") from error
    try:
        if what := leads_nowhere(file, place.dataset):
            raise FrameError(f"{place.path} has a link on the way to {place.dataset} to {what}")
        dataset = file[place.dataset]
    except KeyError as error:
        file.close()
        raise _NotYetError(f"it has no dataset {place.dataset}") from error
    except Exception:
        file.close()
        raise
    if not isinstance(dataset, h5py.Dataset):
        file.close()
        raise FrameError(
            f"{place.path} has no images in {place.dataset}, but a {type(dataset).__name__.lower()}"
        )
    missing = _missing_filter(dataset)
    if missing:
        file.close()
        raise FrameError(
            f"{place.path} has images in {place.dataset} that are compressed with {missing}, which is not "
            "installed here; run: pip install 'nimco[files]'"
        )
    files = source_files(dataset)
    return _Reader(lambda wanted: _read_hdf5(dataset, files, wanted), file.close, identity)


def _missing_filter(dataset: h5py.Dataset) -> str:
    """Name of the first filter that the images need and this process does not have; empty when it has them."""
    filters = dataset.id.get_create_plist()
    for number in range(filters.get_nfilters()):
        code, _, _, label = filters.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            return f"filter {code} ({label.decode('utf-8', 'replace') or 'unnamed'})"
    return ""


def _read_hdf5(dataset: h5py.Dataset, files: Sequence[SourceFile], place: FramePlace) -> npt.NDArray[Any]:
    if dataset.dtype.kind not in "uif":
        raise FrameError(f"{place.path} holds {dataset.dtype} in {place.dataset} where counts are needed")
    if place.samples:
        return _read_column(dataset, files, place)
    if dataset.ndim not in (2, 3, 4):
        raise FrameError(
            f"{place.path} holds {dataset.ndim} dimensions in {place.dataset} where images are needed"
        )
    dataset.refresh()
    if dataset.ndim == 2:
        first, stop, held = place.index, place.index + 1, 1
    elif dataset.ndim == 3:
        first, stop, held = (
            place.index * place.per_event,
            (place.index + 1) * place.per_event,
            dataset.shape[0],
        )
    else:
        first, stop, held = place.index, place.index + 1, dataset.shape[0]
    if stop > held:
        raise _NotYetError(f"its dataset {place.dataset} ends before the frame")
    if what := too_large(dataset, (stop - first) * (dataset.shape[1] if dataset.ndim == 4 else 1)):
        raise FrameError(f"{place.path} has {what} in {place.dataset}; rewrite it in smaller ones (h5repack)")
    if what := missing_source(files, first, stop):
        raise _NotYetError(f"its dataset {place.dataset} needs {what}, which is not there")
    if not is_written(dataset, first, stop):
        # A writer may announce the length before the values: they would read as zeros.
        raise _NotYetError(f"its dataset {place.dataset} has room for the frame but no values")
    block = np.asarray(dataset[()] if dataset.ndim == 2 else dataset[first:stop])
    block = block.reshape(-1, *block.shape[-2:])
    return block.astype(block.dtype.newbyteorder("="), copy=False)


def _read_column(dataset: h5py.Dataset, files: Sequence[SourceFile], place: FramePlace) -> npt.NDArray[Any]:
    """Return some values of a column, (samples,)."""
    if dataset.ndim != 1:
        raise FrameError(
            f"{place.path} holds {dataset.ndim} dimensions in {place.dataset} where a column of samples is needed"
        )
    dataset.refresh()
    first, stop = place.index, place.index + place.samples
    if stop > dataset.shape[0]:
        raise _NotYetError(f"its dataset {place.dataset} ends before the sample")
    if what := too_large(dataset, 1):
        raise FrameError(f"{place.path} has {what} in {place.dataset}")
    if what := missing_source(files, first, stop):
        raise _NotYetError(f"its dataset {place.dataset} needs {what}, which is not there")
    if not is_written(dataset, first, stop):
        raise _NotYetError(f"its dataset {place.dataset} has room for the samples but no values")
    block = np.asarray(dataset[first:stop])
    return block.astype(block.dtype.newbyteorder("="), copy=False)


def _open_registered(place: FramePlace) -> _Reader:
    """Reader of a spec that an installed package registers for area detectors (TIFF series and the like)."""
    registered = {entry.name: entry for entry in entry_points(group="databroker.handlers")}
    if place.spec not in registered:
        raise FrameError(
            f"frames of spec {place.spec!r} cannot be read here; HDF5 can, and what an installed "
            "package registers "
            f"({', '.join(sorted(registered)) or 'none does'}; those of area detectors: pip install 'nimco[files]')"
        )
    try:
        handler_class = registered[place.spec].load()
    except Exception as error:
        raise FrameError(f"the reader of spec {place.spec!r} cannot be loaded ({error})") from error

    def read(wanted: FramePlace) -> npt.NDArray[Any]:
        # Opened anew for each frame: readers of other packages keep what they saw of a file that grows.
        try:
            handler = handler_class(str(wanted.path), **wanted.resource_kwargs)
            block = np.asarray(handler(**wanted.datum_kwargs))
        except Exception as error:  # whatever another package raises costs this frame
            raise _NotYetError(f"{place.spec} says: {error}") from error
        if block.ndim < 2 or block.size == 0:
            raise _NotYetError(f"{place.spec} gives no image")
        block = block.reshape(-1, *block.shape[-2:])
        if block.shape[0] % wanted.per_event:
            raise _NotYetError(f"{place.spec} gives {block.shape[0]} of {wanted.per_event} exposures")
        if block.dtype.kind not in "uif":
            raise FrameError(f"{place.spec} gives {block.dtype} where counts are needed")
        return block

    return _Reader(read, lambda: None)
