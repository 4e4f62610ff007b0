"""Pixels of single frames that stick out: cosmic rays, pixels that are hot for one frame, values that were not read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import launch

from ._spike_kernels import deviations, judge, mark, smooth_over
from ._spread import spread_pixels

Frame = NDArray[np.float32]
Pixels = NDArray[np.int64]

# Standard deviations that noise does not reach in a thousand frames of 4 million pixels.
_LEAST_Z = 7.5
# A single pixel is off by so many times what 70 % of the 24 pixels around it are off by: a rim that moves is a line.
_TIMES_AROUND = 6.0
_SHARE = 0.7
# More pixels than this part are a matter of the frame.
_MOST = 0.02
_LEAST_SIDE = 3
_SAMPLED = 8192
# Square of a normal variable that is exceeded in half of all cases.
_MEDIAN_OF_SQUARE = 0.4549364


class SpikeFinder:
    """Compares each frame of a series with the one before it, and each pixel with those around it.

    What a sample shows changes from frame to frame by a factor that neighbouring pixels share. A pixel that changes by
    another one does not belong: by 7.5 standard deviations of the counting noise, which is estimated from the frames
    themselves, and by six times what is usual in the 24 pixels around. It holds one frame.
    """

    def __init__(self) -> None:
        self._before: Frame | None = None
        self._is_second = False
        self._found_before: Pixels = np.empty(0, np.int64)

    def find(self, light: Frame) -> tuple[Pixels, Pixels]:
        """Look at the next frame.

        Parameters
        ----------
        light : ndarray of float32, shape (rows, cols)
            Counts above the dark. The array is kept and written to.

        Returns
        -------
        pixels, pixels_before : ndarray of int64
            Flat indices of the pixels of this frame that do not belong, and of those of the first one, which can only
            be told when the second has come; empty otherwise.
        """
        none: Pixels = np.empty(0, np.int64)
        before, self._before = self._before, light
        if before is None or before.shape != light.shape or min(light.shape) < _LEAST_SIDE:
            self._is_second = True
            return none, none
        of_first = none
        if self._is_second:
            self._is_second = False
            of_first = _find(before, light)
            # What one of them has too much the other has too little.
            of_first = of_first[_is_bright(before, light, of_first)]
            smooth_over(before, light, of_first)
        found = _find(light, before)
        # One that is off twice in a row has another level from now on, or what it was compared with was off.
        smooth_over(light, before, np.setdiff1d(found, self._found_before))
        self._found_before = found
        return found, of_first


def _find(now: Frame, before: Frame) -> Pixels:
    none: Pixels = np.empty(0, np.int64)
    few = spread_pixels(now.size, _SAMPLED)
    sizes = np.empty(few.size, np.float32)
    deviations(now, before, few, sizes)
    # Pixels at the limit of the camera do not change at all.
    changed = sizes[np.isfinite(sizes) & (sizes != 0.0)]
    gain = float(np.median(changed**2)) / _MEDIAN_OF_SQUARE if changed.size else 0.0
    if not gain > 0.0:
        return none
    marks = np.empty(now.shape, np.bool_)
    launch(mark, now, before, np.float32(_LEAST_Z**2 * gain), marks)
    candidates = np.flatnonzero(marks)
    found = np.zeros(candidates.size, np.bool_)
    judge(now, before, candidates, gain, _LEAST_Z, _TIMES_AROUND, _SHARE, found)
    pixels: Pixels = candidates[found]
    return none if pixels.size > max(_MOST * now.size, 1.0) else pixels


def _is_bright(now: Frame, before: Frame, pixels: Pixels) -> NDArray[np.bool_]:
    sizes = np.empty(pixels.size, np.float32)
    deviations(now, before, pixels, sizes)
    return sizes > 0
