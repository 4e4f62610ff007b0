"""Maximum-likelihood position along a reference series."""

from ._series_basis import (
    MARGIN,
    N_NODES,
    RANGE_TOLERANCE,
    compile_series,
    energies_around_edge,
    half_jump_energies,
)
from ._series_fit import WIDEST, fit_series, fit_whole_stack

__all__ = [
    "MARGIN",
    "N_NODES",
    "RANGE_TOLERANCE",
    "WIDEST",
    "compile_series",
    "energies_around_edge",
    "fit_series",
    "fit_whole_stack",
    "half_jump_energies",
]
