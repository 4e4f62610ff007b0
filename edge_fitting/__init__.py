"""Absorption-edge fitting of every pixel of an energy scan: numpy and numba only."""

from ._calibration import AnchorCalibration, CalibratedMap
from ._choose_energies import (
    ChosenEnergies,
    EnergyChooser,
    calibration_bias,
    choose_energies,
    expected_sigma,
    optical_depth_sigma,
)
from ._edges import EDGES, Edge
from ._errors import EdgeFittingError
from ._fitter import EdgeFitter, fit_stack
from ._foil import FoilCalibration, calibrate_foil
from ._maps import EdgeMaps, FitStatus
from ._reference_series import ReferenceSeries

__all__ = [
    "EDGES",
    "AnchorCalibration",
    "CalibratedMap",
    "ChosenEnergies",
    "Edge",
    "EdgeFitter",
    "EdgeFittingError",
    "EdgeMaps",
    "EnergyChooser",
    "FitStatus",
    "FoilCalibration",
    "ReferenceSeries",
    "calibrate_foil",
    "calibration_bias",
    "choose_energies",
    "expected_sigma",
    "fit_stack",
    "optical_depth_sigma",
]
