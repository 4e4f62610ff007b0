"""Particles of a map: labels, and median and spread of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

from ._correlation import neighbour_correlation, variance_of_sum
from ._intrinsic_spread import ROBUST_COST, intrinsic_variance, spread_sigma
from ._robust import check_labels, median_and_spread

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Labels = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class ParticleStatistics:
    """One row per particle, in order of the labels.

    Parameters
    ----------
    label : ndarray of int, shape (n_particles,)
        Labels.
    n_pixels, n_values : ndarray of int
        Pixels of the particle, and how many of them have a value.
    median, spread : ndarray
        Median and 1.4826 times the median absolute deviation; NaN without values.
    low, high : ndarray
        16th and 84th percentile.
    noise : ndarray
        Root mean square of the pixels' sigmas; NaN without sigmas.
    mean, mean_sigma : ndarray
        Mean, each value weighted by its noise and the intrinsic spread, and its standard error with the correlation
        of neighbouring pixels (pooled over all particles); the error of a map without sigmas is from its scatter.
    intrinsic_spread : ndarray
        Spread that the noise does not explain, each pixel with its own: ``sqrt(spread**2 - noise**2)`` where all have
        the same; 0 where the noise explains all.
    intrinsic_variance : ndarray
        Its square before it is cut off at 0: what may be averaged.
    intrinsic_spread_sigma : ndarray
        Standard deviation of the spread, with the correlation of neighbouring pixels; an upper limit where it is 0.
    row, column : ndarray
        Centre of mass of the pixels.
    diameter : ndarray
        Diameter of the circle of the same area, in units of the pixel size.
    at_border : ndarray of bool
        Whether the border of the image cuts it: its size is a lower limit.
    """

    label: Counts
    n_pixels: Counts
    n_values: Counts
    median: Array
    spread: Array
    low: Array
    high: Array
    noise: Array
    mean: Array
    mean_sigma: Array
    intrinsic_spread: Array
    intrinsic_variance: Array
    intrinsic_spread_sigma: Array
    row: Array
    column: Array
    diameter: Array
    at_border: NDArray[np.bool_]

    def __len__(self) -> int:
        return self.label.size


def label_particles(mask: ArrayLike, *, min_pixels: int = 1, diagonal: bool = True) -> Labels:
    """Label the connected regions of a mask.

    Parameters
    ----------
    mask : array_like of bool, shape (rows, cols)
        What is particle, such as an edge jump above a threshold.
    min_pixels : int
        Smaller regions are dropped.
    diagonal : bool
        Whether pixels that touch at a corner belong together.

    Returns
    -------
    ndarray of int32, shape (rows, cols)
        0 outside, then 1, 2, ... in the order of each particle's first pixel, row by row.

    Raises
    ------
    EdgeFittingError
        If the mask is not two-dimensional.
    """
    from scipy import ndimage

    array = np.asarray(mask, dtype=np.bool_)
    if array.ndim != 2:
        raise EdgeFittingError(f"mask must be (rows, cols), not of shape {array.shape}.")
    labels, _ = ndimage.label(array, np.ones((3, 3)) if diagonal else None)
    sizes = np.bincount(labels.ravel())
    keep = sizes >= min_pixels
    keep[0] = False
    number = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return np.asarray(number[labels], dtype=np.int32)


def particle_statistics(
    values: ArrayLike, labels: ArrayLike, *, sigma: ArrayLike | None = None, pixel_size: float = 1.0
) -> ParticleStatistics:
    """Median and spread of a map in each particle.

    Parameters
    ----------
    values : array_like, shape (rows, cols)
        The map; what is not finite is left out.
    labels : array_like of int, shape (rows, cols)
        Particle of each pixel, 0 for none (see :func:`label_particles`).
    sigma : array_like, shape (rows, cols), optional
        Standard deviation of each pixel, to tell the spread of the particle from noise.
    pixel_size : float
        Size of a pixel, for the diameter.

    Returns
    -------
    ParticleStatistics
        A row for every label that occurs.

    Raises
    ------
    EdgeFittingError
        If shapes differ or labels are not whole numbers from 0.
    """
    array = np.asarray(values, dtype=np.float64)
    marks = check_labels(labels, array.shape)
    noise = None if sigma is None else np.asarray(sigma, dtype=np.float64)
    if noise is not None and noise.shape != array.shape:
        raise EdgeFittingError(f"sigma has shape {noise.shape} but the map has {array.shape}.")
    order = np.argsort(marks, axis=None, kind="stable")
    sorted_marks = marks.ravel()[order]
    found, start = np.unique(sorted_marks, return_index=True)
    members = [m for m, mark in zip(np.split(order, start[1:]), found, strict=True) if mark > 0]
    n = len(members)
    table = np.full((8, n), np.nan)
    n_values, variance = np.zeros(n, np.int64), np.full(n, np.nan)
    residual, deviation = np.full(array.size, np.nan), np.full(array.size, np.nan)
    for k, pixels in enumerate(members):
        inside = array.ravel()[pixels]
        good = np.isfinite(inside)
        table[6:8, k] = [axis.mean() for axis in np.unravel_index(pixels, array.shape)]
        n_values[k] = np.count_nonzero(good)
        if not n_values[k]:
            continue
        table[0, k], table[1, k] = median_and_spread(inside[good])
        table[2:4, k] = np.percentile(inside[good], [16, 84])
        if noise is None:
            total = np.full(int(n_values[k]), table[1, k])
        else:
            own = noise.ravel()[pixels][good]
            told = np.isfinite(own)
            if told.any():
                table[4, k] = np.sqrt(np.mean(own[told] ** 2))
                variance[k] = intrinsic_variance(inside[good][told], own[told])
                table[5, k] = np.sqrt(np.maximum(variance[k], 0.0))
            total = np.sqrt(own**2 + np.nan_to_num(table[5, k]) ** 2)
        residual[pixels[good]] = inside[good] - table[0, k]
        deviation[pixels[good]] = total
    with np.errstate(invalid="ignore", divide="ignore"):
        alike = neighbour_correlation((residual / deviation).reshape(array.shape), marks)
    errors = np.array(
        [_errors(array, deviation, marks, alike, m, s) for m, s in zip(members, table[5], strict=True)]
    )
    errors = errors.reshape(n, 3)
    n_pixels = np.array([m.size for m in members], dtype=np.int64)
    rim = np.concatenate([marks[[0, -1]].ravel(), marks[:, [0, -1]].ravel()]) if array.size else marks.ravel()
    return ParticleStatistics(
        label=found[found > 0].astype(np.int64),
        n_pixels=n_pixels,
        n_values=n_values,
        median=table[0],
        spread=table[1],
        low=table[2],
        high=table[3],
        noise=table[4],
        mean=errors[:, 0],
        mean_sigma=errors[:, 1],
        intrinsic_spread=table[5],
        intrinsic_variance=variance,
        intrinsic_spread_sigma=errors[:, 2],
        row=table[6],
        column=table[7],
        diameter=pixel_size * np.sqrt(4.0 * n_pixels / np.pi),
        at_border=np.isin(found[found > 0], rim),
    )


def _errors(
    values: Array,
    deviation: Array,
    marks: NDArray[np.intp],
    correlation: Array,
    pixels: NDArray[np.intp],
    spread: float,
) -> tuple[float, float, float]:
    """Mean of a particle with its error, and the error of its intrinsic spread."""
    rows, cols = np.unravel_index(pixels, values.shape)
    box = np.s_[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
    own = marks[box] == marks[rows[0], cols[0]]
    total = deviation.reshape(values.shape)[box]
    use = own & np.isfinite(values[box]) & np.isfinite(total) & (total > 0)
    if not use.any():
        flat = values[box][own & np.isfinite(values[box])]
        return (float(flat.mean()), 0.0, 0.0) if flat.size and not np.any(flat - flat[0]) else (np.nan,) * 3
    weight = np.where(use, 1.0 / np.where(use, total, 1.0) ** 2, 0.0)
    weight /= weight.sum()
    scaled = weight * np.where(use, total, 0.0)
    mean = float(np.sum(weight[use] * values[box][use]))
    error = float(np.sqrt(variance_of_sum(scaled, correlation)))
    if not np.isfinite(spread):
        return mean, error, float("nan")
    # Fisher's information of the square of the spread; squares of values that correlate by r do so by r**2.
    information = np.where(use, 1.0 / np.where(use, total, 1.0) ** 2, 0.0)
    alike = variance_of_sum(information, correlation**2) / float(np.sum(information**2))
    return mean, error, spread_sigma(spread**2, ROBUST_COST * 2.0 * alike / float(np.sum(information**2)))
