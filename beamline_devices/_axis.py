"""Axes: EPICS motor records that refuse what they cannot reach and are believed only when they are there."""

import threading
from typing import Any

from ophyd import DeviceStatus, EpicsMotor
from ophyd.status import StatusBase

from beamline_devices._checks import check_range, finite_number
from beamline_devices._connections import Connections
from beamline_devices._described import CompleteDescriptions
from beamline_devices._errors import DeviceError, DeviceTimeoutError, NotArrivedError, NotConnectedError
from beamline_devices._tasks import wait_for_value

__all__ = ["EpicsAxis"]

# A stopped axis slows down for no longer.
_STAND_S = 30.0


class _Move:
    """One move; `stopped` says whether and as what it was stopped."""

    def __init__(self, status: DeviceStatus, target: float, kwargs: dict[str, Any]) -> None:
        self.status = status
        self.target = target
        self.kwargs = kwargs
        self.stopped: bool | None = None
        self._once = threading.Lock()

    def end(self, problem: Exception | None) -> None:
        """End the status, the first time."""
        if not self._once.acquire(blocking=False):
            return
        if problem is None:
            self.status.set_finished()
        else:
            self.status.set_exception(problem)


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
        self._last: _Move | None = None
        self._stopping = False
        self._connections = Connections(self, self._gone)

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
        """Move; the status is done when the readback is at the target, or as `stop` says.

        Raises
        ------
        OutOfLimitsError
            Before anything moves, when the record would refuse the position.
        NotConnectedError
            When fields of the record have stopped to answer.
        """
        self._connections.watch()
        self.check_value(position)
        move = self._last = _Move(DeviceStatus(self, call_stop_on_failure=False), float(position), kwargs)
        if self._stopping and self._moving:
            # The record would take the end of the stop for that of the new move.
            self.cl.thread_class(target=self._begin_later, args=(move,), daemon=True, name=self.name).start()
        else:
            self._begin(move)
        return move.status

    def stop(self, *, success: bool = False) -> None:
        """Stop; the move under way ends as a success or a failure as asked."""
        if self._last is not None:
            self._last.stopped = success
        self._stopping = True
        super().stop(success=success)

    def _begin_later(self, move: "_Move") -> None:
        try:
            wait_for_value(
                self.motor_done_move,
                lambda done: int(done) == 1,
                _STAND_S,
                lambda: f"{self.name} has not come to a stand {_STAND_S:g} s after it was stopped",
            )
            self._begin(move)
        except Exception as error:
            move.end(error)

    def _begin(self, move: "_Move") -> None:
        if move.stopped is not None:
            move.end(None if move.stopped else DeviceError(f"{self.name} was stopped before it moved"))
            return
        self._stopping = False
        moving = super().set(move.target, timeout=self._move_timeout_s, **move.kwargs)
        moving.add_callback(lambda ended: self._arrived(ended, move))

    def _arrived(self, ended: StatusBase, move: "_Move") -> None:
        if move.stopped:
            move.end(None)
            return
        try:
            problem = self._problem(ended.exception(timeout=0), move.target)
        except Exception as error:
            # Whatever happens here, the one who waits must hear of it.
            problem = DeviceError(f"{self.name} cannot be asked where it is: {error}")
        move.end(problem)

    def _gone(self) -> None:
        move = self._last
        if move is not None:
            move.end(NotConnectedError(self._connections.sentence()))

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
