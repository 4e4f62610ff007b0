"""Runs followed from another process: nothing that was missed on the way is missing in the analysis."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from event_model import Event, EventPage, RunStop, unpack_event_page

from callbacks.errors import CallbackError, DocumentError, DroppedDocumentsError
from scan_contract import is_energy_scan

from ._document_types import AnyDocument
from ._latest_wins import LatestWins
from ._reading import EventIdentity, event_identity
from ._routing import RunRouting
from ._stored_run import documents_of
from ._worker import DocumentWorker

_ANSWERED = "<answered>"
_UNDER_WAY = "<under way>"
_RETRY_S = 0.5
_QUIET_S = 5.0
_RECENT_RUNS = 10
_RECENT_S = 24 * 3600.0


class FollowedRuns(DocumentWorker):
    """Passes the documents of runs on, each once, and fills what is missing from the runs stored in Tiled.

    Documents may be dropped between processes, and a process may start, or be started again, in the middle
    of a scan. The events of a stream are numbered: a number left out, an event of a run never opened, or
    fewer events than the stop document counts tell that something is missing. It is then read from Tiled,
    where the scan's own process puts it, as soon as it is there. The stop document is passed on when the
    run is complete, or after a while when it cannot be completed, which is said.

    Parameters
    ----------
    consumer : callable
        Gets the documents, for example a `LiveSOC`.
    raw_container : tiled client of a ``CatalogOfBlueskyRuns``, optional
        Where the runs are stored. Without it, what is missing is only said.
    missing_timeout_s : float
        How long the stop document of an incomplete run waits for Tiled.
    since_s : float, optional
        Since when runs are followed, in seconds since 1970; default now. A run that ended later is analysed
        even if nothing was heard of it.
    """

    def __init__(
        self,
        consumer: Callable[[str, AnyDocument], object],
        raw_container: Any = None,
        *,
        missing_timeout_s: float = 60.0,
        since_s: float | None = None,
    ) -> None:
        self._consumer = consumer
        self._raw = raw_container
        self._missing_timeout_s = missing_timeout_s
        self._since_s = time.time() if since_s is None else since_s
        self._routing = RunRouting()
        self._runs: dict[str, _Followed] = {}
        self._ended: set[str] = set()
        self._next_look_up: dict[str, float] = {}
        self._next_asking = 0.0
        # Tiled is asked on a thread of its own: while it does not answer, documents go on.
        self._asking: LatestWins[_Question] = LatestWins(self._ask, "documents from Tiled")
        super().__init__("followed runs")

    def close(self) -> None:
        """Pass on what was received, then stop."""
        super().close()
        if self._asking.wait(0):
            self._asking.close()
        for run in tuple(self._runs.values()):
            if run.stop is not None:
                self._end(run)

    # On the worker's thread: what to pass on.

    def _handle(self, name: str, doc: AnyDocument) -> None:
        if name == _ANSWERED:
            if doc["uid"] in self._runs:
                self._runs[doc["uid"]].is_asked_for = False
            return
        if not isinstance(doc, Mapping):
            raise DocumentError(f"a document {name!r} is a {type(doc).__name__} instead of a mapping")
        uid = self._routing.run_of(name, doc)
        if uid is None and name != "start":
            uid = self._look_up_run(doc)
        if uid in self._ended:
            return
        if name == "start":
            if not is_energy_scan(doc):
                if uid is not None:
                    self._ended.add(uid)
                return
            if uid is not None:
                self._runs.setdefault(uid, _Followed(uid))
        run = self._runs.get(uid or "")
        if run is not None:
            self._pass_on(run, name, doc)

    def _idle(self) -> float | None:
        """Fill gaps, and ask for runs of which nothing comes any more; say when to be called again."""
        delay = self._ask_for_new_runs()
        for run in tuple(self._runs.values()):
            if run.stop is not None or run.missing():
                self._end_if_complete(run)
            if run.uid not in self._runs or self._raw is None:
                continue
            due_in = run.next_look - time.monotonic()
            if due_in <= 0:
                due_in = _RETRY_S if run.missing() else _QUIET_S
                run.next_look = time.monotonic() + due_in
                if not run.is_asked_for:
                    run.is_asked_for = True
                    # Also where none is missing: what was taken before this one listened may be stored only now.
                    self._asking.offer(run.uid, _Question(uid=run.uid, known=run.events))
            delay = due_in if delay is None else min(delay, due_in)
        return delay if delay is None else max(delay, 0.01)

    def _ask_for_new_runs(self) -> float | None:
        """Look for runs that nothing was heard of; say when to look again."""
        if self._raw is None:
            return None
        due_in = self._next_asking - time.monotonic()
        if due_in <= 0:
            self._asking.offer(_UNDER_WAY, _Question())
            due_in = _QUIET_S
            self._next_asking = time.monotonic() + due_in
        return due_in

    def _end_if_complete(self, run: "_Followed") -> None:
        if run.stop is None:
            if self._raw is None:
                self._report_missing(run)
                run.accept_missing()
        elif not run.missing():
            self._end(run)
        elif self._raw is None or time.monotonic() > run.stop_came + self._missing_timeout_s:
            self._report_missing(run)
            self._end(run)

    def _pass_on(self, run: "_Followed", name: str, doc: AnyDocument) -> None:
        if name == "event_page":
            for event in unpack_event_page(cast(EventPage, doc)):
                self._pass_on(run, "event", cast(AnyDocument, event))
            return
        if name == "stop":
            if run.stop is None:
                run.stop, run.stop_came = doc, time.monotonic()
        elif run.is_new(name, doc):
            self._consumer(name, doc)
        run.next_look = time.monotonic() + (_RETRY_S if run.missing() else _QUIET_S)

    def _look_up_run(self, doc: Mapping[str, Any]) -> str | None:
        """Have a document looked up whose beginning has been missed; return its run if that is over."""
        sought = str(doc.get("run_start") or doc.get("descriptor") or doc.get("resource") or "")
        if sought in self._ended:
            return sought
        now = time.monotonic()
        if sought and now >= self._next_look_up.get(sought, 0.0):
            self._next_look_up[sought] = now + _RETRY_S
            if self._raw is not None:
                self._asking.offer(sought, _Question(sought=sought))
            else:
                self._record_error(
                    DroppedDocumentsError(
                        "documents come of a run whose beginning was not seen; without Tiled it cannot "
                        "be analysed, "
                        "give the server that stores the raw runs"
                    )
                )
        return None

    def _end(self, run: "_Followed") -> None:
        assert run.stop is not None
        self._consumer("stop", run.stop)
        del self._runs[run.uid]
        self._ended.add(run.uid)

    def _report_missing(self, run: "_Followed") -> None:
        told = ", ".join(f"{count} of stream {stream!r}" for stream, count in run.missing().items())
        where = (
            "and could not be had from Tiled"
            if self._raw is not None
            else "and no Tiled server was given to ask"
        )
        self._record_error(
            DroppedDocumentsError(
                f"events of run {run.uid[:8]} were lost on the way {where} ({told}); its maps are "
                "without them"
            )
        )

    # On the asking thread: what comes back goes through the queue like any other document.

    def _ask(self, question: "_Question") -> None:
        try:
            if question.uid is None:
                for stored in self._recent_runs(question.sought):
                    known = self._runs.get(stored.metadata["start"]["uid"])
                    if known is None or question.sought is not None:
                        self._queue_stored(stored, () if known is None else known.events)
            elif question.uid in self._raw:
                self._queue_stored(self._raw[question.uid], question.known)
        except Exception as error:
            if not isinstance(error, CallbackError):
                error = DroppedDocumentsError(
                    f"Tiled cannot be asked for what was missed ({type(error).__name__}); it is asked again"
                )
            self._record_error(error)
        finally:
            if question.uid is not None:
                self(_ANSWERED, {"uid": question.uid})

    def _queue_stored(self, stored: Any, known: Collection[EventIdentity]) -> None:
        for name, doc in documents_of(stored, skip=known.__contains__):
            self(name, doc)

    def _recent_runs(self, sought: str | None) -> Iterator[Any]:
        """Yield the recent runs that are, or were, under way meanwhile, or the one that a document points to."""
        youngest = time.time() - _RECENT_S
        for run in self._raw.values().tail(_RECENT_RUNS):
            start = run.metadata["start"]
            began = start.get("time")
            if not is_energy_scan(start) or not isinstance(began, int | float) or began < youngest:
                continue
            if sought is None:
                if start["uid"] not in self._ended and self._was_under_way(run.metadata.get("stop")):
                    yield run
            elif start["uid"] == sought or any(run[stream].metadata.get("uid") == sought for stream in run):
                yield run

    def _was_under_way(self, stop: RunStop | None) -> bool:
        """Whether a run goes on, or ended since this one follows."""
        if stop is None:
            return True
        ended = stop.get("time")
        return isinstance(ended, int | float) and ended >= self._since_s


@dataclass(frozen=True)
class _Question:
    """What to ask Tiled for: one run, the run that a document points to, or all that are, or were, under way."""

    uid: str | None = None
    known: Collection[EventIdentity] = ()
    sought: str | None = None


class _Followed:
    """What has been passed on of one run."""

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.events: set[EventIdentity] = set()
        self.stop: AnyDocument | None = None
        self.stop_came = 0.0
        self.is_asked_for = False
        self.next_look = time.monotonic() + _QUIET_S
        self._documents: set[str] = set()
        self._streams: dict[str, str] = {}
        self._numbers: dict[str, set[int]] = defaultdict(set)
        self._accepted_missing: dict[str, int] = defaultdict(int)

    def is_new(self, name: str, doc: AnyDocument) -> bool:
        """Note a document and return whether it is the first of its kind."""
        if name == "event":
            event = cast(Event, doc)
            identity = event_identity(event)
            if identity in self.events:
                return False
            self.events.add(identity)
            stream = self._streams.get(event["descriptor"], event["descriptor"])
            self._numbers[stream].add(int(event["seq_num"]))
            return True
        if name == "descriptor":
            self._streams[doc["uid"]] = doc["name"]
        identity_of_others = f"{name}/{doc.get('uid', doc.get('datum_id'))}"
        if identity_of_others in self._documents:
            return False
        if "uid" in doc or "datum_id" in doc:
            self._documents.add(identity_of_others)
        return True

    def missing(self) -> dict[str, int]:
        """Return how many numbers are missing in each stream that lacks some."""
        told = (self.stop or {}).get("num_events")
        counted = {
            stream: count
            for stream, count in (told.items() if isinstance(told, Mapping) else ())
            if isinstance(count, int)
        }
        found = {}
        for stream in {*self._numbers, *counted}:
            numbers = self._numbers.get(stream, set())
            last = max([int(counted.get(stream, 0)), *numbers])
            lacking = last - len(numbers) - self._accepted_missing[stream]
            if lacking > 0:
                found[stream] = lacking
        return found

    def accept_missing(self) -> None:
        """Take what is missing as lost."""
        for stream, lacking in self.missing().items():
            self._accepted_missing[stream] += lacking
