"""Raw runs into Tiled, off the RunEngine's thread, whatever happens to the server meanwhile."""

import logging
import tempfile
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

from bluesky_tiled_plugins import TiledWriter

from callbacks._closing import Closing
from callbacks._errors import DeliveryError
from callbacks._outage import is_outage
from callbacks._polling import Poller
from callbacks._routing import RunRouting
from callbacks._run_log import SUFFIX, RunLog, logs_left_behind
from callbacks._served_frames import ServedFrames
from callbacks._spool import document_nbytes
from callbacks._stored_assets import FrameAssets
from callbacks._uploads import send_in_pieces

logger = logging.getLogger("nimco.callbacks")

_LONGEST_PAUSE_S = 10.0
_FIRST_PAUSE_S = 0.25
_MEMORY_BYTES = 512 * 2**20
_CLOSE_TIMEOUT_S = 60.0
_MOST_REFUSALS = 3
_MOST_EVENTS = 8
_BATCH_BYTES = 4 * 2**20


class RawRunWriter(Closing):
    """The field's `TiledWriter` on a thread of its own, behind a log on disk.

    Subscribe it to a RunEngine. Being called costs microseconds and never raises. Each document is first
    appended to a log of its run in the spool folder and then delivered; the log goes when the whole run is
    in Tiled. While Tiled does not answer, the log grows; when it answers again, a run that was cut in the
    middle is written anew from its log, so that every document is there once and in order. A process that
    was killed leaves its logs, and the next writer on the same spool folder delivers them.

    Parameters
    ----------
    raw_container : tiled client of a ``CatalogOfBlueskyRuns``
        Where runs are written.
    spool_dir : Path, optional
        Where logs are kept. By default a new temporary folder, which only protects from an outage of the
        server.
    """

    def __init__(self, raw_container: Any, *, spool_dir: Path | str | None = None) -> None:
        send_in_pieces(raw_container)
        self._container = raw_container
        self._spool_dir = Path(tempfile.mkdtemp(prefix="nimco-spool-") if spool_dir is None else spool_dir)
        self._temporary = spool_dir is None
        self.errors: list[Exception] = []
        self._said: set[str] = set()
        self._inbox: deque[tuple[str, Any] | None] = deque()
        self._changed = threading.Condition()
        self._runs: dict[str, _Delivery] = {}
        self._routing = RunRouting()
        self._received = self._logged = 0
        self._closing = False
        self._wake = threading.Event()
        self._spool_dir.mkdir(parents=True, exist_ok=True)
        for log in logs_left_behind(self._spool_dir):
            self._adopt(log)
        self._intake = threading.Thread(target=self._take_in, name="raw run log", daemon=True)
        self._outlet = threading.Thread(target=self._deliver_all, name="raw run writer", daemon=True)
        self._intake.start()
        self._outlet.start()

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take note of one document."""
        self._received += 1
        self._inbox.append((name, doc))

    @property
    def backlog(self) -> int:
        """Number of documents that are not in Tiled yet."""
        with self._changed:
            return self._received - self._logged + sum(run.n_pending for run in self._runs.values())

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until everything received is in Tiled.

        Raises
        ------
        DeliveryError
            When that takes longer than ``timeout_s``; nothing is lost by it.
        """
        with self._changed:
            if not self._changed.wait_for(self._is_done, timeout_s):
                waiting = sum(run.n_pending for run in self._runs.values())
                raise DeliveryError(
                    f"{waiting} documents are not in Tiled after {timeout_s:g} s; they are kept in "
                    f"{self._spool_dir}"
                    " and delivered when Tiled answers"
                )

    def close(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> None:
        """Deliver what has been received, then stop. What Tiled does not take stays in the spool folder."""
        if self._closing:
            return
        self._inbox.append(None)
        self._intake.join()
        with self._changed:
            self._changed.wait_for(self._is_done, timeout_s)
            self._closing = True
        self._wake.set()
        self._outlet.join(timeout_s)
        with self._changed:
            left = [run for run in self._runs.values() if run.n_pending]
            for run in left:
                run.log.close(delete=False)
        if left:
            self._say(
                DeliveryError(
                    f"{len(left)} run(s) could not be written to Tiled; their documents are kept in "
                    f"{self._spool_dir}"
                )
            )
        elif self._temporary and not any(self._spool_dir.iterdir()):
            self._spool_dir.rmdir()

    def _is_done(self) -> bool:
        return self._logged == self._received and not any(
            run.n_pending and not run.given_up for run in self._runs.values()
        )

    # Intake: from the RunEngine to the log.

    def _take_in(self) -> None:
        poller = Poller()
        while poller.wait_for(lambda: self._inbox) and (item := self._inbox.popleft()) is not None:
            name, doc = item
            try:
                self._log(str(name), doc)
            except Exception as error:
                self._note(error)
            with self._changed:
                self._logged += 1
                self._changed.notify_all()
            self._wake.set()

    def _log(self, name: str, doc: dict[str, Any]) -> None:
        uid = self._routing.run_of(name, doc)
        if uid is None:
            return
        if name == "start" and uid not in self._runs:
            run = _Delivery(uid, RunLog(self._spool_dir / f"{uid}{SUFFIX}"))
            with self._changed:
                self._runs[uid] = run
        run_or_none = self._runs.get(uid)
        if run_or_none is None or not run_or_none.is_new(name, doc):
            return
        with self._changed:
            in_memory = sum(run.log.memory_nbytes for run in self._runs.values())
            problem = run_or_none.log.append(name, doc, keep=in_memory < _MEMORY_BYTES)
        if problem is not None:
            self._say(
                DeliveryError(
                    f"{problem}; documents are kept in memory until Tiled has them, make room on the disk"
                )
            )
        if name == "stop":
            self._routing.forget(uid)

    def _adopt(self, log: RunLog) -> None:
        """Take over the log of a process that ended before all was delivered."""
        if not len(log):
            log.close(delete=True)
            return
        name, start = log.read(0)
        if name != "start":
            log.close(delete=False)
            return
        run = _Delivery(start["uid"], log)
        for kind, doc in log:
            run.is_new(kind, doc)
        last_name, last = log.read(len(log) - 1)
        if last_name != "stop":
            stop = {
                "uid": f"{run.uid}-end",
                "run_start": run.uid,
                "time": float(last.get("time") or start["time"]),
                "exit_status": "fail",
                "reason": "the process that recorded the run ended before its stop document",
                "num_events": dict(run.n_events),
            }
            log.append("stop", stop, keep=True)
        self._runs[run.uid] = run

    # Outlet: from the log to Tiled.

    def _deliver_all(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            self._wake.clear()
            with self._changed:
                runs = [run for run in self._runs.values() if run.can_be_delivered]
                if self._closing:
                    return
            answered = True
            for run in runs:
                try:
                    self._deliver(run)
                except Exception as error:
                    if not is_outage(error):
                        self._give_up(run, error)
                        continue
                    run.begin_anew()
                    answered = False
                    self._say(
                        DeliveryError(
                            f"Tiled does not answer ({type(error).__name__}); the scan goes on, its "
                            "documents are kept"
                            f" in {self._spool_dir} and delivered when Tiled answers"
                        )
                    )
                    break
            if answered:
                pause_s = _FIRST_PAUSE_S
                self._wake.wait()
            else:
                # Not woken by further documents: they cannot be delivered either.
                self._pause(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._changed:
            self._changed.wait_for(lambda: self._closing, max(deadline - time.monotonic(), 0))

    def _deliver(self, run: "_Delivery") -> None:
        """Deliver what the log of a run holds beyond what is delivered."""
        if run.writer is None:
            if run.needs_clearing and not self._make_room(run):
                self._finish(run)
                return
            run.writer = TiledWriter(self._container, normalizer=FrameAssets, batch_size=run.batch_size)
        while run.n_pending and not self._closing:
            name, doc = run.log.read(run.n_delivered)
            run.writer(name, doc)
            if name == "start":
                self._check_opened(run)
                run.served = ServedFrames(self._container, run.uid)
            if name == "descriptor":
                run.served.expect(doc)
            if problem := run.served.problem(final=name == "stop"):
                self._say(DeliveryError(problem))
            if name == "stop":
                self._check(run)
                self._finish(run)
                return
            with self._changed:
                run.log.let_go(run.n_delivered)
                run.n_delivered += 1
                self._changed.notify_all()

    def _check_opened(self, run: "_Delivery") -> None:
        """See that the run is there: event_model turns what goes wrong at a start document into a warning."""
        if run.uid in self._container:
            return
        run.refusals += 1
        if run.refusals > _MOST_REFUSALS:
            raise DeliveryError(f"the container of run {run.uid[:8]} cannot be created in Tiled")
        raise _LostAnswerError("the run was not opened")

    def _check(self, run: "_Delivery") -> None:
        """See that every event is in Tiled once: a request repeated after a lost answer adds its rows twice."""
        stored = self._container[run.uid]
        for stream, expected in run.n_events.items():
            node = stored[stream].base
            if "internal" not in node:
                continue
            found = len(node["internal"].read(["seq_num"]))
            if found != expected:
                if run.checked:
                    raise DeliveryError(
                        f"run {run.uid[:8]} has {found} events in stream {stream!r} of Tiled instead of "
                        f"{expected}"
                    )
                run.checked = True
                run.begin_anew()
                self._container.delete_contents(run.uid, recursive=True, external_only=False)
                raise _LostAnswerError(f"{found} events in stream {stream!r} instead of {expected}")

    def _make_room(self, run: "_Delivery") -> bool:
        """Remove what an earlier attempt left of a run; False when the run is in Tiled already, complete."""
        if run.uid not in self._container:
            return True
        stored = self._container[run.uid]
        if "stop" in stored.metadata:
            return False
        self._container.delete_contents(run.uid, recursive=True, external_only=False)
        return True

    def _finish(self, run: "_Delivery") -> None:
        with self._changed:
            run.n_delivered = len(run.log)
            run.log.close(delete=True)
            del self._runs[run.uid]
            self._changed.notify_all()

    def _give_up(self, run: "_Delivery", error: Exception) -> None:
        with self._changed:
            run.given_up = True
            self._changed.notify_all()
        self._note(error)
        self._say(
            DeliveryError(
                f"Tiled refuses run {run.uid[:8]} ({type(error).__name__}: {error}); its documents are "
                "kept in"
                f" {run.log.path}"
            )
        )

    def _say(self, error: Exception) -> None:
        """Keep an error and say it once."""
        self.errors.append(error)
        if str(error) not in self._said:
            self._said.add(str(error))
            logger.error("%s", error)

    def _note(self, error: Exception) -> None:
        self.errors.append(error)
        logger.error("raw run writer: %s: %s", type(error).__name__, error, exc_info=error)


class _Delivery:
    """A run on its way to Tiled."""

    def __init__(self, uid: str, log: RunLog) -> None:
        self.uid = uid
        self.log = log
        self.n_delivered = 0
        self.writer: TiledWriter | None = None
        self.served: ServedFrames
        # What an earlier process or attempt wrote of the run has to go before it is written again.
        self.needs_clearing = True
        self.given_up = False
        self.batch_size = 0
        self._most_events = _MOST_EVENTS
        self.checked = False
        self.refusals = 0
        self.n_events: Counter[str] = Counter()
        self._streams: dict[str, str] = {}
        self._seen: set[tuple[str, str]] = set()

    @property
    def can_be_delivered(self) -> bool:
        """Whether there is something to deliver, and how many events at a time is known."""
        return bool(self.n_pending and not self.given_up and self.batch_size)

    @property
    def n_pending(self) -> int:
        return len(self.log) - self.n_delivered

    def is_new(self, name: str, doc: dict[str, Any]) -> bool:
        """Note a document and return whether it comes for the first time."""
        identity = (name, str(doc.get("uid", doc.get("datum_id"))))
        if identity in self._seen:
            return False
        self._seen.add(identity)
        if name == "start":
            # A stream is written when a batch of it is full. Darks that waited until the end of the scan for their
            # batch would keep whoever follows the stored run from making a map before that.
            n_darks = int((doc.get("xanes") or {}).get("n_darks") or _MOST_EVENTS)
            self._most_events = min(_MOST_EVENTS, n_darks)
        if name == "descriptor":
            self._streams[doc["uid"]] = doc["name"]
        if name in ("event", "event_page", "stop") and not self.batch_size:
            # Large frames go one by one: putting a batch of them together keeps other threads from running.
            self.batch_size = max(1, min(self._most_events, _BATCH_BYTES // document_nbytes(doc)))
        if name == "event":
            self.n_events[self._streams[doc["descriptor"]]] += 1
        elif name == "event_page":
            self.n_events[self._streams[doc["descriptor"]]] += len(doc["seq_num"])
        return True

    def begin_anew(self) -> None:
        """Deliver from the first document again: what the server took of the last one is not known."""
        self.writer = None
        self.n_delivered = 0


class _LostAnswerError(ConnectionError):
    """A run that has to be written anew because an answer of the server was lost."""
