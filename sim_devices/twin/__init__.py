"""The physics of the simulated beamline."""

from ._chambers import Chamber, IonChambers
from ._compounds import EDGE_ELEMENT, METALS, edge_of_twin
from ._constants import FWHM_PER_SIGMA, NI_K_EV
from ._diffraction import bragg_deg, bragg_energy_ev, focal_length_mm
from ._faults import Fault, Faults
from ._grains import GrainSettings
from ._nano_sample import (
    NANO_SAMPLES,
    NMC442,
    NMC701515,
    GradientParticle,
    NanoSample,
    nickel_spectrum,
)
from ._nano_station import McaReading, NanoSettings, NanoStation, NanoTruth
from ._settings import (
    CameraSettings,
    ChamberSettings,
    MonoSettings,
    OpticsSettings,
    SampleSettings,
    SourceSettings,
    TwinSettings,
)
from ._soft_sample import PUBLISHED_GAMMA, SOFT_SAMPLES, LayeredSample, SoftTruth, YieldDepth
from ._soft_spectra import SOFT_COMPONENTS, soft_spectrum
from ._soft_station import SOFT_CHANNELS, SoftSettings, SoftStation
from ._stxm_station import STXM_ENDS, StxmSettings, StxmStation, StxmTruth
from ._truth import Truth
from ._twin import Twin
from ._volume import VolumeTruth
from ._volume_settings import VolumeSettings
from ._xpeem_station import XpeemSettings, XpeemStation
from ._yields import FLUORESCENCE_EV, yields_of

__all__ = [
    "EDGE_ELEMENT",
    "FLUORESCENCE_EV",
    "FWHM_PER_SIGMA",
    "METALS",
    "NANO_SAMPLES",
    "NI_K_EV",
    "NMC442",
    "NMC701515",
    "PUBLISHED_GAMMA",
    "SOFT_CHANNELS",
    "SOFT_COMPONENTS",
    "SOFT_SAMPLES",
    "STXM_ENDS",
    "CameraSettings",
    "Chamber",
    "ChamberSettings",
    "Fault",
    "Faults",
    "GradientParticle",
    "GrainSettings",
    "IonChambers",
    "LayeredSample",
    "McaReading",
    "MonoSettings",
    "NanoSample",
    "NanoSettings",
    "NanoStation",
    "NanoTruth",
    "OpticsSettings",
    "SampleSettings",
    "SoftSettings",
    "SoftStation",
    "SoftTruth",
    "SourceSettings",
    "StxmSettings",
    "StxmStation",
    "StxmTruth",
    "Truth",
    "Twin",
    "TwinSettings",
    "VolumeSettings",
    "VolumeTruth",
    "XpeemSettings",
    "XpeemStation",
    "YieldDepth",
    "bragg_deg",
    "bragg_energy_ev",
    "edge_of_twin",
    "focal_length_mm",
    "nickel_spectrum",
    "soft_spectrum",
    "yields_of",
]
