"""The simulated EPICS beamline: the twin behind motors, shutter, filters, scalers and an area-detector camera."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from beamline_devices import DeviceError
from scan_contract import optional_import
from sim_devices.devices import FILTER_BLADES_UM, SimBeamline
from sim_devices.twin import Fault, bragg_deg

from ._ioc_beam import Beam
from ._ioc_camera import CameraRecords
from ._ioc_channels import choice, integer, word
from ._ioc_detectors import AnalyserRecords, ElectrometerRecords, ScalerRecords
from ._ioc_motor import MotorRecord

with optional_import("sim", "simulated control systems"):
    from caproto import ServerDisconnResponse, SkipWrite
    from caproto.asyncio.server import Context

__all__ = ["SimulatedIOC", "serve"]

_SHUTTER_S = 0.05
_FILTER_S = 0.2


@dataclass(frozen=True)
class _Axis:
    suffix: str
    position: float
    limits: tuple[float, float]
    velocity: float
    units: str
    precision: int


_PLAIN_AXES = (
    _Axis("mono:gap", 12.0, (5.0, 40.0), 1.0, "mm", 4),
    _Axis("zp:camera", 1000.0, (500.0, 3000.0), 50.0, "mm", 3),
    _Axis("stage:z", 0.0, (-10.0, 10.0), 2.0, "mm", 4),
    _Axis("stage:rotation", 0.0, (-180.0, 180.0), 10.0, "deg", 3),
)


class SimulatedIOC:
    """All records of the simulated beamline.

    Parameters
    ----------
    prefix : str
        In front of every PV name.
    beamline : SimBeamline
        The twin that is measured.
    time_scale : float
        Real seconds per simulated second of motion and exposure; 0 does everything at once.
    """

    def __init__(self, prefix: str, beamline: SimBeamline, time_scale: float) -> None:
        if time_scale < 0:
            raise DeviceError(f"time_scale cannot be negative ({time_scale:g})")
        self.prefix = prefix
        self.beam = Beam(beamline)
        self._time_scale = time_scale
        self._hidden: dict[str, Any] = {}
        self._context: Context | None = None
        self.pvdb: dict[str, Any] = {}
        bragg = MotorRecord(
            prefix + "mono:bragg",
            position=bragg_deg(beamline.twin.energy_ev, self.beam.spacing_a),
            limits=(9.0, 25.0),
            velocity=0.1,
            units="deg",
            precision=6,
            time_scale=time_scale,
            arrived=self._bragg_arrived,
            travel=self.beam.end_of_travel,
        )
        lateral = [
            MotorRecord(
                prefix + name,
                position=0.0,
                limits=(-10.0, 10.0),
                velocity=5.0,
                units="mm",
                precision=4,
                time_scale=time_scale,
                arrived=self._sample_arrived(axis),
            )
            for axis, name in enumerate(("stage:y", "stage:x"))
        ]
        plain = [
            MotorRecord(
                prefix + axis.suffix,
                position=axis.position,
                limits=axis.limits,
                velocity=axis.velocity,
                units=axis.units,
                precision=axis.precision,
                time_scale=time_scale,
            )
            for axis in _PLAIN_AXES
        ]
        zone_plate = MotorRecord(
            prefix + "zp:z",
            position=beamline.twin.focus_mm(beamline.twin.energy_ev),
            limits=(5.0, 60.0),
            velocity=2.0,
            units="mm",
            precision=5,
            time_scale=time_scale,
            arrived=self._zone_plate_arrived,
        )
        self._motors = (bragg, zone_plate, *lateral, *plain)
        for motor in self._motors:
            self.pvdb.update(motor.pvdb)
        self.pvdb.update(CameraRecords(prefix + "CAM:", self.beam, time_scale).pvdb)
        self.pvdb.update(ScalerRecords(prefix + "scaler1", self.beam, time_scale).pvdb)
        self.pvdb.update(ElectrometerRecords(prefix + "EM:", self.beam, time_scale).pvdb)
        self.pvdb.update(AnalyserRecords(prefix + "mca1", self.beam, time_scale).pvdb)
        self._add_shutter()
        self._add_filters()
        self._add_sample_choice()
        self._add_faults()

    async def _bragg_arrived(self, angle_deg: float, duration_s: float) -> None:
        self.beam.set_angle(angle_deg, duration_s)

    async def _zone_plate_arrived(self, position_mm: float, duration_s: float) -> None:
        self.beam.twin.wait(duration_s)
        self.beam.twin.zone_plate_mm = position_mm

    def _sample_arrived(self, axis: int) -> Callable[[float, float], Awaitable[None]]:
        async def arrived(position_mm: float, duration_s: float) -> None:
            self.beam.set_sample(axis, position_mm, duration_s)

        return arrived

    def _add_shutter(self) -> None:
        status = choice("Closed", ("Closed", "Open"))

        async def put(_: Any, value: str) -> None:
            await asyncio.sleep(_SHUTTER_S * self._time_scale)
            self.beam.beamline.twin.wait(_SHUTTER_S)
            is_open = self.beam.set_shutter(value == "Open")
            await status.write("Open" if is_open else "Closed")

        self.pvdb[self.prefix + "shutter:Set"] = choice("Closed", ("Closed", "Open"), put)
        self.pvdb[self.prefix + "shutter:Status"] = status

    def _add_filters(self) -> None:
        twin = self.beam.twin
        inserted_um = [0.0] * len(FILTER_BLADES_UM)
        for number, thickness_um in enumerate(FILTER_BLADES_UM, start=1):
            status = choice("Out", ("Out", "In"))

            async def put(
                _: Any, value: str, status: Any = status, blade: int = number - 1, um: float = thickness_um
            ) -> None:
                await asyncio.sleep(_FILTER_S * self._time_scale)
                inserted_um[blade] = um if value == "In" else 0.0
                twin.filter_um = sum(inserted_um)
                await status.write(value)

            self.pvdb[f"{self.prefix}filter{number}:Set"] = choice("Out", ("Out", "In"), put)
            self.pvdb[f"{self.prefix}filter{number}:Status"] = status

    def _add_sample_choice(self) -> None:
        """Let a client do what a user does by hand in the hutch: change the sample."""

        async def put(_: Any, value: str) -> None:
            loop = asyncio.get_running_loop()
            if value == "electrode":
                await loop.run_in_executor(None, self.beam.beamline.load_electrode)
            else:
                soc = float(value.removeprefix("standard "))
                await loop.run_in_executor(None, self.beam.beamline.twin.load_pellet, soc)

        self.pvdb[self.prefix + "sample"] = word("electrode", put)

    def _add_faults(self) -> None:
        """Each fault is a number: so many occasions it occurs from now on, -1 for all to come, 0 for none."""
        faults = self.beam.faults

        def switch(fault: Fault) -> Any:
            async def put(_: Any, value: int) -> None:
                if value == 0:
                    faults.clear(fault)
                else:
                    faults.arm(fault, times=None if value < 0 else int(value))

            return integer(0, put)

        async def disconnect(_: Any, value: str) -> None:
            await self._disconnect(value.strip())

        fault = self.prefix + "fault:"
        for kind in Fault:
            if kind is not Fault.DISCONNECTED:
                self.pvdb[fault + kind.value] = switch(kind)
        self.pvdb[fault + Fault.DISCONNECTED.value] = word("", disconnect)

    async def _disconnect(self, suffix: str) -> None:
        """Take every PV whose name begins with prefix + suffix off the network; "" brings all back."""
        if not suffix:
            self.pvdb.update(self._hidden)
            self._hidden.clear()
            return
        start = self.prefix + suffix
        gone = [name for name in self.pvdb if name.startswith(start)]
        if not gone:
            raise SkipWrite()
        for name in gone:
            self._hidden[name] = self.pvdb.pop(name)
        if self._context is None:
            return
        for circuit in tuple(self._context.circuits):
            lost = [
                channel for channel in circuit.circuit.channels_sid.values() if channel.name.startswith(start)
            ]
            for channel in lost:
                await circuit.send(ServerDisconnResponse(cid=channel.cid))

    def attach(self, context: Context) -> None:
        """Take note of the server, whose clients a disconnected PV has to leave."""
        self._context = context

    async def published(self) -> None:
        """Wait until every axis shows its limits and position."""
        await asyncio.gather(*(motor.published.wait() for motor in self._motors))


async def serve(prefix: str, beamline: SimBeamline, time_scale: float, ready: Callable[[], object]) -> None:
    """Serve the simulated beamline on loopback until cancelled.

    Parameters
    ----------
    prefix : str
        In front of every PV name.
    beamline : SimBeamline
        The twin.
    time_scale : float
        Real seconds per simulated second.
    ready : callable
        Called when the first client could connect.
    """
    ioc = SimulatedIOC(prefix, beamline, time_scale)
    context = Context(ioc.pvdb, ["127.0.0.1"])
    # The server must look names up in the very dictionary from which a fault removes them.
    ioc.pvdb = context.pvdb
    ioc.attach(context)

    async def started(_: Any) -> None:
        await ioc.published()
        ready()

    await context.run(startup_hook=started)
