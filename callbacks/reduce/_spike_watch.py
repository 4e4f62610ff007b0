"""Pixels that stick out of single frames and flats, found as they come and confirmed by all frames of a run."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from callbacks.errors import SpoolError
from edge_fitting import SpikeFinder, bright_pixels, confirm_spikes, spread_pixels

from ._corrected_frame import CorrectedFrame, Correction, FloatImage
from ._image_store import HeldFrame
from ._spectra import optical_depth

Pixels = npt.NDArray[np.int64]
Correct = Callable[[Correction], CorrectedFrame]

_SAMPLED = 2048
_SUSPECTED_AT_ONCE = 16_384
# A pixel stands out of the frames as it does of the flat, the other way, to this part.
_LIKENESS = 0.5


class SpikeWatch:
    """Looks at each frame of a series, and again at those that could not be judged when they came.

    Attributes
    ----------
    n_looked : int
        Number of frames so far.
    """

    def __init__(self) -> None:
        self._finder = SpikeFinder()
        self._held: list[HeldFrame] = []

    @property
    def n_looked(self) -> int:
        return len(self._held)

    def look(self, held: HeldFrame, light: FloatImage) -> dict[HeldFrame, Pixels]:
        """Note what sticks out of a frame; return what does so of earlier ones, all that is known of each.

        Parameters
        ----------
        held : HeldFrame
            The frame.
        light : ndarray of float32, shape (rows, cols)
            Its counts above the dark; the array is kept and written to.
        """
        self._held.append(held)
        spikes, earlier = self._finder.find(light)
        held.spikes, held.suspected = spikes.found, spikes.suspected
        changed = {}
        for number, more in earlier.items():
            frame = self._held[number]
            frame.suspected = np.union1d(frame.suspected, more.suspected)
            if more.found.size:
                changed[frame] = more.found if frame.spikes is None else np.union1d(frame.spikes, more.found)
        return changed


def confirmed_spikes(corrections: Sequence[Correction], correct: Correct) -> dict[HeldFrame, Pixels]:
    """Judge what was found in each frame, and what may be one too, by the spectra over all of them.

    Parameters
    ----------
    corrections : sequence of Correction
        All frames of the run that are in its result.
    correct : callable
        Gives a frame by its correction.

    Returns
    -------
    dict of HeldFrame to ndarray of int64
        Frames of which something else is confirmed than was found, with that.
    """
    pixels_of = {correction.held: _suspected_of(correction.held) for correction in corrections}
    if not any(pixels.size for pixels in pixels_of.values()):
        return {}
    suspected = np.unique(np.concatenate(list(pixels_of.values())))
    rows, cols = corrections[0].held.shape
    sample = np.setdiff1d(spread_pixels(rows * cols, _SAMPLED), suspected)
    pixels = np.concatenate([suspected, sample])
    known, depths, beams = [], [], []
    for correction, frame in _readable(corrections, correct):
        known.append(correction)
        depths.append(optical_depth(frame, pixels, own_spikes=True))
        beams.append(frame.flat.reshape(-1)[pixels] / np.float32(frame.scale))
    if not known:
        return {}
    depth, beam = np.stack(depths, axis=1), np.stack(beams, axis=1)
    marks = np.zeros(depth.shape, np.bool_)
    for column, correction in enumerate(known):
        marks[np.searchsorted(suspected, pixels_of[correction.held]), column] = True
    confirmed = np.zeros_like(marks)
    for first in range(0, suspected.size, _SUSPECTED_AT_ONCE):
        part = np.arange(first, min(first + _SUSPECTED_AT_ONCE, suspected.size))
        chosen = np.concatenate([part, np.arange(suspected.size, pixels.size)])
        judged = confirm_spikes(
            depth[chosen].astype(np.float64), beam[chosen].astype(np.float64), marks[chosen]
        )
        confirmed[part] = judged[: part.size]
    changed = {}
    for column, correction in enumerate(known):
        kept = pixels[np.flatnonzero(confirmed[:, column])]
        if not np.array_equal(kept, _spikes_of(correction.held)):
            changed[correction.held] = kept
    return changed


def spikes_of_lone_flat(corrections: Sequence[Correction], correct: Correct) -> dict[HeldFrame, Pixels]:
    """Find what sticks out of the only flat of a run: pixels brighter than those around, in it and in no frame.

    Parameters
    ----------
    corrections : sequence of Correction
        All frames of the run that are in its result.
    correct : callable
        Gives a frame by its correction.

    Returns
    -------
    dict of HeldFrame to ndarray of int64
        The flat, if there is something in it.
    """
    found: Pixels | None = None
    shown, n = np.empty(0), 0
    for _, frame in _readable(corrections, correct):
        if found is None:
            found = bright_pixels(frame.flat)
            if not found.size:
                return {}
            excess = _above_neighbours(
                np.log(np.maximum(frame.flat, np.float32(1e-6))).astype(np.float64), found
            )
            shown = np.zeros(found.size)
        depth = optical_depth(frame).reshape(frame.flat.shape).astype(np.float64)
        shown += _above_neighbours(depth, found)
        n += 1
    if found is None:
        return {}
    with np.errstate(invalid="ignore"):
        is_of_flat = np.abs(shown / n - excess) < _LIKENESS * excess
    held = corrections[0].flats[0]
    return {held: found[is_of_flat]} if is_of_flat.any() else {}


def _readable(
    corrections: Sequence[Correction], correct: Correct
) -> Iterator[tuple[Correction, CorrectedFrame]]:
    """Correct the frames that can be read back from the disk, one at a time."""
    for correction in corrections:
        try:
            frame = correct(correction)
        except SpoolError:
            continue
        yield correction, frame


def _above_neighbours(image: npt.NDArray[np.float64], pixels: Pixels) -> npt.NDArray[np.float64]:
    """Return what some pixels have more than their four neighbours on average; at the border the inner counts twice."""
    rows, cols = np.divmod(pixels, image.shape[1])
    up, left = np.where(rows > 0, rows - 1, 1), np.where(cols > 0, cols - 1, 1)
    down = np.where(rows + 1 < image.shape[0], rows + 1, rows - 1)
    right = np.where(cols + 1 < image.shape[1], cols + 1, cols - 1)
    around = 0.25 * (image[up, cols] + image[down, cols] + image[rows, left] + image[rows, right])
    return np.asarray(image[rows, cols] - around)


def _spikes_of(held: HeldFrame) -> Pixels:
    return np.empty(0, np.int64) if held.spikes is None else held.spikes


def _suspected_of(held: HeldFrame) -> Pixels:
    return np.union1d(_spikes_of(held), held.suspected)
