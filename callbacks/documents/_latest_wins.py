"""The latest of what is offered goes to a function on a thread of its own; what is final is never passed over."""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ._error_log import ErrorLog
from ._restarted_thread import LOOK_S, RestartedThread, time_left

Item = TypeVar("Item")

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0


class LaterError(Exception):
    """Raised by the function of a `LatestWins`: what it got is to be offered again.

    Parameters
    ----------
    pause_s : float, optional
        In how many seconds. By default a quarter of a second, twice as long each time, and at most ten.
    """

    def __init__(self, pause_s: float | None = None) -> None:
        super().__init__("to be offered again")
        self.pause_s = pause_s


@dataclass(eq=False)
class _Offer(Generic[Item]):
    key: Hashable
    item: Item
    final: bool
    due: float = 0.0
    n_tries: int = 0


class LatestWins(Generic[Item]):
    """Calls a function on a thread of its own with the latest offer of each key, and with every final one.

    An offer that waits is replaced by a newer one of its key, unless it is final. Final ones of a key keep their
    order. A function that raises, whatever the class of the error, is logged once per kind of error and called again
    with the next offer; after a `LaterError` the same is offered again, unless there is a newer one by then.

    Parameters
    ----------
    function : callable
        Gets the offer.
    name : str
        Name of the thread.
    """

    def __init__(self, function: Callable[[Item], object], name: str) -> None:
        self.name = name
        self._function = function
        self._offers: list[_Offer[Item]] = []
        self._changed = threading.Condition()
        self._in_hand: _Offer[Item] | None = None
        self._ending = self._stopped = False
        self.log = ErrorLog(name)
        self._worker = RestartedThread(self._run, name, self._record_error)

    def offer(self, key: Hashable, item: Item, *, final: bool = False) -> None:
        """Hand something over; costs microseconds."""
        with self._changed:
            for waiting in self._offers:
                if waiting.key == key and not waiting.final:
                    waiting.item, waiting.final = item, final
                    break
            else:
                self._offers.append(_Offer(key, item, final))
            self._changed.notify_all()

    def __len__(self) -> int:
        """Return how many have not been dealt with."""
        with self._changed:
            return len(self._left())

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is on offer and the function has returned; False when that takes too long."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._changed:
                look_s = LOOK_S if deadline is None else time_left(deadline, LOOK_S)
                if self._changed.wait_for(lambda: not self._offers and self._in_hand is None, look_s):
                    return True
            self._worker.ensure()
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def end(self) -> None:
        """Hand over what is on offer, each once more, then stop; does not wait for it."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def close(self, timeout_s: float | None = None) -> bool:
        """Hand over what is on offer, then stop; False when the function does not return in time."""
        self.end()
        return self._worker.join(timeout_s)

    def stop(self, timeout_s: float) -> list[Item]:
        """Stop at once; return what has not been dealt with, also what the function does not return from in time."""
        with self._changed:
            self._ending = self._stopped = True
            self._changed.notify_all()
        self._worker.join(timeout_s)
        with self._changed:
            return [offer.item for offer in self._left()]

    def _left(self) -> list[_Offer[Item]]:
        held = self._in_hand
        if held is None or (not held.final and any(offer.key == held.key for offer in self._offers)):
            return list(self._offers)
        return [held, *self._offers]

    def _run(self) -> None:
        while (offer := self._next()) is not None:
            again, pause_s = False, None
            try:
                self._function(offer.item)
            except LaterError as error:
                again, pause_s = True, error.pause_s
            except BaseException as error:  # whatever a subscriber raises is the subscriber's own affair
                self._record_error(error)
            finally:
                with self._changed:
                    self._in_hand = None
                    if again:
                        self._put_back(offer, pause_s)
                    self._changed.notify_all()
                del offer

    def _next(self) -> _Offer[Item] | None:
        """Wait for an offer that is due; None at the end."""
        with self._changed:
            while not self._stopped:
                self._in_hand = self._take_due()
                if self._in_hand is not None:
                    return self._in_hand
                if self._ending:
                    break
                due = min((offer.due for offer in self._offers), default=None)
                self._changed.wait(None if due is None else max(due - time.monotonic(), 0.0))
        return None

    def _take_due(self) -> _Offer[Item] | None:
        """Take the first offer that is due and that no older one of its key waits before."""
        now, waiting = time.monotonic(), set()
        for offer in self._offers:
            if offer.key not in waiting and (offer.due <= now or (self._ending and not offer.n_tries)):
                self._offers.remove(offer)
                return offer
            waiting.add(offer.key)
        return None

    def _put_back(self, offer: _Offer[Item], pause_s: float | None) -> None:
        if pause_s is None:
            pause_s = min(_FIRST_PAUSE_S * 2.0**offer.n_tries, _LONGEST_PAUSE_S)
        offer.due, offer.n_tries = time.monotonic() + pause_s, offer.n_tries + 1
        following = next((at for at, other in enumerate(self._offers) if other.key == offer.key), None)
        if following is None:
            self._offers.append(offer)
        elif offer.final:
            self._offers.insert(following, offer)
        else:  # a newer one came meanwhile; that the function takes none now holds for it too
            newer = self._offers[following]
            newer.due, newer.n_tries = offer.due, offer.n_tries

    def _record_error(self, error: BaseException) -> None:
        self.log.unexpected(error, " failed; the scan and the other subscribers go on")
