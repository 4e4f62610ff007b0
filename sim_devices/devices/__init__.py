"""The simulated beamline as ophyd devices."""

from ._beamline import SimBeamline
from ._nano_beamline import SimNanoBeamline
from ._positions import FILTER_BLADES_UM
from ._soft_beamline import SimSoftBeamline
from ._stxm_beamline import SimStxmBeamline
from ._xpeem_beamline import SimXpeemBeamline

__all__ = [
    "FILTER_BLADES_UM",
    "SimBeamline",
    "SimNanoBeamline",
    "SimSoftBeamline",
    "SimStxmBeamline",
    "SimXpeemBeamline",
]
