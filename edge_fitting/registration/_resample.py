"""A frame moved by a fraction of a pixel."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import LAYOUT, read_only
from edge_fitting.errors import EdgeFittingError

from ._registration_kernels import LANCZOS, lanczos_taps, resample, resample_linear
from ._run import run

# Steps per pixel of the kernel's weights for frames that are turned or magnified.
_STEPS = 1024


def resample_frame(
    frame: ArrayLike, shift_px: ArrayLike, *, magnification: float = 1.0, rotation_deg: float = 0.0
) -> NDArray[np.float32]:
    """Move the content of a frame back by its displacement, with a Lanczos-4 kernel.

    Parameters
    ----------
    frame : array_like, shape (rows, cols)
        The frame; values that are not finite are missing.
    shift_px : array_like, shape (2,)
        Displacement of its content in rows and columns, positive down and right.
    magnification, rotation_deg : float
        By how much its content is larger than it should be, and turned (counter-clockwise as seen), about the middle of
        the frame and before it is displaced.

    Returns
    -------
    ndarray of float32, shape (rows, cols)
        The frame at ``(row + shift, column + shift)``. NaN where the kernel, four pixels to each side for a fraction of
        a pixel, reaches beyond the frame or to a missing value; nothing wraps around.

    Raises
    ------
    EdgeFittingError
        For a frame that is not two-dimensional, a shift that is not two finite numbers, or a magnification or rotation
        that makes no sense.
    """
    image = np.require(frame, np.float32, LAYOUT)
    if image.ndim != 2 or image.size == 0:
        raise EdgeFittingError(f"a frame must be (rows, cols), not of shape {image.shape}.")
    shift = np.asarray(shift_px, dtype=np.float64)
    if shift.shape != (2,) or not np.isfinite(shift).all():
        raise EdgeFittingError(f"shift_px must be two finite numbers (rows, columns), not {shift_px!r}.")
    bounded = np.clip(shift, [-image.shape[0], -image.shape[1]], image.shape)
    with np.errstate(invalid="ignore"):
        finite = np.where(np.isinf(image), np.float32(np.nan), image) if np.isinf(image).any() else image
    if not (0.5 < magnification < 2.0 and abs(rotation_deg) <= 90.0):
        raise EdgeFittingError(
            f"magnification must be between 0.5 and 2 and rotation_deg between -90 and 90, not {magnification!r} and "
            f"{rotation_deg!r}."
        )
    if magnification != 1.0 or rotation_deg != 0.0:
        turned = np.empty_like(image)
        matrix = linear_part(magnification, rotation_deg)
        centre = 0.5 * (np.array(image.shape) - 1.0)
        place = centre + bounded - matrix @ centre
        table = np.stack([lanczos_taps(k / _STEPS) for k in range(_STEPS)] + [_whole_pixel()])
        run(
            resample_linear, image.size, read_only(finite), matrix, (float(place[0]), float(place[1])),
            table, float("nan"), turned,
        )  # fmt: skip
        return turned
    half, out = np.empty_like(image), np.empty_like(image)
    run(
        resample, image.size, read_only(finite), float(bounded[0]), float(bounded[1]), float("nan"), half, out
    )
    return out


def linear_part(magnification: float, rotation_deg: float) -> NDArray[np.float64]:
    """Matrix that takes places about the middle (rows, columns) to where they are seen."""
    angle = math.radians(rotation_deg)
    cos, sin = math.cos(angle), math.sin(angle)
    return magnification * np.array([[cos, -sin], [sin, cos]])


def _whole_pixel() -> NDArray[np.float32]:
    taps = np.zeros(2 * LANCZOS, np.float32)
    taps[LANCZOS] = 1.0
    return taps
