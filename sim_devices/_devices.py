"""The twin as ophyd devices."""

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from bluesky.protocols import Location
from ophyd import Component, Device, DeviceStatus, Kind
from ophyd.status import Status

from beamline_devices import DeviceError, OutOfLimitsError, UnknownPositionError
from sim_devices._signals import SimSignal
from sim_devices._twin import Twin

__all__ = ["SimCamera", "SimEnergy", "SimIonChamber", "SimNamedPosition"]

_EXPOSURE_LIMITS_S = (1e-4, 600.0)


class _TwinDevice(Device):
    """A device whose actions take time and act on the twin.

    Parameters
    ----------
    name : str
        Name of the device.
    twin : Twin
        The simulated beamline.
    time_scale : float
        Real seconds per simulated second; 0 does everything at once.
    """

    def __init__(self, *, name: str, twin: Twin, time_scale: float) -> None:
        super().__init__("", name=name)
        self._twin = twin
        self._time_scale = time_scale
        self._abort = threading.Event()
        self._busy: DeviceStatus | None = None

    def _start(
        self,
        duration_s: float,
        finish: Callable[[], None],
        *,
        interrupted: Callable[[float], None] | None = None,
        in_thread: bool = False,
    ) -> DeviceStatus:
        """Begin an action of a simulated duration; its status is done when `finish` has run.

        `interrupted` learns the share of the time that had passed when the action was stopped. Actions without a real
        duration run here unless `in_thread` asks otherwise.
        """
        if self._busy is not None and not self._busy.done:
            raise DeviceError(f"{self.name} is still busy, wait for it or stop it")
        status = DeviceStatus(self)
        self._busy = status
        abort = self._abort = threading.Event()
        wait_s = duration_s * self._time_scale

        def work() -> None:
            began = time.monotonic()
            if wait_s > 0 and abort.wait(wait_s):
                if interrupted is not None:
                    interrupted(min((time.monotonic() - began) / wait_s, 1.0))
                status.set_exception(DeviceError(f"{self.name} was stopped before it was done"))
                return
            try:
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
        """Stop what is under way."""
        self._abort.set()
        super().stop(success=success)


