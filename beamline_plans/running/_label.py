"""The words every frame carries: which energy of the grid it is, and whether it was taken before."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Optional

from scan_contract import LABEL_DEVICE, Shot, label_data_keys, shot_values

__all__ = ["FrameLabel"]


class _Done:
    """Status of something that took no time."""

    done = True
    success = True

    def add_callback(self, callback: Callable[[Any], None]) -> None:
        callback(self)

    def exception(self, timeout: Optional[float] = 0.0) -> Optional[BaseException]:
        return None


class FrameLabel:
    """Readable, named `scan_contract.LABEL_DEVICE`, that a plan sets before each frame and reads into its event.

    The attempt is counted here and not in the plan, because a RunEngine that rewinds to a checkpoint replays
    messages behind the plan's back: setting the same shot again is what a second attempt is.
    """

    name = LABEL_DEVICE
    parent = None

    def __init__(self) -> None:
        self._begun: Counter[Shot] = Counter()
        self._shot: Optional[Shot] = None
        self._timestamp = 0.0

    def set(self, value: Shot) -> _Done:
        """Say which frame comes next."""
        self._begun[value] += 1
        self._shot = value
        self._timestamp = time.time()
        return _Done()

    def read(self) -> dict[str, Any]:
        """Return the words of the present frame."""
        shot = self._shot
        if shot is None:
            raise RuntimeError("The frame label was read before it was set.")
        values = shot_values(shot, self._begun[shot] - 1)
        return {key: {"value": value, "timestamp": self._timestamp} for key, value in values.items()}

    def describe(self) -> dict[str, Any]:
        """Return the data keys of `read`."""
        axes = () if self._shot is None else tuple(name for name, _ in self._shot.axes)
        return label_data_keys(axes)
