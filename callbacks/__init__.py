"""From bluesky documents to frames, fitted maps, Tiled and a live plot."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callbacks.documents import (
        Channel,
        DocumentPublisher,
        DocumentStream,
        DocumentWorker,
        FollowedRuns,
        ForeignLayout,
        ForeignRuns,
        FrameFile,
        Reading,
        RootMap,
        RunReadings,
        documents_of,
        open_stream,
        planned_energies,
        read_run,
    )
    from callbacks.errors import (
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
    from callbacks.publish import (
        FollowedMap,
        RawRunWriter,
        SOCPublisher,
        export_csv,
        export_nexus,
        export_tiff,
        follow_soc,
        open_soc,
        open_soc_table,
        waiting_in,
    )
    from callbacks.reduce import EachReading, FlatFieldCorrector, Reduced, Reducer, Retraction
    from callbacks.results import Field, ResultSchema
    from callbacks.techniques import (
        FULL_FIELD,
        FULL_FIELD_SCHEMA,
        Estimator,
        EstimatorOptions,
        LiveSOC,
        LiveSpectrum,
        RunState,
        Technique,
        has_value,
    )
    from callbacks.views import LiveSOCPlot

__all__ = [
    "FULL_FIELD",
    "FULL_FIELD_SCHEMA",
    "CallbackError",
    "Channel",
    "DeliveryError",
    "DocumentError",
    "DocumentPublisher",
    "DocumentStream",
    "DocumentWorker",
    "DroppedDocumentsError",
    "EachReading",
    "Estimator",
    "EstimatorOptions",
    "ExportError",
    "Field",
    "FlatFieldCorrector",
    "FollowedMap",
    "FollowedRuns",
    "ForeignLayout",
    "ForeignRuns",
    "FrameError",
    "FrameFile",
    "LiveSOC",
    "LiveSOCPlot",
    "LiveSpectrum",
    "MissingFrameError",
    "RawRunWriter",
    "Reading",
    "ReadingError",
    "Reduced",
    "Reducer",
    "ResultSchema",
    "Retraction",
    "RootMap",
    "RunReadings",
    "RunState",
    "SOCPublisher",
    "SpoolError",
    "StreamError",
    "Technique",
    "documents_of",
    "export_csv",
    "export_nexus",
    "export_tiff",
    "follow_soc",
    "has_value",
    "open_soc",
    "open_soc_table",
    "open_stream",
    "planned_energies",
    "read_run",
    "waiting_in",
]

# Modules are imported when a name of theirs is first used: some bring in what takes seconds to import.
_HOME = {
    "FULL_FIELD_SCHEMA": "callbacks.techniques._full_field_result",
    "Field": "callbacks.results._result_schema",
    "ResultSchema": "callbacks.results._result_schema",
    "has_value": "callbacks.techniques._full_field_result",
    "CallbackError": "callbacks.errors",
    "DeliveryError": "callbacks.errors",
    "DocumentError": "callbacks.errors",
    "DocumentPublisher": "callbacks.documents._document_publisher",
    "DocumentStream": "callbacks.documents._document_streams",
    "DocumentWorker": "callbacks.documents._worker",
    "DroppedDocumentsError": "callbacks.errors",
    "ExportError": "callbacks.errors",
    "EachReading": "callbacks.reduce._each_reading",
    "Estimator": "callbacks.techniques._technique",
    "EstimatorOptions": "callbacks.techniques._technique",
    "FULL_FIELD": "callbacks.techniques._full_field",
    "FlatFieldCorrector": "callbacks.reduce._corrector",
    "Reduced": "callbacks.reduce._reducer",
    "Reducer": "callbacks.reduce._reducer",
    "Retraction": "callbacks.reduce._reducer",
    "RunState": "callbacks.techniques._technique",
    "Technique": "callbacks.techniques._technique",
    "FollowedMap": "callbacks.publish._following",
    "FollowedRuns": "callbacks.documents._followed_runs",
    "ForeignLayout": "callbacks.documents._foreign_runs",
    "ForeignRuns": "callbacks.documents._foreign_runs",
    "FrameError": "callbacks.errors",
    "FrameFile": "callbacks.documents._foreign_runs",
    "Channel": "callbacks.documents._readings",
    "Reading": "callbacks.documents._readings",
    "LiveSOC": "callbacks.techniques._live_soc",
    "LiveSOCPlot": "callbacks.views._live_plot",
    "LiveSpectrum": "callbacks.techniques._live_spectrum",
    "MissingFrameError": "callbacks.errors",
    "RawRunWriter": "callbacks.publish._raw_writer",
    "ReadingError": "callbacks.errors",
    "RootMap": "callbacks.documents._root_map",
    "RunReadings": "callbacks.documents._readings",
    "SOCPublisher": "callbacks.publish._publisher",
    "SpoolError": "callbacks.errors",
    "StreamError": "callbacks.errors",
    "documents_of": "callbacks.documents._stored_run",
    "export_csv": "callbacks.publish._exports",
    "export_nexus": "callbacks.publish._exports",
    "export_tiff": "callbacks.publish._exports",
    "follow_soc": "callbacks.publish._following",
    "open_soc": "callbacks.publish._reading",
    "open_soc_table": "callbacks.publish._reading",
    "open_stream": "callbacks.documents._document_streams",
    "planned_energies": "callbacks.documents._foreign_runs",
    "read_run": "callbacks.documents._run_contract",
    "waiting_in": "callbacks.publish._waiting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
