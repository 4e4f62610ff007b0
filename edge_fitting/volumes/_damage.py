"""Damage of particles by how much of them is crack: classes, and where in the electrode the damage is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

from ._arrays import Array

Counts = NDArray[np.int64]

DAMAGE_LIMITS = (0.02, 0.08)
"""Crack share from which on a particle counts as mildly, and as severely damaged, unless others are given."""


class Damage(IntEnum):
    """Damage class of a particle."""

    LEAST = 0
    MILD = 1
    SEVERE = 2


def check_limits(limits: Sequence[float]) -> tuple[float, float]:
    """Return the limits of the damage classes.

    Raises
    ------
    EdgeFittingError
        They are no two increasing shares.
    """
    values = tuple(float(limit) for limit in limits)
    if len(values) != 2 or not 0 < values[0] < values[1] < 1:
        raise EdgeFittingError(
            "limits of the damage must be two increasing crack shares between 0 and 1, such as 0.02,0.08."
        )
    return values[0], values[1]


def damage_classes(
    crack_share: ArrayLike, crack_share_sigma: ArrayLike, limits: Sequence[float] = DAMAGE_LIMITS
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Class particles by the share of them that is crack.

    Parameters
    ----------
    crack_share, crack_share_sigma : array_like, shape (n_particles,)
        From :func:`segment_volume_cracks`.
    limits : (float, float)
        Crack share from which on a particle is mildly, and severely damaged.

    Returns
    -------
    classes : ndarray of uint8
        A `Damage` of each particle.
    sure : ndarray of bool
        Whether a share one sigma higher or lower is in the same class.

    Raises
    ------
    EdgeFittingError
        The limits make no sense.
    """
    bounds = np.array(check_limits(limits))
    share, sigma = (np.asarray(part, dtype=np.float64) for part in (crack_share, crack_share_sigma))
    found, low, high = (
        np.searchsorted(bounds, moved, side="right").astype(np.uint8)
        for moved in (share, share - sigma, share + sigma)
    )
    return found, low == high


@dataclass(frozen=True, slots=True, eq=False)
class DamageProfile:
    """Damage along a direction of the electrode.

    Parameters
    ----------
    edges : ndarray, shape (n_bins + 1,)
        Limits of the bins.
    n_particles, n_severe, n_mild, n_least : ndarray of int, shape (n_bins,)
        Particles with their centre in a bin, and those of each class.
    crack_share, crack_share_sigma : ndarray
        Mean crack share of the particles in a bin, by their volume, and its standard error from how much they differ;
        NaN for none, and no error for one.
    slope, slope_sigma : float
        Change of the crack share per unit of length over all particles, by their volume; NaN for fewer than three.
    """

    edges: Array
    n_particles: Counts
    n_severe: Counts
    n_mild: Counts
    n_least: Counts
    crack_share: Array
    crack_share_sigma: Array
    slope: float
    slope_sigma: float


def damage_profile(
    place: ArrayLike, crack_share: ArrayLike, classes: ArrayLike, volume: ArrayLike, *, edges: ArrayLike
) -> DamageProfile:
    """Say how damage changes along a direction: depth in the electrode, or across it.

    Parameters
    ----------
    place : array_like, shape (n_particles,)
        Centre of each particle along the direction.
    crack_share, classes, volume : array_like, shape (n_particles,)
        Crack share, `Damage` and volume of each.
    edges : array_like, shape (n_bins + 1,)
        Increasing limits of the bins; the last includes its upper limit.

    Returns
    -------
    DamageProfile

    Raises
    ------
    EdgeFittingError
        Shapes differ or the limits do not increase.
    """
    where, share, weight = (
        np.atleast_1d(np.asarray(part, np.float64)) for part in (place, crack_share, volume)
    )
    kind = np.atleast_1d(np.asarray(classes))
    limits = np.asarray(edges, dtype=np.float64)
    if not where.shape == share.shape == weight.shape == kind.shape or where.ndim != 1:
        raise EdgeFittingError("place, crack_share, classes and volume must be one value a particle each.")
    if limits.ndim != 1 or limits.size < 2 or not (np.diff(limits) > 0).all():
        raise EdgeFittingError("edges must be two or more increasing numbers.")
    n_bins = limits.size - 1
    slot = np.minimum(np.searchsorted(limits, where, side="right") - 1, n_bins - 1)
    slot = np.where((where >= limits[0]) & (where <= limits[-1]), slot, -1)
    mean, error = np.full(n_bins, np.nan), np.full(n_bins, np.nan)
    for k in range(n_bins):
        mean[k], error[k] = _weighted(share[slot == k], weight[slot == k])

    def counted(chosen: NDArray[np.bool_]) -> Counts:
        return np.bincount(slot[chosen & (slot >= 0)], minlength=n_bins).astype(np.int64)

    slope, slope_sigma = _slope(where, share, weight)
    return DamageProfile(
        edges=limits,
        n_particles=counted(slot >= 0),
        n_severe=counted(kind == Damage.SEVERE),
        n_mild=counted(kind == Damage.MILD),
        n_least=counted(kind == Damage.LEAST),
        crack_share=mean,
        crack_share_sigma=error,
        slope=slope,
        slope_sigma=slope_sigma,
    )


def _weighted(values: Array, weight: Array) -> tuple[float, float]:
    if not values.size:
        return float("nan"), float("nan")
    part = weight / weight.sum()
    mean = float(np.sum(part * values))
    if values.size == 1:
        return mean, float("nan")
    # Of unequal weights so many count: what scatters is multiplied up accordingly.
    free = 1.0 - float(np.sum(part**2))
    return mean, float(np.sqrt(np.sum(part**2) * np.sum(part * (values - mean) ** 2) / free))


def _slope(place: Array, share: Array, weight: Array) -> tuple[float, float]:
    """Slope of a weighted straight line, its error from the scatter around it."""
    if place.size < 3 or not np.ptp(place) > 0:
        return float("nan"), float("nan")
    part = weight / weight.sum()
    x = place - np.sum(part * place)
    y = share - np.sum(part * share)
    square = float(np.sum(part * x**2))
    slope = float(np.sum(part * x * y)) / square
    left = y - slope * x
    lost = 1.0 - 2.0 / place.size
    return slope, float(np.sqrt(np.sum((part * x * left) ** 2) / lost)) / square
