"""Sufficient statistics of frames, per pixel."""

from ._counts import CountsFrame
from ._projection_kernels import BLOCK, add_rows, fold_block, make_coefficients
from ._records import PixelSums, WeightedFrames
from ._sufficient_statistics import SufficientStatistics

__all__ = [
    "BLOCK",
    "CountsFrame",
    "PixelSums",
    "SufficientStatistics",
    "WeightedFrames",
    "add_rows",
    "fold_block",
    "make_coefficients",
]
