"""Following the maps of a scan from another process, as they are published."""

import logging
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks.errors import ReadingError
from callbacks.results import CONTENTS, WRITTEN_BY

from ._reading import maps_of_run

logger = logging.getLogger("nimco.callbacks")

_LARGEST_MESSAGE = 2**29
_POLL_S = 0.2
_LOOK_S = 2.0


@dataclass(frozen=True)
class FollowedMap:
    """One state of a map.

    Attributes
    ----------
    values : ndarray, (rows, cols)
        The map.
    sequence : int
        Number of the state as the server counts them; 0 for what was stored when the following began.
    received_s : float
        When it arrived (seconds since the epoch).
    """

    values: npt.NDArray[Any] = field(repr=False)
    sequence: int
    received_s: float


def follow_soc(
    client: Any,
    uid: str,
    edge: str | None = None,
    *,
    array: str | None = None,
    timeout_s: float = 60.0,
    until: threading.Event | None = None,
) -> Iterator[FollowedMap]:
    """Yield the map of a run as it is now, then each newer state, until the final one.

    The server pushes the states; one that is overtaken by a newer one while the caller is busy is skipped.

    Parameters
    ----------
    client : tiled client
        The root of the server, or its container ``maps``.
    uid : str
        Uid of the raw run, or its beginning. It may not have begun yet.
    edge : str, optional
        Which edge; may be left out where the run has maps of only one.
    array : str, optional
        Which map: ``soc``, ``soc_sigma``, ``edge_energy_ev``, ... By default the signal of the result: the state of
        charge, or the edge energy where there are no references.
    timeout_s : float
        How long to wait for the first map of the run.
    until : threading.Event, optional
        Ends the following, within two seconds, once another thread sets it.

    Yields
    ------
    FollowedMap
        The last one is the final map, unless the following was ended.

    Raises
    ------
    ReadingError
        There is no such map within the time allowed.
    """
    ended = until or threading.Event()
    while not ended.is_set():
        node, name = _wait_for_map(client, uid, edge, array, timeout_s, ended)
        if node is None or (yield from _states(node, name, ended)):
            return


def _states(node: Any, array: str, ended: threading.Event) -> Generator[FollowedMap, None, bool]:
    """Yield the states of a map; return False where another analysis has taken the place."""
    owner = node.metadata.get(WRITTEN_BY)
    inbox = _Inbox()
    subscription = node[array].subscribe()
    # Held strongly here: the subscription itself keeps only weak references.
    subscription.new_data.add_callback(inbox.put)
    subscription.stream_closed.add_callback(inbox.end)
    receiver = threading.Thread(target=inbox.receive, args=(subscription,), name="map follower", daemon=True)
    receiver.start()
    try:
        about = node.refresh().metadata
        yield FollowedMap(np.asarray(node[array].read()), 0, time.time())
        while not about["final"] and not ended.is_set():
            if (followed := inbox.get(_LOOK_S)) is not None:
                yield followed
                continue
            # Nothing was pushed: the run is over or slow, or the server cannot push.
            before, about = about, node.refresh().metadata
            if about.get(WRITTEN_BY) != owner:
                return False
            if about["final"] or (inbox.broken and about["n_frames"] != before["n_frames"]):
                yield FollowedMap(np.asarray(node[array].read()), 0, time.time())
        return True
    except KeyError:
        if node.refresh().metadata.get(WRITTEN_BY) == owner:
            raise
        return False
    finally:
        subscription.disconnect(wait=False)


class _Inbox:
    """The newest message of a subscription."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._newest: FollowedMap | None = None
        self._ended = False
        self.broken = False

    def receive(self, subscription: Any) -> None:
        """Receive until the stream ends (thread)."""
        try:
            subscription.start(max_size=_LARGEST_MESSAGE)
        except Exception as error:
            self.broken = True
            logger.warning("the server does not push maps (%s); looking for them now and then instead", error)

    def put(self, message: Any) -> None:
        try:
            followed = FollowedMap(np.asarray(message.data()), int(message.sequence), time.time())
        except Exception:
            logger.exception("a map that was pushed by Tiled cannot be read; waiting for the next")
            return
        with self._changed:
            self._newest = followed
            self._changed.notify_all()

    def end(self, _: Any) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def get(self, timeout_s: float) -> FollowedMap | None:
        """Return the newest map that has not been returned; None when none comes or the stream is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended, timeout_s)
            followed, self._newest = self._newest, None
            self._ended = self._ended and followed is not None
            return followed


def _wait_for_map(
    client: Any, uid: str, edge: str | None, array: str | None, timeout_s: float, ended: threading.Event
) -> tuple[Any, str]:
    """Return the container of a map and the name of the map; no container where the following is ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            node = maps_of_run(client, uid, edge)
            wanted = array or str(node.metadata.get("signal", "soc"))
            if wanted in node:
                return node, wanted
            _refuse_unknown(node.metadata, wanted)
            problem = f"run {uid} has no map {wanted!r} yet"
        except _UnknownMapError:
            raise
        except ReadingError as error:
            problem = str(error)
        if time.monotonic() > deadline:
            raise ReadingError(problem)
        if ended.wait(_POLL_S):
            return None, ""


def _refuse_unknown(metadata: Any, wanted: str) -> None:
    known = [about["name"] for about in metadata.get(CONTENTS, {}).get("variables", ())]
    if known and wanted not in known:
        raise _UnknownMapError(f"there is no map {wanted!r}; there are {', '.join(known)}")


class _UnknownMapError(ReadingError):
    """A map that the result of this run never has."""
