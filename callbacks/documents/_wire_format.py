"""How documents travel between processes: plain data in msgpack, arrays as they are in memory.

A message is a header, the document in msgpack, and the arrays of numbers it points to. Whoever can send a
message could have made it up, so everything it declares is compared with what it holds before anything is
allocated, and nothing in it can name code.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from callbacks.errors import StreamError

from ._document_types import AnyDocument
from ._plain_documents import plain_document

MAX_MESSAGE_BYTES = 512 * 2**20
DOCUMENT_NAMES = (
    "start",
    "descriptor",
    "event",
    "event_page",
    "stop",
    "resource",
    "datum",
    "datum_page",
    "stream_resource",
    "stream_datum",
)

_MAGIC = b"NIMD"
_VERSION = 1
# Magic, version, document name, number of arrays, bytes of msgpack, publisher, sequence number, CRC-32 of the rest.
_HEADER = struct.Struct("<4sBBHI16sQI")
_ARRAY = struct.Struct("<BB")  # number type and number of dimensions; the shape follows
_INDEX = struct.Struct("<H")
_SIZE = struct.Struct("<Q")
_ARRAY_EXT = 1
_MOST_DIMENSIONS = 16
_MOST_DEPTH = 128
_MOST_VALUES = 1_000_000
_MAX_DOCUMENT_BYTES = 64 * 2**20
_DTYPES = tuple(
    np.dtype(code)
    for code in (
        "?",
        "i1",
        "<i2",
        "<i4",
        "<i8",
        "u1",
        "<u2",
        "<u4",
        "<u8",
        "<f2",
        "<f4",
        "<f8",
        "<c8",
        "<c16",
    )
)


def _without_patches(kind: type) -> Any:
    """Return msgpack's own class; msgpack-numpy replaces it by one that unpickles."""
    return next(base for base in kind.__mro__ if base.__module__.partition(".")[0] == "msgpack")


_Packer = _without_patches(msgpack.Packer)
_Unpacker = _without_patches(msgpack.Unpacker)


@dataclass(frozen=True)
class WireDocument:
    """A document as it was received."""

    name: str
    doc: AnyDocument
    publisher: bytes
    sequence: int


def is_wire_message(message: bytes | memoryview) -> bool:
    """Whether a message claims to be of this format."""
    return bytes(message[: len(_MAGIC)]) == _MAGIC


def pack_document(name: str, doc: AnyDocument, publisher: bytes = bytes(16), sequence: int = 0) -> bytearray:
    """Write a document as a message.

    Parameters
    ----------
    name : str
        Name of the document.
    doc : dict
        The document; what is in it becomes plain data as everywhere (`plain_document`).
    publisher : bytes
        16 bytes that tell one publisher from another.
    sequence : int
        Number of the message among those of the publisher.

    Raises
    ------
    DocumentError
        It is not a mapping.
    StreamError
        It has no name that documents have, or is too large for a message.
    """
    if name not in DOCUMENT_NAMES:
        raise StreamError(f"{name!r} is not the name of a document")
    arrays: list[np.ndarray] = []

    def take_out(value: Any) -> msgpack.ExtType:
        if not isinstance(value, np.ndarray):
            raise StreamError(f"a {name} document holds a {type(value).__name__}, which cannot be sent")
        if len(arrays) == 0xFFFF:
            raise StreamError(f"a {name} document holds more than {0xFFFF} arrays; send them as events")
        arrays.append(_sendable(value))
        return msgpack.ExtType(_ARRAY_EXT, _INDEX.pack(len(arrays) - 1))

    text = _Packer(default=take_out).pack(plain_document(name, doc))
    table = b"".join(
        _ARRAY.pack(_DTYPES.index(array.dtype), array.ndim) + b"".join(map(_SIZE.pack, array.shape))
        for array in arrays
    )
    total = _HEADER.size + len(text) + len(table) + sum(array.nbytes for array in arrays)
    if total > MAX_MESSAGE_BYTES or len(text) > _MAX_DOCUMENT_BYTES:
        raise StreamError(
            f"a {name} document of {total / 2**20:.0f} MiB is too large for a message "
            f"({MAX_MESSAGE_BYTES >> 20} MiB, {_MAX_DOCUMENT_BYTES >> 20} MiB without its arrays)"
        )
    _check_declared(text)  # what the other side would refuse is said here
    message = bytearray(total)
    position = _HEADER.size
    for part in (text, table):
        message[position : position + len(part)] = part
        position += len(part)
    for array in arrays:
        # NumPy copies without holding the interpreter, so that the RunEngine goes on meanwhile.
        np.frombuffer(message, array.dtype, array.size, position)[:] = array.reshape(-1)
        position += array.nbytes
    crc = zlib.crc32(memoryview(message)[_HEADER.size :])
    number = DOCUMENT_NAMES.index(name)
    _HEADER.pack_into(
        message, 0, _MAGIC, _VERSION, number, len(arrays), len(text), publisher, sequence % 2**64, crc
    )
    return message


