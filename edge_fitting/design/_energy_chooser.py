"""Which energy to measure next: the Fisher information of the frames so far, and what one more adds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import check_energies, check_weights
from edge_fitting.errors import EdgeFittingError
from edge_fitting.references import ReferenceSeries

from ._fisher import FrameInformation, soc_variance, sum_information

Array = NDArray[np.float64]

# Jump, offset, slope and state of charge.
N_UNKNOWNS = 4

# Ahead of the first frames, what is known counts as this many frames: enough to start, soon forgotten.
_PRIOR_FRAMES = 1e-3


class EnergyChooser:
    """Says which energy to measure next, given the frames there are so far.

    Each call costs about a millisecond, so a scan can ask between frames. The very first frames are better
    taken from :func:`choose_energies` together, because one frame at a time cannot see that four unknowns
    need four energies; from then on, one at a time is as good.

    Parameters
    ----------
    series : ReferenceSeries
        The references.
    jump : float
        Typical edge jump of the pixels, in optical depth.
    sigma : float or array_like
        Standard deviation of the optical depth in one frame of weight 1 (see :func:`optical_depth_sigma`),
        one for all candidates or one for each.
    candidates_ev : array_like, optional
        Energies to choose from; those of the references by default.
    soc, soc_weights : array_like, shape (n_states,), optional
        States of charge to be good at and how much each counts, such as quantiles of the map so far; evenly
        over the series by default.
    calibration_error_ev : float
        The energy axis may be off by this much either way; the choice is good on average over -error,
        -error/2, 0, error/2 and error.

    Raises
    ------
    EdgeFittingError
        For a jump or sigma that is not positive and finite, or candidates that the references do not cover.
    """

    def __init__(
        self,
        series: ReferenceSeries,
        jump: float,
        sigma: float | ArrayLike,
        *,
        candidates_ev: ArrayLike | None = None,
        soc: ArrayLike | None = None,
        soc_weights: ArrayLike | None = None,
        calibration_error_ev: float = 0.5,
    ) -> None:
        if not (np.isfinite(calibration_error_ev) and calibration_error_ev >= 0):
            raise EdgeFittingError(
                f"calibration_error_ev must not be negative, not {calibration_error_ev!r}."
            )
        shifts = calibration_error_ev * np.linspace(-1.0, 1.0, 5) if calibration_error_ev else np.zeros(1)
        self._frames = FrameInformation(series, soc, soc_weights, tuple(shifts))
        self._at_rest = self._frames.weights.size // self._frames.soc.size // 2
        self.candidates_ev: Array = check_candidates(series, candidates_ev)
        precision = check_precision(jump, sigma, self.candidates_ev.size)
        # Relative to the mean frame: the choice depends on ratios of weights only.
        self._per_frame = float(precision.mean())
        self._weights: Array = precision / self._per_frame
        self._features: Array = self._frames.features(self.candidates_ev)
        power = (
            np.einsum("snk,n->k", self._features**2, self._weights)
            / self._features.shape[0]
            / self._weights.size
        )
        self._prior: Array = _PRIOR_FRAMES * np.diag(power)
        self._information: Array = np.zeros((self._frames.weights.size, N_UNKNOWNS, N_UNKNOWNS))

    def add(self, energy_ev: float | ArrayLike, weight: float | ArrayLike = 1.0) -> None:
        """Count frames that were taken.

        Parameters
        ----------
        energy_ev : float or array_like, shape (n,)
            Energies in eV, such as readbacks; they need not be candidates.
        weight : float or array_like, shape (n,)
            Exposure relative to that which ``sigma`` is for.

        Raises
        ------
        EdgeFittingError
            If the references do not cover an energy, or a weight is not positive.
        """
        energies = check_energies(energy_ev)
        weights = check_weights(weight, energies.size)
        nearest = np.abs(energies[:, None] - self.candidates_ev).argmin(axis=1)
        self._information += sum_information(
            self._frames.features(energies), weights * self._weights[nearest]
        )

    def next_energy(self) -> float:
        """Candidate that lowers the expected variance of the state of charge most."""
        return float(self.candidates_ev[int(np.argmin(self._variance_with_each(self._information)))])

    def expected_sigma(self) -> float:
        """Root mean square standard deviation over the states, of all frames so far; infinite if too few."""
        return float(np.sqrt(self._nominal_variance(self._information) @ self._state_weights))

    @property
    def _state_weights(self) -> Array:
        weights = self._frames.weights[: self._frames.soc.size]
        return np.asarray(weights / weights.sum())

    def _nominal_variance(self, information: Array) -> Array:
        n_states = self._frames.soc.size
        nominal = slice(self._at_rest * n_states, (self._at_rest + 1) * n_states)
        return soc_variance(information[nominal]) / self._per_frame

    def _criterion(self, information: Array) -> float:
        return float(np.linalg.inv(information + self._prior)[:, 0, 0] @ self._frames.weights)

    def _variance_with_each(self, information: Array) -> Array:
        """Criterion after one more frame, for each candidate (matrix inversion lemma)."""
        covariance = np.linalg.inv(information + self._prior)
        moved = np.einsum("sij,snj->sni", covariance, self._features)
        leverage = np.einsum("sni,sni->sn", moved, self._features)
        gain = self._weights * moved[..., 0] ** 2 / (1.0 + self._weights * leverage)
        return np.asarray(self._frames.weights @ (covariance[:, 0, 0, None] - gain))

    def _one(self, candidate: int) -> Array:
        vector = self._features[:, candidate]
        return np.asarray(self._weights[candidate] * vector[:, :, None] * vector[:, None, :])


def information_of(chooser: EnergyChooser, chosen: list[int]) -> Array:
    """Fisher matrices of what the chooser knows and of the candidates chosen."""
    index = np.asarray(chosen, dtype=np.intp)
    return chooser._information + sum_information(chooser._features[:, index], chooser._weights[index])


def check_candidates(series: ReferenceSeries, candidates_ev: ArrayLike | None) -> Array:
    if not isinstance(series, ReferenceSeries):
        raise EdgeFittingError(f"series must be a ReferenceSeries, not {type(series).__name__}.")
    if candidates_ev is None:
        return np.array(series.energy_ev)
    return check_energies(getattr(candidates_ev, "energies_ev", candidates_ev), what="candidates_ev")


def check_precision(jump: float, sigma: float | ArrayLike, n_energy: int) -> Array:
    """Squared ratio of jump to noise, one per energy."""
    noise = np.asarray(sigma, dtype=np.float64)
    if not (np.isfinite(jump) and jump > 0):
        raise EdgeFittingError(f"jump must be positive and finite, not {jump!r}.")
    if not (np.isfinite(noise) & (noise > 0)).all():
        raise EdgeFittingError("sigma must be positive and finite.")
    if noise.ndim > 1 or noise.size not in (1, n_energy):
        raise EdgeFittingError(f"sigma must be one number or one per energy ({n_energy}), not {noise.shape}.")
    return np.broadcast_to((jump / noise.ravel()) ** 2, (n_energy,)).astype(np.float64)
