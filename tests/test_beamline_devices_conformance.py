"""One contract, every family of devices: simulated, ophyd over EPICS, and ophyd-async."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import bluesky.plan_stubs as bps
import event_model
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.plans import count
from bluesky.protocols import Readable
from ophyd_async.core import (
    AsyncStatus,
    StandardReadable,
    init_devices,
    soft_signal_r_and_setter,
    soft_signal_rw,
)
from ophyd_async.core import StandardReadableFormat as Format
from ophyd_async.epics.motor import Motor

from beamline_devices.protocols import EnergyAxis, FrameDetector, PointDetector, SampleStage, Shutter
from sim_devices import SimBeamline
from sim_devices.ioc import connect_ioc

SHAPE = (24, 40)
FAMILIES = [
    "simulated",
    pytest.param("epics", marks=pytest.mark.slow),
    pytest.param("ophyd-async", marks=pytest.mark.slow),
]


@dataclass
class Family:
    """Devices of one family by their role, and the RunEngine they live in."""

    run_engine: RunEngine
    energy: Any
    camera: Any
    shutter: Any
    stage: Any
    i0: Any
    targets: tuple[float, float]
    too_far: float


class AsyncPositions(StandardReadable):
    """Named positions the ophyd-async way."""

    def __init__(self, *positions: str, name: str = "") -> None:
        self._positions = positions
        with self.add_children_as_readables():
            self.state = soft_signal_rw(str, positions[0])
        super().__init__(name=name)

    async def check_value(self, value: str) -> None:
        if value not in self._positions:
            raise ValueError(f"{self.name} takes {self._positions}")

    @AsyncStatus.wrap
    async def set(self, value: str) -> None:
        await self.check_value(value)
        await self.state.set(value)


class AsyncPoint(StandardReadable):
    """A number per trigger the ophyd-async way."""

    def __init__(self, name: str = "") -> None:
        self.value, self._set_value = soft_signal_r_and_setter(float, 0.0, units="nA", precision=3)
        self.add_readables([self.value], Format.HINTED_UNCACHED_SIGNAL)
        super().__init__(name=name)

    @AsyncStatus.wrap
    async def trigger(self) -> None:
        self._set_value(50.0)


class AsyncCamera(StandardReadable):
    """A camera that puts its frame into the event, the ophyd-async way."""

    def __init__(self, name: str = "") -> None:
        self.image, self._set_image = soft_signal_r_and_setter(np.ndarray, np.zeros(SHAPE, np.uint16))
        self.exposure_s = soft_signal_rw(float, 0.1, units="s", precision=4)
        self.add_readables([self.image], Format.UNCACHED_SIGNAL)
        self.add_readables([self.exposure_s], Format.CONFIG_SIGNAL)
        self._taken = 0
        super().__init__(name=name)

    @AsyncStatus.wrap
    async def trigger(self) -> None:
        self._taken += 1
        self._set_image(np.full(SHAPE, self._taken, np.uint16))


@pytest.fixture(scope="module")
def make(start_ioc: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Family]]:
    """Make each family once, when it is first asked for."""
    servers: list[Any] = []
    made: dict[str, Family] = {}

    def simulated() -> Family:
        beamline = SimBeamline(SHAPE, seed=2)
        return Family(
            RunEngine(),
            beamline.energy,
            beamline.camera,
            beamline.shutter,
            beamline.stage,
            beamline.i0,
            (8300.0, 8345.25),
            99999.0,
        )

    def epics() -> Family:
        servers.append(start_ioc("CON:", shape=SHAPE, seed=2).start())
        beamline = connect_ioc("CON:", data_dir=tmp_path_factory.mktemp("frames"), pixel_size_nm=40.0)
        return Family(
            RunEngine(),
            beamline.energy,
            beamline.camera,
            beamline.shutter,
            beamline.stage,
            beamline.i0,
            (8300.0, 8345.25),
            99999.0,
        )

    def ophyd_async() -> Family:
        servers.append(start_ioc("ASY:", shape=SHAPE, seed=2).start())
        run_engine = RunEngine()
        with init_devices():
            energy = Motor("ca://ASY:zp:camera", name="energy")
            camera = AsyncCamera("camera")
            shutter = AsyncPositions("closed", "open", name="shutter")
            stage = AsyncPositions("in", "out", name="sample")
            i0 = AsyncPoint("i0")
        return Family(run_engine, energy, camera, shutter, stage, i0, (1000.0, 1002.5), 99999.0)

    def get(name: str) -> Family:
        if name not in made:
            for server in servers:
                server.close()
            servers.clear()
            made[name] = {"simulated": simulated, "epics": epics, "ophyd-async": ophyd_async}[name]()
        return made[name]

    yield get
    for server in servers:
        server.close()


@pytest.fixture(params=FAMILIES, scope="module")
def family(request: pytest.FixtureRequest, make: Callable[[str], Family]) -> Family:
    return make(request.param)


def answer(family: Family, value: Any) -> Any:
    """Value of a call that may be a coroutine of the RunEngine's loop."""
    if inspect.isawaitable(value):

        async def wait() -> Any:
            return await value

        return asyncio.run_coroutine_threadsafe(wait(), family.run_engine.loop).result(20)
    return value


