"""The two ways in: frames one by one, or a whole stack."""

from ._fit_stack import fit_stack
from ._fitter import EdgeFitter
from ._frame_judge import FrameJudge
from ._offset import OffsetChoice, check_offset
from ._stray_light import without_stray_light
from ._warm_up import warm_up

__all__ = [
    "EdgeFitter",
    "FrameJudge",
    "OffsetChoice",
    "check_offset",
    "fit_stack",
    "warm_up",
    "without_stray_light",
]
