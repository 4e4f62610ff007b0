"""A digital twin of a full-field absorption beamline, as ophyd devices."""

from sim_devices.devices import SimBeamline
from sim_devices.twin import (
    CameraSettings,
    ChamberSettings,
    Fault,
    Faults,
    MonoSettings,
    OpticsSettings,
    SampleSettings,
    SourceSettings,
    Truth,
    Twin,
    TwinSettings,
)

__all__ = [
    "CameraSettings",
    "ChamberSettings",
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
