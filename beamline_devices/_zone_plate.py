"""Zone-plate optics that follow the photon energy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ophyd import Component, Device, DeviceStatus, Kind
from ophyd.device import create_device_from_components

from beamline_devices._axis import EpicsAxis
from beamline_devices._calibration_table import CalibrationTable
from beamline_devices._checks import check_energy_ev
from beamline_devices._described import CompleteDescriptions
from beamline_devices._parameters import Parameter
from beamline_devices._tasks import Task
from beamline_devices.errors import DeviceError, OutOfLimitsError
from scan_contract import HC_EV_ANGSTROM

__all__ = ["FollowingAxis", "ZonePlate", "ZonePlateOptics"]

_NM_PER_ANGSTROM = 0.1
_MM_PER_UM = 1e-3
_NM_PER_UM = 1e3


@dataclass(frozen=True)
class ZonePlate:
    """A zone plate as a thin lens in its first order.

    Attributes
    ----------
    diameter_um : float
        Diameter.
    outermost_zone_nm : float
        Width of the outermost zone.
    """

    diameter_um: float
    outermost_zone_nm: float

    def __post_init__(self) -> None:
        if self.diameter_um <= 0 or self.outermost_zone_nm <= 0:
            raise OutOfLimitsError(
                f"a zone plate has a diameter and an outermost zone above 0, not {self.diameter_um:g} "
                f"um and {self.outermost_zone_nm:g} nm"
            )

    def focal_length_mm(self, energy_ev: float) -> float:
        """Focal length ``diameter x outermost zone / wavelength``; proportional to the energy."""
        wavelength_nm = HC_EV_ANGSTROM / energy_ev * _NM_PER_ANGSTROM
        return self.diameter_um * self.outermost_zone_nm / wavelength_nm * _MM_PER_UM

    def object_distance_mm(self, energy_ev: float, magnification: float) -> float:
        """Distance from sample to zone plate for a sharp image of a magnification."""
        return self.focal_length_mm(energy_ev) * (1.0 + 1.0 / magnification)

    def image_distance_mm(self, energy_ev: float, magnification: float) -> float:
        """Distance from zone plate to camera for a sharp image of a magnification."""
        return self.focal_length_mm(energy_ev) * (1.0 + magnification)

    def magnification(self, energy_ev: float, sample_to_camera_mm: float) -> float:
        """Magnification of the sharp, enlarged image where sample and camera stand still.

        Raises
        ------
        OutOfLimitsError
            When the camera is nearer than four focal lengths: then no image is sharp.
        """
        focal_mm = self.focal_length_mm(energy_ev)
        discriminant = sample_to_camera_mm * (sample_to_camera_mm - 4.0 * focal_mm)
        if discriminant < 0.0:
            raise OutOfLimitsError(
                f"a zone plate of focal length {focal_mm:.2f} mm makes no sharp image "
                f"{sample_to_camera_mm:g} mm from the sample"
            )
        image_mm = (sample_to_camera_mm + math.sqrt(discriminant)) / 2.0
        return image_mm / (sample_to_camera_mm - image_mm)

    def table(
        self,
        energies_ev: Sequence[float],
        *,
        sample_to_camera_mm: float,
        at_energy_ev: float,
        at_position_mm: float,
    ) -> CalibrationTable:
        """Positions of the zone plate along the beam, from theory and one measured focus.

        Parameters
        ----------
        energies_ev : sequence of float
            Energies of the table.
        sample_to_camera_mm : float
            Fixed distance from sample to camera.
        at_energy_ev, at_position_mm : float
            Energy and position of the axis at which the image was focused by hand; the position grows away
            from the sample.
        """

        def from_sample(energy_ev: float) -> float:
            return self.object_distance_mm(energy_ev, self.magnification(energy_ev, sample_to_camera_mm))

        zero = at_position_mm - from_sample(at_energy_ev)
        return CalibrationTable(energies_ev, [zero + from_sample(energy) for energy in energies_ev])


@dataclass(frozen=True)
class FollowingAxis:
    """An axis of the optics and where it has to be at which energy.

    Attributes
    ----------
    suffix : str
        Name of the motor record after the prefix.
    table : CalibrationTable
        Position over energy.
    tolerance : float
        Largest distance from the target that counts as arrived, in units of the axis.
    """

    suffix: str
    table: CalibrationTable
    tolerance: float = 1e-3


class ZonePlateOptics(CompleteDescriptions, Device):
    """Zone plate, and whatever else moves with it, at the right place for each energy.

    Setting it to an energy takes each axis to the interpolated position of its calibration table; an energy
    outside any table is refused before anything moves. Give it to a `Monochromator` as a follower, and each
    event of a scan carries focal length, magnification and pixel size.

    Parameters
    ----------
    prefix : str
        In front of the names of the records.
    name : str
        Name of the device.
    axes : mapping of str to FollowingAxis
        Axes by the name of their component, for example "z" and "camera".
    zone_plate : ZonePlate
        Diameter and zone width.
    camera_pixel_um : float
        Pixel of the camera, divided by the magnification of any further optics behind the zone plate.
    sample_to_camera_mm : float, optional
        Distance from sample to camera where both stand still: the magnification changes with energy.
    magnification : float, optional
        Magnification, where the camera moves so that it is constant. Exactly one of the two is given.
    """

    energy_ev = Component(Parameter, value=0.0, units="eV", precision=3, kind=Kind.normal)
    focal_length_mm = Component(Parameter, value=0.0, units="mm", precision=4, kind=Kind.normal)
    magnification = Component(Parameter, value=0.0, precision=4, kind=Kind.normal)
    pixel_size_nm = Component(Parameter, value=0.0, units="nm", precision=3, kind=Kind.normal)
    diameter_um = Component(Parameter, value=0.0, units="um", precision=2, kind=Kind.config)
    outermost_zone_nm = Component(Parameter, value=0.0, units="nm", precision=2, kind=Kind.config)

    def __new__(cls, prefix: str, *, axes: Mapping[str, FollowingAxis], **kwargs: Any) -> "ZonePlateOptics":
        """Make a class with one component per axis, and an instance of it."""
        components = {
            attribute: Component(EpicsAxis, axis.suffix, tolerance=axis.tolerance)
            for attribute, axis in axes.items()
        }
        made = create_device_from_components(cls.__name__, base_class=cls, **components)
        instance: ZonePlateOptics = object.__new__(made)
        return instance

    def __init__(
        self,
        prefix: str,
        *,
        name: str,
        axes: Mapping[str, FollowingAxis],
        zone_plate: ZonePlate,
        camera_pixel_um: float,
        sample_to_camera_mm: float | None = None,
        magnification: float | None = None,
        **kwargs: Any,
    ) -> None:
        if not axes:
            raise DeviceError(f"{name} has no axis that follows the energy; give it at least one")
        if (sample_to_camera_mm is None) == (magnification is None):
            raise DeviceError(
                f"{name} needs either the distance from sample to camera or a constant magnification"
            )
        super().__init__(prefix, name=name, **kwargs)
        self.zone_plate = zone_plate
        self._camera_pixel_um = camera_pixel_um
        self._sample_to_camera_mm = sample_to_camera_mm
        self._constant_magnification = magnification
        self._task = Task(self, super().stop)
        self._tables = {attribute: axis.table for attribute, axis in axes.items()}
        self.diameter_um.put(float(zone_plate.diameter_um))
        self.outermost_zone_nm.put(float(zone_plate.outermost_zone_nm))
        for attribute in axes:
            getattr(self, attribute).user_readback.kind = Kind.normal

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest energy that every table covers, in eV."""
        ranges = [table.limits_ev for table in self._tables.values()]
        return max(low for low, _ in ranges), min(high for _, high in ranges)

    def magnification_at(self, energy_ev: float) -> float:
        """Magnification at an energy."""
        if self._constant_magnification is not None:
            return self._constant_magnification
        assert self._sample_to_camera_mm is not None
        return self.zone_plate.magnification(energy_ev, self._sample_to_camera_mm)

    def check_value(self, value: Any) -> None:
        """Refuse an energy outside a calibration table, or whose positions an axis would refuse.

        Raises
        ------
        OutOfLimitsError
            With the reason; nothing has moved.
        """
        energy_ev = check_energy_ev(self.name, value, self.limits)
        self.magnification_at(energy_ev)
        for attribute, table in self._tables.items():
            getattr(self, attribute).check_value(table.at(energy_ev))

    def set(self, value: float) -> DeviceStatus:
        """Go to the positions for an energy in eV; the status is done when every axis is there."""
        self._task.connections.watch()
        self.check_value(value)
        energy_ev = float(value)

        def travel() -> None:
            moving = [getattr(self, name).set(table.at(energy_ev)) for name, table in self._tables.items()]
            self._task.pause(0.0)
            for status in moving:
                status.wait()
            self._task.pause(0.0)
            magnification = self.magnification_at(energy_ev)
            self.energy_ev.put(energy_ev)
            self.focal_length_mm.put(self.zone_plate.focal_length_mm(energy_ev))
            self.magnification.put(float(magnification))
            self.pixel_size_nm.put(self._camera_pixel_um * _NM_PER_UM / magnification)

        return self._task.start(travel)

    def stop(self, *, success: bool = False) -> None:
        """Stop every axis."""
        self._task.stop(success=success)
        super().stop(success=success)
