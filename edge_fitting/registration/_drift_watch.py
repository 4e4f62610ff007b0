"""Whether the sample drifts, seen on a small part of the field."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import median_filter, uniform_filter

from edge_fitting.base import Edge
from edge_fitting.references import ReferenceSeries

from ._drift_tracker import SMALLEST_PX, DriftTracker, RegisteredFrame

# Rows and columns of the part that is looked at: enough for a particle's edge, and next to no work.
_PART_PX = 96
#: Drift below this (pixels) costs a map next to nothing, and is within what weak frames are off by.
LEAST_DRIFT_PX = 0.5
_SIGMAS = 4.0
_WORST_SIGMA_PX = 0.3
_FEWEST = 5
_LEAST_KNOWN = 0.5
_SMOOTHED = 3
_LOOK_EVERY = 3
_SHORT_SCAN = 60
_STRONG = 0.7
_WEAK_FRAMES_PX = 1.0


def drift_px(frames: Sequence[RegisteredFrame]) -> float:
    """How far apart the places of the frames are.

    Parameters
    ----------
    frames : sequence of RegisteredFrame
        In the order they were taken.

    Returns
    -------
    float
        Length (pixels) of the box that holds the shifts, each the median of three in a row, so that one frame that is
        off makes no drift; 0 where that is within their uncertainty, or too few have a place. Frames that show little
        of the sample count less: what does not follow the jump displaces them by up to a pixel in a small part.
    """
    known = [frame for frame in frames if frame.registered and max(frame.sigma_px) < _WORST_SIGMA_PX]
    if len(known) < _LEAST_KNOWN * len(frames):
        return 0.0  # what is seen in so few frames may be noise
    best = max((frame.quality for frame in known), default=0.0)
    strong = [frame for frame in known if frame.quality >= _STRONG * best]
    return max(_length(strong), _length(known) - _WEAK_FRAMES_PX, 0.0)


def _length(frames: Sequence[RegisteredFrame]) -> float:
    if len(frames) < _FEWEST:
        return 0.0
    shifts = median_filter(np.array([frame.shift_px for frame in frames]), (_SMOOTHED, 1), mode="nearest")
    length = float(np.hypot(*np.ptp(shifts, axis=0)))
    sigma = float(np.median([max(frame.sigma_px) for frame in frames]))
    return length if length > _SIGMAS * sigma else 0.0


class DriftWatch:
    """Follows the part of the field that shows most, to tell whether the whole field needs to be registered.

    Parameters
    ----------
    picture : array_like, shape (rows, cols)
        Optical depth of one frame, in which the part is chosen.
    edge : str or Edge
        Edge that is scanned.
    references : ReferenceSeries, optional
        See :class:`DriftTracker`.

    Attributes
    ----------
    pixels : ndarray of int, shape (n,)
        Flat indices of the part: what `add` wants to see.
    least_px : float
        Drift from here on counts.
    """

    def __init__(
        self, picture: ArrayLike, *, edge: str | Edge = "Ni_K", references: ReferenceSeries | None = None
    ) -> None:
        image = np.asarray(picture, np.float32)
        rows, cols = _most_structured(image, axis_size=_PART_PX)
        self._shape = rows.stop - rows.start, cols.stop - cols.start
        index = np.arange(image.size).reshape(image.shape)
        self.pixels: NDArray[np.intp] = index[rows, cols].ravel()
        self.least_px = LEAST_DRIFT_PX
        self._edge, self._references = edge, references
        self._tracker = DriftTracker(self._shape, edge=edge, references=references)
        self._seen: list[RegisteredFrame] = []
        self._parts: list[tuple[float, NDArray[np.float32]]] = []
        self._n_frames = 0

    def add(self, energy_ev: float, part: ArrayLike) -> bool:
        """Take the pixels of one more frame; return whether the sample is seen to drift.

        One frame in three is looked at, so that a fit loses little by it. Of a short scan, all are at the end.

        Raises
        ------
        EdgeFittingError
            For an energy that cannot be used.
        """
        image = np.asarray(part, np.float32).reshape(self._shape)
        number, self._n_frames = self._n_frames, self._n_frames + 1
        if self._n_frames < _SHORT_SCAN:
            self._parts.append((energy_ev, image))
        else:
            self._parts.clear()
        if number % _LOOK_EVERY:
            return False
        found = self._tracker.push(energy_ev, image)
        self._seen += found
        return bool(found) and drift_px(self._seen) > self.least_px

    def finish(self) -> bool:
        """Return whether the sample drifts as all frames show."""
        if not self._parts:
            self._seen += self._tracker.finish()
            return drift_px(self._seen) > self.least_px
        self._seen += self._tracker.finish()
        if len(self._seen) >= _FEWEST and not any(place.registered for place in self._seen[1:]):
            return False  # a field that shows nothing in one frame of three is empty
        tracker = DriftTracker(self._shape, edge=self._edge, references=self._references)
        seen = [place for energy_ev, image in self._parts for place in tracker.push(energy_ev, image)]
        return drift_px([*seen, *tracker.finish()]) > self.least_px


def can_watch(shape: tuple[int, int]) -> bool:
    """Whether frames are large enough to be registered."""
    return min(shape) >= SMALLEST_PX


def _most_structured(image: NDArray[np.float32], *, axis_size: int) -> tuple[slice, slice]:
    """Return the part, of this size at most, in which the smoothed image varies most."""
    finite = np.isfinite(image)
    level = np.float32(np.median(image[finite])) if finite.any() else np.float32(0.0)
    filled = np.where(finite, image, level)
    size = [min(n, axis_size) for n in image.shape]
    smooth = uniform_filter(filled, 5, mode="nearest")
    mean, square = (uniform_filter(x.astype(np.float64), size, mode="nearest") for x in (smooth, smooth**2))
    half = [n // 2 for n in size]
    inside = np.s_[
        half[0] : image.shape[0] - size[0] + half[0] + 1, half[1] : image.shape[1] - size[1] + half[1] + 1
    ]
    spread = (square - mean**2)[inside]
    row, col = np.unravel_index(int(np.argmax(spread)), spread.shape)
    return slice(int(row), int(row) + size[0]), slice(int(col), int(col) + size[1])
