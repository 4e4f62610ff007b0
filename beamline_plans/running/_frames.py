"""Plan stubs: move the instrument, take one frame, again where it failed."""

import logging
import time
import uuid
from collections import deque
from collections.abc import Sequence
from math import copysign, inf
from typing import Any, Optional

import bluesky.plan_stubs as bps
from bluesky import Msg
from bluesky.protocols import Triggerable
from bluesky.utils import (
    FailedPause,
    IllegalMessageSequence,
    MsgGenerator,
    RunEngineControlException,
)

from beamline_plans.errors import FrameError, PlanError
from scan_contract import Shot

from ._failures import ATTEMPTS, POLL_S, describe_failure, is_lost_connection
from ._instrument import Instrument, first_value
from ._label import FrameLabel
from ._pauses import PauseWatch

__all__ = ["FrameTaker", "set_and_wait", "trigger"]

# A camera that is silent for so long after its exposure will not answer any more.
_TRIGGER_TIMEOUT_S = 60.0
_POLL_INTERVAL_S = 0.02
# Enough for a suspender to ask again for what a failure has undone.
_SUSPENDER_WAIT_S = 0.1
# A limit of I0 below this part of what is read with beam would not notice a beam that is almost gone.
_LEAST_I0_LIMIT = 0.01
# How long a lost control system may take to come back in a scan.
_RETURN_S = 60.0
_LOG = logging.getLogger("beamline_plans")


