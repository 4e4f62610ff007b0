"""What is known of a run on its way from its log to Tiled, and the steps of the way."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
from tiled.client.container import Container

from callbacks.documents import AnyDocument
from callbacks.errors import DamagedSpoolError, DeliveryError, DocumentError

from ._run_log import KEPT, RunLog
from ._served_frames import ServedFrames
from ._tiled_run import TiledRun

_MOST_REFUSALS = 3
_CONFUSED = (httpx.codes.NOT_FOUND, httpx.codes.CONFLICT)
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0


class LostAnswerError(ConnectionError):
    """A run that has to be written anew because an answer of the server was lost."""


class RunDelivery:
    """A run on its way to Tiled.

    Parameters
    ----------
    uid : str
        The run.
    log : RunLog
        Its documents.
    """

    def __init__(self, uid: str, log: RunLog) -> None:
        self.uid = uid
        self.log = log
        self.has_stop = False
        self.given_up = False
        self.not_before = 0.0
        self.is_complete = False
        self._pause_s = _FIRST_PAUSE_S
        self._container: Any = None
        self._tiled: TiledRun | None = None
        self._served: ServedFrames
        self._n_delivered = self._n_stored = 0
        self._checked = False
        self._refusals = self._n_farthest = 0
        self._is_all_stored = True
        self._report: Callable[[str], object] = lambda text: None
        self._seen: set[tuple[str, str]] = set()

    @property
    def can_be_delivered(self) -> bool:
        """Whether there is something to deliver."""
        return bool(self.n_pending and not self.given_up)

    @property
    def n_pending(self) -> int:
        """Documents that are not in Tiled."""
        return max(len(self.log) - self._n_stored, 0)

    @property
    def n_undelivered(self) -> int:
        """Documents that have not been handed over."""
        return len(self.log) - self._n_delivered

    @property
    def flush_due_in_s(self) -> float | None:
        """When what was handed over has to be written; None where all is written."""
        return None if self._tiled is None else self._tiled.flush_due_in_s

    def is_new(self, name: str, doc: AnyDocument) -> bool:
        """Return whether a document comes for the first time."""
        uid = doc.get("datum_id" if name == "datum" else "uid")
        if not isinstance(uid, str):
            return True
        if (name, uid) in self._seen:
            return False
        self._seen.add((name, uid))
        return True

    def take_over(self) -> int:
        """Read what an earlier process recorded, drop what is damaged, end the run; return how much was dropped."""
        names: dict[str, str] = {}
        n_events: Counter[str] = Counter()
        index = n_dropped = 0
        last_s = 0.0
        while index < len(self.log):
            try:
                name, doc = self.log.read(index)
            except DamagedSpoolError:
                self.log.drop(index)
                n_dropped += 1
                continue
            index += 1
            self.is_new(name, doc)
            last_s = doc["time"] if isinstance(doc.get("time"), int | float) else last_s
            if name == "descriptor":
                names[str(doc.get("uid"))] = str(doc.get("name"))
            elif name == "event":
                n_events[names.get(str(doc.get("descriptor")), "primary")] += 1
            self.has_stop = self.has_stop or name == "stop"
        if not self.has_stop:
            reason = "the process that recorded the run ended before its stop document"
            stop = {
                "uid": f"{self.uid}-end",
                "run_start": self.uid,
                "time": float(last_s),
                "exit_status": "fail",
                "reason": f"{reason}; {self.log.damage}" if self.log.damage else reason,
                "num_events": dict(n_events),
            }
            self.log.append("stop", stop, keep=True)
            self.has_stop = True
        return n_dropped

    def open(self, container: Any, report: Callable[[str], object]) -> bool:
        """Prepare to write; False when the run is in Tiled already, complete."""
        if self._tiled is not None:
            return True
        _check_key(self.uid)
        # What an earlier process or attempt wrote of the run has to go before it is written again.
        stored = _stored(container, self.uid)
        if stored is not None:
            if "stop" in stored.metadata:
                return False
            container.delete_contents(self.uid, recursive=True, external_only=False)
        self._container = container
        self._report = report
        self._tiled = TiledRun(container, self.uid, self._report_changed)
        return True

    def deliver_next(self) -> tuple[bool, Exception | None]:
        """Hand over the next document; return whether all so far is written, and what is to be said.

        Raises
        ------
        DamagedSpoolError
            It is not in the log as it was written.
        """
        assert self._tiled is not None
        name, doc = self.log.read(self._n_delivered)
        problem: Exception | None = None
        try:
            is_stored = self._tiled(name, doc)
        except DocumentError as error:
            self._is_all_stored = False
            problem, is_stored = error, False
        if name == "start":
            self._served = ServedFrames(self._container, self.uid)
        elif name == "descriptor" and problem is None:
            self._served.expect(doc)
        if problem is None and (text := self._served.problem(final=name == "stop")):
            problem = DeliveryError(text)
        if name == "stop":
            self._check()
            self.is_complete = True
        self._n_delivered += 1
        self._pause_s = _FIRST_PAUSE_S
        if self._n_delivered > self._n_farthest:
            # Farther than ever: what was refused before is over.
            self._n_farthest, self._refusals = self._n_delivered, 0
        return is_stored, problem

    def drop_next(self) -> None:
        """Forget the next document, which is damaged."""
        self.log.drop(self._n_delivered)

    def flush(self) -> None:
        """Write what was handed over."""
        assert self._tiled is not None
        self._tiled.flush()

    def mark_stored(self) -> int:
        """Take what was handed over as stored and release its copies; return how many documents that are."""
        count = self._n_delivered - self._n_stored
        for index in range(self._n_stored, self._n_delivered):
            self.log.release_copy(index)
        self._n_stored = self._n_delivered
        return count

    def restart(self) -> None:
        """Deliver from the first document again: what the server took of the last one is not known."""
        self._tiled = None
        self._n_delivered = self._n_stored = 0

    def put_off(self) -> None:
        """Wait with this run, longer each time, while others are delivered."""
        self.not_before = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def close(self) -> str | None:
        """Remove the log of the run, which is in Tiled; return what is to be said of one that is kept."""
        suffix = None if self._is_all_stored else KEPT
        path = self.log.path
        self._n_delivered = len(self.log)
        aside = self.log.close(delete=True, keep_as=suffix)
        if suffix is None:
            return None
        return (
            f"some documents of run {self.uid[:8]} are not in Tiled as they came; all of them are kept in "
            f"{aside or path}"
        )

    def _report_changed(self, text: str) -> None:
        self._is_all_stored = False
        self._report(text)

    def try_again_after(self, error: Exception) -> bool:
        """Return whether a refusal may come from a request that was repeated, or is still processed."""
        answered = isinstance(error, httpx.HTTPStatusError) and error.response.status_code in _CONFUSED
        self._refusals += 1
        return (answered or isinstance(error, KeyError)) and self._refusals <= _MOST_REFUSALS

    def _check(self) -> None:
        """See that every event is in Tiled once: a request repeated after a lost answer adds its rows twice."""
        assert self._tiled is not None
        if _stored(self._container, self.uid) is None:
            raise LostAnswerError("the run is not there")
        for stream, expected in self._tiled.n_events.items():
            table = self._tiled.table(stream)
            if table is None:
                continue
            found = len(table.read(["seq_num"]))
            if found != expected:
                if self._checked:
                    raise DeliveryError(
                        f"run {self.uid[:8]} has {found} events in stream {stream!r} of Tiled instead of {expected}"
                    )
                self._checked = True
                self.restart()
                self._container.delete_contents(self.uid, recursive=True, external_only=False)
                raise LostAnswerError(f"{found} events in stream {stream!r} instead of {expected}")


def _stored(container: Any, uid: str) -> Any:
    """Return the run of exactly this uid, None where there is none: the container also finds runs by a beginning."""
    try:
        return Container.__getitem__(container, uid)
    except KeyError:
        return None


def _check_key(uid: str) -> None:
    """Refuse a uid that would be a path of something else in Tiled."""
    if not uid or uid in (".", "..") or "/" in uid or "\\" in uid or not uid.isprintable():
        raise DeliveryError(f"the uid {uid!r:.60} cannot be the name of a run in Tiled")
