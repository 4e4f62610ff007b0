"""Records in memory, in one file, or both: what is too much for the memory waits on disk."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from callbacks.errors import SpoolError

from ._document_types import AnyDocument, NamedDocument
from ._spool import Spool, document_nbytes


class Record:
    """A record of a `RecordStore`: its copy in memory, its place in the file, or both.

    Attributes
    ----------
    number : int
        Its number in the file.
    nbytes : int
        About how much memory the copy takes.
    """

    __slots__ = ("_document", "_offset", "_released", "nbytes", "number")

    def __init__(self, document: NamedDocument | None, offset: int | None, number: int, nbytes: int) -> None:
        self.number = number
        self.nbytes = nbytes
        self._document = document
        self._offset = offset
        self._released = False

    @property
    def is_on_disk(self) -> bool:
        """Whether the file holds it."""
        return self._offset is not None

    @property
    def is_in_memory(self) -> bool:
        """Whether there is a copy in memory."""
        return self._document is not None


class RecordStore:
    """Keeps records until they are forgotten, and knows how much of the memory they take.

    Who uses it says which records go to disk, and when. Whatever is read from there has been checked: every byte has
    its checksum. Any thread may call any method.

    Parameters
    ----------
    open_spool : callable, optional
        Makes the file when it is first needed; may raise a `SpoolError`, and is then called again for the next record.
        By default a file without a name, which goes with the store or the process, and whose space is used again when
        none of its records is needed any more.
    """

    def __init__(self, open_spool: Callable[[], Spool] | None = None) -> None:
        self._is_temporary = open_spool is None
        self._open_spool = Spool if open_spool is None else open_spool
        self._spool: Spool | None = None
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._nbytes = 0
        self._n_on_disk = 0
        self._next_number = 0

    @property
    def memory_nbytes(self) -> int:
        """Memory that the records take."""
        return self._nbytes

    @property
    def has_file(self) -> bool:
        """Whether there is a file."""
        return self._spool is not None

    def take_over(self, spool: Spool) -> list[Record]:
        """Go on with a file that is there; return its records in the order of their numbers."""
        self._spool = spool
        found = dict(reversed(spool.content.records))
        self._next_number = max(found, default=-1) + 1
        self._n_on_disk = len(found)
        return [Record(None, found[number], number, 0) for number in sorted(found)]

    def add(self, name: str, doc: AnyDocument, *, nbytes: int | None = None) -> Record:
        """Hold a record in memory."""
        with self._lock:
            nbytes = document_nbytes(doc) if nbytes is None else nbytes
            record = Record((name, doc), None, self._next_number, nbytes)
            self._next_number += 1
            self._nbytes += nbytes
        return record

    def write(self, record: Record, convert: Callable[[str, Any], Mapping[str, Any]] | None = None) -> None:
        """Write a record to the file, and keep its copy in memory.

        Parameters
        ----------
        record : Record
            One that is in memory; nothing happens to one that is on disk or was forgotten.
        convert : callable, optional
            Makes plain data of a document by its name and content, where it does not hold such.

        Raises
        ------
        SpoolError
            It cannot be written, and is in memory only.
        """
        with self._lock:
            document = record._document
            if document is None or record.is_on_disk:
                return
            self._n_on_disk += 1
        name, doc = document
        try:
            plain = doc if convert is None else convert(name, doc)
            offset = self._file().append(name, plain, number=record.number)
        except BaseException:
            with self._lock:
                self._n_on_disk -= 1
            raise
        with self._lock:
            record._offset = offset
            if not record.is_in_memory:  # forgotten meanwhile
                self._leave_disk()

    def release(self, record: Record) -> None:
        """Let go of the copy in memory of a record that is on disk."""
        with self._lock:
            if record.is_on_disk:
                self._leave_memory(record)

    def read(self, record: Record) -> NamedDocument:
        """Return a record.

        Raises
        ------
        DamagedSpoolError
            It is not as it was written.
        SpoolError
            It cannot be read now.
        """
        document, offset = record._document, record._offset
        if document is not None:
            return document
        if offset is None or self._spool is None:
            raise SpoolError("a record is asked for that was let go")
        return self._spool.read(offset)

    def forget(self, record: Record) -> None:
        """Let go of a record."""
        with self._lock:
            if record._released:
                return
            record._released = True
            self._leave_memory(record)
            if record.is_on_disk:
                self._leave_disk()

    def close(self, *, delete: bool = True) -> None:
        """End; with ``delete``, remove the file."""
        if self._spool is not None:
            self._spool.close(delete=delete)
            self._spool = None

    def _leave_memory(self, record: Record) -> None:
        if record._document is not None:
            record._document = None
            self._nbytes -= record.nbytes

    def _leave_disk(self) -> None:
        self._n_on_disk -= 1
        if not self._n_on_disk and self._is_temporary and self._spool is not None:
            with contextlib.suppress(OSError):
                self._spool.clear()

    def _file(self) -> Spool:
        with self._opening:
            if self._spool is None:
                self._spool = self._open_spool()
            return self._spool
