"""Absorption-edge fitting of every pixel of an energy scan: numpy and numba only."""

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
from ._maps import EdgeMaps, FitStatus
from ._reference_series import ReferenceSeries

__all__ = [
    "EDGES",
    "ChosenEnergies",
    "Edge",
    "EdgeFitter",
    "EdgeFittingError",
    "EdgeMaps",
    "EnergyChooser",
    "FitStatus",
    "ReferenceSeries",
    "calibration_bias",
    "choose_energies",
    "expected_sigma",
    "fit_stack",
    "optical_depth_sigma",
]
