"""A digital twin of a full-field absorption beamline, as ophyd devices."""

from sim_devices._beamline import SimBeamline
from sim_devices._faults import Fault, Faults
from sim_devices._settings import (
    CameraSettings,
    MonoSettings,
    OpticsSettings,
    SampleSettings,
    SourceSettings,
    TwinSettings,
)
from sim_devices._twin import Truth, Twin

__all__ = [
    "CameraSettings",
    "Fault",
    "Faults",
    "MonoSettings",
    "OpticsSettings",
    "SampleSettings",
    "SimBeamline",
    "SourceSettings",
    "Truth",
    "Twin",
    "TwinSettings",
]
