"""What two yields of different depth say of a reduced surface layer: a curve, and with a third datum a point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_fitting.errors import EdgeFittingError

__all__ = ["ReducedLayer", "reduced_layer"]

Array = NDArray[np.float64]

#: Depths of the two yields, nm: the middle of what the field gives, 5-10 and 50-100.
DEPTHS_NM = {"tey": 7.5, "fy": 75.0}
_DEPTH_RANGES_NM = {"tey": (5.0, 10.0), "fy": (50.0, 100.0)}
_THICKNESS_NM = np.geomspace(0.5, 60.0, 48)
_FINE_NM = np.geomspace(0.2, 120.0, 600)


@dataclass(frozen=True, slots=True, eq=False)
class ReducedLayer:
    """Layers that explain two yields.

    Attributes
    ----------
    thickness_nm : ndarray, shape (n,)
        Thicknesses of the layer.
    reduced_fraction, sigma, systematic : ndarray, shape (n,)
        Reduced part of a layer so thick, its standard deviation by noise, and that by the depths of the yields.
    bulk_valence, bulk_valence_sigma : ndarray, shape (n,)
        Valence of the bulk below it.
    possible : ndarray of bool, shape (n,)
        Whether the fraction can be between 0 and 1 within twice its standard deviation.
    point_nm, point_sigma_nm, point_fraction, point_fraction_sigma : float
        The layer that a known bulk fixes; NaN without one, or where it fixes none.
    warnings : tuple of str
        Why there is no point.
    """

    thickness_nm: Array
    reduced_fraction: Array
    sigma: Array
    systematic: Array
    bulk_valence: Array
    bulk_valence_sigma: Array
    possible: NDArray[np.bool_]
    point_nm: float
    point_sigma_nm: float
    point_fraction: float
    point_fraction_sigma: float
    warnings: tuple[str, ...]


def _solve(thickness_nm: Array, tey: float, fy: float, depths_nm: tuple[float, float]) -> tuple[Array, Array]:
    """Reduced fraction and bulk state (above the reduced one) for layers that are so thick."""
    seen_tey, seen_fy = (-np.expm1(-thickness_nm / depth) for depth in depths_nm)
    missing = (fy - tey) / (seen_tey - seen_fy)
    bulk = fy + missing * seen_fy
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(bulk > 0, missing / bulk, np.nan), bulk


def reduced_layer(
    tey: tuple[float, float],
    fy: tuple[float, float],
    *,
    reduced_valence: float,
    bulk: tuple[float, float] | None = None,
    depths_nm: tuple[float, float] | None = None,
) -> ReducedLayer:
    """Give the layers that explain the mean valences seen by two yields.

    The layer of thickness t is a mixture: a part f of it is wholly reduced, the rest is as the bulk. A yield of depth
    L sees the share ``1 - exp(-t / L)`` of it, so the valence above the reduced one that it sees is
    ``(v_bulk - v_reduced) (1 - f (1 - exp(-t / L)))``: two equations for three unknowns.

    Parameters
    ----------
    tey, fy : (float, float)
        Mean valence seen by electron and by fluorescence yield, without saturation, and its standard deviation.
    reduced_valence : float
        Valence of the reduced part.
    bulk : (float, float), optional
        Mean valence of the bulk and its standard deviation, as hard XAS gives it.
    depths_nm : (float, float), optional
        Depths of the two yields where they are known; by default 7.5 and 75, of which 5 to 10 and 50 to 100 make the
        systematic uncertainty.

    Raises
    ------
    EdgeFittingError
        A value or a depth that cannot be.
    """
    known = depths_nm is not None
    depths = (
        (DEPTHS_NM["tey"], DEPTHS_NM["fy"])
        if depths_nm is None
        else (float(depths_nm[0]), float(depths_nm[1]))
    )
    if not 0 < depths[0] < depths[1]:
        raise EdgeFittingError(
            f"electron yield has to see less deep than fluorescence yield, not {depths[0]:g} and {depths[1]:g} nm."
        )
    values = np.array([*tey, *fy])
    if not np.isfinite(values).all():
        raise EdgeFittingError("the layer needs the valence by both yields and their standard deviations.")
    t, f = tey[0] - reduced_valence, fy[0] - reduced_valence
    fraction, state = _solve(_THICKNESS_NM, t, f, depths)
    # A yield at the reduced valence has no layer that can be told; derivatives by finite differences.
    step = 1e-4
    by_tey, by_fy = (
        [(np.asarray(up) - np.asarray(down)) / (2 * step) for up, down in zip(a, b, strict=True)]
        for a, b in (
            (_solve(_THICKNESS_NM, t + step, f, depths), _solve(_THICKNESS_NM, t - step, f, depths)),
            (_solve(_THICKNESS_NM, t, f + step, depths), _solve(_THICKNESS_NM, t, f - step, depths)),
        )
    )
    sigma, state_sigma = (np.hypot(a * tey[1], b * fy[1]) for a, b in zip(by_tey, by_fy, strict=True))
    systematic = np.zeros_like(sigma)
    if not known:
        # Standard deviation of a depth anywhere in its range.
        for k, name in enumerate(("tey", "fy")):
            ends = []
            for depth in _DEPTH_RANGES_NM[name]:
                moved = (depth, depths[1]) if k == 0 else (depths[0], depth)
                ends.append(_solve(_THICKNESS_NM, t, f, moved)[0])
            systematic = np.hypot(systematic, np.abs(ends[1] - ends[0]) / np.sqrt(12.0))
    possible = (fraction > -2 * sigma) & (fraction < 1 + 2 * sigma)
    point = [float("nan")] * 4
    said: list[str] = []
    if bulk is None:
        said.append(
            "two yields do not fix thickness and reduced fraction of the layer: give the valence of the bulk, from "
            "hard XAS, for a point on the curve"
        )
    else:
        point = _point(
            np.array([t, f, bulk[0] - reduced_valence]), np.array([tey[1], fy[1], bulk[1]]), depths, said
        )
    return ReducedLayer(
        thickness_nm=_THICKNESS_NM.copy(),
        reduced_fraction=fraction,
        sigma=sigma,
        systematic=systematic,
        bulk_valence=state + reduced_valence,
        bulk_valence_sigma=state_sigma,
        possible=possible,
        point_nm=point[0],
        point_sigma_nm=point[1],
        point_fraction=point[2],
        point_fraction_sigma=point[3],
        warnings=tuple(said),
    )


def _point(values: Array, sigma: Array, depths: tuple[float, float], said: list[str]) -> list[float]:
    """Thickness and fraction of the layer that a known bulk fixes, with sigmas, from the spread of draws."""
    rng = np.random.default_rng(0)
    draws = values + np.maximum(sigma, 1e-9) * rng.standard_normal((400, 3))
    draws[0] = values
    found = _crossings(draws, depths)
    good = np.isfinite(found[:, 0]) & (found[:, 1] <= 1.0)
    if good.mean() < 0.5:
        said.append(
            "the valence of the bulk and the two yields agree with no layer: it would have to be more than reduced, "
            "or no deeper than nothing"
        )
        return [float("nan")] * 4
    if good.mean() < 0.95:
        said.append(
            f"{1 - good.mean():.0%} of what the uncertainties allow is no layer at all: its thickness is hardly fixed"
        )
    spread = 0.5 * np.subtract(*np.percentile(found[good], (84.13, 15.87), axis=0))
    middle = found[0] if good[0] else np.median(found[good], axis=0)
    return [float(middle[0]), float(spread[0]), float(middle[1]), float(spread[1])]


def _crossings(draws: Array, depths: tuple[float, float]) -> Array:
    """Thickness at which the bulk below the layer is the known one, and its reduced fraction; NaN for none, (n, 2)."""
    seen_tey, seen_fy = (-np.expm1(-_FINE_NM / depth) for depth in depths)
    missing = (draws[:, 1:2] - draws[:, :1]) / (seen_tey - seen_fy)
    bulk = draws[:, 1:2] + missing * seen_fy
    above = bulk - draws[:, 2:]
    crosses = above[:, :-1] * above[:, 1:] <= 0
    at = crosses.argmax(axis=1)
    rows = np.arange(len(draws))
    with np.errstate(invalid="ignore", divide="ignore"):
        part = above[rows, at] / (above[rows, at] - above[rows, at + 1])
        fraction = missing / bulk
    thickness = _FINE_NM[at] + part * (_FINE_NM[at + 1] - _FINE_NM[at])
    reduced = fraction[rows, at] + part * (fraction[rows, at + 1] - fraction[rows, at])
    found = np.stack([thickness, reduced], axis=1)
    found[~crosses.any(axis=1) | (draws[:, 1] <= draws[:, 0])] = np.nan
    return found
