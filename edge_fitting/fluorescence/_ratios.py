"""Ratios of counts, with intervals that hold when there are few."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

from ._projection import SpectrumProjection

__all__ = ["CountRatio", "atomic_fractions", "element_ratio", "ratio_of_counts"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CountRatio:
    """A ratio and where it lies with 68 % probability.

    Attributes
    ----------
    value : ndarray
        The ratio; NaN where the denominator is not above its uncertainty.
    low, high : ndarray
        Limits of the interval.
    """

    value: Array
    low: Array
    high: Array

    @property
    def sigma(self) -> Array:
        """Half of the interval."""
        return np.asarray((self.high - self.low) / 2.0)


def ratio_of_counts(
    numerator: ArrayLike,
    numerator_variance: ArrayLike,
    denominator: ArrayLike,
    denominator_variance: ArrayLike,
    covariance: ArrayLike = 0.0,
) -> CountRatio:
    """Return a ratio with Fieller's interval (J. R. Stat. Soc. B 1954), which few counts do not spoil.

    Parameters
    ----------
    numerator, denominator : array_like
        Estimates without bias: of counts those of the free least squares, which may be negative.
    numerator_variance, denominator_variance, covariance : array_like
        Of them.

    Returns
    -------
    CountRatio
        NaN where the denominator is within one standard deviation of zero: the interval has no end there.
    """
    a, va = np.asarray(numerator, np.float64), np.asarray(numerator_variance, np.float64)
    b, vb = np.asarray(denominator, np.float64), np.asarray(denominator_variance, np.float64)
    c = np.asarray(covariance, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        lead = b**2 - vb
        half = a * b - c
        root = np.sqrt(np.maximum(half**2 - lead * (a**2 - va), 0.0))
        bounded = (lead > 0) & (b > 0)
        value = np.where(bounded, a / b, np.nan)
        low = np.where(bounded, (half - root) / lead, np.nan)
        high = np.where(bounded, (half + root) / lead, np.nan)
    return CountRatio(value, low, high)


def element_ratio(
    projection: SpectrumProjection,
    free: Array,
    over: tuple[str, str],
    sensitivity: Mapping[str, Any],
    *,
    variance_factor: ArrayLike = 1.0,
) -> CountRatio:
    """Return the ratio of atoms of two elements, such as ``("Mn", "Ni")``, of each spectrum.

    Parameters
    ----------
    projection : SpectrumProjection
        What the amplitudes are from.
    free : ndarray, shape (n, n_components)
        Amplitudes of the free least squares.
    over : tuple of str
        Numerator and denominator.
    sensitivity : mapping of str to float or ndarray, shape (n,)
        Counts of each element per atom, on a common scale; of each spectrum where they differ.
    variance_factor : array_like, shape (n,)
        As for `SpectrumProjection.fit`.
    """
    top, bottom = over
    return _of_weights(projection, free, {top: 1.0}, {bottom: 1.0}, sensitivity, variance_factor)


def atomic_fractions(
    projection: SpectrumProjection,
    free: Array,
    elements: Sequence[str],
    sensitivity: Mapping[str, Any],
    *,
    variance_factor: ArrayLike = 1.0,
) -> dict[str, CountRatio]:
    """Return the share of each of some elements among the atoms of all of them; parameters as `element_ratio`."""
    every = dict.fromkeys(elements, 1.0)
    return {
        name: _of_weights(projection, free, {name: 1.0}, every, sensitivity, variance_factor)
        for name in elements
    }


def _of_weights(
    projection: SpectrumProjection,
    free: Array,
    top: Mapping[str, float],
    bottom: Mapping[str, float],
    sensitivity: Mapping[str, Any],
    variance_factor: ArrayLike,
) -> CountRatio:
    names = projection.model.elements
    n = projection.model.n_elements
    lacking = [name for name in (*top, *bottom) if name not in names or name not in sensitivity]
    if lacking:
        raise EdgeFittingError(
            f"There is no {lacking[0]} among the fitted elements ({', '.join(names)}), or no sensitivity for it."
        )
    points = free.shape[:1]
    t, b = (
        np.stack(
            [
                np.broadcast_to(weights.get(name, 0.0) / np.asarray(sensitivity.get(name, 1.0)), points)
                for name in names
            ],
            axis=1,
        )
        for weights in (top, bottom)
    )
    factor = np.asarray(variance_factor, np.float64)
    covariance = projection.covariances(free)

    def between(x: Array, y: Array) -> Array:
        return np.asarray(np.einsum("pij,pi,pj->p", covariance, x, y) * factor)

    own = free[:, :n]
    return ratio_of_counts(
        (own * t).sum(axis=1), between(t, t), (own * b).sum(axis=1), between(b, b), between(t, b)
    )
