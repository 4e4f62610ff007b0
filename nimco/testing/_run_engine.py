"""The end of a RunEngine."""

import threading
from concurrent.futures import Future
from typing import Any

_TIMEOUT_S = 10.0


def close_run_engine(run_engine: Any) -> None:
    """End the event loop of a RunEngine and its thread, which bluesky keeps until the end of the process.

    Call it when the RunEngine is idle and not used any more: a test session that makes hundreds of them runs out of
    descriptors otherwise.
    """
    loop = run_engine.loop
    if loop.is_closed():
        return
    running: Future[threading.Thread] = Future()

    def end() -> None:
        running.set_result(threading.current_thread())
        loop.stop()

    loop.call_soon_threadsafe(end)
    running.result(_TIMEOUT_S).join(_TIMEOUT_S)
    loop.close()
