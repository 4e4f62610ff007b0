"""Numba kernel that lays the voxels of a turned sample onto the detector."""

import math

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["footprint_table", "lay_voxels"]

FINE = 256
"""Places of a voxel between two detector columns that footprints are tabulated for."""


def footprint_table(angle_deg: float) -> NDArray[np.float32]:
    """Return which part of a voxel falls on three neighbouring columns, shape (FINE, 3).

    A square voxel of unit side that is turned has a trapezoidal shadow; each column gets the integral over its width,
    so that nothing is lost at any angle. Row k is for a centre that lies (k + 0.5) / FINE - 0.5 beside the middle one.
    """
    a, b = abs(math.cos(math.radians(angle_deg))), abs(math.sin(math.radians(angle_deg)))
    long, short = max(a, b), min(a, b)

    def ramp(u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Second integral of a step, for the shadow as the difference of two boxes."""
        return 0.5 * np.where(u > 0.0, u * u, 0.0)

    def below(u: NDArray[np.float64]) -> NDArray[np.float64]:
        if short < 1e-6:
            return np.clip(u / long + 0.5, 0.0, 1.0)
        total = (
            ramp(u + 0.5 * (long + short))
            - ramp(u + 0.5 * (long - short))
            - ramp(u - 0.5 * (long - short))
            + ramp(u - 0.5 * (long + short))
        )
        return np.asarray(total / (long * short))

    beside = (np.arange(FINE) + 0.5) / FINE - 0.5
    edges = np.array([-1.5, -0.5, 0.5, 1.5])
    return np.diff(below(edges[None, :] - beside[:, None]), axis=1).astype(np.float32)


@numba.njit(nogil=True, cache=True)
def lay_voxels(starts, place, values, axis, table, middle, out):
    """Add voxels to the columns that they shade, row by row.

    Parameters
    ----------
    starts : int64 (rows + 1,)
        Where the voxels of each row begin.
    place : float32 (voxels, 2)
        Distance of each voxel from the axis along y and x, in voxels.
    values : float32 (voxels, 4)
        Node of the state of charge, what belongs to it and to the next node, and the other phase.
    axis : (float, float)
        Cosine and sine of the angle.
    table : float32 (FINE, 3)
        See `footprint_table`.
    middle : float
        Column of the axis.
    out : float32 (components, rows, cols)
        Receives the sums; the other phase is the last component.
    """
    cosine, sine = axis
    n_fine = table.shape[0]
    last = out.shape[0] - 1
    n_cols = out.shape[2]
    for row in range(starts.size - 1):
        for v in range(starts[row], starts[row + 1]):
            t = place[v, 1] * cosine - place[v, 0] * sine + middle
            column = math.floor(t + 0.5)
            fine = min(max(int((t - column + 0.5) * n_fine), 0), n_fine - 1)
            node = int(values[v, 0])
            for k in range(3):
                at = column + k - 1
                if at < 0 or at >= n_cols:
                    continue
                part = table[fine, k]
                out[node, row, at] += part * values[v, 1]
                out[node + 1, row, at] += part * values[v, 2]
                out[last, row, at] += part * values[v, 3]
