"""From bluesky documents to frames, fitted maps, Tiled and a live plot."""

from callbacks._contract import ScanContract, is_energy_scan, read_contract
from callbacks._errors import (
    CallbackError,
    DeliveryError,
    DocumentError,
    FrameError,
    MissingFrameError,
    ReadingError,
    SpoolError,
)
from callbacks._flat_field import FlatFieldBook, ReadyFrame
from callbacks._following import FollowedMap, follow_soc
from callbacks._frames import FrameRecord, RunFrames
from callbacks._live_plot import LiveSOCPlot
from callbacks._live_soc import LiveSOC
from callbacks._live_spectrum import LiveSpectrum
from callbacks._publisher import SOCPublisher
from callbacks._raw_writer import RawRunWriter
from callbacks._reading import open_soc
from callbacks._stored_run import documents_of
from callbacks._update import FrameSummary, SOCUpdate

__all__ = [
    "CallbackError",
    "DeliveryError",
    "DocumentError",
    "FlatFieldBook",
    "FollowedMap",
    "FrameError",
    "FrameRecord",
    "FrameSummary",
    "LiveSOC",
    "LiveSOCPlot",
    "LiveSpectrum",
    "MissingFrameError",
    "RawRunWriter",
    "ReadingError",
    "ReadyFrame",
    "RunFrames",
    "SOCPublisher",
    "SOCUpdate",
    "ScanContract",
    "SpoolError",
    "documents_of",
    "follow_soc",
    "is_energy_scan",
    "open_soc",
    "read_contract",
]