class FrameTaker:
    """Takes the frames of one run.

    Parameters
    ----------
    instrument : Instrument
        The devices.
    i0_min : float, optional
        A frame during which I0 was lower is taken again. Where I0 is negative throughout, as with some
        amplifiers, its magnitude counts; the first frame with enough of it says which sign it has, and whether
        the limit can be in its unit.
    """

    def __init__(self, instrument: Instrument, i0_min: Optional[float] = None) -> None:
        self._instrument = instrument
        self._i0_min = i0_min
        self._i0_sign = 0.0
        self._label = FrameLabel()
        self._last_reading: Optional[dict[str, Any]] = None
        self._watch = PauseWatch()

    def begin(self) -> MsgGenerator[None]:
        """Read which frame the camera shows before the first one is taken, to distinguish the two."""
        yield from self._watch.register()
        try:
            self._last_reading = yield Msg("read", self._instrument.camera)
        except (RunEngineControlException, FailedPause):
            raise
        except Exception as error:
            # Some cameras have nothing to read before their first frame.
            _LOG.debug("no frame to begin with: %s", error)

    def take(
        self,
        stream: str,
        energy_index: int,
        energy_ev: float,
        exposure_s: float,
        n_frames: int,
        *,
        first_repeat: int = 0,
        axes: tuple[tuple[str, int], ...] = (),
    ) -> MsgGenerator[None]:
        """Go to one energy, and place on the technique's own axes, and take the frames of one stream there.

        Everything the frames depend on is set after the checkpoint, so that a rewind, after which a person
        may have moved anything, finds the instrument as the label says. What fails is tried again from
        there, a few times.

        Raises
        ------
        FrameError
            If a frame could not be taken, or the scan could not be held while it had to be.
        """
        repeats = range(first_repeat, first_repeat + n_frames)
        left = deque(Shot(stream, energy_index, energy_ev, exposure_s, repeat, axes) for repeat in repeats)
        failures: list[str] = []
        gone_at: Optional[float] = None
        while left:
            yield Msg("checkpoint")
            try:
                yield from self._go_to(left[0])
                while left:
                    problem = yield from self._attempt(left[0])
                    if problem is not None:
                        break
                    left.popleft()
                    failures.clear()
                    gone_at = None
                else:
                    return
            except (RunEngineControlException, FailedPause, IllegalMessageSequence, PlanError):
                raise
            except Exception as error:
                problem = describe_failure(error)
                yield from self._recover()
                if self._watch.held:
                    raise FrameError(
                        f"The scan was to be held at {energy_ev:g} eV, for lack of beam or in a pause, and that failed "
                        f"({problem.rstrip('.')}); it has ended. Take the missing energies with resume_scan when "
                        "there is beam."
                    ) from error
                if is_lost_connection(error):
                    gone_at = time.monotonic() if gone_at is None else gone_at
                    yield from self._await_return(left[0], gone_at, problem, error)
                    continue
                if len(failures) + 1 >= ATTEMPTS:
                    raise FrameError(self._failure_sentence(left[0], problem)) from error
            failures.append(problem)
            if len(failures) >= ATTEMPTS:
                raise FrameError(self._failure_sentence(left[0], problem))
            _LOG.warning(
                "%s frame at %g eV, attempt %d of %d: %s; it is taken again",
                stream,
                energy_ev,
                len(failures),
                ATTEMPTS,
                problem,
            )

    def _recover(self, pause_s: float = _SUSPENDER_WAIT_S) -> MsgGenerator[None]:
        """After a failure, give up a half-read event and let a scan that is to be held be held.

        The failure may have been that of a suspender's own plan, or have kept one from beginning.
        """
        for _ in range(ATTEMPTS):
            try:
                yield Msg("rewindable", None, False)
                yield from _drop_if_open()
                yield Msg("sleep", None, pause_s)
                yield Msg("rewindable", None, self._watch.rewindable)
                return
            except (RunEngineControlException, FailedPause):
                raise
            except Exception as error:
                # Of another device that fails later.
                _LOG.debug("after a failure: %s", error)

    def _await_return(self, shot: Shot, gone_at: float, problem: str, error: Exception) -> MsgGenerator[None]:
        """Before the next attempt, keep the beam off the sample and give the control system time to come back.

        Raises
        ------
        FrameError
            When it has had enough of it.
        """
        gone_s = time.monotonic() - gone_at
        if gone_s > _RETURN_S:
            raise FrameError(
                f"The control system did not come back within {_RETURN_S:g} s at {shot.energy_setpoint_ev:g} eV "
                f"({problem.rstrip('.')}); start it, then take the missing energies with resume_scan."
            ) from error
        if gone_s < POLL_S:
            _LOG.error(
                "%s frame at %g eV: %s; the scan waits up to %g s for it to come back",
                shot.stream,
                shot.energy_setpoint_ev,
                problem.rstrip("."),
                _RETURN_S,
            )
        try:
            yield from set_and_wait((self._instrument.shutter, "closed"))
        except (RunEngineControlException, FailedPause):
            raise
        except Exception as another:
            _LOG.debug("the shutter cannot be closed either: %s", another)
        yield from self._recover(POLL_S)

    def _failure_sentence(self, shot: Shot, problem: str) -> str:
        return (
            f"The {shot.stream} frame at {shot.energy_setpoint_ev:g} eV failed {ATTEMPTS} times in a row "
            f"({problem.rstrip('.')}); find the cause, then take the missing energies with resume_scan."
        )

    def _go_to(self, shot: Shot) -> MsgGenerator[None]:
        ins = self._instrument
        position = {"dark": "in", "flat": "out", "primary": "in"}[shot.stream]
        beam = "closed" if shot.stream == "dark" else "open"
        yield from self._before_stage(shot)
        yield from set_and_wait(
            (ins.energy, shot.energy_setpoint_ev),
            (ins.camera.exposure_s, shot.exposure_s),
            (ins.stage, position),
        )
        yield from self._after_stage(shot)
        # The beam is let through only when everything stands.
        yield from set_and_wait((ins.shutter, beam))

    def _before_stage(self, shot: Shot) -> MsgGenerator[None]:
        """Move what has to stand before the sample is moved in or out."""
        yield from ()

    def _after_stage(self, shot: Shot) -> MsgGenerator[None]:
        """Move what may move only when the sample stands."""
        yield from ()

    def _attempt(self, shot: Shot) -> MsgGenerator[Optional[str]]:
        """Take one frame; returns what is wrong with it, if anything.

        A frame without enough beam is kept in the data, its next attempt replaces it; one that the camera had
        given before is not a frame of this energy and is dropped.
        """
        ins = self._instrument
        yield from trigger(ins.detectors, self._label, shot)
        while True:
            pauses = self._watch.pauses
            yield Msg("create", name=shot.stream)
            frame = yield Msg("read", ins.camera)
            turned = () if ins.rotation is None else (ins.rotation,)
            for device in (self._label, ins.energy, *turned):
                yield Msg("read", device)
            i0 = None
            if ins.i0 is not None:
                i0 = first_value(ins.i0, (yield Msg("read", ins.i0)))
            if pauses == self._watch.pauses:
                break
            # The RunEngine has taken and read the frame again: what was read here before is not of that one.
            yield Msg("drop")
        if _is_same_frame(ins.camera.name, frame, self._last_reading):
            yield Msg("drop")
            return f"{ins.camera.name} gave the frame of before"
        yield Msg("save")
        self._last_reading = frame
        if i0 is None or shot.stream == "dark":
            return None
        return self._i0_problem(i0)

    def _i0_problem(self, i0: float) -> Optional[str]:
        """Say what is wrong with the I0 of a frame, if anything."""
        if self._i0_min is None:
            return None
        if not self._i0_min <= abs(i0) < inf:
            problem = f"I0 is {i0:g}, not at least {self._i0_min:g}"
            if not self._i0_sign and 0.0 < abs(i0) < inf:
                problem += (
                    f" (no frame of this run has reached i0_min: where {abs(i0):g} is what I0 reads with beam, give "
                    f"i0_min in that unit, such as {abs(i0) / 2:.3g})"
                )
            return problem
        sign = copysign(1.0, i0)
        if not self._i0_sign:
            self._i0_sign = sign
            if sign < 0.0:
                _LOG.warning("I0 is negative (%g): its magnitude is compared with i0_min", i0)
            if 0.0 < self._i0_min < _LEAST_I0_LIMIT * abs(i0):
                _LOG.warning(
                    "I0 is %g in the first frame with beam, and i0_min %g is below a hundredth of it: a beam that is "
                    "almost gone would not be noticed; give i0_min in the unit of I0, such as %.3g",
                    i0,
                    self._i0_min,
                    abs(i0) / 2,
                )
        if sign != self._i0_sign:
            return f"I0 is {i0:g}, of the other sign than in the frames before"
        return None


