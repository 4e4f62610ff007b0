"""What the energies of a scan leave open between state and edge energy, where the relation goes back on itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Going back by less than this (eV) is rounding of the energies.
_ROUNDING_EV = 2e-3
# Edge energies and standard deviations of the table from which the pixels read.
_N_ENERGIES = 192
_SIGMAS = 16
_LEAST_SIGMA_EV = 0.01
_BLOCK = 1 << 16


def goes_back(energies: Array) -> bool:
    """Whether edge energies along a series do not go one way.

    Parameters
    ----------
    energies : ndarray, shape (n,)
        Edge energies of increasing states.
    """
    steps = np.diff(energies)
    onward = steps if energies[-1] >= energies[0] else -steps
    return bool((onward < -_ROUNDING_EV).any())


def state_spread(energies: Array, states: Array, measured: Array, sigma: Array, read: Array) -> Array:
    """Spread of all states that a measured edge energy allows about the state that was read: a standard deviation.

    On few energies the edge energy that is found may rise and fall along the series: then one energy belongs to
    several states, and the slope of the curve says nothing of how far they are apart. Each state of the series counts
    by the likelihood of the measured energy, all alike before.

    Parameters
    ----------
    energies, states : ndarray, shape (n,)
        Edge energies that are found for states of the series, close together.
    measured, sigma : ndarray, shape (n_pixels,)
        Edge energies and their standard deviations; NaN stays NaN.
    read : ndarray, shape (n_pixels,)
        State of charge of each pixel.

    Returns
    -------
    ndarray, shape (n_pixels,)
    """
    # A state of the table stands for the energies half-way to its neighbours.
    width = np.abs(np.gradient(energies))
    table_ev = np.linspace(energies.min(), energies.max(), _N_ENERGIES)
    widest = max(float(np.ptp(energies)), 2 * _LEAST_SIGMA_EV)
    sigmas = np.geomspace(_LEAST_SIGMA_EV, widest, _SIGMAS)
    variance = sigmas[:, None] ** 2 + 0.25 * width**2
    distance2 = (table_ev[:, None] - energies) ** 2
    # (sigma, energy, state)
    exponent = -0.5 * distance2 / variance[:, None] - 0.5 * np.log(variance)[:, None]
    share = np.exp(exponent - exponent.max(axis=2, keepdims=True))
    share /= share.sum(axis=2, keepdims=True)
    mean = share @ states
    square = share @ states**2
    spread = np.full(measured.size, np.nan)
    for first in range(0, measured.size, _BLOCK):
        part = slice(first, first + _BLOCK)
        known = np.isfinite(measured[part]) & np.isfinite(sigma[part]) & np.isfinite(read[part])
        pixels = first + np.flatnonzero(known)
        if not pixels.size:
            continue
        row = np.log(np.clip(sigma[pixels], sigmas[0], sigmas[-1]) / sigmas[0])
        row = np.rint(row / np.log(sigmas[1] / sigmas[0])).astype(np.intp)
        place = (np.clip(measured[pixels], table_ev[0], table_ev[-1]) - table_ev[0]) / (
            table_ev[1] - table_ev[0]
        )
        column = np.rint(place).astype(np.intp)
        centre, second = mean[row, column], square[row, column]
        spread[pixels] = np.sqrt(np.maximum(second - 2 * centre * read[pixels] + read[pixels] ** 2, 0.0))
    return spread
