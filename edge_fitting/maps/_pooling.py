"""Several fields of view as one sample: distribution, and spread within particles, between them and between fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

from ._histogram import bandwidth_and_range, peak_and_width_of_counts
from ._intrinsic_spread import spread_sigma
from ._nested import nested_spread
from ._particles import ParticleStatistics, particle_statistics
from ._robust import check_labels

Array = NDArray[np.float64]

_DRAWS = 200
# With fewer fields, drawing whole fields tells nothing of how fields differ.
_LEAST_FIELDS = 4
# Of the kernel's width: fine enough for its peak to be interpolated.
_STEPS_PER_BANDWIDTH = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class MapField:
    """A map of one field of view.

    Parameters
    ----------
    values : array_like, shape (rows, cols)
        The map; what is not finite is left out.
    sigma : array_like, shape (rows, cols)
        Standard deviation of each pixel.
    labels : array_like of int, shape (rows, cols)
        Particle of each pixel, 0 for none; pixels without a particle are left out.
    """

    values: ArrayLike
    sigma: ArrayLike
    labels: ArrayLike


@dataclass(frozen=True, slots=True, eq=False)
class PooledMaps:
    """What several fields of view say of one sample.

    Parameters
    ----------
    n_fields, n_particles, n_values : int
        Fields, particles with a mean, and pixels.
    mean, mean_sigma : float
        Mean over particles and fields, each counting by its own error and by how much particles and fields differ.
    median : float
        Of the pixels.
    peak, peak_sigma : float
        Where the smoothed distribution of the pixels is highest.
    fwhm, fwhm_sigma : float
        Full width at half of that height, the smoothing taken out; the noise of the pixels is in it.
    errors_from : {"fields", "particles", "none"}
        What was drawn anew for the errors of peak and width: whole fields (four or more), or particles, which leaves
        out how fields differ; with one particle there is no error (NaN).
    within, within_sigma : float
        Spread of the pixels in a particle beyond their noise, root mean square over the particles.
    between_particles, between_particles_sigma : float
        Spread of the particles of one field beyond the errors of their means; NaN where no field has two.
    between_fields, between_fields_sigma : float
        Spread of fields beyond that; NaN for one field.
    field_mean, field_mean_sigma : ndarray, shape (n_fields,)
        Mean over the particles of each field, and its standard error with the spread between particles; NaN without.
    values : ndarray
        The pixels' values.
    """

    n_fields: int
    n_particles: int
    n_values: int
    mean: float
    mean_sigma: float
    median: float
    peak: float
    peak_sigma: float
    fwhm: float
    fwhm_sigma: float
    errors_from: Literal["fields", "particles", "none"]
    within: float
    within_sigma: float
    between_particles: float
    between_particles_sigma: float
    between_fields: float
    between_fields_sigma: float
    field_mean: Array
    field_mean_sigma: Array
    values: Array


def pool_maps(fields: Sequence[MapField], *, seed: int = 0) -> PooledMaps:
    """Pool several fields of view of one sample.

    Parameters
    ----------
    fields : sequence of MapField
        Maps of the same quantity.
    seed : int
        Of the draws that give the errors of peak and width.

    Returns
    -------
    PooledMaps

    Raises
    ------
    EdgeFittingError
        If there is no field, shapes differ, or no particle has a value with an error.

    Notes
    -----
    The spreads are those of a nested random-effects model, particles in fields, by restricted maximum likelihood, with
    the known errors of the particles' means (S. R. Searle, G. Casella and C. E. McCulloch, Variance Components, Wiley
    1992, ch. 6). Peak and width are of a Gaussian kernel estimate; their errors by the bootstrap of whole clusters
    (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, ch. 8), because pixels of a particle, and
    particles of a field, are alike; scaled by ``n / (n - 1)`` for few of them.
    """
    if not fields:
        raise EdgeFittingError("a sample needs at least one field of view.")
    statistics, pixels = [], []
    for field in fields:
        statistics.append(particle_statistics(field.values, field.labels, sigma=field.sigma))
        pixels.append(_pixels_of_particles(field))
    groups = [group for of_field in pixels for group in of_field]
    if not groups:
        raise EdgeFittingError(
            "no field has a particle with values to pool: check the maps and their labels."
        )
    means = [_means(one) for one in statistics]
    spread = nested_spread([mean for mean, _ in means], [error for _, error in means])
    within, within_sigma = _within(statistics)
    values = np.concatenate(groups)
    field_of = np.concatenate([np.full(len(of_field), k) for k, of_field in enumerate(pixels)])
    peak, fwhm, peak_sigma, fwhm_sigma, errors_from = _peak_with_errors(values, groups, field_of, seed)
    field_means = [_field_mean(mean, error, spread.between_members) for mean, error in means]
    return PooledMaps(
        n_fields=len(fields),
        n_particles=sum(mean.size for mean, _ in means),
        n_values=values.size,
        mean=spread.mean,
        mean_sigma=spread.mean_sigma,
        median=float(np.median(values)),
        peak=peak,
        peak_sigma=peak_sigma,
        fwhm=fwhm,
        fwhm_sigma=fwhm_sigma,
        errors_from=errors_from,
        within=within,
        within_sigma=within_sigma,
        between_particles=spread.between_members,
        between_particles_sigma=spread.between_members_sigma,
        between_fields=spread.between_groups,
        between_fields_sigma=spread.between_groups_sigma,
        field_mean=np.array([mean for mean, _ in field_means]),
        field_mean_sigma=np.array([error for _, error in field_means]),
        values=values,
    )


def _pixels_of_particles(field: MapField) -> list[Array]:
    """Return the finite values of each particle that has any."""
    values = np.asarray(field.values, dtype=np.float64)
    labels = check_labels(field.labels, values.shape)
    used = np.isfinite(values) & (labels > 0)
    order = np.argsort(labels[used], kind="stable")
    marks = labels[used][order]
    if not marks.size:
        return []
    return np.split(values[used][order], np.flatnonzero(np.diff(marks)) + 1)


def _means(statistics: ParticleStatistics) -> tuple[Array, Array]:
    good = np.isfinite(statistics.mean) & np.isfinite(statistics.mean_sigma)
    return statistics.mean[good], statistics.mean_sigma[good]


def _within(statistics: Sequence[ParticleStatistics]) -> tuple[float, float]:
    """Return the root mean square of the particles' intrinsic spreads, and its error, an upper limit at 0."""
    square = np.concatenate([one.intrinsic_variance for one in statistics])
    spread = np.concatenate([one.intrinsic_spread for one in statistics])
    doubt = np.concatenate([one.intrinsic_spread_sigma for one in statistics])
    has = np.isfinite(square) & np.isfinite(doubt)
    if not has.any():
        return float("nan"), float("nan")
    variances = (2.0 * np.maximum(spread[has], doubt[has]) * doubt[has]) ** 2
    mean = max(float(square[has].mean()), 0.0)
    return float(np.sqrt(mean)), spread_sigma(mean, float(variances.sum()) / variances.size**2)


