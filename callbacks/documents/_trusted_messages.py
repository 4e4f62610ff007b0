"""Messages of the field's own publishers. Reading one can run code: only for senders that are trusted."""

import pickle

from callbacks.errors import StreamError
from scan_contract import optional_import

from ._document_types import NamedDocument
from ._plain_documents import plain_document


def read_zmq_pickle(message: bytes) -> NamedDocument:
    """Read a message of ``bluesky.callbacks.zmq.Publisher``: prefix, name and a pickle, with blanks between."""
    parts = message.split(b" ", 2)
    if len(parts) != 3:
        raise StreamError("it is neither of nimco's DocumentPublisher nor of bluesky's publisher")
    name = parts[1].decode()
    return name, plain_document(name, pickle.loads(parts[2]))


def read_kafka_msgpack(message: bytes) -> NamedDocument:
    """Read a message of ``bluesky_kafka.Publisher``: msgpack of name and document, with pickles in it."""
    with optional_import("kafka", "messages of bluesky-kafka"):
        import msgpack_numpy

    name, doc = msgpack_numpy.unpackb(message)
    return name, plain_document(name, doc)
