"""Plans of point spectroscopy."""

from ._calibrate import calibrate_energy
from ._fly import xas_fly
from ._soft_xas import soft_xas_scan
from ._stxm import stxm_scan
from ._xas import xas_scan
from ._xpeem import xpeem_scan

__all__ = [
    "calibrate_energy",
    "soft_xas_scan",
    "stxm_scan",
    "xas_fly",
    "xas_scan",
    "xpeem_scan",
]
