"""What all plans share: instrument, requests, frames, safe states."""

from ._clock import Clock, now_s, wait_until
from ._documents import SCHEMA_VERSION, STREAMS, validate_run_documents
from ._frames import FrameTaker, first_value, restore_wrapper, safe_state_wrapper, trigger
from ._instrument import Instrument, check_roles, check_value
from ._label import FrameLabel, Shot
from ._request import ScanRequest, grid_from, requests_for_edges
from ._run import one_run, take_frames
from ._suspend import beam_suspenders
from ._times import TimeModel, learn_times

__all__ = [
    "SCHEMA_VERSION",
    "STREAMS",
    "Clock",
    "FrameLabel",
    "FrameTaker",
    "Instrument",
    "ScanRequest",
    "Shot",
    "TimeModel",
    "beam_suspenders",
    "check_roles",
    "check_value",
    "first_value",
    "grid_from",
    "learn_times",
    "now_s",
    "one_run",
    "requests_for_edges",
    "restore_wrapper",
    "safe_state_wrapper",
    "take_frames",
    "trigger",
    "validate_run_documents",
    "wait_until",
]
