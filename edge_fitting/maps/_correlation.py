"""How alike neighbouring pixels are, and what that means for the error of a mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Neighbours further apart than this (in maps, and in volumes), or less alike, count as independent.
_REACH_PX = {2: 12, 3: 6}
_LEAST = 0.05


def neighbour_correlation(residual: NDArray[np.floating], labels: NDArray[np.integer]) -> Array:
    """Correlation of standardised residuals with their neighbours' of the same particle, pooled over all particles.

    Parameters
    ----------
    residual : ndarray, shape (rows, cols) or (planes, rows, cols)
        Residuals over their standard deviation; NaN where there is none.
    labels : ndarray of int, of the same shape
        Particle of each pixel, 0 for none.

    Returns
    -------
    ndarray, shape (2 * reach + 1, ...)
        1 in the middle; 0 from the distance on at which its mean over all directions is below 0.05. The reach is 12 px
        of maps and 6 of volumes.
    """
    from scipy import fft, ndimage

    reach = _REACH_PX[residual.ndim]
    axes = tuple(range(residual.ndim))
    size = 2 * reach + 1
    products, pairs = np.zeros((size,) * residual.ndim), np.zeros((size,) * residual.ndim)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        known = (labels[box] == label) & np.isfinite(residual[box])
        if np.count_nonzero(known) < 2:
            continue
        shape = [fft.next_fast_len(n + reach, real=True) for n in known.shape]
        for total, image in (
            (products, np.where(known, residual[box], 0.0)),
            (pairs, known.astype(residual.dtype)),
        ):
            seen = fft.rfftn(image, shape)
            both = np.roll(fft.irfftn(seen * np.conj(seen), shape), (reach,) * residual.ndim, axis=axes)
            # Narrow particles have no pairs further apart than they are wide.
            cut = both[(slice(size),) * residual.ndim]
            total[tuple(map(slice, cut.shape))] += cut
    centre = (reach,) * residual.ndim
    middle = products[centre] / max(pairs[centre], 1.0)
    found = np.zeros(products.shape)
    if middle > 0:
        enough = pairs > 20
        found[enough] = products[enough] / pairs[enough] / middle
    offsets = np.indices(products.shape) - reach
    ring = np.rint(np.sqrt(np.sum(offsets**2, axis=0))).astype(np.intp)
    mean = np.bincount(ring.ravel(), found.ravel()) / np.bincount(ring.ravel())
    below = np.flatnonzero(mean[: reach + 1] < _LEAST)
    found[ring >= (below[0] if below.size else reach + 1)] = 0.0
    found[centre] = 1.0
    return np.clip(found, 0.0, 1.0)


def variance_of_sum(weighted: Array, correlation: Array) -> float:
    """Variance of a weighted sum of correlated values.

    Parameters
    ----------
    weighted : ndarray, shape (rows, cols) or (planes, rows, cols)
        Weight of each pixel times its standard deviation; 0 where it does not count.
    correlation : ndarray
        From :func:`neighbour_correlation`.
    """
    from scipy.signal import fftconvolve

    if np.count_nonzero(correlation) == 1:
        return float(np.sum(weighted**2))
    # Never below what independent pixels have: the correlation is an estimate.
    spread = fftconvolve(weighted, correlation, mode="same")
    return max(float(np.sum(weighted * spread)), float(np.sum(weighted**2)))