def test_roles_are_protocols(family: Family) -> None:
    assert isinstance(family.energy, EnergyAxis)
    assert isinstance(family.camera, FrameDetector)
    assert isinstance(family.i0, PointDetector)
    assert isinstance(family.shutter, Shutter)
    assert isinstance(family.stage, SampleStage)


@pytest.mark.parametrize("role", ["energy", "shutter", "stage", "i0"])
def test_reading_and_description_agree(family: Family, role: str) -> None:
    device: Readable[Any] = getattr(family, role)
    assert set(answer(family, device.read())) == set(answer(family, device.describe()))
    assert set(answer(family, device.read_configuration())) == set(
        answer(family, device.describe_configuration())
    )


@pytest.mark.parametrize("role", ["energy", "camera", "shutter", "stage", "i0"])
def test_descriptions_are_complete(family: Family, role: str) -> None:
    device = getattr(family, role)
    for described in (answer(family, device.describe()), answer(family, device.describe_configuration())):
        for key, entry in described.items():
            assert entry["source"], key
            assert entry["dtype"] in {"number", "integer", "string", "array", "boolean"}, key
            if not isinstance(device, StandardReadable):
                # ophyd-async describes a string without units and precision; ours say everything.
                assert "units" in entry, key
                np.dtype(entry["dtype_numpy"])
                if entry["dtype"] == "number":
                    assert isinstance(entry["precision"], int), key


def test_the_energy_is_hinted_first_and_in_its_units(family: Family) -> None:
    key = family.energy.hints["fields"][0]
    entry = answer(family, family.energy.describe())[key]
    assert entry["dtype"] == "number"
    assert entry["units"] == ("mm" if isinstance(family.energy, Motor) else "eV")


def test_the_energy_arrives(family: Family) -> None:
    def plan() -> Any:
        for target in family.targets:
            yield from bps.mv(family.energy, target)
            key = family.energy.hints["fields"][0]
            readings.append((yield from bps.read(family.energy))[key]["value"])

    readings: list[float] = []
    family.run_engine(plan())
    assert readings == pytest.approx(list(family.targets), abs=1e-5)


def test_an_energy_out_of_limits_is_refused_before_anything_moves(family: Family) -> None:
    key = family.energy.hints["fields"][0]
    before = answer(family, family.energy.read())[key]["value"]
    with pytest.raises(Exception, match=r"energy|limits"):
        answer(family, family.energy.check_value(family.too_far))
    with pytest.raises(Exception, match=r"energy|limits|fail"):
        family.run_engine(bps.mv(family.energy, family.too_far))
    assert answer(family, family.energy.read())[key]["value"] == before


@pytest.mark.parametrize(("role", "words"), [("shutter", ("open", "closed")), ("stage", ("out", "in"))])
def test_named_positions(family: Family, role: str, words: tuple[str, ...]) -> None:
    device = getattr(family, role)
    for word in words:
        family.run_engine(bps.mv(device, word))
        (value, *_) = [entry["value"] for entry in answer(family, device.read()).values()]
        assert value == word
    with pytest.raises(ValueError, match="takes"):
        answer(family, device.check_value("ajar"))


def test_a_camera_gives_one_image_per_trigger(family: Family) -> None:
    documents: list[tuple[str, dict[str, Any]]] = []

    def plan() -> Any:
        yield from bps.mv(family.camera.exposure_s, 0.02)
        yield from count([family.camera, family.i0], num=3)

    family.run_engine(plan(), lambda name, doc: documents.append((name, doc)))
    descriptor = next(doc for name, doc in documents if name == "descriptor")
    images = [
        key
        for key in descriptor["object_keys"][family.camera.name]
        if sum(size > 1 for size in descriptor["data_keys"][key]["shape"]) >= 2
    ]
    assert len(images) == 1
    assert tuple(descriptor["data_keys"][images[0]]["shape"]) == SHAPE
    assert np.dtype(descriptor["data_keys"][images[0]]["dtype_numpy"]) == np.dtype("<u2")
    hinted = descriptor["hints"][family.i0.name]["fields"][0]
    events = [doc for name, doc in documents if name == "event"]
    assert len(events) == 3
    assert all(event["data"][hinted] > 0 for event in events)
    times = [event["timestamps"][images[0]] for event in events]
    assert times == sorted(times)
    assert len(set(times)) == 3
    exposure = [
        value
        for key, value in descriptor["configuration"][family.camera.name]["data"].items()
        if "exposure_s" in key
    ]
    assert exposure == [0.02]
    for name, doc in documents:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(doc)
