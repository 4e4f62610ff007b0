"""Where pieces of work are done: in this process, in others on this machine, or on a cluster."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol

from nimco._version import __version__
from nimco.errors import NimcoError
from scan_contract import MissingPackageError

_CONNECT_S = 10.0
_CLOSE_S = 2.0


class Runner(Protocol):
    """Does pieces of work.

    Attributes
    ----------
    n_at_once : int
        How many to hand over before the first is done.
    is_here : bool
        Whether it is this very thread that works.
    """

    n_at_once: int
    is_here: bool

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Hand over a piece of work."""

    def check(self) -> None:
        """Raise a `NimcoError` if nothing will come of what was handed over."""

    def explain(self, error: BaseException) -> NimcoError | None:
        """Say what is the matter where an error is of those who work and not of the work."""


class _Here:
    """Works at once, on the thread that asks."""

    n_at_once = 1
    is_here = True

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(task(*arguments))
        except Exception as error:
            done.set_exception(error)
        return done

    def check(self) -> None:
        """Nothing can be lost."""

    def explain(self, error: BaseException) -> NimcoError | None:
        return None


class _Pool:
    """Works in processes of its own, which end with this one."""

    is_here = False

    def __init__(self, n_workers: int) -> None:
        threads = max(1, (os.cpu_count() or 1) // n_workers)
        self.n_at_once = n_workers + 1
        self._executor: Executor = ProcessPoolExecutor(
            n_workers, multiprocessing.get_context("spawn"), _begin_worker, (threads,)
        )

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        try:
            return self._executor.submit(task, *arguments)
        except BrokenProcessPool as error:
            raise self._broken() from error

    def check(self) -> None:
        """Nothing: what breaks is told by the work."""

    def explain(self, error: BaseException) -> NimcoError | None:
        return self._broken() if isinstance(error, BrokenProcessPool) else None

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _broken() -> NimcoError:
        return NimcoError(
            "A process of --workers was ended from outside (for want of memory, for example); with fewer workers less "
            "memory is needed."
        )


class _Cluster:
    """Works on the workers of a dask.distributed scheduler."""

    is_here = False

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise MissingPackageError("analyses on a cluster", "distributed", "cluster") from error
        for name in ("distributed", "distributed.client", "distributed.core", "distributed.comm"):
            logging.getLogger(name).setLevel(
                logging.CRITICAL
            )  # what is the matter is said here, in a sentence
        self._address = address
        try:
            self._client = Client(address, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise NimcoError(
                f"No scheduler of dask.distributed answers at {address} ({type(error).__name__}); start one with: "
                "dask scheduler --host 127.0.0.1, and give the address that it prints as --scheduler "
                "tcp://127.0.0.1:8786."
            ) from error
        try:
            self._client.wait_for_workers(1, timeout=_CONNECT_S)
        except Exception as error:
            self.close()
            raise NimcoError(
                f"The scheduler at {address} has no workers; start some with: dask worker {address}."
            ) from error
        threads = sum(
            about["nthreads"] for about in self._client.scheduler_info(n_workers=-1)["workers"].values()
        )
        self.n_at_once = threads + 1
        self._executor = self._client.get_executor(pure=False)

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        self.check()
        submitted: Future[Any] = self._executor.submit(task, *arguments)
        return submitted

    def check(self) -> None:
        if self._client.status != "running":
            raise self._gone()

    def _gone(self) -> NimcoError:
        return NimcoError(f"The scheduler at {self._address} has gone away.")

    def explain(self, error: BaseException) -> NimcoError | None:
        self.check()
        if isinstance(error, CancelledError):  # told of the futures before the client knows that it is alone
            return self._gone()
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            return NimcoError(
                f"Workers of {self._address} end again and again on a piece of work; look at their logs (memory?)."
            )
        if isinstance(error, ImportError) or "deserializ" in str(error):
            return NimcoError(
                f"A worker of {self._address} cannot do the work ({type(error).__name__}: {error}): it needs nimco "
                f"{__version__} and the Python packages of this process."
            )
        return None

    def close(self) -> None:
        self._client.close(timeout=_CLOSE_S)


@contextmanager
def task_runner(n_workers: int | None, scheduler: str | None) -> Iterator[Runner]:
    """Offer a runner while the block lasts.

    Parameters
    ----------
    n_workers : int or None
        Processes on this machine; None works in this one.
    scheduler : str or None
        Address of a dask.distributed scheduler to use instead.

    Raises
    ------
    NimcoError
        Both are given, or the scheduler does not answer or has no workers.
    MissingPackageError
        dask.distributed is not installed.
    """
    if n_workers is not None and scheduler is not None:
        raise NimcoError("--workers and --scheduler say twice who works; give one of them.")
    if n_workers is None and scheduler is None:
        yield _Here()
        return
    runner = _Cluster(scheduler) if scheduler is not None else _Pool(n_workers or 1)
    try:
        yield runner
    finally:
        runner.close()


def _begin_worker(n_threads: int) -> None:
    """Prepare a process of the pool: its kernels share the cores, Ctrl-C is its parent's, and it ends with that."""
    os.environ["NUMBA_NUM_THREADS"] = str(n_threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