def unpack_document(message: bytes | bytearray | memoryview) -> WireDocument:
    """Read a message.

    Takes memory for a few times the message at most, whatever it declares.

    Raises
    ------
    StreamError
        It is not a whole message of this format, or declares what it does not hold.
    """
    view = memoryview(message)
    if len(view) > MAX_MESSAGE_BYTES:
        raise StreamError(f"a message of {len(view) >> 20} MiB is larger than {MAX_MESSAGE_BYTES >> 20} MiB")
    if len(view) < _HEADER.size or not is_wire_message(view):
        raise StreamError("the message is not one of nimco's DocumentPublisher")
    _, version, number, n_arrays, n_text, publisher, sequence, crc = _HEADER.unpack_from(view)
    if version != _VERSION:
        raise StreamError(
            f"the message has format {version}, and format {_VERSION} is read here; use one version of nimco"
        )
    body = view[_HEADER.size :]
    if zlib.crc32(body) != crc:
        raise StreamError("the message is damaged (its checksum does not fit)")
    if number >= len(DOCUMENT_NAMES):
        raise StreamError(f"the message holds a document of an unknown name (number {number})")
    if n_text > min(len(body), _MAX_DOCUMENT_BYTES):
        raise StreamError("the message declares a document larger than itself")
    text = bytes(body[:n_text])
    _check_declared(text)
    arrays = _read_arrays(body[n_text:], n_arrays)
    doc = _read_text(text, arrays)
    if not isinstance(doc, dict):
        raise StreamError(f"the message holds a {type(doc).__name__} instead of a document")
    return WireDocument(DOCUMENT_NAMES[number], doc, publisher, sequence)


def _sendable(array: np.ndarray) -> np.ndarray:
    """Return an array of a number type of the list, in C order."""
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _DTYPES:  # long doubles
        dtype = np.dtype("<c16" if dtype.kind == "c" else "<f8")
    if array.ndim > _MOST_DIMENSIONS:
        raise StreamError(f"an array of {array.ndim} dimensions cannot be sent")
    # Not ascontiguousarray, which makes one dimension of none.
    return np.asarray(array, dtype, order="C")


def _read_text(text: bytes, arrays: Sequence[np.ndarray]) -> Any:
    used: set[int] = set()

    def put_back(code: int, data: bytes) -> np.ndarray:
        (index,) = _INDEX.unpack(data)
        if index >= len(arrays) or index in used:
            raise StreamError("the message points to an array that it does not hold")
        used.add(index)
        return np.asarray(arrays[index])

    unpacker = _Unpacker(
        raw=False,
        strict_map_key=True,
        unicode_errors="strict",
        max_buffer_size=len(text),
        max_str_len=len(text),
        max_bin_len=0,
        max_array_len=len(text),
        max_map_len=len(text),
        max_ext_len=_INDEX.size,
        ext_hook=put_back,
    )
    try:
        unpacker.feed(text)
        doc = unpacker.unpack()
    except StreamError:
        raise
    except (
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
        msgpack.exceptions.UnpackException,
    ) as error:
        raise StreamError(f"the message holds no readable document ({type(error).__name__})") from error
    if len(used) != len(arrays):
        raise StreamError("the message holds an array that its document does not name")
    return doc


