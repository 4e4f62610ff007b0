"""Local cubic fits by least squares: values and derivatives of a curve between its points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Different points that a local fit needs.
LEAST_POINTS = 6


def local_cubic(energies: Array, at: Array, half_width: float) -> tuple[Array, Array, Array]:
    """Matrices that give value, first and second derivative of the local cubic fits."""
    reach = reach_of(energies, at, half_width)
    fits, columns = _cubic_fits(energies, at, reach)
    scales = (np.ones_like(reach)[:, None], 1.0 / reach[:, None], 2.0 / reach[:, None] ** 2)
    value, slope, bend = (
        _whole_rows(fits[:, power] * scale, columns, energies.size) for power, scale in enumerate(scales)
    )
    return value, slope, bend


def _cubic_fits(energies: Array, at: Array, reach: Array) -> tuple[Array, NDArray[np.intp]]:
    """Coefficients of the local fits in units of their reach, and of which points; (n_at, 4, n) and (n_at, n)."""
    order = np.argsort(energies, kind="stable")
    ordered = energies[order]
    # Only points within reach have a part: as many columns as the fit with most of them needs.
    first = np.searchsorted(ordered, at - reach, side="left")
    most = int((np.searchsorted(ordered, at + reach, side="right") - first).max(initial=1))
    columns = np.minimum(first, energies.size - most)[:, None] + np.arange(most)
    unit = (ordered[columns] - at[:, None]) / reach[:, None]
    weights = np.clip(1.0 - unit**2, 0.0, None)
    powers = np.stack([np.ones_like(unit), unit, unit**2, unit**3], axis=1)
    weighted = powers * weights[:, None]
    fits = np.asarray(np.linalg.solve(weighted @ np.swapaxes(powers, 1, 2), weighted), np.float64)
    return fits, order[columns]


def _whole_rows(part: Array, columns: NDArray[np.intp], n_columns: int) -> Array:
    """Put what belongs to certain columns of each row into rows of zeros."""
    rows = np.zeros((part.shape[0], n_columns))
    np.put_along_axis(rows, columns, part, axis=1)
    return rows


def reach_of(energies: Array, at: Array, half_width: float) -> Array:
    """Half width of each local fit: wider where points are sparse, so that it holds enough different ones."""
    unique = np.unique(energies)
    # The nearest points are among as many on either side.
    n_beside = min(2 * LEAST_POINTS, unique.size)
    first = np.clip(np.searchsorted(unique, at) - LEAST_POINTS, 0, unique.size - n_beside)
    distances: Array = np.abs(unique[first[:, None] + np.arange(n_beside)] - at[:, None])
    distances.partition(LEAST_POINTS - 1, axis=1)
    return np.asarray(np.maximum(half_width, 1.001 * distances[:, LEAST_POINTS - 1]), np.float64)


def usual_reach(energies: Array) -> float:
    """Half width that the densest half of the points needs."""
    return float(np.median(reach_of(energies, np.unique(energies), 0.0)))


def noise_of_points(energies: Array, mu: Array, half_width: float) -> float:
    """Estimate the standard deviation of a point from the residuals of local cubic fits at the points."""
    fits, columns = _cubic_fits(energies, energies, reach_of(energies, energies, half_width))
    left = np.eye(energies.size) - _whole_rows(fits[:, 0], columns, energies.size)
    # Trace of left' left: what independent noise leaves in the squared residuals.
    return float(np.sqrt(np.sum((left @ mu) ** 2) / np.sum(left**2)))
