"""Where the axis of rotation is, and what does not belong in the field."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RotationAxis", "find_axis"]

Array = NDArray[np.float64]

# Columns at either side from which the level without sample is taken.
_BESIDE = 0.03
# Of the median mass: an angle that has less has lost a part of the sample.
_LEAST_MASS = 0.9
# Of the highest sum over rows: what more stands in the outermost columns says that the sample goes on beyond.
_TRUNCATED = 0.1
_FEWEST = 5


@dataclass(frozen=True)
class RotationAxis:
    """The axis of rotation as the centre of mass of the projections tells it.

    Attributes
    ----------
    centre_px : float
        Column of the axis; the middle of the field where it cannot be told.
    sigma_px : float
        Standard deviation; NaN where it cannot be told.
    shift_px : ndarray, shape (n_angles, 2)
        By how much each projection is displaced along rows and columns against the others: run-out of the axis.
    is_inside : ndarray of bool, shape (n_angles,)
        Whether the whole sample is in the field at each angle.
    is_truncated : bool
        Whether the sample goes on beyond the field.
    """

    centre_px: float
    sigma_px: float
    shift_px: Array
    is_inside: NDArray[np.bool_]
    is_truncated: bool


def find_axis(depth: NDArray[np.float32], angles_deg: Array) -> RotationAxis:
    """Find the axis of rotation.

    The centre of mass of a body that turns goes along a circle: its column is ``c + a cos + b sin`` of the angle,
    fitted to all angles; what is left is run-out. The mass in each row stays, so that the rows tell the displacement
    along them.

    Parameters
    ----------
    depth : ndarray of float32, shape (n_angles, rows, cols)
        Mean optical depth of the projections.
    angles_deg : ndarray, shape (n_angles,)
        Their angles.

    Returns
    -------
    RotationAxis
    """
    n_angles, rows, cols = depth.shape
    beside = max(int(_BESIDE * cols), 1)
    level = 0.5 * (depth[:, :, :beside].mean(axis=2) + depth[:, :, -beside:].mean(axis=2))
    # Rows beyond the sample hold noise only.
    net = depth - np.median(level, axis=1)[:, None, None]
    across, along = net.sum(axis=1, dtype=np.float64), net.sum(axis=2, dtype=np.float64)
    mass = across.sum(axis=1)
    usual = float(np.median(mass))
    unknown = RotationAxis(
        0.5 * (cols - 1), math.nan, np.zeros((n_angles, 2)), np.ones(n_angles, np.bool_), False
    )
    if n_angles < _FEWEST or not usual > 0.0:
        return unknown
    inside = mass > _LEAST_MASS * usual
    edges = np.maximum(np.abs(depth[:, :, 0].sum(axis=1)), np.abs(depth[:, :, -1].sum(axis=1)))
    is_truncated = bool(np.median(edges / across.max(axis=1)) > _TRUNCATED)
    turn = np.radians(angles_deg)
    circle = np.stack([np.ones(n_angles), np.cos(turn), np.sin(turn)], axis=1)
    column = (across @ np.arange(cols)) / mass
    if inside.sum() < _FEWEST or np.linalg.matrix_rank(circle[inside]) < 3:
        return unknown
    found, *_ = np.linalg.lstsq(circle[inside], column[inside], rcond=None)
    left = column - circle @ found
    freedom = max(int(inside.sum()) - 3, 1)
    variance = float((left[inside] ** 2).sum()) / freedom
    sigma = math.sqrt(variance * float(np.linalg.pinv(circle[inside].T @ circle[inside])[0, 0]))
    height = (along @ np.arange(rows)) / mass
    shift = np.stack([height - np.median(height[inside]), left], axis=1)
    shift[~inside] = 0.0
    return RotationAxis(float(found[0]), sigma, shift, inside, is_truncated)
