"""Documents as plain data: what every JSON reader, file and network takes, whatever people put into metadata."""

import base64
import dataclasses
import datetime
import enum
import math
import numbers
import os
import uuid
from collections.abc import Mapping, Sequence, Set
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from callbacks.errors import DocumentError

from ._document_types import AnyDocument

NOTES = "_metadata_notes"

_MEASURED = {"event": ("data", "timestamps"), "event_page": ("data", "timestamps")}
_DEEPEST = 100  # JSON parsers stop at about 250 levels, and what carries the metadata adds its own
_INT64 = range(-(2**63), 2**64)
_MOST_NOTES = 100
_CIRCULAR = "<a reference back to what holds it>"


def plain_document(name: str, doc: Any) -> AnyDocument:
    """Return a document that holds plain data only; the document itself is left as it is.

    In metadata dates, times, paths, identifiers and exact numbers become text (ISO 8601 where there is one), arrays,
    tuples and sets become lists, enumerations their values, anything unknown its text. What JSON has no
    number for (NaN, infinity) becomes None. What has lost something by it is told under ``_metadata_notes``, a list of
    texts: path in the document, and what was there. Measured values (``data`` and ``timestamps`` of events) keep NaN
    and infinity, and their arrays of numbers stay NumPy arrays.

    Parameters
    ----------
    name : str
        Name of the document.
    doc : mapping
        The document.

    Returns
    -------
    dict
        Holds None, bool, int (64 bits), float, str, list and dict with str keys; arrays of numbers only in the
        measured values of events. Converting it again changes nothing.

    Raises
    ------
    DocumentError
        It is not a mapping.
    """
    if not isinstance(doc, Mapping):
        raise DocumentError(f"a document {name!r} is a {type(doc).__name__} instead of a mapping")
    notes: dict[str, str] = {}
    values = {key: doc[key] for key in _MEASURED.get(name, ()) if key in doc}
    others = [(key, value) for key, value in _items(doc) if key not in values]
    result = _Plain(notes, measured=False).mapping(others, "", (id(doc),))
    for key, value in values.items():
        result[key] = _Plain(notes, measured=True)(value, key, (id(doc),))
    if notes:
        earlier = result.get(NOTES)
        told = [f"{path}: {note}" for path, note in notes.items()]
        result[NOTES] = [*earlier, *told] if isinstance(earlier, list) else told
    return result


def plain_metadata(value: Any) -> Any:
    """Return any value as plain data, as `plain_document` does with metadata, without notes."""
    return _Plain({}, measured=False)(value, "", ())


