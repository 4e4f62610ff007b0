"""How much of the change along a series is a shift of the edge, and how much is shape."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_fitting.references import ReferenceSeries

Array = NDArray[np.float64]

# Shifts that are tried between the ends of a series (eV), and the energies around the edge that count.
_FARTHEST_EV = 6.0
_STEP_EV = 0.05
_AROUND_EV = (-15.0, 45.0)


@lru_cache(maxsize=8)
def shift_share(series: ReferenceSeries) -> float:
    """Part of the squared difference between the first and the last state that a shift of the axis explains.

    Pre-edge line and height are free, as in a fit of a pixel.

    Parameters
    ----------
    series : ReferenceSeries
        The references.

    Returns
    -------
    float
        1 where the edge moves and keeps its shape, 0 where it changes its shape and does not move.
    """
    low = max(series.edge_ev + _AROUND_EV[0], series.energy_ev[0] + _FARTHEST_EV)
    high = min(series.edge_ev + _AROUND_EV[1], series.energy_ev[-1] - _FARTHEST_EV)
    energies = np.arange(low, high, 0.25)
    if energies.size < 20:
        return float("nan")
    fine = np.arange(low - _FARTHEST_EV, high + _FARTHEST_EV, 0.25)
    first, last = series.evaluate(fine, series.states[[0, -1]])
    line = np.linalg.qr(np.stack([np.ones_like(energies), energies - energies.mean()], axis=1))[0]
    target = np.interp(energies, fine, last)
    target -= line @ (line.T @ target)

    def left_after(shift_ev: float) -> float:
        moved = np.interp(energies - shift_ev, fine, first)
        moved -= line @ (line.T @ moved)
        rest = target - moved * float(moved @ target) / float(moved @ moved)
        return float(rest @ rest)

    left = [left_after(shift) for shift in np.arange(-_FARTHEST_EV, _FARTHEST_EV + _STEP_EV / 2, _STEP_EV)]
    return 1.0 - min(left) / left_after(0.0)
