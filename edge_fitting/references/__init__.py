"""Reference spectra, their normalisation and calibration."""

from ._calibration import AnchorCalibration, CalibratedMap
from ._foil import FoilCalibration, calibrate_foil
from ._half_jump import energies_around_edge, half_jump_energies, half_jump_of_spectra
from ._normalization import NormalizedStack, normalize
from ._reference_series import ReferenceSeries

__all__ = [
    "AnchorCalibration",
    "CalibratedMap",
    "FoilCalibration",
    "NormalizedStack",
    "ReferenceSeries",
    "calibrate_foil",
    "energies_around_edge",
    "half_jump_energies",
    "half_jump_of_spectra",
    "normalize",
]
