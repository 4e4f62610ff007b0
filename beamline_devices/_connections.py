"""Which process variables of a device are disconnected while it is in use."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ophyd import Device
from ophyd.signal import EpicsSignalBase

from beamline_devices.errors import NotConnectedError

__all__ = ["Connections", "listed"]

_SHOWN = 5


def listed(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


class Connections:
    """The process variables of a device, its components' included, that have answered and do no longer.

    Parameters
    ----------
    device : ophyd.Device
        Whose process variables.
    on_loss : callable, optional
        Called, with no lock held, when one of them goes.

    Attributes
    ----------
    losses : int
        How often one of them was lost.
    """

    def __init__(self, device: Device, on_loss: Callable[[], None] | None = None) -> None:
        self._device = device
        self._on_loss = on_loss
        self._lock = threading.Lock()
        self._watched: set[EpicsSignalBase] = set()
        self._gone: dict[str, EpicsSignalBase] = {}
        self.losses = 0

    def watch(self) -> None:
        """Take in what is connected now, and refuse work when something is disconnected.

        Raises
        ------
        NotConnectedError
            Naming the process variables.
        """
        for walk in self._device.walk_signals(include_lazy=False):
            signal = walk.item
            if isinstance(signal, EpicsSignalBase) and signal not in self._watched and signal.connected:
                self._watched.add(signal)
                signal.subscribe(self._changed, event_type=signal.SUB_META, run=False)
                self._changed(obj=signal)
        self.check()

    def check(self) -> None:
        """Fail when a process variable is disconnected.

        Raises
        ------
        NotConnectedError
            Naming the process variables.
        """
        # What is back already counts as back, before its callback has run.
        with self._lock:
            self._gone = {name: signal for name, signal in self._gone.items() if not signal.connected}
        if self._gone:
            raise NotConnectedError(self.describe_loss())

    def describe_loss(self) -> str:
        """Say which process variables do not answer."""
        with self._lock:
            names = sorted(str(signal.pvname) for signal in self._gone.values())
        return (
            f"{self._device.name} has lost its connection to {len(names)} process variables ({listed(names)}); "
            "see whether their IOC runs"
        )

    def _changed(self, *, obj: Any, **_: Any) -> None:
        with self._lock:
            if obj.connected:
                self._gone.pop(obj.name, None)
                return
            self._gone[obj.name] = obj
            self.losses += 1
        if self._on_loss is not None:
            self._on_loss()