def _read_arrays(data: memoryview, n_arrays: int) -> list[np.ndarray]:
    """Read the table of arrays and what follows it; its sizes must be exactly those of what follows."""
    declared: list[tuple[np.dtype, tuple[int, ...], int]] = []
    position = 0
    try:
        for _ in range(n_arrays):
            kind, n_dimensions = _ARRAY.unpack_from(data, position)
            position += _ARRAY.size
            if kind >= len(_DTYPES) or n_dimensions > _MOST_DIMENSIONS:
                raise StreamError(
                    "the message holds an array of an unknown number type or of too many dimensions"
                )
            shape = struct.unpack_from(f"<{n_dimensions}Q", data, position)
            position += _SIZE.size * n_dimensions
            size = 1
            for length in shape:
                if length > MAX_MESSAGE_BYTES:
                    raise StreamError("the message declares an array larger than itself")
                size *= length
            declared.append((_DTYPES[kind], shape, size))
    except struct.error as error:
        raise StreamError("the message ends before its arrays") from error
    if sum(dtype.itemsize * size for dtype, _, size in declared) != len(data) - position:
        raise StreamError("the message declares arrays of another size than it holds")
    arrays = []
    for dtype, shape, size in declared:
        # A copy: aligned, writable, and the message can go.
        arrays.append(np.frombuffer(data, dtype, size, position).reshape(shape).copy())
        position += dtype.itemsize * size
    return arrays


def _check_declared(text: bytes) -> None:
    """Walk through msgpack without making anything of it.

    msgpack allocates what a list or a mapping declares before it sees its elements: nested lists that declare
    millions each would take all the memory there is.

    Raises
    ------
    StreamError
        It is not exactly one value, or declares more elements than it has bytes, or nests too deep, or holds
        anything but plain data and references to arrays.
    """
    size = len(text)
    position = n_values = 0
    open_containers = [1]
    outstanding = 1
    while open_containers:
        if not open_containers[-1]:
            open_containers.pop()
            continue
        open_containers[-1] -= 1
        outstanding -= 1
        n_values += 1
        if position >= size:
            raise StreamError("the message ends in the middle of its document")
        code = text[position]
        position += 1
        width, kind = _CODES[code]
        if kind == _SCALAR:
            position += width
            continue
        if kind == _REFERENCE:
            if text[position : position + 1] != bytes((_ARRAY_EXT,)):
                raise StreamError("the document holds a value that is no plain data")
            position += 1 + width
            continue
        if kind == _FORBIDDEN:
            raise StreamError("the document holds a value that is no plain data")
        length = int.from_bytes(text[position : position + width], "big") if width else code & _MASKS[kind]
        position += width
        if kind == _TEXT:
            position += length
            continue
        length *= 2 if kind == _MAPPING else 1
        outstanding += length
        if outstanding > size - position:
            raise StreamError("the document declares more values than it holds")
        if n_values + outstanding > _MOST_VALUES:
            raise StreamError(f"the document holds more than {_MOST_VALUES} values besides its arrays")
        open_containers.append(length)
        if len(open_containers) > _MOST_DEPTH:
            raise StreamError(f"the document is nested more than {_MOST_DEPTH} levels deep")
    if position != size:
        raise StreamError("the message ends in the middle of its document, or goes on after it")


_SCALAR, _TEXT, _LIST, _MAPPING, _REFERENCE, _FORBIDDEN = range(6)
_MASKS = {_TEXT: 0x1F, _LIST: 0x0F, _MAPPING: 0x0F}


def _codes() -> list[tuple[int, int]]:
    """Return for each first byte of msgpack how many bytes of value or length follow, and the kind of value."""
    codes = [(0, _SCALAR)] * 256
    codes[0x80:0x90] = [(0, _MAPPING)] * 16
    codes[0x90:0xA0] = [(0, _LIST)] * 16
    codes[0xA0:0xC0] = [(0, _TEXT)] * 32
    codes[0xC1] = (0, _FORBIDDEN)  # never used
    codes[0xC4:0xCA] = [(0, _FORBIDDEN)] * 6  # bytes, extensions of any length
    codes[0xCA:0xCC] = [(4, _SCALAR), (8, _SCALAR)]
    codes[0xCC:0xD4] = [(width, _SCALAR) for width in (1, 2, 4, 8)] * 2
    codes[0xD4:0xD9] = [(0, _FORBIDDEN)] * 5  # extensions of 1, 2, 4, 8 and 16 bytes
    codes[0xD5] = (_INDEX.size, _REFERENCE)
    codes[0xD9:0xDC] = [(width, _TEXT) for width in (1, 2, 4)]
    codes[0xDC:0xDE] = [(width, _LIST) for width in (2, 4)]
    codes[0xDE:0xE0] = [(width, _MAPPING) for width in (2, 4)]
    return codes


_CODES = _codes()
