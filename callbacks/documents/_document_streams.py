"""Documents from another process: 0MQ, or Kafka where a facility runs it."""

import logging
import threading
import uuid
from abc import ABC, abstractmethod
from typing import Any
from urllib.parse import urlsplit

from callbacks.errors import StreamError
from scan_contract import optional_import

from ._received_documents import Consumer, ReceivedDocuments
from ._trusted_messages import read_kafka_msgpack, read_zmq_pickle
from ._wire_format import MAX_MESSAGE_BYTES

logger = logging.getLogger("nimco.callbacks")

_LOOPBACK = "127.0.0.1"
_PAUSE_S = 0.05


class DocumentStream(ABC):
    """Documents as they are published elsewhere."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    @abstractmethod
    def run(self, consumer: Consumer) -> None:
        """Hand every document to the consumer until `stop` is called (from another thread) or Ctrl-C."""

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping.set()


def open_stream(address: str, *, trust_pickle: bool = False) -> DocumentStream:
    """Open a stream of documents by its address.

    Parameters
    ----------
    address : str
        ``zmq://HOST:PORT`` of the outgoing side of a 0MQ proxy (without host: this machine), or
        ``kafka://HOST:PORT[,HOST:PORT]/TOPIC[,TOPIC]``.
    trust_pickle : bool
        Take the messages of bluesky's own publishers too, which hold pickles: everybody who can send to this
        stream can then run any program with the rights of this process.

    Raises
    ------
    StreamError
        An address that is neither, or Kafka without its package.
    """
    parts = urlsplit(address)
    if parts.scheme in ("zmq", "tcp") and parts.path in ("", "/"):
        host, _, port = parts.netloc.rpartition(":")
        if port.isdigit():
            return ZMQStream(f"tcp://{host or _LOOPBACK}:{port}", trust_pickle=trust_pickle)
    if parts.scheme == "kafka" and parts.netloc and parts.path.strip("/"):
        servers, topics = parts.netloc.split(","), parts.path.strip("/").split(",")
        return KafkaStream(servers, topics, trust_pickle=trust_pickle)
    raise StreamError(
        f"{address!r} is not a stream of documents; give zmq://127.0.0.1:5578 or kafka://broker:9092/topic"
    )


class ZMQStream(DocumentStream):
    """Documents from a 0MQ proxy.

    Parameters
    ----------
    address : str
        ``tcp://HOST:PORT``.
    trust_pickle : bool
        Take pickles of bluesky's own publisher too; see `open_stream`.

    Raises
    ------
    MissingPackageError
        The package for 0MQ is not installed.
    """

    def __init__(self, address: str, *, trust_pickle: bool = False) -> None:
        super().__init__()
        with optional_import("network", "documents over 0MQ"):
            import zmq
        self._zmq = zmq
        self.address = address
        self._trusted = read_zmq_pickle if trust_pickle else None

    def run(self, consumer: Consumer) -> None:
        """Hand every document to the consumer until `stop` is called (from another thread) or Ctrl-C."""
        zmq = self._zmq
        received = ReceivedDocuments(consumer, self._trusted)
        with zmq.Context() as context, context.socket(zmq.SUB) as subscribed:
            subscribed.setsockopt(zmq.LINGER, 0)
            # What is larger is never received: the connection is closed, and made anew by itself.
            subscribed.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
            subscribed.setsockopt(zmq.SUBSCRIBE, b"")
            subscribed.connect(self.address)
            while not self._stopping.is_set():
                if not subscribed.poll(round(_PAUSE_S * 1000)):
                    continue
                first = subscribed.recv(copy=False)
                parts = 1
                while subscribed.getsockopt(zmq.RCVMORE):
                    subscribed.recv(copy=False)
                    parts += 1
                received(first.buffer if parts == 1 else b"")


class KafkaStream(DocumentStream):
    """Documents from Kafka, from now on; what came before is in Tiled.

    Parameters
    ----------
    servers : list of str
        ``HOST:PORT`` of brokers.
    topics : list of str
        Topics of bluesky documents.
    consumer_config : dict, optional
        Further settings of the consumer, for example of authentication.
    trust_pickle : bool
        Take messages of ``bluesky_kafka.Publisher`` too; see `open_stream`.

    Raises
    ------
    MissingPackageError
        The package for Kafka is not installed.
    """

    def __init__(
        self,
        servers: list[str],
        topics: list[str],
        consumer_config: dict[str, Any] | None = None,
        *,
        trust_pickle: bool = False,
    ) -> None:
        super().__init__()
        with optional_import("kafka", "documents over Kafka"):
            from confluent_kafka import Consumer as KafkaConsumer
        self._trusted = read_kafka_msgpack if trust_pickle else None
        self._topics = topics
        self._kafka = KafkaConsumer(
            {
                "auto.offset.reset": "latest",
                **(consumer_config or {}),
                "bootstrap.servers": ",".join(servers),
                # A group of its own: every analysis gets every document.
                "group.id": f"nimco-{uuid.uuid4()}",
                "enable.auto.commit": False,
            }
        )

    def run(self, consumer: Consumer) -> None:
        """Hand every document to the consumer until `stop` is called (from another thread) or Ctrl-C."""
        received = ReceivedDocuments(consumer, self._trusted)
        said: set[str] = set()
        self._kafka.subscribe(self._topics)
        try:
            while not self._stopping.is_set():
                message = self._kafka.poll(_PAUSE_S)
                if message is None:
                    continue
                if message.error() is not None:
                    text = str(message.error())
                    if text not in said:
                        said.add(text)
                        logger.error("Kafka: %s; listening goes on", text)
                    continue
                received(message.value() or b"")
        finally:
            self._kafka.close()
