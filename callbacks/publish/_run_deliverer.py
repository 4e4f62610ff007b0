"""Runs from their logs on disk to Tiled, whatever happens to the server meanwhile."""

import threading
import time
from pathlib import Path
from typing import Any

import httpx

from callbacks.documents import ErrorLog, Owner, is_outage
from callbacks.errors import DamagedSpoolError, DeliveryError, DocumentError, SpoolError

from ._delivery_queue import DeliveryQueue
from ._run_delivery import LostAnswerError, RunDelivery
from ._run_log import DAMAGED, RunLog, describe_set_aside, logs_left_behind

_LONGEST_PAUSE_S = 10.0
_FIRST_PAUSE_S = 0.25


class RunDeliverer:
    """Delivers runs to Tiled, on a thread of its own, after it has taken over what earlier processes left behind.

    Parameters
    ----------
    queue : DeliveryQueue
        The runs.
    container : tiled client of a ``CatalogOfBlueskyRuns``
        Where they go.
    spool_dir : Path
        Where earlier processes left their logs.
    owner : Owner
        Whom these belong to from now on.
    log : ErrorLog
        Told what cannot be delivered.
    """

    def __init__(
        self, queue: DeliveryQueue, container: Any, spool_dir: Path, owner: Owner, log: ErrorLog
    ) -> None:
        self._queue = queue
        self._container = container
        self._spool_dir = spool_dir
        self._owner = owner
        self._log = log
        self._closing = False
        self._ended = False
        http = container.context.http_client
        hooks = http.event_hooks
        hooks["request"].append(self._refuse_when_ended)
        http.event_hooks = hooks
        self._thread = threading.Thread(target=self._deliver_all, name="raw run writer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Stop after the request under way; one that still hangs after ``timeout_s`` is the last."""
        with self._queue.changed:
            self._closing = True
            self._queue.changed.notify_all()
        self._queue.wake.set()
        self._thread.join(timeout_s)
        # What is left belongs to the next writer.
        self._ended = True

    def _refuse_when_ended(self, request: httpx.Request) -> None:
        """Keep a thread that is over from repeating its request when the server is back."""
        if self._ended and threading.current_thread() is self._thread:
            raise DeliveryError("this writer is closed")

    def _adopt_all(self) -> None:
        for log in logs_left_behind(
            self._spool_dir, self._owner, lambda text: self._log.expected(SpoolError(text))
        ):
            self._log.guarded(self._adopt, log)

    def _adopt(self, log: RunLog) -> None:
        """Take over the log of a process that ended before all was delivered."""
        uid = _uid_in(log)
        if uid is None:
            path, damage = log.path, f" ({log.damage})" if log.damage else ""
            aside = log.close(delete=True, keep_as=DAMAGED)
            raise SpoolError(
                f"{path} lacks its start document{damage}; {describe_set_aside(aside)}, the other runs are delivered"
            )
        with self._queue.changed:
            if uid in self._queue.runs:
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
        with self._queue.changed:
            self._queue.runs[uid] = run

    def _deliver_all(self) -> None:
        self._log.guarded(self._adopt_all)
        with self._queue.changed:
            self._queue.is_adopted = True
            self._queue.changed.notify_all()
        pause_s = _FIRST_PAUSE_S
        while not self._closing:
            self._queue.wake.clear()
            try:
                due_in_s = self._deliver_what_is_due()
            except Exception as error:  # what is not foreseen costs no run and no thread
                self._log.unexpected(error)
                due_in_s = None
                self._queue.answers = False
            if self._queue.answers:
                pause_s = _FIRST_PAUSE_S
                self._queue.wake.wait(due_in_s)
            else:
                # Not woken by further documents: they cannot be delivered either.
                with self._queue.changed:
                    self._queue.changed.wait_for(lambda: self._closing, pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _deliver_what_is_due(self) -> float | None:
        """Deliver what can be delivered; return in how many seconds there is more to do, None for when woken."""
        with self._queue.changed:
            runs = [run for run in self._queue.runs.values() if run.can_be_delivered]
        answers, due_in_s = True, None
        for run in runs:
            if run.not_before > time.monotonic():
                continue
            run.not_before = 0.0
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
        self._queue.answers = answers
        # Those that were put off just now as well: no document may come any more that would wake this thread.
        put_off = [
            run.not_before - time.monotonic() for run in runs if run.can_be_delivered and run.not_before
        ]
        return min((delay for delay in (due_in_s, *put_off) if delay is not None), default=None)

    def _put_off(self, run: RunDelivery, error: Exception) -> bool:
        """Deliver a run later; return whether others may be delivered meanwhile."""
        run.restart()
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
                with self._queue.changed:
                    run.drop_next()
                self._log.expected(SpoolError(f"{error}; the rest of run {run.uid[:8]} is delivered"))
                continue
            if problem is not None:
                self._log.expected(problem)
            if run.is_complete:
                self._finish(run)
                return None
            if is_stored:
                self._queue.mark_stored(run)
        due_in_s = run.flush_due_in_s
        if due_in_s is not None and (due_in_s <= 0 or self._queue.n_waiting) and not self._closing:
            run.flush()
            due_in_s = None
        if due_in_s is None and not run.n_undelivered:
            self._queue.mark_stored(run)
        return due_in_s

    def _finish(self, run: RunDelivery) -> None:
        kept = run.close()
        self._queue.mark_stored(run, is_finished=True)
        if kept is not None:
            self._log.expected(DeliveryError(kept))

    def _give_up(self, run: RunDelivery, error: Exception) -> None:
        with self._queue.changed:
            run.given_up = True
            self._queue.changed.notify_all()
        self._log.unexpected(error)
        self._log.expected(
            DeliveryError(
                f"Tiled refuses run {run.uid[:8]} ({type(error).__name__}: {error}); its documents are "
                f"kept in {run.log.path}"
            )
        )


def _uid_in(log: RunLog) -> str | None:
    """Return the uid in the start document of a log; None where that is not there or damaged."""
    try:
        name, start = next(iter(log), ("", {}))
    except DamagedSpoolError:
        return None
    uid = start.get("uid")
    return uid if name == "start" and isinstance(uid, str) else None
