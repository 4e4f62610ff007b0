"""One parallel kernel at a time.

Numba's fallback threading layer ends the process when two Python threads start parallel kernels at once, and
with the others two kernels only fight for the same cores.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_LOCK = threading.Lock()
_Scalar = TypeVar("_Scalar", bound=np.generic)


def launch(kernel: Callable[..., Any], *args: Any) -> Any:
    """Run a parallel kernel while no other one runs in this process."""
    with _LOCK:
        return kernel(*args)


def read_only(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """View an input of a kernel as one that cannot be written to.

    Arrays that can and arrays that cannot be written to are different types to numba, each compiled for; callers hand
    in both, memory-mapped files for one.
    """
    view = array.view()
    view.flags.writeable = False
    return view
