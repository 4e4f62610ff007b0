"""What is followed on a thread of its own while somebody listens, and shared by all who do."""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Any

from callbacks import CallbackError

Listener = Callable[[], object]

_LOG = logging.getLogger("nimco.monitor")
_RETRY_S = 2.0
_LINGER_S = 20.0


class Source(ABC):
    """Something in Tiled that is followed; listeners are told, on its thread, that there is something new.

    Parameters
    ----------
    name : str
        Name of the thread.

    Attributes
    ----------
    problem : str
        What is wrong now, in a sentence; empty where nothing is.
    version : int
        Counts what was new.
    """

    def __init__(self, name: str) -> None:
        self.problem = ""
        self.version = 0
        self.idle_since = time.monotonic()
        self._listeners: tuple[Listener, ...] = ()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def has_listeners(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def end(self) -> None:
        """Follow no longer; does not wait for it."""
        self._ended.set()
        self._wake.set()

    def listen(self, listener: Listener) -> None:
        """Tell somebody from now on."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def leave(self, listener: Listener) -> None:
        """Tell somebody no longer."""
        with self._lock:
            self._listeners = tuple(held for held in self._listeners if held is not listener)
            self.idle_since = time.monotonic()

    @abstractmethod
    def _follow(self) -> None:
        """Follow until there is nothing left to follow, or `_ended` is set; called again after a while."""

    def _changed(self) -> None:
        self.version += 1
        for listener in self._listeners:
            listener()

    def _said(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            self._changed()

    def _pause(self, pause_s: float) -> None:
        """Wait, until woken or ended."""
        self._wake.wait(pause_s)
        if not self._ended.is_set():
            self._wake.clear()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._follow()
            except CallbackError as error:
                self._said(str(error))
            except Exception as error:
                # Whatever a server or what is stored there does must not end the page.
                self._said(f"Tiled does not give what is asked for ({type(error).__name__}: {error:.200s})"
                           if str(error) else f"Tiled does not answer ({type(error).__name__})")  # fmt: skip
                _LOG.debug("following %s failed", self._thread.name, exc_info=True)
            self._pause(_RETRY_S)


class Sources:
    """Sources by what they follow, made when first wanted and ended some time after the last listener left.

    Parameters
    ----------
    most : int
        So many are kept; of more, those go first that nobody has listened to for longest.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[Hashable, Source] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the source of something."""
        with self._lock:
            self._end_idle()
            source = self._held.pop(key, None)
            if source is None:
                source = make()
                source.start()
            self._held[key] = source  # the last of them is the one that was wanted last
            idle = [held for held, other in self._held.items() if not other.has_listeners and held != key]
            for surplus in (*idle, *(held for held in self._held if held not in idle and held != key)):
                if len(self._held) <= self._most:
                    break
                self._held.pop(surplus).end()
            return source

    def end(self) -> None:
        """End them all."""
        with self._lock:
            for source in self._held.values():
                source.end()
            self._held.clear()

    def _end_idle(self) -> None:
        now = time.monotonic()
        for key, source in tuple(self._held.items()):
            if not source.has_listeners and now - source.idle_since > _LINGER_S:
                self._held.pop(key).end()
