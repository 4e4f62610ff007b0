"""Particles that touch, told apart where they neck."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

Labels = NDArray[np.int32]
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Steps of the pixel grid make small maxima of the distance; this much smoothing (px) takes them away.
_SMOOTHING_PX = 1.0
_SEARCHED_PX = 2**18


def split_particles(
    mask: ArrayLike,
    *,
    neck: float = 0.8,
    min_diameter: float = 4.5,
    max_diameter: float = np.inf,
    pixel_size: float = 1.0,
    gap_px: int = 2,
) -> Labels:
    """Label the particles of a mask, those that touch apart (watershed of the distance to the rim).

    Two parts are two particles where what joins them is narrower than a share of the narrower part's own
    inscribed circle.

    Parameters
    ----------
    mask : array_like of bool, shape (rows, cols)
        What is particle, such as an edge jump above a threshold.
    neck : float
        Width of the neck over the diameter of the smaller part's inscribed circle, below which they are two.
    min_diameter, max_diameter : float
        Diameters of the circles of the same area, in the unit of ``pixel_size``: what is smaller counts to the
        particle it hangs on, or is left out where it stands alone; what is larger is left out.
    pixel_size : float
        Size of a pixel.
    gap_px : int
        Cracks and missing pixels up to twice this wide do not part a particle, and count to it where they lie
        inside.

    Returns
    -------
    ndarray of int32, shape (rows, cols)
        0 outside, then 1, 2, ... in the order of each particle's first pixel, row by row.

    Raises
    ------
    EdgeFittingError
        If the mask is not two-dimensional, no pixel of it is left, or the limits make no sense.

    Notes
    -----
    Seeds are the maxima of the logarithm of the distance that stand at least ``-ln(neck)`` above the saddle to a
    higher one [1]_, so that the measure is a shape and holds for any size.

    .. [1] P. Soille, Morphological Image Analysis, 2nd ed., Springer 2004, sections 6.3 and 9.2.
    """
    array = np.asarray(mask, dtype=np.bool_)
    if array.ndim != 2:
        raise EdgeFittingError(f"mask must be (rows, cols), not of shape {array.shape}.")
    if not array.any():
        raise EdgeFittingError("the mask leaves no pixel: there are no particles to tell apart.")
    if not 0 < neck < 1 or not 0 < min_diameter < max_diameter or not pixel_size > 0 or gap_px < 0:
        raise EdgeFittingError(
            "neck must be between 0 and 1, min_diameter above 0 and below max_diameter, pixel_size above 0 and "
            "gap_px not negative."
        )
    from scipy import ndimage
    from skimage.segmentation import watershed

    whole = _without_gaps(array, gap_px)
    # Where the image cuts a particle there is no rim.
    depth = ndimage.distance_transform_edt(np.pad(whole, 1, mode="edge"))[1:-1, 1:-1]
    if not np.isfinite(depth).all() or whole.all():
        return whole.astype(np.int32)
    depth = ndimage.gaussian_filter(depth, _SMOOTHING_PX)
    seeds = _seeds(depth, whole, neck, 0.5 * min_diameter / pixel_size)
    labels = watershed(-depth, seeds, mask=whole)
    # What closing the gaps has added beside a particle is none of it.
    labels[~(array | _small_holes(array, gap_px))] = 0
    diameter = pixel_size * np.sqrt(4.0 / np.pi * np.bincount(labels.ravel()))
    keep = (diameter >= min_diameter) & (diameter <= max_diameter)
    keep[0] = False
    return _in_order(np.where(keep[labels], labels, 0))


def _without_gaps(mask: Mask, gap_px: int) -> Mask:
    """Close cracks that run in from the rim, and fill small holes."""
    from scipy import ndimage

    if gap_px == 0:
        return mask
    reach = np.hypot(*np.mgrid[-gap_px : gap_px + 1, -gap_px : gap_px + 1]) <= gap_px + 0.3
    padded = np.pad(mask, gap_px, mode="edge")
    closed = ndimage.binary_closing(padded, reach)[gap_px:-gap_px, gap_px:-gap_px] | mask
    return np.asarray(closed | _small_holes(closed, gap_px))


def _small_holes(mask: Mask, gap_px: int) -> Mask:
    """Holes nowhere wider than the gaps that are bridged; wider ones may be space between particles."""
    from scipy import ndimage

    inner = np.pad(~mask, 1, constant_values=True)  # what reaches the border of the image is no hole
    holes, n_holes = ndimage.label(inner)
    small = _greatest(ndimage.distance_transform_edt(inner), holes, n_holes) <= gap_px + 1
    small[0] = False
    small[holes[0, 0]] = False
    return np.asarray(small[holes][1:-1, 1:-1])


def _seeds(depth: Array, whole: Mask, neck: float, least_px: float) -> Labels:
    """Mark the cores of the particles."""
    from scipy import ndimage
    from skimage.morphology import local_maxima, reconstruction

    # Cores are wide: of large images some of the rows and columns show them as well, in a part of the time.
    step = max(1, int(np.sqrt(depth.size / _SEARCHED_PX)))
    coarse = np.s_[::step, ::step]
    height = np.log(np.where(whole, np.maximum(depth, _SMOOTHING_PX / 4), _SMOOTHING_PX / 4))[coarse]
    lowered = reconstruction(height + np.log(neck), height, method="dilation")
    cores = local_maxima(lowered, connectivity=2) & whole[coarse]
    found, n = ndimage.label(cores, np.ones((3, 3)))
    marks = np.zeros(depth.shape, np.int32)
    marks[coarse] = found
    # A part that is too small to be a particle seeds none, unless it stands alone.
    keep = _greatest(depth, marks, n) >= least_px
    keep[0] = False
    marks = np.where(keep[marks], marks, 0)
    parts, n_parts = ndimage.label(whole, np.ones((3, 3)))
    seeded = np.zeros(n_parts + 1, dtype=bool)
    seeded[parts[marks > 0]] = True
    return np.where(whole & ~seeded[parts], n + parts, marks).astype(np.int32)


def _greatest(values: Array, labels: NDArray[np.integer], n_labels: int) -> Array:
    """Return the greatest value of each label from 0 on."""
    out = np.zeros(n_labels + 1)
    inside = labels > 0
    np.maximum.at(out, labels[inside], values[inside])
    return out


def _in_order(labels: NDArray[np.integer]) -> Labels:
    """Renumber labels in the order of their first pixels."""
    found, first, index = np.unique(labels.ravel(), return_index=True, return_inverse=True)
    rank = np.zeros(found.size, np.int32)
    inside = np.flatnonzero(found > 0)
    rank[inside[np.argsort(first[inside], kind="stable")]] = np.arange(1, inside.size + 1)
    return rank[index].reshape(labels.shape)
