"""Registration: how the sample drifted between frames, and frames moved back."""

from ._drift_tracker import DriftTracker, RegisteredFrame
from ._drift_watch import LEAST_DRIFT_PX, DriftWatch, can_watch, drift_px
from ._map_match import MapMatch, match_maps
from ._register_image import ImagePlace, register_image
from ._register_stack import register_stack
from ._registered_stack import RegisteredStack
from ._resample import resample_frame
from ._shift_sigma import add_shift_sigma

__all__ = [
    "LEAST_DRIFT_PX",
    "DriftTracker",
    "DriftWatch",
    "ImagePlace",
    "MapMatch",
    "RegisteredFrame",
    "RegisteredStack",
    "add_shift_sigma",
    "can_watch",
    "drift_px",
    "match_maps",
    "register_image",
    "register_stack",
    "resample_frame",
]
