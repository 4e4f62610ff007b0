"""Kernels on as many threads as a frame is worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb

from edge_fitting.base import launch

# Below this number of pixels a kernel is done before a second thread has woken up on a busy machine.
_WORTH_THREADS = 300_000


def run(kernel: Callable[..., Any], n_pixels: int, *args: Any) -> None:
    """Run a parallel kernel, on one thread where the frame is small."""
    if n_pixels >= _WORTH_THREADS:
        launch(kernel, *args)
        return
    before = nb.get_num_threads()
    nb.set_num_threads(1)
    try:
        launch(kernel, *args)
    finally:
        nb.set_num_threads(before)
