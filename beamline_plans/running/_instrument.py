"""The devices of one scan, checked before anything moves."""

import inspect
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from bluesky.protocols import Checkable, Configurable, Movable

from beamline_devices.protocols import (
    EnergyAxis,
    FrameDetector,
    PointDetector,
    RotationAxis,
    SampleStage,
    Shutter,
)
from beamline_plans.errors import PlanError
from scan_contract import saturation_of

__all__ = ["Instrument", "check_roles", "check_value", "first_value"]

_LOG = logging.getLogger("beamline_plans")


def check_roles(roles: Iterable[tuple[str, Any, tuple[str, ...]]]) -> None:
    """Refuse devices that cannot serve, and one device in two roles.

    Parameters
    ----------
    roles : iterable of (str, device, tuple of str)
        Role, the device given for it, and the attributes it must have; a device of None is left out.

    Raises
    ------
    PlanError
        The message names role and device.
    """
    seen: dict[int, str] = {}
    for role, device, attributes in roles:
        if device is None:
            continue
        name = getattr(device, "name", device)
        for attribute in attributes:
            if not hasattr(device, attribute):
                raise PlanError(
                    f"The device given as {role} ({name!s}) has no {attribute!r}; pass a device that can serve as "
                    f"{role}."
                )
        if id(device) in seen:
            raise PlanError(
                f"The device {name!s} is given as {seen[id(device)]} and as {role}; pass a device of its own for each."
            )
        seen[id(device)] = role


def check_value(device: Any, value: Any) -> None:
    """Ask a device, if it can tell, whether it accepts a value.

    Raises
    ------
    PlanError
        If it does not.
    """
    if not isinstance(device, Checkable):
        return
    try:
        answer = device.check_value(value)
    except Exception as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise PlanError(f"{getattr(device, 'name', device)!s} cannot go to {value!r}: {reason}.") from error
    if inspect.iscoroutine(answer):
        # A plan cannot await; the device checks again by itself when it is set.
        answer.close()


@dataclass(frozen=True)
class Instrument:
    """Camera, energy, shutter, sample stage and, if there are any, I0, filters and axis of rotation.

    Raises
    ------
    PlanError
        If a device lacks something a scan needs of it; the message names both.
    """

    camera: FrameDetector
    energy: EnergyAxis
    shutter: Shutter
    stage: SampleStage
    i0: Optional[PointDetector] = None
    filters: Optional[Movable[Any]] = None
    rotation: Optional[RotationAxis] = None

    def __post_init__(self) -> None:
        check_roles(
            (
                ("camera", self.camera, ("name", "read", "describe", "trigger", "exposure_s")),
                ("energy", self.energy, ("name", "read", "describe", "set", "hints")),
                ("shutter", self.shutter, ("name", "set")),
                ("stage", self.stage, ("name", "set")),
                ("i0", self.i0, ("name", "read", "describe")),
                ("filters", self.filters, ("name", "read", "set")),
                ("rotation", self.rotation, ("name", "read", "describe", "set")),
            )
        )

    @property
    def names(self) -> dict[str, Optional[str]]:
        """Names of the devices by role, as the start document carries them."""
        rotation = {} if self.rotation is None else {"rotation": self.rotation.name}
        return {
            "camera": self.camera.name,
            "energy": self.energy.name,
            "i0": None if self.i0 is None else self.i0.name,
            **rotation,
        }

    @property
    def saturation_counts(self) -> Optional[float]:
        """Counts from which on the camera is saturated; None where its configuration does not say."""
        if not isinstance(self.camera, Configurable):
            return None
        try:
            told = self.camera.read_configuration()
            if isinstance(told, Mapping):
                return saturation_of({key: reading["value"] for key, reading in told.items()})
            if inspect.iscoroutine(told):
                # A plan cannot await; the descriptor will hold it.
                told.close()
        except Exception as error:
            _LOG.debug("the camera does not tell its configuration before the scan: %s", error)
        return None

    @property
    def detectors(self) -> list[Any]:
        """What is triggered for each frame."""
        return [self.camera] if self.i0 is None else [self.camera, self.i0]

    def check(self, energies_ev: Iterable[float], filter_positions: Iterable[Any] = ()) -> None:
        """Refuse energies and positions that a device would not go to.

        Raises
        ------
        PlanError
            If a device refuses a value of this scan.
        """
        for energy in sorted(set(energies_ev)):
            check_value(self.energy, energy)
        for device, positions in ((self.shutter, ("open", "closed")), (self.stage, ("in", "out"))):
            for position in positions:
                check_value(device, position)
        for position in filter_positions:
            check_value(self.filters, position)


def first_value(device: Any, reading: Any) -> Any:
    """Return the main value of a reading; None where nothing answered, as in a simulation of the plan."""
    if not reading:
        return None
    fields = getattr(device, "hints", {}).get("fields") or list(reading)
    return reading[fields[0]]["value"]
