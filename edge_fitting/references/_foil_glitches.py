"""Single points of a foil scan that do not agree with their neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import MAD_TO_SIGMA
from edge_fitting.errors import EdgeFittingError

Array = NDArray[np.float64]

# Glitches are up to three points and 1 eV wide; they stand out of cubics through their neighbours by this many
# standard deviations of the noise and by this part of the step, and there are few of them.
_GLITCH_POINTS = 3
_GLITCH_WIDTH_EV = 1.0
_GLITCH_NOISE = 6.0
_GLITCH_PART = 0.04
_MOST_GLITCHES = 12
_NEIGHBOURS = 3
_NEIGHBOURS_SPAN_EV = 9.0


def without_glitches(energies: Array, mu: Array) -> NDArray[np.bool_]:
    """Points that agree with cubics through their neighbours; False for a few that stand out, however high.

    Raises
    ------
    EdgeFittingError
        If there are more than a few.
    """
    good = np.ones(energies.size, bool)
    height = float(np.subtract(*np.percentile(mu, [90, 10])))
    for _ in range(_MOST_GLITCHES + 1):
        kept = np.flatnonzero(good)
        worst: tuple[float, NDArray[np.int64]] | None = None
        scale = None
        for size in range(1, _GLITCH_POINTS + 1):
            away = _beside_neighbours(energies[kept], mu[kept], size)
            judged = away[np.isfinite(away)]
            if not judged.size:
                continue
            if scale is None:
                scale = MAD_TO_SIGMA * float(np.median(np.abs(judged)))
            limit = max(_GLITCH_NOISE * scale, _GLITCH_PART * height)
            ratio = np.where(_on_a_rise(mu[kept], size), 0.0, np.nan_to_num(np.abs(away)) / limit)
            # A wider glitch has to explain more than the narrower one that is part of it.
            i = int(ratio.argmax())
            if ratio[i] > 1.0 and (worst is None or ratio[i] > 1.3 * worst[0]):
                worst = float(ratio[i]), kept[i : i + size]
        if worst is None:
            return good
        good[worst[1]] = False
    raise EdgeFittingError(
        f"the foil scan has more than {_MOST_GLITCHES} points that do not agree with their neighbours: it is too noisy "
        "or has glitches all over; measure it again."
    )


def _on_a_rise(mu: Array, size: int) -> NDArray[np.bool_]:
    """Where points go up from the one before to the one after a group: a steep edge does, a glitch does not."""
    rises = np.diff(mu) > 0
    found = np.zeros(mu.size, bool)
    if mu.size > size + 1:
        found[1 : mu.size - size] = np.lib.stride_tricks.sliding_window_view(rises, size + 1).all(axis=1)
    return found


def _beside_neighbours(energies: Array, mu: Array, size: int) -> Array:
    """How far groups of points lie off the cubics through three points on either side; NaN where those are far."""
    n = energies.size - 2 * _NEIGHBOURS - size + 1
    away = np.full(energies.size, np.nan)
    if n < 1:
        return away
    start = np.arange(_NEIGHBOURS, _NEIGHBOURS + n)
    offsets = np.r_[np.arange(-_NEIGHBOURS, 0), np.arange(size, size + _NEIGHBOURS)]
    around = start[:, None] + offsets
    group = start[:, None] + np.arange(size)
    centre = energies[group].mean(axis=1)
    span = energies[around[:, -1]] - energies[around[:, 0]]
    unit = (energies[around] - centre[:, None]) / span[:, None]
    powers = np.stack([np.ones_like(unit), unit, unit**2, unit**3], axis=2)
    turned = np.swapaxes(powers, 1, 2)
    rule = np.linalg.solve(turned @ powers, turned)
    found = np.einsum("nkj,nj->nk", rule, mu[around])
    there = (energies[group] - centre[:, None]) / span[:, None]
    expected = np.einsum("nk,ngk->ng", found, there[:, :, None] ** np.arange(4))
    difference = (mu[group] - expected).mean(axis=1)
    # What the noise of the neighbours adds is taken out, so that all groups are on the scale of one point.
    gain = np.sqrt(
        1.0 / size
        + np.square(np.einsum("ngk,nkj->nj", there[:, :, None] ** np.arange(4), rule) / size).sum(axis=1)
    )
    narrow = (span <= _NEIGHBOURS_SPAN_EV) & (
        (size == 1) | (energies[group[:, -1]] - energies[group[:, 0]] < _GLITCH_WIDTH_EV)
    )
    away[start] = np.where(narrow, difference / gain, np.nan)
    return away
