"""From bluesky documents to frames, fitted maps, Tiled and a live plot."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callbacks._contract import ScanContract, is_energy_scan, read_contract
    from callbacks._document_publisher import DocumentPublisher
    from callbacks._document_streams import DocumentStream, open_stream
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
    from callbacks._foreign_runs import ForeignLayout, ForeignRuns, FrameFile, planned_energies
    from callbacks._frames import FrameRecord, RunFrames
    from callbacks._live_plot import LiveSOCPlot
    from callbacks._live_soc import LiveSOC
    from callbacks._live_spectrum import LiveSpectrum
    from callbacks._publisher import SOCPublisher
    from callbacks._raw_writer import RawRunWriter
    from callbacks._reading import open_soc, open_soc_table
    from callbacks._root_map import RootMap
    from callbacks._stored_run import documents_of
    from callbacks._update import FrameSummary, SOCUpdate
    from callbacks._waiting import waiting_in
    from callbacks._worker import DocumentWorker

__all__ = [
    "CallbackError",
    "DeliveryError",
    "DocumentError",
    "DocumentPublisher",
    "DocumentStream",
    "DocumentWorker",
    "DroppedDocumentsError",
    "ExportError",
    "FlatFieldBook",
    "FollowedMap",
    "FollowedRuns",
    "ForeignLayout",
    "ForeignRuns",
    "FrameError",
    "FrameFile",
    "FrameRecord",
    "FrameSummary",
    "LiveSOC",
    "LiveSOCPlot",
    "LiveSpectrum",
    "MissingFrameError",
    "RawRunWriter",
    "ReadingError",
    "ReadyFrame",
    "RootMap",
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
    "planned_energies",
    "read_contract",
    "waiting_in",
]

# Modules are imported when a name of theirs is first used: some bring in what takes seconds to import.
_HOME = {
    "CallbackError": "callbacks._errors",
    "DeliveryError": "callbacks._errors",
    "DocumentError": "callbacks._errors",
    "DocumentPublisher": "callbacks._document_publisher",
    "DocumentStream": "callbacks._document_streams",
    "DocumentWorker": "callbacks._worker",
    "DroppedDocumentsError": "callbacks._errors",
    "ExportError": "callbacks._errors",
    "FlatFieldBook": "callbacks._flat_field",
    "FollowedMap": "callbacks._following",
    "FollowedRuns": "callbacks._followed_runs",
    "ForeignLayout": "callbacks._foreign_runs",
    "ForeignRuns": "callbacks._foreign_runs",
    "FrameError": "callbacks._errors",
    "FrameFile": "callbacks._foreign_runs",
    "FrameRecord": "callbacks._frames",
    "FrameSummary": "callbacks._update",
    "LiveSOC": "callbacks._live_soc",
    "LiveSOCPlot": "callbacks._live_plot",
    "LiveSpectrum": "callbacks._live_spectrum",
    "MissingFrameError": "callbacks._errors",
    "RawRunWriter": "callbacks._raw_writer",
    "ReadingError": "callbacks._errors",
    "ReadyFrame": "callbacks._flat_field",
    "RootMap": "callbacks._root_map",
    "RunFrames": "callbacks._frames",
    "SOCPublisher": "callbacks._publisher",
    "SOCUpdate": "callbacks._update",
    "ScanContract": "callbacks._contract",
    "SpoolError": "callbacks._errors",
    "StreamError": "callbacks._errors",
    "documents_of": "callbacks._stored_run",
    "export_nexus": "callbacks._exports",
    "export_tiff": "callbacks._exports",
    "follow_soc": "callbacks._following",
    "is_energy_scan": "callbacks._contract",
    "open_soc": "callbacks._reading",
    "open_soc_table": "callbacks._reading",
    "open_stream": "callbacks._document_streams",
    "planned_energies": "callbacks._foreign_runs",
    "read_contract": "callbacks._contract",
    "waiting_in": "callbacks._waiting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
