"""Documents sent to other processes, over 0MQ or Kafka, from a thread of its own."""

import logging
import uuid
from abc import ABC, abstractmethod
from typing import Any
from urllib.parse import urlsplit

from callbacks.errors import StreamError
from scan_contract import optional_import

from ._document_types import AnyDocument
from ._error_log import FirstTime
from ._wire_format import MAX_MESSAGE_BYTES, pack_document
from ._worker import DocumentWorker

logger = logging.getLogger("nimco.callbacks")

_LINGER_S = 10.0
_KAFKA_QUEUE_KB = 1024 * 1024


class DocumentPublisher(DocumentWorker):
    """Publishes documents to a 0MQ proxy or to Kafka, in messages that hold data only.

    Subscribe it to a RunEngine. Messages are numbered, so that receivers notice what was lost on the way; they
    can be read without trusting the sender, which pickles of the field's own publishers cannot.

    Parameters
    ----------
    address : str
        ``HOST:PORT`` of the incoming side of a 0MQ proxy, or ``kafka://HOST:PORT[,HOST:PORT]/TOPIC``.
    kafka_config : dict, optional
        Further settings of the Kafka producer, for example of authentication.

    Raises
    ------
    StreamError
        An address that is neither.
    MissingPackageError
        The package for 0MQ or for Kafka is not installed.
    """

    def __init__(self, address: str, *, kafka_config: dict[str, Any] | None = None) -> None:
        self._sender = _sender(address, kafka_config or {})
        self._publisher = uuid.uuid4().bytes
        self._sequence = 0
        super().__init__("document publisher")

    def close(self) -> None:
        """Publish what was received, then stop."""
        super().close()
        self._sender.close()

    def _handle(self, name: str, doc: AnyDocument) -> None:
        sequence = self._sequence
        self._sequence += 1  # also when it cannot be sent: receivers then notice that one is missing
        self._sender.send(pack_document(name, doc, self._publisher, sequence))


class _Sender(ABC):
    @abstractmethod
    def send(self, message: bytearray) -> None:
        """Send one message; it must not be changed afterwards."""

    @abstractmethod
    def close(self) -> None:
        """Send what waits, for a while, and end."""


class _ZMQSender(_Sender):
    def __init__(self, address: str) -> None:
        with optional_import("network", "documents over 0MQ"):
            import zmq
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, round(_LINGER_S * 1000))
        self._socket.connect(address)

    def send(self, message: bytearray) -> None:
        self._socket.send(message, copy=False)

    def close(self) -> None:
        self._socket.close()
        self._context.term()


class _KafkaSender(_Sender):
    def __init__(self, servers: str, topic: str, config: dict[str, Any]) -> None:
        with optional_import("kafka", "documents over Kafka"):
            from confluent_kafka import Producer
        self._topic = topic
        self._is_new = FirstTime()
        self._takes_none = False
        self._producer = Producer(
            {
                "message.max.bytes": MAX_MESSAGE_BYTES,
                "queue.buffering.max.kbytes": _KAFKA_QUEUE_KB,
                "enable.idempotence": True,
                **config,
                "bootstrap.servers": servers,
            }
        )

    def send(self, message: bytearray) -> None:
        try:
            self._produce(message)
        except BufferError:
            # The broker is slower than the scan: wait once, not once per document while it takes none.
            if self._takes_none:
                raise StreamError("Kafka takes no documents; one was not sent") from None
            self._takes_none = bool(self._producer.flush(_LINGER_S))
            self.send(message)
        else:
            self._takes_none = False

    def _produce(self, message: bytearray) -> None:
        # One key: one partition, so that documents stay in order.
        self._producer.produce(self._topic, bytes(message), key=b"nimco", on_delivery=self._delivered)
        self._producer.poll(0)

    def close(self) -> None:
        left = self._producer.flush(_LINGER_S)
        if left:
            logger.error("%d documents were not taken by Kafka within %g s", left, _LINGER_S)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None and self._is_new(str(error)):
            logger.error("Kafka did not take a document: %s", error)


def _sender(address: str, kafka_config: dict[str, Any]) -> _Sender:
    parts = urlsplit(address if "://" in address else f"zmq://{address}")
    if parts.scheme in ("zmq", "tcp") and parts.path in ("", "/"):
        host, _, port = parts.netloc.rpartition(":")
        if host and port.isdigit():
            return _ZMQSender(f"tcp://{host}:{port}")
    topic = parts.path.strip("/")
    if parts.scheme == "kafka" and parts.netloc and topic and "," not in topic:
        return _KafkaSender(parts.netloc, topic, kafka_config)
    raise StreamError(
        f"{address!r} is not where documents can be sent; give 127.0.0.1:5577 or kafka://broker:9092/topic"
    )
