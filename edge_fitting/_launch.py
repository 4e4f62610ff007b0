"""One parallel kernel at a time.

Numba's fallback threading layer ends the process when two Python threads start parallel kernels at once, and
with the others two kernels only fight for the same cores.
"""

import threading
from collections.abc import Callable
from typing import Any

_LOCK = threading.Lock()


def launch(kernel: Callable[..., Any], *args: Any) -> Any:
    """Run a parallel kernel while no other one runs in this process."""
    with _LOCK:
        return kernel(*args)
