"""Which energies tell most about the state of charge."""

from ._choose_energies import ChosenEnergies, choose_energies
from ._energy_chooser import EnergyChooser
from ._energy_order import informative_order
from ._expected import calibration_bias, expected_sigma, optical_depth_sigma

__all__ = [
    "ChosenEnergies",
    "EnergyChooser",
    "calibration_bias",
    "choose_energies",
    "expected_sigma",
    "informative_order",
    "optical_depth_sigma",
]
