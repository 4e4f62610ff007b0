"""Cubic Hermite interpolation with locally estimated slopes, linear beyond the ends."""

from __future__ import annotations

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
        Neighbours nearer than this are passed over where there are farther ones, so that the difference of
        two almost coinciding nodes is never divided by their small distance.

    Returns
    -------
    ndarray, shape (n, ...)
        Slopes; linear in ``y``, exact for parabolas.
    """
    n = x.size
    slopes = np.empty_like(y)
    for i in range(n):
        left = _neighbour(x, i, -1, reach)
        right = _neighbour(x, i, +1, reach)
        if left is None and right is not None:
            left, right = right, _neighbour(x, right, +1, reach)
        elif right is None and left is not None:
            right, left = left, _neighbour(x, left, -1, reach)
        if left is None or right is None:
            other = left if left is not None else right
            slopes[i] = (y[other] - y[i]) / (x[other] - x[i])
            continue
        to_left, to_right = x[left] - x[i], x[right] - x[i]
        slopes[i] = ((y[left] - y[i]) * to_right / to_left - (y[right] - y[i]) * to_left / to_right) / (
            to_right - to_left
        )
    return slopes


def _neighbour(x: Array, i: int, step: int, reach: float) -> int | None:
    j = i + step
    last = None
    while 0 <= j < x.size:
        last = j
        if abs(x[j] - x[i]) >= reach:
            break
        j += step
    return last


def limit_slopes(x: Array, y: Array, slopes: Array) -> Array:
    """Limit slopes so that the interpolant of monotone ``y`` is monotone (Fritsch and Carlson, 1980).

    Where ``y`` itself turns round, the slope is left alone: the data are not monotone there.
    """
    steps = np.diff(y) / np.diff(x)
    limited = slopes.copy()
    for i in range(x.size):
        around = steps[max(i - 1, 0) : i + 1]
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
    cell = np.clip(np.searchsorted(x, at, side="right") - 1, 0, x.size - 2)
    width = x[cell + 1] - x[cell]
    inside = np.clip(at, x[0], x[-1])
    t = (inside - x[cell]) / width
    beyond = at - inside
    trailing = (slice(None),) + (None,) * (y.ndim - 1)
    t, width, beyond = t[trailing], width[trailing], beyond[trailing]
    y0, y1 = y[cell], y[cell + 1]
    d0, d1 = slopes[cell] * width, slopes[cell + 1] * width
    rise = y1 - y0
    # y0 + t d0 + t^2 (3 rise - 2 d0 - d1) + t^3 (d0 + d1 - 2 rise)
    square = 3.0 * rise - 2.0 * d0 - d1
    cube = d0 + d1 - 2.0 * rise
    values = y0 + t * (d0 + t * (square + t * cube))
    derivatives = (d0 + t * (2.0 * square + 3.0 * t * cube)) / width
    return values + beyond * derivatives, derivatives
