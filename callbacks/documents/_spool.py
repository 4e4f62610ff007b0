"""Documents on disk: one file per spool, appended to, read from anywhere, safe to be cut off or damaged at any byte."""

import contextlib
import os
import secrets
import stat
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from callbacks.errors import DamagedSpoolError, SpoolError

from ._file_lock import NOBODY, TOKEN_BYTES, open_private, private_folder

Document = tuple[str, dict[str, Any]]

_VERSION = 2
_MAGIC = b"NMCSPOOL"
# Magic, version, owner, number of the file, checksum of these.
_HEADER = struct.Struct(f"<8sI{TOKEN_BYTES}sQI")
_RECORD_MAGIC = b"\xf5NMR"
# Magic, number of the file, number of the record, bytes of its head, bytes of its arrays, checksum of these two,
# checksum of all this.
_RECORD = struct.Struct("<4sQIIQII")
_CRC = struct.Struct("<I")
_ARRAY = 1
_PIECE_BYTES = 2**20


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
        What is wrong with the file; None for one that is as it was written, or whose last record is cut off.
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
    path : Path
        Created, or continued behind its last record.
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

    def __init__(self, path: Path, *, owner: bytes = NOBODY, writable: bool = True) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._nonce = secrets.randbits(64)
        self._number = 0
        try:
            if writable:
                private_folder(path.parent)
            with _opened(path, os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY) as file:
                self.content = self._examine(file)
                if writable and os.fstat(file).st_size < _HEADER.size:
                    self._begin(file, owner)
        except OSError as error:
            what = "write the spool" if writable else "read the spool"
            raise SpoolError(f"cannot {what} {path} ({error.strerror}); choose another folder") from error
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
        head, arrays = _encode_document(name, doc)
        contents = [array.reshape(-1).view(np.uint8).data for array in arrays if array.nbytes]
        checksum = zlib.crc32(head)
        for content in contents:
            checksum = zlib.crc32(content, checksum)
        with self._lock:
            number = self._number if number is None else number
            about = _RECORD.pack(
                _RECORD_MAGIC, self._nonce, number, len(head), sum(map(len, contents)), checksum, 0
            )
            start = at = self._end
            try:
                with _opened(self.path, os.O_RDWR) as file:
                    try:
                        parts: list[bytes | memoryview] = [_sealed(about), head, *contents]
                        for part in parts:
                            at = _write_all(file, part, at)
                    except OSError:
                        with contextlib.suppress(OSError):
                            os.ftruncate(file, start)
                        raise
            except OSError as error:
                raise SpoolError(f"cannot write to the spool {self.path} ({error.strerror})") from error
            self._end = at
            self._number = max(self._number, number + 1)
        return start

    def read(self, offset: int) -> Document:
        """Return the document that begins at an offset.

        Raises
        ------
        DamagedSpoolError
            It is not as it was written.
        SpoolError
            The file cannot be read now.
        """
        try:
            with _opened(self.path, os.O_RDONLY) as file:
                found = _record_at(file, offset, os.fstat(file).st_size)
                if found is None or found.nonce != self._nonce:
                    raise DamagedSpoolError(f"no document begins at byte {offset} of {self.path}")
                content = _read_all(file, found.n_head + found.n_arrays, offset + _RECORD.size)
        except OSError as error:
            raise SpoolError(f"cannot read the spool {self.path} ({error.strerror})") from error
        if zlib.crc32(content) != found.checksum:
            raise DamagedSpoolError(f"the document at byte {offset} of {self.path} is damaged")
        try:
            return _decode(content, found.n_head)
        except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
            raise DamagedSpoolError(
                f"the document at byte {offset} of {self.path} cannot be read: {error}"
            ) from error

    def offsets(self) -> Iterator[int]:
        """Yield where the documents begin, in order."""
        with _opened(self.path, os.O_RDONLY) as file:
            content = self._examine(file)
        yield from (offset for _, offset in content.records if offset < self._end)

    def claim(self, owner: bytes) -> None:
        """Write into the file whom it belongs to.

        Raises
        ------
        OSError
            It cannot be written.
        """
        with _opened(self.path, os.O_RDWR) as file:
            self._begin(file, owner)

    def clear(self) -> None:
        """Forget everything that was written."""
        with self._lock, _opened(self.path, os.O_RDWR) as file:
            os.ftruncate(file, _HEADER.size)
            self._end = _HEADER.size

    def close(self, *, delete: bool = False) -> None:
        """End; with ``delete``, remove the file."""
        if delete:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _begin(self, file: int, owner: bytes) -> None:
        _write_all(file, _sealed(_HEADER.pack(_MAGIC, _VERSION, owner, self._nonce, 0)), 0)

    def _examine(self, file: int) -> SpoolContent:
        """Check every byte of the file."""
        size = os.fstat(file).st_size
        header = os.pread(file, _HEADER.size, 0)
        damage = None
        nonce: int | None = None
        if _is_sealed(header, _HEADER):
            magic, version, _, nonce, _ = _HEADER.unpack(header)
            if magic != _MAGIC:
                raise DamagedSpoolError(f"{self.path} is no spool of documents")
            if version != _VERSION:
                raise DamagedSpoolError(
                    f"{self.path} was written by another version of this software (format {version} instead of "
                    f"{_VERSION}); deliver it with that one"
                )
        elif size < _HEADER.size and _MAGIC.startswith(header[: len(_MAGIC)]):
            return SpoolContent(end=_HEADER.size)  # new, or cut off before anything was in it
        else:
            damage = "its first bytes are damaged"
        records: list[tuple[int, int]] = []
        offset, n_damaged = _HEADER.size, 0
        while offset < size:
            found = _record_at(file, offset, size)
            if found is not None and nonce in (None, found.nonce):
                if offset + found.nbytes > size:
                    break  # a killed writer leaves part of a record
                if _checksum(file, found.n_head + found.n_arrays, offset + _RECORD.size) == found.checksum:
                    nonce = found.nonce
                    records.append((found.number, offset))
                else:
                    n_damaged += 1
                offset += found.nbytes
                continue
            if size - offset < _RECORD.size:
                break
            n_damaged += 1
            following = _next_record(file, offset + 1, size, nonce)
            if following is None:
                offset = size
                break
            offset = following
        if damage is not None and not records:
            raise DamagedSpoolError(f"{self.path} is no spool of documents")
        if nonce is not None:
            self._nonce = nonce
        if n_damaged:
            damage = f"it is damaged in {n_damaged} place(s)"
        return SpoolContent(records, offset, damage)


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
    with _opened(path, os.O_RDONLY) as file:
        header = os.pread(file, _HEADER.size, 0)
    return _HEADER.unpack(header)[2] if _is_sealed(header, _HEADER) else None


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


