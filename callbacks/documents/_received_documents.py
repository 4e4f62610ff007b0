"""Messages from the network become documents; what is none costs itself and nothing else."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from callbacks.errors import StreamError

from ._document_types import AnyDocument, NamedDocument
from ._wire_format import DOCUMENT_NAMES, is_wire_message, unpack_document

logger = logging.getLogger("nimco.callbacks")

Consumer = Callable[[str, AnyDocument], object]
Decoder = Callable[[bytes], NamedDocument]

_MOST_PUBLISHERS = 64

# What routes a document to its run and what is looked at first; the analysis checks what it needs of the rest.
_NEEDED: dict[str, dict[str, type | tuple[type, ...]]] = {
    "start": {"uid": str},
    "descriptor": {"uid": str, "run_start": str},
    "event": {"descriptor": str, "data": dict},
    "event_page": {"descriptor": str, "data": dict},
    "stop": {"run_start": str},
    "resource": {"uid": str},
    "datum": {"resource": str, "datum_id": str},
    "datum_page": {"resource": str, "datum_id": list},
    "stream_resource": {"uid": str},
    "stream_datum": {"stream_resource": str, "descriptor": str},
}
_WHERE_THERE: dict[str, dict[str, type | tuple[type, ...]]] = {
    "descriptor": {"name": str, "data_keys": dict, "object_keys": dict, "configuration": dict, "hints": dict},
    "event": {"uid": str, "time": (int, float), "timestamps": dict, "filled": dict},
    "event_page": {"timestamps": dict, "filled": dict},
    "stop": {"uid": str, "num_events": (dict, type(None))},
    "resource": {"run_start": str, "resource_kwargs": dict},
    "datum": {"datum_kwargs": dict},
    "datum_page": {"datum_kwargs": dict},
    "stream_resource": {"run_start": str, "parameters": dict},
    "stream_datum": {"uid": str, "indices": dict, "seq_nums": dict},
}


class ReceivedDocuments:
    """Reads messages, hands on the documents in them, and notices which were lost on the way.

    Parameters
    ----------
    consumer : callable
        Gets name and document. What it raises is logged.
    trusted : callable, optional
        Reads a message that is not of our own publisher, and may run code doing so. Without it, such messages
        are refused.
    """

    def __init__(self, consumer: Consumer, trusted: Decoder | None = None) -> None:
        self.n_refused = 0
        self.n_lost = 0
        self._consumer = consumer
        self._trusted = trusted
        self._expected: OrderedDict[bytes, int] = OrderedDict()

    def __call__(self, message: bytes | memoryview) -> None:
        """Take one message, whatever is in it."""
        try:
            name, doc = self._read(message)
            check_form(name, doc)
        # A decoder that is trusted may raise anything, and a crafted message may ask for more memory than there is.
        except Exception as error:
            self.n_refused += 1
            if _is_logged(self.n_refused):
                reason = str(error) if isinstance(error, StreamError) else f"{type(error).__name__}: {error}"
                logger.error("a message was refused (%d so far): %s", self.n_refused, reason[:500])
            return
        try:
            self._consumer(name, doc)
        except Exception:
            logger.exception("a %s document could not be handed on; the stream goes on", name)

    def _read(self, message: bytes | memoryview) -> NamedDocument:
        if is_wire_message(message):
            received = unpack_document(message)
            self._count(received.publisher, received.sequence)
            return received.name, received.doc
        if self._trusted is None:
            raise StreamError(
                "it is not of nimco's DocumentPublisher. If it comes from bluesky's own publisher and you trust "
                "everybody who can send here with this account, say so: --trust-pickle"
            )
        return self._trusted(bytes(message))

    def _count(self, publisher: bytes, sequence: int) -> None:
        expected = self._expected.pop(publisher, sequence)
        lost = sequence - expected
        if lost > 0:
            self.n_lost += lost
            logger.warning(
                "%d documents were lost on the way (numbers %d to %d); what is missing is read from Tiled where "
                "it is known, and named in the map otherwise",
                lost,
                expected,
                sequence - 1,
            )
        # What comes again, from a broker for example, is no loss: whoever follows takes each document once.
        self._expected[publisher] = max(expected, sequence + 1)
        while len(self._expected) > _MOST_PUBLISHERS:
            self._expected.popitem(last=False)


def check_form(name: Any, doc: Any) -> None:
    """Check that a document has what every reader of it counts on.

    Raises
    ------
    StreamError
        Not a known name, not a mapping, a part that is missing or of the wrong type.
    """
    if not isinstance(name, str) or name not in DOCUMENT_NAMES:
        raise StreamError(f"{str(name)[:80]!r} is not the name of a document")
    if not isinstance(doc, Mapping):
        raise StreamError(f"a document {name!r} is a {type(doc).__name__} instead of a mapping")
    for key, expected in _NEEDED[name].items():
        if not isinstance(doc.get(key), expected):
            raise StreamError(f"a document {name!r} has {_type_of(doc, key)} as {key!r}")
    for key, expected in _WHERE_THERE.get(name, {}).items():
        if key in doc and not isinstance(doc[key], expected):
            raise StreamError(f"a document {name!r} has {_type_of(doc, key)} as {key!r}")
    if name == "event" and type(doc.get("seq_num")) is not int:
        raise StreamError(f"an event document has {_type_of(doc, 'seq_num')} as 'seq_num'")
    if name == "event_page":
        _check_page(doc)


def _check_page(doc: Mapping[str, Any]) -> None:
    """Check that the columns of an event page are equally long."""
    columns = {key: doc.get(key) for key in ("uid", "seq_num", "time")}
    columns |= dict(doc["data"]) | dict(doc.get("timestamps", {}))
    lengths = set()
    for key, column in columns.items():
        if not isinstance(column, list | np.ndarray) or (isinstance(column, np.ndarray) and not column.ndim):
            raise StreamError(f"an event_page document has a {type(column).__name__} as the column {key!r}")
        lengths.add(len(column))
    if len(lengths) > 1:
        raise StreamError("an event_page document has columns of different lengths")
    if not all(type(number) is int for number in doc["seq_num"]):
        raise StreamError("an event_page document has a seq_num that is no integer")


def _type_of(doc: Mapping[str, Any], key: str) -> str:
    return "nothing" if key not in doc else f"a {type(doc[key]).__name__}"


def _is_logged(count: int) -> bool:
    """Whether the count is 1, 10, 100, ...: a flood of messages must not fill the log."""
    return str(count).rstrip("0") == "1"
