"""Raw runs into Tiled, off the RunEngine's thread, whatever happens to the server meanwhile."""

import time
from pathlib import Path
from typing import Any

from callbacks.documents import AnyDocument, Closing, ErrorLog
from callbacks.errors import DeliveryError

from ._delivery_queue import DeliveryQueue
from ._delivery_state import DeliveryState
from ._run_deliverer import RunDeliverer
from ._run_recorder import RunRecorder
from ._uploads import send_in_pieces

_CLOSE_TIMEOUT_S = 60.0
_NO_PROGRESS_S = 15.0
_JOIN_S = 5.0
_LOOK_S = 0.25


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
        self._log = ErrorLog("raw run writer")
        self.errors = self._log.errors
        self._is_temporary = spool_dir is None
        self._is_closed = False
        self._queue = DeliveryQueue()
        self._recorder = RunRecorder(self._queue, spool_dir, self._log)
        self._spool_dir = self._recorder.spool_dir
        self._deliverer = RunDeliverer(
            self._queue, raw_container, self._spool_dir, self._recorder.owner, self._log
        )
        self._recorder.start()
        self._deliverer.start()

    def __call__(self, name: str, doc: AnyDocument) -> None:
        """Take one document."""
        self._recorder.put(name, doc)

    @property
    def backlog(self) -> int:
        """Number of documents that are not in Tiled yet."""
        return self._queue.n_pending

    def delivery(self) -> DeliveryState:
        """Return how far delivery is."""
        queue = self._queue
        with queue.changed:
            runs = list(queue.runs.values())
            waiting = [run for run in runs if run.n_pending]
            return DeliveryState(
                runs_waiting=len(waiting),
                documents_waiting=queue.n_pending,
                documents_in_memory=sum(run.log.n_unwritten for run in waiting),
                runs_refused=sum(run.given_up for run in runs),
                documents_per_s=queue.stored_per_s,
                answers=queue.answers,
                spool_dir=self._spool_dir,
            )

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until everything received is in Tiled.

        Raises
        ------
        DeliveryError
            When that takes longer than ``timeout_s``; nothing is lost by it.
        """
        queue = self._queue
        with queue.changed:
            queue.n_waiting += 1
        queue.wake.set()
        try:
            with queue.changed:
                if queue.changed.wait_for(queue.is_done, timeout_s):
                    return
                waiting = queue.n_pending
        finally:
            with queue.changed:
                queue.n_waiting -= 1
        raise DeliveryError(
            f"{waiting} documents are not in Tiled after {timeout_s:g} s; they are kept in {self._spool_dir}"
            " and delivered when Tiled answers"
        )

    def close(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> None:
        """Deliver what has been received, then stop. What Tiled does not take stays in the spool folder.

        It is not waited for when nothing goes to Tiled for a quarter of a minute, and never longer than ``timeout_s``
        and a few seconds.
        """
        if self._is_closed:
            return
        deadline = time.monotonic() + timeout_s
        queue = self._queue
        self._recorder.close(timeout_s)
        with queue.changed:
            queue.n_waiting += 1
            queue.wake.set()
            queue.progress_s = time.monotonic()
            while (now := time.monotonic()) < min(deadline, queue.progress_s + _NO_PROGRESS_S):
                if queue.changed.wait_for(queue.is_done, min(_LOOK_S, deadline - now)):
                    break
        self._is_closed = True
        self._deliverer.close(min(timeout_s, _JOIN_S))
        self._report_undelivered()
        if self._is_temporary and self._spool_dir.is_dir() and not any(self._spool_dir.iterdir()):
            self._spool_dir.rmdir()

    def _report_undelivered(self) -> None:
        with self._queue.changed:
            left = [run for run in self._queue.runs.values() if run.n_pending]
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
