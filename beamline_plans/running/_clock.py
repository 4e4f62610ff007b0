"""Time as a device, so that a plan can wait for a moment and a simulation of the plan can say when it is."""

import time
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator

__all__ = ["Clock", "now_s", "wait_until"]

_LONGEST_SLEEP_S = 1.0


class Clock:
    """Readable whose value is a monotonic time in seconds."""

    name = "clock"
    parent = None

    def read(self) -> dict[str, Any]:
        """Return the time."""
        return {"clock": {"value": time.monotonic(), "timestamp": time.time()}}

    def describe(self) -> dict[str, Any]:
        """Return the data key of `read`."""
        return {"clock": {"source": "plan:clock", "dtype": "number", "shape": [], "units": "s"}}


def now_s(clock: Clock) -> MsgGenerator[float]:
    """Return the time of `clock` in seconds."""
    reading = yield from bps.read(clock)
    return 0.0 if not reading else float(reading["clock"]["value"])


def wait_until(clock: Clock, moment_s: float) -> MsgGenerator[None]:
    """Sleep until `moment_s`, in short pieces, each behind a checkpoint: a rewind repeats one piece only."""
    left = moment_s - (yield from now_s(clock))
    while left > 0:
        piece = min(left, _LONGEST_SLEEP_S)
        yield from bps.checkpoint()
        yield from bps.sleep(piece)
        left -= piece
