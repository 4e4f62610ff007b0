"""Maps into Tiled while the scan runs."""

import logging
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import xarray as xr

from callbacks.documents import Closing, RestartedThread, is_outage
from callbacks.errors import DamagedSpoolError, DeliveryError, SpoolError

from ._containers import container_name, container_path
from ._kept_results import keep_on_disk, read_from_disk
from ._result_writer import ResultWriter
from ._run_log import DAMAGED, file_stem, set_aside, told_of
from ._uploads import send_in_pieces

logger = logging.getLogger("nimco.callbacks")

SUFFIX = ".map"
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0
_LINK_PAUSE_S = 0.25
_LINK_PATIENCE_S = 300.0
_CLOSE_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 2.0
_LOOK_S = 0.5
_MOST_CONFLICTS = 3
_KEPT_ERRORS = 100


class SOCPublisher(Closing):
    """Writes each result to ``maps/<raw uid>/<edge>``: created once, overwritten in place, final at the end.

    Subscribe it to a `LiveSOC`. Being called costs microseconds; the writing is done on a thread of its own
    that skips what a newer result has overtaken. While the scan runs, the signal (such as the map of the state of
    charge) and its sigma go out with every result and the others now and then; the final one writes them all. While
    Tiled does not answer, final maps are kept on disk, and delivered once it does, by this publisher or the
    next on the same spool folder.

    Parameters
    ----------
    maps_container : tiled client of a container
        Where maps are written.
    raw_container : tiled client of a ``CatalogOfBlueskyRuns``, optional
        Where the raw runs are: each gets ``nimco: {"maps": path}`` into its metadata once it is complete.
    spool_dir : Path, optional
        Folder for final maps that cannot be delivered. Without it they wait in memory only.
    """

    def __init__(
        self, maps_container: Any, *, raw_container: Any = None, spool_dir: Path | str | None = None
    ) -> None:
        send_in_pieces(maps_container)
        self._maps = maps_container
        self._raw = raw_container
        self._spool_dir = None if spool_dir is None else Path(spool_dir)
        self.errors: list[BaseException] = []
        self._said: set[str] = set()
        self._changed = threading.Condition()
        # What is to be written, newest of each path.
        self._offers: dict[str, xr.Dataset] = {}
        self._links: dict[str, tuple[str, float]] = {}
        self._in_hand: tuple[str, xr.Dataset] | None = None
        self._busy = False
        self._conflicts: Counter[str] = Counter()
        self._n_moved = 0
        self._closing = False
        self._open: dict[str, ResultWriter] = {}
        self._spooled: dict[str, Path] = {}
        self._adopt_spooled()
        self._worker = RestartedThread(self._run, "SOC publisher", self._note)

    def __call__(self, result: xr.Dataset) -> None:
        """Take note of a result."""
        with self._changed:
            self._offers[container_path(result)] = result
            self._changed.notify_all()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until what was handed over is in Tiled and linked to its raw run.

        Raises
        ------
        DeliveryError
            When that takes longer than ``timeout_s``; nothing is lost by it.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._changed:
                left_s = _LOOK_S if deadline is None else max(min(deadline - time.monotonic(), _LOOK_S), 0.0)
                if self._changed.wait_for(self._is_done, left_s):
                    return
            self._worker.ensure()
            if deadline is not None and time.monotonic() >= deadline:
                raise DeliveryError(
                    f"{self.backlog} maps or links to them are not in Tiled after {timeout_s:g} s; "
                    "they are delivered when Tiled answers"
                )

    @property
    def backlog(self) -> int:
        """Number of maps, and of links to them, that are not in Tiled yet."""
        with self._changed:
            in_hand = {} if self._in_hand is None else {self._in_hand[0]: None}
            return len(self._offers | in_hand) + len(self._links)

    @property
    def n_moved(self) -> int:
        """Number of arrays that Tiled took so far; while it grows the server is there, be it ever so slow."""
        return self._n_moved

    def _move(self) -> None:
        self._n_moved += 1

    def close(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> None:
        """Write what was handed over, then stop. What Tiled does not take stays in the spool folder."""
        with self._changed:
            if self._closing:
                return
            self._changed.wait_for(self._is_done, timeout_s)
            self._closing = True
            self._changed.notify_all()
        self._worker.join(_END_TIMEOUT_S)
        with self._changed:
            # What is on its way may never arrive.
            in_hand = {} if self._in_hand is None else dict([self._in_hand])
            left = list((in_hand | self._offers).values())
        for result in left:
            self._keep(result)
        if left:
            where = "lost" if self._spool_dir is None else f"kept in {self._spool_dir}"
            self._say(DeliveryError(f"{len(left)} map(s) could not be written to Tiled and are {where}"))

    def _is_done(self) -> bool:
        return not self._offers and not self._links and not self._busy

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._offers or self._closing, _LINK_PAUSE_S if self._links else None
                )
                if self._closing:
                    return
                offer = next(iter(self._offers.items()), None)
                if offer is not None:
                    del self._offers[offer[0]]
                self._in_hand = offer
                self._busy = True
            answered = True
            try:
                answered = self._link_back() if offer is None else self._publish(*offer)
            finally:
                with self._changed:
                    self._busy = False
                    self._in_hand = None
                    self._changed.notify_all()
            if answered:
                pause_s = _FIRST_PAUSE_S
                continue
            with self._changed:
                self._changed.wait_for(lambda: self._closing, pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _publish(self, path: str, result: xr.Dataset) -> bool:
        """Write one result; False when Tiled does not answer, and the result is on offer again."""
        final = bool(result.attrs.get("final"))
        try:
            if path not in self._open:
                self._open[path] = ResultWriter(self._maps, result, self._move)
            self._open[path].write(result)
        except BaseException as error:
            self._open.pop(path, None)
            if final:
                self._keep(result)
            if not self._may_try_again(path, error):
                self._note(error)
                return True
            self._say(DeliveryError(_reason(error)))
            with self._changed:
                self._offers.setdefault(path, result)
            return False
        self._conflicts.pop(path, None)
        if final:
            del self._open[path]
            if spooled := self._spooled.pop(path, None):
                spooled.unlink(missing_ok=True)
            if self._raw is not None:
                with self._changed:
                    self._links[result.attrs["raw_uid"]] = (path, time.monotonic() + _LINK_PATIENCE_S)
        return True

    def _may_try_again(self, path: str, error: BaseException) -> bool:
        """Return whether a map that was not taken is offered again."""
        if is_outage(error):
            return True
        # A node that is there already (409): a request was repeated whose answer had been lost.
        if _status(error) != httpx.codes.CONFLICT or self._conflicts[path] >= _MOST_CONFLICTS:
            return False
        self._conflicts[path] += 1
        return True

    def _link_back(self) -> bool:
        """Write the path of the maps into the metadata of each raw run that is complete by now."""
        for uid, (path, deadline) in list(self._links.items()):
            try:
                done = uid in self._raw and "stop" in self._raw[uid].metadata
                if done:
                    self._raw[uid].update_metadata({"nimco": {"maps": path}}, drop_revision=True)
            except BaseException as error:
                if is_outage(error):
                    return False
                self._note(error)
                done = True
            if not done and time.monotonic() > deadline:
                self._say(
                    DeliveryError(f"run {uid[:8]} did not come to Tiled, so it does not name its maps {path}")
                )
                done = True
            if done:
                with self._changed:
                    self._links.pop(uid, None)
        return True

    def _keep(self, result: xr.Dataset) -> None:
        """Keep a result on disk until it is delivered."""
        where = container_path(result)
        if self._spool_dir is None or where in self._spooled:
            return
        uid, name = str(result.attrs["raw_uid"]), container_name(result)
        path = self._spool_dir / f"{file_stem(f'{uid}-{name}')}{SUFFIX}"
        try:
            keep_on_disk(result, path)
        except SpoolError as error:
            self._say(error)
        except Exception as error:
            self._note(error)  # a result that holds what cannot be kept
        else:
            self._spooled[where] = path

    def _adopt_spooled(self) -> None:
        """Take over maps that an earlier publisher could not deliver."""
        if self._spool_dir is None:
            return
        for path in sorted(self._spool_dir.glob(f"*{SUFFIX}")):
            try:
                result = read_from_disk(path)
            except DamagedSpoolError as error:
                self._say(DamagedSpoolError(f"{error}; {told_of(set_aside(path, DAMAGED))}"))
                continue
            except SpoolError as error:
                self._say(error)
                continue
            if result is not None:
                self._spooled[container_path(result)] = path
                self._offers[container_path(result)] = result

    def _say(self, error: Exception) -> None:
        """Keep an error and say it once."""
        self.errors.append(error)
        del self.errors[:-_KEPT_ERRORS]
        if str(error) not in self._said:
            self._said.add(str(error))
            logger.error("%s", error)

    def _note(self, error: BaseException) -> None:
        self.errors.append(error)
        del self.errors[:-_KEPT_ERRORS]
        logger.error("SOC publisher: %s: %s", type(error).__name__, error, exc_info=error)


def _status(error: BaseException) -> int | None:
    """Return the status of an answer of the server; None where the error is not one."""
    return error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None


def _reason(error: BaseException) -> str:
    status = _status(error)
    trouble = (
        f"does not answer ({type(error).__name__})" if status is None else f"is in trouble (status {status})"
    )
    return f"Tiled {trouble}; the analysis goes on and its maps are delivered when Tiled takes them"
