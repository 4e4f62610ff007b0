"""Cubic Hermite interpolation with locally estimated slopes, linear beyond the ends."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def three_point_slopes(x: Array, y: Array, *, reach: float = 0.0) -> Array:
    """Slopes at the nodes, from the parabola through each node and a neighbour on either side.

    Parameters
    ----------
    x : ndarray, shape (n,)
        Increasing nodes, n >= 2.
    y : ndarray, shape (n, ...)
        Values at the nodes.
    reach : float
        Neighbours nearer than this do not count, so that the difference of two almost coinciding nodes is never
        divided by their small distance. A node with none on one side takes two from the other.

    Returns
    -------
    ndarray, shape (n, ...)
        Slopes; linear in ``y``, exact for parabolas.
    """
    slopes = np.empty_like(y)
    alone: Iterable[int] = range(x.size)
    if reach == 0.0 and x.size > 2:  # energies, of which there are thousands: all at once
        k = np.arange(1, x.size - 1)
        shape = (-1, *(1,) * (y.ndim - 1))
        a, b = (x[k - 1] - x[k]).reshape(shape), (x[k + 1] - x[k]).reshape(shape)
        slopes[k] = ((y[k - 1] - y[k]) * b / a - (y[k + 1] - y[k]) * a / b) / (b - a)
        alone = (0, x.size - 1)
    for i in alone:
        near = neighbours(x, i, reach)
        if len(near) == 1:
            slopes[i] = (y[near[0]] - y[i]) / (x[near[0]] - x[i])
            continue
        (a, b) = (x[j] - x[i] for j in near)
        slopes[i] = ((y[near[0]] - y[i]) * b / a - (y[near[1]] - y[i]) * a / b) / (b - a)
    return slopes


def neighbours(x: Array, i: int, reach: float) -> list[int]:
    """Find the nodes that give the slope at node i: one on either side, or two on one, or the only one there is."""
    left = _beyond(x, i, -1, reach)
    right = _beyond(x, i, +1, reach)
    if left is not None and right is not None:
        return [left, right]
    first = left if left is not None else right
    if first is None:
        return [i - 1] if i > 0 else [i + 1]
    second = _beyond(x, first, -1 if left is not None else +1, reach)
    return [first] if second is None else [first, second]


def _beyond(x: Array, i: int, step: int, reach: float) -> int | None:
    j = i + step
    while 0 <= j < x.size:
        if abs(x[j] - x[i]) >= reach:
            return j
        j += step
    return None


def limit_slopes(x: Array, y: Array, slopes: Array, *, reach: float = 0.0) -> Array:
    """Limit slopes so that the interpolant of monotone ``y`` is monotone (Fritsch and Carlson, 1980).

    Where ``y`` itself turns round, the slope is left alone: the data are not monotone there. With ``reach``, steps
    between nodes nearer than it do not limit.
    """
    limited = slopes.copy()
    for i in range(x.size):
        around = np.array([(y[j] - y[i]) / (x[j] - x[i]) for j in neighbours(x, i, reach)])
        if (around > 0).all():
            limited[i] = min(max(slopes[i], 0.0), 3.0 * around.min())
        elif (around < 0).all():
            limited[i] = max(min(slopes[i], 0.0), 3.0 * around.max())
    return limited


def hermite(x: Array, y: Array, slopes: Array, at: Array) -> tuple[Array, Array]:
    """Evaluate the cubic Hermite interpolant and its derivative.

    Parameters
    ----------
    x : ndarray, shape (n,)
        Increasing nodes.
    y, slopes : ndarray, shape (n, ...)
        Values and slopes at the nodes.
    at : ndarray, shape (m,)
        Where to evaluate; beyond the nodes the end is continued as a straight line.

    Returns
    -------
    values, derivatives : ndarray, shape (m, ...)
    """
    from scipy.interpolate import CubicHermiteSpline

    inside = np.clip(at, x[0], x[-1])
    spline = CubicHermiteSpline(x, y, slopes)
    derivatives = spline(inside, 1)
    beyond = (at - inside).reshape(-1, *[1] * (y.ndim - 1))
    return spline(inside) + beyond * derivatives, derivatives
