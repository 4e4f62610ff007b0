"""The small basis that frames are projected on, and the series written in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.references import ReferenceSeries, energies_around_edge, half_jump_energies

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
    return series.derived(_tabulate)


def _tabulate(series: ReferenceSeries) -> SeriesBasis:
    n_modes = max(1, min(_MOST_MODES, int((series.mode_rms > _SMALLEST_MODE).sum())))
    low, high = series.soc[0], series.soc[-1]
    margin = MARGIN * (high - low)
    soc = np.linspace(low - margin, high + margin, N_NODES)
    coordinates, derivatives = series.coordinates(soc)
    curve = np.concatenate([np.ones((N_NODES, 1)), coordinates[:, :n_modes]], axis=1)
    tangent = np.concatenate([np.zeros((N_NODES, 1)), derivatives[:, :n_modes]], axis=1)
    fine = energies_around_edge(series.energy_ev, series.edge_ev)
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
