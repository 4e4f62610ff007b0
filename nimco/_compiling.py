"""Compile the live fit beside other start-up work, before beam is on the sample."""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from edge_fitting import warm_up

_LOG = logging.getLogger("nimco")
# What is on disk is loaded in less time, also on a machine with other work.
_LOADED_WITHIN_S = 5.0


@contextmanager
def compiling() -> Iterator[None]:
    """Compile the fitter's kernels in a thread while the block starts servers and devices.

    The first run on a machine compiles for up to a minute, later ones load what was compiled.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="compile")
    pool.submit(warm_up)
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False)  # whoever has been stopped does not wait for a compilation
        raise
    pool.shutdown()


def compile_kernels(method: Any = "series") -> None:
    """Return when everything that a scan needs is compiled, and say so where that takes long.

    Parameters
    ----------
    method : str
        Estimator of the live fit, see `edge_fitting.fit_stack`.

    Raises
    ------
    EdgeFittingError
        If there is no such method.
    """
    notice = threading.Timer(
        _LOADED_WITHIN_S,
        _LOG.warning,
        ("compiling the kernels of the fit; this happens once on a machine and takes up to a minute",),
    )
    notice.daemon = True
    notice.start()
    try:
        warm_up(method)
    finally:
        notice.cancel()
