"""Ctrl-C and SIGTERM, at whatever moment: one sentence, an exit code, and everything put in order."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from nimco.errors import NimcoError

STOPPED_CODE = 130

_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
# A key that is held down, or pressed twice in alarm, is one request.
_SAME_REQUEST_S = 1.0
_RETRY_S = 0.05


class StoppedError(NimcoError):
    """A command that was stopped from outside; the text says what is stored and what waits."""


def exit_at_once() -> None:
    """From now on, let a signal end the process at once: while modules are imported, nothing needs putting in order."""

    def exit_now(number: int, _frame: FrameType | None) -> None:
        cause = _SIGNALS[signal.Signals(number)]
        os.write(
            2,
            f"nimco: Stopped by {cause} before anything was begun: nothing is stored, nothing waits.\n".encode(),
        )
        os._exit(STOPPED_CODE)

    for number in _SIGNALS:
        signal.signal(number, exit_now)


def ignore_signals() -> None:
    """From now on, ignore them: all is done, and the process is about to end."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def ended_by_signal(describe: Callable[[], str], *, is_service: bool = False) -> Iterator[None]:
    """Make a signal within the block a `KeyboardInterrupt` there, and a `StoppedError` behind it.

    Whatever happens to that exception inside (some libraries swallow or replace it), the block ends with a
    `StoppedError`. A further signal, a second later or more, cuts short whatever is being closed then.

    Parameters
    ----------
    describe : callable
        Says, once the block has been left, what is stored and what waits.
    is_service : bool
        Whether SIGTERM is how the command normally ends: then the sentence is printed, and nothing raised.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    stop = _Stop()
    before = {number: signal.signal(number, stop.on_signal) for number in _SIGNALS}
    hook, sys.unraisablehook = sys.unraisablehook, stop.on_unraisable
    problem: BaseException | None = None
    try:
        try:
            yield
        except (KeyboardInterrupt, Exception) as error:
            if stop.cause is None or isinstance(error, StoppedError):
                raise
            problem = error
        if stop.cause is not None:
            text = f"Stopped by {stop.cause}: {describe()}."
            if not is_service or stop.cause != "SIGTERM":
                raise StoppedError(text) from problem
            print(f"nimco: {text}", file=sys.stderr)  # noqa: T201
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


class _Stop:
    """The signals that came within a block."""

    def __init__(self) -> None:
        self.cause: str | None = None
        self._since = -float("inf")

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.cause = self.cause or _SIGNALS[signal.Signals(number)]
        if time.monotonic() - self._since > _SAME_REQUEST_S:
            self._since = time.monotonic()
            raise KeyboardInterrupt

    def on_unraisable(self, about: Any) -> None:
        if about.exc_type is not KeyboardInterrupt:
            sys.__unraisablehook__(about)
            return
        # It hit a destructor or a callback of a C library, where it cannot be raised: once more, elsewhere.
        self._since = -float("inf")
        threading.Timer(_RETRY_S, os.kill, (os.getpid(), signal.SIGINT)).start()


class PauseOnSignal:
    """Context manager for ``RunEngine(context_managers=[...])``: a signal pauses the plan at once, without a word.

    The RunEngine's own says several lines and waits for the next checkpoint. What was asked for before the plan
    could be paused is asked again; what came too late, as the plan had ended, is raised when it has.

    Parameters
    ----------
    run_engine : RunEngine
        Whose plan is run in the block.
    """

    def __init__(self, run_engine: Any) -> None:
        self._run_engine = run_engine
        self._left = threading.Event()
        self._paused = False
        self._asking: threading.Thread | None = None

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._asking is None:
            return
        self._asking.join()
        handler = self._before[self._number]
        if callable(handler):
            try:
                handler(self._number, None)  # whoever is outside keeps count
            except KeyboardInterrupt:
                if not self._paused and error is None:
                    raise

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._asking is None:
            self._number = signal.Signals(number)
            # Not here: the RunEngine answers on another thread, and this one may hold a lock of it.
            self._asking = threading.Thread(target=self._ask, name="pause", daemon=True)
            self._asking.start()

    def _ask(self) -> None:
        while not self._left.is_set():
            try:
                self._run_engine.request_pause(defer=False)
            except Exception:  # not running yet, or ending: TransitionError
                self._left.wait(_RETRY_S)
            else:
                self._paused = True
                return