class SimEnergy(_TwinDevice):
    """Photon energy of the twin in eV.

    Parameters
    ----------
    name : str
        Name of the device and of its readback key.
    twin : Twin
        The simulated beamline.
    time_scale : float
        Real seconds per simulated second; 0 moves at once.
    """

    readback = Component(SimSignal, units="eV", precision=3, kind=Kind.hinted)
    setpoint = Component(SimSignal, units="eV", precision=3, kind=Kind.normal)
    resolution = Component(SimSignal, precision=6, kind=Kind.config)
    offset_ev = Component(SimSignal, units="eV", precision=3, kind=Kind.config)

    def __init__(self, *, name: str, twin: Twin, time_scale: float = 0.0) -> None:
        super().__init__(name=name, twin=twin, time_scale=time_scale)
        self.readback.name = name
        mono = twin.settings.mono
        self.readback.put(twin.energy_ev)
        self.setpoint.put(twin.energy_ev)
        self.resolution.put(mono.resolution)
        self.offset_ev.put(mono.offset_ev)

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest energy in eV."""
        mono = self._twin.settings.mono
        return mono.low_ev, mono.high_ev

    @property
    def position(self) -> float:
        """Energy in eV as read back."""
        return float(self.readback.get())

    def locate(self) -> Location[float]:
        """Where the axis was sent and where it is, eV."""
        return Location(setpoint=float(self.setpoint.get()), readback=self.position)

    def check_value(self, value: float) -> None:
        """Refuse an energy the axis cannot reach.

        Raises
        ------
        OutOfLimitsError
            When the value is not a finite number within the limits.
        """
        low, high = self.limits
        try:
            energy = float(value)
        except (TypeError, ValueError):
            raise OutOfLimitsError(f"{self.name} takes an energy in eV, not {value!r}") from None
        if low <= energy <= high:
            return
        hint = ""
        if math.isfinite(energy) and low <= energy * 1e3 <= high:
            hint = f"; it looks like keV, give {energy * 1e3:g} eV"
        raise OutOfLimitsError(
            f"{self.name} cannot go to {energy:g} eV, it takes {low:g} to {high:g} eV{hint}"
        )

    def set(self, value: float) -> DeviceStatus:
        """Move to an energy in eV; the status is done on arrival."""
        self.check_value(value)
        mono = self._twin.settings.mono
        start, target = self.position, float(value)
        duration_s = abs(target - start) / mono.speed_ev_s + mono.settle_s

        def arrive(share: float = 1.0) -> None:
            self._twin.wait(duration_s * share)
            energy = target if share >= 1.0 else start + share * (target - start)
            self._twin.energy_ev = energy
            self.readback.put(energy)

        status = self._start(duration_s, arrive, interrupted=arrive)
        self.setpoint.put(target)
        return status


class SimNamedPosition(_TwinDevice):
    """Device with two named positions, as a shutter or an in-out stage.

    Parameters
    ----------
    name : str
        Name of the device and of its key.
    positions : tuple of str
        Names it takes; the first is where it starts.
    twin : Twin
        The simulated beamline.
    apply : callable
        Tells the twin of a position reached.
    duration_s : float
        Time a move takes.
    time_scale : float
        Real seconds per simulated second; 0 moves at once.
    """

    state = Component(SimSignal, choices=(), dtype_numpy="<U16", kind=Kind.normal)

    def __init__(
        self,
        *,
        name: str,
        positions: tuple[str, ...],
        twin: Twin,
        apply: Callable[[str], None],
        duration_s: float,
        time_scale: float = 0.0,
    ) -> None:
        super().__init__(name=name, twin=twin, time_scale=time_scale)
        self.positions = positions
        self._apply = apply
        self._duration_s = duration_s
        self.state.name = name
        self.state.amend(choices=list(positions))
        self.state.put(positions[0])
        apply(positions[0])

    @property
    def position(self) -> str:
        """Name of the present position."""
        return str(self.state.get())

    def check_value(self, value: str) -> None:
        """Refuse a name that is not a position.

        Raises
        ------
        UnknownPositionError
            When the device has no such position.
        """
        if value not in self.positions:
            names = " or ".join(repr(p) for p in self.positions)
            raise UnknownPositionError(f"{self.name} takes {names}, not {value!r}")

    def set(self, value: str) -> DeviceStatus:
        """Go to a named position; the status is done on arrival."""
        self.check_value(value)
        duration_s = 0.0 if value == self.position else self._duration_s

        def arrive() -> None:
            self._twin.wait(duration_s)
            self._apply(value)
            self.state.put(value)

        return self._start(duration_s, arrive)


class SimIonChamber(_TwinDevice):
    """Incident intensity of the twin in nA.

    Parameters
    ----------
    name : str
        Name of the device and of its key.
    twin : Twin
        The simulated beamline.
    """

    current = Component(SimSignal, units="nA", precision=4, kind=Kind.hinted)

    def __init__(self, *, name: str, twin: Twin) -> None:
        super().__init__(name=name, twin=twin, time_scale=0.0)
        self.current.name = name
        self.current.put(twin.read_i0())

    def trigger(self) -> DeviceStatus:
        """Take a reading."""
        return self._start(0.0, lambda: self.current.put(self._twin.read_i0()))


class _ExposureSignal(SimSignal):
    """Exposure of the next frame."""

    def check_value(self, value: float, **_: Any) -> None:
        """Refuse an exposure the camera cannot take."""
        low, high = _EXPOSURE_LIMITS_S
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            raise OutOfLimitsError(f"{self.name} takes seconds, not {value!r}") from None
        if not low <= seconds <= high:
            raise OutOfLimitsError(f"{self.name} cannot be {seconds:g} s, it takes {low:g} to {high:g} s")

    def set(self, value: float, **_: Any) -> Status:
        """Take a new exposure in seconds."""
        self.check_value(value)
        self.put(float(value))
        status = Status(self)
        status.set_finished()
        return status


class SimCamera(_TwinDevice):
    """Camera of the twin: one trigger, one frame of 16-bit counts inside the event.

    Parameters
    ----------
    name : str
        Name of the device; the frame is ``<name>_image``.
    twin : Twin
        The simulated beamline.
    time_scale : float
        Real seconds per simulated second; 0 exposes at once.
    """

    image = Component(SimSignal, shape=(1, 1), dtype_numpy="<u2", units="counts", kind=Kind.normal)
    mean = Component(SimSignal, units="counts", precision=1, kind=Kind.hinted)
    exposure_s = Component(
        _ExposureSignal, value=0.5, units="s", precision=4, limits=_EXPOSURE_LIMITS_S, kind=Kind.config
    )
    pixel_size_nm = Component(SimSignal, units="nm", precision=2, kind=Kind.config)

    def __init__(self, *, name: str, twin: Twin, time_scale: float = 0.0) -> None:
        super().__init__(name=name, twin=twin, time_scale=time_scale)
        self.image.amend(shape=list(twin.shape))
        self.image.put(np.zeros(twin.shape, dtype=np.uint16))
        self.pixel_size_nm.put(twin.pixel_size_nm)

    def trigger(self) -> DeviceStatus:
        """Expose one frame; the status is done when it can be read."""
        exposure_s = float(self.exposure_s.get())

        def read_out() -> None:
            frame = self._twin.expose(exposure_s)
            self.image.put(frame)
            self.mean.put(float(frame.mean()))

        return self._start(exposure_s, read_out, in_thread=True)
