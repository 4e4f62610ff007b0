"""How alike neighbouring pixels are, and what that means for the error of a mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Neighbours further apart than this, or less alike, count as independent.
_REACH_PX = 12
_LEAST = 0.05


def neighbour_correlation(residual: Array, labels: NDArray[np.intp]) -> Array:
    """Correlation of standardised residuals with their neighbours' of the same particle, pooled over all particles.

    Parameters
    ----------
    residual : ndarray, shape (rows, cols)
        Residuals over their standard deviation; NaN where there is none.
    labels : ndarray of int, shape (rows, cols)
        Particle of each pixel, 0 for none.

    Returns
    -------
    ndarray, shape (2 * 12 + 1, 2 * 12 + 1)
        1 in the middle; 0 from the distance on at which its mean over all directions is below 0.05.
    """
    from scipy import fft, ndimage

    size = 2 * _REACH_PX + 1
    products, pairs = np.zeros((size, size)), np.zeros((size, size))
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        known = (labels[box] == label) & np.isfinite(residual[box])
        if np.count_nonzero(known) < 2:
            continue
        shape = [fft.next_fast_len(n + _REACH_PX, real=True) for n in known.shape]
        for total, image in (
            (products, np.where(known, residual[box], 0.0)),
            (pairs, known.astype(np.float64)),
        ):
            seen = fft.rfft2(image, shape)
            both = np.roll(fft.irfft2(seen * np.conj(seen), shape), (_REACH_PX, _REACH_PX), axis=(0, 1))
            # Narrow particles have no pairs further apart than they are wide.
            cut = both[:size, :size]
            total[: cut.shape[0], : cut.shape[1]] += cut
    middle = products[_REACH_PX, _REACH_PX] / max(pairs[_REACH_PX, _REACH_PX], 1.0)
    found = np.zeros((size, size))
    if middle > 0:
        enough = pairs > 20
        found[enough] = products[enough] / pairs[enough] / middle
    distance = np.hypot(*np.mgrid[-_REACH_PX : _REACH_PX + 1, -_REACH_PX : _REACH_PX + 1])
    ring = np.rint(distance).astype(np.intp)
    mean = np.bincount(ring.ravel(), found.ravel()) / np.bincount(ring.ravel())
    below = np.flatnonzero(mean[: _REACH_PX + 1] < _LEAST)
    found[ring >= (below[0] if below.size else _REACH_PX + 1)] = 0.0
    found[_REACH_PX, _REACH_PX] = 1.0
    return np.clip(found, 0.0, 1.0)


def variance_of_sum(weighted: Array, correlation: Array) -> float:
    """Variance of a weighted sum of correlated values.

    Parameters
    ----------
    weighted : ndarray, shape (rows, cols)
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
