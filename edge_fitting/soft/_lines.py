"""Lines of L3 and L2 fitted together with what lies below them, by separable least squares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls

from ._continuum import steps
from ._soft_edges import SoftEdge

__all__ = ["FittedLines", "fit_lines"]

Array = NDArray[np.float64]

# Beside the lines, so much of the sweep is fitted with them.
_BESIDE_EV = 14.0
_WIDTHS_EV = (0.25, 5.0)
_FEWEST_PER_UNKNOWN = 1.3
_SPACING_EV = (0.8, 4.5)
_STEP = 1e-4
_LN2 = float(np.log(2.0))


@dataclass(frozen=True, slots=True, eq=False)
class FittedLines:
    """Two lines of L3, with those of L2 and the continuum.

    Attributes
    ----------
    position_ev : ndarray, shape (2,)
        Maxima of L3 low and L3 high, eV.
    position_sigma_ev : ndarray, shape (2,)
    height : ndarray, shape (2,)
        Fitted curve there, above the continuum, in the unit of the yield.
    ratio, ratio_sigma, ratio_systematic : float
        High over low, its standard deviation by noise, and what the lines do not describe adds to that.
    curve : ndarray, shape (n,)
        Fitted yield at the energies given.
    sigma : ndarray, shape (n,)
        Standard deviation of a point by the residuals, which may grow with the signal.
    """

    position_ev: Array
    position_sigma_ev: Array
    height: Array
    ratio: float
    ratio_sigma: float
    ratio_systematic: float
    curve: Array
    sigma: Array


def fit_lines(
    energy_ev: Array, values: Array, edge: SoftEdge, *, has_l2: bool, has_line: bool
) -> FittedLines | None:
    """Fit two pseudo-Voigt lines at L3, their images at L2, a line and a two-step continuum.

    Parameters
    ----------
    energy_ev, values : ndarray, shape (n,)
        Increasing energies, and the yield.
    edge : SoftEdge
        An edge with L3 and L2.
    has_l2 : bool
        Whether L2 was measured.
    has_line : bool
        Whether there is a pre-edge to give the background a slope.

    Returns
    -------
    FittedLines or None
        None where there are too few points, or the fit finds no two lines.
    """
    assert edge.l2_ev is not None
    top_ev = edge.l2_ev + _BESIDE_EV if has_l2 else edge.l2_ev - 5.0
    near = (energy_ev > edge.energy_ev - _BESIDE_EV) & (energy_ev < top_ev)
    x, y = energy_ev[near], values[near]
    model = _Model(x, edge, has_l2, has_line)
    inside = (x >= edge.white_line_ev[0]) & (x <= edge.white_line_ev[1])
    if x.size < _FEWEST_PER_UNKNOWN * model.n_unknowns or inside.sum() < 6:
        return None
    scale = float(np.ptp(y))
    if not scale > 0:
        return None
    y = y / scale
    weight = np.ones_like(x)
    found, sigma = model.start(), np.ones_like(x)
    for _ in range(2):
        root = np.sqrt(weight)
        fit = least_squares(
            model.residual, found, model.projected_jacobian, bounds=model.bounds, x_scale=model.scales,
            xtol=1e-4, ftol=1e-5, max_nfev=25, args=(y, root),
        )  # fmt: skip
        found = fit.x
        linear, shape = model.solve(found, y, root)
        dof = x.size - model.n_unknowns
        sigma = _noise(y - shape @ linear, shape @ linear, x.size / max(dof, 1))
        weight = np.median(sigma) ** 2 / sigma**2
    jacobian = model.jacobian(found, linear)
    try:
        weighted = jacobian / sigma[:, None]
        covariance = np.asarray(np.linalg.inv(weighted.T @ weighted), np.float64)
    except np.linalg.LinAlgError:
        return None
    parameters = np.concatenate([linear, found])
    heights, places = model.maxima(parameters)
    if not (heights > 0).all():
        return None
    gradient = model.gradient(parameters, lambda p: _ratio(model.maxima(p)[0]))
    misfit = _misfit(y - shape @ linear, sigma)
    variance = max(float(gradient @ covariance @ gradient), 0.0)
    # What the lines do not describe is no noise: it is part of the systematic uncertainty.
    by_noise = variance / max(misfit, 1.0) ** 2
    n = linear.size
    whole = np.full(energy_ev.size, np.nan)
    whole[near] = shape @ linear * scale
    spread = np.full(energy_ev.size, float(np.median(sigma)) * scale)
    spread[near] = sigma * scale
    return FittedLines(
        position_ev=places,
        position_sigma_ev=_place_sigma(covariance[n : n + 2, n : n + 2]),
        height=heights * scale,
        ratio=_ratio(heights),
        ratio_sigma=float(np.sqrt(by_noise)),
        ratio_systematic=float(np.sqrt(variance - by_noise)),
        curve=whole,
        sigma=spread / max(misfit, 1.0),
    )


def _place_sigma(covariance: Array) -> Array:
    """Return the standard deviations of the places of two lines from those of the first and of the distance."""
    second = covariance.sum()
    return np.asarray(np.sqrt(np.maximum([covariance[0, 0], second], 0.0)), np.float64)


def _ratio(heights: Array) -> float:
    return float(heights[1] / heights[0])


def _misfit(residual: Array, sigma: Array) -> float:
    """Residuals over what differences between neighbours say of them: 1 where they are noise."""
    relative = residual / sigma
    rough = np.sqrt(np.mean(np.diff(relative, 2) ** 2) / 6.0)
    return float(np.sqrt(np.mean(relative**2)) / rough) if rough > 0 else 1.0


def _noise(residual: Array, signal: Array, inflation: float) -> Array:
    """Return the standard deviation of each point: a constant part and one in proportion to the signal."""
    level = signal - signal.min()
    level /= max(float(level.max()), 1e-300)
    square = residual**2 * inflation
    mean = float(square.mean()) + 1e-18
    # Of the amplifier, of counting, and in proportion to the signal.
    design = np.stack([np.ones_like(level), level, level**2], axis=1)
    expected = np.full(square.size, mean)
    for _ in range(3):
        # Squares scatter as much as they are large: weighted by what is expected of them.
        found = nnls(design / expected[:, None], square / expected)[0]
        expected = np.maximum(design @ found, 0.02 * mean)
    return np.asarray(np.sqrt(expected))


class _Model:
    """Line, continuum and lines: linear in the former and in the heights, not in places and widths."""

    def __init__(self, x: Array, edge: SoftEdge, has_l2: bool, has_line: bool) -> None:
        self._x, self._edge, self._has_l2 = x, edge, has_l2
        self._split = (edge.l2_ev or 0.0) - edge.energy_ev
        low = edge.low_ev[0] + 0.6 * (edge.low_ev[1] - edge.low_ev[0])
        high = edge.high_ev[0] + 0.4 * (edge.high_ev[1] - edge.high_ev[0])
        # Places of L3 low and its distance to high, two widths, share of Lorentzian; L2: place and how much wider.
        self._start = [low, high - low, 1.3, 1.6, 0.5, 2.5, 1.8]
        self._low = [edge.low_ev[0], _SPACING_EV[0], _WIDTHS_EV[0], _WIDTHS_EV[0], 0.0, 1.2, 0.8]
        self._high = [edge.low_ev[1], _SPACING_EV[1], *(_WIDTHS_EV[1:] * 2), 1.0, 5.0, 5.0]
        self.scales = [0.2, 0.2, 0.3, 0.3, 0.3, 0.5, 0.5]
        if has_l2:
            self._start += [self._split, 1.2]
            self._low += [self._split - 2.0, 0.7]
            self._high += [self._split + 2.0, 3.0]
            self.scales += [0.2, 0.3]
        lines = [np.ones_like(x)] + ([(x - x.mean()) / 10.0] if has_line else [])
        self._below = np.stack([*lines, steps(x, edge)], axis=1)

    @property
    def _n_lines(self) -> int:
        return 6 if self._has_l2 else 3

    @property
    def n_unknowns(self) -> int:
        return len(self._start) + int(self._below.shape[1]) + self._n_lines

    @property
    def bounds(self) -> tuple[list[float], list[float]]:
        return self._low, self._high

    def start(self) -> Array:
        return np.array(self._start)

    def lines(self, p: Array, x: Array) -> Array:
        """Lines of height 1, shape (..., n, 3 or 6), for places and widths, shape (..., n_parameters)."""
        at, space, first, second, share, beyond, broad = np.moveaxis(p[..., :7], -1, 0)
        places = np.stack([at, at + space, at + space + beyond], axis=-1)
        widths = np.stack([first, second, broad], axis=-1)
        if self._has_l2:
            split, wider = p[..., 7:8], p[..., 8:9]
            places = np.concatenate([places, places + split], axis=-1)
            widths = np.concatenate([widths, widths * wider], axis=-1)
        z = (2.0 * (x[:, None] - places[..., None, :]) / widths[..., None, :]) ** 2
        share = np.asarray(share)[..., None, None]
        return np.asarray(share / (1.0 + z) + (1.0 - share) * np.exp(-_LN2 * z))

    def solve(self, p: Array, y: Array, root: Array) -> tuple[Array, Array]:
        """Heights and background for places and widths, and the shapes they belong to."""
        shape = np.concatenate([self._below, self.lines(p, self._x)], axis=1)
        found = np.linalg.lstsq(shape * root[:, None], y * root, rcond=None)[0]
        return np.asarray(found, np.float64), shape

    def residual(self, p: Array, y: Array, root: Array) -> Array:
        """Return what is left of the yield when the linear parameters are the best ones."""
        shape = np.concatenate([self._below, self.lines(p, self._x)], axis=1) * root[:, None]
        basis = np.linalg.qr(shape)[0]
        return np.asarray(basis @ (basis.T @ (y * root)) - y * root)

    def projected_jacobian(self, p: Array, y: Array, root: Array) -> Array:
        """Return derivatives of the residual by places and widths, in Kaufman's approximation."""
        shape = np.concatenate([self._below, self.lines(p, self._x)], axis=1) * root[:, None]
        basis, upper = np.linalg.qr(shape)
        heights = np.linalg.lstsq(upper, basis.T @ (y * root), rcond=None)[0][self._below.shape[1] :]
        change = self._changes(p, heights) * root[:, None]
        return np.asarray(change - basis @ (basis.T @ change))

    def _changes(self, p: Array, heights: Array) -> Array:
        """Return derivatives of the curve by places and widths, shape (n, p.size)."""
        step = _STEP * np.eye(p.size)
        both = self.lines(np.concatenate([p + step, p - step]), self._x) @ heights
        return np.asarray((both[: p.size] - both[p.size :]).T / (2 * _STEP))

    def jacobian(self, p: Array, linear: Array) -> Array:
        """Return derivatives of the curve by all that was fitted, linear parameters first."""
        n = self._below.shape[1]
        return np.concatenate([self._below, self.lines(p, self._x), self._changes(p, linear[n:])], axis=1)

    def maxima(self, parameters: Array) -> tuple[Array, Array]:
        """Maxima of the lines of L3 above all that lies below them: heights and places, (2,) each.

        A line that is only a shoulder is taken at its own place.
        """
        n_below = self._below.shape[1]
        n_lines = self._n_lines
        heights, p = parameters[n_below : n_below + n_lines], parameters[n_below + n_lines :]
        centres = np.array([p[0], p[0] + p[1]])
        reach = 0.45 * p[1]
        fine = centres[:, None] + np.linspace(-reach, reach, 121)
        curve = self.lines(p, fine.ravel()) @ heights
        curve = curve.reshape(2, -1)
        at = curve.argmax(axis=1)
        tops, places = np.empty(2), np.empty(2)
        for k, j in enumerate(at):
            if 0 < j < curve.shape[1] - 1:
                before, here, after = curve[k, j - 1 : j + 2]
                bend = before - 2 * here + after
                move = 0.5 * (before - after) / bend if bend < 0 else 0.0
                places[k] = fine[k, j] + move * (fine[k, 1] - fine[k, 0])
                tops[k] = here - 0.25 * (before - after) * move
            else:
                places[k], tops[k] = centres[k], curve[k, curve.shape[1] // 2]
        return tops, places

    def gradient(self, parameters: Array, of: Callable[[Array], float]) -> Array:
        """Return derivatives of a number by all that was fitted."""
        out = np.empty(parameters.size)
        for k in range(parameters.size):
            up, down = parameters.copy(), parameters.copy()
            step = _STEP * max(1.0, abs(float(parameters[k])) * 1e-2)
            up[k] += step
            down[k] -= step
            out[k] = (of(up) - of(down)) / (2 * step)
        return out
