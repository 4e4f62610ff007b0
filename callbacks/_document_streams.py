"""Documents from another process: 0MQ, or Kafka where a facility runs it."""

import contextlib
import io
import logging
import pickle
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from bluesky.callbacks.zmq import Publisher, RemoteDispatcher

from callbacks._errors import StreamError
from callbacks._worker import DocumentWorker

logger = logging.getLogger("nimco.callbacks")

Consumer = Callable[[str, dict[str, Any]], object]

_LOOPBACK = "127.0.0.1"
_KAFKA_PAUSE_S = 0.05


class DocumentStream(ABC):
    """Documents as they are published elsewhere."""

    @abstractmethod
    def run(self, consumer: Consumer) -> None:
        """Hand every document to the consumer until `stop` is called (from another thread) or Ctrl-C."""

    @abstractmethod
    def stop(self) -> None:
        """Make `run` return."""


def open_stream(address: str) -> DocumentStream:
    """Open a stream of documents by its address.

    Parameters
    ----------
    address : str
        ``zmq://HOST:PORT`` of the outgoing side of a 0MQ proxy (without host: this machine), or
        ``kafka://HOST:PORT[,HOST:PORT]/TOPIC[,TOPIC]``.

    Raises
    ------
    StreamError
        An address that is neither, or Kafka without its package.
    """
    parts = urlsplit(address)
    if parts.scheme in ("zmq", "tcp") and parts.path in ("", "/"):
        host, _, port = parts.netloc.rpartition(":")
        if port.isdigit():
            return ZMQStream(f"tcp://{host or _LOOPBACK}:{port}")
    if parts.scheme == "kafka" and parts.netloc and parts.path.strip("/"):
        return KafkaStream(parts.netloc.split(","), parts.path.strip("/").split(","))
    raise StreamError(
        f"{address!r} is not a stream of documents; give zmq://127.0.0.1:5578 or kafka://broker:9092/topic"
    )


class ZMQStream(DocumentStream):
    """Documents from a 0MQ proxy.

    The field's publisher pickles documents. What is not plain data or a NumPy array is refused here, so
    that who can reach the proxy cannot run code in this process.

    Parameters
    ----------
    address : str
        ``tcp://HOST:PORT``.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._dispatcher = RemoteDispatcher(address, deserializer=load_plain)

    def run(self, consumer: Consumer) -> None:
        """Hand every document to the consumer until `stop` is called (from another thread) or Ctrl-C."""
        self._dispatcher.subscribe(consumer)
        # The loop is stopped before its task ends: that is how it is told to.
        with contextlib.suppress(RuntimeError):
            self._dispatcher.start()

    def stop(self) -> None:
        """Make `run` return."""
        self._dispatcher.loop.call_soon_threadsafe(self._dispatcher.loop.stop)


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

    Raises
    ------
    StreamError
        The package bluesky-kafka is not installed.
    """

    def __init__(
        self, servers: list[str], topics: list[str], consumer_config: dict[str, Any] | None = None
    ) -> None:
        try:
            from bluesky_kafka import (
                RemoteDispatcher as KafkaDispatcher,
            )  # heavy, and only some facilities have it
        except ImportError as error:
            raise StreamError(
                "documents from Kafka need the package bluesky-kafka, which is not installed here; "
                "run: pip install 'nimco[kafka]'"
            ) from error
        self._stopping = threading.Event()
        self._dispatcher = KafkaDispatcher(
            topics=topics,
            bootstrap_servers=",".join(servers),
            # A group of its own: every analysis gets every document.
            group_id=f"nimco-{uuid.uuid4()}",
            consumer_config={"auto.offset.reset": "latest", **(consumer_config or {})},
            polling_duration=_KAFKA_PAUSE_S,
        )

    def run(self, consumer: Consumer) -> None:
        """Hand every document to the consumer until `stop` is called (from another thread) or Ctrl-C."""
        self._dispatcher.subscribe(consumer)
        self._dispatcher.start(continue_polling=lambda: not self._stopping.is_set())

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping.set()


class DocumentPublisher(DocumentWorker):
    """Publishes documents to a 0MQ proxy from a thread of its own.

    Subscribe it to a RunEngine. The field's own publisher copies and pickles every frame on the RunEngine's
    thread.

    Parameters
    ----------
    address : str
        ``HOST:PORT`` of the incoming side of a 0MQ proxy.
    """

    def __init__(self, address: str) -> None:
        self._publisher = Publisher(address.removeprefix("zmq://").removeprefix("tcp://"))
        super().__init__("document publisher")

    def close(self) -> None:
        """Publish what was received, then stop."""
        super().close()
        self._publisher.close()

    def _handle(self, name: str, doc: dict[str, Any]) -> None:
        self._publisher(name, doc)


def load_plain(data: bytes) -> Any:
    """Unpickle plain data and NumPy arrays.

    Raises
    ------
    StreamError
        The data hold anything else.
    """
    return _PlainUnpickler(io.BytesIO(data)).load()


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins"}.get(module, module)  # as protocols before 3 call it
        package = module.replace("numpy.core", "numpy._core")
        if (package, name) not in _PLAIN:
            logger.error(
                "a document with a %s.%s was refused: it is neither plain data nor an array", module, name
            )
            raise StreamError(f"{module}.{name} is neither plain data nor an array")
        return super().find_class(module, name)


_PLAIN = frozenset(
    {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("_codecs", "encode"),
        ("collections", "OrderedDict"),
        ("collections", "defaultdict"),
        ("builtins", "complex"),
        ("builtins", "set"),
        ("builtins", "frozenset"),
        ("builtins", "bytearray"),
        ("datetime", "datetime"),
        ("uuid", "UUID"),
    }
)