class _Plain:
    """Converts values; what loses something by it is noted."""

    def __init__(self, notes: dict[str, str], *, measured: bool) -> None:
        self._notes = notes
        self._measured = measured

    def __call__(self, value: Any, path: str, above: tuple[int, ...]) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return self._integer(value, path)
        if kind is float:
            return self._number(value, path)
        if kind is str:
            return self._text(value, path)
        try:
            return self._other(value, path, above)
        except Exception as error:
            self._note(path, f"{kind.__name__} that cannot be read ({type(error).__name__})")
            return f"<{kind.__name__} that cannot be read>"

    def key(self, key: Any) -> str:
        """Return what a key of a mapping is called."""
        if type(key) is str:
            return self._text(key, "")
        plain = _Plain({}, measured=False)(key, "", ())
        return plain if isinstance(plain, str) else str(key if plain is None and key is not None else plain)

    def _other(self, value: Any, path: str, above: tuple[int, ...]) -> Any:
        if isinstance(value, enum.Enum):
            return self(value.value, path, above)
        if isinstance(value, str):
            return self._text(str.__str__(value), path)
        if isinstance(value, np.ndarray):
            return self._array(value, path, above)
        if isinstance(value, np.generic):
            return self._numpy_scalar(value, path, above)
        if isinstance(value, bytes | bytearray | memoryview):
            return _text_of_bytes(bytes(value))
        if isinstance(value, datetime.datetime | datetime.date | datetime.time):
            return self._moment(value, path)
        if isinstance(value, datetime.timedelta):
            return self._duration(value.total_seconds(), path)
        if isinstance(value, uuid.UUID | Decimal | Fraction | complex):
            return str(value)
        if isinstance(value, numbers.Integral):
            return self._integer(int(value), path)
        if isinstance(value, numbers.Real):
            return self._number(float(value), path)
        if isinstance(value, os.PathLike):
            held = os.fspath(value)
            return _text_of_bytes(held) if isinstance(held, bytes) else self._text(held, path)
        if id(value) in above:
            self._note(path, _CIRCULAR)
            return _CIRCULAR
        if len(above) >= _DEEPEST:
            self._note(path, f"nested more than {_DEEPEST} levels deep; kept as text")
            return self._text(_as_text(value), path)
        return self._container(value, path, (*above, id(value)))

    def _container(self, value: Any, path: str, above: tuple[int, ...]) -> Any:
        if isinstance(value, Mapping):
            return self.mapping(_items(value), path, above)
        if isinstance(value, Set):
            ordered = sorted(value, key=lambda item: (type(item).__name__, _as_text(item)))
            return self._list(ordered, path, above)
        if isinstance(value, Sequence):
            return self._list(value, path, above)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = [(field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value)]
            return self.mapping(fields, path, above)
        if not isinstance(value, type):
            for method in (
                "model_dump",
                "tolist",
                "to_dict",
                "to_list",
            ):  # models, arrays and tables of others
                if callable(convert := getattr(type(value), method, None)):
                    return self(convert(value), path, above)
        self._note(path, f"a {type(value).__name__}; kept as text")
        return self._text(_as_text(value), path)

    def mapping(self, items: list[tuple[Any, Any]], path: str, above: tuple[int, ...]) -> dict[str, Any]:
        """Return a mapping with keys of text, all different."""
        result: dict[str, Any] = {}
        for key, held in items:
            text = wanted = self.key(key)
            number = 1
            while text in result:  # 1 and "1", for example
                number += 1
                text = f"{wanted} ({number})"
            result[text] = self(held, f"{path}.{text}" if path else text, above)
        return result

    def _list(self, value: Sequence[Any], path: str, above: tuple[int, ...]) -> list[Any]:
        if self._measured and all(type(item) in (int, float) for item in value):
            return [self._integer(item, path) if type(item) is int else item for item in value]
        return [self(item, f"{path}.{number}", above) for number, item in enumerate(value)]

    def _array(self, value: np.ndarray, path: str, above: tuple[int, ...]) -> Any:
        if self._measured and value.dtype.kind in "biufc":
            return value.view(np.ndarray) if type(value) is not np.ndarray else value
        if isinstance(value, np.ma.MaskedArray):
            return self(value.tolist(), path, above)
        if value.dtype.names is not None:
            columns = {name: value[name] for name in value.dtype.names}
            return self(columns, path, (*above, id(value)))
        if value.dtype.kind in "mMVSU" or value.dtype == np.longdouble:
            flat = [self(item, path, above) for item in value.reshape(-1)]
            return _reshaped(flat, value.shape)
        return self(value.tolist(), path, (*above, id(value)))

    def _numpy_scalar(self, value: np.generic, path: str, above: tuple[int, ...]) -> Any:
        if isinstance(value, np.datetime64 | np.timedelta64):
            if np.isnat(value):
                self._note(path, "NaT")
                return None
            if isinstance(value, np.datetime64):
                return str(value)
            try:
                return self._duration(float(value / np.timedelta64(1, "s")), path)
            except TypeError:  # months and years have no length in seconds
                return str(value)
        if isinstance(value, np.void):
            if value.dtype.names is None:
                return _text_of_bytes(value.tobytes())
            return self({name: value[name] for name in value.dtype.names}, path, above)
        if isinstance(value, np.longdouble):
            return self._number(float(value), path)
        return self(value.item(), path, above)

    def _integer(self, value: int, path: str) -> int | str:
        if value in _INT64:
            return value
        self._note(path, "an integer beyond 64 bits; kept as text")
        return str(value) if value.bit_length() < 4096 * 3 else hex(value)

    def _number(self, value: float, path: str) -> float | None:
        if math.isfinite(value) or self._measured:
            return value
        self._note(path, "NaN" if math.isnan(value) else "infinity" if value > 0 else "-infinity")
        return None

    def _moment(self, value: datetime.datetime | datetime.date | datetime.time, path: str) -> str | None:
        text = value.isoformat()
        if text == "NaT":
            self._note(path, text)
            return None
        return text

    def _duration(self, seconds: float, path: str) -> str | None:
        if not math.isfinite(seconds):
            self._note(path, "NaT")
            return None
        return f"{'-' if seconds < 0 else ''}PT{abs(seconds):.9f}".rstrip("0").rstrip(".") + "S"

    def _text(self, value: str, path: str) -> str:
        if value.isascii() and "\0" not in value:
            return value
        # Lone surrogates (file names that are not UTF-8) and NUL are refused by JSON and by databases.
        clean = value.encode("utf-8", "backslashreplace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
        if clean != value:
            self._note(path, f"text {ascii(value)[:200]}")
        return clean

    def _note(self, path: str, text: str) -> None:
        if path and len(self._notes) < _MOST_NOTES:
            self._notes[path] = text


def _items(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return [(key, value[key]) for key in value]


def _as_text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # what an object of unknown type does when it is asked
        return f"<{type(value).__name__} that cannot be read>"


def _text_of_bytes(value: bytes) -> str:
    """Return bytes as the text they are, else as a data URL, which is how Tiled writes them."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if all(character.isprintable() or character in "\t\r\n" for character in text):
        return text
    return f"data:application/octet-stream;base64,{base64.b64encode(value).decode()}"


def _reshaped(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    for size in reversed(shape[1:]):
        flat = [flat[start : start + size] for start in range(0, len(flat), size)] if size else []
    return flat
