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
    solved = _cubic_fits(energies, at, reach)
    return solved[:, 0], solved[:, 1] / reach[:, None], 2.0 * solved[:, 2] / reach[:, None] ** 2


def _cubic_fits(energies: Array, at: Array, reach: Array) -> Array:
    """Matrices that give the coefficients of the local fits in units of their reach, (n_at, 4, n_energy)."""
    unit = (energies - at[:, None]) / reach[:, None]
    weights = np.clip(1.0 - unit**2, 0.0, None)
    powers = np.stack([np.ones_like(unit), unit, unit**2, unit**3], axis=1)
    weighted = powers * weights[:, None]
    return np.asarray(np.linalg.solve(weighted @ np.swapaxes(powers, 1, 2), weighted), dtype=np.float64)


def reach_of(energies: Array, at: Array, half_width: float) -> Array:
    """Half width of each local fit: wider where points are sparse, so that it holds enough different ones."""
    unique = np.unique(energies)
    distances = np.sort(np.abs(unique[None, :] - at[:, None]), axis=1)
    return np.maximum(half_width, 1.001 * distances[:, LEAST_POINTS - 1])


def usual_reach(energies: Array) -> float:
    """Half width that the densest half of the points needs."""
    return float(np.median(reach_of(energies, np.unique(energies), 0.0)))


def noise_of_points(energies: Array, mu: Array, half_width: float) -> float:
    """Estimate the standard deviation of a point from the residuals of local cubic fits at the points."""
    hat = _cubic_fits(energies, energies, reach_of(energies, energies, half_width))[:, 0]
    left = np.eye(energies.size) - hat
    # Trace of left' left: what independent noise leaves in the squared residuals.
    return float(np.sqrt(np.sum((left @ mu) ** 2) / np.sum(left**2)))
