"""From readings to what estimators take: darks, flats, incident intensity, and sampled spectra."""

from ._channel_plate import ChannelPlate
from ._corrected_frame import CorrectedFrame, Correction
from ._corrector import FlatFieldCorrector
from ._count_rates import CountRates
from ._dark_currents import DarkCurrents
from ._each_reading import EachReading
from ._flat_field import DarksAndFlats
from ._frame_comparison import FrameComparison
from ._mca_elements import McaElements, common_scale
from ._reducer import Item, Reduced, Reducer, Retraction
from ._registration import FrameRegistration, RegisterChoice, check_register
from ._screen import FrameScreen
from ._spectra import SampledSpectra, Spectrum, optical_depth
from ._stray_light import note_taken_out

__all__ = [
    "ChannelPlate",
    "CorrectedFrame",
    "Correction",
    "CountRates",
    "DarkCurrents",
    "DarksAndFlats",
    "EachReading",
    "FlatFieldCorrector",
    "FrameComparison",
    "FrameRegistration",
    "FrameScreen",
    "Item",
    "McaElements",
    "Reduced",
    "Reducer",
    "RegisterChoice",
    "Retraction",
    "SampledSpectra",
    "Spectrum",
    "check_register",
    "common_scale",
    "note_taken_out",
    "optical_depth",
]
