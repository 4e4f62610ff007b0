"""Kernel that spreads filtered sums of many functions back over a slice at once."""

from __future__ import annotations

import math

import numba as nb
import numpy as np


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True, fastmath={"contract"})
def back_project(filtered, cosines, sines, centre, out):
    """Add filtered projections over the circle that every angle sees.

    All functions have the same geometry: where a ray passes is worked out once for all of them.

    Parameters
    ----------
    filtered : float32 (n_angles, cols, n_functions)
        Filtered projections, weighted with what each angle counts.
    cosines, sines : float32 (n_angles,)
        Of the angles.
    centre : float
        Column of the axis of rotation.
    out : float32 (size, size, n_functions)
        Receives the slice; rows run along y and columns along x about the axis.
    """
    n_angles, n_cols, n_functions = filtered.shape
    size = out.shape[0]
    middle = 0.5 * (size - 1)
    last = n_cols - 1
    radius = 0.5 * size
    for y in nb.prange(size):
        beside = y - middle
        half = math.sqrt(max(radius * radius - beside * beside, 0.0))
        first = max(math.ceil(middle - half), 0)
        stop = min(math.floor(middle + half) + 1, size)
        for x in range(size):
            for k in range(n_functions):
                out[y, x, k] = np.float32(0.0)
        for a in range(n_angles):
            step = cosines[a]
            place = (first - middle) * step - beside * sines[a] + centre
            for x in range(first, stop):
                if 0.0 <= place < last:
                    left = np.int64(place)
                    part = np.float32(place - left)
                    rest = np.float32(1.0) - part
                    for k in range(n_functions):
                        out[y, x, k] += rest * filtered[a, left, k] + part * filtered[a, left + 1, k]
                place += step
