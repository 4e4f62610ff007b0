"""The physics of the simulated beamline."""

from ._compounds import EDGE_ELEMENT, METALS
from ._diffraction import bragg_deg, bragg_energy_ev, focal_length_mm
from ._faults import Fault, Faults
from ._settings import (
    CameraSettings,
    MonoSettings,
    OpticsSettings,
    SampleSettings,
    SourceSettings,
    TwinSettings,
)
from ._twin import Truth, Twin
from ._yields import FLUORESCENCE_EV, yields_of

__all__ = [
    "EDGE_ELEMENT",
    "FLUORESCENCE_EV",
    "METALS",
    "CameraSettings",
    "Fault",
    "Faults",
    "MonoSettings",
    "OpticsSettings",
    "SampleSettings",
    "SourceSettings",
    "Truth",
    "Twin",
    "TwinSettings",
    "bragg_deg",
    "bragg_energy_ev",
    "focal_length_mm",
    "yields_of",
]
