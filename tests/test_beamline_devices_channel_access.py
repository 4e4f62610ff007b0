"""Real device classes against the simulated EPICS beamline, over Channel Access on loopback."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ophyd import EpicsSignal

from beamline_devices import (
    DeviceError,
    DeviceTimeoutError,
    NotArrivedError,
    NotConnectedError,
    OutOfLimitsError,
    UnknownPositionError,
)
from beamline_devices.epics import (
    CalibrationTable,
    ContinuousAcquisition,
    EpicsCamera,
    EpicsShutter,
    Monochromator,
    UndulatorMonochromator,
    connect_devices,
)
from sim_devices.ioc import IOCBeamline, connect_ioc

PREFIX = "DEV:"
SHAPE = (24, 40)
WAIT_S = 20.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ioc(start_ioc: Any) -> Iterator[Any]:
    with start_ioc(PREFIX, shape=SHAPE, seed=5) as running:
        yield running


@pytest.fixture(scope="module")
def devices(ioc: Any, tmp_path_factory: pytest.TempPathFactory) -> IOCBeamline:
    return connect_ioc(PREFIX, data_dir=tmp_path_factory.mktemp("frames"), pixel_size_nm=40.0)


@pytest.fixture
def fault(ioc: Any) -> Iterator[Any]:
    """Switch a fault on; all are off again at the end."""
    used: list[EpicsSignal] = []

    def switch(name: str, times: int = 1) -> None:
        signal = EpicsSignal(f"{PREFIX}fault:{name}", name=name, put_complete=True)
        signal.set(times).wait(WAIT_S)
        used.append(signal)

    yield switch
    for signal in used:
        signal.set(0).wait(WAIT_S)


@pytest.fixture
def camera(devices: IOCBeamline) -> Iterator[EpicsCamera]:
    devices.camera.exposure_s.set(0.01).wait(WAIT_S)
    devices.camera.stage()
    yield devices.camera
    devices.camera.unstage()


def mono(**settings: Any) -> Monochromator:
    made = Monochromator(
        PREFIX,
        bragg="mono:bragg",
        name="mono",
        d_spacing_a=3.1356,
        limits_ev=(5000.0, 12000.0),
        settle_s=0.0,
        settle_s_per_ev=0.0,
        **settings,
    )
    connect_devices(made, timeout_s=WAIT_S)
    return made


def watch_targets(axis: Any) -> list[float]:
    targets: list[float] = []
    axis.user_setpoint.subscribe(lambda value, **_: targets.append(value), event_type="setpoint", run=False)
    return targets


class TestMonochromator:
    def test_energy_follows_the_bragg_angle(self, devices: IOCBeamline) -> None:
        devices.energy.set(8345.5).wait(WAIT_S)
        angle = devices.energy.bragg.position
        assert 12398.419843320026 / (2 * 3.1356 * np.sin(np.radians(angle))) == pytest.approx(
            8345.5, abs=1e-6
        )
        assert devices.energy.read()["energy"]["value"] == pytest.approx(8345.5, abs=1e-6)
        assert devices.energy.read()["energy_setpoint"]["value"] == 8345.5
        assert devices.energy.hints["fields"][0] == "energy"

    @pytest.mark.parametrize(
        ("bad", "says"),
        [(8.3455, "looks like keV"), (4999.0, "5000 to 12000"), (float("inf"), "finite"), ("Ni", "finite")],
    )
    def test_bad_energies_are_refused_and_nothing_moves(
        self, devices: IOCBeamline, bad: Any, says: str
    ) -> None:
        before = devices.energy.bragg.position
        with pytest.raises(OutOfLimitsError, match=says):
            devices.energy.set(bad)
        assert devices.energy.bragg.position == before

    def test_the_axis_limits_are_honoured_too(self, devices: IOCBeamline) -> None:
        wide = Monochromator(
            PREFIX, bragg="mono:bragg", name="wide", d_spacing_a=3.1356, limits_ev=(2000.0, 30000.0)
        )
        connect_devices(wide, timeout_s=WAIT_S)
        with pytest.raises(
            OutOfLimitsError, match=r"wide cannot go to 20000 eV: wide_bragg cannot be .* deg"
        ):
            wide.set(20000.0)

    def test_a_follower_that_cannot_follow_refuses(self, devices: IOCBeamline) -> None:
        class Short:
            name = "short"

            def check_value(self, value: float) -> None:
                CalibrationTable([8000.0, 8500.0], [0.0, 1.0]).at(value)

        refusing = mono(followers=[Short()])
        with pytest.raises(OutOfLimitsError, match="covers 8000 to 8500 eV"):
            refusing.set(9000.0)

    def test_optics_follow_and_are_in_the_reading(self, devices: IOCBeamline) -> None:
        focal = []
        for energy_ev in (8000.0, 8400.0):
            devices.energy.set(energy_ev).wait(WAIT_S)
            reading = devices.energy.read()
            focal.append(reading["optics_focal_length_mm"]["value"])
            assert reading["optics_energy_ev"]["value"] == energy_ev
        assert focal[1] / focal[0] == pytest.approx(8400.0 / 8000.0)
        assert reading["optics_pixel_size_nm"]["value"] > 0

    def test_an_energy_that_does_not_arrive_fails(self, devices: IOCBeamline, fault: Any) -> None:
        devices.energy.set(8300.0).wait(WAIT_S)
        for target in (8340.0, 8300.0, 8340.0, 8300.0, 8340.0):
            fault("energy_stuck")
            with pytest.raises(NotArrivedError, match=f"from {target:g} eV where it was sent"):
                devices.energy.set(target).wait(WAIT_S)
            # A second try at once is not hit by the end of the first.
            devices.energy.set(target).wait(WAIT_S)

    def test_foil_calibration_shifts_the_axis(self, devices: IOCBeamline) -> None:
        calibrated = mono()
        calibrated.set(8400.0).wait(WAIT_S)
        angle = calibrated.bragg.position
        calibrated.calibrate(measured_ev=8331.55, nominal_ev=8333.0)
        assert calibrated.energy_ev == pytest.approx(8401.45, abs=1e-6)
        calibrated.set(8401.45).wait(WAIT_S)
        assert calibrated.bragg.position == pytest.approx(angle, abs=1e-9)
        assert calibrated.read_configuration()["mono_offset_ev"]["value"] == pytest.approx(1.45)

    def test_backlash_is_taken_up_from_below(self, devices: IOCBeamline) -> None:
        sloppy = mono(backlash_ev=5.0)
        sloppy.set(8400.0).wait(WAIT_S)
        targets = watch_targets(sloppy.bragg)
        sloppy.set(8350.0).wait(WAIT_S)
        below, there = targets
        assert [sloppy.inverse(below).energy, sloppy.inverse(there).energy] == pytest.approx([8345.0, 8350.0])
        targets.clear()
        sloppy.set(8360.0).wait(WAIT_S)
        assert len(targets) == 1

    def test_settling_grows_with_the_step(
        self, devices: IOCBeamline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settling = mono()
        settling.set(8300.0).wait(WAIT_S)
        settling.settle_s.put(0.01)
        settling.settle_s_per_ev.put(0.002)
        pauses: list[float] = []
        monkeypatch.setattr(settling._task, "pause", pauses.append)
        settling.set(8340.0).wait(WAIT_S)
        assert max(pauses) == pytest.approx(0.01 + 0.002 * 40.0, abs=1e-6)

    def test_gap_follows_in_its_harmonic_with_offset(self, devices: IOCBeamline) -> None:
        table = CalibrationTable([2000.0, 4000.0], [10.0, 30.0])
        undulator = UndulatorMonochromator(
            PREFIX,
            bragg="mono:bragg",
            gap="mono:gap",
            gap_table=table,
            harmonic=3,
            gap_offset_ev=60.0,
            name="und",
            d_spacing_a=3.1356,
            limits_ev=(5000.0, 12000.0),
        )
        connect_devices(undulator, timeout_s=WAIT_S)
        undulator.set(8340.0).wait(WAIT_S)
        assert undulator.gap.position == pytest.approx(10.0 + (8400.0 / 3 - 2000.0) / 100.0)
        with pytest.raises(OutOfLimitsError, match="covers 2000 to 4000 eV"):
            undulator.check_value(11990.0)
        assert undulator.hints["fields"] == ["und"]

    def test_an_even_harmonic_is_refused(self) -> None:
        with pytest.raises(OutOfLimitsError, match="odd harmonics"):
            UndulatorMonochromator(
                PREFIX, gap="g", gap_table=CalibrationTable([1.0, 2.0], [1.0, 2.0]), harmonic=2
            )


class TestNamedPositions:
    def test_shutter_opens_and_closes(self, devices: IOCBeamline) -> None:
        for position in ("open", "closed"):
            devices.shutter.set(position).wait(WAIT_S)
            assert devices.shutter.read()["shutter"]["value"] == position

    def test_shutter_that_does_not_open_fails(self, devices: IOCBeamline, fault: Any) -> None:
        hasty = EpicsShutter(
            PREFIX, name="hasty", command="shutter:Set", status="shutter:Status", timeout_s=0.3
        )
        connect_devices(hasty, timeout_s=WAIT_S)
        hasty.set("closed").wait(WAIT_S)
        fault("shutter_stuck")
        with pytest.raises(DeviceTimeoutError, match=r"still closed 0\.3 s after it was told to be open"):
            hasty.set("open").wait(WAIT_S)

    @pytest.mark.parametrize("role", ["shutter", "stage", "filters"])
    def test_unknown_positions_are_refused(self, devices: IOCBeamline, role: str) -> None:
        with pytest.raises(UnknownPositionError, match="takes"):
            getattr(devices, role).set("sideways")

    def test_stage_goes_in_and_out(self, devices: IOCBeamline) -> None:
        devices.stage.set("out").wait(WAIT_S)
        assert devices.stage.position == "out"
        assert devices.stage.x.position == pytest.approx(5.0)
        devices.stage.set("in").wait(WAIT_S)
        assert devices.stage.position == "in"

    def test_stage_out_beyond_the_limits_is_refused(self, devices: IOCBeamline) -> None:
        devices.stage.move_in_position(x=6.0)
        try:
            with pytest.raises(OutOfLimitsError, match="sample_x cannot be 11 mm"):
                devices.stage.set("out")
        finally:
            devices.stage.move_in_position(x=0.0)

    def test_stage_knows_when_it_is_at_no_position(self, devices: IOCBeamline) -> None:
        devices.stage.x.set(1.5).wait(WAIT_S)
        assert devices.stage.position == "unknown"
        devices.stage.set("in").wait(WAIT_S)

    def test_filters_are_combined(self, devices: IOCBeamline) -> None:
        for position in ("thick", "thin", "none"):
            devices.filters.set(position).wait(WAIT_S)
            assert devices.filters.position == position


class TestCamera:
    def test_the_bits_of_its_converter_are_in_its_configuration(self, devices):
        assert devices.camera.read_configuration()["camera_bit_depth"]["value"] == 16
        assert devices.camera.describe_configuration()["camera_bit_depth"]["dtype"] == "integer"

    def place(self, camera: EpicsCamera) -> tuple[Path, int, str]:
        camera.trigger().wait(WAIT_S)
        datum_id = camera.read()["camera_image"]["value"]
        for kind, doc in camera.collect_asset_docs():
            if kind == "resource":
                self.file = Path(doc["root"]) / doc["resource_path"]
            else:
                assert doc["datum_id"] == datum_id
                index = doc["datum_kwargs"]["point_number"]
        return self.file, index, datum_id

    def test_each_event_names_its_frame(self, camera: EpicsCamera) -> None:
        places = [self.place(camera) for _ in range(3)]
        means = []
        for path, index, _ in places:
            with h5py.File(path, "r", swmr=True) as file:
                means.append(file["/entry/data/data"][index].mean())
        assert [index for _, index, _ in places] == [0, 1, 2]
        assert len({path for path, _, _ in places}) == 1
        assert camera.read()["camera_mean"]["value"] == pytest.approx(means[-1])
        assert len(set(means)) == 3

    def test_several_frames_per_trigger(self, devices: IOCBeamline, tmp_path: Path) -> None:
        burst = EpicsCamera(PREFIX + "CAM:", name="camera", write_path=str(tmp_path), frames_per_trigger=3)
        connect_devices(burst, timeout_s=WAIT_S)
        burst.stage()
        try:
            assert burst.describe()["camera_image"]["shape"] == [3, *SHAPE]
            first, second = self.place(burst), self.place(burst)
        finally:
            burst.unstage()
        assert [first[1], second[1]] == [0, 1]
        with h5py.File(first[0]) as file:
            assert file["/entry/data/data"].shape == (6, *SHAPE)

    def test_a_repeated_frame_keeps_its_time(self, camera: EpicsCamera, fault: Any) -> None:
        camera.trigger().wait(WAIT_S)
        before = camera.read()
        fault("stale_frame")
        camera.trigger().wait(WAIT_S)
        again = camera.read()
        assert all(again[key]["timestamp"] == before[key]["timestamp"] for key in before)
        camera.trigger().wait(WAIT_S)
        assert camera.read()["camera_image"]["timestamp"] > before["camera_image"]["timestamp"]

    def test_a_dropped_frame_fails_and_shifts_nothing(
        self, devices: IOCBeamline, fault: Any, tmp_path: Path
    ) -> None:
        hasty = EpicsCamera(PREFIX + "CAM:", name="camera", write_path=str(tmp_path), overhead_s=0.5)
        connect_devices(hasty, timeout_s=WAIT_S)
        hasty.exposure_s.set(0.01).wait(WAIT_S)
        hasty.stage()
        try:
            self.place(hasty)
            fault("dropped_frame")
            with pytest.raises(DeviceTimeoutError, match="took 1 frames and its file writer got 0"):
                hasty.trigger().wait(WAIT_S)
            path, index, _ = self.place(hasty)
        finally:
            hasty.unstage()
        assert index == 1
        with h5py.File(path) as file:
            assert file["/entry/data/data"][index].mean() == pytest.approx(
                hasty.read()["camera_mean"]["value"]
            )

    def test_a_camera_that_hangs_fails_in_time_and_recovers(
        self, devices: IOCBeamline, fault: Any, tmp_path: Path
    ) -> None:
        hasty = EpicsCamera(PREFIX + "CAM:", name="camera", write_path=str(tmp_path), overhead_s=0.5)
        connect_devices(hasty, timeout_s=WAIT_S)
        hasty.stage()
        try:
            fault("camera_timeout")
            with pytest.raises(DeviceTimeoutError, match="has not finished"):
                hasty.trigger().wait(WAIT_S)
            assert self.place(hasty)[1] == 0
        finally:
            hasty.unstage()

    def test_exposure_limits(self, devices: IOCBeamline) -> None:
        with pytest.raises(OutOfLimitsError, match="camera_exposure_s cannot be 1e"):
            devices.camera.exposure_s.set(1e9)

    def test_a_folder_that_cannot_be_written_is_refused(self, devices: IOCBeamline, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        lost = EpicsCamera(PREFIX + "CAM:", name="camera", write_path=str(tmp_path / "file" / "below"))
        connect_devices(lost, timeout_s=WAIT_S)
        with pytest.raises(DeviceError, match="cannot write to"):
            lost.stage()

    def test_triggering_unstaged_is_refused(self, devices: IOCBeamline) -> None:
        with pytest.raises(DeviceError, match="not staged"):
            devices.camera.trigger()

    def test_stop_ends_an_exposure_at_once(self, camera: EpicsCamera, fault: Any) -> None:
        fault("camera_timeout")
        status = camera.trigger()
        camera.stop()
        with pytest.raises(DeviceError, match="stopped"):
            status.wait(WAIT_S)

    @pytest.mark.parametrize("n_frames", [4, 0])
    def test_continuous_acquisition(self, devices: IOCBeamline, n_frames: int) -> None:
        camera = devices.camera
        camera.exposure_s.set(0.01).wait(WAIT_S)
        flyer = ContinuousAcquisition(camera, n_frames)
        enough = threading.Event()

        def count(value: int, **_: Any) -> None:
            if value >= 4:
                enough.set()

        flyer.stage()
        try:
            flyer.kickoff().wait(WAIT_S)
            camera.writer.num_captured.subscribe(count)
            assert enough.wait(WAIT_S)
            flyer.complete().wait(WAIT_S)
        finally:
            camera.writer.num_captured.clear_sub(count)
            flyer.unstage()
        (_, resource), (_, datum) = flyer.collect_asset_docs()
        frames = datum["indices"]["stop"]
        assert frames == 4 if n_frames else frames >= 4
        with h5py.File(resource["uri"].removeprefix("file://localhost")) as file:
            assert file[resource["parameters"]["dataset"]].shape == (frames, *SHAPE)
            ids = file["/entry/instrument/NDAttributes/NDArrayUniqueId"][:]
        assert (np.diff(ids) == 1).all()
        assert list(flyer.collect_asset_docs()) == []


class TestPointDetectors:
    def read(self, detector: Any) -> dict[str, Any]:
        detector.stage()
        try:
            detector.trigger().wait(WAIT_S)
            return {key: entry["value"] for key, entry in detector.read().items()}
        finally:
            detector.unstage()

    def test_scaler_counts_in_proportion_to_time(self, devices: IOCBeamline) -> None:
        devices.i0.set_exposure(0.2)
        twice = self.read(devices.i0)
        devices.i0.set_exposure(0.1)
        once = self.read(devices.i0)
        assert twice["i0"] / once["i0"] == pytest.approx(2.0, rel=0.05)
        assert once["i0_elapsed_s"] == pytest.approx(0.1)
        with pytest.raises(OutOfLimitsError):
            devices.i0.set_exposure(-1.0)

    def test_transmission_drops_across_the_edge(self, devices: IOCBeamline) -> None:
        devices.shutter.set("open").wait(WAIT_S)
        ratio = []
        for energy_ev in (8300.0, 8360.0):
            devices.energy.set(energy_ev).wait(WAIT_S)
            reading = self.read(devices.i0)
            ratio.append(reading["i0_it"] / reading["i0"])
        devices.shutter.set("closed").wait(WAIT_S)
        assert ratio[1] < 0.95 * ratio[0]
        assert self.read(devices.i0)["i0_it"] == 0

    def test_yield_and_fluorescence_rise_across_the_edge(self, devices: IOCBeamline) -> None:
        devices.shutter.set("open").wait(WAIT_S)
        seen = []
        for energy_ev in (8300.0, 8360.0):
            devices.energy.set(energy_ev).wait(WAIT_S)
            seen.append({**self.read(devices.electrometer), **self.read(devices.fluorescence)})
        devices.shutter.set("closed").wait(WAIT_S)
        below, above = seen
        assert above["electrometer"] > below["electrometer"]
        # No Ni line below the Ni edge; Mn and Co shine on both sides.
        assert above["fluorescence"] > 20 * max(below["fluorescence"], 1.0)
        assert below["fluorescence_mn"] > 100

    def test_dead_time_is_corrected(self, devices: IOCBeamline) -> None:
        devices.shutter.set("open").wait(WAIT_S)
        devices.energy.set(8360.0).wait(WAIT_S)
        reading = self.read(devices.fluorescence)
        devices.shutter.set("closed").wait(WAIT_S)
        dead = devices.fluorescence.dead_time
        assert 0.0 < dead < 1.0
        assert reading["fluorescence_mn_corrected"] == pytest.approx(reading["fluorescence_mn"] / (1 - dead))

    def test_beam_trip_is_seen_by_i0(self, devices: IOCBeamline, fault: Any) -> None:
        fault("beam_trip", -1)
        assert self.read(devices.i0)["i0"] == 0


class TestConnection:
    def test_missing_process_variables_are_named(self, devices: IOCBeamline) -> None:
        absent = EpicsShutter(PREFIX, name="absent", command="shutter:Set", status="shutter:Nowhere")
        with pytest.raises(NotConnectedError, match="DEV:shutter:Nowhere"):
            connect_devices(absent, timeout_s=0.5)

    def test_a_lost_process_variable_fails_and_comes_back(self, devices: IOCBeamline) -> None:
        switch = EpicsSignal(f"{PREFIX}fault:disconnected", name="switch", string=True, put_complete=True)
        changes: list[bool] = []
        lost, back = threading.Event(), threading.Event()

        def changed(connected: bool, **_: Any) -> None:
            changes.append(connected)
            (back if connected else lost).set()

        devices.i0.elapsed_s.subscribe(changed, event_type="meta", run=False)
        switch.set("scaler1").wait(WAIT_S)
        try:
            assert lost.wait(WAIT_S)
            with pytest.raises(DeviceError):
                devices.i0.trigger().wait(WAIT_S)
        finally:
            back.clear()
            switch.set("").wait(WAIT_S)
        assert back.wait(WAIT_S)
        connect_devices(devices.i0, timeout_s=WAIT_S)
        devices.i0.trigger().wait(WAIT_S)
