"""Shutter, filters and sample stage of the twin as devices, and the axes of the stage."""

from collections.abc import Callable
from typing import Any

from bluesky.protocols import Location
from ophyd import Component, DeviceStatus, Kind

from beamline_devices import NotArrivedError, OutOfLimitsError, UnknownPositionError
from sim_devices.twin import Twin

from ._signals import SimSignal
from ._twin_device import TwinDevice

__all__ = ["FILTER_BLADES_UM", "SimAxis", "SimFilters", "SimNamedPosition", "SimSampleStage"]

_UNKNOWN = "unknown"
_OUT_MM = 5.0
_IN_MM = 1.0
_TOLERANCE_MM = 5e-3
_UM_PER_MM = 1e3

FILTER_BLADES_UM = (50.0, 50.0, 100.0, 200.0)
"""Thickness of aluminium of each filter."""

_FILTER_UM = {"none": 0.0, "thin": FILTER_BLADES_UM[0], "thick": sum(FILTER_BLADES_UM)}


class SimNamedPosition(TwinDevice):
    """Device with a few named positions, as a shutter.

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

    state = Component(SimSignal, choices=(), dtype_numpy="<U40", kind=Kind.normal)

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
        self._target: str | None = None
        self.state.name = name
        self.state.amend(choices=[*positions, _UNKNOWN])
        self.state.put(apply(positions[0]))

    @property
    def position(self) -> str:
        """Name of the present position, or "unknown"."""
        return str(self.state.get())

    def locate(self) -> Location[str]:
        """Return where the device was sent and where it is."""
        here = self.position
        return Location(setpoint=here if self._target is None else self._target, readback=here)

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
        self._check_reachable()
        duration_s = 0.0 if value == self.position else self._duration_s

        def arrive() -> None:
            self._twin.wait(duration_s)
            reached = self._apply(value)
            self.state.put(reached)
            if reached != value:
                raise NotArrivedError(f"{self.name} was told {value!r} but is still {reached!r}")

        status = self._start(duration_s, arrive)
        self._target = value
        return status


class SimFilters(SimNamedPosition):
    """Aluminium in the beam upstream of everything: "none", "thin" or "thick".

    Parameters
    ----------
    name, twin, time_scale
        As for `SimNamedPosition`.
    """

    def __init__(self, *, name: str, twin: Twin, time_scale: float = 0.0) -> None:
        def apply(choice: str) -> str:
            twin.filter_um = _FILTER_UM[choice]
            return choice

        super().__init__(
            name=name,
            positions=tuple(_FILTER_UM),
            twin=twin,
            apply=apply,
            duration_s=0.2,
            time_scale=time_scale,
        )


class SimAxis(TwinDevice):
    """One motor of a stage, with the components of a motor record that plans use.

    Parameters
    ----------
    prefix : str
        Not used; components are given one.
    units : str
        Unit of the axis.
    limits : tuple of float
        Lowest and highest position.
    speed : float
        Units per simulated second.
    """

    user_readback = Component(SimSignal, precision=4, kind=Kind.normal)
    user_setpoint = Component(SimSignal, precision=4, kind=Kind.normal)
    velocity = Component(SimSignal, precision=3, kind=Kind.config)

    def __init__(
        self,
        prefix: str = "",
        *,
        units: str,
        limits: tuple[float, float],
        speed: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(prefix, **kwargs)
        self.limits = limits
        self._units = units
        self._speed = speed
        self._moved: Callable[[], None] = lambda: None
        self.user_readback.name = self.name
        for signal in (self.user_readback, self.user_setpoint):
            signal.put(0.0)
            signal.amend(units=units, lower_ctrl_limit=limits[0], upper_ctrl_limit=limits[1])
        self.velocity.amend(units=f"{units}/s")
        self.velocity.put(speed)

    @property
    def position(self) -> float:
        """Where the axis is."""
        return float(self.user_readback.get())

    def when_moved(self, action: Callable[[], None]) -> None:
        """Have something done each time the axis has moved."""
        self._moved = action

    def check_value(self, value: float) -> None:
        """Refuse a position outside the limits.

        Raises
        ------
        OutOfLimitsError
            When it is outside, or no number.
        """
        low, high = self.limits
        try:
            inside = low <= float(value) <= high
        except (TypeError, ValueError):
            raise OutOfLimitsError(f"{self.name} takes a number of {self._units}, not {value!r}") from None
        if not inside:
            raise OutOfLimitsError(
                f"{self.name} cannot be {value:g} {self._units}, it takes {low:g} to {high:g} {self._units}"
            )

    def set(self, value: float) -> DeviceStatus:
        """Move; the status is done on arrival."""
        self.check_value(value)
        self._check_reachable()
        start, target = self.position, float(value)
        duration_s = abs(target - start) / self._speed

        def arrive(share: float = 1.0) -> None:
            self._twin.wait(duration_s * share)
            self.user_readback.put(target if share >= 1.0 else start + share * (target - start))
            self._moved()

        status = self._start(duration_s, arrive, interrupted=arrive)
        self.user_setpoint.put(target)
        return status


class SimSampleStage(TwinDevice):
    """Stage of the sample: axes x, y, z and rotation, and the named positions "in" and "out".

    The sample goes out along x. Near x = y = 0 the axes displace its image (y along rows, x along columns),
    farther than a millimetre from there it is out of the beam. Depth has no effect on the image, rotation only on
    that of a volume (`Twin.load_volume`).

    Parameters
    ----------
    name : str
        Name of the device and of its key.
    twin : Twin
        The simulated beamline.
    time_scale : float
        Real seconds per simulated second; 0 moves at once.
    """

    state = Component(SimSignal, choices=("in", "out", _UNKNOWN), dtype_numpy="<U40", kind=Kind.normal)
    x = Component(SimAxis, units="mm", limits=(-10.0, 10.0), speed=2.0, kind=Kind.normal)
    y = Component(SimAxis, units="mm", limits=(-10.0, 10.0), speed=2.0, kind=Kind.normal)
    z = Component(SimAxis, units="mm", limits=(-10.0, 10.0), speed=2.0, kind=Kind.normal)
    rotation = Component(SimAxis, units="deg", limits=(-180.0, 360.0), speed=10.0, kind=Kind.normal)

    positions = ("in", "out")

    def __init__(self, *, name: str, twin: Twin, time_scale: float = 0.0) -> None:
        super().__init__(name=name, twin=twin, time_scale=time_scale)
        self.state.name = name
        self._places = {"in": 0.0, "out": _OUT_MM}
        self._target: str | None = None
        for axis in (self.x, self.y):
            axis.when_moved(self._moved)
        self.rotation.when_moved(lambda: twin.rotate(self.rotation.position))
        self._moved()

    @property
    def position(self) -> str:
        """Name of the present position, or "unknown"."""
        return str(self.state.get())

    def locate(self) -> Location[str]:
        """Return where the stage was sent and where it is."""
        here = self.position
        return Location(setpoint=here if self._target is None else self._target, readback=here)

    def check_value(self, value: str) -> None:
        """Refuse a name that is not a position.

        Raises
        ------
        UnknownPositionError
            When there is no such position.
        """
        if value not in self.positions:
            raise UnknownPositionError(f"{self.name} takes 'in' or 'out', not {value!r}")
        self.x.check_value(self._places[value])

    def set(self, value: str) -> DeviceStatus:
        """Take the sample in or out; the status is done on arrival."""
        self.check_value(value)
        self._check_reachable()
        status = self.x.set(self._places[value])
        self._target = value
        return status

    def move_in_position(self, x: float) -> None:
        """Take over where the sample is to be looked at; the way out keeps its length."""
        shift = float(x) - self._places["in"]
        self._places = {name: place + shift for name, place in self._places.items()}
        self._moved()

    def _moved(self) -> None:
        x_mm, y_mm = self.x.position, self.y.position
        self._twin.sample_in = max(abs(x_mm), abs(y_mm)) < _IN_MM
        self._twin.stage_um = (y_mm * _UM_PER_MM, x_mm * _UM_PER_MM) if self._twin.sample_in else (0.0, 0.0)
        here = [name for name, place in self._places.items() if abs(x_mm - place) <= _TOLERANCE_MM]
        self.state.put(here[0] if here else _UNKNOWN)
