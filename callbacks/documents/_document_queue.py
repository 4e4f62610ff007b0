"""Documents in order between two threads, in bounded memory: what is too much waits on disk."""

import logging
import threading
from collections import deque
from typing import Any

from ._error_log import FirstTime
from ._plain_documents import plain_document
from ._polling import Poller
from ._record_store import Record, RecordStore

logger = logging.getLogger("nimco.callbacks")

MEMORY_BYTES = 512 * 2**20

_LOOK_S = 0.1
_RETRY_S = 5.0


class DocumentQueue:
    """First in, first out; putting costs microseconds, never waits for the other side and never raises.

    When more waits than the memory allows, the youngest documents are moved to a temporary file by a thread
    of the queue and come back in their turn. Where the disk is full they stay in memory, which is said.

    Parameters
    ----------
    memory_bytes : int
        How much may wait in memory.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._limit = memory_bytes
        # The putting side takes no lock, wakes nobody and does next to nothing: whoever waits for a lock, or happens
        # to be interrupted, gets the interpreter back only milliseconds later.
        self._arrived: deque[tuple[str, Any]] = deque()
        self._poller = Poller()
        # Everything below is changed under the lock only.
        self._lock = threading.Lock()
        self._waiting: deque[Record | tuple[str, Any]] = deque()  # what is no document has no record
        self._in_memory: deque[Record] = deque()
        self._store = RecordStore()
        self._ended = threading.Event()
        self._mover = threading.Thread(target=self._move, name="document queue", daemon=True)
        self._mover.start()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._arrived)

    @property
    def memory_nbytes(self) -> int:
        """Memory that waiting documents take."""
        with self._lock:
            self._take_in()
            return self._store.memory_nbytes

    def put(self, name: str, doc: Any) -> None:
        """Add a document."""
        self._arrived.append((name, doc))

    def get(self, timeout_s: float | None = None) -> tuple[str, Any] | None:
        """Return the oldest document; None where none comes in time.

        Raises
        ------
        SpoolError
            The document was on disk and cannot be read from there; the next one can be had.
        """
        if not self._poller.wait_for(lambda: self._arrived or self._waiting, timeout_s):
            return None
        with self._lock:
            self._take_in()
            waiting = self._waiting.popleft()
            if not isinstance(waiting, Record):
                return waiting
            if self._in_memory and self._in_memory[0] is waiting:
                self._in_memory.popleft()
        try:
            return self._store.read(waiting)
        finally:
            self._store.forget(waiting)

    def close(self) -> None:
        """End the thread and remove the file."""
        self._ended.set()
        self._mover.join()
        self._store.close()

    def _take_in(self) -> None:
        """Put what has arrived behind what waits (with the lock)."""
        while self._arrived:
            name, doc = self._arrived.popleft()
            if not isinstance(doc, dict):
                self._waiting.append((name, doc))
                continue
            record = self._store.add(name, doc)
            self._waiting.append(record)
            self._in_memory.append(record)

    def _move(self) -> None:
        """Look now and then whether too much waits in memory."""
        is_new = FirstTime()
        while not self._ended.wait(_LOOK_S):
            try:
                while not self._ended.is_set() and self.memory_nbytes > self._limit:
                    if not self._move_youngest():
                        break
            except Exception as error:  # the thread must not end, whatever a document holds
                if is_new("error"):
                    logger.error("%s; the analysis is behind and documents wait in memory, make room", error)
                self._ended.wait(_RETRY_S)

    def _move_youngest(self) -> bool:
        """Move one document to disk; False when enough has been moved."""
        with self._lock:
            if self._store.memory_nbytes <= self._limit or not self._in_memory:
                return False
            record = self._in_memory.pop()
        try:
            self._store.write(record, plain_document)
        except Exception:
            with self._lock:
                if record.is_in_memory:
                    self._in_memory.append(record)
            raise
        self._store.release(record)
        return True
