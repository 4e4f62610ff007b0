"""How much a map varies inside of particles and between them, with noise taken out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_fitting.errors import EdgeFittingError

from ._intrinsic_spread import spread_sigma
from ._particles import ParticleStatistics

Array = NDArray[np.float64]

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


def mean_over_particles(mean: Array, error: Array) -> tuple[float, float]:
    """Mean of particles, each counting by its own error and how much they differ, and its standard error.

    Parameters
    ----------
    mean, error : ndarray, shape (n_particles,)
        Mean of each particle with its standard error, all finite.

    Returns
    -------
    tuple of float
        NaN for no particle.
    """
    if not mean.size:
        return float("nan"), float("nan")
    square = _between(mean, error) if mean.size > 1 else 0.0
    weight = 1.0 / np.maximum(error**2 + square, 1e-300)
    return float(np.sum(weight * mean) / weight.sum()), float(np.sqrt(1.0 / weight.sum()))


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
