"""Half-jump energy of spectra without noise: where they first rise through one half."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ._common_normalization import merge_repeats, normalise_by_white_line, normalise_together
from ._interpolation import hermite, three_point_slopes

_Array = NDArray[np.float64]

# Half-jump crossings lie nearer than this to the steepest point, and are found on a finer axis than that of the scan.
_AROUND_EDGE_EV = 40.0
_PER_STEP = 8


def energies_around_edge(energy_ev: _Array, edge_ev: float) -> _Array:
    """Return a fine axis around the edge, for crossings of the curve that joins the energies of spectra.

    Parameters
    ----------
    energy_ev : ndarray, shape (n_energy,)
        Increasing energies of the spectra.
    edge_ev : float
        Their steepest point.

    Returns
    -------
    ndarray, shape (n,)
        The energies near the edge, and others between them.
    """
    first, last = np.searchsorted(energy_ev, edge_ev + np.array([-_AROUND_EDGE_EV, _AROUND_EDGE_EV]))
    near = energy_ev[max(first - 1, 0) : last + 1]
    pieces = (np.linspace(start, stop, _PER_STEP, endpoint=False) for start, stop in pairwise(near))
    return np.concatenate([*pieces, near[-1:]])


def half_jump_energies(energy_ev: _Array, normalised: _Array) -> _Array:
    """Where normalised spectra first rise through one half, by linear interpolation.

    Parameters
    ----------
    energy_ev : ndarray, shape (n_energy,)
        Increasing energies.
    normalised : ndarray, shape (n, n_energy)
        Normalised absorption without noise.

    Returns
    -------
    ndarray, shape (n,)
        Energies in eV; NaN where there is no crossing.
    """
    rises = (normalised[:, :-1] < 0.5) & (normalised[:, 1:] >= 0.5)
    first = rises.argmax(axis=1)
    rows = np.arange(normalised.shape[0])
    y0, y1 = normalised[rows, first], normalised[rows, first + 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = energy_ev[first] + (0.5 - y0) / (y1 - y0) * (energy_ev[first + 1] - energy_ev[first])
    return np.where(rises.any(axis=1), crossing, np.nan)


def half_jump_of_spectra(energy_ev: _Array, spectra: _Array, *, by_white_line: bool = False) -> _Array:
    """Half-jump energies of spectra of one scan, normalised by one rule as references are.

    Parameters
    ----------
    energy_ev : ndarray, shape (n_energy,)
        Energies in eV, increasing; repeated ones are averaged.
    spectra : ndarray, shape (n, n_energy)
        Absorption.
    by_white_line : bool
        Whether half is that of the white line's height in place of the step.

    Returns
    -------
    ndarray, shape (n,)
        Energies in eV; NaN where one does not rise through one half.

    Raises
    ------
    EdgeFittingError
        A spectrum without a rising edge.
    """
    energies, merged = merge_repeats(energy_ev, spectra)
    normalise = normalise_by_white_line if by_white_line else normalise_together
    normalised, edge_ev = normalise(energies, merged)
    fine = energies_around_edge(energies, edge_ev)
    by_energy = np.ascontiguousarray(normalised.T)
    return half_jump_energies(
        fine, hermite(energies, by_energy, three_point_slopes(energies, by_energy), fine)[0].T
    )
