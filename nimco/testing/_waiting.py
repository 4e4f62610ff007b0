"""Waiting for what another thread or process does, as long as it takes and no longer."""

import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

_POLL_INTERVAL_S = 0.02


def wait_until(condition: Callable[[], Found], timeout_s: float = 300.0, what: str = "it") -> Found:
    """Wait until a condition holds: for what tells nobody when it is done.

    Parameters
    ----------
    condition : callable
        Asked every 20 ms.
    timeout_s : float
        How long at the most, in seconds; generous, as a test that passes does not wait for it.
    what : str
        What is waited for, for the message.

    Returns
    -------
    object
        What the condition returned, true at last.

    Raises
    ------
    TimeoutError
        It did not hold in time.

    Examples
    --------
    >>> wait_until(lambda: 3)
    3
    """
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout_s:g} s")
        pause.wait(_POLL_INTERVAL_S)
    return found


def free_port() -> int:
    """Return a port of the loopback interface that is free for TCP and UDP alike, as Channel Access needs both."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("127.0.0.1", 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