def _drop_if_open() -> MsgGenerator[None]:
    """Give up a half-read event; only the RunEngine knows whether there is one after a rewind."""
    try:
        yield from bps.drop()
    except IllegalMessageSequence:
        return


# The stubs of bluesky note down where in the code each of them was called, which costs more than all the rest of a
# plan; what is done for every frame is therefore written in messages.


def trigger(devices: list[Any], label: FrameLabel, shot: Shot) -> MsgGenerator[None]:
    """Say which frame comes next and expose it."""
    group = uuid.uuid4().hex
    starts = [Msg("set", label, shot, group=group)]
    starts += [Msg("trigger", device, group=group) for device in devices if isinstance(device, Triggerable)]
    yield from _start_and_wait(starts, group, shot.exposure_s + _TRIGGER_TIMEOUT_S)


def set_and_wait(*moves: tuple[Any, Any]) -> MsgGenerator[None]:
    """Move devices at the same time and wait for all."""
    group = uuid.uuid4().hex
    yield from _start_and_wait(
        [Msg("set", device, value, group=group) for device, value in moves], group, None
    )


def _start_and_wait(starts: Sequence[Msg], group: str, timeout_s: Optional[float]) -> MsgGenerator[None]:
    """Start devices and wait for all of them, also where one fails.

    The RunEngine waits no longer than to the first failure. A camera that was left exposing would refuse the next try,
    and the one after.
    """
    statuses: list[Any] = []
    try:
        for start in starts:
            statuses.append((yield start))
        wait = {} if timeout_s is None else {"timeout": timeout_s}
        yield Msg("wait", None, group=group, **wait)
    except (RunEngineControlException, FailedPause):
        raise
    except Exception:
        for _ in range(int((timeout_s or _TRIGGER_TIMEOUT_S) / _POLL_INTERVAL_S)):
            if all(getattr(status, "done", True) for status in statuses):
                break
            yield Msg("sleep", None, _POLL_INTERVAL_S)
        raise


def _is_same_frame(camera: str, reading: Any, last: Any) -> bool:
    """Say whether a camera that was triggered still shows the frame of before.

    A camera that numbers its frames says so itself (``<name>_frame_number``). Of another one no new frame arrived
    when no key of its reading has a later time than it had.
    """
    if not reading or not last or reading.keys() != last.keys():
        return False
    number = f"{camera}_frame_number"
    if number in reading:
        return bool(reading[number]["value"] == last[number]["value"])
    return all(reading[key]["timestamp"] <= last[key]["timestamp"] for key in reading)
