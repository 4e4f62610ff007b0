"""Bragg's law and the zone plate, independent of what the device classes compute."""

import math

from scan_contract import HC_EV_ANGSTROM

__all__ = ["bragg_deg", "bragg_energy_ev", "focal_length_mm", "wavelength_nm"]


def bragg_energy_ev(angle_deg: float, spacing_a: float) -> float:
    """Energy the simulated crystals reflect at an angle."""
    return HC_EV_ANGSTROM / (2.0 * spacing_a * math.sin(math.radians(angle_deg)))


def bragg_deg(energy_ev: float, spacing_a: float) -> float:
    """Angle at which the simulated crystals reflect an energy."""
    return math.degrees(math.asin(HC_EV_ANGSTROM / (2.0 * spacing_a * energy_ev)))


def wavelength_nm(energy_ev: float) -> float:
    """Wavelength of photons of an energy."""
    return 0.1 * HC_EV_ANGSTROM / energy_ev


def focal_length_mm(energy_ev: float, diameter_um: float, outermost_zone_nm: float) -> float:
    """Focal length of a zone plate in first order; proportional to the energy."""
    return 1e-3 * diameter_um * outermost_zone_nm / wavelength_nm(energy_ev)
