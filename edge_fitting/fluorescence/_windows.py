"""Counts of lines by windows, with the background beside them: what can be had before anything is fitted."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._lines import LineGroup
from ._response import DetectorResponse

__all__ = ["window_counts"]

_HALF_WIDTH, _GAP, _SIDE = 0.85, 1.6, 0.6  # in full widths at half maximum

Array = NDArray[np.float64]


def window_counts(
    spectra: ArrayLike, groups: Sequence[LineGroup], response: DetectorResponse
) -> tuple[Array, Array]:
    """Sum each spectrum in a window at the strongest line of each group, less what windows on both sides hold.

    Overlapping lines are not resolved: a line of another element in a window counts, one in a side window is
    subtracted.

    Parameters
    ----------
    spectra : array_like, shape (n, n_channels)
        Counts.
    groups : sequence of LineGroup
        The lines.
    response : DetectorResponse
        Energy scale and width.

    Returns
    -------
    counts, sigma : ndarray, shape (n, n_groups)
        Counts of the whole group, and their standard deviation by counting.
    """
    rows = np.asarray(spectra)
    energy = response.energy_ev(np.arange(rows.shape[1]))
    onto = np.zeros((rows.shape[1], len(groups)))
    for k, group in enumerate(groups):
        fwhm = float(response.fwhm_ev(group.main_ev))
        away = (energy - group.main_ev) / fwhm
        inside = np.abs(away) <= _HALF_WIDTH
        beside = (np.abs(away) > _GAP) & (np.abs(away) <= _GAP + _SIDE)
        near = np.abs(group.energy_ev - group.main_ev) < _HALF_WIDTH * fwhm
        caught = group.share[near].sum() * 0.955  # of a Gaussian within 0.85 widths
        onto[inside, k] = 1.0 / caught
        if beside.any():
            onto[beside, k] = -inside.sum() / beside.sum() / caught
    counts = rows @ onto
    return np.asarray(counts, np.float64), np.sqrt(np.maximum(rows @ onto**2, (onto**2).max(axis=0)))
