"""Cracks and rims of particles against their bulk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

from ._correlation import neighbour_correlation, variance_of_sum
from ._intrinsic_spread import intrinsic_variance
from ._rim import edge_distance
from ._robust import check_labels, check_mask

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]

# Fewer pixels make no mean.
_FEWEST = 5
_TREND_DEGREE = 3


@dataclass(frozen=True, slots=True, eq=False)
class ParticleZones:
    """One row per particle, in order of the labels; NaN where a zone has fewer than five values.

    Parameters
    ----------
    label : ndarray of int, shape (n_particles,)
        Labels.
    n_bulk, n_rim, n_crack : ndarray of int
        Values in each zone.
    crack_share : ndarray
        Share of the particle's pixels that are crack.
    bulk, bulk_sigma : ndarray
        Weighted mean of the bulk, and its standard error.
    rim_minus_bulk, rim_minus_bulk_sigma : ndarray
        Mean of the rim less that of the bulk.
    crack_minus_bulk, crack_minus_bulk_sigma : ndarray
        Mean along cracks less what pixels away from cracks have at the same distance from the rim.
    """

    label: Counts
    n_bulk: Counts
    n_rim: Counts
    n_crack: Counts
    crack_share: Array
    bulk: Array
    bulk_sigma: Array
    rim_minus_bulk: Array
    rim_minus_bulk_sigma: Array
    crack_minus_bulk: Array
    crack_minus_bulk_sigma: Array

    def __len__(self) -> int:
        return self.label.size


def particle_zones(
    values: ArrayLike,
    labels: ArrayLike,
    *,
    cracks: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    rim_width: float = 4.0,
    crack_width: float = 2.0,
    pixel_size: float = 1.0,
) -> ParticleZones:
    """Compare a map at the cracks and the rim of each particle with its bulk.

    Parameters
    ----------
    values : array_like, shape (rows, cols)
        The map; what is not finite is left out.
    labels : array_like of int, shape (rows, cols)
        Particle of each pixel, 0 for none.
    cracks : array_like of bool, shape (rows, cols), optional
        Where the cracks are (see :func:`segment_cracks`); none by default.
    sigma : array_like, shape (rows, cols), optional
        Standard deviation of each pixel: its weight.
    rim_width, crack_width : float
        How far rim and cracks reach, in the unit of ``pixel_size``.
    pixel_size : float
        Size of a pixel.

    Returns
    -------
    ParticleZones

    Raises
    ------
    EdgeFittingError
        If shapes differ, labels are not whole numbers from 0, or a width is not positive.

    Notes
    -----
    Errors hold counting noise and the unevenness of the material, with the correlation of neighbouring pixels (pooled
    over all particles, what follows the distance from the rim taken out): how far the difference would scatter between
    particles alike. Where the sigmas are too small, that unevenness takes up what is missing.
    """
    array = np.asarray(values, dtype=np.float64)
    marks = check_labels(labels, array.shape)
    crack = np.zeros(array.shape, bool) if cracks is None else check_mask(cracks, array.shape)
    noise = np.zeros(array.shape) if sigma is None else np.asarray(sigma, dtype=np.float64)
    if noise.shape != array.shape:
        raise EdgeFittingError(f"sigma has shape {noise.shape} but the map has {array.shape}.")
    if not (rim_width > 0 and crack_width > 0 and pixel_size > 0):
        raise EdgeFittingError("rim_width, crack_width and pixel_size must be positive.")
    from scipy import ndimage

    known = (marks > 0) & np.isfinite(array) & np.isfinite(noise)
    distance = edge_distance(marks, pixel_size=pixel_size)
    near = (
        ndimage.distance_transform_edt(~crack) * pixel_size <= crack_width + 0.5 * pixel_size
        if crack.any()
        else crack
    )
    rim = known & (distance < rim_width)
    along = known & near & ~rim
    bulk = known & ~near & ~rim
    boxes = [(label, box) for label, box in enumerate(ndimage.find_objects(marks), start=1) if box]
    trend, deviation = np.full(array.shape, np.nan), np.full(array.shape, np.nan)
    for label, box in boxes:
        own = (marks[box] == label) & known[box]
        if np.count_nonzero(own) < _FEWEST:
            continue
        inner, outer = own & bulk[box], own & rim[box]
        trend[box][own] = _trend(array[box], distance[box], noise[box], inner if inner.any() else own)[own]
        # A rim that differs from the bulk follows no trend of it.
        trend[box][outer] = array[box][outer].mean() if outer.any() else np.nan
        left = array[box][own] - trend[box][own]
        uneven = max(intrinsic_variance(left, noise[box][own]), 0.0)
        deviation[box][own] = np.sqrt(noise[box][own] ** 2 + uneven)
    residual = array - trend
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = neighbour_correlation(np.where(deviation > 0, residual / deviation, np.nan), marks)
    rows = [
        _row(
            array[box], residual[box], deviation[box], correlation,
            *(zone[box] & (marks[box] == label) for zone in (bulk, rim, along)),
        )
        for label, box in boxes
    ]  # fmt: skip
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 6).T
    count = [
        np.array([np.count_nonzero(zone[box] & (marks[box] == label)) for label, box in boxes], np.int64)
        for zone in (bulk, rim, along, crack, marks > 0)
    ]
    return ParticleZones(
        np.array([label for label, _ in boxes], np.int64),
        count[0],
        count[1],
        count[2],
        count[3] / np.maximum(count[4], 1),
        *table,
    )


def _trend(values: Array, distance: Array, noise: Array, use: Mask) -> Array:
    """Fit a polynomial in the distance from the rim to the pixels of a mask."""
    x = np.where(np.isfinite(distance), distance, 0.0)
    x = x / max(float(x[use].max()), 1e-12)
    degree = min(_TREND_DEGREE, int(np.count_nonzero(use)) // 20, np.unique(x[use]).size - 1)
    floor = max(float(np.median(noise[use])), 1e-12)
    fit = np.polynomial.Polynomial.fit(
        x[use], values[use], degree, domain=[0.0, 1.0], w=1.0 / np.maximum(noise[use], floor)
    )
    return np.asarray(fit(np.clip(x, float(x[use].min()), float(x[use].max()))))


def _row(
    values: Array, residual: Array, deviation: Array, correlation: Array, bulk: Mask, rim: Mask, along: Mask
) -> tuple[float, ...]:
    weight = {
        name: _weights(deviation, zone) for name, zone in (("bulk", bulk), ("rim", rim), ("along", along))
    }
    inside = np.where(np.isfinite(values), values, 0.0)
    left = np.where(np.isfinite(residual), residual, 0.0)
    spread = np.where(np.isfinite(deviation), deviation, 0.0)
    out: list[float] = []
    for wanted, image in (
        ({"bulk": 1}, inside),
        ({"rim": 1, "bulk": -1}, inside),
        ({"along": 1, "bulk": -1}, left),
    ):
        parts = [None if (held := weight[name]) is None else sign * held for name, sign in wanted.items()]
        if any(part is None for part in parts):
            out += [np.nan, np.nan]
            continue
        total = np.sum([part for part in parts if part is not None], axis=0)
        out += [float(np.sum(total * image)), float(np.sqrt(variance_of_sum(total * spread, correlation)))]
    return tuple(out)


def _weights(deviation: Array, zone: Mask) -> Array | None:
    """Weights of a mean: by the inverse variance, together 1."""
    if np.count_nonzero(zone) < _FEWEST:
        return None
    with np.errstate(divide="ignore"):
        weight = np.where(zone, 1.0 / np.where(zone, deviation, 1.0) ** 2, 0.0)
    if not np.isfinite(weight).all():
        weight = zone.astype(np.float64)  # values without any scatter
    return np.asarray(weight / weight.sum())
