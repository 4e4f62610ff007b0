"""A thread that goes on whatever happens in it, and the pace of what is done on one."""

import threading
import time
from collections.abc import Callable

LOOK_S = 0.5
"""How often whoever waits for a thread looks whether it is alive."""
_RESTART_PAUSE_S = 0.1


class RestartedThread:
    """A thread whose work is begun again when an error of any class ends it; the error is handed on.

    Parameters
    ----------
    work : callable
        Returns when it is done for good.
    name : str
        Name of the thread.
    on_error : callable
        Gets what ended the work.
    """

    def __init__(
        self, work: Callable[[], object], name: str, on_error: Callable[[BaseException], object]
    ) -> None:
        self._work = work
        self._name = name
        self._on_error = on_error
        self._done = False
        self._lock = threading.Lock()
        self._thread = self._new()

    def ensure(self) -> None:
        """Start the thread again in case it is dead before its work is done."""
        with self._lock:
            if not self._done and not self._thread.is_alive():
                self._thread = self._new()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the work is done; False when that takes too long."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._done:
            self.ensure()
            self._thread.join(LOOK_S if deadline is None else time_left(deadline, LOOK_S))
            if deadline is not None and time.monotonic() >= deadline:
                break
        return self._done

    def _new(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        while not self._done:
            try:
                self._work()
                self._done = True
            except BaseException as error:
                self._on_error(error)
                time.sleep(_RESTART_PAUSE_S)


class Throttle:
    """Says when something expensive may be done again.

    Parameters
    ----------
    period_s : float
        Least time between two of them.
    share : float
        Largest share of the time they may take while there is other work to do.
    """

    def __init__(self, period_s: float, share: float = 0.1) -> None:
        self._period_s = period_s
        self._share = share
        self._done = -float("inf")
        self._cost_s = 0.0

    def due_in(self, *, busy: bool) -> float:
        """Return the seconds to wait still; 0 or less when it is due."""
        pause = max(self._period_s, self._cost_s / self._share) if busy else self._period_s
        return self._done + pause - time.monotonic()

    def did(self, cost_s: float) -> None:
        """Note that it has been done and how long that took."""
        self._done = time.monotonic()
        self._cost_s = cost_s


def time_left(deadline: float, most_s: float) -> float:
    """Return the seconds to a deadline, at most so many."""
    return min(max(deadline - time.monotonic(), 0.0), most_s)
