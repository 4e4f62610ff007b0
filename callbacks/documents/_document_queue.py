"""Documents in order between two threads, in bounded memory: what is too much waits on disk."""

import contextlib
import logging
import shutil
import tempfile
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._plain_documents import plain_document
from ._polling import Poller
from ._spool import Spool, document_nbytes

logger = logging.getLogger("nimco.callbacks")

MEMORY_BYTES = 512 * 2**20

_LOOK_S = 0.1
_RETRY_S = 5.0


@dataclass(eq=False)
class _Cell:
    name: str
    doc: Any
    nbytes: int
    offset: int | None = None
    taken: bool = False


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
        self._cells: deque[_Cell] = deque()
        self._in_memory: deque[_Cell] = deque()
        self._nbytes = 0
        self._on_disk = 0
        self._spool: Spool | None = None
        self._ended = threading.Event()
        self._mover = threading.Thread(target=self._move, name="document queue", daemon=True)
        self._mover.start()

    def __len__(self) -> int:
        return len(self._cells) + len(self._arrived)

    @property
    def memory_nbytes(self) -> int:
        """Memory that waiting documents take."""
        with self._lock:
            self._take_in()
            return self._nbytes

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
        if not self._poller.wait_for(lambda: self._arrived or self._cells, timeout_s):
            return None
        with self._lock:
            self._take_in()
            cell = self._cells.popleft()
            cell.taken = True
            if cell.offset is None:
                if self._in_memory and self._in_memory[0] is cell:
                    self._in_memory.popleft()
                self._nbytes -= cell.nbytes
                return cell.name, cell.doc
            spool, offset = self._spool, cell.offset
        assert spool is not None
        try:
            return spool.read(offset)
        finally:
            with self._lock:
                self._on_disk -= 1
                if not self._on_disk:
                    with contextlib.suppress(OSError):
                        spool.clear()

    def close(self) -> None:
        """End the thread and remove the file."""
        self._ended.set()
        self._mover.join()
        if self._spool is not None:
            self._spool.close(delete=True)
            shutil.rmtree(self._spool.path.parent, ignore_errors=True)
            self._spool = None

    def _take_in(self) -> None:
        """Put what has arrived behind what waits (with the lock)."""
        while self._arrived:
            name, doc = self._arrived.popleft()
            cell = _Cell(name, doc, document_nbytes(doc) if isinstance(doc, dict) else 0)
            self._cells.append(cell)
            if cell.nbytes:
                self._in_memory.append(cell)
                self._nbytes += cell.nbytes

    def _move(self) -> None:
        """Look now and then whether too much waits in memory."""
        said = False
        while not self._ended.wait(_LOOK_S):
            try:
                while not self._ended.is_set() and self.memory_nbytes > self._limit:
                    if self._spool is None:
                        self._spool = Spool(Path(tempfile.mkdtemp(prefix="nimco-queue-")) / "documents")
                    if not self._move_youngest(self._spool):
                        break
            except Exception as error:  # the thread must not end, whatever a document holds
                if not said:
                    said = True
                    logger.error("%s; the analysis is behind and documents wait in memory, make room", error)
                self._ended.wait(_RETRY_S)

    def _move_youngest(self, spool: Spool) -> bool:
        """Move one document to disk; False when enough has been moved."""
        with self._lock:
            if self._nbytes <= self._limit or not self._in_memory:
                return False
            cell = self._in_memory.pop()
            self._on_disk += 1
        try:
            offset = spool.append(cell.name, plain_document(cell.name, cell.doc))
        except Exception:
            with self._lock:
                self._on_disk -= 1
                if not cell.taken:
                    self._in_memory.append(cell)
            raise
        with self._lock:
            if cell.taken:
                self._on_disk -= 1
            else:
                cell.offset, cell.doc = offset, None
                self._nbytes -= cell.nbytes
        return True
