"""Constants of nature that every package reads an axis with."""

HC_EV_ANGSTROM = 12398.419843320026
"""Planck's constant times the speed of light in eV angstrom (exact in the SI of 2019)."""
