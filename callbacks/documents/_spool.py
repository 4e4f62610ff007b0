"""Documents on disk: one file per spool, appended to, read from anywhere, safe to be cut off or damaged at any byte."""

import contextlib
import os
import secrets
import stat
import tempfile
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgpack
import numpy as np

from callbacks.errors import DamagedSpoolError, SpoolError

from ._document_types import NamedDocument
from ._file_lock import NOBODY, private_folder
from ._spool_format import (
    HEADER,
    MAGIC,
    RECORD,
    RECORD_MAGIC,
    VERSION,
    checksum_of,
    decode_document,
    encode_document,
    is_sealed,
    next_record,
    opened,
    read_all,
    record_at,
    sealed,
    write_all,
)


@dataclass(frozen=True)
class SpoolContent:
    """What is found in a spool file.

    Attributes
    ----------
    records : list of (number, offset)
        Complete records with right checksums, in the order of the file.
    end : int
        Where the next record may be written.
    damage : str or None
        What is wrong with the file; None for one that is as it was written.
    """

    records: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0
    damage: str | None = None


class Spool:
    """An append-only file of documents with their arrays.

    A record is a head (everything but the arrays, in msgpack) and the bytes of the arrays as they are, so
    that writing a frame costs little more than copying it to the page cache. Checksums cover every byte; records are
    numbered. The file is open only while it is written or read. One thread appends; any thread reads.

    Parameters
    ----------
    path : Path, optional
        Created, or continued behind its last record. By default a temporary file without a name, which goes when the
        spool or the process does, and is open meanwhile.
    owner : bytes
        Whom a new file says that it belongs to.
    writable : bool
        Whether to make what is not there; otherwise the file is only looked at.

    Raises
    ------
    DamagedSpoolError
        The file is no spool, or one of another version.
    SpoolError
        It cannot be opened.
    """

    def __init__(self, path: Path | None = None, *, owner: bytes = NOBODY, writable: bool = True) -> None:
        self.path = Path(tempfile.gettempdir()) / "(no name)" if path is None else path
        self._unnamed: IO[bytes] | None = None
        self._lock = threading.Lock()
        self._nonce = secrets.randbits(64)
        self._number = 0
        try:
            if path is None:
                self._unnamed = tempfile.TemporaryFile(prefix="nimco-", buffering=0)  # noqa: SIM115
            elif writable:
                private_folder(path.parent)
            with self._opened(os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY) as file:
                self.content = self._examine(file)
                if writable and os.fstat(file).st_size < HEADER.size:
                    self._begin(file, owner)
        except OSError as error:
            what = "write the spool" if writable else "read the spool"
            raise SpoolError(
                f"cannot {what} {self.path} ({error.strerror}); choose another folder"
            ) from error
        self._end = self.content.end
        self._number = max((number for number, _ in self.content.records), default=-1) + 1

    @property
    def nbytes(self) -> int:
        """Size of the complete records."""
        return self._end

    def append(self, name: str, doc: Mapping[str, Any], *, number: int | None = None) -> int:
        """Write one document and return where it begins.

        Parameters
        ----------
        name : str
            Name of the document.
        doc : mapping
            Plain data and arrays.
        number : int, optional
            Number of the record; by default the next one.

        Raises
        ------
        SpoolError
            The disk is full or the document holds something that is not data. The spool is as before.
        """
        head, arrays = encode_document(name, doc)
        contents = [array.reshape(-1).view(np.uint8).data for array in arrays if array.nbytes]
        checksum = zlib.crc32(head)
        for content in contents:
            checksum = zlib.crc32(content, checksum)
        with self._lock:
            number = self._number if number is None else number
            about = RECORD.pack(
                RECORD_MAGIC, self._nonce, number, len(head), sum(map(len, contents)), checksum, 0
            )
            start = at = self._end
            try:
                with self._opened(os.O_RDWR) as file:
                    try:
                        parts: list[bytes | memoryview] = [sealed(about), head, *contents]
                        for part in parts:
                            at = write_all(file, part, at)
                    except OSError:
                        with contextlib.suppress(OSError):
                            os.ftruncate(file, start)
                        raise
            except OSError as error:
                raise SpoolError(f"cannot write to the spool {self.path} ({error.strerror})") from error
            self._end = at
            self._number = max(self._number, number + 1)
        return start

    def read(self, offset: int) -> NamedDocument:
        """Return the document that begins at an offset.

        Raises
        ------
        DamagedSpoolError
            It is not as it was written.
        SpoolError
            The file cannot be read now.
        """
        try:
            with self._opened(os.O_RDONLY) as file:
                found = record_at(file, offset, os.fstat(file).st_size)
                if found is None or found.nonce != self._nonce:
                    raise DamagedSpoolError(f"no document begins at byte {offset} of {self.path}")
                content = read_all(file, found.n_head + found.n_arrays, offset + RECORD.size)
        except OSError as error:
            raise SpoolError(f"cannot read the spool {self.path} ({error.strerror})") from error
        if zlib.crc32(content) != found.checksum:
            raise DamagedSpoolError(f"the document at byte {offset} of {self.path} is damaged")
        try:
            return decode_document(content, found.n_head)
        except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
            raise DamagedSpoolError(
                f"the document at byte {offset} of {self.path} cannot be read: {error}"
            ) from error

    def offsets(self) -> Iterator[int]:
        """Yield where the documents begin, in order."""
        with self._opened(os.O_RDONLY) as file:
            content = self._examine(file)
        yield from (offset for _, offset in content.records if offset < self._end)

    def claim(self, owner: bytes) -> None:
        """Write into the file whom it belongs to.

        Raises
        ------
        OSError
            It cannot be written.
        """
        with self._opened(os.O_RDWR) as file:
            self._begin(file, owner)

    def clear(self) -> None:
        """Forget everything that was written."""
        with self._lock, self._opened(os.O_RDWR) as file:
            os.ftruncate(file, HEADER.size)
            self._end = HEADER.size

    def close(self, *, delete: bool = False) -> None:
        """End; with ``delete``, remove the file."""
        if self._unnamed is not None:
            self._unnamed.close()
        elif delete:
            with contextlib.suppress(OSError):
                self.path.unlink()

    @contextlib.contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        if self._unnamed is not None:
            yield self._unnamed.fileno()
            return
        with opened(self.path, flags) as file:
            yield file

    def _begin(self, file: int, owner: bytes) -> None:
        write_all(file, sealed(HEADER.pack(MAGIC, VERSION, owner, self._nonce, 0)), 0)

    def _examine(self, file: int) -> SpoolContent:
        """Check every byte of the file."""
        size = os.fstat(file).st_size
        header = os.pread(file, HEADER.size, 0)
        damage = None
        nonce: int | None = None
        if is_sealed(header, HEADER):
            magic, version, _, nonce, _ = HEADER.unpack(header)
            if magic != MAGIC:
                raise DamagedSpoolError(f"{self.path} is no spool of documents")
            if version != VERSION:
                raise DamagedSpoolError(
                    f"{self.path} was written by another version of this software (format {version} instead of "
                    f"{VERSION}); deliver it with that one"
                )
        elif size < HEADER.size and MAGIC.startswith(header[: len(MAGIC)]):
            return SpoolContent(
                end=HEADER.size, damage="it is cut off before its first document" if size else None
            )
        else:
            damage = "its first bytes are damaged"
        records: list[tuple[int, int]] = []
        offset, n_damaged, n_left = HEADER.size, 0, 0
        while offset < size:
            found = record_at(file, offset, size)
            if (
                found is not None
                and nonce in (None, found.nonce)
                and offset + found.nbytes <= size
                and checksum_of(file, found.n_head + found.n_arrays, offset + RECORD.size) == found.checksum
            ):
                nonce = found.nonce
                records.append((found.number, offset))
                offset += found.nbytes
                continue
            # Not behind what this record says to hold: it may be cut off, and others written behind the cut.
            following = next_record(file, offset + 1, size, nonce)
            if following is None:
                n_left = size - offset
                break
            n_damaged += 1
            offset = following
        if damage is not None and not records:
            raise DamagedSpoolError(f"{self.path} is no spool of documents")
        if nonce is not None:
            self._nonce = nonce
        if n_damaged:
            damage = f"it is damaged in {n_damaged} place(s)"
        elif n_left and damage is None:
            damage = f"it ends in {n_left} bytes that are no whole document"
        return SpoolContent(records, max(size, HEADER.size), damage)


def owner_of(path: Path) -> bytes | None:
    """Return whom a file says that it belongs to; None where it does not say.

    Raises
    ------
    OSError
        It cannot be read.
    DamagedSpoolError
        It is not a file.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise DamagedSpoolError(f"{path} is not a file")
    with opened(path, os.O_RDONLY) as file:
        header = os.pread(file, HEADER.size, 0)
    return HEADER.unpack(header)[2] if is_sealed(header, HEADER) else None


def document_nbytes(doc: Any) -> int:
    """Return about how much memory a document takes: its arrays, and a little for the rest."""
    total = 1024
    data = doc.get("data") if isinstance(doc, Mapping) else None
    for value in data.values() if isinstance(data, Mapping) else ():
        if isinstance(value, np.ndarray):
            total += value.nbytes
        elif isinstance(value, list | tuple):
            total += sum(item.nbytes if isinstance(item, np.ndarray) else 32 for item in value)
        elif isinstance(value, str | bytes):
            total += len(value)
    return total
