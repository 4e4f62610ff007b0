"""The words every frame carries: which energy of the grid it is, and whether it was taken before."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

__all__ = ["FrameLabel", "Shot"]


@dataclass(frozen=True)
class Shot:
    """One frame that a plan is about to take.

    Parameters
    ----------
    stream : {"dark", "flat", "primary"}
        Event stream the frame belongs to.
    energy_index : int
        Position in the grid, or -1 for a frame that serves all energies.
    energy_setpoint_ev : float
        Energy asked for in eV.
    exposure_s : float
        Exposure asked for in seconds.
    repeat : int
        Counts the frames of one stream at one grid position from 0.
    """

    stream: str
    energy_index: int
    energy_setpoint_ev: float
    exposure_s: float
    repeat: int


class _Done:
    """Status of something that took no time."""

    done = True
    success = True

    def add_callback(self, callback: Callable[[Any], None]) -> None:
        callback(self)

    def exception(self, timeout: Optional[float] = 0.0) -> Optional[BaseException]:
        return None


class FrameLabel:
    """Readable named "xanes" that a plan sets before each frame and reads into its event.

    The attempt is counted here and not in the plan, because a RunEngine that rewinds to a checkpoint replays
    messages behind the plan's back: setting the same shot again is what a second attempt is.
    """

    name = "xanes"
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
        values = {
            "xanes_energy_index": shot.energy_index,
            "xanes_energy_setpoint_ev": shot.energy_setpoint_ev,
            "xanes_exposure_s": shot.exposure_s,
            "xanes_repeat": shot.repeat,
            "xanes_attempt": self._begun[shot] - 1,
        }
        return {key: {"value": value, "timestamp": self._timestamp} for key, value in values.items()}

    def describe(self) -> dict[str, Any]:
        """Return the data keys of `read`."""
        integer = {"source": "plan:xanes", "dtype": "integer", "shape": [], "dtype_numpy": "<i8"}
        number = {"source": "plan:xanes", "dtype": "number", "shape": [], "dtype_numpy": "<f8"}
        return {
            "xanes_energy_index": dict(integer),
            "xanes_energy_setpoint_ev": {**number, "units": "eV"},
            "xanes_exposure_s": {**number, "units": "s"},
            "xanes_repeat": dict(integer),
            "xanes_attempt": dict(integer),
        }
