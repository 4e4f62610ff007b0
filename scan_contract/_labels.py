"""The words every event carries: which frame it is, so that nothing is inferred from its position."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .errors import ContractError

__all__ = [
    "ALL_ENERGIES",
    "LABEL_DEVICE",
    "STREAMS",
    "Label",
    "Shot",
    "label_data_keys",
    "read_label",
    "read_shot",
    "shot_values",
]

STREAMS = ("dark", "flat", "primary")
"""Event streams of a scan."""

ALL_ENERGIES = -1
"""Energy index of a dark, or of a flat, that serves all energies."""

LABEL_DEVICE = "xanes"
"""Name of the readable that carries the label; its keys begin with it."""

_NO_AXES: Mapping[str, int] = MappingProxyType({})
_AXIS_PREFIX = f"{LABEL_DEVICE}_axis_"


@dataclass(frozen=True)
class Label:
    """Which reading of the plan an event is.

    Parameters
    ----------
    stream : {"dark", "flat", "primary"}
        Event stream.
    energy_index : int
        Place in the contract's list of energies, or `ALL_ENERGIES`.
    repeat : int
        Counts the readings of one stream at one place of the plan from 0.
    attempt : int
        How often this very reading had been taken before; the latest attempt counts.
    axes : mapping of str to int
        Place in the plan's own lists of the technique's further axes, such as ``angle`` or ``row``.
    """

    stream: str
    energy_index: int
    repeat: int = 0
    attempt: int = 0
    axes: Mapping[str, int] = field(default_factory=lambda: _NO_AXES)

    @property
    def slot(self) -> tuple[Any, ...]:
        """What the reading is for: a later attempt at the same slot replaces it."""
        if not self.axes:
            return self.stream, self.energy_index, self.repeat
        return self.stream, self.energy_index, self.repeat, *sorted(self.axes.items())


@dataclass(frozen=True)
class Shot:
    """One reading that a plan is about to take.

    Parameters
    ----------
    stream : {"dark", "flat", "primary"}
        Event stream it belongs to.
    energy_index : int
        Place in the grid, or `ALL_ENERGIES`.
    energy_setpoint_ev : float
        Energy asked for in eV.
    exposure_s : float
        Exposure asked for in seconds.
    repeat : int
        Counts the readings of one stream at one place of the plan from 0.
    axes : tuple of (str, int)
        Places on the technique's further axes.
    """

    stream: str
    energy_index: int
    energy_setpoint_ev: float
    exposure_s: float
    repeat: int
    axes: tuple[tuple[str, int], ...] = ()


def shot_values(shot: Shot, attempt: int) -> dict[str, Any]:
    """Return the data of an event that says which shot it is.

    Parameters
    ----------
    shot : Shot
        What is being taken.
    attempt : int
        How often it had been taken before.
    """
    return {
        f"{LABEL_DEVICE}_energy_index": shot.energy_index,
        f"{LABEL_DEVICE}_energy_setpoint_ev": shot.energy_setpoint_ev,
        f"{LABEL_DEVICE}_exposure_s": shot.exposure_s,
        f"{LABEL_DEVICE}_repeat": shot.repeat,
        f"{LABEL_DEVICE}_attempt": attempt,
        **{f"{_AXIS_PREFIX}{name}": place for name, place in shot.axes},
    }


def label_data_keys(axes: tuple[str, ...] = (), source: str = "plan:xanes") -> dict[str, dict[str, Any]]:
    """Return the data keys of `shot_values`, as a descriptor holds them."""
    integer = {"source": source, "dtype": "integer", "shape": [], "dtype_numpy": "<i8"}
    number = {"source": source, "dtype": "number", "shape": [], "dtype_numpy": "<f8"}
    return {
        f"{LABEL_DEVICE}_energy_index": dict(integer),
        f"{LABEL_DEVICE}_energy_setpoint_ev": {**number, "units": "eV"},
        f"{LABEL_DEVICE}_exposure_s": {**number, "units": "s"},
        f"{LABEL_DEVICE}_repeat": dict(integer),
        f"{LABEL_DEVICE}_attempt": dict(integer),
        **{f"{_AXIS_PREFIX}{name}": dict(integer) for name in axes},
    }


def read_label(stream: str, data: Mapping[str, Any]) -> Label:
    """Read the label of an event.

    Parameters
    ----------
    stream : str
        Name of the event's stream.
    data : mapping
        The event's data.

    Raises
    ------
    ContractError
        The data say no energy index, or something that is no whole number.
    """
    if not isinstance(data, Mapping):
        raise ContractError(f"an event of {stream} holds no data")
    axes = {
        str(key).removeprefix(_AXIS_PREFIX): _whole(stream, key, data)
        for key in data
        if str(key).startswith(_AXIS_PREFIX)
    }
    return Label(
        stream=stream,
        energy_index=_whole(stream, f"{LABEL_DEVICE}_energy_index", data),
        repeat=_whole(stream, f"{LABEL_DEVICE}_repeat", data, 0),
        attempt=_whole(stream, f"{LABEL_DEVICE}_attempt", data, 0),
        axes=axes or _NO_AXES,
    )


def read_shot(stream: str, data: Mapping[str, Any]) -> Shot:
    """Read what an event says was asked for.

    Raises
    ------
    ContractError
        As `read_label`, and for an exposure or an energy that is no number.
    """
    label = read_label(stream, data)
    return Shot(
        stream=stream,
        energy_index=label.energy_index,
        energy_setpoint_ev=_number(stream, f"{LABEL_DEVICE}_energy_setpoint_ev", data, math.nan),
        exposure_s=_number(stream, f"{LABEL_DEVICE}_exposure_s", data),
        repeat=label.repeat,
        axes=tuple(sorted(label.axes.items())),
    )


def _whole(stream: str, key: str, data: Mapping[str, Any], default: int | None = None) -> int:
    value = _number(stream, key, data, default)
    if not math.isfinite(value) or value != int(value):
        raise ContractError(f"an event of {stream} has {key} = {data.get(key)!r}, which is no whole number")
    return int(value)


def _number(stream: str, key: str, data: Mapping[str, Any], default: float | None = None) -> float:
    value = data.get(key, default)
    if value is None:
        raise ContractError(f"an event of {stream} does not say its {key}")
    if isinstance(value, str | bytes | bool):
        raise ContractError(f"an event of {stream} has {key} = {value!r}, which is no number")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ContractError(f"an event of {stream} has {key} = {value!r}, which is no number") from None
