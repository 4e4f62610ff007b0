"""Documents of runs, off the RunEngine's thread, into logs on disk."""

import errno
import secrets
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from event_model import EventPage, unpack_event_page

from callbacks.documents import (
    DOCUMENT_NAMES,
    AnyDocument,
    ErrorLog,
    NamedDocument,
    Owner,
    Poller,
    RunRouting,
    plain_document,
    private_folder,
)
from callbacks.errors import DamagedSpoolError, DeliveryError, DocumentError, OwnedSpoolError, SpoolError

from ._delivery_queue import DeliveryQueue
from ._run_delivery import RunDelivery
from ._run_log import DAMAGED, SUFFIX, RunLog, describe_set_aside, file_stem, set_aside

_MEMORY_BYTES = 512 * 2**20
_LOOK_S = 0.25
_REMEDIES: dict[int | None, str] = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room in the quota",
    errno.EFBIG: "make room on the disk",
    errno.EMFILE: "close what holds files open in this process",
    errno.ENFILE: "close what holds files open on this machine",
}


class RunRecorder:
    """Appends documents to the log of their run, on a thread of its own.

    Parameters
    ----------
    queue : DeliveryQueue
        Where the runs go.
    spool_dir : Path, optional
        Where the logs are kept; by default a new temporary folder.
    log : ErrorLog
        Told what cannot be recorded.
    """

    def __init__(self, queue: DeliveryQueue, spool_dir: Path | str | None, log: ErrorLog) -> None:
        self._queue = queue
        self._log = log
        self.spool_dir = self._make_folder(spool_dir)
        self.owner = Owner(self.spool_dir)
        self._inbox: deque[tuple[Any, Any] | None] = deque()
        self._others: set[str] = set()
        self._routing = RunRouting()
        self._thread = threading.Thread(target=self._record_all, name="raw run log", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def put(self, name: Any, doc: Any) -> None:
        """Take a document; this costs microseconds and never raises."""
        self._queue.n_received += 1
        self._inbox.append((name, doc))

    def close(self, timeout_s: float) -> None:
        """Record what was taken, then stop."""
        self._inbox.append(None)
        self._thread.join(timeout_s)

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

    def _record_all(self) -> None:
        poller = Poller()
        while True:
            if not poller.wait_for(lambda: self._inbox, _LOOK_S):
                self._log.guarded(self._write_waiting)
                continue
            item = self._inbox.popleft()
            if item is None:
                return
            self._log.guarded(self._record, *item)
            self._queue.count_recorded()

    def _write_waiting(self) -> None:
        """Write what waits in memory, where the disk takes it by now."""
        with self._queue.changed:
            for run in self._queue.runs.values():
                run.log.write_waiting()

    def _record(self, name: Any, doc: Any) -> None:
        if name not in DOCUMENT_NAMES:
            raise DocumentError(f"a document {name!r:.40} is none of bluesky's; it is not stored")
        for kind, plain in _one_by_one(str(name), plain_document(str(name), doc)):
            self._record_one(kind, plain)

    def _record_one(self, name: str, doc: AnyDocument) -> None:
        uid = self._routing.run_of(name, doc)
        if uid is None:
            if name == "start":
                raise DocumentError("a run has no uid in its start document; it cannot be stored")
            return
        runs = self._queue.runs
        if name == "start" and uid not in runs and uid not in self._others:
            self._open(uid)
        run = runs.get(uid)
        if run is None or not run.is_new(name, doc):
            return
        with self._queue.changed:
            in_memory = sum(other.log.memory_nbytes for other in runs.values())
            problem = run.log.append(name, doc, keep=in_memory < _MEMORY_BYTES)
            if name == "stop":
                run.has_stop = True
        if problem is not None:
            cause = problem.__cause__
            number = cause.errno if isinstance(cause, OSError) else None
            reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(problem)
            self._report_spool(reason, str(self.spool_dir), number)
        if name == "stop":
            self._routing.forget(uid)

    def _open(self, uid: str) -> None:
        path = self.spool_dir / f"{file_stem(uid)}{SUFFIX}"
        try:
            log = RunLog(path, self.owner)
        except OwnedSpoolError:
            self._others.add(uid)
            self._log.expected(
                DeliveryError(f"run {uid[:8]} is being recorded by another process too; that one delivers it")
            )
            return
        except DamagedSpoolError as error:
            self._log.expected(SpoolError(f"{error}; {describe_set_aside(set_aside(path, DAMAGED))}"))
            log = RunLog(path, self.owner)
        run = RunDelivery(uid, log)
        for kind, doc in log:  # what an earlier process recorded of the same run
            run.is_new(kind, doc)
        with self._queue.changed:
            self._queue.runs[uid] = run

    def _report_spool(self, reason: str, where: str, number: int | None) -> None:
        self._log.expected(
            SpoolError(
                f"cannot write to the spool {where} ({reason}); documents are kept in memory until Tiled has them, "
                f"{_REMEDIES.get(number, 'make the folder writable')}"
            )
        )


def _one_by_one(name: str, doc: AnyDocument) -> Iterator[NamedDocument]:
    """Yield the documents of a page of events, or the document itself."""
    if name != "event_page":
        yield name, doc
        return
    try:
        events = list(unpack_event_page(cast(EventPage, doc)))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise DocumentError(
            f"a page of events cannot be unpacked ({type(error).__name__}: {error})"
        ) from error
    for event in events:
        yield "event", cast(AnyDocument, event)
