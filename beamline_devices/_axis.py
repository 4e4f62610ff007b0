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
        status = DeviceStatus(self, call_stop_on_failure=False)
        moving = super().set(target, timeout=self._move_timeout_s, **kwargs)
        moving.add_callback(lambda ended: self._arrived(ended, target, status))
        return status

    def _arrived(self, ended: StatusBase, target: float, status: DeviceStatus) -> None:
        try:
            problem = self._problem(ended.exception(timeout=0), target)
        except Exception as error:
            # Whatever happens here, the one who waits must hear of it.
            problem = DeviceError(f"{self.name} cannot be asked where it is: {error}")
        if problem is None:
            status.set_finished()
        else:
            status.set_exception(problem)

    def _problem(self, error: BaseException | None, target: float) -> DeviceError | None:
        """Return what is wrong with a move that has ended, if anything."""
        way = f"{target:g} {self.egu}"
        here = f"it is at {self.position:g}"
        if isinstance(error, TimeoutError):
            return DeviceTimeoutError(
                f"{self.name} has not reached {way} after {self._move_timeout_s:g} s; {here}"
            )
        if error is not None:
            return DeviceError(
                f"{self.name} was broken off on the way to {way} by a stop, a limit switch or an alarm; {here}"
            )
        if abs(self.position - target) > self.tolerance:
            return NotArrivedError(
                f"{self.name} ended its move to {way} further off than {self.tolerance:g}; {here}"
            )
        return None

    def describe(self) -> dict[str, Any]:
        """Return the data keys of readback and setpoint, with the limits of the axis."""
        described = super().describe()
        low, high = self.limits
        if low < high:
            for entry in described.values():
                entry.update(lower_ctrl_limit=low, upper_ctrl_limit=high)
        return described
