"""Cracks inside of particles, wide and fine."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

from ._robust import check_labels, median_and_spread

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# In standard deviations of what whole material shows: what a crack has to exceed, and how far it goes then.
_CORE_SIGMA, _REACH_SIGMA = 6.0, 3.0
# A ridge filter answers to a narrow valley with about this share of its depth.
_RIDGE_SHARE = 1 / 3
_RIDGE_WIDTHS_PX = (1.0, 1.5, 2.0)
_SMOOTHING_PX = 0.7
# The rim of a particle is steep: what looks like a valley there is none.
_RIM_PX = 2.0
# Where particles touch they lie over each other a little, with a groove on either side: no crack is looked for within
# this share of the inscribed circle's radius.
_CONTACT_SHARE = 0.15
_FEWEST_PX = 50
_THICKNESS_CLASSES = 8


def segment_cracks(
    thickness: ArrayLike,
    labels: ArrayLike,
    *,
    widest_px: int = 15,
    least_loss: float = 0.12,
    min_pixels: int = 6,
) -> Mask:
    """Find the cracks of particles: where material is missing along a line.

    Wide cracks are where the thickness falls short of what lies around them (a grey closing), fine ones where a
    ridge filter answers to a valley; of both, what is beyond a strict limit counts with what hangs on it beyond a
    lenient one (hysteresis). The limits follow from the scatter of the particle itself, and Otsu's threshold where
    that is stricter.

    Parameters
    ----------
    thickness : array_like, shape (rows, cols)
        Thickness or edge jump; 0 where there is no material, NaN where it is not known (never a crack).
    labels : array_like of int, shape (rows, cols)
        Particle of each pixel, 0 for none (see :func:`split_particles`); each is looked at by itself.
    widest_px : int
        Widest crack; half of a particle's inscribed circle is the limit in any case.
    least_loss : float
        Least share of the thickness that a crack takes away: unevenness of whole material stays below.
    min_pixels : int
        Smaller ones are dropped.

    Returns
    -------
    ndarray of bool, shape (rows, cols)

    Raises
    ------
    EdgeFittingError
        If shapes differ, labels are not whole numbers from 0, or the limits make no sense.

    Notes
    -----
    Otsu's threshold: N. Otsu, IEEE Trans. Syst. Man Cybern. 9, 62 (1979). Ridge filter: Y. Sato et al., Med. Image
    Anal. 2, 143 (1998). The scheme of a wide and a fine class is that of crack analyses of NMC particles from X-ray
    nanotomography.
    """
    height = np.asarray(thickness, dtype=np.float64)
    marks = check_labels(labels, height.shape)
    if widest_px < 1 or not 0 < least_loss < 1 or min_pixels < 1:
        raise EdgeFittingError("widest_px and min_pixels must be 1 or more, and least_loss between 0 and 1.")
    from scipy import ndimage

    found = np.zeros(height.shape, dtype=bool)
    for label, box in enumerate(ndimage.find_objects(marks), start=1):
        if box is None:
            continue
        # Wide enough that the closing sees what lies beside the particle: nothing.
        margin = int(widest_px) + 2
        around = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box)
        here = marks[around]
        others = (here > 0) & (here != label)
        found[around] |= _of_one(height[around], here == label, others, int(widest_px), least_loss)
    parts, _ = ndimage.label(found, np.ones((3, 3)))
    keep = np.bincount(parts.ravel()) >= min_pixels
    keep[0] = False
    return np.asarray(keep[parts])


def _of_one(thickness: Array, inside: Mask, others: Mask, widest_px: int, least_loss: float) -> Mask:
    from scipy import ndimage
    from skimage.filters import sato

    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    known = inside & np.isfinite(thickness)
    core = known & (depth > _RIM_PX)
    if others.any():
        core &= ndimage.distance_transform_edt(~others) > _RIM_PX + _CONTACT_SHARE * depth.max()
    if np.count_nonzero(core) < _FEWEST_PX:
        return np.zeros(inside.shape, dtype=bool)
    weight = ndimage.gaussian_filter(known.astype(np.float64), _SMOOTHING_PX)
    flat = np.where(known, thickness, 0.0)
    smooth = ndimage.gaussian_filter(flat, _SMOOTHING_PX) / np.maximum(weight, 1e-6)
    smooth = np.where(known, smooth, 0.0)
    reach = 2 * min(widest_px, int(depth.max())) // 2 + 1
    # Nothing is said of what lies beyond the border of the image.
    closed = ndimage.grey_closing(smooth, size=(reach, reach), mode="constant", cval=0.0)
    around = np.maximum(closed, smooth)
    whole = np.where(around > 0, around, 1.0)
    loss = np.where(known & (around > 0), 1.0 - smooth / whole, 0.0)
    left = np.where(known & (around > 0), flat / whole, 1.0)
    ridge = sato(left, sigmas=_RIDGE_WIDTHS_PX, black_ridges=True)
    return _hysteresis(loss, around, core, least_loss) | _hysteresis(
        ridge, around, core, least_loss * _RIDGE_SHARE
    )


def _hysteresis(answer: Array, thickness: Array, core: Mask, least: float) -> Mask:
    """Return what is beyond a strict limit, with what hangs on it beyond a lenient one."""
    from skimage.filters import apply_hysteresis_threshold, threshold_otsu

    # Noise weighs more where there is less material: limits by thickness.
    values, height = answer[core], thickness[core]
    n_classes = int(np.clip(values.size // _FEWEST_PX, 1, _THICKNESS_CLASSES))
    classes = np.array_split(np.argsort(height, kind="stable"), n_classes)
    middle = [float(np.median(height[part])) for part in classes]
    median, spread = np.transpose([median_and_spread(values[part]) for part in classes])
    offset, scale = (np.interp(thickness, middle, column) for column in (median, spread))
    low = np.maximum(offset + _REACH_SIGMA * scale, least)
    high = np.maximum(offset + _CORE_SIGMA * scale, 2 * least)
    beyond = values[(answer > low)[core]]
    if beyond.size > 1 and np.ptp(values) > 0:
        # Otsu's threshold parts the bottom of the cracks from unevenness, where there are enough of them.
        high = np.maximum(high, np.minimum(float(threshold_otsu(values)), 2 * high))
    return np.asarray(apply_hysteresis_threshold(np.where(core, answer - low, -1.0), 0.0, high - low))
