"""A smooth curve through scattered points, with what is left of the scatter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Smoothing = Literal["repeats", "always", "never"]

# Twice the logarithm of how much likelier points are with scatter of their own than without, from which it counts.
_EVIDENCE = 6.0
# Variance that rounding leaves, as a fraction of that of the points.
_ROUNDING = 1e-12
# Two places leave no bend between them.
_SMALLEST_BEND = 1e-9
# Points nearer than this share of the mean gap are repeats of a state; so many of the points have to be.
_NEAR = 0.25
_REPEATED = 0.5
_N_VARIANCES = 61
_N_ROUGHNESSES = 81


@dataclass(frozen=True, slots=True, eq=False)
class SmoothCurve:
    """Values at the distinct places, and how they follow from the points.

    Attributes
    ----------
    places : ndarray, shape (n_places,)
        Different places, increasing.
    values : ndarray, shape (n_places, n_modes)
        The curve there.
    rules : ndarray, shape (n_modes, n_places, n_points)
        What makes the values from the points.
    scatter : ndarray, shape (n_points, n_modes)
        Residuals over the square root of their degrees of freedom: their squares add up to the variance of one
        point. Zero for a mode of which the points show no more than their noise.
    bends : ndarray, shape (n_modes, n_places, n_places)
        What smoothing may have taken from the curve: deviations of one standard deviation each. Zero without scatter.
    noise2 : float
        Variance of each coordinate from the noise of the spectra.
    dof : float
        Degrees of freedom of the scatter in the first mode that shows some; infinite if none does.
    """

    places: Array
    values: Array
    rules: Array
    scatter: Array
    bends: Array
    noise2: float
    dof: float


def smooth_curve(
    places: Array, points: Array, noise2: float, *, smooth: Smoothing = "repeats"
) -> SmoothCurve:
    """Draw a curve through points that may repeat a place, each mode as smooth as the points say.

    A cubic smoothing spline, as the mean of a Gaussian process of which the second derivative is white noise. Its
    size and the variance of the points about the curve are those of the highest restricted likelihood (Wahba 1985,
    Ann. Stat. 13, 1378). Points that lie on a smooth curve show no scatter, and are met to the noise of the spectra.

    Parameters
    ----------
    places : ndarray, shape (n_points,)
        Increasing, repeats allowed, two different ones at least.
    points : ndarray, shape (n_points, n_modes)
        Coordinates.
    noise2 : float
        Variance of each coordinate that is there in any case.
    smooth : {"repeats", "always", "never"}
        Only repeats tell scatter from the shape of the curve. Without them it is met, and what may be scatter is its
        error; or the curve is smoothed all the same. "never" is for points that were computed: they are met.

    Returns
    -------
    SmoothCurve
    """
    unique, where = np.unique(places, return_inverse=True)
    at = (unique - unique[0]) / (unique[-1] - unique[0])
    kernel, trend = _spline_kernel(at), np.stack([np.ones_like(at), at], axis=1)
    own_kernel, own_trend = kernel[np.ix_(where, where)], trend[where]
    rest = np.linalg.qr(own_trend, mode="complete")[0][:, 2:]
    size, turn = np.linalg.eigh(rest.T @ own_kernel @ rest)
    along = (rest @ turn).T @ points
    rules = np.empty((points.shape[1], unique.size, places.size))
    scatter = np.zeros_like(points)
    bends = np.zeros((points.shape[1], unique.size, unique.size))
    dof = np.inf
    searches = [
        _Likelihood(np.maximum(size, 0.0), along[:, k] ** 2, _least(noise2, points[:, k]))
        for k in range(points.shape[1])
    ]
    # What moves a spectrum moves it along all modes, so one that shows scatter tells for all.
    scattered = smooth != "never" and any(search.evidence > _EVIDENCE for search in searches)
    is_met = smooth == "repeats" and _share_of_repeats(places) < _REPEATED
    for k, search in enumerate(searches):
        roughness, variance = search.best(scattered=scattered)
        inverse = np.linalg.inv(roughness * own_kernel + variance * np.eye(places.size))
        straight = np.linalg.solve(own_trend.T @ inverse @ own_trend, own_trend.T @ inverse)
        bend = roughness * kernel[:, where] @ inverse
        rules[k] = trend @ straight + bend @ (np.eye(places.size) - own_trend @ straight)
        if variance > search.least:
            # The choice of the smoothness takes one more.
            own_dof = max(places.size - float(np.trace(rules[k][where])) - 1.0, 1.0)
            residual = points[:, k] - rules[k][where] @ points[:, k]
            scatter[:, k] = residual / np.sqrt(own_dof)
            dof = own_dof if np.isinf(dof) else dof
            if is_met:
                rules[k] = _mean_of_each(where, unique.size)
                continue
            lost = np.eye(unique.size) - rules[k] @ np.eye(unique.size)[where]
            half, turned = np.linalg.eigh(roughness * lost @ kernel @ lost.T)
            bends[k] = turned * np.sqrt(np.maximum(half, 0.0))
    values = np.einsum("kpi,ik->pk", rules, points)
    return SmoothCurve(unique, values, rules, scatter, bends, noise2, dof)


def _share_of_repeats(places: Array) -> float:
    """Share of the points that lie next to another one, compared with how far apart they are on average."""
    gaps = np.diff(places)
    is_near = gaps < _NEAR * (places[-1] - places[0]) / max(places.size - 1, 1)
    return float(np.mean(np.r_[is_near, False] | np.r_[False, is_near]))


def _mean_of_each(where: NDArray[np.intp], n_places: int) -> Array:
    at_place = np.equal.outer(np.arange(n_places), where).astype(np.float64)
    return np.asarray(at_place / at_place.sum(axis=1, keepdims=True))


def _spline_kernel(at: Array) -> Array:
    low, high = np.minimum(at[:, None], at[None, :]), np.maximum(at[:, None], at[None, :])
    return np.asarray(low * low * (3.0 * high - low) / 6.0)


def _least(noise2: float, points: Array) -> float:
    return max(noise2, _ROUNDING * float(np.mean(points**2)), 1e-300)


class _Likelihood:
    """Restricted likelihood of one mode over the size of the second derivative and the variance of the points."""

    def __init__(self, size: Array, power: Array, least: float) -> None:
        self.least = least
        most = max(4.0 * float(power.max(initial=0.0)), 4.0 * least)
        largest = float(size.max(initial=0.0))
        self._variances = np.geomspace(least, most, _N_VARIANCES)
        self._roughnesses = np.zeros(1)
        if largest > _SMALLEST_BEND:
            self._roughnesses = np.r_[0.0, np.geomspace(1e-3 * least, 1e6 * most, _N_ROUGHNESSES) / largest]
        total = self._roughnesses[:, None, None] * size + self._variances[None, :, None]
        self._cost = (np.log(total) + power / total).sum(axis=2)

    @property
    def evidence(self) -> float:
        """Twice the logarithm of how much likelier the points are with more variance than the least."""
        return float(self._cost[:, 0].min() - self._cost.min())

    def best(self, *, scattered: bool) -> tuple[float, float]:
        """Size and variance of the highest likelihood; the least variance where the points show no scatter."""
        cost = self._cost if scattered else self._cost[:, :1]
        r, v = np.unravel_index(int(np.argmin(cost)), cost.shape)
        return float(self._roughnesses[r]), float(self._variances[v])
