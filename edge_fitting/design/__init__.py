"""Which energies tell most about the state of charge."""

from ._choose_energies import (
    ChosenEnergies,
    EnergyChooser,
    calibration_bias,
    choose_energies,
    expected_sigma,
    optical_depth_sigma,
)
from ._energy_order import informative_order

__all__ = [
    "ChosenEnergies",
    "EnergyChooser",
    "calibration_bias",
    "choose_energies",
    "expected_sigma",
    "informative_order",
    "optical_depth_sigma",
]
