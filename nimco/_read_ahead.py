"""Items that take time to get, got while those before are dealt with."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

_LOOK_S = 0.2

Item = TypeVar("Item")


def read_ahead(items: Iterable[Item], n_ahead: int) -> Iterator[Item]:
    """Yield items that a thread of its own gets, at most so many ahead; it ends with whoever takes them.

    Parameters
    ----------
    items : iterable
        What is got; an exception in it is raised where it would have come.
    n_ahead : int
        How many may wait.
    """
    waiting: queue.Queue[tuple[list[Item], BaseException | None]] = queue.Queue(n_ahead)
    is_over = threading.Event()

    def offer(got: list[Item], error: BaseException | None) -> None:
        while not is_over.is_set():
            try:
                waiting.put((got, error), timeout=_LOOK_S)
                return
            except queue.Full:
                continue

    def get() -> None:
        try:
            for item in items:
                offer([item], None)
                if is_over.is_set():
                    return
        except BaseException as error:
            offer([], error)
        else:
            offer([], None)

    thread = threading.Thread(target=get, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            got, error = waiting.get()
            if error is not None:
                raise error
            if not got:
                return
            yield got[0]
    finally:
        is_over.set()
        thread.join(_LOOK_S)
