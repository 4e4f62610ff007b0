"""What the simulated devices have in common: actions that take time, can be stopped, and can fail on demand."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from ophyd import Device, DeviceStatus
from ophyd.utils.errors import WaitTimeoutError

from beamline_devices import DeviceError, NotConnectedError
from sim_devices.twin import Fault, Twin

__all__ = ["TwinDetector", "TwinDevice"]

# What is told to stop has this long to do so: the rendering of a frame takes the longest.
_STOP_S = 5.0


class TwinDevice(Device):
    """A device whose actions take time and act on the twin.

    Parameters
    ----------
    name : str
        Name of the device.
    twin : Twin, optional
        The simulated beamline; a component takes its parent's.
    time_scale : float
        Real seconds per simulated second; 0 does everything at once.
    """

    def __init__(
        self, prefix: str = "", *, name: str, twin: Twin | None = None, time_scale: float = 0.0, **kwargs: Any
    ) -> None:
        if twin is None:
            # A component of another device of the twin; its parent has both before it makes its components.
            parent = kwargs["parent"]
            twin, time_scale = parent._twin, parent._time_scale
        self._twin: Twin = twin
        self._time_scale = time_scale
        self._abort = threading.Event()
        self._stopped_well = False
        self._busy: DeviceStatus | None = None
        super().__init__(prefix, name=name, **kwargs)

    def _check_reachable(self) -> None:
        """Fail when the device is disconnected."""
        if self._twin.faults.occurs(Fault.DISCONNECTED, self.name):
            raise NotConnectedError(f"{self.name} cannot be reached, check its connection")

    def read(self) -> dict[str, Any]:
        """Return the present reading."""
        self._check_reachable()
        return dict(super().read())

    def _start(
        self,
        duration_s: float,
        finish: Callable[[], None],
        *,
        interrupted: Callable[[float], None] | None = None,
        in_thread: bool = False,
    ) -> DeviceStatus:
        """Begin an action of a simulated duration; its status is done when `finish` has run.

        `interrupted` learns the share of the time that had passed when the action was stopped; the status is then what
        `stop` was asked for. An action without a real duration runs here unless `in_thread` asks otherwise.
        """
        busy = self._busy
        if busy is not None and self._abort.is_set():
            with contextlib.suppress(WaitTimeoutError):
                busy.exception(timeout=_STOP_S)
        if busy is not None and not busy.done:
            raise DeviceError(f"{self.name} is still busy, wait for it or stop it")
        # Left to ophyd, the device would be stopped once a failure is known, and with it a second try.
        status = DeviceStatus(self, call_stop_on_failure=False)
        self._busy = status
        self._stopped_well = False
        abort = self._abort = threading.Event()
        wait_s = duration_s * self._time_scale

        def work() -> None:
            began = time.monotonic()
            try:
                if wait_s > 0 and abort.wait(wait_s):
                    if interrupted is not None:
                        interrupted(min((time.monotonic() - began) / wait_s, 1.0))
                    if not self._stopped_well:
                        raise DeviceError(f"{self.name} was stopped before it was done")
                else:
                    finish()
            except Exception as error:
                status.set_exception(error)
            else:
                status.set_finished()

        if wait_s > 0 or in_thread:
            threading.Thread(target=work, daemon=True, name=f"sim-{self.name}").start()
        else:
            work()
        return status

    def stop(self, *, success: bool = False) -> None:
        """Stop what is under way; it ends as a success or a failure as asked."""
        self._stopped_well = success
        self._abort.set()
        super().stop(success=success)


class TwinDetector(TwinDevice):
    """A device that measures for a while."""

    def pause(self) -> None:
        """End a measurement under way at once: the RunEngine will ask for it again."""
        if self._busy is not None and not self._busy.done:
            self.stop(success=True)
            with contextlib.suppress(WaitTimeoutError):
                self._busy.exception(timeout=_STOP_S)

    def resume(self) -> None:
        """Carry on after a pause; nothing to do."""
