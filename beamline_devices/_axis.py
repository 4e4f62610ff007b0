"""Axes: EPICS motor records that refuse what is out of limits, and whose readback is checked after each move."""

import threading
import time
from typing import Any

from ophyd import DeviceStatus, EpicsMotor, get_cl
from ophyd.status import StatusBase

from beamline_devices._checks import check_range, finite_number
from beamline_devices._connections import Connections
from beamline_devices._described import CompleteDescriptions
from beamline_devices.errors import DeviceError, DeviceTimeoutError, NotArrivedError, NotConnectedError

__all__ = ["EpicsAxis"]

# A stopped axis slows down for no longer.
_REST_TIMEOUT_S = 30.0
_POLL_INTERVAL_S = 0.05
# After a stop, so often in a row it must be found standing before its next move has ended.
_N_AT_REST = 4


class _Move:
    """One move; `stopped` says whether and as what it was stopped."""

    def __init__(self, status: DeviceStatus, target: float, kwargs: dict[str, Any]) -> None:
        self.status = status
        self.target = target
        self.kwargs = kwargs
        self.stopped: bool | None = None
        self.after_stop = False
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
        # A stop from another thread comes before a move or after it, not in its midst.
        self._order = threading.RLock()
        self._connections = Connections(self, self._disconnected)

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
        move = _Move(DeviceStatus(self, call_stop_on_failure=False), float(position), kwargs)
        with self._order:
            self._last = move
            if self._stopping:
                # The end of the stop would be taken for that of the new move.
                begin = get_cl().thread_class(
                    target=self._begin_later, args=(move,), daemon=True, name=self.name
                )
                begin.start()
            else:
                self._begin(move)
        return move.status

    def stop(self, *, success: bool = False) -> None:
        """Stop; the move under way ends as a success or a failure as asked."""
        with self._order:
            move = self._last
            if move is not None and not move.status.done:
                move.stopped = success
                self._stopping = True
            super().stop(success=True)

    def _begin_later(self, move: "_Move") -> None:
        try:
            move.after_stop = True
            deadline = time.monotonic() + _REST_TIMEOUT_S
            while not self._is_at_rest():
                if time.monotonic() > deadline:
                    raise DeviceTimeoutError(
                        f"{self.name} has not come to a stand {_REST_TIMEOUT_S:g} s after it was stopped"
                    )
                time.sleep(_POLL_INTERVAL_S)
            self._begin(move)
        except Exception as error:
            move.end(error)

    def _is_at_rest(self) -> bool:
        """Ask the record itself, as what it publishes may still be on its way."""
        self._connections.check()
        return int(self.motor_done_move.get(use_monitor=False)) == 1

    def _begin(self, move: "_Move") -> None:
        with self._order:
            if move.stopped is not None:
                move.end(None if move.stopped else DeviceError(f"{self.name} was stopped before it moved"))
                return
            if move is not self._last:
                move.end(DeviceError(f"{self.name} was sent elsewhere before it moved"))
                return
            self._stopping = False
            # A move before, whose end was not seen: ophyd would let it fail now, stop the axis for that a moment
            # later, and with it this move.
            self._done_moving(success=True)
            moving = super().set(move.target, timeout=self._move_timeout_s, **move.kwargs)
        moving.add_callback(lambda ended: self._arrived(ended, move))

    def _arrived(self, ended: StatusBase, move: "_Move") -> None:
        error = ended.exception(timeout=0)
        if move.after_stop and error is None and move.stopped is None:
            # That may have been the end of the stop before it, published late.
            get_cl().thread_class(
                target=self._check_arrival, args=(move, None, _N_AT_REST), daemon=True, name=self.name
            ).start()
        else:
            self._check_arrival(move, error, 0)

    def _check_arrival(self, move: "_Move", error: BaseException | None, n_at_rest: int) -> None:
        """End a move as what it was, when it has been found standing so often in a row."""
        try:
            deadline = time.monotonic() + self._move_timeout_s
            at_rest = 0
            while at_rest < n_at_rest and time.monotonic() < deadline and move.stopped is None:
                at_rest = at_rest + 1 if self._is_at_rest() else 0
                time.sleep(_POLL_INTERVAL_S)
            problem = None if move.stopped else self._problem(error, move)
        except Exception as failure:
            # Whatever happens here, the one who waits must hear of it.
            problem = DeviceError(f"{self.name} cannot be asked where it is: {failure}")
        move.end(problem)

    def _disconnected(self) -> None:
        move = self._last
        if move is not None:
            move.end(NotConnectedError(self._connections.describe_loss()))

    def _problem(self, error: BaseException | None, move: "_Move") -> DeviceError | None:
        """Return what is wrong with a move that has ended, if anything."""
        target = move.target
        way = f"{target:g} {self.egu}"
        here = f"it is at {self.position:g}"
        if isinstance(error, TimeoutError):
            return DeviceTimeoutError(
                f"{self.name} has not reached {way} after {self._move_timeout_s:g} s; {here}"
            )
        if move.stopped is not None:
            return DeviceError(f"{self.name} was stopped on the way to {way}; {here}")
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
