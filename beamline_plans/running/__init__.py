"""What all plans share: instrument, requests, frames, safe states."""

from ._clock import Clock, now_s, wait_until
from ._frames import FrameTaker, set_and_wait, trigger
from ._instrument import Instrument, check_roles, check_value, first_value
from ._label import FrameLabel
from ._pauses import PauseWatch
from ._request import ScanRequest, check_provenance, grid_from, requests_for_edges
from ._resumed import entries_to_keep, metadata_to_keep, run_that_begins_with
from ._run import one_run, take_frames
from ._safe_state import QuietStop, restore_wrapper, safe_state_wrapper
from ._suspend import beam_suspenders
from ._times import TimeModel, learn_times

__all__ = [
    "Clock",
    "FrameLabel",
    "FrameTaker",
    "Instrument",
    "PauseWatch",
    "QuietStop",
    "ScanRequest",
    "TimeModel",
    "beam_suspenders",
    "check_provenance",
    "check_roles",
    "check_value",
    "entries_to_keep",
    "first_value",
    "grid_from",
    "learn_times",
    "metadata_to_keep",
    "now_s",
    "one_run",
    "requests_for_edges",
    "restore_wrapper",
    "run_that_begins_with",
    "safe_state_wrapper",
    "set_and_wait",
    "take_frames",
    "trigger",
    "wait_until",
]
