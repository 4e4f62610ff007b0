"""Devices with a few named positions: shutter, filters, sample stage."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from threading import Event
from typing import Any

from bluesky.protocols import Location
from ophyd import Component, Device, DeviceStatus, EpicsSignal, EpicsSignalRO, FormattedComponent, Kind
from ophyd.device import create_device_from_components

from beamline_devices._axis import EpicsAxis
from beamline_devices._described import CompleteDescriptions
from beamline_devices._parameters import Parameter
from beamline_devices._tasks import Task, await_put, put_complete, wait_for_value
from beamline_devices.errors import DeviceError, UnknownPositionError

__all__ = ["EpicsFilters", "EpicsSampleStage", "EpicsShutter", "NamedPositions"]

_UNKNOWN = "unknown"


class NamedPositions(CompleteDescriptions, Device, ABC):
    """What the named-position devices have in common; a subclass moves in `_go` and looks in `_find`.

    Its reading has one word under the name of the device: a position, or "unknown" where it is at none.

    Parameters
    ----------
    positions : tuple of str
        The names it takes.
    """

    state = Component(Parameter, value=_UNKNOWN, choices=(), kind=Kind.normal)

    def __init__(self, prefix: str, *, name: str, positions: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(prefix, name=name, **kwargs)
        self.positions = positions
        self.state.name = name
        self.state.choices = (*positions, _UNKNOWN)
        self._target: str | None = None
        self._task = Task(self, super().stop)

    @property
    def position(self) -> str:
        """Name of the position where it is, or "unknown"."""
        return self._find()

    def locate(self) -> Location[str]:
        """Where it was sent and where it is."""
        here = self._find()
        return Location(setpoint=here if self._target is None else self._target, readback=here)

    def check_value(self, value: Any) -> None:
        """Refuse a name that is not a position.

        Raises
        ------
        UnknownPositionError
            When there is no such position.
        """
        if value not in self.positions:
            names = " or ".join(repr(position) for position in self.positions)
            raise UnknownPositionError(f"{self.name} takes {names}, not {value!r}")

    def set(self, value: str) -> DeviceStatus:
        """Go to a named position; the status is done when it says that it is there."""
        self._task.connections.watch()
        self.check_value(value)
        self._target = value

        def travel() -> None:
            self._go(value)
            self._task.pause(0.0)

        return self._task.start(travel)

    def read(self) -> dict[str, Any]:
        """Name of the position, and the readings of what moves."""
        self.state.put(self._find())
        reading: dict[str, Any] = super().read()
        return reading

    def stop(self, *, success: bool = False) -> None:
        """Stop what moves."""
        self._task.stop(success=success)
        super().stop(success=success)

    @abstractmethod
    def _go(self, value: str) -> None:
        """Move, and return when it is there."""

    @abstractmethod
    def _find(self) -> str:
        """Look where it is."""


class EpicsShutter(NamedPositions):
    """Beam shutter with a command and a status of its own.

    Parameters
    ----------
    prefix : str
        In front of the names of the records.
    name : str
        Name of the device and of its key.
    command, status : str
        Names of the command and status records after the prefix.
    open_value, closed_value : int
        Values of both records.
    timeout_s : float
        Longest it may take.
    """

    command = FormattedComponent(EpicsSignal, "{self.prefix}{self._command}", kind=Kind.omitted)
    status = FormattedComponent(
        EpicsSignalRO, "{self.prefix}{self._status}", kind=Kind.omitted, auto_monitor=True
    )

    def __init__(
        self,
        prefix: str,
        *,
        name: str,
        command: str,
        status: str,
        open_value: int = 1,
        closed_value: int = 0,
        timeout_s: float = 10.0,
        **kwargs: Any,
    ) -> None:
        self._command = command
        self._status = status
        self._values = {"closed": closed_value, "open": open_value}
        self._timeout_s = timeout_s
        super().__init__(prefix, name=name, positions=("closed", "open"), **kwargs)

    def _go(self, value: str) -> None:
        wanted = self._values[value]

        def late() -> str:
            return (
                f"{self.name} is still {self._find()} {self._timeout_s:g} s after it was told to be {value}; "
                "search the hutch, check permits and the shutter itself"
            )

        # Until the command is taken the status may be the answer to the one before it, after a stop.
        await_put(put_complete(self.command, wanted), self._timeout_s, late, self._task)
        wait_for_value(self.status, lambda seen: int(seen) == wanted, self._timeout_s, late, self._task)

    def _find(self) -> str:
        seen = int(self.status.get())
        return next((name for name, value in self._values.items() if value == seen), _UNKNOWN)


class EpicsFilters(NamedPositions):
    """Filters that are put into the beam one by one; a named position is a choice of them.

    Parameters
    ----------
    prefix : str
        In front of the names of the records.
    name : str
        Name of the device and of its key.
    blades : mapping of str to tuple of str
        Per filter the names of its command and status records after the prefix, by the name of its component.
    choices : mapping of str to sequence of str
        Per named position the filters that are in the beam.
    in_value, out_value : int
        Values of command and status.
    timeout_s : float
        Longest a filter may take.
    """

    def __new__(cls, prefix: str, *, blades: Mapping[str, tuple[str, str]], **kwargs: Any) -> "EpicsFilters":
        """Make a class with two components per filter, and an instance of it."""
        components: dict[str, Any] = {}
        for attribute, (command, status) in blades.items():
            components[f"{attribute}_command"] = Component(EpicsSignal, command, kind=Kind.omitted)
            components[f"{attribute}_status"] = Component(
                EpicsSignalRO, status, kind=Kind.omitted, auto_monitor=True
            )
        made = create_device_from_components(cls.__name__, base_class=cls, **components)
        instance: EpicsFilters = object.__new__(made)
        return instance

    def __init__(
        self,
        prefix: str,
        *,
        name: str,
        blades: Mapping[str, tuple[str, str]],
        choices: Mapping[str, Any],
        in_value: int = 1,
        out_value: int = 0,
        timeout_s: float = 10.0,
        **kwargs: Any,
    ) -> None:
        self._choices = {choice: frozenset(wanted) for choice, wanted in choices.items()}
        for choice, wanted in self._choices.items():
            unknown = sorted(wanted - set(blades))
            if unknown:
                raise DeviceError(
                    f"{name}: the position {choice!r} names the filter {unknown[0]!r}, which does not exist"
                )
        self._blades = tuple(blades)
        self._in, self._out = in_value, out_value
        self._timeout_s = timeout_s
        super().__init__(prefix, name=name, positions=tuple(choices), **kwargs)

    def _go(self, value: str) -> None:
        wanted = {blade: self._in if blade in self._choices[value] else self._out for blade in self._blades}
        # All are told before any is waited for, those that go in first: the sample must not see less filter
        # than before and after.
        taken = {
            blade: put_complete(getattr(self, f"{blade}_command"), wanted[blade])
            for blade in sorted(wanted, key=lambda one: wanted[one] != self._in)
        }
        for blade, target in wanted.items():
            self._wait_for(blade, target, value, taken[blade])

    def _wait_for(self, blade: str, target: int, value: str, taken: Event) -> None:
        def late() -> str:
            return f"{self.name}: {blade} has not moved within {self._timeout_s:g} s on the way to {value!r}"

        # Until the command is taken the status may be the answer to the one before it, after a stop.
        await_put(taken, self._timeout_s, late, self._task)
        status = getattr(self, f"{blade}_status")
        wait_for_value(status, lambda seen: int(seen) == target, self._timeout_s, late, self._task)

    def _find(self) -> str:
        here = {blade for blade in self._blades if int(getattr(self, f"{blade}_status").get()) == self._in}
        return next((choice for choice, wanted in self._choices.items() if wanted == here), _UNKNOWN)


class EpicsSampleStage(NamedPositions):
    """Stage with axes x, y, z and rotation that takes the sample "in" and "out" of the beam.

    Parameters
    ----------
    prefix : str
        In front of the names of the records.
    name : str
        Name of the device and of its key.
    axes : mapping of str to str
        Names of the motor records after the prefix, by the name of their component; for example "x", "y",
        "z", "rotation".
    in_position, out_position : mapping of str to float
        Where the axes named are when the sample is in and out; both name the same axes. The others stay
        where they are.
    tolerance : float
        Largest distance from a position that counts as being there.
    """

    def __new__(cls, prefix: str, *, axes: Mapping[str, str], **kwargs: Any) -> "EpicsSampleStage":
        """Make a class with one component per axis, and an instance of it."""
        components = {attribute: Component(EpicsAxis, suffix) for attribute, suffix in axes.items()}
        made = create_device_from_components(cls.__name__, base_class=cls, **components)
        instance: EpicsSampleStage = object.__new__(made)
        return instance

    def __init__(
        self,
        prefix: str,
        *,
        name: str,
        axes: Mapping[str, str],
        in_position: Mapping[str, float],
        out_position: Mapping[str, float],
        tolerance: float = 5e-3,
        **kwargs: Any,
    ) -> None:
        if not in_position or set(in_position) != set(out_position) or not set(in_position) <= set(axes):
            raise DeviceError(
                f"{name} needs the same axes in its in- and out-position, all of them among {', '.join(axes)}"
            )
        self._places = {"in": dict(in_position), "out": dict(out_position)}
        self._tolerance = tolerance
        super().__init__(prefix, name=name, positions=("in", "out"), **kwargs)
        for attribute in axes:
            axis = getattr(self, attribute)
            axis.tolerance = tolerance
            axis.user_readback.kind = Kind.normal

    def check_value(self, value: Any) -> None:
        """Refuse a name that is not a position, or a position that an axis would refuse.

        Raises
        ------
        UnknownPositionError, OutOfLimitsError
            With the reason; nothing has moved.
        """
        super().check_value(value)
        for axis, place in self._places[value].items():
            getattr(self, axis).check_value(place)

    def move_in_position(self, **axes: float) -> None:
        """Take over where the sample is now to be looked at, for example after aligning: ``x=0.12``.

        The way out keeps its length: the out-position moves along.

        Raises
        ------
        UnknownPositionError
            When an axis does not take part in the way in and out.
        """
        for axis, place in axes.items():
            if axis not in self._places["in"]:
                raise UnknownPositionError(
                    f"{self.name} goes in and out along {', '.join(self._places['in'])}, not along {axis!r}"
                )
            shift = float(place) - self._places["in"][axis]
            for where in self._places.values():
                where[axis] += shift

    def _go(self, value: str) -> None:
        moving = [getattr(self, axis).set(place) for axis, place in self._places[value].items()]
        self._task.pause(0.0)
        for status in moving:
            status.wait()

    def _find(self) -> str:
        for position, places in self._places.items():
            if all(
                abs(getattr(self, axis).position - place) <= self._tolerance for axis, place in places.items()
            ):
                return position
        return _UNKNOWN
