"""Fisher information of a frame about the state of charge, with pre-edge line and edge jump unknown."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError
from edge_fitting.references import ReferenceSeries

Array = NDArray[np.float64]

_DEFAULT_STATES = 11
# Information matrices worse conditioned than this do not determine the four unknowns.
_WORST_CONDITION = 1e12


class FrameInformation:
    """What a frame at an energy tells about (state of charge, jump, offset, slope).

    A frame of unit weight and unit noise-to-jump ratio at energy E adds the outer product of
    ``(dr/ds, r, 1, x)`` to the Fisher matrix of ``(s, J, a, b)``, all in units of the jump; r is the
    reference spectrum at state s. Each scenario is a state of charge together with an error of the energy
    axis.

    Parameters
    ----------
    series : ReferenceSeries
        The references.
    soc : array_like, shape (n_states,), optional
        States of charge; 11 evenly over the series by default.
    soc_weights : array_like, shape (n_states,), optional
        How much each state counts; equal by default.
    shifts_ev : sequence of float
        Errors of the energy axis: the spectrum met at E is the reference at E - shift.

    Attributes
    ----------
    soc : ndarray, shape (n_states,)
    weights : ndarray, shape (n_scenarios,)
        Weight of each scenario, of sum 1; scenarios are shift-major.
    """

    def __init__(
        self,
        series: ReferenceSeries,
        soc: ArrayLike | None = None,
        soc_weights: ArrayLike | None = None,
        shifts_ev: tuple[float, ...] = (0.0,),
    ) -> None:
        if not isinstance(series, ReferenceSeries):
            raise EdgeFittingError(f"series must be a ReferenceSeries, not {type(series).__name__}.")
        if soc is None:
            soc = np.linspace(series.soc[0], series.soc[-1], _DEFAULT_STATES)
        self.soc: Array = np.atleast_1d(np.asarray(soc, dtype=np.float64))
        if self.soc.ndim != 1 or self.soc.size == 0 or not np.isfinite(self.soc).all():
            raise EdgeFittingError("soc must be one or more finite states of charge.")
        weights = np.ones(self.soc.size)
        if soc_weights is not None:
            weights = np.asarray(soc_weights, dtype=np.float64)
        valid = weights.shape == self.soc.shape and (np.isfinite(weights) & (weights >= 0)).all()
        if not valid or not weights.any():
            raise EdgeFittingError("soc_weights must be one per soc, not negative and not all zero.")
        self._shifts = np.asarray(shifts_ev, dtype=np.float64)
        self.weights: Array = np.tile(weights / weights.sum(), self._shifts.size) / self._shifts.size
        self._series = series
        self._coordinates, self._derivatives = series.coordinates(self.soc)
        low, high = series.energy_ev[0], series.energy_ev[-1]
        self._centre, self._half_range = 0.5 * (low + high), 0.5 * (high - low)

    def features(self, energy_ev: Array) -> Array:
        """Vectors whose outer products add up to the Fisher matrix.

        Parameters
        ----------
        energy_ev : ndarray, shape (n,)
            Energies in eV, covered by the references.

        Returns
        -------
        ndarray, shape (n_scenarios, n, 4)

        Raises
        ------
        EdgeFittingError
            If the references do not cover an energy.
        """
        series = self._series
        series.check_covers(energy_ev)
        # A shifted energy just beyond the ends takes the end: the spectrum is smooth and straight there.
        shifted = np.clip(energy_ev - self._shifts[:, None], series.energy_ev[0], series.energy_ev[-1])
        basis = series.basis(shifted.ravel()).reshape(-1, self._shifts.size, energy_ev.size)
        out = np.empty((self._shifts.size, self.soc.size, energy_ev.size, 4))
        out[..., 0] = np.einsum("sk,kdn->dsn", self._derivatives, basis[1:])
        out[..., 1] = basis[0][:, None] + np.einsum("sk,kdn->dsn", self._coordinates, basis[1:])
        out[..., 2] = 1.0
        out[..., 3] = (energy_ev - self._centre) / self._half_range
        return out.reshape(-1, energy_ev.size, 4)

    def axis_derivative(self, energy_ev: Array) -> Array:
        """Slope of the reference spectra along the energy axis, per eV.

        Parameters
        ----------
        energy_ev : ndarray, shape (n,)
            Energies in eV.

        Returns
        -------
        ndarray, shape (n_states, n)
        """
        step = 0.05
        low, high = self._series.energy_ev[0], self._series.energy_ev[-1]
        around = np.clip(energy_ev + step * np.array([[-1.0], [1.0]]), low, high)
        basis = self._series.basis(around.ravel()).reshape(-1, 2, energy_ev.size)
        rise = (basis[:, 1] - basis[:, 0]) / (around[1] - around[0])
        return np.asarray(rise[0] + self._coordinates @ rise[1:])


def sum_information(features: Array, weights: Array) -> Array:
    """Fisher matrices of some frames, shape (n_scenarios, 4, 4)."""
    return np.asarray(np.matmul(np.swapaxes(features, 1, 2) * weights, features))


def soc_variance(information: Array) -> Array:
    """Smallest variance of the state of charge that each Fisher matrix allows; infinite where undetermined.

    Parameters
    ----------
    information : ndarray, shape (n_scenarios, 4, 4)

    Returns
    -------
    ndarray, shape (n_scenarios,)
    """
    size = np.sqrt(np.einsum("sii->si", information))
    out = np.full(information.shape[0], np.inf)
    seen = (size > 0).all(axis=1)
    scaled = information[seen] / (size[seen, :, None] * size[seen, None, :])
    determined = np.linalg.cond(scaled) < _WORST_CONDITION
    where = np.flatnonzero(seen)[determined]
    out[where] = np.linalg.inv(scaled[determined])[:, 0, 0] / size[where, 0] ** 2
    return out
