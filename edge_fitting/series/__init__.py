"""Maximum-likelihood position along a reference series."""

from ._axis_offset import ALLOWED_EV, AxisOffset, JointBasis, estimate_offset, on_reference_axis
from ._curve_error import CurveError, curve_error
from ._foreign import foreign_warnings
from ._series_basis import (
    MARGIN,
    N_NODES,
    RANGE_TOLERANCE,
    SeriesBasis,
    compile_series,
    energies_around_edge,
    half_jump_energies,
)
from ._series_fit import WIDEST, fit_series, fit_whole_stack

__all__ = [
    "ALLOWED_EV",
    "MARGIN",
    "N_NODES",
    "RANGE_TOLERANCE",
    "WIDEST",
    "AxisOffset",
    "CurveError",
    "JointBasis",
    "SeriesBasis",
    "compile_series",
    "curve_error",
    "energies_around_edge",
    "estimate_offset",
    "fit_series",
    "fit_whole_stack",
    "foreign_warnings",
    "half_jump_energies",
    "on_reference_axis",
]
