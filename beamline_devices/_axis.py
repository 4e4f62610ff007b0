"""Axes: EPICS motor records that refuse what they cannot reach and are believed only when they are there."""

from typing import Any

from ophyd import DeviceStatus, EpicsMotor
from ophyd.status import StatusBase

from beamline_devices._checks import check_range, finite_number
from beamline_devices._described import CompleteDescriptions
from beamline_devices._errors import DeviceError, DeviceTimeoutError, NotArrivedError

__all__ = ["EpicsAxis"]


class EpicsAxis(CompleteDescriptions, EpicsMotor):
    """A motor record whose arrival is verified.

    Parameters
    ----------
    prefix : str
        Name of the record.
    name : str
        Name of the device and of its readback key.
    tolerance : float
        Largest distance between readback and target that counts as arrived, in units of the axis.
    move_timeout_s : float
        Longest a move may take.
    """

    def __init__(
        self, prefix: str, *, tolerance: float = 1e-3, move_timeout_s: float = 300.0, **kwargs: Any
    ) -> None:
        super().__init__(prefix, **kwargs)
        self.tolerance = tolerance
        self._move_timeout_s = move_timeout_s

    def check_value(self, position: Any) -> None:
        """Refuse a position outside the soft limits.

        Raises
        ------
        OutOfLimitsError
            When it is outside or not a finite number.
        """
        units = str(self.egu)
        number = finite_number(self.name, position, units)
        low, high = self.limits
        # Equal limits are how a motor record says that it has none.
        if low < high:
            check_range(self.name, number, (low, high), units)

    def set(self, position: float, **kwargs: Any) -> DeviceStatus:
        """Move; the status is done when the readback is at the target.

        Raises
        ------
        OutOfLimitsError
            Before anything moves, when the record would refuse the position.
        """
        self.check_value(position)
        target = float(position)
        status = DeviceStatus(self)
        moving = super().set(target, timeout=self._move_timeout_s, **kwargs)
        moving.add_callback(lambda ended: self._arrived(ended, target, status))
        return status

    def _arrived(self, ended: StatusBase, target: float, status: DeviceStatus) -> None:
        error = ended.exception(timeout=0)
        units = self.egu
        if isinstance(error, TimeoutError):
            status.set_exception(
                DeviceTimeoutError(
                    f"{self.name} has not reached {target:g} {units} after {self._move_timeout_s:g} s; "
                    f"it is at {self.position:g}"
                )
            )
        elif error is not None:
            status.set_exception(
                DeviceError(
                    f"{self.name} failed on the way to {target:g} {units} and is at {self.position:g}: "
                    "limit switch or alarm, see its record"
                )
            )
        elif abs(self.position - target) > self.tolerance:
            status.set_exception(
                NotArrivedError(
                    f"{self.name} stopped at {self.position:g} {units} on the way to {target:g} {units}, "
                    f"further off than {self.tolerance:g}"
                )
            )
        else:
            status.set_finished()

    def describe(self) -> dict[str, Any]:
        """Return the data keys of readback and setpoint, with the limits of the axis."""
        described = super().describe()
        low, high = self.limits
        if low < high:
            for entry in described.values():
                entry.update(lower_ctrl_limit=low, upper_ctrl_limit=high)
        return described
