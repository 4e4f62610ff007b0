"""A frame of detector counts on its way to optical depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import launch, read_only

from ._projection_kernels import correct_counts
from ._records import CountsCorrection

Frame = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class CountsFrame:
    """Counts of one frame with what corrects them, all of shape (n_pixels,).

    Attributes
    ----------
    counts : ndarray of uint16
        The frame.
    dark, flat, dark_flat : ndarray of float32
        Mean dark of its exposure, mean flat, mean dark of the flat's exposure.
    scale : float
        Exposure times incident intensity of the flat over those of the frame.
    saturation : int
        Counts from here on are saturated.
    """

    counts: NDArray[np.uint16]
    dark: Frame
    flat: Frame
    dark_flat: Frame
    scale: float
    saturation: int

    def correct(self, out: Frame) -> None:
        """Write the optical depth into ``out``."""
        correction = CountsCorrection(
            read_only(self.dark),
            read_only(self.flat),
            read_only(self.dark_flat),
            np.float32(self.scale),
            np.float32(self.saturation),
        )
        launch(correct_counts, read_only(self.counts), correction, out)
