"""What one yield says of a soft edge: L3 low and high, gamma, branching ratio, area below the edge, saturation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from edge_fitting.base import noise_of_differences
from edge_fitting.errors import EdgeFittingError

from ._components import Component, ComponentFit, fit_components, unsaturated
from ._continuum import NormalizedYield, normalize_yield
from ._lines import FittedLines, fit_lines
from ._soft_edges import SoftEdge, soft_edge

__all__ = ["SATURATION", "Number", "SoftYieldFit", "clipped", "describe_yield"]

Array = NDArray[np.float64]

#: Absorption of the edge step of a layered oxide over the depth of each yield: what is assumed where it is not said.
#: Step of nickel in NMC622 1.1e4 /cm at normal incidence; 7.5 nm, and 75 nm in which what fluoresces is attenuated.
SATURATION = {"tey": 0.008, "fy": 0.08}
# A white line this many times its noise is there.
_DETECTION = 5.0
_REACH_EV = 0.75
_CLIPPED = 4
_HIGHEST_ABOVE = 1e-9


@dataclass(frozen=True, slots=True)
class Number:
    """A value with its standard deviation by noise, and what adds to that; NaN where it cannot be told."""

    value: float = float("nan")
    sigma: float = float("nan")
    systematic: float = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class SoftYieldFit:
    """What one yield says.

    Attributes
    ----------
    energy_ev, normalized, normalized_sigma : ndarray, shape (n,)
        Energies of the edge, yield normalised to 0 below and 1 above it, and the standard deviation of each point.
    curve : ndarray, shape (n,)
        Fit of the lines, or of the components of an edge that has none, normalised alike; NaN where there is none.
    step : Number
        Edge step in the unit of the yield.
    has_white_line : bool
        Whether the white line stands out of the noise.
    low_ev, high_ev : Number
        Places of L3 low and L3 high.
    gamma : Number
        I(L3 high)/I(L3 low) by the fit of the lines, above the continuum.
    gamma_window : Number
        The same by the maxima in two windows.
    branching_ratio : Number
        Area of L3 over that of L3 and L2.
    pre_edge_area : Number
        Of oxygen: area of the transitions below the main edge, eV.
    components : ComponentFit or None
        Linear combination.
    saturation : Number
        Absorption of the edge step over the depth of the yield.
    saturation_from : str
        "fitted", "given" or "assumed".
    gamma_shift : float
        What that saturation does to gamma: as measured minus as absorbed.
    warnings : tuple of str
        What cannot be told and why, one sentence each.
    """

    energy_ev: Array
    normalized: Array
    normalized_sigma: Array
    curve: Array
    step: Number
    has_white_line: bool
    low_ev: Number = Number()
    high_ev: Number = Number()
    gamma: Number = Number()
    gamma_window: Number = Number()
    branching_ratio: Number = Number()
    pre_edge_area: Number = Number()
    components: ComponentFit | None = None
    saturation: Number = Number()
    saturation_from: str = "assumed"
    gamma_shift: float = float("nan")
    warnings: tuple[str, ...] = field(default=())


def describe_yield(
    energy_ev: ArrayLike,
    values: ArrayLike,
    *,
    edge: str | SoftEdge,
    channel: str = "tey",
    components: Sequence[Component] = (),
    saturation: float | None = None,
) -> SoftYieldFit:
    """Normalise a yield of a soft edge and say what it tells.

    What cannot be told is NaN, with a warning; the rest is given.

    Parameters
    ----------
    energy_ev, values : array_like, shape (n,)
        Increasing energies, and the yield divided by the incident intensity.
    edge : str or SoftEdge
        The edge; L3 stands for L3 and L2.
    channel : {"tey", "fy"}
        Which yield, for what is assumed of its saturation.
    components : sequence of Component
        Normalised spectra of known states.
    saturation : float, optional
        Absorption of the edge step over the depth of the yield where it is known.

    Returns
    -------
    SoftYieldFit

    Raises
    ------
    EdgeFittingError
        An edge that is not known, or fewer than two points.
    """
    which = soft_edge(edge)
    x, y = np.asarray(energy_ev, np.float64), np.asarray(values, np.float64)
    if x.ndim != 1 or x.shape != y.shape or x.size < 2:
        raise EdgeFittingError("a yield needs two points or more, with one value for each energy.")
    said: list[str] = []
    x, y = _unclipped(x, y, channel, said)
    if x[-1] < which.white_line_ev[0]:
        said.append(f"the scan ends at {x[-1]:.1f} eV, below the {which.name} edge: it holds no white line")
    norm = normalize_yield(x, y, which)
    said += norm.warnings
    x, y = norm.energy_ev, y[norm.kept]
    scale = norm.step if np.isfinite(norm.step) else 1.0
    noise = _noise(x, y)
    has_line = _has_white_line(x, y, norm, noise, which)
    fit: FittedLines | None = None
    result: dict[str, object] = {}
    curve, sigma = np.full(x.size, np.nan), np.full(x.size, noise)
    if not has_line:
        said.append(f"no white line of {which.name} stands out of the noise")
    elif which.l2_ev is not None:
        fit = fit_lines(x, y, which, has_l2=norm.has_l2, has_line=norm.has_pre_edge)
        if fit is None:
            said.append("the two lines of L3 cannot be fitted: too few points, or no two lines")
        else:
            sigma = fit.sigma
            curve = _normalized_like(fit.curve, y, norm)
            result |= {
                "gamma": Number(fit.ratio, fit.ratio_sigma, fit.ratio_systematic),
                "low_ev": Number(float(fit.position_ev[0]), float(fit.position_sigma_ev[0])),
                "high_ev": Number(float(fit.position_ev[1]), float(fit.position_sigma_ev[1])),
            }
        result["gamma_window"] = _gamma_window(x, y, norm, sigma, which, fit, said)
        result["branching_ratio"] = _branching(x, norm, sigma / scale, which)
    elif np.isfinite(norm.step):
        result["pre_edge_area"] = _pre_edge_area(x, norm, sigma / scale, which)
    found: ComponentFit | None = None
    if components and has_line:
        try:
            found = fit_components(x, y, sigma, list(components), which, saturation=saturation)
            said += found.warnings
            if fit is None:
                curve = _normalized_like(found.curve, y, norm)
        except EdgeFittingError as error:
            said.append(str(error).rstrip("."))
    how, source = _saturation(channel, saturation, found)
    shift = _gamma_shift(result.get("gamma"), fit, norm, how.value)
    if np.isfinite(shift):
        gamma = result["gamma"]
        assert isinstance(gamma, Number)
        if abs(shift) > max(2.0 * gamma.sigma, 0.02 * gamma.value):
            by = f"by about {shift:+.2f}" if abs(shift) < 0.5 * gamma.value else "by more than half"
            said.append(
                f"saturation moves gamma {by} (an edge step that absorbs {how.value:.3f} over the depth, {source})"
            )
    return SoftYieldFit(
        energy_ev=x,
        normalized=norm.normalized,
        normalized_sigma=sigma / scale if np.isfinite(norm.step) else np.full(x.size, np.nan),
        curve=curve,
        step=Number(norm.step, norm.step_sigma),
        has_white_line=has_line,
        components=found,
        saturation=how,
        saturation_from=source,
        gamma_shift=shift,
        warnings=tuple(dict.fromkeys(said)),
        **result,  # type: ignore[arg-type]
    )


_WORDS = {"tey": "electron yield", "fy": "fluorescence yield"}


def _unclipped(x: Array, y: Array, channel: str, said: list[str]) -> tuple[Array, Array]:
    """Leave out what is not finite, and points where an amplifier or a counter was at its limit."""
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    if y.size < 2:
        raise EdgeFittingError("the yield has fewer than two points that can be used.")
    at_top = clipped(y)
    if at_top.any():
        said.append(
            f"the {_WORDS.get(channel, channel)} is saturated: {int(at_top.sum())} points have its highest value, from "
            f"{x[at_top][0]:.1f} to {x[at_top][-1]:.1f} eV, and are left out"
        )
        x, y = x[~at_top], y[~at_top]
    return x, y


def clipped(values: Array) -> NDArray[np.bool_]:
    """Return which values are those of an amplifier or a counter at its limit: several that are all the highest."""
    finite = values[np.isfinite(values)]
    if finite.size <= _CLIPPED:
        return np.zeros(values.size, np.bool_)
    top = finite.max()
    at_top = values >= top - _HIGHEST_ABOVE * abs(top)
    is_limit = top > np.median(finite) and _CLIPPED <= at_top.sum() < 0.5 * finite.size
    return np.asarray(at_top & is_limit)


def _noise(x: Array, y: Array) -> float:
    """Return the standard deviation of a point by its neighbours."""
    variance, _ = noise_of_differences(x, np.ones_like(x), np.asarray(y[:, None] - y.mean(), np.float32))
    if variance is not None:
        return float(np.sqrt(variance[0]))
    return float(np.std(np.diff(y)) / np.sqrt(2.0)) if y.size > 2 else 0.0


def _has_white_line(x: Array, y: Array, norm: NormalizedYield, noise: float, edge: SoftEdge) -> bool:
    """Whether the white line stands out of the noise, whatever the step."""
    inside = (x >= edge.white_line_ev[0]) & (x <= edge.white_line_ev[1])
    if inside.sum() < 3:
        return False
    below = (x >= edge.pre_edge_ev[0]) & (x <= edge.pre_edge_ev[1])
    line = (
        np.polynomial.Polynomial.fit(x[below], y[below], 1)(x)
        if below.sum() > 3
        else np.full(x.size, y.min())
    )
    values = (y - line)[inside]
    spread = noise * np.sqrt(0.375 + (norm.level_variance[inside] if norm.has_pre_edge else 0.0))
    height = np.convolve(values, (0.25, 0.5, 0.25), mode="same")
    return bool((height > _DETECTION * np.maximum(spread, 1e-12 * np.ptp(y))).any())


def _normalized_like(curve: Array, y: Array, norm: NormalizedYield) -> Array:
    """Bring a fitted yield to the scale of the normalised one."""
    if not np.isfinite(norm.step):
        return np.full(curve.size, np.nan)
    return np.asarray((curve - y) / norm.step + norm.normalized)


def _gamma_window(
    x: Array,
    y: Array,
    norm: NormalizedYield,
    sigma: Array,
    edge: SoftEdge,
    fit: FittedLines | None,
    said: list[str],
) -> Number:
    """Ratio of the maxima in two windows, by polynomials of fourth order, above line and continuum."""
    scale = norm.step if np.isfinite(norm.step) else 1.0
    above = norm.normalized - norm.continuum if np.isfinite(norm.step) else y - np.min(y)
    variance = (sigma / scale) ** 2
    step_part = (norm.step_sigma / norm.step) if np.isfinite(norm.step) else 0.0
    heights, spreads = [], []
    for k, window in enumerate((edge.low_ev, edge.high_ev)):
        inside = np.flatnonzero((x >= window[0]) & (x <= window[1]))
        if inside.size < 4:
            return Number()
        top = x[inside[int(np.argmax(np.convolve(above, (0.25, 0.5, 0.25), mode="same")[inside]))]]
        if min(top - window[0], window[1] - top) < 0.25:
            if fit is None:
                said.append("one of the two maxima of L3 is only a shoulder: no gamma by windows")
                return Number()
            said.append(
                "one of the two maxima of L3 is only a shoulder: gamma by windows takes it where the fit does"
            )
            top = float(fit.position_ev[k])
        near = np.abs(x - top) < max(_REACH_EV, 3.1 * float(np.median(np.diff(x[inside]))))
        if near.sum() < 5:
            return Number()
        # A parabola would cut the top of a narrow line.
        order = 4 if near.sum() > 6 else 2
        rule = np.linalg.pinv(np.vander(x[near] - top, order + 1, increasing=True))
        fine = np.vander(np.linspace(-0.4, 0.4, 41), order + 1, increasing=True)
        weights = fine[int(np.argmax(fine @ (rule @ above[near])))] @ rule
        heights.append(float(weights @ above[near]))
        own = float(weights**2 @ variance[near])
        shared = float(np.mean(norm.level_variance[near])) * float(np.median(variance))
        spreads.append(own + shared + (step_part * float(np.mean(norm.continuum[near]))) ** 2)
    if not (np.array(heights) > 0).all():
        return Number()
    ratio = heights[1] / heights[0]
    relative = np.sqrt(spreads[0] / heights[0] ** 2 + spreads[1] / heights[1] ** 2)
    return Number(float(ratio), float(ratio * relative))


def _branching(x: Array, norm: NormalizedYield, sigma: Array, edge: SoftEdge) -> Number:
    """Area of the lines of L3 over that of L3 and L2."""
    if edge.l2_ev is None or not norm.has_l2 or not np.isfinite(norm.step):
        return Number()
    width = np.gradient(x)
    lines = (norm.normalized - norm.continuum) * width
    first = (x >= edge.white_line_ev[0] - 1.0) & (x < edge.valley_ev)
    second = (x >= edge.valley_ev) & (x <= edge.post_edge_ev[0])
    l3, l2 = float(lines[first].sum()), float(lines[second].sum())
    if not (l3 > 0 and l2 > 0):
        return Number()
    total = l3 + l2
    v3, v2 = (float(((sigma * width) ** 2)[part].sum()) for part in (first, second))
    # The step is common to both.
    by_step = (
        norm.step_sigma
        / norm.step
        * np.array([float((norm.continuum * width)[part].sum()) for part in (first, second)])
    )
    shared = (l2 * by_step[0] - l3 * by_step[1]) / total**2
    return Number(l3 / total, float(np.sqrt((l2**2 * v3 + l3**2 * v2) / total**4 + shared**2)))


def _pre_edge_area(x: Array, norm: NormalizedYield, sigma: Array, edge: SoftEdge) -> Number:
    """Area below the main edge of oxygen, the foot of which is taken off as a Gaussian."""
    inside = (x >= edge.white_line_ev[0]) & (x <= edge.white_line_ev[1])
    rise = (x > edge.valley_ev - 0.4) & (x < edge.valley_ev + 3.2)
    if inside.sum() < 5 or rise.sum() < 4:
        return Number()
    z = norm.normalized
    # ln of the rising flank is a parabola.
    flank = np.clip(z[rise], 1e-3, None)
    found = np.polynomial.Polynomial.fit(x[rise], np.log(flank), 2, w=flank).convert().coef
    foot = np.zeros_like(x)
    if found.size == 3 and found[2] < 0:
        foot = np.exp(np.clip(found[0] + found[1] * x + found[2] * x**2, -50.0, 3.0))
    width = np.gradient(x)
    area = float(((z - foot) * width)[inside].sum())
    level = (
        float(np.sqrt(np.mean(norm.level_variance[inside])))
        * float(np.median(sigma))
        * float(np.ptp(x[inside]))
    )
    by_noise = float(np.sqrt(((sigma * width)[inside] ** 2).sum()))
    by_step = abs(area) * norm.step_sigma / norm.step
    return Number(
        area, float(np.sqrt(by_noise**2 + level**2 + by_step**2)), float((foot * width)[inside].sum())
    )


def _saturation(channel: str, given: float | None, found: ComponentFit | None) -> tuple[Number, str]:
    if given is not None:
        return Number(given, 0.0), "given"
    if found is not None and np.isfinite(found.saturation):
        return Number(found.saturation, found.saturation_sigma), "fitted with the references"
    return Number(SATURATION.get(channel, 0.0)), "assumed for a layered oxide"


def _gamma_shift(gamma: object, fit: FittedLines | None, norm: NormalizedYield, saturation: float) -> float:
    """Gamma as measured minus that of the absorption, by undoing the saturation at the two maxima."""
    if not isinstance(gamma, Number) or fit is None or not np.isfinite(norm.step) or not saturation > 0:
        return float("nan")
    continuum = CubicSpline(norm.energy_ev, norm.continuum)(fit.position_ev)
    absorbed = unsaturated(fit.height / norm.step + continuum, saturation) - unsaturated(
        continuum, saturation
    )
    if not (np.isfinite(absorbed).all() and (absorbed > 0).all()):
        return float("nan")
    return float(gamma.value - absorbed[1] / absorbed[0])
