"""Photon energy of the twin as a device."""

from collections.abc import Sequence
from typing import Any

from ophyd import Component, DeviceStatus, Kind

from beamline_devices import NotArrivedError
from sim_devices.twin import Fault, Twin, bragg_deg

from ._energy_axis import TwinEnergyAxis
from ._optics import SimOptics
from ._signals import SimSignal

__all__ = ["SimEnergy"]


class SimEnergy(TwinEnergyAxis):
    """Photon energy of the twin in eV.

    Parameters
    ----------
    name : str
        Name of the device and of its readback key.
    twin : Twin
        The simulated beamline.
    followers : sequence of SimOptics
        Optics that go to each energy too; their readings become part of this one's.
    time_scale : float
        Real seconds per simulated second; 0 moves at once.
    """

    bragg = Component(SimSignal, units="deg", precision=6, kind=Kind.normal)
    d_spacing_a = Component(SimSignal, units="angstrom", precision=5, kind=Kind.config)
    offset_ev = Component(SimSignal, units="eV", precision=3, value=0.0, kind=Kind.config)
    resolution = Component(SimSignal, precision=6, kind=Kind.config)

    def __init__(
        self, *, name: str, twin: Twin, followers: Sequence[SimOptics] = (), time_scale: float = 0.0
    ) -> None:
        super().__init__(name=name, twin=twin, time_scale=time_scale)
        self._followers = tuple(followers)
        mono = twin.settings.mono
        self._show(twin.energy_ev, (mono.low_ev, mono.high_ev))
        self.d_spacing_a.put(mono.d_spacing_a)
        self.resolution.put(mono.resolution)
        self.bragg.put(self._angle_deg())

    def check_value(self, value: float) -> None:
        """Refuse an energy that the axis, or what follows it, cannot reach.

        Raises
        ------
        OutOfLimitsError
            When the value is not a finite number within the limits.
        """
        super().check_value(value)
        for follower in self._followers:
            follower.check_value(float(value))

    def set(self, value: float) -> DeviceStatus:
        """Move to an energy in eV; the status is done on arrival."""
        self.check_value(value)
        self._check_reachable()
        mono = self._twin.settings.mono
        start, target = self.position, float(value)
        duration_s = abs(target - start) / mono.speed_ev_s + mono.settle_s
        stuck = self._twin.faults.occurs(Fault.ENERGY_STUCK)

        def arrive(share: float = 1.0) -> None:
            self._twin.wait(duration_s * share)
            energy = target if share >= 1.0 else start + share * (target - start)
            self._twin.energy_ev = energy - float(self.offset_ev.get())
            self.bragg.put(self._angle_deg())
            self.readback.put(energy)

        def finish() -> None:
            arrive(0.5 if stuck else 1.0)
            for moving in [follower.set(target) for follower in self._followers]:
                moving.wait()
            if abs(self.position - target) > 1e-3:
                raise NotArrivedError(f"{self.name} was sent to {target:g} eV but reads {self.position:g} eV")

        status = self._start(duration_s, finish, interrupted=arrive)
        self.setpoint.put(target)
        return status

    def follow(self, energy_ev: float) -> None:
        """Be at an energy (eV) on a flight; what follows the axis stays where it is."""
        self._twin.energy_ev = energy_ev - float(self.offset_ev.get())
        self.bragg.put(self._angle_deg())
        self.readback.put(energy_ev)
        self.setpoint.put(energy_ev)

    def stop(self, *, success: bool = False) -> None:
        """Stop the axis and what follows it."""
        super().stop(success=success)
        for follower in self._followers:
            follower.stop(success=success)

    def read(self) -> dict[str, Any]:
        """Return the energy, the Bragg angle and what follows."""
        return self._with_followers(super().read(), "read")

    def describe(self) -> dict[str, Any]:
        """Return the data keys of the reading."""
        return self._with_followers(super().describe(), "describe")

    def read_configuration(self) -> dict[str, Any]:
        """Return lattice spacing, calibration and the configuration of what follows."""
        return self._with_followers(super().read_configuration(), "read_configuration")

    def describe_configuration(self) -> dict[str, Any]:
        """Return the data keys of the configuration."""
        return self._with_followers(super().describe_configuration(), "describe_configuration")

    def _with_followers(self, own: dict[str, Any], method: str) -> dict[str, Any]:
        merged = dict(own)
        for follower in self._followers:
            merged.update(getattr(follower, method)())
        return merged

    def calibrate(self, measured_ev: float, nominal_ev: float) -> None:
        """Shift the axis so that what reads `measured_ev` now reads `nominal_ev`, as after a foil scan."""
        shift = float(nominal_ev) - float(measured_ev)
        self.offset_ev.put(float(self.offset_ev.get()) + shift)
        self._twin.calibration_ev = float(self.offset_ev.get())
        self.readback.put(self.position + shift)
        self.setpoint.put(float(self.setpoint.get()) + shift)

    def _angle_deg(self) -> float:
        return bragg_deg(self._twin.energy_ev, self._twin.settings.mono.d_spacing_a)
