"""Plans of point spectroscopy."""

from ._calibrate import calibrate_energy
from ._xas import xas_scan

__all__ = [
    "calibrate_energy",
    "xas_scan",
]
