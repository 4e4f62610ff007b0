"""Documents in order between two threads, in bounded memory: what is too much waits on disk."""

import logging
import shutil
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callbacks._errors import SpoolError
from callbacks._spool import Spool, document_nbytes

logger = logging.getLogger("nimco.callbacks")

MEMORY_BYTES = 512 * 2**20

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

    When more waits than the memory allows, the youngest documents are moved to a temporary file by a thread of the
    queue and come back in their turn. Where the disk is full they stay in memory, which is said.

    Parameters
    ----------
    memory_bytes : int
        How much may wait in memory.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._limit = memory_bytes
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._too_much = threading.Event()
        self._cells: deque[_Cell] = deque()
        self._in_memory: deque[_Cell] = deque()
        self._nbytes = 0
        self._on_disk = 0
        self._ended = False
        self._spool: Spool | None = None
        self._mover: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._cells)

    @property
    def memory_nbytes(self) -> int:
        """Memory that waiting documents take."""
        return self._nbytes

    def put(self, name: str, doc: Any, *, document: bool = True) -> None:
        """Add a document, or with ``document=False`` a message that is not one."""
        cell = _Cell(name, doc, document_nbytes(doc) if document else 0)
        with self._lock:
            self._cells.append(cell)
            if document:
                self._in_memory.append(cell)
                self._nbytes += cell.nbytes
            self._arrived.notify()
            if self._nbytes > self._limit and not self._too_much.is_set():
                self._begin_moving()

    def get(self, timeout_s: float | None = None) -> tuple[str, Any] | None:
        """Return the oldest document; None where none comes in time."""
        with self._lock:
            if not self._arrived.wait_for(lambda: self._cells, timeout_s):
                return None
            cell = self._cells.popleft()
            cell.taken = True
            if cell.offset is None:
                if self._in_memory and self._in_memory[0] is cell:
                    self._in_memory.popleft()
                self._nbytes -= cell.nbytes
                return cell.name, cell.doc
            spool, offset = self._spool, cell.offset
        assert spool is not None
        document = spool.read(offset)
        with self._lock:
            self._on_disk -= 1
            if not self._on_disk:
                spool.clear()
        return document

    def close(self) -> None:
        """End the thread and remove the file."""
        self._ended = True
        self._too_much.set()
        if self._mover is not None:
            self._mover.join()
        if self._spool is not None:
            self._spool.close(delete=True)
            shutil.rmtree(self._spool.path.parent, ignore_errors=True)
            self._spool = None

    def _begin_moving(self) -> None:
        self._too_much.set()
        if self._mover is None:
            self._mover = threading.Thread(target=self._move, name="document queue", daemon=True)
            self._mover.start()

    def _move(self) -> None:
        said = False
        while True:
            self._too_much.wait()
            if self._ended:
                return
            try:
                if self._spool is None:
                    self._spool = Spool(Path(tempfile.mkdtemp(prefix="nimco-queue-")) / "documents")
                while not self._ended and self._move_youngest(self._spool):
                    pass
            except (OSError, SpoolError) as error:
                if not said:
                    said = True
                    logger.error("%s; the analysis is behind and documents wait in memory", error)
                time.sleep(_RETRY_S)
            with self._lock:
                if self._nbytes <= self._limit and not self._ended:
                    self._too_much.clear()

    def _move_youngest(self, spool: Spool) -> bool:
        """Move one document to disk; False when enough has been moved."""
        with self._lock:
            if self._nbytes <= self._limit or not self._in_memory:
                return False
            cell = self._in_memory.pop()
            self._on_disk += 1
        try:
            offset = spool.append(cell.name, cell.doc)
        except SpoolError:
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
