"""The runs that are recorded and delivered at the same time, and how far both are."""

import threading
import time
from collections import deque

from ._run_delivery import RunDelivery

_RATE_OVER_S = 10.0


class DeliveryQueue:
    """What the recording thread, the delivering thread and their owner share; everything else is under ``changed``.

    Attributes
    ----------
    changed : threading.Condition
        Notified when a document was recorded or delivered.
    wake : threading.Event
        Set when there may be something to deliver.
    runs : dict of str to RunDelivery
        Runs on their way.
    n_received, n_recorded : int
        Documents received, and those of them that are recorded.
    n_waiting : int
        Callers that wait for everything to be delivered.
    is_adopted : bool
        Whether what earlier processes left behind is among the runs.
    progress_s : float
        When something was stored last, of the monotonic clock.
    answers : bool
        Whether Tiled answers.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.wake = threading.Event()
        self.runs: dict[str, RunDelivery] = {}
        self.n_received = self.n_recorded = 0
        self.n_waiting = 0
        self.is_adopted = False
        self.progress_s = time.monotonic()
        self.answers = True
        self._stored: deque[tuple[float, int]] = deque()

    @property
    def n_pending(self) -> int:
        """Documents that are not in Tiled yet."""
        with self.changed:
            pending = sum(run.n_pending for run in self.runs.values())
            return self.n_received - self.n_recorded + pending

    @property
    def stored_per_s(self) -> float:
        """How many documents were stored per second, over the last ten seconds."""
        now = time.monotonic()
        with self.changed:
            return sum(count for at, count in self._stored if at > now - _RATE_OVER_S) / _RATE_OVER_S

    def is_done(self) -> bool:
        """Return whether everything received is in Tiled or refused by it."""
        return (
            self.is_adopted
            and self.n_recorded == self.n_received
            and not any(run.n_pending and not run.given_up for run in self.runs.values())
        )

    def count_recorded(self) -> None:
        """Count a document that is recorded, or that cannot be."""
        with self.changed:
            self.n_recorded += 1
            self.changed.notify_all()
        self.wake.set()

    def mark_stored(self, run: RunDelivery, *, is_finished: bool = False) -> None:
        """Count what a run handed over as stored; a finished run leaves the queue."""
        with self.changed:
            now = time.monotonic()
            self.progress_s = now
            self._stored.append((now, run.mark_stored()))
            while self._stored[0][0] < now - _RATE_OVER_S:
                self._stored.popleft()
            if is_finished:
                self.runs.pop(run.uid, None)
            self.changed.notify_all()
