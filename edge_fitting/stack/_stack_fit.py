"""Fits that need whole spectra: repeats merged, pixels with missing frames fitted with what they have."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import FitStatus
from edge_fitting.errors import EdgeFittingError
from edge_fitting.references import AnchorCalibration, ReferenceSeries
from edge_fitting.series import MARGIN, RANGE_TOLERANCE
from edge_fitting.windows import INCOMPLETE, WindowMethod

from ._ambiguity import goes_back, state_spread

Array = NDArray[np.float64]
Frame = NDArray[np.float32]
Values = tuple[Frame, NDArray[np.uint8]]

# States along the series, no further apart than this part of its range, give the curve from edge energy to state, which
# bends where frames are far apart. Nearer ones would show the rounding of the energies.
_STATE_STEP = 0.125
# Energies this far apart (eV), about a core hole's width, cost an edge energy more than noise does; shifts of the mean
# spectrum that show how much.
_COARSE_EV = 1.4
_N_SHIFTS = 17
# What a window method is off beyond that per eV of step (Monte Carlo on oxides, steps of 3 and 4 eV: 0.2 to 0.4).
_OFF_PER_EV = 0.25
# Two rises of an oxide's edge, 4 eV apart in Mn2O3, look like one between them: the steepest point of a coarse grid is
# then half a step or more off either of them.
_OFF_OF_STEEPEST = 0.5
# So many times closer for what the scan's energies leave open between them.
_FINER = 8


class FrameStore:
    """Frames of different energies that are kept, in one array that grows by doubling."""

    def __init__(self) -> None:
        self._energy_ev: Array = np.empty(0)
        self._weight: Array = np.empty(0)
        self._stack: Frame | None = None

    def __len__(self) -> int:
        return self._energy_ev.size

    def add(self, energy_ev: Array, stack: Frame, weight: Array) -> None:
        """Add frames, shape (n, n_pixels); the first ones are kept as they are, not copied."""
        held, wanted = len(self), len(self) + energy_ev.size
        self._energy_ev = np.concatenate([self._energy_ev, energy_ev])
        self._weight = np.concatenate([self._weight, weight])
        if self._stack is None:
            self._stack = stack
            return
        if wanted > self._stack.shape[0]:
            # Pages that are not written to yet take no memory.
            grown = np.empty((max(wanted, 2 * held), stack.shape[1]), np.float32)
            grown[:held] = self._stack[:held]
            self._stack = grown
        self._stack[held:wanted] = stack

    @property
    def frames(self) -> tuple[Array, Frame, Array]:
        """Energies, frames and weights as they came; views."""
        if self._stack is None:
            return self._energy_ev, np.empty((0, 0), np.float32), self._weight
        return self._energy_ev, self._stack[: len(self)], self._weight

    def remove(self, energy_ev: float, frame: Frame, weight: float) -> bool:
        """Take out the last frame that is equal to one; False where none is."""
        energies, stack, weights = self.frames
        for k in np.flatnonzero((energies == energy_ev) & (weights == weight))[::-1]:
            if np.array_equal(stack[k], frame, equal_nan=True):
                self._energy_ev, self._weight = np.delete(energies, k), np.delete(weights, k)
                self._stack = np.delete(stack, k, axis=0)
                return True
        return False

    def merged(self) -> tuple[Array, Frame, Array]:
        """Return energies, frames and weights with every energy once; see :func:`merge_repeats`."""
        assert self._stack is not None
        return merge_repeats(self._energy_ev, self._stack[: len(self)], self._weight)


def merge_repeats(energies: Array, stack: Frame, weight: Array) -> tuple[Array, Frame, Array]:
    """Average frames of the same energy.

    Parameters
    ----------
    energies, weight : ndarray, shape (n,)
        Energies and weights of the frames, in any order.
    stack : ndarray of float32, shape (n, n_pixels)
        The frames.

    Returns
    -------
    energy_ev : ndarray, shape (n_energy,)
        Different energies, in order of first appearance when nothing repeats, else increasing.
    stack : ndarray of float32, shape (n_energy, n_pixels)
        Weighted mean of the repeats, over those that are finite; not copied where nothing repeats.
    weights : ndarray, shape (n_energy,)
        Summed weights.
    """
    unique, where = np.unique(energies, return_inverse=True)
    if unique.size == energies.size:
        return energies, stack, weight
    merged = np.empty((unique.size, stack.shape[1]), np.float32)
    for k in range(unique.size):
        frames = stack[where == k]
        if frames.shape[0] == 1:
            merged[k] = frames[0]
            continue
        share = weight[where == k][:, None] * np.isfinite(frames)
        with np.errstate(invalid="ignore"):
            merged[k] = (np.where(np.isfinite(frames), frames, 0.0) * share).sum(axis=0) / share.sum(axis=0)
    return unique, merged, np.bincount(where, weights=weight).astype(np.float64)


def mean_spectrum(stack: Frame) -> Array:
    """Mean over the pixels that are finite in every frame.

    Parameters
    ----------
    stack : ndarray of float32, shape (n_energy, n_pixels)
        Optical depth.

    Returns
    -------
    ndarray, shape (n_energy,)
        NaN everywhere if no pixel is complete.
    """
    total = np.zeros(stack.shape[1])
    for frame in stack:
        total += frame
    complete = np.isfinite(total)
    if not complete.any():
        return np.full(stack.shape[0], np.nan)
    return np.array([frame[complete].mean(dtype=np.float64) for frame in stack])


class StackMethod(Protocol):
    """An estimator that sees whole spectra."""

    name: str
    definition: str
    search_ev: tuple[float, float]

    def estimate(
        self, energy_ev: Array, weights: Array, stack: Frame, shape: tuple[int, int] | None
    ) -> Values:
        """Values, shape (8, n_pixels), and status; ``INCOMPLETE`` for pixels with missing frames.

        ``shape`` is None where the pixels are not neighbours in an image.
        """

    def locate(self, energy_ev: Array, weights: Array, spectra: Frame) -> Array:
        """Edge energies of spectra without noise, shape (n_spectra,); NaN where the feature is not there."""


def fit_pixels(
    method: StackMethod,
    energy_ev: Array,
    stack: Frame,
    weights: Array,
    shape: tuple[int, int],
    references: ReferenceSeries | None,
) -> Values:
    """Fit all pixels, those with missing frames from the frames they have.

    Parameters
    ----------
    method : StackMethod
        Estimator.
    energy_ev, weights : ndarray, shape (n_energy,)
        Different energies and the weights of their frames.
    stack : ndarray of float32, shape (n_energy, n_pixels)
        Optical depth.
    shape : tuple of int
        Rows and columns.
    references : ReferenceSeries, optional
        Gives the state of charge its scale.

    Returns
    -------
    values : ndarray of float32, shape (8, n_pixels)
    status : ndarray of uint8, shape (n_pixels,)
    """
    values, status = method.estimate(energy_ev, weights, stack, shape)
    incomplete = np.flatnonzero(status == INCOMPLETE)
    if incomplete.size:
        part = stack[:, incomplete]
        finite = np.isfinite(part)
        infinite = np.isinf(part).sum(axis=0)
        patterns, where = np.unique(finite, axis=1, return_inverse=True)
        for k in range(patterns.shape[1]):
            members = np.flatnonzero(where == k)
            frames = np.flatnonzero(patterns[:, k])
            pixels = incomplete[members]
            if not frames.size:
                status[pixels] = np.where(infinite[members] > 0, FitStatus.SATURATED, FitStatus.NO_DATA)
                continue
            spectra = np.ascontiguousarray(part[np.ix_(frames, members)])
            values[:, pixels], status[pixels] = method.estimate(
                energy_ev[frames], weights[frames], spectra, None
            )
        clipped = incomplete[too_many_saturated(infinite, energy_ev.size)]
        values[:7, clipped] = np.nan
        status[clipped] = FitStatus.SATURATED
    if references is not None:
        _add_state(method, energy_ev, weights, references, values, status)
    elif cost_ev := _cost_of_steps(method, energy_ev, weights, stack):
        values[3] = np.hypot(values[3], np.float32(cost_ev))
    return values, status


def _cost_of_steps(method: StackMethod, energy_ev: Array, weights: Array, stack: Frame) -> float:
    """By how much (eV, rms) edge energies read off because of where far apart energies lie on the edge.

    The scan's own mean spectrum is moved along the axis by up to a step: what is found should move as far.
    """
    near = np.sort(energy_ev[(energy_ev >= method.search_ev[0]) & (energy_ev <= method.search_ev[1])])
    step_ev = float(np.median(np.diff(near))) if near.size > 1 else 0.0
    if step_ev < _COARSE_EV:
        return 0.0
    shifts = np.linspace(-0.5, 0.5, _N_SHIFTS) * step_ev
    try:
        family = ReferenceSeries.shift_family(energy_ev, mean_spectrum(stack), shifts)
    except EdgeFittingError:
        return 0.0  # no rising edge, or no pixel that has all frames
    spectra = np.ascontiguousarray(family.evaluate(energy_ev, shifts).T, dtype=np.float32)
    off = method.locate(energy_ev, weights, spectra) - shifts
    moved = float(np.nanstd(off)) if np.isfinite(off).sum() > 1 else 0.0
    # A mean spectrum of energies further apart no longer shows all of it; a model of the whole edge needs no more.
    hidden = _OFF_PER_EV * (step_ev - _COARSE_EV) if isinstance(method, WindowMethod) else 0.0
    if method.name == "inflection":
        hidden = _OFF_OF_STEEPEST * step_ev
    return float(np.hypot(moved, hidden))


def too_many_saturated(n_saturated: NDArray[np.integer], n_frames: int) -> NDArray[np.bool_]:
    """Whether so many values are saturated that it is not a passing event."""
    return (n_saturated > 1) & (n_saturated > 0.05 * n_frames)


def _add_state(
    method: StackMethod,
    energy_ev: Array,
    weights: Array,
    references: ReferenceSeries,
    values: Frame,
    status: NDArray[np.uint8],
) -> None:
    """Read states of charge off the edge energies that the same estimator finds along the series."""
    if references.coordinate != "soc":
        return
    low, high = references.soc[0], references.soc[-1]
    parts = np.ceil(np.diff(references.states) / (_STATE_STEP * (high - low)) - 1e-9).astype(int)
    place = np.concatenate(
        [k + np.arange(n * _FINER) / (n * _FINER) for k, n in enumerate(parts)] + [[parts.size]]
    )
    fine = np.interp(place, np.arange(references.states.size), references.states)
    spectra = np.ascontiguousarray(references.evaluate(energy_ev, fine).T, dtype=np.float32)
    finely = method.locate(energy_ev, weights, spectra)
    found, states = finely[::_FINER], fine[::_FINER]
    known = np.isfinite(found)
    measured = status == FitStatus.OK
    if known.sum() > 1:
        energies, anchors, spread = _monotone(found[known], states[known])
    if known.sum() < 2 or energies.size < 2:
        # On these energies the feature is not there in the references, or where it is does not depend on the state.
        values[:4, measured] = np.nan
        status[measured] = FitStatus.NOT_FOUND if known.sum() < 2 else FitStatus.UNCERTAIN
        return
    soc, sigma = AnchorCalibration(energies, anchors, known_sigma=spread)(values[2], values[3])
    there = np.isfinite(finely)
    if goes_back(finely[there]):
        within = np.clip(soc, low, high)
        sigma = np.fmax(sigma, state_spread(finely[there], fine[there], values[2], values[3], within))
    margin = MARGIN * (high - low)
    tolerance = RANGE_TOLERANCE * (high - low)
    status[measured & (soc < low - tolerance)] = FitStatus.BELOW_RANGE
    status[measured & (soc > high + tolerance)] = FitStatus.ABOVE_RANGE
    near = measured & (soc >= low - margin) & (soc <= high + margin)
    values[0] = np.where(near, soc, np.nan)
    values[1] = np.where(near, sigma, np.nan)


def _monotone(energies: Array, states: Array) -> tuple[Array, Array, Array]:
    """Average neighbouring states until the edge energy goes one way (pool adjacent violators).

    The third array is the standard deviation of the states that one energy stands for.
    """
    sign = 1.0 if energies[-1] >= energies[0] else -1.0
    groups: list[tuple[float, list[float]]] = []
    for energy, state in zip(sign * energies, states, strict=True):
        groups.append((float(energy), [float(state)]))
        while len(groups) > 1 and groups[-1][0] <= groups[-2][0]:
            (e0, first), (e1, second) = groups[-2:]
            both = first + second
            groups[-2:] = [((e0 * len(first) + e1 * len(second)) / len(both), both)]
    means, spreads = (np.array([f(g) for _, g in groups]) for f in (np.mean, np.std))
    return sign * np.array([energy for energy, _ in groups]), means, spreads
