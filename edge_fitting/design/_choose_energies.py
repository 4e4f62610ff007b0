"""Which energies to measure: the frames that give the smallest variance of the state of charge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import check_energies, check_weights
from edge_fitting.errors import EdgeFittingError
from edge_fitting.references import ReferenceSeries

from ._fisher import FrameInformation, soc_variance, sum_information

Array = NDArray[np.float64]

# Jump, offset, slope and state of charge.
_N_UNKNOWNS = 4
# From so many frames on, a line through the pre-edge and a second look at the post-edge are worth their cost.
_FRAMES_FOR_PAIRS = 12
# Ahead of the first frames, what is known counts as this many frames: enough to start, soon forgotten.
_PRIOR_FRAMES = 1e-3
# A readback this near to a candidate is that candidate.
_SAME_ENERGY_EV = 0.25
# An exchange must gain at least this much, or rounding would keep it going.
_LEAST_GAIN = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class ChosenEnergies:
    """Frames chosen for a state-of-charge map, and what they will give.

    Parameters
    ----------
    energies_ev : tuple of float
        Energies in eV, ascending; an energy that is to be repeated appears as often as it is to be taken.
    expected_sigma : float
        Root mean square of the expected standard deviation of the state of charge over the series.
    worst_sigma : float
        The same where the energy axis is off by up to the calibration error allowed for, at its worst.
    calibration_bias_per_ev : float
        Root mean square shift of the state of charge per eV between the scan's axis and the references' axis.
    soc, sigma : ndarray, shape (n_states,)
        States of charge and the expected standard deviation at each.
    n_candidates : int
        Energies that there were to choose from.
    efficiency : float
        Information per frame relative to one frame at every candidate energy; above 1 the choice saves dose.
    """

    energies_ev: tuple[float, ...]
    expected_sigma: float
    worst_sigma: float
    calibration_bias_per_ev: float
    soc: Array
    sigma: Array
    n_candidates: int
    efficiency: float

    def __len__(self) -> int:
        return len(self.energies_ev)

    @property
    def repeats(self) -> dict[float, int]:
        """How often each energy is to be taken."""
        energies, counts = np.unique(self.energies_ev, return_counts=True)
        return {float(energy): int(count) for energy, count in zip(energies, counts, strict=True)}


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
        self.candidates_ev: Array = _check_candidates(series, candidates_ev)
        precision = _check_precision(jump, sigma, self.candidates_ev.size)
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
        self._information: Array = np.zeros((self._frames.weights.size, _N_UNKNOWNS, _N_UNKNOWNS))

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


def choose_energies(
    series: ReferenceSeries,
    n_frames: int,
    jump: float,
    sigma: float | ArrayLike,
    *,
    candidates_ev: ArrayLike | None = None,
    taken_ev: ArrayLike | None = None,
    soc: ArrayLike | None = None,
    soc_weights: ArrayLike | None = None,
    calibration_error_ev: float = 0.5,
    max_repeats: int | None = None,
) -> ChosenEnergies:
    """Choose the frames, energies and repeats, that give the smallest variance of the state of charge.

    The model of the series fit is ``y(E) = a + b x(E) + J r(E; s) + noise`` with a, b and J unknown in every
    pixel. Minimised is the Cramer-Rao bound on the variance of s, averaged over the states of charge and over
    errors of the energy axis up to ``calibration_error_ev``. One frame below and one above the edge are
    always there, two different ones each from 12 frames on, so that the line and the jump can be checked.

    Parameters
    ----------
    series : ReferenceSeries
        The references.
    n_frames : int
        Frames to choose, at least 4 together with those taken; from 5 on a fit can tell its own noise.
    jump : float
        Typical edge jump of the pixels, in optical depth.
    sigma : float or array_like
        Standard deviation of the optical depth in one frame (see :func:`optical_depth_sigma`); one for all
        candidates or one for each. With one for all, the choice does not depend on it, only the figures do.
    candidates_ev : array_like, optional
        Energies to choose from; those of the references by default.
    taken_ev : array_like, optional
        Frames that are there already; the choice completes them.
    soc, soc_weights : array_like, shape (n_states,), optional
        States of charge to be good at and how much each counts; evenly over the series by default.
    calibration_error_ev : float
        The energy axis may be off by this much either way.
    max_repeats : int, optional
        Most frames at one energy, those taken included; 1 picks from a recording with one frame per energy.
        Any number by default.

    Returns
    -------
    ChosenEnergies
        The frames to take; its figures include those taken already.

    Raises
    ------
    EdgeFittingError
        For too few frames, a jump or sigma that is not positive and finite, candidates that the references do
        not cover, or candidates without an energy below and one above the edge.

    Notes
    -----
    Greedy choice followed by exchanges of single frames until none helps (V. V. Fedorov, Theory of Optimal
    Experiments, 1972), from two starts.
    """
    chooser = EnergyChooser(
        series, jump, sigma, candidates_ev=candidates_ev, soc=soc, soc_weights=soc_weights,
        calibration_error_ev=calibration_error_ev,
    )  # fmt: skip
    taken = (
        np.empty(0)
        if taken_ev is None or np.size(taken_ev) == 0
        else check_energies(taken_ev, what="taken_ev")
    )
    if not isinstance(n_frames, (int, np.integer)) or isinstance(n_frames, bool) or n_frames < 1:
        raise EdgeFittingError(f"n_frames must be a positive whole number, not {n_frames!r}.")
    if n_frames + taken.size < _N_UNKNOWNS:
        raise EdgeFittingError(
            f"a state of charge needs at least {_N_UNKNOWNS} frames (it comes with jump, offset and slope), "
            f"not {n_frames + taken.size}."
        )
    if taken.size:
        chooser.add(taken)
    sanity = EachSide(series, chooser.candidates_ev, int(n_frames), taken, max_repeats)
    starts = (_greedy(chooser, int(n_frames), sanity), _spread(chooser, int(n_frames), sanity))
    chosen, _ = min(
        (exchange_frames(chooser, start, sanity.allowed) for start in starts), key=lambda found: found[1]
    )
    return _summarise(series, chooser, chosen, taken)


def expected_sigma(
    grid: Any,
    series: ReferenceSeries,
    jump: float,
    sigma: float | ArrayLike,
    *,
    weights: ArrayLike | None = None,
    soc: ArrayLike | None = None,
    soc_weights: ArrayLike | None = None,
) -> float:
    """Predict the standard deviation of the state of charge that a grid will give (Cramer-Rao bound).

    Parameters
    ----------
    grid : array_like or object with ``energies_ev``
        Energies in eV, repeats counted; an energy grid's ``exposure_s`` serves as weights.
    series : ReferenceSeries
        The references.
    jump : float
        Edge jump of the pixel, in optical depth.
    sigma : float or array_like
        Standard deviation of the optical depth in one frame of weight 1 (of the grid's mean exposure, where
        the grid has exposures), one for all or one for each energy.
    weights : array_like, optional
        Exposure of each frame relative to that which ``sigma`` is for; overrides the grid's exposures.
    soc, soc_weights : array_like, shape (n_states,), optional
        States of charge and how much each counts; evenly over the series by default.

    Returns
    -------
    float
        Root mean square over the states of charge, infinite where the grid does not determine the state.

    Raises
    ------
    EdgeFittingError
        For energies that the references do not cover, or a jump, sigma or weight that is not positive.
    """
    energies, exposures = _read_grid(grid, weights)
    frames = FrameInformation(series, soc, soc_weights)
    precision = exposures * _check_precision(jump, sigma, energies.size)
    variance = soc_variance(sum_information(frames.features(energies), precision))
    return float(np.sqrt(frames.weights @ variance))


def calibration_bias(
    grid: Any,
    series: ReferenceSeries,
    error_ev: float,
    *,
    weights: ArrayLike | None = None,
    soc: ArrayLike | None = None,
    soc_weights: ArrayLike | None = None,
) -> float:
    """Predict the shift of the state of charge when the energy axis is off against the references' axis.

    No number of frames reduces it. To first order in the error.

    Parameters
    ----------
    grid : array_like or object with ``energies_ev``
        As for :func:`expected_sigma`.
    series : ReferenceSeries
        The references.
    error_ev : float
        How far the scan's energy axis is off.
    weights, soc, soc_weights : array_like, optional
        As for :func:`expected_sigma`.

    Returns
    -------
    float
        Root mean square over the states of charge; infinite where the grid does not determine the state.

    Raises
    ------
    EdgeFittingError
        As for :func:`expected_sigma`.
    """
    energies, exposures = _read_grid(grid, weights)
    frames = FrameInformation(series, soc, soc_weights)
    features = frames.features(energies)
    information = sum_information(features, exposures)
    if not np.isfinite(soc_variance(information)).all():
        return float("inf")
    pull = np.einsum("snk,sn,n->sk", features, frames.axis_derivative(energies), exposures)
    shift = np.linalg.solve(information, pull[..., None])[:, 0, 0] * error_ev
    return float(np.sqrt(frames.weights @ shift**2))


def optical_depth_sigma(
    open_beam_counts: ArrayLike, optical_depth: ArrayLike = 0.0, *, n_flats: float = 1.0
) -> Array:
    """Return the noise of the optical depth in one frame by counting statistics of frame and flat.

    Parameters
    ----------
    open_beam_counts : array_like
        Detected photons per pixel in a frame without the sample (counts divided by the gain).
    optical_depth : array_like
        Optical depth of the sample at the energy.
    n_flats : float
        Open-beam exposures that the flat is made of, in units of the frame's exposure.

    Returns
    -------
    ndarray
        ``sqrt(exp(optical_depth) / N + 1 / (n_flats N))``.

    Raises
    ------
    EdgeFittingError
        If counts or number of flats are not positive.
    """
    counts = np.asarray(open_beam_counts, dtype=np.float64)
    if not (np.isfinite(counts) & (counts > 0)).all() or not n_flats > 0:
        raise EdgeFittingError("open_beam_counts and n_flats must be positive.")
    depth = np.asarray(optical_depth, dtype=np.float64)
    return np.asarray(np.sqrt((np.exp(depth) + 1.0 / n_flats) / counts))


class EachSide:
    """How many different energies below and above the edge a choice must have."""

    def __init__(
        self, series: ReferenceSeries, candidates: Array, n_frames: int, taken: Array, max_repeats: int | None
    ) -> None:
        self.room = _room(candidates, n_frames, taken, max_repeats)
        low, high = series.energy_ev[0], series.energy_ev[-1]
        # The windows in which the references themselves were normalised.
        below = series.edge_ev - min(20.0, 0.5 * (series.edge_ev - low))
        above = series.edge_ev + min(60.0, 0.5 * (high - series.edge_ev))
        self.side = np.where(candidates <= below, 0, np.where(candidates >= above, 1, 2))
        wanted = 1 if n_frames + taken.size < _FRAMES_FOR_PAIRS else 2
        there = [np.unique(taken[taken <= below]).size, np.unique(taken[taken >= above]).size]
        self.need = [0, 0]
        for side, name in enumerate(("below", "above")):
            on_side = np.unique(candidates[(self.side == side) & (self.room > 0)]).size
            if on_side + there[side] == 0:
                raise EdgeFittingError(
                    f"no candidate energy lies {name} the edge ({(below, above)[side]:.6g} eV): add one, the "
                    "pre-edge line and the jump cannot be checked without."
                )
            self.need[side] = min(max(wanted - there[side], 0), on_side)
        while sum(self.need) > n_frames:
            self.need[int(np.argmax(self.need))] -= 1

    def allowed(self, others: list[int]) -> NDArray[np.bool_]:
        """Candidates that may complete the other frames, whose number is one less than wanted."""
        allowed = np.bincount(np.asarray(others, dtype=np.intp), minlength=self.side.size) < self.room
        for side, need in enumerate(self.need):
            present = np.unique([k for k in others if self.side[k] == side]).astype(np.intp)
            if present.size < need:
                allowed &= self.side == side
                allowed[present] = False
        return allowed

    def first(self) -> list[int]:
        """Outermost energies that meet the need."""
        below, above = (np.flatnonzero((self.side == side) & (self.room > 0)) for side in (0, 1))
        return [*map(int, below[: self.need[0]]), *map(int, above[above.size - self.need[1] :])]


def _room(candidates: Array, n_frames: int, taken: Array, max_repeats: int | None) -> NDArray[np.intp]:
    """How often each candidate may be chosen."""
    if max_repeats is None:
        return np.full(candidates.size, n_frames, dtype=np.intp)
    if not isinstance(max_repeats, (int, np.integer)) or max_repeats < 1:
        raise EdgeFittingError(f"max_repeats must be a positive whole number, not {max_repeats!r}.")
    there = np.zeros(candidates.size, dtype=np.intp)
    for energy in taken:
        nearest = int(np.abs(candidates - energy).argmin())
        there[nearest] += np.abs(candidates[nearest] - energy) < _SAME_ENERGY_EV
    room = np.maximum(int(max_repeats) - there, 0)
    if room.sum() < n_frames:
        raise EdgeFittingError(
            f"there is room for {room.sum()} frames with at most {max_repeats} at one energy, not for "
            f"{n_frames}: give more candidates or allow more repeats."
        )
    return room


def _greedy(chooser: EnergyChooser, n_frames: int, sanity: EachSide) -> list[int]:
    chosen = sanity.first()
    while len(chosen) < n_frames:
        values = chooser._variance_with_each(information_of(chooser, chosen))
        chosen.append(int(np.argmin(np.where(sanity.allowed(chosen), values, np.inf))))
    return chosen


def _spread(chooser: EnergyChooser, n_frames: int, sanity: EachSide) -> list[int]:
    """Sanity set, then evenly over the candidates of the edge as far as they go."""
    chosen = sanity.first()
    while len(chosen) < n_frames:
        allowed = sanity.allowed(chosen)
        inside = np.flatnonzero(allowed & (sanity.side == 2))
        pool = inside if inside.size else np.flatnonzero(allowed)
        left = min(n_frames - len(chosen), pool.size)
        chosen += [int(k) for k in pool[np.linspace(0, pool.size - 1, left).round().astype(np.intp)]]
    return chosen


def exchange_frames(
    chooser: EnergyChooser, start: list[int], allowed: Callable[[list[int]], NDArray[np.bool_]]
) -> tuple[list[int], float]:
    """Replace one frame at a time by the best candidate allowed beside the others, until nothing gains."""
    chosen = list(start)
    information = information_of(chooser, chosen)
    best = chooser._criterion(information)
    since_gain = 0
    position = 0
    while since_gain < len(chosen):
        others = chosen[:position] + chosen[position + 1 :]
        without = information - chooser._one(chosen[position])
        values = np.where(allowed(others), chooser._variance_with_each(without), np.inf)
        candidate = int(np.argmin(values))
        if values[candidate] < best * (1.0 - _LEAST_GAIN):
            chosen[position] = candidate
            information = information_of(chooser, chosen)
            best = chooser._criterion(information)
            since_gain = 0
        else:
            since_gain += 1
        position = (position + 1) % len(chosen)
    return chosen, best


def information_of(chooser: EnergyChooser, chosen: list[int]) -> Array:
    """Fisher matrices of what the chooser knows and of the candidates chosen."""
    index = np.asarray(chosen, dtype=np.intp)
    return chooser._information + sum_information(chooser._features[:, index], chooser._weights[index])


def _summarise(
    series: ReferenceSeries, chooser: EnergyChooser, chosen: list[int], taken: Array
) -> ChosenEnergies:
    information = information_of(chooser, chosen)
    nominal = chooser._nominal_variance(information)
    expected = float(np.sqrt(nominal @ chooser._state_weights))
    n_states = nominal.size
    by_shift = soc_variance(information).reshape(-1, n_states) @ chooser._state_weights / chooser._per_frame
    everything = sum_information(chooser._features, chooser._weights)
    all_candidates = float(chooser._nominal_variance(everything) @ chooser._state_weights)
    energies = np.sort(chooser.candidates_ev[chosen])
    n_all = energies.size + taken.size
    return ChosenEnergies(
        energies_ev=tuple(float(e) for e in energies),
        expected_sigma=expected,
        worst_sigma=float(np.sqrt(by_shift.max())),
        calibration_bias_per_ev=calibration_bias(
            np.concatenate([energies, taken]), series, 1.0,
            soc=chooser._frames.soc, soc_weights=chooser._state_weights,
        ),
        soc=chooser._frames.soc,
        sigma=np.sqrt(nominal),
        n_candidates=chooser.candidates_ev.size,
        efficiency=all_candidates * chooser.candidates_ev.size / (expected**2 * n_all),
    )  # fmt: skip


def _check_candidates(series: ReferenceSeries, candidates_ev: ArrayLike | None) -> Array:
    if not isinstance(series, ReferenceSeries):
        raise EdgeFittingError(f"series must be a ReferenceSeries, not {type(series).__name__}.")
    if candidates_ev is None:
        return np.array(series.energy_ev)
    return check_energies(getattr(candidates_ev, "energies_ev", candidates_ev), what="candidates_ev")


def _check_precision(jump: float, sigma: float | ArrayLike, n_energy: int) -> Array:
    """Squared ratio of jump to noise, one per energy."""
    noise = np.asarray(sigma, dtype=np.float64)
    if not (np.isfinite(jump) and jump > 0):
        raise EdgeFittingError(f"jump must be positive and finite, not {jump!r}.")
    if not (np.isfinite(noise) & (noise > 0)).all():
        raise EdgeFittingError("sigma must be positive and finite.")
    if noise.ndim > 1 or noise.size not in (1, n_energy):
        raise EdgeFittingError(f"sigma must be one number or one per energy ({n_energy}), not {noise.shape}.")
    return np.broadcast_to((jump / noise.ravel()) ** 2, (n_energy,)).astype(np.float64)


def _read_grid(grid: Any, weights: ArrayLike | None) -> tuple[Array, Array]:
    energies = check_energies(getattr(grid, "energies_ev", grid), what="grid")
    exposures = getattr(grid, "exposure_s", None)
    if weights is None and exposures is not None:
        relative = check_weights(exposures, energies.size)
        return energies, relative / relative.mean()
    return energies, check_weights(weights, energies.size)
