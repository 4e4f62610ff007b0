"""The whole way over Channel Access: real classes, a real scan, HDF5 of the IOC in Tiled, and the twin's own map."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import h5py
import numpy as np
import pytest
import xarray as xr
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from ophyd import EpicsSignal

from beamline_devices.epics import ContinuousAcquisition
from beamline_plans import EnergyGrid, xanes_scan
from callbacks import LiveSOC, RawRunWriter
from edge_fitting import ReferenceSeries
from nimco import TiledServer, measure_standards
from sim_devices import SimBeamline, SourceSettings, TwinSettings
from sim_devices.ioc import IOCBeamline, connect_ioc

PREFIX = "SCAN:"
SHAPE = (40, 56)
SEED = 3
WAIT_S = 60.0
STEADY = TwinSettings(source=SourceSettings(drift=0.0, lifetime_h=0.0))
GRID = EnergyGrid.from_regions([(8250, 8310, 20, 0.5), (8330, 8362, 2, 0.5), (8380, 8440, 20, 0.5)])

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run_engine() -> RunEngine:
    return RunEngine()


@pytest.fixture(scope="module")
def references(run_engine: RunEngine) -> ReferenceSeries:
    beamline = SimBeamline(SHAPE, seed=SEED, settings=STEADY)
    return measure_standards(run_engine, beamline, "Ni_K", socs=(0.0, 0.5, 1.0), grid=GRID)


@pytest.fixture(scope="module")
def frames_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("frames")


@pytest.fixture(scope="module")
def devices(start_ioc: Any, frames_dir: Path) -> Iterator[IOCBeamline]:
    with start_ioc(PREFIX, shape=SHAPE, seed=SEED, steady=True):
        yield connect_ioc(PREFIX, data_dir=frames_dir, pixel_size_nm=570.5)


@pytest.fixture(scope="module")
def server(frames_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TiledServer]:
    with TiledServer(tmp_path_factory.mktemp("tiled"), readable=(frames_dir,)) as running:
        yield running


def scan(beamline: Any, references: ReferenceSeries, grid: EnergyGrid = GRID, **settings: Any) -> Any:
    return xanes_scan(
        beamline.camera,
        beamline.energy,
        beamline.shutter,
        beamline.stage,
        edge="Ni_K",
        grid=grid,
        i0=beamline.i0,
        n_darks=2,
        references=references.to_dict(),
        **settings,
    )


class Recorder:
    """Everything that listens to a scan, for the time of one."""

    def __init__(self, run_engine: RunEngine, raw: Any) -> None:
        self.documents: list[tuple[str, dict[str, Any]]] = []
        self.live = LiveSOC()
        self.writer = RawRunWriter(raw)
        self._run_engine = run_engine
        self._tokens = [
            run_engine.subscribe(each)
            for each in (self.live, self.writer, lambda *pair: self.documents.append(pair))
        ]

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: Any) -> None:
        for token in self._tokens:
            self._run_engine.unsubscribe(token)
        self.live.close()
        self.writer.close()

    def maps(self) -> xr.Dataset:
        self.live.wait(WAIT_S)
        self.writer.wait(WAIT_S)
        assert self.live.errors == []
        assert self.writer.errors == []
        return self.live.latest(self.uid)

    @property
    def uid(self) -> str:
        return next(doc["uid"] for name, doc in reversed(self.documents) if name == "start")

    def events(self, stream: str) -> list[dict[str, Any]]:
        named = {
            doc["uid"]
            for name, doc in self.documents
            if name == "descriptor" and doc["name"] == stream and doc["run_start"] == self.uid
        }
        return [doc for name, doc in self.documents if name == "event" and doc["descriptor"] in named]


@pytest.fixture
def record(run_engine: RunEngine, server: TiledServer, devices: IOCBeamline) -> Iterator[Recorder]:
    with Recorder(run_engine, server.raw) as recorder:
        yield recorder


def check_frames(recorder: Recorder, server: TiledServer) -> None:
    """Each frame that Tiled serves is the one whose mean its event has."""
    run = server.client()["raw"][recorder.uid]
    for stream in ("dark", "flat", "primary"):
        events = recorder.events(stream)
        frames = run[stream]["camera_image"].read()
        assert frames.shape == (len(events), *SHAPE)
        assert frames.dtype == np.dtype("<u2")
        assert frames.mean(axis=(1, 2)) == pytest.approx([event["data"]["camera_mean"] for event in events])


def switch(name: str, times: int) -> None:
    EpicsSignal(f"{PREFIX}fault:{name}", name=name, put_complete=True).set(times).wait(WAIT_S)


# The first to use the IOC: its twin has to be as fresh as the one it is compared with.
def test_the_map_over_channel_access_is_the_map_of_the_twin(
    run_engine: RunEngine,
    references: ReferenceSeries,
    record: Recorder,
    devices: IOCBeamline,
    server: TiledServer,
) -> None:
    twin = SimBeamline(SHAPE, seed=SEED, settings=STEADY)
    run_engine(scan(twin, references))
    expected = record.maps()
    run_engine(scan(devices, references))
    maps = record.maps()

    fitted = np.isfinite(expected["soc"].values)
    assert fitted.sum() > 500
    assert (maps["status"] == expected["status"]).all()
    # The same photons; only the energy went to an angle and back, some 1e-9 eV.
    assert np.abs(maps["soc"].values - expected["soc"].values)[fitted].max() < 1e-3
    assert np.abs(maps["edge_energy_ev"].values - expected["edge_energy_ev"].values)[fitted].max() < 5e-3
    truth = twin.truth("Ni_K")
    clear = fitted & (truth.jump > 0.3)
    assert np.sqrt(np.mean((maps["soc"].values - truth.soc)[clear] ** 2)) < 0.1

    check_frames(record, server)
    resources = [doc for name, doc in record.documents if name == "resource"]
    assert [doc["spec"] for doc in resources] == ["AD_HDF5"]
    with h5py.File(Path(resources[0]["root"]) / resources[0]["resource_path"]) as file:
        assert file["/entry/data/data"].shape[0] == 2 + 2 * len(GRID)
    assert devices.shutter.position == "closed"
    assert devices.stage.position == "in"


SHORT = EnergyGrid.from_regions([(8330, 8350, 4, 0.1)])


def test_a_repeated_frame_is_taken_again(
    run_engine: RunEngine,
    references: ReferenceSeries,
    record: Recorder,
    devices: IOCBeamline,
    server: TiledServer,
) -> None:
    def plan() -> Any:
        yield from scan(devices, references, SHORT)

    def arm_at_first_image(name: str, doc: dict[str, Any]) -> None:
        if name == "descriptor" and doc["name"] == "primary":
            switch("stale_frame", 1)

    run_engine(plan(), arm_at_first_image)
    record.maps()
    numbers = [event["data"]["camera_frame_number"] for event in record.events("primary")]
    assert len(numbers) == len(set(numbers)) == len(SHORT)
    assert 1 in [
        event["data"]["xanes_attempt"] for stream in ("flat", "primary") for event in record.events(stream)
    ]
    check_frames(record, server)


def test_an_energy_that_does_not_arrive_once_costs_no_frame(
    run_engine: RunEngine,
    references: ReferenceSeries,
    record: Recorder,
    devices: IOCBeamline,
    server: TiledServer,
) -> None:
    def arm(name: str, doc: dict[str, Any]) -> None:
        if name == "event" and doc["data"]["xanes_energy_index"] == 1:
            switch("energy_stuck", 1)

    run_engine(scan(devices, references, SHORT), arm)
    record.maps()
    for stream in ("flat", "primary"):
        events = record.events(stream)
        assert sorted({event["data"]["xanes_energy_index"] for event in events}) == list(range(len(SHORT)))
        for event in events:
            wanted = event["data"]["xanes_energy_setpoint_ev"]
            assert event["data"]["energy"] == pytest.approx(wanted, abs=0.05)
    check_frames(record, server)


def test_an_energy_that_never_arrives_ends_the_scan_safely(
    run_engine: RunEngine, references: ReferenceSeries, record: Recorder, devices: IOCBeamline
) -> None:
    def arm(name: str, doc: dict[str, Any]) -> None:
        if name == "event" and doc["data"]["xanes_energy_index"] == 1:
            switch("energy_stuck", -1)

    try:
        with pytest.raises(Exception, match=r"energy"):
            run_engine(scan(devices, references, SHORT), arm)
    finally:
        switch("energy_stuck", 0)
    assert devices.shutter.position == "closed"
    assert devices.stage.position == "in"
    name, stop = record.documents[-1]
    assert name == "stop"
    assert stop["exit_status"] == "fail"


def test_a_pause_within_a_scan_shifts_no_frame(
    run_engine: RunEngine,
    references: ReferenceSeries,
    record: Recorder,
    devices: IOCBeamline,
    server: TiledServer,
) -> None:
    paused: list[bool] = []

    def plan() -> Any:
        yield from scan(devices, references, SHORT)

    def pause_once(name: str, doc: dict[str, Any]) -> None:
        if name == "event" and doc["data"]["xanes_energy_index"] == 2 and not paused:
            paused.append(True)
            run_engine.loop.call_soon_threadsafe(
                run_engine.loop.create_task, run_engine._request_pause_coro()
            )

    token = run_engine.subscribe(pause_once)
    try:
        with pytest.raises(RunEngineInterrupted):
            run_engine(plan())
        assert run_engine.state == "paused"
        run_engine.resume()
    finally:
        run_engine.unsubscribe(token)
    record.live.wait(WAIT_S)
    record.writer.wait(WAIT_S)
    assert record.live.errors == []
    # Whatever was taken twice: each event's datum is the frame whose mean it has.
    resource = next(doc for name, doc in record.documents if name == "resource")
    places = {
        doc["datum_id"]: doc["datum_kwargs"]["point_number"]
        for name, doc in record.documents
        if name == "datum"
    }
    with h5py.File(Path(resource["root"]) / resource["resource_path"]) as file:
        for event in record.events("primary") + record.events("flat"):
            frame = file["/entry/data/data"][places[event["data"]["camera_image"]]]
            assert frame.mean() == pytest.approx(event["data"]["camera_mean"])


def test_continuous_frames_arrive_in_tiled(
    run_engine: RunEngine, record: Recorder, devices: IOCBeamline, server: TiledServer
) -> None:
    flyer = ContinuousAcquisition(devices.camera, n_frames=6)

    @bpp.stage_decorator([flyer])
    @bpp.run_decorator(md={"plan_name": "run_freely"})
    def plan() -> Any:
        yield from bps.declare_stream(flyer, name="primary", collect=True)
        yield from bps.kickoff(flyer, wait=True)
        yield from bps.complete(flyer, wait=True)
        yield from bps.collect(flyer, name="primary", return_payload=False)

    devices.camera.exposure_s.set(0.05).wait(WAIT_S)
    run_engine(plan())
    record.writer.wait(WAIT_S)
    assert record.writer.errors == []
    frames = server.client()["raw"][record.uid]["primary"]["camera_image"].read()
    assert frames.shape == (6, *SHAPE)
    assert len({frame.tobytes() for frame in frames}) == 6
