"""Which energies to measure: the frames that give the smallest variance of the state of charge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import check_energies
from edge_fitting.errors import EdgeFittingError
from edge_fitting.references import ReferenceSeries

from ._energy_chooser import N_UNKNOWNS, EnergyChooser, information_of
from ._exchange import EachSide, exchange_frames, greedy_start, spread_start
from ._expected import calibration_bias
from ._fisher import soc_variance, sum_information

Array = NDArray[np.float64]


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
    if n_frames + taken.size < N_UNKNOWNS:
        raise EdgeFittingError(
            f"a state of charge needs at least {N_UNKNOWNS} frames (it comes with jump, offset and slope), "
            f"not {n_frames + taken.size}."
        )
    if taken.size:
        chooser.add(taken)
    constraint = EachSide(series, chooser.candidates_ev, int(n_frames), taken, max_repeats)
    starts = (
        greedy_start(chooser, int(n_frames), constraint),
        spread_start(chooser, int(n_frames), constraint),
    )
    chosen, _ = min(
        (exchange_frames(chooser, start, constraint.allowed) for start in starts), key=lambda found: found[1]
    )
    return _summarise(series, chooser, chosen, taken)


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
