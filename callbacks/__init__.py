"""From bluesky documents to frames, fitted maps, Tiled and a live plot."""

from callbacks._contract import ScanContract, is_energy_scan, read_contract
from callbacks._document_streams import DocumentPublisher, DocumentStream, open_stream
from callbacks._errors import (
    CallbackError,
    DeliveryError,
    DocumentError,
    DroppedDocumentsError,
    ExportError,
    FrameError,
    MissingFrameError,
    ReadingError,
    SpoolError,
    StreamError,
)
from callbacks._exports import export_nexus, export_tiff
from callbacks._flat_field import FlatFieldBook, ReadyFrame
from callbacks._followed_runs import FollowedRuns
from callbacks._following import FollowedMap, follow_soc
from callbacks._frames import FrameRecord, RunFrames
from callbacks._live_plot import LiveSOCPlot
from callbacks._live_soc import LiveSOC
from callbacks._live_spectrum import LiveSpectrum
from callbacks._publisher import SOCPublisher
from callbacks._raw_writer import RawRunWriter
from callbacks._reading import open_soc, open_soc_table
from callbacks._stored_run import documents_of
from callbacks._update import FrameSummary, SOCUpdate

__all__ = [
    "CallbackError",
    "DeliveryError",
    "DocumentError",
    "DocumentPublisher",
    "DocumentStream",
    "DroppedDocumentsError",
    "ExportError",
    "FlatFieldBook",
    "FollowedMap",
    "FollowedRuns",
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
    "StreamError",
    "documents_of",
    "export_nexus",
    "export_tiff",
    "follow_soc",
    "is_energy_scan",
    "open_soc",
    "open_soc_table",
    "open_stream",
    "read_contract",
]
