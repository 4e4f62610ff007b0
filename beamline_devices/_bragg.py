"""Bragg's law."""

import math

from beamline_devices.errors import OutOfLimitsError
from scan_contract import HC_EV_ANGSTROM

__all__ = ["bragg_angle_deg", "bragg_energy_ev", "silicon_spacing_angstrom"]

_SILICON_ANGSTROM = 5.431020511


def silicon_spacing_angstrom(h: int, k: int, l: int) -> float:  # noqa: E741
    """Lattice spacing of silicon in angstrom at 22.5 C (CODATA 2018 lattice parameter).

    Parameters
    ----------
    h, k, l : int
        Miller indices of the reflection.
    """
    return _SILICON_ANGSTROM / math.sqrt(h * h + k * k + l * l)


def bragg_angle_deg(energy_ev: float, spacing_angstrom: float) -> float:
    """Angle in degrees at which a lattice reflects an energy in first order.

    Raises
    ------
    OutOfLimitsError
        When the energy is too low to be reflected at any angle.
    """
    sine = HC_EV_ANGSTROM / (2.0 * spacing_angstrom * energy_ev) if energy_ev > 0 else math.inf
    if sine > 1.0:
        lowest = HC_EV_ANGSTROM / (2.0 * spacing_angstrom)
        raise OutOfLimitsError(
            f"no crystal of spacing {spacing_angstrom:g} angstrom reflects {energy_ev:g} eV, give "
            f"{lowest:.0f} eV or more"
        )
    return math.degrees(math.asin(sine))


def bragg_energy_ev(angle_deg: float, spacing_angstrom: float) -> float:
    """Energy in eV that a lattice reflects at an angle in degrees in first order."""
    return HC_EV_ANGSTROM / (2.0 * spacing_angstrom * math.sin(math.radians(angle_deg)))
