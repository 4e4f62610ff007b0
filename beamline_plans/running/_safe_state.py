"""However a plan ends: shutter closed, sample in the beam, the rest where it was."""

import logging
import time
from collections.abc import Sequence
from typing import Any, Optional, TypeVar

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky import Msg
from bluesky.utils import (
    FailedPause,
    MsgGenerator,
    RunEngineControlException,
)

from beamline_plans.errors import NotSafeError

from ._failures import ATTEMPTS, POLL_S, describe_failure, is_lost_connection
from ._instrument import Instrument, first_value
from ._pauses import PauseWatch

__all__ = ["QuietStop", "restore_wrapper", "safe_state_wrapper"]

# How long a lost control system may take to come back in the cleanup.
_RETURN_IN_CLEANUP_S = 30.0
_LOG = logging.getLogger("beamline_plans")
_T = TypeVar("_T")


def safe_state_wrapper(instrument: Instrument, plan: MsgGenerator[_T]) -> MsgGenerator[_T]:
    """Run `plan` and, however it ends, close the shutter, bring the sample in, restore the rest.

    The shutter is also closed in each pause.

    Raises
    ------
    NotSafeError
        If that could not be done; the message says what is left how.
    """
    energy_ev = yield from _position(instrument.energy)
    filters = None if instrument.filters is None else (yield from _position(instrument.filters))
    steps = [
        (instrument.shutter, "closed", "close the shutter"),
        (instrument.stage, "in", "bring the sample in"),
        (instrument.filters, filters, "restore the filters"),
        (instrument.energy, energy_ev, "restore the energy"),
    ]
    return (yield from _cleanup_wrapper(plan, steps, instrument.shutter))


def restore_wrapper(device: Any, plan: MsgGenerator[_T], shutter: Optional[Any] = None) -> MsgGenerator[_T]:
    """Run `plan` and, however it ends, close the shutter, if given, and move `device` back to where it was.

    Raises
    ------
    NotSafeError
        If that could not be done.
    """
    start = yield from _position(device)
    steps = [] if shutter is None else [(shutter, "closed", "close the shutter")]
    return (yield from _cleanup_wrapper(plan, [*steps, (device, start, "bring it back")], shutter))


def _position(device: Any) -> MsgGenerator[Any]:
    # A rewind during an asynchronous read loses its answer, so ask once more.
    position = first_value(device, (yield from bps.read(device)))
    return position if position is not None else first_value(device, (yield from bps.read(device)))


def _cleanup_wrapper(
    plan: MsgGenerator[_T], steps: Sequence[tuple[Any, Any, str]], shutter: Optional[Any]
) -> MsgGenerator[_T]:
    """Run `plan`, then move each device to its value in turn, a value of None standing for nowhere."""
    watch = PauseWatch(shutter)

    # Inside of what is cleaned up: an end that comes with this message finds the cleanup in place.
    def watched() -> MsgGenerator[_T]:
        yield from watch.register()
        return (yield from plan)

    def cleanup() -> MsgGenerator[None]:
        ended: Optional[BaseException] = None
        pauses = -1
        # In a pause what moves is stopped, and a person may move anything: then all is done once more.
        while pauses != watch.pauses:
            pauses = watch.pauses
            problems: list[str] = []
            for device, value, what in steps:
                if value is None:
                    continue
                problem, end = yield from _move_in_cleanup(watch, device, value)
                ended = end or ended
                if problem is not None:
                    problems.append(_not_safe(device, value, what, problem))
        if problems:
            error = NotSafeError(" ".join(problems))
            _LOG.critical("%s", error)
            raise error from ended
        if ended is not None:
            raise ended

    result: _T = yield from bpp.finalize_wrapper(watched(), cleanup)
    return result


def _move_in_cleanup(
    watch: PauseWatch, device: Any, value: Any
) -> MsgGenerator[tuple[Optional[str], Optional[BaseException]]]:
    """Move a device in the cleanup; return what kept it from moving, and what ended the scan meanwhile."""
    ended: Optional[BaseException] = None
    problem: Optional[str] = None
    attempt, until = 0, time.monotonic() + _RETURN_IN_CLEANUP_S
    gone = False
    while attempt <= ATTEMPTS or (gone and time.monotonic() < until):
        try:
            if gone:
                yield Msg("sleep", None, POLL_S)
            yield from _limit_rewind(watch.rewindable)
            if attempt:
                # Whatever it was still doing for the scan.
                yield Msg("stop", QuietStop(device))
            yield from bps.mv(device, value)
            return None, ended
        except (RunEngineControlException, FailedPause) as error:
            ended = error
            problem = "the scan was ended again and again in its cleanup"
        except Exception as error:
            problem, gone = describe_failure(error), is_lost_connection(error)
        attempt += 1
    return problem, ended


class QuietStop:
    """Stops a device without its last move counting as failed, which the message of bluesky has no word for."""

    parent = None

    def __init__(self, device: Any) -> None:
        self._device = device
        self.name = getattr(device, "name", str(device))

    def stop(self, success: bool = True) -> Any:
        """Stop the device, if that can be done."""
        stop = getattr(self._device, "stop", None)
        return None if stop is None else stop(success=True)


def _not_safe(device: Any, value: Any, what: str, problem: str) -> str:
    name = getattr(device, "name", str(device))
    target = f"{value:g}" if isinstance(value, float) else str(value)
    return (
        f"NOT SAFE: could not {what} ({name} to {target}; {problem.rstrip('.')}). Look where {name} is and move it by "
        "hand."
    )


def _limit_rewind(rewindable: bool) -> MsgGenerator[None]:
    """Let a rewind during the cleanup repeat the cleanup, not the frame that failed before it.

    A checkpoint would do, were it not forbidden between the create and the save of an interrupted frame. A suspender's
    plan that failed may have left the RunEngine unable to rewind.
    """
    yield Msg("rewindable", None, False)
    yield Msg("rewindable", None, rewindable)
