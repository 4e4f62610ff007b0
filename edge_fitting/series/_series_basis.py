"""The small basis that frames are projected on, and the series written in it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.references import ReferenceSeries

Array = NDArray[np.float64]

#: Nodes of the table along the series: a power of two of cells, so that bisection ends on a node.
N_NODES = 1025
#: Step of the coarse scan over the table.
STRIDE = 32
#: How far the table goes beyond the references, as a fraction of their range.
MARGIN = 0.25
#: States this close to an end of the range, as a fraction of it, are not outside: it is met by rounding, too.
RANGE_TOLERANCE = 1e-3

_MOST_MODES = 7
# Half-jump crossings lie nearer than this to the steepest point, and are found on a finer axis than that of the scan.
_AROUND_EDGE_EV = 40.0
_PER_STEP = 8
# Modes below this fraction of the jump cannot be seen in any measurement of a single pixel.
_SMALLEST_MODE = 3e-5


@dataclass(frozen=True, slots=True, eq=False)
class SeriesBasis:
    """Basis functions for one series: offset, slope, mean reference spectrum, leading modes.

    Attributes
    ----------
    series : ReferenceSeries
        What was compiled.
    n_modes : int
        Modes kept.
    soc : ndarray, shape (N_NODES,)
        States at the nodes of the table.
    curve, tangent : ndarray, shape (N_NODES, 1 + n_modes)
        Coordinates of the normalised spectrum, and their derivative by the state.
    edge_energy_ev, edge_energy_slope : ndarray, shape (N_NODES,)
        Half-jump energy of the series at the nodes, and its derivative; NaN where it never crosses one half.
    """

    series: ReferenceSeries
    n_modes: int
    soc: Array
    curve: Array
    tangent: Array
    edge_energy_ev: Array
    edge_energy_slope: Array

    @property
    def n_functions(self) -> int:
        """Basis functions in all: two of the line, the mean, the modes."""
        return 3 + self.n_modes

    @property
    def nodes(self) -> Array:
        """State, edge energy and its slope at the nodes, shape (3, N_NODES)."""
        return np.stack([self.soc, self.edge_energy_ev, self.edge_energy_slope])

    def at(self, energy_ev: ArrayLike) -> Array:
        """Basis functions at some energies, shape (n_energy, n_functions).

        Raises
        ------
        EdgeFittingError
            If the references do not cover an energy.
        """
        energies = np.atleast_1d(np.asarray(energy_ev, dtype=np.float64))
        spectra = self.series.basis(energies, self.n_modes)
        line = np.stack([np.ones_like(energies), (energies - self.series.edge_ev) / 100.0])
        return np.ascontiguousarray(np.concatenate([line, spectra]).T)


def compile_series(series: ReferenceSeries) -> SeriesBasis:
    """Tabulate a series for the fit.

    Parameters
    ----------
    series : ReferenceSeries
        References.

    Returns
    -------
    SeriesBasis
    """
    n_modes = max(1, min(_MOST_MODES, int((series.mode_rms > _SMALLEST_MODE).sum())))
    low, high = series.soc[0], series.soc[-1]
    margin = MARGIN * (high - low)
    soc = np.linspace(low - margin, high + margin, N_NODES)
    coordinates, derivatives = series.coordinates(soc)
    curve = np.concatenate([np.ones((N_NODES, 1)), coordinates[:, :n_modes]], axis=1)
    tangent = np.concatenate([np.zeros((N_NODES, 1)), derivatives[:, :n_modes]], axis=1)
    fine = energies_around_edge(series)
    energy = half_jump_energies(fine, series.evaluate(fine, soc))
    return SeriesBasis(
        series=series,
        n_modes=n_modes,
        soc=soc,
        curve=np.ascontiguousarray(curve),
        tangent=np.ascontiguousarray(tangent),
        edge_energy_ev=energy,
        edge_energy_slope=np.gradient(energy, soc),
    )


def energies_around_edge(series: ReferenceSeries) -> Array:
    """Return a fine axis around the edge, for crossings of the curve that joins the energies of the references.

    Returns
    -------
    ndarray, shape (n,)
        The energies of the references near their edge, and others between them.
    """
    first, last = np.searchsorted(
        series.energy_ev, series.edge_ev + np.array([-_AROUND_EDGE_EV, _AROUND_EDGE_EV])
    )
    near = series.energy_ev[max(first - 1, 0) : last + 1]
    pieces = (np.linspace(start, stop, _PER_STEP, endpoint=False) for start, stop in pairwise(near))
    return np.concatenate([*pieces, near[-1:]])


def half_jump_energies(energy_ev: Array, normalised: Array) -> Array:
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
