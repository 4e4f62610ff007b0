"""Waiting without being woken: whoever wakes a thread may lose the processor, or the interpreter, to it."""

import time
from collections.abc import Callable

_POLL_S = 0.004
_IDLE_POLL_S = 0.05
_BUSY_S = 30.0


class Poller:
    """Looks again and again whether there is something to do, so that nobody has to say so.

    It looks every few milliseconds while things come, and less often after half a minute without.
    """

    def __init__(self) -> None:
        self._last_came = time.monotonic()

    def wait_for(self, ready: Callable[[], object], timeout_s: float | None = None) -> bool:
        """Wait until `ready` returns something true; False where it does not in time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not ready():
            now = time.monotonic()
            pause = _POLL_S if now - self._last_came < _BUSY_S else _IDLE_POLL_S
            if deadline is not None:
                if now >= deadline:
                    return False
                pause = min(pause, deadline - now)
            time.sleep(pause)
        self._last_came = time.monotonic()
        return True
