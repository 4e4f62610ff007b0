"""What the registration of a stack returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._band_pass import Array, BandPass, Frame


@dataclass(frozen=True, slots=True, eq=False)
class RegisteredStack:
    """A stack whose frames have been moved to the place of the first one.

    Attributes
    ----------
    optical_depth : ndarray of float32, shape (n, rows, cols)
        Aligned frames, each resampled once from the original by :func:`resample_frame`; NaN where nothing is known.
        The original frames, where no drift was found.
    shifts_px : ndarray, shape (n, 2)
        Displacement of the content of each frame relative to frame 0 in rows and columns, positive down and right.
    shift_sigma_px : ndarray, shape (n, 2)
        Standard deviation of the place of each frame against all others. What frame 0 is off by, its own sigma, is
        common to all shifts. Infinite where nothing could be registered.
    quality : ndarray, shape (n,)
        Correlation of each band-passed frame with what the others let expect, 0 to 1.
    registered : ndarray of bool, shape (n,)
        Frames with a shift of their own; that of the others is interpolated.
    drift_found : bool
        Whether the frames move by more than the uncertainty of their shifts.
    widths_px : tuple of float
        Widths of the band-pass that the data asked for.
    warnings : tuple of str
        What makes the registration doubtful, each in one sentence.
    magnification, rotation_deg : ndarray, shape (n,)
        By how much the content of each frame is larger than that of frame 0, and turned (counter-clockwise as seen),
        about the middle of the frame; 1 and 0 where the data ask for neither.
    """

    optical_depth: Frame
    shifts_px: Array
    shift_sigma_px: Array
    quality: Array
    registered: NDArray[np.bool_]
    drift_found: bool
    widths_px: tuple[float, float]
    warnings: tuple[str, ...]
    magnification: Array
    rotation_deg: Array


def untouched(stack: Frame, warning: str) -> RegisteredStack:
    """Return the frames as they are, and why."""
    n = stack.shape[0]
    sigma = np.full((n, 2), np.inf)
    if n == 1:
        sigma[:] = 0.0
    return RegisteredStack(
        optical_depth=stack.copy(),
        shifts_px=np.zeros((n, 2)),
        shift_sigma_px=sigma,
        quality=np.zeros(n),
        registered=np.zeros(n, np.bool_),
        drift_found=False,
        widths_px=BandPass((stack.shape[1], stack.shape[2])).widths,
        warnings=(warning,),
        magnification=np.ones(n),
        rotation_deg=np.zeros(n),
    )
