"""How much a map varies inside of particles and between them, with noise taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import MAD_TO_SIGMA
from edge_fitting.errors import EdgeFittingError

if TYPE_CHECKING:
    from ._particles import ParticleStatistics

Array = NDArray[np.float64]

#: Variance of a squared median absolute deviation over that of a variance, for normal values.
ROBUST_COST = 2.72
_STEPS = 60


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """Spread of a map within particles and between them, after the noise is taken out.

    Parameters
    ----------
    n_particles : int
        Particles with a mean.
    mean, mean_sigma : float
        Mean over the particles, each counting once but for its own error.
    within, within_sigma : float
        Root mean square of the particles' own intrinsic spreads.
    between, between_sigma : float
        Standard deviation of the particles' means, their errors taken out; NaN for fewer than two.
    """

    n_particles: int
    mean: float
    mean_sigma: float
    within: float
    within_sigma: float
    between: float
    between_sigma: float


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
    off = np.abs(values - np.median(values))

    def excess(square: float) -> float:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = off / np.sqrt(sigma**2 + square)
        return MAD_TO_SIGMA * float(np.median(np.where(off > 0, ratio, 0.0))) - 1.0

    low, high = 0.0, (MAD_TO_SIGMA * float(np.median(off))) ** 2
    if excess(0.0) <= 0:
        return float(np.median(sigma**2)) * ((1.0 + excess(0.0)) ** 2 - 1.0) if (sigma > 0).all() else 0.0
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return 0.5 * (low + high)


def spread_sigma(square: float, variance: float) -> float:
    """Return the standard deviation of a spread from the variance of its square; at 0 that of an upper limit."""
    error = float(np.sqrt(variance))
    return error / (2.0 * float(np.sqrt(max(square, 0.25 * error)))) if error > 0 else 0.0


def heterogeneity(particles: ParticleStatistics) -> Heterogeneity:
    """Tell how a map varies within particles from how it varies between them.

    Parameters
    ----------
    particles : ParticleStatistics
        Made with the pixels' standard deviations.

    Returns
    -------
    Heterogeneity

    Raises
    ------
    EdgeFittingError
        If no particle has a mean with an error.

    Notes
    -----
    Between: the variance for which ``sum (m - mean)**2 / (s**2 + variance) = n - 1`` (R. C. Paule and J. Mandel, J.
    Res. Natl. Bur. Stand. 87, 377 (1982)), with the means' own errors ``s``; its standard deviation from Fisher's
    information. Both spreads may be 0, with a standard deviation that is then an upper limit.
    """
    good = np.isfinite(particles.mean) & np.isfinite(particles.mean_sigma)
    if not good.any():
        raise EdgeFittingError(
            "no particle has a mean with an error: check the map, its sigmas and the labels."
        )
    mean, error = particles.mean[good], particles.mean_sigma[good]
    n = mean.size
    inside, spread, doubt = (
        column[good]
        for column in (
            particles.intrinsic_variance,
            particles.intrinsic_spread,
            particles.intrinsic_spread_sigma,
        )
    )
    has = np.isfinite(inside) & np.isfinite(doubt)
    within = within_sigma = float("nan")
    if has.any():
        # The variance of each square, its error at 0 being an upper limit.
        variances = (2.0 * np.maximum(spread[has], doubt[has]) * doubt[has]) ** 2
        within2 = max(float(inside[has].mean()), 0.0)
        within = float(np.sqrt(within2))
        within_sigma = spread_sigma(within2, float(variances.sum()) / variances.size**2)
    square = _between(mean, error) if n > 1 else 0.0
    total = np.maximum(error**2 + square, 1e-300)
    weight = 1.0 / total
    between = between_sigma = float("nan")
    if n > 1:
        information = float(np.sum(1.0 / total**2)) * (n - 1) / n
        between, between_sigma = float(np.sqrt(square)), spread_sigma(square, 2.0 / information)
    return Heterogeneity(
        n_particles=int(n),
        mean=float(np.sum(weight * mean) / weight.sum()),
        mean_sigma=float(np.sqrt(1.0 / weight.sum())),
        within=within,
        within_sigma=within_sigma,
        between=between,
        between_sigma=between_sigma,
    )


def _between(mean: Array, error: Array) -> float:
    def excess(square: float) -> float:
        weight = 1.0 / np.maximum(error**2 + square, 1e-300)
        middle = np.sum(weight * mean) / weight.sum()
        return float(np.sum(weight * (mean - middle) ** 2)) - (mean.size - 1)

    low, high = 0.0, float(np.var(mean, ddof=1))
    if not high > 0 or excess(low) <= 0:
        return 0.0
    # Errors that differ much may ask for more than the plain variance of the means.
    while excess(high) > 0:
        high *= 2.0
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return 0.5 * (low + high)
