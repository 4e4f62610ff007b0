"""Composition along a line, and against the distance from a particle's rim."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

from ._ratios import CountRatio, ratio_of_counts

__all__ = ["CompositionProfile", "line_profile", "rim_profile"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CompositionProfile:
    """Atoms of some elements along a coordinate.

    Attributes
    ----------
    position : ndarray, shape (n,)
        Mean position of the pixels in each bin, in the unit of the pixel size.
    n_pixels : ndarray of int, shape (n,)
        Pixels in it.
    atoms, sigma : dict of str to ndarray, shape (n,)
        Mean of each element and its standard deviation by counting.
    """

    position: Array
    n_pixels: NDArray[np.int64]
    atoms: dict[str, Array]
    sigma: dict[str, Array]

    def ratio(self, top: str, bottom: str) -> CountRatio:
        """Return the ratio of two elements in each bin: of the sums, not the mean of ratios."""
        return ratio_of_counts(
            self.atoms[top], self.sigma[top] ** 2, self.atoms[bottom], self.sigma[bottom] ** 2
        )

    def fraction(self, element: str) -> CountRatio:
        """Return the share of an element among all of the profile."""
        total = np.sum(list(self.atoms.values()), axis=0)
        variance = np.sum([value**2 for value in self.sigma.values()], axis=0)
        own = self.sigma[element] ** 2
        return ratio_of_counts(self.atoms[element], own, total, variance, own)


def line_profile(
    atoms: Mapping[str, ArrayLike],
    sigma: Mapping[str, ArrayLike],
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    width: float = 1.0,
    step: float = 1.0,
    pixel_size: float = 1.0,
) -> CompositionProfile:
    """Average maps across a segment.

    Parameters
    ----------
    atoms, sigma : mapping of str to array_like, shape (rows, cols)
        Map of each element, of the free least squares, and its standard deviation.
    start, end : tuple of float
        Row and column of both ends, in pixels.
    width, step : float
        Width over which pixels are averaged, and length of a bin, in pixels.
    pixel_size : float
        Unit of the positions.

    Raises
    ------
    EdgeFittingError
        For a segment without length, a width or step that is not positive, or one that meets no pixel.
    """
    names, values, spread = _stacked(atoms, sigma)
    along = np.subtract(end, start).astype(np.float64)
    length = float(np.hypot(*along))
    if not (length > 0 and width > 0 and step > 0):
        raise EdgeFittingError("A line profile needs two different ends, and a width and a step above 0.")
    rows, cols = np.indices(values.shape[1:])
    unit = along / length
    t = (rows - start[0]) * unit[0] + (cols - start[1]) * unit[1]
    across = (rows - start[0]) * unit[1] - (cols - start[1]) * unit[0]
    inside = (np.abs(across) <= width / 2.0) & (t >= 0) & (t <= length)
    edges = np.arange(0.0, length + step, step)
    return _binned(
        names, values, spread, t, inside, edges, pixel_size, "the segment meets no pixel of the map"
    )


def rim_profile(
    atoms: Mapping[str, ArrayLike],
    sigma: Mapping[str, ArrayLike],
    distance: ArrayLike,
    *,
    edges: ArrayLike,
) -> CompositionProfile:
    """Average maps in bins of the distance from the rim, from :func:`edge_fitting.edge_distance`.

    Parameters
    ----------
    atoms, sigma
        As for :func:`line_profile`.
    distance : array_like, shape (rows, cols)
        NaN outside of particles.
    edges : array_like, shape (n_bins + 1,)
        Limits of the bins in the unit of the distance.
    """
    names, values, spread = _stacked(atoms, sigma)
    away = np.asarray(distance, np.float64)
    if away.shape != values.shape[1:]:
        raise EdgeFittingError(f"distance has shape {away.shape} but the maps have {values.shape[1:]}.")
    limits = np.asarray(edges, np.float64)
    if limits.ndim != 1 or limits.size < 2 or not (np.diff(limits) > 0).all():
        raise EdgeFittingError("edges must be two or more increasing numbers.")
    return _binned(names, values, spread, away, np.isfinite(away), limits, 1.0, "no pixel lies in these bins")


def _stacked(
    atoms: Mapping[str, ArrayLike], sigma: Mapping[str, ArrayLike]
) -> tuple[list[str], Array, Array]:
    names = list(atoms)
    if not names or set(names) != set(sigma):
        raise EdgeFittingError("A profile needs a map of each element and its standard deviation.")
    values = np.stack([np.asarray(atoms[name], np.float64) for name in names])
    spread = np.stack([np.asarray(sigma[name], np.float64) for name in names])
    if values.ndim != 3 or spread.shape != values.shape:
        raise EdgeFittingError(
            "Maps of elements and of their standard deviations must have two equal dimensions."
        )
    return names, values, spread


def _binned(
    names: list[str],
    values: Array,
    spread: Array,
    at: Array,
    inside: NDArray[np.bool_],
    edges: Array,
    pixel_size: float,
    nothing: str,
) -> CompositionProfile:
    good = inside & np.isfinite(values).all(axis=0) & np.isfinite(spread).all(axis=0)
    good &= (at >= edges[0]) & (at <= edges[-1])
    where = np.minimum(np.searchsorted(edges, at[good], side="right") - 1, edges.size - 2)
    count = np.bincount(where, minlength=edges.size - 1)
    if not count.any():
        raise EdgeFittingError(f"There is no profile: {nothing}.")
    kept = count > 0

    def mean(of: Array) -> Array:
        return np.asarray(np.bincount(where, of, edges.size - 1)[kept] / count[kept])

    atoms = {name: mean(values[k][good]) for k, name in enumerate(names)}
    sigma = {name: np.sqrt(mean(spread[k][good] ** 2) / count[kept]) for k, name in enumerate(names)}
    return CompositionProfile(mean(at[good]) * pixel_size, count[kept].astype(np.int64), atoms, sigma)
