"""X-ray fluorescence: spectra to counts of lines, counts to composition, composition to how an edge is read."""

from ._calibrate import CalibratedSpectrum, calibrate_spectrum
from ._composed_soc import ComposedSOC, CompositionReferences, fit_composed_soc
from ._core_shell import CoreShell, Matter, fit_core_shell
from ._lines import LineGroup, compton_energy_ev, line_groups
from ._model import BACKGROUND, COMPTON, ELASTIC, SpectrumModel
from ._profiles import CompositionProfile, line_profile, rim_profile
from ._projection import ComponentCounts, SpectrumProjection
from ._quantities import (
    Sensitivity,
    ThinFilmStandard,
    atoms_sensitivity,
    escape_factor,
    self_absorption,
    without_saturation,
)
from ._ratios import CountRatio, atomic_fractions, element_ratio, ratio_of_counts
from ._response import ESCAPE_EV, DetectorResponse
from ._windows import window_counts

__all__ = [
    "BACKGROUND",
    "COMPTON",
    "ELASTIC",
    "ESCAPE_EV",
    "CalibratedSpectrum",
    "ComponentCounts",
    "ComposedSOC",
    "CompositionProfile",
    "CompositionReferences",
    "CoreShell",
    "CountRatio",
    "DetectorResponse",
    "LineGroup",
    "Matter",
    "Sensitivity",
    "SpectrumModel",
    "SpectrumProjection",
    "ThinFilmStandard",
    "atomic_fractions",
    "atoms_sensitivity",
    "calibrate_spectrum",
    "compton_energy_ev",
    "element_ratio",
    "escape_factor",
    "fit_composed_soc",
    "fit_core_shell",
    "line_groups",
    "line_profile",
    "ratio_of_counts",
    "rim_profile",
    "self_absorption",
    "window_counts",
    "without_saturation",
]
