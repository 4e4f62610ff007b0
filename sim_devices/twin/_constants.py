"""Numbers that several parts of the simulation use."""

import math

__all__ = ["FWHM_PER_SIGMA", "NI_K_EV"]

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
"""Full width at half maximum of a normal distribution, in its standard deviations."""

NI_K_EV = 8333.0
"""Ni K edge (Elam tables as given by xraydb): where the twin begins, and where its optics are in focus."""
