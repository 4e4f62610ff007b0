"""Documents on disk: one file per spool, appended to, read from anywhere, safe to be cut off at any byte."""

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from callbacks._errors import SpoolError

Document = tuple[str, dict[str, Any]]

_MAGIC = b"NMC1"
# Magic, length of the head, bytes of the arrays that follow it, checksum of the head.
_PREFIX = struct.Struct("<4sIQI")
_ARRAY = 1


class Spool:
    """An append-only file of documents with their arrays.

    A record is a head (everything but the arrays, in msgpack) and the bytes of the arrays as they are, so
    that writing a frame costs little more than copying it to the page cache. One thread appends; any thread
    reads.

    Parameters
    ----------
    path : Path
        Created, or continued behind its last complete record.

    Raises
    ------
    SpoolError
        The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SpoolError(
                f"cannot write the spool {path} ({error.strerror}); choose another folder"
            ) from error
        self._end = self._find_end()

    @property
    def nbytes(self) -> int:
        """Size of the complete records."""
        return self._end

    def append(self, name: str, doc: dict[str, Any]) -> int:
        """Write one document and return where it begins.

        Raises
        ------
        SpoolError
            The disk is full or the document holds something that is not data. The spool is as before.
        """
        arrays: list[np.ndarray] = []
        try:
            head = msgpack.packb([name, doc], default=lambda value: _encode(value, arrays))
        except (TypeError, ValueError, OverflowError) as error:
            raise SpoolError(f"a document {name!r} cannot be written to the spool: {error}") from error
        parts = [
            _PREFIX.pack(_MAGIC, len(head), sum(array.nbytes for array in arrays), zlib.crc32(head)),
            head,
        ]
        with self._lock:
            start = at = self._end
            try:
                for part in (
                    *parts,
                    *(array.reshape(-1).view(np.uint8).data for array in arrays if array.nbytes),
                ):
                    at = _write_all(self._file, part, at)
            except OSError as error:
                os.ftruncate(self._file, start)
                raise SpoolError(f"cannot write to the spool {self.path} ({error.strerror})") from error
            self._end = at
        return start

    def read(self, offset: int) -> Document:
        """Return the document that begins at an offset."""
        magic, n_head, n_arrays, _ = _PREFIX.unpack(os.pread(self._file, _PREFIX.size, offset))
        if magic != _MAGIC:
            raise SpoolError(f"no document begins at byte {offset} of {self.path}")
        start = offset + _PREFIX.size
        head = os.pread(self._file, n_head, start)
        content = _read_all(self._file, n_arrays, start + n_head)
        return _decode(head, content)

    def offsets(self) -> Iterator[int]:
        """Yield where the documents begin, in order."""
        offset = 0
        while offset < self._end:
            yield offset
            _, n_head, n_arrays, _ = _PREFIX.unpack(os.pread(self._file, _PREFIX.size, offset))
            offset += _PREFIX.size + n_head + n_arrays

    def clear(self) -> None:
        """Forget everything that was written."""
        with self._lock:
            os.ftruncate(self._file, 0)
            self._end = 0

    def close(self, *, delete: bool = False) -> None:
        """Close the file; with ``delete``, remove it."""
        os.close(self._file)
        if delete:
            self.path.unlink(missing_ok=True)

    def _find_end(self) -> int:
        """Return the end of the last complete record; a killed writer leaves part of one behind it."""
        size = os.fstat(self._file).st_size
        offset = 0
        while offset + _PREFIX.size <= size:
            magic, n_head, n_arrays, checksum = _PREFIX.unpack(os.pread(self._file, _PREFIX.size, offset))
            end = offset + _PREFIX.size + n_head + n_arrays
            if magic != _MAGIC or end > size:
                break
            if zlib.crc32(os.pread(self._file, n_head, offset + _PREFIX.size)) != checksum:
                break
            offset = end
        return offset


def document_nbytes(doc: dict[str, Any]) -> int:
    """Return about how much memory a document takes: its arrays, and a little for the rest."""
    total = 1024
    for value in doc.get("data", {}).values():
        if isinstance(value, np.ndarray):
            total += value.nbytes
        elif isinstance(value, list):
            total += sum(item.nbytes if isinstance(item, np.ndarray) else 32 for item in value)
    return total


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


def _decode(head: bytes, content: bytearray) -> Document:
    start = 0

    def array(code: int, about: bytes) -> Any:
        nonlocal start
        if code != _ARRAY:
            return msgpack.ExtType(code, about)
        dtype, shape, _ = msgpack.unpackb(about)
        made = np.frombuffer(content, dtype, int(np.prod(shape, dtype=np.int64)), start).reshape(shape)
        start += made.nbytes
        return made

    name, doc = msgpack.unpackb(head, ext_hook=array, strict_map_key=False)
    return name, doc


def _write_all(file: int, data: bytes | memoryview, at: int) -> int:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        at += written
        view = view[written:]
    return at


def _read_all(file: int, size: int, at: int) -> bytearray:
    content = bytearray(size)
    view = memoryview(content)
    while view:
        got = os.preadv(file, [view], at)
        if got == 0:
            raise SpoolError(f"the spool ends {len(view)} bytes early")
        at += got
        view = view[got:]
    return content
