"""Spread of values beyond what their own errors explain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import MAD_TO_SIGMA

Array = NDArray[np.float64]
#: Variance of a squared median absolute deviation over that of a variance, for normal values.
ROBUST_COST = 2.72


def intrinsic_variance(values: Array, sigma: Array) -> float:
    """Return the variance that standard deviations do not explain, where each value has its own.

    Parameters
    ----------
    values, sigma : ndarray, shape (n,)
        Values, and their standard deviations.

    Returns
    -------
    float
        ``t`` for which the median of ``|v - median| / sqrt(sigma**2 + t)`` is that of normal values. Below 0 where the
        values scatter less than their standard deviations, so that a mean over particles has no bias; NaN for one.
    """
    if values.size < 2:
        return float("nan")
    square = (MAD_TO_SIGMA * (values - np.median(values))) ** 2
    # ``MAD_TO_SIGMA |v - median| / sqrt(sigma**2 + t)`` is below 1 for just those whose difference here is below t.
    more = float(np.median(square - sigma**2))
    if more > 0:
        return more
    return (
        float(np.median(sigma**2)) * (float(np.median(square / sigma**2)) - 1.0) if (sigma > 0).all() else 0.0
    )


def spread_sigma(square: float, variance: float) -> float:
    """Return the standard deviation of a spread from the variance of its square; at 0 that of an upper limit."""
    error = float(np.sqrt(variance))
    return error / (2.0 * float(np.sqrt(max(square, 0.25 * error)))) if error > 0 else 0.0
