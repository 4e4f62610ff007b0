"""Whether a spectrum has an absorption edge: a step that noise and a bent background are not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._edge_step import line_and_step

Array = NDArray[np.float64]

# Second differences of independent noise of unit size have this standard deviation at even distances.
_SECOND_DIFFERENCE = np.sqrt(1.5)
# Median of the magnitude of a normal deviate.
_MEDIAN_MAGNITUDE = 0.6745
# A step of fewer of its own standard deviations may be noise; so may one that a single point does not show.
_LEAST_STEP_TO_SIGMA = 3.0
_LEAST_STEP_TO_NOISE = 2.0
# Spectra of nothing but noise that tell how it goes into the step.
_TRIALS = 32
# What wanders slowly stands beside a step too: rms about the line below the edge, and about line and step on both
# sides, of the step, and of the noise of a point. Measured spectra, cut to 20 eV below and 40 eV above the edge or
# longer, are below 0.04 and 0.11.
_MOST_WANDERING_BELOW = 0.06
_MOST_WANDERING = 0.2
_WANDERING_TO_NOISE = 1.5
# Further from the edge lines are no description.
_NEAR_EV = 300.0
# A parabola that leaves less of the step than this describes the spectrum: there is no step.
_LEAST_BEYOND_PARABOLA = 0.03
# Energies on each side of the steepest point, or it is the tail of an edge further on.
_LEAST_EACH_SIDE = 2
# Below so many points noise and shape cannot be told apart.
_ENOUGH_POINTS = 8


def sigma_of_step(energy_ev: Array, beside: NDArray[np.bool_], edge_ev: float) -> float:
    """Return the standard deviation of a step by `line_and_step` for noise of unit size, by drawing such noise.

    Parameters
    ----------
    energy_ev : ndarray, shape (n,)
        Increasing energies.
    beside : ndarray of bool, shape (n,)
        Points below and above the edge.
    edge_ev : float
        Where the step is.
    """
    trials = np.random.default_rng(0).standard_normal((_TRIALS, energy_ev.size))
    return float(np.std(line_and_step(energy_ev, trials, edge_ev, beside)[:, 2]))


def no_edge(
    energy_ev: Array,
    spectrum: Array,
    step: float,
    step_sigma: float,
    beside: NDArray[np.bool_],
    edge_ev: float,
    least: float,
) -> str | None:
    """Return why a spectrum is not that of an edge; None where it may be.

    Parameters
    ----------
    energy_ev : ndarray, shape (n,)
        Increasing energies.
    spectrum : ndarray, shape (n,)
        Absorption in any unit.
    step : float
        The step that was found in it.
    step_sigma : float
        Its standard deviation for noise of unit size, see `sigma_of_step`.
    beside : ndarray of bool, shape (n,)
        Points below and above the edge.
    edge_ev : float
        Where the step is.
    least : float
        Smallest step that counts.
    """
    if not step > least:
        return "has no rising edge"
    near = beside & (np.abs(energy_ev - edge_ev) <= _NEAR_EV)
    if np.count_nonzero(near) >= _ENOUGH_POINTS:
        noise = _noise(energy_ev[near], spectrum[near])
        seen, per_noise, wandering = _beside(energy_ev[near] - edge_ev, spectrum[near])
        # By the estimate that allows for white line and oscillations, and by the one that noise moves least.
        sigma = noise * step_sigma
        told = max(step / sigma, seen / (noise * per_noise)) if noise > 0 else np.inf
        if told < _LEAST_STEP_TO_SIGMA or step < _LEAST_STEP_TO_NOISE * noise:
            return f"has no rising edge above its noise ({noise / step:.2g} of the step at each energy)"
        for rms, most in zip(wandering, (_MOST_WANDERING, _MOST_WANDERING_BELOW), strict=True):
            if rms > max(most * step, _WANDERING_TO_NOISE * noise):
                return f"has no rising edge above what varies beside it ({rms / step:.2g} of the step)"
    if energy_ev.size >= _ENOUGH_POINTS:
        if (
            min(np.count_nonzero(energy_ev > edge_ev), np.count_nonzero(energy_ev < edge_ev))
            < _LEAST_EACH_SIDE
        ):
            return (
                f"has no rising edge that is over: it is steepest at {edge_ev:g} eV, where it begins or ends,"
            )
        x = (energy_ev - energy_ev.mean()) / np.ptp(energy_ev)
        design = np.vander(x, 3)
        left = spectrum - design @ np.linalg.lstsq(design, spectrum, rcond=None)[0]
        if np.sqrt(np.mean(left**2)) < _LEAST_BEYOND_PARABOLA * step:
            return "has no edge, only a smooth background"
    return None


def _noise(energy_ev: Array, spectrum: Array) -> float:
    """Noise of one point by its distance from the line through its neighbours, the median of all."""
    share = (energy_ev[1:-1] - energy_ev[:-2]) / (energy_ev[2:] - energy_ev[:-2])
    between = spectrum[:-2] + share * (spectrum[2:] - spectrum[:-2])
    return float(np.median(np.abs(spectrum[1:-1] - between)) / _MEDIAN_MAGNITUDE / _SECOND_DIFFERENCE)


def _beside(from_edge_ev: Array, spectrum: Array) -> tuple[float, float, tuple[float, float]]:
    """Describe a spectrum beside its edge by a line and a step, and below it by a line.

    Returns
    -------
    step : float
        That of ordinary least squares.
    per_noise : float
        Its standard deviation for independent noise of unit size.
    wandering : tuple of float
        Root mean square of what is left, on both sides and below. Noise that is nearly the same at neighbouring
        energies (drifts, 1/f) is seen here, and not in the differences between them.
    """
    design = np.stack([np.ones_like(from_edge_ev), from_edge_ev, from_edge_ev > 0], axis=1)
    found = np.linalg.lstsq(design, spectrum, rcond=None)[0]
    per_noise = float(np.sqrt(np.linalg.pinv(design.T @ design)[2, 2]))
    below = from_edge_ev < 0
    wandering = (_left(design, spectrum), _left(design[below, :2], spectrum[below]))
    return float(found[2]), per_noise, wandering


def _left(design: Array, values: Array) -> float:
    """Root mean square of what a design does not describe; 0 where too few points are left to tell."""
    n_left = values.size - design.shape[1]
    if n_left < _ENOUGH_POINTS // 2:
        return 0.0
    left = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(np.sqrt(left @ left / n_left))
