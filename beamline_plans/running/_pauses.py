"""What a plan does while its RunEngine holds it, in a pause or in a suspension: close the shutter, and know of it."""

import logging
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Optional, TypeVar

from bluesky import Msg
from bluesky.utils import MsgGenerator

__all__ = ["PauseWatch", "repeat_after_pauses"]

_CLOSE_S = 10.0
_BUSY_S = 1.0
_POLL_INTERVAL_S = 0.02
_LOG = logging.getLogger("beamline_plans")
_T = TypeVar("_T")


class PauseWatch:
    """Something that a RunEngine tells of its pauses, as it tells every object in the messages of a plan.

    Neither shutter nor other devices need to know of pauses: whichever shutter a plan is given is told to close here,
    after the RunEngine has stopped all that moves, and the rewind that follows opens it as the next frame needs it.

    Parameters
    ----------
    shutter : Shutter, optional
        Closed in each pause.
    """

    name = "pause_watch"
    parent = None

    def __init__(self, shutter: Optional[Any] = None) -> None:
        self._shutter = shutter
        self.pauses = 0
        self.held = False
        self.rewindable = True

    def register(self) -> MsgGenerator[None]:
        """Let the RunEngine know of this object, and note whether it rewinds."""
        self.rewindable = (yield Msg("rewindable", self, None)) is not False

    def pause(self) -> None:
        """Close the shutter and wait for it, but not for a device that needs the event loop this runs on.

        Nothing is raised: the RunEngine would end without any cleanup.
        """
        self.pauses += 1
        self.held = True
        if self._shutter is None:
            return
        try:
            _close(self._shutter)
        except Exception as error:
            _report_open_shutter(self._shutter, error)

    def resume(self) -> None:
        """Note that the pause is over."""
        self.held = False


def _close(shutter: Any) -> None:
    status = _start_closing(shutter)
    ended = threading.Event()

    def done(_: Any) -> None:
        error = status.exception(0.0)
        if error is not None:
            _report_open_shutter(shutter, error)
        ended.set()

    status.add_callback(done)
    if hasattr(status, "__await__"):
        return  # of ophyd-async; it closes while the RunEngine goes on
    if not ended.wait(_CLOSE_S):
        _report_open_shutter(shutter, TimeoutError(f"it has not closed within {_CLOSE_S:g} s"))


def _start_closing(shutter: Any) -> Any:
    """Start closing; a move that was stopped just now may take a moment to end."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            return shutter.set("closed")
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_INTERVAL_S)


def _report_open_shutter(shutter: Any, error: BaseException) -> None:
    _LOG.error(
        "The scan is held, but the shutter %s could not be closed (%s: %s): the sample may be in the beam. Close it by "
        "hand.",
        getattr(shutter, "name", shutter),
        type(error).__name__,
        error,
    )


def repeat_after_pauses(
    watch: PauseWatch, plan: Callable[[], Generator[Msg, Any, _T]]
) -> Generator[Msg, Any, _T]:
    """Run a plan again until no pause came in between.

    A RunEngine stops what moves in a pause and reports it as done. Where it does not rewind, nobody but the plan itself
    brings a stopped device to where it was sent.
    """
    while True:
        seen = watch.pauses
        result = yield from plan()
        if watch.pauses == seen:
            return result
