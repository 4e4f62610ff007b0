"""Registration: how the sample drifted between frames, and frames moved back."""

from ._drift_tracker import DriftTracker, RegisteredFrame
from ._register_stack import RegisteredStack, register_stack
from ._resample import resample_frame

__all__ = ["DriftTracker", "RegisteredFrame", "RegisteredStack", "register_stack", "resample_frame"]
