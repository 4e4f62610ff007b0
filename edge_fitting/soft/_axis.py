"""The energy axis of a soft sweep, put right by a line of known energy in the same sweep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LineAxis", "line_axis"]

Array = NDArray[np.float64]

_REACH_EV = 4.0
_AROUND_EV = 0.7
_LEAST_HEIGHT = 8.0
# What the beam does to an uneven division is less than this of the signal.
_LEAST_CONTRAST = 0.2


@dataclass(frozen=True, slots=True)
class LineAxis:
    """What a line says of the axis.

    Attributes
    ----------
    offset_ev, sigma_ev : float
        What to add to the energies as read back, and its standard deviation with that of the line's own energy; 0 and
        0 where there is none.
    reason : str
        Why the line says nothing; empty where it does.
    """

    offset_ev: float = 0.0
    sigma_ev: float = 0.0
    reason: str = ""


def line_axis(energy_ev: Array, values: Array, line_ev: float, line_sigma_ev: float = 0.0) -> LineAxis:
    """Find what puts the top of a line of a reference where it belongs.

    Parameters
    ----------
    energy_ev, values : ndarray, shape (n,)
        Increasing energies as read back, and the signal of the reference over the incident intensity.
    line_ev, line_sigma_ev : float
        Energy of the top of the line, and its standard deviation.

    Returns
    -------
    LineAxis
    """
    good = np.isfinite(values)
    x, y = energy_ev[good], values[good]
    near = np.flatnonzero(np.abs(x - line_ev) <= _REACH_EV)
    if near.size < 6:
        return LineAxis(
            reason=f"the reference has {near.size} points within {_REACH_EV:g} eV of its line at {line_ev:g} eV"
        )
    noise = float(np.std(np.diff(y, 2)[max(near[0] - 1, 0) : near[-1]])) / np.sqrt(6.0)
    quiet = float(np.median(np.abs(np.diff(y, 2)))) / 0.6745 / np.sqrt(6.0)
    noise = min(noise, quiet)
    at = near[int(np.argmax(y[near]))]
    height = y[at] - float(np.median(y))
    if at in (near[0], near[-1]) or height < max(
        _LEAST_HEIGHT * noise, _LEAST_CONTRAST * abs(float(np.median(y)))
    ):
        return LineAxis(reason=f"the reference shows no line within {_REACH_EV:g} eV of {line_ev:g} eV")
    centre = float(x[at])
    sigma = float("nan")
    for _ in range(12):
        around = np.abs(x - centre) <= max(_AROUND_EV, 2.1 * float(np.median(np.diff(x[near]))))
        if around.sum() < 4:
            break
        rule = np.linalg.pinv(np.vander(x[around] - centre, 3, increasing=True))
        _, slope, bend = rule @ y[around]
        if not bend < 0:
            break
        move = -slope / (2 * bend)
        centre += float(np.clip(move, -0.5, 0.5))
        sigma = float(noise * np.sqrt((rule[1] ** 2).sum()) / (2 * abs(bend)))
        if abs(move) < 1e-4:
            break
    if not np.isfinite(sigma) or abs(centre - line_ev) > _REACH_EV:
        return LineAxis(reason=f"the top of the reference's line near {line_ev:g} eV cannot be fitted")
    return LineAxis(line_ev - centre, float(np.hypot(sigma, line_sigma_ev)))
