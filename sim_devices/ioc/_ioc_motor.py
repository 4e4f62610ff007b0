"""Axes of the simulated IOC: EPICS motor records that move in simulated time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from scan_contract import optional_import

with optional_import("sim", "simulated control systems"):
    from caproto import SkipWrite
    from caproto.server import PVGroup, pvproperty

__all__ = ["MotorRecord", "Travel"]

_TICK_S = 0.02
_OUTSIDE = 1e-9

Travel = Callable[[float, float], float]
"""Where a move from ``start`` to ``target`` really ends."""


async def _put_value(group: Any, instance: Any, value: float) -> None:
    await group.move(instance, float(value))
    # `move` has published the value when the move began; the write is done only now, when it has ended.
    raise SkipWrite()


async def _start_up(group: Any, instance: Any, async_lib: Any) -> None:
    await group.publish_constants(instance)


class MotorRecord(PVGroup):
    """One motor record.

    Parameters
    ----------
    prefix : str
        Name of the record.
    position : float
        Where it starts.
    limits : tuple of float
        Soft limits; a value outside is refused by the record.
    velocity : float
        Units per second.
    units : str
        Engineering units.
    precision : int
        Digits after the point.
    time_scale : float
        Real seconds per simulated second; 0 moves at once.
    arrived : async callable
        Told the position and the simulated duration of the move it ends.
    travel : callable
        Where a move really ends; by default at its target.
    """

    motor = pvproperty(value=0.0, name="", record="motor", precision=6, put=_put_value, startup=_start_up)

    def __init__(
        self,
        prefix: str,
        *,
        position: float,
        limits: tuple[float, float],
        velocity: float,
        units: str,
        precision: int,
        time_scale: float,
        arrived: Callable[[float, float], Awaitable[None]] | None = None,
        travel: Travel | None = None,
    ) -> None:
        super().__init__(prefix=prefix)
        self._start = position
        self._limits = limits
        self._velocity = velocity
        self._units = units
        self._precision = precision
        self._time_scale = time_scale
        self._arrived = arrived
        self._travel = travel
        self._moves = 0
        self.published = asyncio.Event()

    async def publish_constants(self, instance: Any) -> None:
        """Publish what never changes, and the position at start."""
        fields = instance.field_inst
        low, high = self._limits
        shown = {"units": self._units, "precision": self._precision}
        await instance.write_metadata(lower_ctrl_limit=low, upper_ctrl_limit=high, **shown)
        await instance.write(self._start, verify_value=False)
        await fields.user_readback_value.write(self._start, **shown)
        for field in (fields.user_low_limit, fields.user_high_limit, fields.velocity):
            await field.write_metadata(**shown)
        await fields.user_low_limit.write(low)
        await fields.user_high_limit.write(high)
        # Some clients take limits from here, and zeros for none.
        await fields.dial_low_limit.write(low)
        await fields.dial_high_limit.write(high)
        await fields.velocity.write(self._velocity)
        await fields.engineering_units.write(self._units)
        await fields.done_moving_to_value.write(1)
        await fields.motor_is_moving.write(0)
        self.published.set()

    async def move(self, instance: Any, target: float) -> None:
        """Move, and return when the move has ended, by arriving, by a stop or by another move."""
        fields = instance.field_inst
        self._moves += 1
        this_move = self._moves
        await fields.stop.write(0)
        await instance.write(target, verify_value=False)
        start = float(fields.user_readback_value.value)
        end = target if self._travel is None else self._travel(start, target)
        await fields.direction_of_travel.write(1 if target >= start else 0)
        # A client takes the change of DMOV for the end of its move: even a move of no length has one.
        await fields.done_moving_to_value.write(0)
        await fields.motor_is_moving.write(1)
        duration_s = abs(end - start) / self._velocity
        position = await self._go(fields, start, end, duration_s * self._time_scale, this_move)
        share = abs(position - start) / abs(end - start) if abs(end - start) > _OUTSIDE else 1.0
        await fields.user_readback_value.write(position)
        if self._arrived is not None:
            await self._arrived(position, duration_s * share)
        if this_move == self._moves:
            if fields.stop.value:
                await instance.write(position, verify_value=False)
            await fields.motor_is_moving.write(0)
            await fields.done_moving_to_value.write(1)

    async def _go(self, fields: Any, start: float, end: float, wait_s: float, this_move: int) -> float:
        """Publish positions on the way; return the last one."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (passed := loop.time() - began) < wait_s:
            position = start + (end - start) * passed / wait_s
            if fields.stop.value or this_move != self._moves:
                return position
            await fields.user_readback_value.write(position)
            await asyncio.sleep(min(_TICK_S, wait_s - passed))
        return end
