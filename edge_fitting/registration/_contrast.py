"""The spectrum that the field itself shows, read without a fit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from ._band_pass import Array, Frame

_MOST_PER_AXIS = 128
_SHARE = 0.3


class FieldContrast:
    """Optical depth of the thick part of the field less that of its thin part: what an offset of a frame leaves.

    Parameters
    ----------
    picture : ndarray of float32, shape (rows, cols)
        A frame with the sample in it, at shift 0.
    """

    def __init__(self, picture: Frame) -> None:
        rows, cols = picture.shape
        self._rows = np.arange(0, rows, max(1, rows // _MOST_PER_AXIS))
        self._cols = np.arange(0, cols, max(1, cols // _MOST_PER_AXIS))
        sampled = picture[np.ix_(self._rows, self._cols)]
        finite = np.isfinite(sampled)
        level = float(np.median(sampled[finite])) if finite.any() else 0.0
        smooth = uniform_filter(np.where(finite, sampled, np.float32(level)), 5, mode="nearest")
        low, high = np.quantile(smooth, [_SHARE, 1.0 - _SHARE])
        self._thin: NDArray[np.bool_] = smooth <= low
        self._thick: NDArray[np.bool_] = smooth >= high

    def __call__(self, frame: Frame, shift_px: Array) -> float:
        """Contrast of a frame; 0 where it has no value in one of the parts."""
        down, right = (round(float(s)) for s in shift_px)
        rows = np.clip(self._rows + down, 0, frame.shape[0] - 1)
        cols = np.clip(self._cols + right, 0, frame.shape[1] - 1)
        sampled = frame[np.ix_(rows, cols)]
        thick, thin = sampled[self._thick], sampled[self._thin]
        thick, thin = thick[np.isfinite(thick)], thin[np.isfinite(thin)]
        if not thick.size or not thin.size:
            return 0.0
        return float(thick.mean(dtype=np.float64) - thin.mean(dtype=np.float64))
