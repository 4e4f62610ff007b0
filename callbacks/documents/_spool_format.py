"""The bytes of a spool file: a header, and records of a document with its arrays, all under checksums."""

import contextlib
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from callbacks.errors import DamagedSpoolError, SpoolError

from ._document_types import NamedDocument
from ._file_lock import TOKEN_BYTES, open_private

VERSION = 2
MAGIC = b"NMCSPOOL"
# Magic, version, owner, number of the file, checksum of these.
HEADER = struct.Struct(f"<8sI{TOKEN_BYTES}sQI")
RECORD_MAGIC = b"\xf5NMR"
# Magic, number of the file, number of the record, bytes of its head, bytes of its arrays, checksum of these two,
# checksum of all this.
RECORD = struct.Struct("<4sQIIQII")
_CRC = struct.Struct("<I")
_ARRAY = 1
_PIECE_BYTES = 2**20


@dataclass(frozen=True)
class RecordHead:
    """The beginning of a record."""

    nonce: int
    number: int
    n_head: int
    n_arrays: int
    checksum: int

    @property
    def nbytes(self) -> int:
        return RECORD.size + self.n_head + self.n_arrays


@contextlib.contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    file = open_private(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise DamagedSpoolError(f"{path} is not a file")
        yield file
    finally:
        os.close(file)


def sealed(packed: bytes) -> bytes:
    """Return the same with the checksum of all before it in the last four bytes."""
    content = packed[: -_CRC.size]
    return content + _CRC.pack(zlib.crc32(content))


def is_sealed(packed: bytes, layout: struct.Struct) -> bool:
    return len(packed) == layout.size and sealed(packed) == packed


def record_at(file: int, offset: int, size: int) -> RecordHead | None:
    """Return what a record says of itself; None where none begins."""
    if offset + RECORD.size > size:
        return None
    packed = os.pread(file, RECORD.size, offset)
    if not is_sealed(packed, RECORD) or packed[: len(RECORD_MAGIC)] != RECORD_MAGIC:
        return None
    _, nonce, number, n_head, n_arrays, checksum, _ = RECORD.unpack(packed)
    return RecordHead(nonce, number, n_head, n_arrays, checksum)


def next_record(file: int, offset: int, size: int, nonce: int | None) -> int | None:
    """Return where the next record begins behind damage; None where there is none."""
    while offset < size:
        piece = os.pread(file, _PIECE_BYTES, offset)
        at = piece.find(RECORD_MAGIC)
        while at >= 0:
            found = record_at(file, offset + at, size)
            if found is not None and nonce in (None, found.nonce):
                return offset + at
            at = piece.find(RECORD_MAGIC, at + 1)
        if len(piece) < len(RECORD_MAGIC):
            return None
        offset += len(piece) - len(RECORD_MAGIC) + 1
    return None


def checksum_of(file: int, size: int, at: int) -> int:
    checksum, end = 0, at + size
    while at < end:
        piece = os.pread(file, min(_PIECE_BYTES, end - at), at)
        if not piece:
            break
        checksum = zlib.crc32(piece, checksum)
        at += len(piece)
    return checksum


def encode_document(name: str, doc: Mapping[str, Any]) -> tuple[bytes, list[np.ndarray]]:
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


def decode_document(content: bytearray, n_head: int) -> NamedDocument:
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


def write_all(file: int, data: bytes | memoryview, at: int) -> int:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        at += written
        view = view[written:]
    return at


def read_all(file: int, size: int, at: int) -> bytearray:
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
