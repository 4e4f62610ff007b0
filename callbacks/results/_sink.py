"""What takes results: the latest of each run and every final one, on a thread of its own."""

import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import xarray as xr

from callbacks.documents import Closing, LatestWins
from callbacks.errors import CallbackError


def result_key(raw_uid: str, edge: str | None) -> str:
    """Return what results have in common of which only the latest counts while the run goes on."""
    return f"{raw_uid}/{edge or ''}"


class DeferredResult:
    """A result that is made when it is first wanted, on the thread of who wants it: counting pixels takes time.

    Parameters
    ----------
    make : callable
        Makes the result; called once.
    key : str
        Results of one key overtake each other while they wait.
    final : bool
        Whether the run is over: nothing overtakes it then.
    """

    def __init__(self, make: Callable[[], xr.Dataset], *, key: str, final: bool) -> None:
        self.key = key
        self.final = final
        self._make: Callable[[], xr.Dataset] | None = make
        self._made: xr.Dataset | None = None
        self._lock = threading.Lock()

    def get(self) -> xr.Dataset:
        """Return the result; what is assigned to it stays with who assigned it."""
        with self._lock:
            if self._made is None:
                assert self._make is not None
                self._made = self._make()
                self._make = None  # and what the result was made of may go
            return self._made.copy(deep=False)


class Sink(Closing):
    """A subscriber of results with the one worker that stands in front of it.

    Being called costs microseconds. While a result is dealt with, those that come of the same run overtake each other;
    a final one is never passed over. Derive from it and give `_take`; a plain function subscribed to a `LiveSOC` gets
    one of these put in front.

    Parameters
    ----------
    name : str
        Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._worker: LatestWins[Any] = LatestWins(self._work, name)
        self._log = self._worker.log
        self.errors = self._log.errors

    @property
    def name(self) -> str:
        """Name of the thread, for messages."""
        return self._worker.name

    def __call__(self, result: xr.Dataset) -> None:
        """Take note of a result."""
        about = result.attrs
        key = result_key(about["raw_uid"], about.get("edge"))
        self.offer(DeferredResult(lambda: result, key=key, final=bool(about.get("final"))))

    def offer(self, result: DeferredResult) -> None:
        """Take note of a result that is made on the sink's own thread."""
        self._worker.offer(result.key, result, final=result.final)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until what was handed over has been dealt with.

        Raises
        ------
        CallbackError
            When that takes longer than ``timeout_s``.
        """
        if not self._worker.wait(timeout_s):
            raise CallbackError(f"{self.name} has not returned after {timeout_s:g} s; wait longer")

    @abstractmethod
    def close(self) -> None:
        """Deal with what was handed over, then stop."""

    @abstractmethod
    def _take(self, result: xr.Dataset) -> object:
        """Deal with a result (on the sink's thread); a `LaterError` has it offered again."""

    def _work(self, item: DeferredResult) -> None:
        self._take(item.get())


class CalledSink(Sink):
    """Calls a function with every result; a slow one gets fewer.

    Parameters
    ----------
    function : callable
        Gets the result.
    """

    def __init__(self, function: Callable[[xr.Dataset], object]) -> None:
        self._function = function
        super().__init__(f"SOC subscriber {getattr(function, '__name__', type(function).__name__)}")

    def close(self) -> None:
        """Call it with what was handed over, then stop."""
        self.end()
        self.join(None)

    def end(self) -> None:
        """Call it with what was handed over, then stop; does not wait for it."""
        self._worker.end()

    def join(self, timeout_s: float | None) -> bool:
        """Wait until it has stopped; False when the function does not return in time."""
        return self._worker.close(timeout_s)

    def _take(self, result: xr.Dataset) -> None:
        self._function(result)
