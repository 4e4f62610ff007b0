"""Distance from the rim of a particle, and a map by that distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

from ._robust import check_labels, check_mask, median_and_spread

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class RadialProfile:
    """Values by their distance from the rim.

    Parameters
    ----------
    edges : ndarray, shape (n_bins + 1,)
        Limits of the distance bins.
    distance : ndarray, shape (n_bins,)
        Mean distance of the values in each bin; NaN in empty bins, as below.
    mean, standard_error : ndarray
        Mean and its standard error, values taken as independent.
    median, spread : ndarray
        Median and 1.4826 times the median absolute deviation.
    n_values : ndarray of int
        Values per bin.
    """

    edges: Array
    distance: Array
    mean: Array
    standard_error: Array
    median: Array
    spread: Array
    n_values: Counts


def edge_distance(labels: ArrayLike, *, pixel_size: float = 1.0, frame_is_rim: bool = False) -> Array:
    """Distance of each pixel of a particle to the particle's rim (exact, Euclidean).

    The rim runs between pixels: the outermost pixels are half a pixel from it. Where particles touch, the
    rim runs between them.

    Parameters
    ----------
    labels : array_like of int or bool, shape (rows, cols)
        Particle of each pixel, 0 for none; a mask is one particle.
    pixel_size : float
        Size of a pixel; the distance is in its unit.
    frame_is_rim : bool
        Whether particles end at the border of the image. By default they are taken to be cut there: the border
        is no rim.

    Returns
    -------
    ndarray of float64, shape (rows, cols)
        NaN outside of particles; infinite for a particle whose rim is not in the image.

    Raises
    ------
    EdgeFittingError
        If labels are not two-dimensional whole numbers from 0.
    """
    from scipy import ndimage

    margin = int(frame_is_rim)
    marks = np.pad(check_labels(labels, np.shape(labels)), margin)
    out = np.full(marks.shape, np.nan)
    for label, box in enumerate(ndimage.find_objects(marks), start=1):
        if box is None:
            continue
        # The nearest pixel of another label is never further away than beside the box of the particle.
        around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        inside = marks[around] == label
        distance = np.inf if inside.all() else ndimage.distance_transform_edt(inside)[inside]
        out[around][inside] = (distance - 0.5) * pixel_size
    return out[margin : marks.shape[0] - margin, margin : marks.shape[1] - margin]


def relative_depth(labels: ArrayLike, *, frame_is_rim: bool = False) -> Array:
    """Distance from the rim in parts of the greatest distance in the particle: 0 at the rim, 1 at the core.

    Parameters
    ----------
    labels : array_like of int or bool, shape (rows, cols)
        As for :func:`edge_distance`.
    frame_is_rim : bool
        As for :func:`edge_distance`.

    Returns
    -------
    ndarray of float64, shape (rows, cols)
        NaN outside of particles and in particles whose rim is not in the image.
    """
    marks = check_labels(labels, np.shape(labels))
    distance = edge_distance(marks, frame_is_rim=frame_is_rim)
    deepest = np.zeros(int(marks.max(initial=0)) + 1)
    inside = marks > 0
    np.maximum.at(deepest, marks[inside], distance[inside])
    deepest[~np.isfinite(deepest)] = np.nan
    return np.asarray(distance / deepest[marks] if inside.any() else distance)


def radial_profile(
    values: ArrayLike, distance: ArrayLike, *, edges: ArrayLike, mask: ArrayLike | None = None
) -> RadialProfile:
    """Average a map over bins of the distance from the rim.

    Parameters
    ----------
    values : array_like, shape (rows, cols)
        The map; what is not finite is left out.
    distance : array_like, shape (rows, cols)
        From :func:`edge_distance` or :func:`relative_depth`.
    edges : array_like, shape (n_bins + 1,)
        Increasing limits of the bins in the unit of ``distance``; the last bin includes its upper limit.
    mask : array_like of bool, shape (rows, cols), optional
        Pixels to use, such as those of one particle; all by default.

    Returns
    -------
    RadialProfile

    Raises
    ------
    EdgeFittingError
        If shapes differ or the limits do not increase.
    """
    array = np.asarray(values, dtype=np.float64)
    depth = np.asarray(distance, dtype=np.float64)
    if depth.shape != array.shape:
        raise EdgeFittingError(f"distance has shape {depth.shape} but the map has {array.shape}.")
    limits = np.atleast_1d(np.asarray(edges, dtype=np.float64))
    if limits.ndim != 1 or limits.size < 2 or not (np.diff(limits) > 0).all():
        raise EdgeFittingError("edges must be two or more increasing numbers.")
    good = check_mask(mask, array.shape) & np.isfinite(array) & np.isfinite(depth)
    good &= (depth >= limits[0]) & (depth <= limits[-1])
    array, depth = array[good], depth[good]
    where = np.minimum(np.searchsorted(limits, depth, side="right") - 1, limits.size - 2)
    n_bins = limits.size - 1
    table = np.full((5, n_bins), np.nan)
    for k in range(n_bins):
        inside = array[where == k]
        if inside.size == 0:
            continue
        table[0, k] = depth[where == k].mean()
        table[1, k] = inside.mean()
        if inside.size > 1:
            table[2, k] = inside.std(ddof=1) / np.sqrt(inside.size)
        table[3, k], table[4, k] = median_and_spread(inside)
    return RadialProfile(
        edges=limits,
        distance=table[0],
        mean=table[1],
        standard_error=table[2],
        median=table[3],
        spread=table[4],
        n_values=np.bincount(where, minlength=n_bins).astype(np.int64),
    )
