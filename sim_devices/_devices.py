"""The twin as ophyd devices."""

import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from bluesky.protocols import Location
from ophyd import Component, Device, DeviceStatus, Kind
from ophyd.status import Status
from ophyd.utils.errors import WaitTimeoutError

from beamline_devices import (
    DeviceError,
    DeviceTimeoutError,
    NotArrivedError,
    NotConnectedError,
    OutOfLimitsError,
    UnknownPositionError,
)
from sim_devices._faults import Fault
from sim_devices._signals import SimSignal
from sim_devices._twin import Twin

__all__ = ["SimCamera", "SimEnergy", "SimNamedPosition", "SimPointDetector"]

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
        self._discard = False
        self._busy: DeviceStatus | None = None

    def _reach(self) -> None:
        """Fail when the device is disconnected."""
        if self._twin.faults.strikes(Fault.DISCONNECTED, self.name):
            raise NotConnectedError(f"{self.name} cannot be reached, check its connection")

    def read(self) -> dict[str, Any]:
        """Return the present reading."""
        self._reach()
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

        `interrupted` learns the share of the time that had passed when the action was stopped. An action without
        a real duration runs here unless `in_thread` asks otherwise.
        """
        if self._busy is not None and not self._busy.done:
            raise DeviceError(f"{self.name} is still busy, wait for it or stop it")
        status = DeviceStatus(self)
        self._busy = status
        self._discard = False
        abort = self._abort = threading.Event()
        wait_s = duration_s * self._time_scale

        def work() -> None:
            began = time.monotonic()
            try:
                if wait_s > 0 and abort.wait(wait_s):
                    if self._discard:
                        status.set_finished()
                        return
                    if interrupted is not None:
                        interrupted(min((time.monotonic() - began) / wait_s, 1.0))
                    raise DeviceError(f"{self.name} was stopped before it was done")
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
    d_spacing_a = Component(SimSignal, units="angstrom", precision=5, kind=Kind.config)
    offset_ev = Component(SimSignal, units="eV", precision=3, value=0.0, kind=Kind.config)

    def __init__(self, *, name: str, twin: Twin, time_scale: float = 0.0) -> None:
        super().__init__(name=name, twin=twin, time_scale=time_scale)
        self.readback.name = name
        low, high = self.limits
        for signal in (self.readback, self.setpoint):
            signal.put(twin.energy_ev)
            signal.amend(lower_ctrl_limit=low, upper_ctrl_limit=high)
        self.d_spacing_a.put(twin.settings.mono.d_spacing_a)

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
        """Return where the axis was sent and where it is, eV."""
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
        self._reach()
        mono = self._twin.settings.mono
        start, target = self.position, float(value)
        duration_s = abs(target - start) / mono.speed_ev_s + mono.settle_s
        stuck = self._twin.faults.strikes(Fault.ENERGY_STUCK)

        def arrive(share: float = 1.0) -> None:
            self._twin.wait(duration_s * share)
            energy = target if share >= 1.0 else start + share * (target - start)
            self._twin.energy_ev = energy - float(self.offset_ev.get())
            self.readback.put(energy)

        def finish() -> None:
            arrive(0.5 if stuck else 1.0)
            if abs(self.position - target) > 1e-3:
                raise NotArrivedError(f"{self.name} was sent to {target:g} eV but reads {self.position:g} eV")

        status = self._start(duration_s, finish, interrupted=arrive)
        self.setpoint.put(target)
        return status

    def calibrate(self, measured_ev: float, nominal_ev: float) -> None:
        """Shift the axis so that what reads `measured_ev` now reads `nominal_ev`, as after a foil scan."""
        shift = float(nominal_ev) - float(measured_ev)
        self.offset_ev.put(float(self.offset_ev.get()) + shift)
        self._twin.calibration_ev = float(self.offset_ev.get())
        self.readback.put(self.position + shift)
        self.setpoint.put(float(self.setpoint.get()) + shift)


class SimNamedPosition(_TwinDevice):
    """Device with a few named positions, as a shutter or an in-out stage.

    Parameters
    ----------
    name : str
        Name of the device and of its key.
    positions : tuple of str
        Names it takes; the first is where it starts.
    twin : Twin
        The simulated beamline.
    apply : callable
        Tells the twin where to go; gives where the device says it is.
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
        apply: Callable[[str], str],
        duration_s: float,
        time_scale: float = 0.0,
    ) -> None:
        super().__init__(name=name, twin=twin, time_scale=time_scale)
        self.positions = positions
        self._apply = apply
        self._duration_s = duration_s
        self.state.name = name
        self.state.amend(choices=list(positions))
        self.state.put(apply(positions[0]))

    @property
    def position(self) -> str:
        """Name of the present position."""
        return str(self.state.get())

    def locate(self) -> Location[str]:
        """Return where the device is."""
        return Location(setpoint=self.position, readback=self.position)

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
        self._reach()
        duration_s = 0.0 if value == self.position else self._duration_s

        def arrive() -> None:
            self._twin.wait(duration_s)
            reached = self._apply(value)
            self.state.put(reached)
            if reached != value:
                raise NotArrivedError(f"{self.name} was told {value!r} but is still {reached!r}")

        return self._start(duration_s, arrive)


class SimPointDetector(_TwinDevice):
    """One number of the twin per trigger, such as the incident intensity.

    Parameters
    ----------
    name : str
        Name of the device and of its key.
    units : str
        Unit of the number.
    twin : Twin
        The simulated beamline.
    measure : callable
        Takes the number from the twin.
    """

    value = Component(SimSignal, precision=4, kind=Kind.hinted)

    def __init__(self, *, name: str, units: str, twin: Twin, measure: Callable[[], float]) -> None:
        super().__init__(name=name, twin=twin, time_scale=0.0)
        self._measure = measure
        self.value.name = name
        self.value.amend(units=units)

    def trigger(self) -> DeviceStatus:
        """Take a reading."""
        self._reach()
        return self._start(0.0, lambda: self.value.put(self._measure()))


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
    frame_number = Component(SimSignal, value=0, dtype_numpy="<i8", kind=Kind.normal)
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
        self._reach()
        faults = self._twin.faults
        exposure_s = float(self.exposure_s.get())
        if faults.strikes(Fault.CAMERA_TIMEOUT):
            return self._start(exposure_s + 10.0, self._time_out, in_thread=True)
        stale = faults.strikes(Fault.STALE_FRAME)
        dropped = faults.strikes(Fault.DROPPED_FRAME)
        exposure = self._twin.begin(exposure_s)

        def read_out() -> None:
            if dropped:
                raise DeviceError(f"{self.name} lost frame {exposure.number}")
            if not stale:
                frame = self._twin.render(exposure)
                self.image.put(frame)
                self.mean.put(float(frame.mean()))
                self.frame_number.put(exposure.number)

        return self._start(exposure_s, read_out, in_thread=True)

    def pause(self) -> None:
        """End an exposure under way at once: the RunEngine will ask for its frame again."""
        if self._busy is not None and not self._busy.done:
            self._discard = True
            self._abort.set()
            # What is left is at most the rendering of a frame.
            with contextlib.suppress(WaitTimeoutError):
                self._busy.exception(timeout=5.0)

    def resume(self) -> None:
        """Carry on after a pause; nothing to do."""

    def _time_out(self) -> None:
        raise DeviceTimeoutError(f"{self.name} gave no frame within 10 s after its exposure")
