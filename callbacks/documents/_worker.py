"""A thread that takes work off the RunEngine's: documents in order."""

import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from callbacks.errors import CallbackError

from ._closing import Closing
from ._document_queue import MEMORY_BYTES, DocumentQueue
from ._document_types import AnyDocument
from ._error_log import ErrorLog
from ._restarted_thread import LOOK_S, RestartedThread, time_left


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
    close_timeout_s : float, optional
        A worker that takes longer than that over one document is left behind by `close`, which is said.
    """

    def __init__(
        self, name: str, memory_bytes: int = MEMORY_BYTES, *, close_timeout_s: float | None = None
    ) -> None:
        self._name = name
        self._log = ErrorLog(name)
        self.errors = self._log.errors
        self._close_timeout_s = close_timeout_s
        self._queue = DocumentQueue(memory_bytes)
        self._closed = False
        self._worker = RestartedThread(self._run, name, self._record_error)

    def __call__(self, name: str, doc: AnyDocument) -> None:
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
        while not done.wait(LOOK_S if deadline is None else time_left(deadline, LOOK_S)):
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
        while not self._worker.join(LOOK_S):
            if len(self._queue) != waiting:
                waiting, since = len(self._queue), time.monotonic()
            elif self._close_timeout_s is not None and time.monotonic() - since >= self._close_timeout_s:
                self._record_error(
                    CallbackError(
                        f"{self._name} has hung for {self._close_timeout_s:g} s; it is left behind with what waits "
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
    def _handle(self, name: str, doc: AnyDocument) -> None:
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
            self._record_error(error)
            return None

    def _record_error(self, error: BaseException) -> None:
        """Keep an error and say it once."""
        if isinstance(error, CallbackError):
            self._log.expected(error, named=True)
        else:
            self._log.unexpected(error)


_END = "<end>"
_BARRIER = "<barrier>"
