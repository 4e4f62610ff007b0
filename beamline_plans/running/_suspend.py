"""Holding a scan while there is no beam."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, Optional

import bluesky.plan_stubs as bps
from bluesky import Msg
from bluesky.suspenders import SuspendFloor
from bluesky.utils import MsgGenerator, RunEngineControlException

from beamline_plans.errors import PlanError

from ._pauses import PauseWatch, repeat_after_pauses

__all__ = ["BeamSuspender", "beam_suspenders"]

_POLL_INTERVAL_S = 0.005
_PAUSED_INTERVAL_S = 1e-3
_LONGEST_WAIT_S = 5.0
# What is longer was given in milliseconds.
_LONGEST_SETTLE_S = 3600.0
_LOG = logging.getLogger("beamline_plans")


class BeamSuspender(SuspendFloor):
    """Holds a scan while a signal is low, or any other signal of its group.

    The one of bluesky lets the scan go on without beam in some cases: when its own plan fails, when the event loop is
    busy for a tenth of a second, when a person pauses and resumes while it holds, when the signal goes in a pause, and
    when a second signal goes while a first one holds. This one asks until the scan is held, and holds it until all
    signals are back.

    Parameters
    ----------
    signal : ophyd.Signal
        What is watched.
    lowest, resume : float
        Below the one the scan is held, above the other it goes on.
    settle_s : float
        How long all signals must have been back.
    shutter : Shutter, optional
        Closed while the scan is held.
    """

    def __init__(
        self, signal: Any, lowest: float, resume: float, *, settle_s: float, shutter: Optional[Any]
    ) -> None:
        super().__init__(
            signal,
            lowest,
            resume_thresh=resume,
            sleep=settle_s,
            tripped_message=f"{signal.name} fell below {lowest:g}",
        )
        self.group: Sequence[BeamSuspender] = (self,)
        self._shutter = shutter
        self._asking = False
        self._holding = False
        self._back_at = time.monotonic() - settle_s

    def __call__(self, value: Any, **_: Any) -> None:
        """Take a new value of the signal."""
        with self._lock:
            RE = self.RE
            if RE is None:
                return
            if self._should_suspend(value):
                self._tripped = True
                if not self._asking and not RE.state.is_idle:
                    self._asking = True
                    RE.loop.call_soon_threadsafe(self._ask, 0.05)
            elif self._tripped and self._should_resume(value):
                self._tripped = False
                self._back_at = time.monotonic()

    def remove(self) -> None:
        """No longer watch the signal; a scan that is held for it goes on."""
        self._sig.clear_sub(self)
        with self._lock:
            self.RE = None
            self._tripped = False
            self._back_at = time.monotonic() - self._sleep

    def get_futures(self) -> tuple[list[Any], str]:
        """Return what to wait for before a plan may begin, and why."""
        return ([self._beam], self._get_justification()) if self.tripped else ([], "")

    # -- on the event loop of the RunEngine ------------------------------------------------------------

    def _ask(self, wait_s: float = _POLL_INTERVAL_S) -> None:
        """Have the scan held, and look again: a failure at the same moment may undo it, a pause may put it off."""
        RE = self.RE
        if RE is None or not self._tripped or RE.state.is_idle:
            self._asking = False
            return
        again_s = _POLL_INTERVAL_S
        if RE.state.is_running and not any(one._holding for one in self.group):
            RE.request_suspend(
                self._beam,
                pre_plan=self._hold,
                post_plan=self._hold,
                justification=self._get_justification(),
            )
            # Stopping the devices may take its time; another request would break that off.
            again_s = wait_s
            wait_s = min(2.0 * wait_s, _LONGEST_WAIT_S)
        # After a pause the scan has to be held before it takes anything.
        RE.loop.call_later(again_s if RE.state.is_running else _PAUSED_INTERVAL_S, self._ask, wait_s)

    def _hold(self) -> MsgGenerator[None]:
        """Close the shutter and wait for the beam, whatever else happens."""
        if self._has_beam():
            return
        watch = PauseWatch()
        self._holding = True
        try:
            yield from watch.register()
            while not self._has_beam():
                try:
                    yield from repeat_after_pauses(watch, self._close)
                    yield Msg("wait_for", None, [self._beam])
                except RunEngineControlException:
                    raise
                except Exception as error:
                    _LOG.error("The scan is held for lack of beam, and meanwhile: %s", error)
        finally:
            self._holding = False

    def _close(self) -> MsgGenerator[None]:
        if self._shutter is not None:
            yield from bps.mv(self._shutter, "closed")

    async def _beam(self) -> None:
        while not self._has_beam():
            await asyncio.sleep(4 * _POLL_INTERVAL_S)

    def _has_beam(self) -> bool:
        now = time.monotonic()
        return all(not one._tripped and now - one._back_at >= one._sleep for one in self.group)


def beam_suspenders(
    signals: Sequence[tuple[Any, float, float]], *, settle_s: float = 10.0, shutter: Optional[Any] = None
) -> list[SuspendFloor]:
    """Make suspenders that hold a scan while the beam is gone.

    While a scan is held the shutter is closed, if one is given. When every signal is back, and
    `settle_s` later, the scan goes on with the energy it was at: it is taken again, marked as another
    attempt. A pause while the scan is held does not let it go on without beam.

    Parameters
    ----------
    signals : sequence of (signal, lowest, resume)
        What to watch, such as the ring current and I0: a subscribable signal, the value below which the scan
        is held, and the value above which it goes on.
    settle_s : float
        How long to wait after all signals are back, in seconds.
    shutter : Shutter, optional
        Closed while the scan is held.

    Returns
    -------
    list of SuspendFloor
        For ``RE.install_suspender(...)`` or ``bluesky.preprocessors.suspend_wrapper``.

    Raises
    ------
    PlanError
        If a resume value is not above the lowest one or the settling time cannot be meant in seconds.
    """
    if not 0 <= settle_s <= _LONGEST_SETTLE_S:
        raise PlanError(f"settle_s must be from 0 to {_LONGEST_SETTLE_S:g} seconds, not {settle_s}.")
    suspenders = []
    for signal, lowest, resume in signals:
        if not resume > lowest:
            raise PlanError(
                f"{signal.name} must come back above {lowest:g}, not {resume:g}, before the scan goes on."
            )
        suspenders.append(BeamSuspender(signal, lowest, resume, settle_s=settle_s, shutter=shutter))
    for suspender in suspenders:
        suspender.group = suspenders
    return list(suspenders)
