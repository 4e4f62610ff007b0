"""One offset between the energy axis of a scan and that of its references, common to all pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_fitting.references import ReferenceSeries

from ._series_basis import SeriesBasis, compile_series
from ._series_fit import fit_whole_stack
from ._strong_pixels import strong_pixels

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

#: What a calibration on a foil leaves open (eV): offsets above it are warned of.
ALLOWED_EV = 0.1
#: Offsets are searched to this distance (eV).
FARTHEST_EV = 3.0
# Known to no better than this (eV), an offset is not told.
_WIDEST_EV = 0.12
_COARSE_EV = 0.5
_FINE_EV = 0.1
_GROUPS = 4
# A series of which a shift of the axis is, but for this part of it, one more state tells nothing of the axis.
_LEAST_APART = 0.15
# Functions that are smaller than this part of the jump over all offsets are left out of the joint basis.
_SMALLEST = 3e-5
_OFFSET_STEP_EV = 0.25


@dataclass(frozen=True, slots=True)
class AxisOffset:
    """Offset of the scan's axis: its energies minus those of the references for the same feature.

    Attributes
    ----------
    offset_ev, sigma_ev : float
        Offset and its standard deviation; NaN where it cannot be told.
    soc_bias : float
        How much higher the states read on the axis as it is than with the offset taken out (median).
    soc_per_ev : float
        How much higher the states read per eV of offset.
    reason : str
        Why it cannot be told; empty otherwise, and while there are too few frames.
    """

    offset_ev: float = np.nan
    sigma_ev: float = np.nan
    soc_bias: float = np.nan
    soc_per_ev: float = np.nan
    reason: str = ""


def on_reference_axis(series: ReferenceSeries, energy_ev: Array, offset_ev: float) -> Array:
    """Take an offset from energies; those that the references covered stay covered."""
    low, high = series.energy_ev[0], series.energy_ev[-1]
    moved = energy_ev - offset_ev
    covered = (energy_ev >= low - 1.0) & (energy_ev <= high + 1.0)
    return np.where(covered, np.clip(moved, low - 1.0, high + 1.0), moved)


def why_uninformative(series: ReferenceSeries) -> str:
    """Say why a series cannot tell an offset of the axis from a state; empty if it can."""
    if series.states.size < 3:
        return "two references leave open whether the axis is off or the states between are no mixture of the two"
    energies, middle = series.energy_ev, 0.5 * (series.soc[0] + series.soc[-1])
    step = 0.02 * (series.soc[-1] - series.soc[0])
    spectra = series.evaluate(energies, [middle - step, middle, middle + step])
    shifted = np.gradient(spectra[1], energies)
    known = np.stack([np.ones_like(energies), energies - energies.mean(), spectra[1]], axis=1)

    def beyond(spectrum: Array, design: Array) -> Array:
        return np.asarray(spectrum - design @ np.linalg.lstsq(design, spectrum, rcond=None)[0])

    alone = beyond(shifted, known)
    apart = beyond(shifted, np.column_stack([known, spectra[2] - spectra[0]]))
    if np.linalg.norm(apart) < _LEAST_APART * np.linalg.norm(alone):
        return "the references differ by little else than a shift, as an axis that is off would"
    return ""


def estimate_offset(basis: SeriesBasis, energy_ev: Array, stack: Frame, weight: Array) -> AxisOffset:
    """Find the offset by maximum likelihood over some pixels, each with a state, jump and noise of its own.

    Parameters
    ----------
    basis : SeriesBasis
        The references.
    energy_ev, weight : ndarray, shape (n_frames,)
        Energies and weights.
    stack : ndarray of float32, shape (n_frames, n_pixels)
        Optical depth of a sample of the pixels.

    Returns
    -------
    AxisOffset
    """
    series = basis.series
    if series.coordinate != "soc":
        return AxisOffset()
    reason = why_uninformative(series)
    if reason:
        return AxisOffset(reason=reason)
    complete = np.ascontiguousarray(stack[:, np.isfinite(stack).all(axis=0)])

    def fit(offset_ev: float, pixels: Frame) -> tuple[Frame, NDArray[np.uint8]] | None:
        moved = on_reference_axis(series, energy_ev, offset_ev)
        return fit_whole_stack(basis.at(moved), pixels, weight, basis)

    first = fit(0.0, complete) if complete.shape[1] else None
    if first is None:
        return AxisOffset()
    jump = first[0][4]
    strong = strong_pixels(jump, np.isfinite(jump))
    if not strong.size:
        return AxisOffset()
    pixels = np.ascontiguousarray(complete[:, strong])
    seen: dict[float, tuple[Array, Array]] = {}

    def misfit(offset_ev: float) -> tuple[Array, Array]:
        if offset_ev not in seen:
            fitted = fit(offset_ev, pixels)
            assert fitted is not None
            noise = np.maximum(fitted[0][6].astype(np.float64), 1e-7)
            # Likelihood of a pixel whose noise is not known.
            seen[offset_ev] = (energy_ev.size * np.log(noise), fitted[0][0].astype(np.float64))
        return seen[offset_ev]

    return _search(misfit, strong.size)


def _search(misfit: Callable[[float], tuple[Array, Array]], n_pixels: int) -> AxisOffset:
    def total(offset_ev: float) -> float:
        return float(np.sum(misfit(offset_ev)[0]))

    best = _vertex([total(step) for step in (-_FINE_EV, 0.0, _FINE_EV)], 0.0, _FINE_EV)
    if not abs(best) < 1.5 * _FINE_EV:
        coarse = np.arange(-FARTHEST_EV, FARTHEST_EV + 0.1, _COARSE_EV)
        costs = [total(float(offset)) for offset in coarse]
        k = int(np.argmin(costs))
        if k in (0, coarse.size - 1):
            return AxisOffset()
        best = _vertex(costs[k - 1 : k + 2], float(coarse[k]), _COARSE_EV)
    for _ in range(3):
        at = [best - _FINE_EV, best, best + _FINE_EV]
        costs = [total(offset) for offset in at]
        moved = _vertex(costs, best, _FINE_EV)
        if not np.isfinite(moved):
            return AxisOffset()
        done = abs(moved - best) < 0.01
        best = float(np.clip(moved, best - _COARSE_EV, best + _COARSE_EV))
        if done:
            break
    curvature = (costs[0] - 2.0 * costs[1] + costs[2]) / _FINE_EV**2
    parts = [
        _vertex([float(misfit(offset)[0][g::_GROUPS].sum()) for offset in at], at[1], _FINE_EV)
        for g in range(min(_GROUPS, n_pixels))
    ]
    sigma = max(1.0 / np.sqrt(curvature), float(np.std(parts, ddof=1)) / np.sqrt(len(parts)))
    if not sigma < _WIDEST_EV:
        return AxisOffset()
    bias = _difference(misfit(0.0)[1], misfit(at[1])[1])
    per_ev = _difference(misfit(at[0])[1], misfit(at[2])[1]) / (2.0 * _FINE_EV)
    return AxisOffset(best, float(sigma), bias, per_ev)


def _difference(states: Array, others: Array) -> float:
    both = np.isfinite(states) & np.isfinite(others)
    return float(np.median((states - others)[both])) if both.any() else np.nan


def _vertex(costs: list[float], centre: float, step: float) -> float:
    bend = costs[0] - 2.0 * costs[1] + costs[2]
    return centre + 0.5 * step * (costs[0] - costs[2]) / bend if bend > 0 else np.nan


class JointBasis:
    """Functions that hold the series at any offset of its axis, for sums that are fitted once the offset is known.

    Parameters
    ----------
    series : ReferenceSeries
        References.
    """

    def __init__(self, series: ReferenceSeries) -> None:
        self.plain = compile_series(series)
        self._offsets = np.arange(-FARTHEST_EV, FARTHEST_EV + 0.01, _OFFSET_STEP_EV)
        self._grid = np.unique(
            np.concatenate([series.energy_ev, 0.5 * (series.energy_ev[1:] + series.energy_ev[:-1])])
        )
        functions = self._at_offsets(self._grid)
        left, strength, _ = np.linalg.svd(functions, full_matrices=False)
        keep = strength > _SMALLEST * strength[0]
        self._rule = (left[:, keep] / strength[keep]).T
        self._held = self._rule @ functions

    @property
    def n_functions(self) -> int:
        """Basis functions: line, and what holds the series."""
        return 2 + int(self._rule.shape[0])

    def at(self, energy_ev: Array) -> Array:
        """Basis functions at some energies, shape (n_energy, n_functions)."""
        self.plain.series.check_covers(energy_ev)
        line = self.plain.at(energy_ev)[:, :2]
        return np.ascontiguousarray(
            np.concatenate([line, (self._rule @ self._at_offsets(energy_ev)).T], axis=1)
        )

    def moved(self, offset_ev: float) -> SeriesBasis:
        """Return the series at an offset, written in these functions."""
        wanted = self._scaled(self._grid, offset_ev)
        change = np.linalg.lstsq(self._held.T, wanted.T, rcond=None)[0]
        scale = self._scales()
        return replace(
            self.plain,
            curve=np.ascontiguousarray((self.plain.curve / scale) @ change.T),
            tangent=np.ascontiguousarray((self.plain.tangent / scale) @ change.T),
        )

    def _scales(self) -> Array:
        """How large each mode is met in the spectra."""
        held: Array = np.r_[1.0, np.abs(self.plain.curve[:, 1:]).max(axis=0)]
        return held

    def _scaled(self, energy_ev: Array, offset_ev: float) -> Array:
        series = self.plain.series
        moved = on_reference_axis(series, energy_ev, offset_ev)
        return np.asarray(series.basis(moved, self.plain.n_modes) * self._scales()[:, None])

    def _at_offsets(self, energy_ev: Array) -> Array:
        """All functions at all offsets, shape (n_offsets * (1 + n_modes), n_energy)."""
        series = self.plain.series
        moved = [on_reference_axis(series, energy_ev, float(offset)) for offset in self._offsets]
        functions = series.basis(np.concatenate(moved), self.plain.n_modes) * self._scales()[:, None]
        n_functions = functions.shape[0]
        apart = functions.reshape(n_functions, self._offsets.size, energy_ev.size)
        return np.asarray(np.swapaxes(apart, 0, 1).reshape(-1, energy_ev.size))
