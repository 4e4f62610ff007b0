"""Maximum-likelihood position along a reference series."""

from ._axis_offset import ALLOWED_EV, AxisOffset, JointBasis, estimate_offset, on_reference_axis
from ._curve_error import CurveError, curve_error
from ._foreign import foreign_warnings
from ._mixture import Mixture, mixture_of_ends
from ._series_basis import (
    MARGIN,
    N_NODES,
    RANGE_TOLERANCE,
    SeriesBasis,
    compile_series,
)
from ._series_fit import WIDEST, fit_series, fit_whole_stack
from ._shift_share import shift_share

__all__ = [
    "ALLOWED_EV",
    "MARGIN",
    "N_NODES",
    "RANGE_TOLERANCE",
    "WIDEST",
    "AxisOffset",
    "CurveError",
    "JointBasis",
    "Mixture",
    "SeriesBasis",
    "compile_series",
    "curve_error",
    "estimate_offset",
    "fit_series",
    "fit_whole_stack",
    "foreign_warnings",
    "mixture_of_ends",
    "on_reference_axis",
    "shift_share",
]
