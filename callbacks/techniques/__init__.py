"""What each technique makes of corrected frames."""

from ._live_soc import LiveSOC
from ._live_spectrum import LiveSpectrum
from ._update import FrameSummary, SOCUpdate

__all__ = [
    "FrameSummary",
    "LiveSOC",
    "LiveSpectrum",
    "SOCUpdate",
]
