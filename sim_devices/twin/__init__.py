"""The physics of the simulated beamline."""

from ._chambers import Chamber, IonChambers
from ._compounds import EDGE_ELEMENT, METALS
from ._constants import FWHM_PER_SIGMA, NI_K_EV
from ._diffraction import bragg_deg, bragg_energy_ev, focal_length_mm
from ._faults import Fault, Faults
from ._settings import (
    CameraSettings,
    ChamberSettings,
    MonoSettings,
    OpticsSettings,
    SampleSettings,
    SourceSettings,
    TwinSettings,
)
from ._truth import Truth
from ._twin import Twin
from ._yields import FLUORESCENCE_EV, yields_of

__all__ = [
    "EDGE_ELEMENT",
    "FLUORESCENCE_EV",
    "FWHM_PER_SIGMA",
    "METALS",
    "NI_K_EV",
    "CameraSettings",
    "Chamber",
    "ChamberSettings",
    "Fault",
    "Faults",
    "IonChambers",
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
