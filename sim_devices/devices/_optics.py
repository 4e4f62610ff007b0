"""Zone plate of the twin as a device that follows the energy."""

from ophyd import Component, DeviceStatus, Kind

from beamline_devices import OutOfLimitsError
from sim_devices.twin import Twin, focal_length_mm

from ._positions import SimAxis
from ._signals import SimSignal
from ._twin_device import TwinDevice

__all__ = ["SimOptics"]

_LIMITS_MM = (5.0, 60.0)


class SimOptics(TwinDevice):
    """Zone plate that goes to its focus for an energy; the camera follows, so that the magnification stays.

    Moving its axis ``z`` by hand takes the image out of focus until it follows an energy again.

    Parameters
    ----------
    name : str
        Name of the device.
    twin : Twin
        The simulated beamline.
    time_scale : float
        Real seconds per simulated second; 0 moves at once.
    """

    energy_ev = Component(SimSignal, units="eV", precision=3, kind=Kind.normal)
    focal_length_mm = Component(SimSignal, units="mm", precision=4, kind=Kind.normal)
    magnification = Component(SimSignal, precision=4, kind=Kind.normal)
    pixel_size_nm = Component(SimSignal, units="nm", precision=3, kind=Kind.normal)
    diameter_um = Component(SimSignal, units="um", precision=2, kind=Kind.config)
    outermost_zone_nm = Component(SimSignal, units="nm", precision=2, kind=Kind.config)
    z = Component(SimAxis, units="mm", limits=_LIMITS_MM, speed=2.0, kind=Kind.normal)

    def __init__(self, *, name: str, twin: Twin, time_scale: float = 0.0) -> None:
        super().__init__(name=name, twin=twin, time_scale=time_scale)
        optics = twin.settings.optics
        self.diameter_um.put(optics.zone_plate_um)
        self.outermost_zone_nm.put(optics.outermost_zone_nm)
        self.magnification.put(optics.magnification)
        self.pixel_size_nm.put(twin.pixel_size_nm)
        focus_mm = twin.focus_mm(twin.energy_ev)
        self.z.user_readback.put(focus_mm)
        self.z.user_setpoint.put(focus_mm)
        self.z.when_moved(self._moved)
        self._follow(twin.energy_ev)

    def check_value(self, value: float) -> None:
        """Refuse an energy whose focus the zone plate cannot reach.

        Raises
        ------
        OutOfLimitsError
            When it cannot; nothing has moved.
        """
        try:
            focus_mm = self._twin.focus_mm(float(value))
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise OutOfLimitsError(f"{self.name} has no focus at an energy of {value!r} eV") from error
        self.z.check_value(focus_mm)

    def set(self, value: float) -> DeviceStatus:
        """Go to the focus for an energy in eV; the status is done on arrival."""
        self.check_value(value)
        self._check_reachable()
        energy_ev = float(value)
        focus_mm = self._twin.focus_mm(energy_ev)
        status = DeviceStatus(self, call_stop_on_failure=False)

        def arrived(moving: DeviceStatus) -> None:
            error = moving.exception(timeout=0)
            if error is not None:
                status.set_exception(error)
                return
            # A move that was stopped without complaint has not arrived.
            if self.z.position == focus_mm:
                self._follow(energy_ev)
            status.set_finished()

        self.z.set(focus_mm).add_callback(arrived)
        return status

    def stop(self, *, success: bool = False) -> None:
        """Stop the zone plate."""
        self.z.stop(success=success)

    def _follow(self, energy_ev: float) -> None:
        optics = self._twin.settings.optics
        self.energy_ev.put(energy_ev)
        self.focal_length_mm.put(focal_length_mm(energy_ev, optics.zone_plate_um, optics.outermost_zone_nm))
        self._twin.zone_plate_mm = None

    def _moved(self) -> None:
        self._twin.zone_plate_mm = self.z.position
