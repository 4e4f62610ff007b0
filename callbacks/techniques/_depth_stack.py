"""The corrected frames of a whole run in one file, to be fitted later, in parts and more than once."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from callbacks.documents import Slot
from callbacks.errors import SpoolError
from callbacks.reduce import CorrectedFrame, Reduced, optical_depth
from edge_fitting import EdgeFittingError, FrameJudge

from ._technique import RunState

FloatStack = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StackedScan:
    """What is known of a full-field run whose frames are in a file.

    Attributes
    ----------
    state : RunState
        How the run went.
    frames : tuple of Reduced
        The frames of the sample without their values, in the order they came.
    places : tuple of int
        Where in the file each of them is.
    samples : tuple of ndarray of float32
        Of each frame the pixels by which it is compared with the others, see `edge_fitting.FrameJudge`.
    shape : (int, int)
        Rows and columns.
    """

    state: RunState
    frames: tuple[Reduced, ...] = field(repr=False)
    places: tuple[int, ...] = field(repr=False)
    samples: tuple[npt.NDArray[np.float32], ...] = field(repr=False)
    shape: tuple[int, int]

    def depths(self, path: Path, rows: slice = slice(None)) -> FloatStack:
        """Return the optical depth of all frames in some rows of the image, (n, rows, cols).

        Raises
        ------
        OSError, ValueError
            The file is not what it was.
        """
        held = np.memmap(path, np.float32, "r", shape=(1 + max(self.places), *self.shape))
        return np.stack([held[place, rows] for place in self.places])


class DepthStack:
    """Estimator that fits nothing: it writes the optical depth of each frame into a file.

    Parameters
    ----------
    path : Path
        The file; it is made anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._shape: tuple[int, int] | None = None
        self._frames: dict[Slot, tuple[Reduced, int, FloatStack]] = {}
        self._free: list[int] = []
        self._n_places = 0

    def push(self, reduced: Reduced) -> None:
        """Write one frame.

        Raises
        ------
        EdgeFittingError
            It has another shape than the first.
        SpoolError
            The disk takes no more.
        """
        depth = _depth(reduced.values)
        if self._shape is None:
            self._shape = depth.shape[0], depth.shape[1]
        if depth.shape != self._shape:
            raise EdgeFittingError(f"it has the shape {depth.shape}, and the first one has {self._shape}")
        if self._free:
            place = self._free.pop()
        else:
            place, self._n_places = self._n_places, self._n_places + 1
        try:
            self._file.seek(place * depth.nbytes)
            self._file.write(np.ascontiguousarray(depth).data)
        except OSError as error:
            raise SpoolError(
                f"the frames of the run cannot be kept in {self._path.parent} ({error.strerror}): they take "
                f"{depth.nbytes / 2**20:.3g} MB each"
            ) from error
        label = replace(reduced.label, axes=dict(reduced.label.axes))
        plain = replace(reduced, label=label, values=None, notes=dict(reduced.notes))
        self._frames[reduced.slot] = plain, place, depth.reshape(-1)[FrameJudge.pixels(depth.size)]

    def retract(self, reduced: Reduced) -> None:
        """Forget one frame."""
        _, place, _ = self._frames.pop(reduced.slot)
        self._free.append(place)

    def merge(self, other: Self) -> None:
        """Nothing: the runs of one scan are written into one file."""

    def result(self, state: RunState) -> StackedScan | None:
        """Return what is in the file; None for nothing."""
        self._file.flush()
        if self._shape is None or not self._frames:
            return None
        frames, places, samples = zip(*self._frames.values(), strict=True)
        return StackedScan(state, frames, places, samples, self._shape)

    def close(self) -> None:
        """Let go of the file, which stays."""
        self._file.close()


def _depth(values: Any) -> FloatStack:
    if isinstance(values, CorrectedFrame):
        return optical_depth(values).reshape(values.reading.image.shape)
    return np.asarray(values, np.float32)