@dataclass(frozen=True)
class _Found:
    """The beginning of a record."""

    nonce: int
    number: int
    n_head: int
    n_arrays: int
    checksum: int

    @property
    def nbytes(self) -> int:
        return _RECORD.size + self.n_head + self.n_arrays


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    file = open_private(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise DamagedSpoolError(f"{path} is not a file")
        yield file
    finally:
        os.close(file)


def _sealed(packed: bytes) -> bytes:
    """Return the same with the checksum of all before it in the last four bytes."""
    content = packed[: -_CRC.size]
    return content + _CRC.pack(zlib.crc32(content))


def _is_sealed(packed: bytes, layout: struct.Struct) -> bool:
    return len(packed) == layout.size and _sealed(packed) == packed


def _record_at(file: int, offset: int, size: int) -> _Found | None:
    """Return what a record says of itself; None where none begins."""
    if offset + _RECORD.size > size:
        return None
    packed = os.pread(file, _RECORD.size, offset)
    if not _is_sealed(packed, _RECORD) or packed[: len(_RECORD_MAGIC)] != _RECORD_MAGIC:
        return None
    _, nonce, number, n_head, n_arrays, checksum, _ = _RECORD.unpack(packed)
    return _Found(nonce, number, n_head, n_arrays, checksum)


def _next_record(file: int, offset: int, size: int, nonce: int | None) -> int | None:
    """Return where the next record begins behind damage; None where there is none."""
    while offset < size:
        piece = os.pread(file, _PIECE_BYTES, offset)
        at = piece.find(_RECORD_MAGIC)
        while at >= 0:
            found = _record_at(file, offset + at, size)
            if found is not None and nonce in (None, found.nonce):
                return offset + at
            at = piece.find(_RECORD_MAGIC, at + 1)
        if len(piece) < len(_RECORD_MAGIC):
            return None
        offset += len(piece) - len(_RECORD_MAGIC) + 1
    return None


def _checksum(file: int, size: int, at: int) -> int:
    checksum, end = 0, at + size
    while at < end:
        piece = os.pread(file, min(_PIECE_BYTES, end - at), at)
        if not piece:
            break
        checksum = zlib.crc32(piece, checksum)
        at += len(piece)
    return checksum


def _encode_document(name: str, doc: Mapping[str, Any]) -> tuple[bytes, list[np.ndarray]]:
    arrays: list[np.ndarray] = []
    try:
        return msgpack.packb([name, doc], default=lambda value: _encode(value, arrays)), arrays
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise SpoolError(f"a document {name!r} cannot be written to the spool: {error}") from error


def _encode(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError("an array of objects")
        arrays.append(np.ascontiguousarray(value))
        about = [value.dtype.str, list(value.shape), len(arrays) - 1]
        return msgpack.ExtType(_ARRAY, msgpack.packb(about))
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    if hasattr(value, "items"):
        return dict(value.items())
    raise TypeError(f"{type(value).__name__} is not data")


def _decode(content: bytearray, n_head: int) -> Document:
    start = n_head

    def array(code: int, about: bytes) -> Any:
        nonlocal start
        if code != _ARRAY:
            return msgpack.ExtType(code, about)
        dtype, shape, _ = msgpack.unpackb(about)
        made = np.frombuffer(content, dtype, int(np.prod(shape, dtype=np.int64)), start).reshape(shape)
        start += made.nbytes
        return made

    name, doc = msgpack.unpackb(memoryview(content)[:n_head], ext_hook=array, strict_map_key=False)
    return name, doc


def _write_all(file: int, data: bytes | memoryview, at: int) -> int:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        at += written
        view = view[written:]
    return at


def _read_all(file: int, size: int, at: int) -> bytearray:
    if at + size > os.fstat(file).st_size:
        raise DamagedSpoolError("a spool ends within a document")
    content = bytearray(size)
    view = memoryview(content)
    while view:
        got = os.preadv(file, [view], at)
        if got == 0:
            raise DamagedSpoolError("a spool ends within a document")
        at += got
        view = view[got:]
    return content
