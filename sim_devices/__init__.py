"""A digital twin of a full-field absorption beamline, as ophyd devices."""

from sim_devices._beamline import SimBeamline
from sim_devices._settings import (
    CameraSettings,
    MonoSettings,
    SampleSettings,
    SourceSettings,
    TwinSettings,
)
from sim_devices._twin import Truth

__all__ = [
    "CameraSettings",
    "MonoSettings",
    "SampleSettings",
    "SimBeamline",
    "SourceSettings",
    "Truth",
    "TwinSettings",
]
