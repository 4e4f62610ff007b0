"""Several sweeps of the energy axis across one edge, put on one axis and added up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from edge_fitting.base import Edge, noise_of_differences, resolve_edge
from edge_fitting.errors import EdgeFittingError
from edge_fitting.references import FoilCalibration, calibrate_foil

Array = NDArray[np.float64]
AxisSource = Literal["foil", "spectrum", "readback"]

# A foil further off is more likely another metal, or another edge, than a lost axis.
_MOST_OFF_EV = 15.0
# Sweeps without a foil are moved onto one another by their own spectrum within so much.
_SEARCH_EV = 8.0
_SEARCH_STEP_EV = 0.5
_NEAR_EV = (-40.0, 80.0)
_FEWEST = 8
# A sweep this many times worse than the others, and by this part of the step, is no repeat of them.
_OUTLYING = 4.0
_OUTLYING_STEP = 0.01
# What a cubic between two points keeps of the variance of the points, at most so much less.
_SMOOTHED = 1.1


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """One sweep of the energy axis.

    Parameters
    ----------
    energy_ev : ndarray, shape (n,)
        Increasing energies as read back, eV.
    mu : ndarray, shape (n,)
        Absorption of the sample; NaN where there is none.
    foil_mu : ndarray, shape (n,), optional
        Absorption of the reference foil in the same points.
    """

    energy_ev: Array
    mu: Array
    foil_mu: Array | None = None


@dataclass(frozen=True, slots=True)
class SweepAxis:
    """What puts the energies of a sweep right.

    Parameters
    ----------
    offset_ev : float
        What to add to them.
    sigma_ev : float
        Standard deviation of it that differs from sweep to sweep.
    common_sigma_ev : float
        The part that all sweeps of the same steps share.
    source : {"foil", "spectrum", "readback"}
        The foil of the same sweep; the spectrum of the sample against that of another sweep;
        or nothing.
    reason : str
        Why it is not the foil; empty where it is.
    calibration : FoilCalibration, optional
        Of the foil.
    """

    offset_ev: float = 0.0
    sigma_ev: float = 0.0
    common_sigma_ev: float = 0.0
    source: AxisSource = "readback"
    reason: str = ""
    calibration: FoilCalibration | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MergedSweeps:
    """One spectrum of several sweeps.

    Parameters
    ----------
    energy_ev : ndarray, shape (n,)
        Energies on the calibrated axis: those of the first whole sweep.
    mu, sigma : ndarray, shape (n,)
        Absorption weighted by the noise of the sweeps, and its standard deviation from that noise.
    foil_mu : ndarray, shape (n,), or None
        The same of the foil.
    n_sweeps : ndarray of int64, shape (n,)
        Sweeps that have a value there.
    axes : tuple of SweepAxis
        Of each sweep.
    noise : ndarray, shape (n_sweeps,)
        Standard deviation of one point of each sweep.
    deviation : ndarray, shape (n_sweeps,)
        Root mean square of each sweep minus the others, relative to the noise of both; NaN for a single one.
    used : ndarray of bool, shape (n_sweeps,)
        Whether a sweep is in the merge.
    axis_sigma_ev : float
        Standard deviation of the merged axis.
    warnings : tuple of str
        Sweeps that are left out or aligned otherwise, one sentence each.
    """

    energy_ev: Array
    mu: Array
    sigma: Array
    foil_mu: Array | None
    n_sweeps: NDArray[np.int64]
    axes: tuple[SweepAxis, ...]
    noise: Array
    deviation: Array
    used: NDArray[np.bool_]
    axis_sigma_ev: float
    warnings: tuple[str, ...] = field(default=())


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
    found, said = _aligned(whole, found, first, which)
    moved = [sweep.energy_ev + axis.offset_ev for sweep, axis in zip(whole, found, strict=True)]
    grid = moved[first]
    noise = np.array([_noise(sweep) for sweep in whole])
    values, spread = _on_grid(whole, moved, grid, lambda sweep: sweep.mu)
    base = values[first].copy()
    for row in values:
        row -= _line(grid, row - base)
    used = np.array([np.isfinite(row).sum() >= min(_FEWEST, grid.size) for row in values])
    step = float(np.ptp(np.quantile(whole[first].mu, (0.05, 0.95))))
    used, deviation, named = _outliers(values, noise, used, step)
    if not used.any():
        used[first] = True
    variance = np.where(noise > 0, noise, np.max(noise) if np.max(noise) > 0 else 1.0)[:, None] ** 2 * spread
    mu, sigma, count = _mean(values, variance, used)
    has_value = count > 0
    foil = None
    if any(sweep.foil_mu is not None for sweep in whole):
        foils, _ = _on_grid(whole, moved, grid, lambda sweep: sweep.foil_mu)
        foil = _mean(foils, variance, used)[0][has_value]
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
        sweep.energy_ev[good], sweep.mu[good], None if sweep.foil_mu is None else sweep.foil_mu[good]
    )


def _noise(sweep: Sweep) -> float:
    """Return the standard deviation of a point; 0 where it cannot be told."""
    variance, _ = noise_of_differences(
        sweep.energy_ev, np.ones(sweep.mu.size), np.asarray(sweep.mu[:, None], np.float32)
    )
    return 0.0 if variance is None else float(np.sqrt(variance[0]))


def _aligned(
    sweeps: Sequence[Sweep], axes: list[SweepAxis], first: int, edge: Edge
) -> tuple[list[SweepAxis], tuple[str, ...]]:
    """Give the sweeps without a foil of their own an axis from the others; say so."""
    by_foil = [number for number, axis in enumerate(axes) if axis.source == "foil"]
    lacking = [number for number, axis in enumerate(axes) if axis.source != "foil"]
    anchor = by_foil[0] if by_foil else first
    done = _foils_matched(sweeps, axes, by_foil, edge)
    for number in lacking:
        if number == anchor:
            continue
        shift = _shift_onto(_spectrum(sweeps[anchor]), _spectrum(sweeps[number]), edge)
        if shift is None:
            near = min(by_foil, key=lambda k: abs(k - number), default=anchor)
            done[number] = SweepAxis(done[near].offset_ev, 0.0, 0.0, "readback", axes[number].reason)
        else:
            base = done[anchor]
            done[number] = SweepAxis(
                base.offset_ev + shift[0], shift[1], base.common_sigma_ev, "spectrum", axes[number].reason
            )
    reasons = dict.fromkeys(axes[number].reason for number in lacking)
    said = []
    for reason in reasons:
        of = [str(number + 1) for number in lacking if axes[number].reason == reason]
        which = "every sweep" if len(of) == len(sweeps) > 1 else f"sweep {', '.join(of)}"
        how = (
            "the energy axis is the readback, not calibrated"
            if not by_foil
            else "aligned by the spectrum of the sample"
        )
        said.append(f"{which}: {reason}: {how}")
    return done, tuple(said)


def _foils_matched(
    sweeps: Sequence[Sweep], axes: Sequence[SweepAxis], by_foil: Sequence[int], edge: Edge
) -> list[SweepAxis]:
    """Let the whole curve of each foil say how the sweeps lie to one another, and all inflections where they lie.

    The inflection of one sweep depends on where its points fall on the rise; the curve does not.
    """
    done = list(axes)
    if len(by_foil) < 2:
        return done
    first = _spectrum(sweeps[by_foil[0]], foil=True)
    matched = {by_foil[0]: (0.0, 0.0)}
    for number in by_foil[1:]:
        shift = _shift_onto(first, _spectrum(sweeps[number], foil=True), edge)
        if shift is not None:
            matched[number] = shift
    away = np.array([axes[number].offset_ev - by_curve for number, (by_curve, _) in matched.items()])
    centre = float(np.median(away)) if away.size > 2 else float(away.mean())
    # What the inflections scatter by is what each is uncertain by, or what they say themselves where that is more.
    scatter = float(np.std(away, ddof=1)) if away.size > 1 else 0.0
    stated = float(np.median([axes[number].sigma_ev for number in matched]))
    common = float(
        np.hypot(
            max(scatter, stated) / np.sqrt(away.size),
            np.median([axes[number].common_sigma_ev for number in matched]),
        )
    )
    for number, (by_curve, sigma) in matched.items():
        done[number] = replace(
            axes[number], offset_ev=centre + by_curve, sigma_ev=sigma, common_sigma_ev=common
        )
    return done


def _spectrum(sweep: Sweep, *, foil: bool = False) -> tuple[Array, Array]:
    """Points of the sample, or of the foil, that can be used."""
    values = sweep.foil_mu if foil and sweep.foil_mu is not None else sweep.mu
    good = np.isfinite(values)
    return sweep.energy_ev[good], values[good]


def _shift_onto(
    reference: tuple[Array, Array], sweep: tuple[Array, Array], edge: Edge
) -> tuple[float, float] | None:
    """Find what to add to the energies of a spectrum so that it is that of another sweep, and its sigma."""
    x, y = sweep
    if reference[0].size < _FEWEST:
        return None
    curve = CubicSpline(*reference)
    low, high = reference[0][0] + _SEARCH_EV, reference[0][-1] - _SEARCH_EV
    near = (x > max(edge.energy_ev + _NEAR_EV[0], low)) & (x < min(edge.energy_ev + _NEAR_EV[1], high))
    x, y = x[near], y[near]
    if x.size < 2 * _FEWEST:
        return None
    line = np.stack([np.ones_like(x), (x - x.mean()) / 100.0], axis=1)

    def residual(shift: float) -> float:
        design = np.column_stack([line, curve(x + shift)])
        return float(np.sum((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2))

    tried = np.arange(-_SEARCH_EV, _SEARCH_EV + _SEARCH_STEP_EV / 2, _SEARCH_STEP_EV)
    best = float(tried[int(np.argmin([residual(value) for value in tried]))])
    sigma = float("inf")
    for _ in range(8):
        design = np.column_stack([line, curve(x + best), curve(x + best, 1)])
        found, *_ = np.linalg.lstsq(design, y, rcond=None)
        if not found[2] > 0:
            return None
        step = float(np.clip(found[3] / found[2], -_SEARCH_STEP_EV, _SEARCH_STEP_EV))
        variance = float(np.sum((y - design @ found) ** 2)) / max(x.size - 5, 1)
        sigma = float(np.sqrt(variance * np.linalg.pinv(design.T @ design)[3, 3]) / found[2])
        best += step
        if abs(step) < 1e-4:
            break
    return (best, sigma) if abs(best) < _SEARCH_EV and sigma < 1.0 else None


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
    if good.sum() < _FEWEST:
        return np.zeros_like(grid)
    x = (grid - grid.mean()) / max(float(np.ptp(grid)), 1.0)
    order = 1 if np.ptp(x[good]) > 0.7 else 0
    return np.asarray(np.polyval(np.polyfit(x[good], difference[good], order), x))


def _outliers(
    values: Array, noise: Array, used: NDArray[np.bool_], step: float
) -> tuple[NDArray[np.bool_], Array, tuple[str, ...]]:
    """Leave out the sweeps that differ from the others, the worst first; their deviations; what to say."""
    used, n = used.copy(), len(values)
    deviation = np.full(n, np.nan)
    named: list[str] = []
    if used.sum() < 2:
        return used, deviation, ()
    while True:
        size = np.full(n, np.nan)
        for row in range(n):
            others = used.copy()
            others[row] = False
            if not others.any():
                continue
            rest = _middle(values[others])
            both = np.isfinite(values[row]) & np.isfinite(rest)
            if both.sum() < _FEWEST:
                continue
            x = np.arange(values.shape[1], dtype=np.float64)
            apart = (values[row] - rest)[both]
            apart -= np.polyval(np.polyfit(x[both], apart, 1), x[both])
            size[row] = float(np.sqrt(np.mean(apart**2)))
            expected = np.sqrt(noise[row] ** 2 + np.median(noise[others]) ** 2 / others.sum())
            deviation[row] = size[row] / expected if expected > 0 else np.nan
        among = used & np.isfinite(size)
        if among.sum() < 2:
            break
        worst = int(np.nanargmax(np.where(among, size, -np.inf)))
        usual = float(np.median(size[among]))
        stands_out = size[worst] > max(_OUTLYING * usual, _OUTLYING_STEP * step)
        if among.sum() == 2:
            if size[worst] > 2.0 * _OUTLYING_STEP * step and deviation[worst] > _OUTLYING:
                named.append(
                    f"two sweeps differ by {size[worst] / step:.1%} of the step, {deviation[worst]:.0f} times "
                    "their noise: take a third to tell which is off"
                )
            break
        if not stands_out:
            break
        used[worst] = False
        named.append(
            f"sweep {worst + 1} differs from the others by {size[worst] / step:.1%} of the step, "
            f"{size[worst] / usual:.0f} times as much as they do: it is left out"
        )
    return used, deviation, tuple(named)


def _middle(rows: Array) -> Array:
    """Median of the rows where they have values."""
    some = np.isfinite(rows).any(axis=0)
    middle = np.full(rows.shape[1], np.nan)
    middle[some] = np.nanmedian(rows[:, some], axis=0)
    return middle


def _mean(values: Array, variance: Array, used: NDArray[np.bool_]) -> tuple[Array, Array, NDArray[np.int64]]:
    """Mean weighted by the inverse variance, its standard deviation, and how many values there are."""
    good = np.isfinite(values) & used[:, None]
    weight = np.where(good, 1.0 / variance, 0.0)
    total = weight.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(good, values * weight, 0.0).sum(axis=0) / total
        sigma = 1.0 / np.sqrt(total)
    return mean, sigma, good.sum(axis=0)
