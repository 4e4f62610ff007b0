"""The simulated crystals: Bragg's law as nature has it, apart from what the device classes make of it."""

import math

__all__ = ["bragg_deg", "bragg_energy_ev"]

_HC_EV_ANGSTROM = 12398.419843320026


def bragg_energy_ev(angle_deg: float, spacing_a: float) -> float:
    """Energy the simulated crystals reflect at an angle."""
    return _HC_EV_ANGSTROM / (2.0 * spacing_a * math.sin(math.radians(angle_deg)))


def bragg_deg(energy_ev: float, spacing_a: float) -> float:
    """Angle at which the simulated crystals reflect an energy."""
    return math.degrees(math.asin(_HC_EV_ANGSTROM / (2.0 * spacing_a * energy_ev)))
