"""Sheets and lines of lower density: how deep a valley is at each voxel."""

from __future__ import annotations

import numpy as np

from ._arrays import Volume

_WIDTHS_PX = (1.0, 1.5, 2.0)
_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


def valley_depth(values: Volume) -> Volume:
    """Return the largest curvature in any direction, at the width that answers most, in units of the values.

    A sheet much narrower than the width answers with the depth that the smoothing by this width leaves of it; a step
    answers on its lower side only.

    Parameters
    ----------
    values : ndarray of float32, shape (planes, rows, columns)
        Density over that of whole material.

    Returns
    -------
    ndarray of float32
        Not negative.
    """
    best = np.zeros(values.shape, np.float32)
    for width in _WIDTHS_PX:
        np.maximum(best, width**2 * _largest_curvature(values, width), out=best)
    return best


def _largest_curvature(values: Volume, width_px: float) -> Volume:
    """Largest eigenvalue of the Hessian of the smoothed values (closed form for symmetric 3 x 3 matrices)."""
    from scipy import ndimage

    parts = []
    for first, second in _PAIRS:
        order = [0, 0, 0]
        order[first] += 1
        order[second] += 1
        parts.append(ndimage.gaussian_filter(values, width_px, order=order, mode="nearest", truncate=3.5))
    zz, yy, xx, zy, zx, yx = parts
    mean = (zz + yy + xx) / 3.0
    zz, yy, xx = zz - mean, yy - mean, xx - mean
    spread = np.sqrt((zz**2 + yy**2 + xx**2 + 2.0 * (zy**2 + zx**2 + yx**2)) / 6.0)
    determinant = zz * (yy * xx - yx**2) - zy * (zy * xx - yx * zx) + zx * (zy * yx - yy * zx)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(spread > 0, determinant / (2.0 * spread**3), 0.0)
    angle = np.arccos(np.clip(ratio, -1.0, 1.0)) / 3.0
    return np.asarray(mean + 2.0 * spread * np.cos(angle), dtype=np.float32)
