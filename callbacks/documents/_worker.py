"""Threads that take work off the RunEngine's: documents in order, and the latest result only."""

import logging
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from callbacks.errors import CallbackError

from ._closing import Closing
from ._document_queue import MEMORY_BYTES, DocumentQueue

logger = logging.getLogger("nimco.callbacks")

Result = TypeVar("Result")


class DocumentWorker(Closing):
    """A subscriber of a RunEngine that only takes note, and does the work on a thread of its own.

    Calling it with a document costs microseconds and never raises. An error while a document is worked on,
    whatever its class, is kept in `errors`, logged once per kind, and costs nothing but that document.

    Parameters
    ----------
    name : str
        Name of the thread.
    memory_bytes : int
        How much of the documents that wait may be in memory; the rest waits on disk.
    patience_s : float, optional
        A worker that takes longer than that over one document is left behind by `close`, which is said.
    """

    def __init__(
        self, name: str, memory_bytes: int = MEMORY_BYTES, *, patience_s: float | None = None
    ) -> None:
        self.errors: list[BaseException] = []
        self._name = name
        self._close_patience_s = patience_s
        self._said: set[str] = set()
        self._queue = DocumentQueue(memory_bytes)
        self._closed = False
        self._worker = RestartedThread(self._run, name, self._note)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take note of one document."""
        self._queue.put(name, doc)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until every document received so far has been worked on.

        Raises
        ------
        CallbackError
            When that takes longer than ``timeout_s``.
        """
        if self._closed:
            return
        done = threading.Event()
        self._queue.put(_BARRIER, done)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not done.wait(_LOOK_S if deadline is None else _left(deadline, _LOOK_S)):
            self._worker.ensure()
            if deadline is not None and time.monotonic() >= deadline:
                raise CallbackError(
                    f"{self._name} is still {len(self._queue)} documents behind after {timeout_s:g} s; wait "
                    "longer"
                )

    def close(self) -> None:
        """Work on everything received, then stop. A closed worker ignores documents."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(_END, None)
        waiting, since = len(self._queue), time.monotonic()
        while not self._worker.join(_LOOK_S):
            if len(self._queue) != waiting:
                waiting, since = len(self._queue), time.monotonic()
            elif self._close_patience_s is not None and time.monotonic() - since >= self._close_patience_s:
                self._note(
                    CallbackError(
                        f"{self._name} has hung for {self._close_patience_s:g} s; it is left behind with what waits "
                        "for it"
                    )
                )
                return
        self._queue.close()

    @property
    def backlog(self) -> int:
        """Number of documents that wait."""
        return len(self._queue)

    @abstractmethod
    def _handle(self, name: str, doc: dict[str, Any]) -> None:
        """Work on one document (worker thread)."""

    def _idle(self) -> float | None:
        """Do what is due between documents; return in how many seconds to be called again (None: not at all)."""
        return None

    def _started(self) -> None:
        """Prepare on the worker thread."""

    def _run(self) -> None:
        self._guarded(self._started)
        while True:
            delay = self._guarded(self._idle)
            item = self._queue.get(delay)
            if item is None:
                continue
            name, doc = item
            if name is _END:
                return
            if name is _BARRIER:
                self._guarded(self._before_barrier)
                doc.set()
                continue
            self._guarded(self._handle, name, doc)

    def _before_barrier(self) -> None:
        """Finish what `wait` promises (worker thread)."""

    def _guarded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except BaseException as error:  # a SystemExit in a handler is no reason to end the analysis
            self._note(error)
            return None

    def _note(self, error: BaseException) -> None:
        """Keep an error and say it once."""
        self.errors.append(error)
        del self.errors[:-_KEPT_ERRORS]
        text = f"{type(error).__name__}: {error}"
        if text not in self._said:
            self._said.add(text)
            expected = isinstance(error, CallbackError)
            logger.error(
                "%s: %s", self._name, error if expected else text, exc_info=None if expected else error
            )


class RestartedThread:
    """A thread whose work is begun again when an error of any class ends it; the error is handed on.

    Parameters
    ----------
    work : callable
        Returns when it is done for good.
    name : str
        Name of the thread.
    note : callable
        Gets what ended the work.
    """

    def __init__(
        self, work: Callable[[], object], name: str, note: Callable[[BaseException], object]
    ) -> None:
        self._work = work
        self._name = name
        self._note = note
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
            self._thread.join(_LOOK_S if deadline is None else _left(deadline, _LOOK_S))
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
                self._note(error)
                time.sleep(_RESTART_PAUSE_S)


class LatestWins(Generic[Result]):
    """Calls a function on a thread of its own with the latest offer of each key; older offers are shed.

    A function that raises, whatever the class of the error, is logged once per kind of error and called
    again with the next offer.

    Parameters
    ----------
    function : callable
        Gets the offer.
    name : str
        Name of the thread.
    """

    def __init__(self, function: Callable[[Result], object], name: str) -> None:
        self.name = name
        self._function = function
        self._offers: dict[Hashable, Result] = {}
        self._changed = threading.Condition()
        self._busy = False
        self._ending = False
        self._said: set[str] = set()
        self.errors: list[BaseException] = []
        self._worker = RestartedThread(self._run, name, self._note)

    def offer(self, key: Hashable, result: Result) -> None:
        """Hand over a result; costs microseconds."""
        with self._changed:
            self._offers[key] = result
            self._changed.notify_all()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is on offer and the function has returned; False when that takes too long."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._changed:
                look_s = _LOOK_S if deadline is None else _left(deadline, _LOOK_S)
                if self._changed.wait_for(lambda: not self._offers and not self._busy, look_s):
                    return True
            self._worker.ensure()
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def end(self) -> None:
        """Hand over what is on offer, then stop; does not wait for it."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def close(self, timeout_s: float | None = None) -> bool:
        """Hand over what is on offer, then stop; False when the function does not return in time."""
        self.end()
        return self._worker.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._offers or self._ending)
                if not self._offers:
                    return
                key = next(iter(self._offers))
                result = self._offers.pop(key)
                self._busy = True
            try:
                self._function(result)
            except BaseException as error:  # whatever a subscriber raises is the subscriber's own affair
                self._note(error)
            finally:
                del result
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _note(self, error: BaseException) -> None:
        self.errors.append(error)
        del self.errors[:-_KEPT_ERRORS]
        text = f"{type(error).__name__}: {error}"
        if text not in self._said:
            self._said.add(text)
            logger.error("%s failed; the scan and the other subscribers go on", self.name, exc_info=error)


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


_END = "<end>"
_BARRIER = "<barrier>"
_KEPT_ERRORS = 100
_LOOK_S = 0.5
_RESTART_PAUSE_S = 0.1


def _left(deadline: float, most_s: float) -> float:
    return min(max(deadline - time.monotonic(), 0.0), most_s)
