"""Faults on demand: what goes wrong at a beamline, armed to happen at a chosen moment."""

import enum
import threading
from dataclasses import dataclass

from beamline_devices import DeviceError

__all__ = ["Fault", "Faults"]


class Fault(enum.Enum):
    """What can go wrong; the comment says what counts as an occasion."""

    BEAM_TRIP = "beam_trip"
    """No beam from the source during an exposure (occasion: an exposure)."""
    SHUTTER_STUCK = "shutter_stuck"
    """The shutter does not open and says so (occasion: opening it)."""
    SHUTTER_SILENT = "shutter_silent"
    """The shutter does not open and says it has (occasion: opening it)."""
    ENERGY_STUCK = "energy_stuck"
    """The energy stops short of where it was sent (occasion: a move)."""
    CAMERA_TIMEOUT = "camera_timeout"
    """The camera never answers a trigger (occasion: a trigger)."""
    STALE_FRAME = "stale_frame"
    """The camera hands out its previous frame once more (occasion: a trigger)."""
    DROPPED_FRAME = "dropped_frame"
    """The camera exposes but loses the frame (occasion: a trigger)."""
    DISCONNECTED = "disconnected"
    """A device cannot be reached (occasion: any use of it)."""


@dataclass
class _Armed:
    wait: int
    left: int | None
    device: str | None


class Faults:
    """The faults of one twin; nothing is armed to begin with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: dict[Fault, _Armed] = {}

    def arm(
        self, fault: Fault | str, *, after: int = 0, times: int | None = 1, device: str | None = None
    ) -> None:
        """Let a fault happen.

        Parameters
        ----------
        fault : Fault or str
            Which one.
        after : int
            Occasions to let pass first.
        times : int, optional
            Occasions it then occurs; None until it is cleared.
        device : str, optional
            Name of the device that is disconnected.

        Raises
        ------
        DeviceError
            When there is no such fault or a number makes no sense.
        """
        kind = self._kind(fault)
        if after < 0 or (times is not None and times < 1):
            raise DeviceError(
                f"a fault occurs at least once after no fewer than 0 occasions, not {times} after {after}"
            )
        if (kind is Fault.DISCONNECTED) != (device is not None):
            raise DeviceError("name the device for 'disconnected', and for no other fault")
        with self._lock:
            self._armed[kind] = _Armed(after, times, device)

    def clear(self, fault: Fault | str | None = None) -> None:
        """Disarm one fault, or all of them."""
        with self._lock:
            if fault is None:
                self._armed.clear()
            else:
                self._armed.pop(self._kind(fault), None)

    def armed(self, fault: Fault | str) -> bool:
        """Whether a fault will occur, now or later."""
        with self._lock:
            return self._kind(fault) in self._armed

    def occurs_next(self, fault: Fault) -> bool:
        """Whether a fault occurs at the next occasion; uses nothing up."""
        with self._lock:
            entry = self._armed.get(fault)
            return entry is not None and entry.wait == 0

    def occurs(self, fault: Fault, device: str | None = None) -> bool:
        """Whether a fault occurs at this occasion."""
        with self._lock:
            entry = self._armed.get(fault)
            if entry is None or entry.device != device:
                return False
            if entry.wait > 0:
                entry.wait -= 1
                return False
            if entry.left is not None:
                entry.left -= 1
                if entry.left == 0:
                    del self._armed[fault]
            return True

    @staticmethod
    def _kind(fault: Fault | str) -> Fault:
        try:
            return Fault(fault)
        except ValueError:
            names = ", ".join(f.value for f in Fault)
            raise DeviceError(f"there is no fault {fault!r}, choose one of {names}") from None
