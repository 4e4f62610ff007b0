"""A map against the distance from the edge of a particle, with weighted errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

__all__ = ["DistanceProfile", "distance_profile"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class DistanceProfile:
    """Weighted means by bins of a distance, or of a thickness; bins without a pixel are left out.

    Attributes
    ----------
    distance : ndarray, shape (n,)
        Weighted mean distance of the pixels of each bin.
    mean, standard_error : ndarray, shape (n,)
        Mean weighted by the inverse variance, and its standard error: by the sigmas of the pixels, or by their scatter
        where that is larger.
    n_pixels : ndarray of int, shape (n,)
        Pixels in each bin.
    """

    distance: Array
    mean: Array
    standard_error: Array
    n_pixels: NDArray[np.int64]


def distance_profile(
    values: ArrayLike,
    sigma: ArrayLike,
    distance: ArrayLike,
    *,
    edges: ArrayLike,
    mask: ArrayLike | None = None,
    resolution_px: float = 1.0,
) -> DistanceProfile:
    """Average a map over bins of a distance, weighted by the inverse variance of its pixels.

    Parameters
    ----------
    values, sigma : array_like, shape (rows, cols)
        The map and the standard deviation of each pixel; pixels without either are left out.
    distance : array_like, shape (rows, cols)
        From `edge_distance`, or a thickness.
    edges : array_like, shape (n_bins + 1,)
        Increasing limits of the bins.
    mask : array_like of bool, optional
        Pixels to use, such as those of one particle without those where another lies over it.
    resolution_px : float
        Width of what a pixel sees, in pixels: so many squared are one independent measurement.

    Raises
    ------
    EdgeFittingError
        Shapes differ, limits do not increase, or no pixel is left.
    """
    value, spread, depth = (np.asarray(x, dtype=np.float64) for x in (values, sigma, distance))
    if not (value.shape == spread.shape == depth.shape):
        raise EdgeFittingError(
            f"map, sigma and distance need one shape, not {value.shape}, {spread.shape} and {depth.shape}."
        )
    limits = np.asarray(edges, dtype=np.float64)
    if limits.ndim != 1 or limits.size < 2 or not (np.diff(limits) > 0).all():
        raise EdgeFittingError("edges must be two or more increasing numbers.")
    good = np.isfinite(value) & np.isfinite(depth) & np.isfinite(spread) & (spread > 0)
    if mask is not None:
        good &= np.asarray(mask, dtype=bool)
    good &= (depth >= limits[0]) & (depth <= limits[-1])
    if not good.any():
        raise EdgeFittingError(
            "no pixel lies within the limits: check the unit of the distance, and the mask."
        )
    where = np.clip(np.searchsorted(limits, depth[good], side="right") - 1, 0, limits.size - 2)
    value, weight, depth = value[good], spread[good] ** -2.0, depth[good]

    def summed(x: Array) -> Array:
        out: Array = np.asarray(np.bincount(where, x, minlength=limits.size - 1), np.float64)
        return out

    total = summed(weight)
    count = np.bincount(where, minlength=limits.size - 1)
    held = count > 0
    total = total[held]
    n_pixels: NDArray[np.int64] = count[held].astype(np.int64)
    mean = summed(weight * value)[held] / total
    whole = np.zeros(limits.size - 1)
    whole[held] = mean
    scatter = summed(weight * (value - whole[where]) ** 2)[held] / np.maximum(n_pixels - 1, 1)
    error = np.sqrt(np.maximum(scatter, 1.0) / total)
    shared = np.minimum(max(resolution_px, 1.0) ** 2, n_pixels)
    return DistanceProfile(summed(weight * depth)[held] / total, mean, error * np.sqrt(shared), n_pixels)
