"""Sufficient statistics of frames, per pixel."""

from ._counts import CountsFrame
from ._projection_kernels import BLOCK, add_rows, fold_block
from ._sufficient_statistics import SufficientStatistics

__all__ = [
    "BLOCK",
    "CountsFrame",
    "SufficientStatistics",
    "add_rows",
    "fold_block",
]
