"""Several sweeps of the energy axis across one edge, put on one axis and added up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from edge_fitting.base import Edge, noise_of_differences, resolve_edge
from edge_fitting.errors import EdgeFittingError
from edge_fitting.references import calibrate_foil

from ._sweep_alignment import align_sweeps
from ._sweep_records import FEWEST, MergedSweeps, Sweep, SweepAxis
from ._sweep_statistics import find_outliers, weighted_mean

Array = NDArray[np.float64]

# A foil further off is more likely another metal, or another edge, than a lost axis.
_MOST_OFF_EV = 15.0
# What a cubic between two points keeps of the variance of the points, at most so much less.
_SMOOTHED = 1.1


def foil_axis(sweep: Sweep, edge: str | Edge) -> SweepAxis:
    """Find what puts a sweep on the first inflection of its own foil.

    Parameters
    ----------
    sweep : Sweep
        With a foil, or the reason says that there is none.
    edge : str or Edge
        Edge of the foil's metal.

    Returns
    -------
    SweepAxis
        From "foil", or from "readback" with the reason.
    """
    which = resolve_edge(edge)
    if sweep.foil_mu is None:
        return SweepAxis(reason="no foil was measured")
    good = np.isfinite(sweep.foil_mu)
    if not good.any():
        return SweepAxis(reason="no point of the foil can be used")
    energies, foil = sweep.energy_ev[good], sweep.foil_mu[good]
    if energies[-1] < which.foil_inflection_ev:
        return SweepAxis(reason=f"the sweep ends at {energies[-1]:.1f} eV, below the edge of the foil")
    try:
        found = calibrate_foil(energies, foil, edge=which)
    except EdgeFittingError as error:
        return SweepAxis(reason=str(error).rstrip("."))
    if abs(found.offset_ev) > _MOST_OFF_EV:
        return SweepAxis(
            reason=f"its first inflection at {found.measured_ev:.2f} eV is {-found.offset_ev:+.1f} eV off the "
            f"convention of {which.element}, which is more likely another foil than a lost axis"
        )
    # What smoothing does to a lopsided rise is the same in all sweeps of the same steps.
    smoothing_ev = found.smoothing_ev if np.isfinite(found.smoothing_ev) else 0.0
    shared = float(np.sqrt(max(found.sigma_ev**2 - found.noise_sigma_ev**2, 0.0) + smoothing_ev**2))
    return SweepAxis(found.offset_ev, found.noise_sigma_ev, shared, "foil", calibration=found)


def merge_sweeps(
    sweeps: Sequence[Sweep], *, edge: str | Edge, axes: Sequence[SweepAxis] | None = None
) -> MergedSweeps:
    """Put sweeps on one axis and add them up, weighted by their noise.

    Each sweep is moved by its own foil: the whole curves of the foils say how the sweeps lie to one another, and the
    first inflections of all of them where they lie. Where a sweep has none that can be used, its spectrum
    is moved onto that of the first one. Sweeps may differ by a straight line, which is taken out; one that differs
    from the others by more than that and their noise is left out and named.

    Parameters
    ----------
    sweeps : sequence of Sweep
        One or more.
    edge : str or Edge
        The edge.
    axes : sequence of SweepAxis, optional
        What `foil_axis` found for each, where that is known already.

    Returns
    -------
    MergedSweeps

    Raises
    ------
    EdgeFittingError
        Without a sweep that has points.
    """
    which = resolve_edge(edge)
    whole = [_finite(sweep) for sweep in sweeps]
    if not whole or max(sweep.energy_ev.size for sweep in whole) < 2:
        raise EdgeFittingError("no sweep has two points that can be used.")
    found = list(axes) if axes is not None else [foil_axis(sweep, which) for sweep in sweeps]
    if len(found) != len(whole):
        raise EdgeFittingError(f"there are {len(whole)} sweeps but {len(found)} axes.")
    first = int(np.argmax([sweep.energy_ev.size for sweep in whole]))
    found, said = align_sweeps(whole, found, first, which)
    moved = [sweep.energy_ev + axis.offset_ev for sweep, axis in zip(whole, found, strict=True)]
    grid = moved[first]
    noise = np.array([_noise(sweep) for sweep in whole])
    values, spread = _on_grid(whole, moved, grid, lambda sweep: sweep.mu)
    base = values[first].copy()
    for row in values:
        row -= _line(grid, row - base)
    for row, (sweep, energies) in enumerate(zip(whole, moved, strict=True)):
        if sweep.exposure_s is not None:
            spread[row] /= np.interp(grid, energies, _weights(sweep))
    used = np.array([np.isfinite(row).sum() >= min(FEWEST, grid.size) for row in values])
    step = float(np.ptp(np.quantile(whole[first].mu, (0.05, 0.95))))
    used, deviation, named = find_outliers(values, noise, used, step)
    if not used.any():
        used[first] = True
    variance = np.where(noise > 0, noise, np.max(noise) if np.max(noise) > 0 else 1.0)[:, None] ** 2 * spread
    mu, sigma, count = weighted_mean(values, variance, used)
    has_value = count > 0
    foil = None
    if any(sweep.foil_mu is not None for sweep in whole):
        foils, _ = _on_grid(whole, moved, grid, lambda sweep: sweep.foil_mu)
        foil = weighted_mean(foils, variance, used)[0][has_value]
    by_foil = [axis for axis, use in zip(found, used, strict=True) if use]
    axis_sigma = float(
        np.hypot(
            np.sqrt(np.sum([axis.sigma_ev**2 for axis in by_foil])) / len(by_foil),
            np.median([axis.common_sigma_ev for axis in by_foil]),
        )
    )
    if not (noise > 0).any():
        sigma = np.zeros_like(sigma)
    return MergedSweeps(
        energy_ev=grid[has_value],
        mu=mu[has_value],
        sigma=sigma[has_value],
        foil_mu=foil,
        n_sweeps=count[has_value],
        axes=tuple(found),
        noise=noise,
        deviation=deviation,
        used=used,
        axis_sigma_ev=axis_sigma,
        warnings=(*said, *named),
    )


def _finite(sweep: Sweep) -> Sweep:
    good = np.isfinite(sweep.mu)
    return Sweep(
        sweep.energy_ev[good],
        sweep.mu[good],
        None if sweep.foil_mu is None else sweep.foil_mu[good],
        None if sweep.exposure_s is None else sweep.exposure_s[good],
    )


def _weights(sweep: Sweep) -> Array:
    """Return the counting time of each point relative to the middling one."""
    if sweep.exposure_s is None:
        return np.ones(sweep.mu.size)
    return sweep.exposure_s / float(np.median(sweep.exposure_s))


def _noise(sweep: Sweep) -> float:
    """Return the standard deviation of a point; 0 where it cannot be told."""
    variance, _ = noise_of_differences(
        sweep.energy_ev, _weights(sweep), np.asarray(sweep.mu[:, None], np.float32)
    )
    return 0.0 if variance is None else float(np.sqrt(variance[0]))


def _on_grid(
    sweeps: Sequence[Sweep], moved: Sequence[Array], grid: Array, of: Callable[[Sweep], Array | None]
) -> tuple[Array, Array]:
    """Values of the sweeps on the grid, NaN where they do not reach, and what is left there of their variance."""
    values, spread = np.full((len(sweeps), grid.size), np.nan), np.ones((len(sweeps), grid.size))
    for row, (sweep, energies) in enumerate(zip(sweeps, moved, strict=True)):
        y = of(sweep)
        if y is None:
            continue
        good = np.isfinite(y)
        x, y = energies[good], y[good]
        if x.size == grid.size and np.allclose(x, grid, rtol=0.0, atol=1e-9):
            values[row] = y
            continue
        if x.size < 4:
            continue
        inside = (grid >= x[0] - 1e-6) & (grid <= x[-1] + 1e-6)
        at = np.clip(np.searchsorted(x, grid) - 1, 0, x.size - 2)
        gap = x[at + 1] - x[at]
        # Where points are missing, nothing is drawn across the gap.
        inside &= gap <= 2.5 * np.maximum(np.gradient(grid), 1e-3)
        values[row, inside] = CubicSpline(x, y)(grid[inside])
        part = np.clip((grid - x[at]) / gap, 0.0, 1.0)
        spread[row] = 1.0 - _SMOOTHED * part * (1.0 - part)
    return values, spread


def _line(grid: Array, difference: Array) -> Array:
    """Straight line through a difference between two sweeps; a constant where they share little."""
    good = np.isfinite(difference)
    if good.sum() < FEWEST:
        return np.zeros_like(grid)
    x = (grid - grid.mean()) / max(float(np.ptp(grid)), 1.0)
    order = 1 if np.ptp(x[good]) > 0.7 else 0
    return np.asarray(np.polyval(np.polyfit(x[good], difference[good], order), x))
