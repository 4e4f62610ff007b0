"""All documents of one run in order: on disk first, and in memory what is still to be delivered."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from callbacks._errors import SpoolError
from callbacks._spool import Document, Spool, document_nbytes

SUFFIX = ".run"


class RunLog:
    """Keeps the documents of a run until all of them have been delivered.

    Every document is written to a file before it may be delivered, so neither a dead server nor a killed
    process loses it. What cannot be written (a full disk) stays in memory.

    Parameters
    ----------
    path : Path
        The file; it is locked against other processes.
    """

    def __init__(self, path: Path) -> None:
        self._spool = Spool(path)
        self._lock = path.with_suffix(".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            self._spool.close()
            raise SpoolError(f"{path} belongs to another process") from error
        # Where each document is: its offset in the file, and the document itself while it is in memory.
        self._places: list[tuple[int | None, Document | None]] = [(at, None) for at in self._spool.offsets()]
        self.memory_nbytes = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def path(self) -> Path:
        """The file."""
        return self._spool.path

    def append(self, name: str, doc: dict[str, Any], *, keep: bool) -> SpoolError | None:
        """Add a document; ``keep`` it in memory too. Returns the error when it could only be kept in memory."""
        try:
            offset: int | None = self._spool.append(name, doc)
            problem = None
        except SpoolError as error:
            offset, problem = None, error
        kept = (name, doc) if keep or offset is None else None
        if kept is not None:
            self.memory_nbytes += document_nbytes(doc)
        self._places.append((offset, kept))
        return problem

    def read(self, index: int) -> Document:
        """Return a document by its number."""
        offset, kept = self._places[index]
        if kept is not None:
            return kept
        assert offset is not None
        return self._spool.read(offset)

    def __iter__(self) -> Iterator[Document]:
        return (self.read(index) for index in range(len(self)))

    def let_go(self, index: int) -> None:
        """Forget the copy in memory of a document that is on disk."""
        offset, kept = self._places[index]
        if offset is not None and kept is not None:
            self._places[index] = (offset, None)
            self.memory_nbytes -= document_nbytes(kept[1])

    def close(self, *, delete: bool) -> None:
        """Close the file; with ``delete``, remove it, because everything has been delivered."""
        self._spool.close(delete=delete)
        if delete:
            Path(self._lock.name).unlink(missing_ok=True)
        self._lock.close()


def logs_left_behind(folder: Path) -> list[RunLog]:
    """Open the logs in a folder that no living process holds."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}"), key=os.path.getmtime):
        try:
            found.append(RunLog(path))
        except SpoolError:
            continue  # its process is alive and delivers it itself
    return found
