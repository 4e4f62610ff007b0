"""What the simulated energy axes have in common."""

import math

from bluesky.protocols import Location
from ophyd import Component, Kind

from beamline_devices import OutOfLimitsError

from ._signals import SimSignal
from ._twin_device import TwinDevice

__all__ = ["TwinEnergyAxis"]


class TwinEnergyAxis(TwinDevice):
    """Photon energy in eV, with limits."""

    readback = Component(SimSignal, units="eV", precision=3, kind=Kind.hinted)
    setpoint = Component(SimSignal, units="eV", precision=3, kind=Kind.normal)

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest energy in eV."""
        return self._limits_ev

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

    def _show(self, energy_ev: float, limits_ev: tuple[float, float]) -> None:
        """Give readback and setpoint their first value and their limits."""
        self._limits_ev = low, high = limits_ev
        self.readback.name = self.name
        for signal in (self.readback, self.setpoint):
            signal.put(energy_ev)
            signal.amend(lower_ctrl_limit=low, upper_ctrl_limit=high)
