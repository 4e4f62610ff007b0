"""A frame moved by a fraction of a pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import LAYOUT, read_only
from edge_fitting.errors import EdgeFittingError

from ._registration_kernels import resample
from ._run import run


def resample_frame(frame: ArrayLike, shift_px: ArrayLike) -> NDArray[np.float32]:
    """Move the content of a frame back by its displacement, with a Lanczos-4 kernel.

    Parameters
    ----------
    frame : array_like, shape (rows, cols)
        The frame; values that are not finite are missing.
    shift_px : array_like, shape (2,)
        Displacement of its content in rows and columns, positive down and right.

    Returns
    -------
    ndarray of float32, shape (rows, cols)
        The frame at ``(row + shift, column + shift)``. NaN where the kernel, four pixels to each side for a fraction of
        a pixel, reaches beyond the frame or to a missing value; nothing wraps around.

    Raises
    ------
    EdgeFittingError
        For a frame that is not two-dimensional or a shift that is not two finite numbers.
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
    half, out = np.empty_like(image), np.empty_like(image)
    run(
        resample, image.size, read_only(finite), float(bounded[0]), float(bounded[1]), float("nan"), half, out
    )
    return out
