"""The simulated beamline as ophyd devices."""

from ._beamline import SimBeamline
from ._positions import FILTER_BLADES_UM

__all__ = [
    "FILTER_BLADES_UM",
    "SimBeamline",
]