def _field_mean(mean: Array, error: Array, between: float) -> tuple[float, float]:
    if not mean.size:
        return float("nan"), float("nan")
    weight = 1.0 / np.maximum(error**2 + np.nan_to_num(between) ** 2, 1e-300)
    return float(np.sum(weight * mean) / weight.sum()), float(np.sqrt(1.0 / weight.sum()))


def _peak_with_errors(
    values: Array, groups: Sequence[Array], field_of: NDArray[np.intp], seed: int
) -> tuple[float, float, float, float, Literal["fields", "particles", "none"]]:
    """Return peak, width, the error of each, and what was drawn for them."""
    bandwidth, low, high = bandwidth_and_range(values)
    if not bandwidth > 0:
        return float(np.median(values)), 0.0, float("nan"), float("nan"), "none"
    n_bins = int(np.ceil((high - low) / (bandwidth / _STEPS_PER_BANDWIDTH)))
    counts = np.array([np.histogram(group, bins=n_bins, range=(low, high))[0] for group in groups], float)
    peak, fwhm = peak_and_width_of_counts(counts.sum(axis=0), low, high, bandwidth)
    fields = np.unique(field_of)
    by_field = fields.size >= _LEAST_FIELDS
    if by_field:
        counts = np.array([counts[field_of == field].sum(axis=0) for field in fields])
    n = len(counts)
    if n < 2:
        return peak, fwhm, float("nan"), float("nan"), "none"
    rng = np.random.default_rng(seed)
    drawn = [
        peak_and_width_of_counts(weights @ counts, low, high, bandwidth)
        for weights in rng.multinomial(n, np.full(n, 1.0 / n), size=_DRAWS)
    ]
    scatter = np.std(np.array(drawn), axis=0) * np.sqrt(n / (n - 1.0))
    return peak, fwhm, float(scatter[0]), float(scatter[1]), "fields" if by_field else "particles"
