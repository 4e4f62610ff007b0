"""Documents as Tiled's writer takes them: what a device or plan got wrong costs that value or document."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from event_model import DocumentRouter

from callbacks.documents import AnyDocument
from callbacks.errors import DocumentError

# Elements of the arrays that the writer keeps in the table of a stream: tables in SQLite hold none, and those of
# other databases none of more than one dimension.
LARGEST_IN_TABLE = 0
_KINDS = {"number": "f", "integer": "i", "boolean": "b", "string": "s", "array": "a"}
_KINDS_NUMPY = {"f": "f", "i": "i", "u": "i", "b": "b", "U": "s", "S": "s"}


_ASSETS: Mapping[str, Mapping[str, type]] = {
    "resource": {"uid": str, "spec": str, "resource_path": str, "resource_kwargs": dict},
    "datum": {"datum_id": str, "resource": str, "datum_kwargs": dict},
    "datum_page": {"datum_id": list, "resource": str, "datum_kwargs": dict},
    "stream_resource": {"uid": str, "data_key": str, "mimetype": str, "uri": str, "parameters": dict},
    "stream_datum": {"stream_resource": str, "descriptor": str, "indices": dict, "seq_nums": dict},
}


class StorableDocuments(DocumentRouter):
    """Brings the documents of one run, converted by `plain_document`, into the form that Tiled's writer needs.

    Calling it with a name and a document returns the same name and the document to be stored, and raises a
    `DocumentError` where it cannot be.

    Parameters
    ----------
    uid : str
        The run.
    note : callable
        Told what cannot be stored as it is.

    Attributes
    ----------
    n_events : Counter
        Events of each stream that can be stored.
    """

    def __init__(self, uid: str, note: Callable[[str], object]) -> None:
        super().__init__()
        self._uid = uid
        self._note = note
        self.n_events: Counter[str] = Counter()
        self._streams: dict[str, _Stream] = {}
        self._of_descriptor: dict[str, _Stream] = {}
        self._resources: set[str] = set()

    def resource(self, doc: Any) -> None:
        """Check that it says where the frames of its datums are."""
        self._check_asset("resource", doc)

    def datum(self, doc: Any) -> Any:
        """Check that it says which frame it is."""
        self._check_asset("datum", doc)
        return doc

    def datum_page(self, doc: Any) -> None:
        """Check that it says which frames they are."""
        self._check_asset("datum_page", doc)

    def stream_resource(self, doc: Any) -> None:
        """Check that it says where the frames of a stream are."""
        self._check_asset("stream_resource", doc)
        self._resources.add(doc["uid"])

    def stream_datum(self, doc: Any) -> None:
        """Check that it says which frames belong to which events, of a file and a stream that are known."""
        self._check_asset("stream_datum", doc)
        wrong = [key for key in ("indices", "seq_nums") if not _is_range(doc[key])]
        if doc["stream_resource"] not in self._resources:
            wrong.append("stream_resource")
        if doc["descriptor"] not in self._of_descriptor:
            wrong.append("descriptor")
        self._refuse("stream_datum", wrong)

    def _check_asset(self, name: str, doc: AnyDocument) -> None:
        self._refuse(name, [key for key, kind in _ASSETS[name].items() if not isinstance(doc.get(key), kind)])

    def _refuse(self, name: str, wrong: list[str]) -> None:
        if wrong:
            raise DocumentError(
                f"a document {name!r} of run {self._uid[:8]} does not say what it must ({', '.join(wrong)}); the "
                "frames that it places are not shown by Tiled"
            )

    def start(self, doc: Any) -> Any:
        """Rename metadata that the writer would take for instructions."""
        doc = dict(doc)
        for key, is_right in (("tiled_access_tags", _is_texts), ("tiled_specs", _is_specs)):
            if doc.get(key) is not None and not is_right(doc[key]):
                doc[f"{key}_"] = doc.pop(key)  # somebody's own metadata under the name of an instruction
        return doc

    def descriptor(self, doc: Any) -> Any:
        """Complete what says what the values of a stream are."""
        if not isinstance(doc.get("uid"), str):
            raise DocumentError(f"a descriptor of run {self._uid[:8]} has no uid; its events are not stored")
        doc = dict(doc)
        if not isinstance(doc.get("name"), str) or not doc["name"]:
            doc["name"] = "primary"
        doc["data_keys"] = _data_keys(doc.get("data_keys"))
        if "object_keys" in doc:
            doc["object_keys"] = {
                device: [key for key in keys if isinstance(key, str) and key in doc["data_keys"]]
                for device, keys in _mapping(doc["object_keys"]).items()
                if isinstance(keys, list)
            }
        if "configuration" in doc:
            doc["configuration"] = {
                device: {**about, "data_keys": _data_keys(about.get("data_keys"))}
                for device, about in _mapping(doc["configuration"]).items()
                if isinstance(about, dict)
            }
        stream = self._streams.setdefault(doc["name"], _Stream(doc["name"], self._uid))
        stream.add_keys(doc["data_keys"])
        self._of_descriptor[doc["uid"]] = stream
        return doc

    def event(self, doc: Any) -> Any:
        """Bring the values into the form that the descriptor announced."""
        stream = self._of_descriptor.get(_text(doc.get("descriptor")))
        if stream is None:
            raise DocumentError(
                f"an event of run {self._uid[:8]} belongs to a descriptor that is not there; it is not in Tiled"
            )
        stored, problems = stream.event(doc)
        for problem in problems:
            self._note(problem)
        self.n_events[stream.name] += 1
        return stored


class _Stream:
    """What is known of the values of one stream."""

    def __init__(self, name: str, uid: str) -> None:
        self.name = name
        self._uid = uid
        self._kinds: dict[str, str | None] = {}
        self._large: set[str] = set()
        self._external: set[str] = set()
        self._shapes: dict[str, tuple[int, ...] | None] = {}
        self._seen: set[str] = set()

    def add_keys(self, data_keys: Mapping[str, Mapping[str, Any]]) -> None:
        for key, about in data_keys.items():
            if "external" in about:
                self._external.add(key)
                continue
            self._kinds.setdefault(key, _kind(about))
            if self._kinds[key] == "a" and _is_large(about):
                self._large.add(key)

    def event(self, doc: AnyDocument) -> tuple[AnyDocument, list[str]]:
        """Return an event as it can be stored, and what of it cannot."""
        number, time = doc.get("seq_num"), doc.get("time")
        if type(number) is not int or not isinstance(time, int | float) or not math.isfinite(time):
            raise self._unusable(doc, "has no number or no time")
        if not isinstance(doc.get("data"), dict):
            raise self._unusable(doc, "has no data")
        data, problems = dict(doc["data"]), []
        filled = _mapping(doc.get("filled"))
        for key, kind in self._kinds.items():
            if key in self._large:
                if not self._check_large(key, data, doc):
                    data.pop(key, None)
                continue
            value = data.get(key)
            data[key], is_right = self._scalar(key, kind, value)
            if not is_right:
                problems.append(
                    f"event {number} of stream {self.name!r} of run {self._uid[:8]} holds {value!r:.80} for {key!r}, "
                    "which is not what the descriptor says; the value is missing in Tiled"
                )
        for key in self._external & data.keys():
            if not isinstance(data[key], str) and not filled.get(key, False):
                del data[key]
        given = _mapping(doc.get("timestamps"))
        times = {key: given[key] if _is_time(given.get(key)) else time for key in data}
        flags = {key: flag for key, flag in filled.items() if key in data}
        return {**doc, "time": float(time), "data": data, "timestamps": times, "filled": flags}, problems

    def _check_large(self, key: str, data: dict[str, Any], doc: AnyDocument) -> bool:
        """Return whether there is an array; every event of a stream has one of the same shape, or none has."""
        value = data.get(key)
        shape: tuple[int, ...] | None = None
        if value is not None:
            try:
                array = value if isinstance(value, np.ndarray) else np.asarray(value)
            except ValueError as error:
                raise self._unusable(doc, f"has a ragged array {key!r}") from error
            if array.dtype == object:
                raise self._unusable(doc, f"has a {key!r} that is no array")
            if array.ndim == 0:
                array = data[key] = array.reshape(1)  # the writer counts what it is given
            shape = array.shape
        expected = self._shapes.setdefault(key, shape)
        if shape != expected:
            raise self._unusable(
                doc, f"has {_of_shape(shape)} for {key!r} where the events before have {_of_shape(expected)}"
            )
        return shape is not None

    def _scalar(self, key: str, kind: str | None, value: Any) -> tuple[Any, bool]:
        """Return a value as its column takes it, and whether it is the same."""
        if kind is None:
            kind = self._kinds[key] = _kind_of(value)
        if value is None:
            if kind == "i" and key not in self._seen:
                kind = self._kinds[key] = "f"  # a column that begins with nothing holds no integers
            return (math.nan if kind == "f" else None if kind != "s" else ""), True
        self._seen.add(key)
        if kind == "a":
            return (value, True) if isinstance(value, list | np.ndarray) else ([value], True)
        if kind == "s":
            if isinstance(value, np.ndarray):
                value = value.tolist()
            return (value, True) if isinstance(value, str) else (json.dumps(value, default=str), True)
        if isinstance(value, bool | int | float):
            if kind == "f":
                return float(value), True
            if kind == "b" and value in (0, 1):
                return bool(value), True
            if kind == "i" and value == value // 1 and -(2**63) <= value < 2**63:
                return int(value), True
        return (math.nan if kind == "f" else None), False

    def _unusable(self, doc: Mapping[str, Any], what: str) -> DocumentError:
        number = doc.get("seq_num")
        return DocumentError(
            f"event {number!r:.20} of stream {self.name!r} of run {self._uid[:8]} {what}; it is not in Tiled"
        )


def _data_keys(value: Any) -> dict[str, dict[str, Any]]:
    """Return the data keys that say what they are; what is missing in them is made up."""
    result = {}
    for key, about in _mapping(value).items():
        if isinstance(about, dict):
            if about.get("dtype") == "array" and _has_any_length(about):
                # Tables in SQLite take no lists, and its ragged arrays are tables: JSON text does.
                kept = {
                    name: held
                    for name, held in about.items()
                    if name not in ("dtype", "dtype_numpy", "shape")
                }
                about = {**kept, "dtype": "string", "shape": [], "stored_as": "JSON"}
            known = about.get("dtype") in _KINDS
            result[key] = about if known else {**about, "dtype": "array" if about.get("shape") else "number"}
            if "dtype_numpy" in about and not _is_dtype(about["dtype_numpy"]):
                result[key] = {name: held for name, held in result[key].items() if name != "dtype_numpy"}
    return result


def _kind(about: Mapping[str, Any]) -> str | None:
    if about["dtype"] == "array":
        return "a"
    numpy_type = about.get("dtype_numpy")
    if isinstance(numpy_type, str):
        return _KINDS_NUMPY.get(np.dtype(numpy_type).kind)
    return _KINDS[about["dtype"]]


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "b"
    if isinstance(value, int):
        return "i"
    return "f" if value is None or isinstance(value, float) else "s"


def _has_any_length(about: Mapping[str, Any]) -> bool:
    """Return whether the arrays of a key have no size that is known beforehand."""
    return any(size is None or size == 0 for size in about.get("shape") or ())


def _is_large(about: Mapping[str, Any]) -> bool:
    shape = about.get("shape") or ()
    text = isinstance(about.get("dtype_numpy"), str) and np.dtype(about["dtype_numpy"]).kind in "USO"
    return text or math.prod(shape) > LARGEST_IN_TABLE


def _is_range(value: dict[str, Any]) -> bool:
    return all(type(value.get(key)) is int for key in ("start", "stop"))


def _is_dtype(value: Any) -> bool:
    try:
        np.dtype(value if isinstance(value, str) else [tuple(field) for field in value])
    except (TypeError, ValueError, SyntaxError):
        return False
    return True


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_specs(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, str)
        or (isinstance(item, dict) and "name" in item and item.keys() <= {"name", "version"})
        for item in value
    )


def _of_shape(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else f"an array of shape {shape}"


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
