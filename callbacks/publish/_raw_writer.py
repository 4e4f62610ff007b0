"""Raw runs into Tiled, off the RunEngine's thread, whatever happens to the server meanwhile."""

import errno
import secrets
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
from event_model import unpack_event_page

from callbacks.documents import (
    DOCUMENT_NAMES,
    Closing,
    ErrorLog,
    Owner,
    Poller,
    RunRouting,
    is_outage,
    plain_document,
    private_folder,
)
from callbacks.errors import (
    CallbackError,
    DamagedSpoolError,
    DeliveryError,
    DocumentError,
    OwnedSpoolError,
    SpoolError,
)

from ._delivery_state import DeliveryState
from ._run_delivery import LostAnswerError, RunDelivery
from ._run_log import DAMAGED, SUFFIX, RunLog, file_stem, logs_left_behind, set_aside, told_of
from ._uploads import send_in_pieces

_LONGEST_PAUSE_S = 10.0
_FIRST_PAUSE_S = 0.25
_MEMORY_BYTES = 512 * 2**20
_CLOSE_TIMEOUT_S = 60.0
_NO_PROGRESS_S = 15.0
_JOIN_S = 5.0
_LOOK_S = 0.25
_RATE_OVER_S = 10.0


class RawRunWriter(Closing):
    """The field's writer for Tiled on a thread of its own, behind a log on disk.

    Subscribe it to a RunEngine. Being called costs microseconds and never raises. Each document is first
    appended to a log of its run in the spool folder and then delivered; the log goes when the whole run is
    in Tiled. While Tiled does not answer, the log grows; when it answers again, a run that was cut in the
    middle is written anew from its log, so that every document is there once and in order. A process that
    was killed leaves its logs, and the next writer on the same spool folder delivers them. Where the folder cannot be
    written, documents wait in memory. Metadata is stored as plain data, see `plain_document`. A document that cannot
    be stored costs that document; its run's log is then kept under the suffix ``.kept``.

    Parameters
    ----------
    raw_container : tiled client of a ``CatalogOfBlueskyRuns``
        Where runs are written.
    spool_dir : Path, optional
        Where logs are kept; it becomes readable by its owner only. By default a new temporary folder, which only
        protects from an outage of the server.
    """

    def __init__(self, raw_container: Any, *, spool_dir: Path | str | None = None) -> None:
        send_in_pieces(raw_container)
        self._container = raw_container
        self._log = ErrorLog("raw run writer")
        self.errors = self._log.errors
        self._temporary = spool_dir is None
        self._spool_dir = self._make_folder(spool_dir)
        self._owner = Owner(self._spool_dir)
        self._inbox: deque[tuple[Any, Any] | None] = deque()
        self._changed = threading.Condition()
        self._runs: dict[str, RunDelivery] = {}
        self._others: set[str] = set()
        self._routing = RunRouting()
        self._received = self._logged = 0
        self._waiting = 0
        self._adopted = False
        self._closing = False
        self._ended = False
        self._answers = True
        self._progress = time.monotonic()
        self._stored: deque[tuple[float, int]] = deque()
        self._wake = threading.Event()
        http = raw_container.context.http_client
        hooks = http.event_hooks
        hooks["request"].append(self._refuse_when_ended)
        http.event_hooks = hooks
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

    def delivery(self) -> DeliveryState:
        """Return how far delivery is."""
        now = time.monotonic()
        with self._changed:
            runs = list(self._runs.values())
            stored = sum(count for at, count in self._stored if at > now - _RATE_OVER_S)
            waiting = [run for run in runs if run.n_pending]
            return DeliveryState(
                runs_waiting=len(waiting),
                documents_waiting=self._received - self._logged + sum(run.n_pending for run in waiting),
                documents_in_memory=sum(run.log.n_unwritten for run in waiting),
                runs_refused=sum(run.given_up for run in runs),
                documents_per_s=stored / _RATE_OVER_S,
                answers=self._answers,
                spool_dir=self._spool_dir,
            )

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until everything received is in Tiled.

        Raises
        ------
        DeliveryError
            When that takes longer than ``timeout_s``; nothing is lost by it.
        """
        with self._changed:
            self._waiting += 1
        self._wake.set()
        try:
            with self._changed:
                if self._changed.wait_for(self._is_done, timeout_s):
                    return
                waiting = self._received - self._logged + sum(run.n_pending for run in self._runs.values())
        finally:
            with self._changed:
                self._waiting -= 1
        raise DeliveryError(
            f"{waiting} documents are not in Tiled after {timeout_s:g} s; they are kept in {self._spool_dir}"
            " and delivered when Tiled answers"
        )

    def close(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> None:
        """Deliver what has been received, then stop. What Tiled does not take stays in the spool folder.

        It is not waited for when nothing goes to Tiled for a quarter of a minute, and never longer than ``timeout_s``
        and a few seconds.
        """
        if self._closing:
            return
        deadline = time.monotonic() + timeout_s
        self._inbox.append(None)
        self._intake.join(timeout_s)
        with self._changed:
            self._waiting += 1
            self._wake.set()
            self._progress = time.monotonic()
            while (now := time.monotonic()) < min(deadline, self._progress + _NO_PROGRESS_S):
                if self._changed.wait_for(self._is_done, min(_LOOK_S, deadline - now)):
                    break
            self._closing = True
            self._changed.notify_all()
        self._wake.set()
        self._outlet.join(min(timeout_s, _JOIN_S))
        # A request that still hangs is the last one of this thread: what is left belongs to the next writer.
        self._ended = True
        self._report_undelivered()
        if self._temporary and self._spool_dir.is_dir() and not any(self._spool_dir.iterdir()):
            self._spool_dir.rmdir()

    def _report_undelivered(self) -> None:
        with self._changed:
            left = [run for run in self._runs.values() if run.n_pending]
            n_documents = sum(run.n_pending for run in left)
            for run in left:
                run.log.close(delete=False)
            n_lost = sum(run.log.n_unwritten for run in left)
        if left:
            self._log.expected(
                DeliveryError(
                    f"{len(left)} run(s) could not be written to Tiled; their {n_documents} documents are kept in "
                    f"{self._spool_dir} and delivered by the next session that uses it"
                )
            )
        if n_lost:
            self._log.expected(
                DeliveryError(
                    f"{n_lost} of these documents could not be written to the disk either and end with this process"
                )
            )

    def _make_folder(self, spool_dir: Path | str | None) -> Path:
        if spool_dir is None:
            try:
                return Path(tempfile.mkdtemp(prefix="nimco-spool-"))
            except OSError as error:
                self._report_spool(error.strerror or str(error), "temporary files", error.errno)
                return Path(tempfile.gettempdir()) / f"nimco-spool-{secrets.token_hex(8)}"
        folder = Path(spool_dir)
        try:
            private_folder(folder)
        except OSError as error:
            self._report_spool(error.strerror or str(error), str(folder), error.errno)
        return folder

    def _is_done(self) -> bool:
        return (
            self._adopted
            and self._logged == self._received
            and not any(run.n_pending and not run.given_up for run in self._runs.values())
        )

    def _refuse_when_ended(self, request: httpx.Request) -> None:
        """Keep a thread that is over from repeating its request when the server is back."""
        if self._ended and threading.current_thread() is self._outlet:
            raise DeliveryError("this writer is closed")

    # Intake: from the RunEngine to the log.

    def _take_in(self) -> None:
        poller = Poller()
        while True:
            if not poller.wait_for(lambda: self._inbox, _LOOK_S):
                self._guarded(self._write_waiting)
                continue
            item = self._inbox.popleft()
            if item is None:
                return
            self._guarded(self._log_all, *item)
            with self._changed:
                self._logged += 1
                self._changed.notify_all()
            self._wake.set()

    def _guarded(self, function: Callable[..., object], *arguments: Any) -> None:
        try:
            function(*arguments)
        except CallbackError as error:
            self._log.expected(error)
        except Exception as error:
            self._log.unexpected(error)

    def _write_waiting(self) -> None:
        """Write what waits in memory, where the disk takes it by now."""
        with self._changed:
            for run in self._runs.values():
                run.log.write_waiting()

    def _log_all(self, name: Any, doc: Any) -> None:
        if name not in DOCUMENT_NAMES:
            raise DocumentError(f"a document {name!r:.40} is none of bluesky's; it is not stored")
        for kind, plain in _one_by_one(str(name), plain_document(str(name), doc)):
            self._log_one(kind, plain)

    def _log_one(self, name: str, doc: dict[str, Any]) -> None:
        uid = self._routing.run_of(name, doc)
        if uid is None:
            if name == "start":
                raise DocumentError("a run has no uid in its start document; it cannot be stored")
            return
        if name == "start" and uid not in self._runs and uid not in self._others:
            self._open(uid)
        run = self._runs.get(uid)
        if run is None or not run.is_new(name, doc):
            return
        with self._changed:
            in_memory = sum(other.log.memory_nbytes for other in self._runs.values())
            problem = run.log.append(name, doc, keep=in_memory < _MEMORY_BYTES)
            if name == "stop":
                run.has_stop = True
        if problem is not None:
            cause = problem.__cause__
            number = cause.errno if isinstance(cause, OSError) else None
            reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(problem)
            self._report_spool(reason, str(self._spool_dir), number)
        if name == "stop":
            self._routing.forget(uid)

    def _open(self, uid: str) -> None:
        path = self._spool_dir / f"{file_stem(uid)}{SUFFIX}"
        try:
            log = RunLog(path, self._owner)
        except OwnedSpoolError:
            self._others.add(uid)
            self._log.expected(
                DeliveryError(f"run {uid[:8]} is being recorded by another process too; that one delivers it")
            )
            return
        except DamagedSpoolError as error:
            self._log.expected(SpoolError(f"{error}; {told_of(set_aside(path, DAMAGED))}"))
            log = RunLog(path, self._owner)
        run = RunDelivery(uid, log)
        for kind, doc in log:  # what an earlier process recorded of the same run
            run.is_new(kind, doc)
        with self._changed:
            self._runs[uid] = run

    # Left behind by processes that are over.

    def _adopt_all(self) -> None:
        for log in logs_left_behind(
            self._spool_dir, self._owner, lambda text: self._log.expected(SpoolError(text))
        ):
            self._guarded(self._adopt, log)

    def _adopt(self, log: RunLog) -> None:
        """Take over the log of a process that ended before all was delivered."""
        if not len(log):
            log.close(delete=True)
            return
        name, start = log.read(0)
        uid = start.get("uid")
        if name != "start" or not isinstance(uid, str):
            path = log.path
            log.damage = None
            log.close(delete=True, keep_as=DAMAGED)
            raise SpoolError(
                f"{path} lacks its start document; it is set aside, the other runs are delivered"
            )
        with self._changed:
            if uid in self._runs:
                log.close(delete=False)
                return
        run = RunDelivery(uid, log)
        n_unreadable = run.take_over()
        if log.damage or n_unreadable:
            self._log.expected(
                SpoolError(
                    f"{log.path} of run {uid[:8]}: {log.damage}; what is whole is delivered and the file then kept as "
                    f"{log.path.stem}{DAMAGED}"
                )
            )
        with self._changed:
            self._runs[uid] = run

    # Outlet: from the log to Tiled.

    def _deliver_all(self) -> None:
        self._guarded(self._adopt_all)
        with self._changed:
            self._adopted = True
            self._changed.notify_all()
        pause_s = _FIRST_PAUSE_S
        while not self._closing:
            self._wake.clear()
            try:
                due_in_s = self._deliver_what_is_due()
            except Exception as error:  # what is not foreseen costs no run and no thread
                self._log.unexpected(error)
                due_in_s = None
                self._answers = False
            if self._answers:
                pause_s = _FIRST_PAUSE_S
                self._wake.wait(due_in_s)
            else:
                # Not woken by further documents: they cannot be delivered either.
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _deliver_what_is_due(self) -> float | None:
        """Deliver what can be delivered; return in how many seconds there is more to do, None for when woken."""
        with self._changed:
            runs = [run for run in self._runs.values() if run.can_be_delivered]
        answers, due_in_s = True, None
        for run in runs:
            if (delay := run.not_before - time.monotonic()) > 0:
                due_in_s = delay if due_in_s is None else min(delay, due_in_s)
                continue
            try:
                delay_or_none = self._deliver(run)
                if delay_or_none is not None:
                    due_in_s = delay_or_none if due_in_s is None else min(delay_or_none, due_in_s)
            except (SpoolError, OSError) as error:
                if isinstance(error, ConnectionError):
                    answers = self._put_off(run, error) and answers
                    if not answers:
                        break
                    continue
                run.put_off()
                due_in_s = _FIRST_PAUSE_S
                self._log.expected(SpoolError(f"{error}; it is tried again"))
            except Exception as error:
                if self._closing:
                    break
                if not is_outage(error) and not run.try_again_after(error):
                    self._give_up(run, error)
                    continue
                answers = self._put_off(run, error) and answers
                if not answers:
                    break
        self._answers = answers
        return due_in_s

    def _put_off(self, run: RunDelivery, error: Exception) -> bool:
        """Deliver a run later; return whether others may be delivered meanwhile."""
        run.begin_anew()
        if isinstance(error, httpx.HTTPStatusError | LostAnswerError | KeyError):
            run.put_off()
            self._log.expected(
                DeliveryError(
                    f"Tiled could not take run {run.uid[:8]} ({type(error).__name__}: {error}); it is written anew"
                ),
                key=f"put off {run.uid}",
            )
            return True
        self._log.expected(
            DeliveryError(
                f"Tiled does not answer ({type(error).__name__}); the scan goes on, its documents are kept"
                f" in {self._spool_dir} and delivered when Tiled answers"
            )
        )
        return False

    def _deliver(self, run: RunDelivery) -> float | None:
        """Deliver what the log of a run holds beyond what is delivered; return when to write the rest."""
        if not run.open(self._container, lambda text: self._log.expected(DocumentError(text))):
            self._finish(run)
            return None
        while run.n_undelivered and not self._closing:
            try:
                is_stored, problem = run.deliver_next()
            except DamagedSpoolError as error:
                with self._changed:
                    run.drop_next()
                self._log.expected(SpoolError(f"{error}; the rest of run {run.uid[:8]} is delivered"))
                continue
            if problem is not None:
                self._log.expected(problem)
            if run.is_complete:
                self._finish(run)
                return None
            if is_stored:
                self._note_stored(run)
        due_in_s = run.flush_due_in_s
        if due_in_s is not None and (due_in_s <= 0 or self._waiting) and not self._closing:
            run.flush()
            due_in_s = None
        if due_in_s is None and not run.n_undelivered:
            self._note_stored(run)
        return due_in_s

    def _note_stored(self, run: RunDelivery) -> None:
        with self._changed:
            self._count(run.note_stored())
            self._changed.notify_all()

    def _count(self, n_documents: int) -> None:
        now = time.monotonic()
        self._progress = now
        self._stored.append((now, n_documents))
        while self._stored[0][0] < now - _RATE_OVER_S:
            self._stored.popleft()

    def _finish(self, run: RunDelivery) -> None:
        kept = run.close()
        with self._changed:
            self._count(run.note_stored())
            self._runs.pop(run.uid, None)
            self._changed.notify_all()
        if kept is not None:
            self._log.expected(DeliveryError(kept))

    def _give_up(self, run: RunDelivery, error: Exception) -> None:
        with self._changed:
            run.given_up = True
            self._changed.notify_all()
        self._log.unexpected(error)
        self._log.expected(
            DeliveryError(
                f"Tiled refuses run {run.uid[:8]} ({type(error).__name__}: {error}); its documents are "
                f"kept in {run.log.path}"
            )
        )

    def _report_spool(self, reason: str, where: str, number: int | None) -> None:
        self._log.expected(
            SpoolError(
                f"cannot write to the spool {where} ({reason}); documents are kept in memory until Tiled has them, "
                f"{_REMEDIES.get(number, 'make the folder writable')}"
            )
        )


_REMEDIES: dict[int | None, str] = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room in the quota",
    errno.EFBIG: "make room on the disk",
    errno.EMFILE: "close what holds files open in this process",
    errno.ENFILE: "close what holds files open on this machine",
}


def _one_by_one(name: str, doc: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the documents of a page of events, or the document itself."""
    if name != "event_page":
        yield name, doc
        return
    try:
        events = list(unpack_event_page(cast(Any, doc)))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise DocumentError(
            f"a page of events cannot be unpacked ({type(error).__name__}: {error})"
        ) from error
    for event in events:
        yield "event", cast(dict[str, Any], event)
