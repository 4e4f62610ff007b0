"""What the kernels of the sums take, by name."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Frame = NDArray[np.float32]
_Array = NDArray[np.float64]


class WeightedFrames(NamedTuple):
    """Frames to be projected."""

    stack: _Frame
    """Optical depth, shape (n_frames, n_pixels); NaN is missing, infinite is missing for saturation."""
    projector: _Array
    """Values of the basis functions at each frame's energy, shape (n_frames, n_basis)."""
    weight: _Array
    """Weight of each frame, shape (n_frames,)."""


class PixelSums(NamedTuple):
    """What is known of each pixel's frames; frames are added to it in place."""

    sums: _Array
    """Sum of weight * basis * y, and in the last row of weight * y**2, shape (n_basis + 1, n_pixels)."""
    highest: _Frame
    """Highest finite value met, shape (n_pixels,)."""
    at_highest: NDArray[np.uint16]
    """How often exactly that value was met, shape (n_pixels,)."""
    saturated: NDArray[np.uint16]
    """Infinite values met, shape (n_pixels,)."""


class BlockSums(NamedTuple):
    """Sums of one block of pixels, next to each other."""

    rows: _Array
    """Sum of weight * basis * y, an even number of rows, longer than the block."""
    square: _Array
    """Sum of weight * y**2."""
    top: _Frame
    """Highest value."""
    at_top: _Frame
    """How often exactly that value was met."""


class CountsCorrection(NamedTuple):
    """What turns counts into optical depth, arrays of shape (n_pixels,)."""

    dark: _Frame
    """Mean dark of the frame's exposure."""
    flat: _Frame
    """Mean flat."""
    dark_flat: _Frame
    """Mean dark of the flat's exposure."""
    scale: np.float32
    """Ratio of exposures and incident intensities, flat over sample."""
    saturation: np.float32
    """Counts from here on are saturated."""
