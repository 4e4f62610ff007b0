"""The simulated devices: what they say of themselves, what they refuse, how they move, stop, pause and fail."""

import math
import operator

import event_model
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky import plans as bp
from bluesky.callbacks.best_effort import BestEffortCallback
from bluesky.protocols import Checkable, Pausable
from bluesky.protocols import Movable as BlueskyMovable
from bluesky.utils import FailedStatus

from beamline_devices import (
    DeviceError,
    DeviceTimeoutError,
    NotArrivedError,
    NotConnectedError,
    OutOfLimitsError,
    UnknownPositionError,
)
from beamline_devices.protocols import (
    EnergyAxis,
    FrameDetector,
    NamedPosition,
    PointDetector,
    SampleStage,
    Shutter,
)
from sim_devices import Fault, SimBeamline, TwinSettings


@pytest.fixture
def beamline():
    return SimBeamline((32, 40), seed=1)


@pytest.fixture
def slow():
    return SimBeamline((32, 40), seed=1, time_scale=1.0)


def run(plan):
    documents = []
    RunEngine()(plan, lambda name, doc: documents.append((name, doc)))
    return documents


def devices(beamline):
    return [
        beamline.energy,
        beamline.camera,
        beamline.shutter,
        beamline.stage,
        beamline.i0,
        beamline.ring,
        beamline.filters,
        beamline.electrometer,
        beamline.fluorescence,
        beamline.optics,
    ]


def test_devices_satisfy_the_protocols(beamline):
    assert isinstance(beamline.energy, EnergyAxis)
    assert isinstance(beamline.camera, FrameDetector)
    assert isinstance(beamline.shutter, Shutter)
    assert isinstance(beamline.stage, SampleStage)
    assert isinstance(beamline.i0, PointDetector)
    assert isinstance(beamline.ring, PointDetector)
    assert isinstance(beamline.electrometer, PointDetector)
    assert isinstance(beamline.fluorescence, PointDetector)
    assert isinstance(beamline.filters, NamedPosition)
    assert isinstance(beamline.camera.exposure_s, BlueskyMovable)
    assert isinstance(beamline.camera, Pausable)
    assert isinstance(beamline.energy, Checkable)


@pytest.mark.parametrize("index", range(10))
def test_readings_and_descriptions_match_and_are_complete(beamline, index):
    device = devices(beamline)[index]
    if hasattr(device, "trigger"):
        device.trigger().wait(60)
    for reading, description in (
        (device.read(), device.describe()),
        (device.read_configuration(), device.describe_configuration()),
    ):
        assert reading.keys() == description.keys()
        for key, data_key in description.items():
            value = reading[key]["value"]
            assert data_key["source"]
            assert "units" in data_key
            assert np.dtype(data_key["dtype_numpy"]).kind == np.asarray(value).dtype.kind
            assert list(np.shape(value)) == data_key["shape"]
            if data_key["dtype"] == "number":
                assert "precision" in data_key
            if data_key["dtype"] == "string":
                assert value in data_key["choices"]


def test_a_scan_gives_valid_documents_with_the_promised_keys(beamline):
    beamline.shutter.set("open").wait(60)
    documents = run(bp.scan([beamline.camera, beamline.i0], beamline.energy, 8330.0, 8360.0, 4))
    for name, doc in documents:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(
            {k: v for k, v in doc.items() if name != "event"} if name != "event" else {**doc, "data": {}}
        )
    descriptor = next(doc for name, doc in documents if name == "descriptor")
    image = descriptor["data_keys"]["camera_image"]
    assert (image["shape"], image["dtype_numpy"], image["dtype"]) == ([32, 40], "<u2", "array")
    images = [
        k
        for k in descriptor["object_keys"]["camera"]
        if sum(n > 1 for n in descriptor["data_keys"][k]["shape"]) >= 2
    ]
    assert images == ["camera_image"]
    assert descriptor["hints"]["energy"]["fields"] == ["energy"]
    assert descriptor["hints"]["i0"]["fields"] == ["i0"]
    assert descriptor["data_keys"]["energy"]["units"] == "eV"
    assert descriptor["data_keys"]["energy"]["upper_ctrl_limit"] > 8400
    assert descriptor["configuration"]["camera"]["data"]["camera_exposure_s"] == 0.5
    events = [doc for name, doc in documents if name == "event"]
    assert [e["data"]["energy"] for e in events] == [8330.0, 8340.0, 8350.0, 8360.0]
    assert [e["data"]["camera_frame_number"] for e in events] == [1, 2, 3, 4]
    frames = [e["data"]["camera_image"] for e in events]
    assert all(f.dtype == np.uint16 and f.shape == (32, 40) for f in frames)
    assert not np.array_equal(frames[0], frames[1])


@pytest.mark.parametrize("value", [4999.0, 12001.0, math.nan, math.inf, -8333.0])
def test_energies_out_of_reach_are_refused_before_anything_moves(beamline, value):
    with pytest.raises(OutOfLimitsError, match="energy cannot go to"):
        beamline.energy.set(value)
    assert beamline.energy.position == 8333.0
    assert beamline.energy.setpoint.get() == 8333.0


def test_kev_is_recognised(beamline):
    with pytest.raises(OutOfLimitsError, match="looks like keV, give 8333 eV"):
        beamline.energy.check_value(8.333)


@pytest.mark.parametrize("value", ["8333 eV", None, [8333.0]])
def test_no_number_is_no_energy(beamline, value):
    with pytest.raises(OutOfLimitsError, match="takes an energy in eV"):
        beamline.energy.set(value)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, 1e4, "long"])
def test_exposures_that_make_no_sense_are_refused(beamline, value):
    with pytest.raises(OutOfLimitsError, match="camera_exposure_s"):
        beamline.camera.exposure_s.set(value)
    assert beamline.camera.exposure_s.get() == 0.5


def test_unknown_positions_are_refused(beamline):
    with pytest.raises(UnknownPositionError, match="shutter takes 'closed' or 'open', not 'ajar'"):
        beamline.shutter.set("ajar")
    with pytest.raises(UnknownPositionError, match="sample takes 'in' or 'out', not 'open'"):
        beamline.stage.set("open")


def test_positions_act_on_the_twin(beamline):
    assert (beamline.shutter.position, beamline.stage.position) == ("closed", "in")
    beamline.shutter.set("open").wait(60)
    beamline.stage.set("out").wait(60)
    assert beamline.twin.shutter_open
    assert not beamline.twin.sample_in
    assert beamline.stage.locate() == {"setpoint": "out", "readback": "out"}


def test_axes_displace_the_sample_and_take_it_out(beamline):
    stage, twin = beamline.stage, beamline.twin
    beamline.shutter.set("open").wait(60)
    centred = twin.expose(0.5).astype(float)
    step_mm = 3 * beamline.pixel_size_nm * 1e-6
    stage.y.set(step_mm).wait(60)
    moved = twin.expose(0.5).astype(float)
    assert stage.position == "in"
    # Three rows down: what was at row 10 is at row 13 (the illumination differs a little).
    still = np.abs(moved[8:28] - centred[8:28]).mean()
    assert np.abs(moved[11:31] - centred[8:28]).mean() < 0.8 * still
    stage.x.set(2.0).wait(60)
    assert stage.position == "unknown"
    assert not twin.sample_in
    stage.set("out").wait(60)
    assert (stage.position, stage.x.position) == ("out", 5.0)
    stage.set("in").wait(60)
    assert (stage.position, stage.x.position, stage.y.position) == ("in", 0.0, step_mm)
    with pytest.raises(OutOfLimitsError, match="sample_x cannot be 11 mm, it takes -10 to 10 mm"):
        stage.x.set(11)


def test_the_place_to_look_at_can_be_moved(beamline):
    beamline.stage.move_in_position(x=0.02)
    assert beamline.stage.position == "unknown"
    beamline.stage.set("in").wait(60)
    assert beamline.twin.stage_um == pytest.approx((0.0, 20.0))
    beamline.stage.set("out").wait(60)
    assert beamline.stage.x.position == pytest.approx(5.02)


def test_zone_plate_follows_the_energy_and_is_sharp_only_there():
    beamline = SimBeamline((128, 128), pixel_size_nm=31.2, settings=TwinSettings.ideal())
    beamline.shutter.set("open").wait(60)

    def sharpness():
        return np.abs(np.diff(beamline.twin.expose(0.5).astype(float), axis=0)).mean()

    beamline.energy.set(8400.0).wait(60)
    reading = beamline.energy.read()
    # Focal length, diameter x zone width / wavelength: 125 um x 30 nm / 0.1476 nm.
    assert reading["optics_focal_length_mm"]["value"] == pytest.approx(25.41, abs=0.01)
    assert reading["optics_energy_ev"]["value"] == 8400.0
    sharp = sharpness()
    beamline.optics.z.set(beamline.optics.z.position + 0.3).wait(60)
    assert sharpness() < 0.7 * sharp
    beamline.energy.set(8400.0).wait(60)
    assert sharpness() == sharp
    with pytest.raises(OutOfLimitsError, match="optics_z cannot be"):
        beamline.optics.set(25000.0)
    with pytest.raises(OutOfLimitsError, match="no focus at an energy of 0"):
        beamline.optics.set(0)


def test_filters_dim_beam_and_i0_alike(beamline):
    beamline.shutter.set("open").wait(60)
    beamline.stage.set("out").wait(60)
    signals = []
    for choice in ("none", "thick"):
        beamline.filters.set(choice).wait(60)
        signals.append((beamline.twin.expose(0.5).mean() - 102, beamline.twin.read_i0()))
    (light, i0), (dim, i0_dim) = signals
    # 400 um of aluminium at 8333 eV, by hand: exp(-0.04 cm x 2.7 g/cm3 x 45 cm2/g) = 0.008.
    assert 0.003 < i0_dim / i0 < 0.02
    assert dim / light == pytest.approx(i0_dim / i0, rel=0.1)


def test_yields_rise_across_the_edge_and_transmission_falls(beamline):
    beamline.load_standard("Ni_K", 0.5)
    beamline.shutter.set("open").wait(60)
    readings = []
    for energy in (8320.0, 8360.0):
        beamline.energy.set(energy).wait(60)
        for detector in (beamline.electrometer, beamline.fluorescence):
            detector.trigger().wait(60)
        readings.append(
            {
                k: v["value"]
                for detector in (beamline.electrometer, beamline.fluorescence)
                for k, v in detector.read().items()
            }
        )
    below, above = readings
    assert above["electrometer"] > 1.1 * below["electrometer"]
    assert above["electrometer_it"] < 0.7 * below["electrometer_it"]
    assert below["fluorescence"] == 0
    assert above["fluorescence"] > 100
    assert above["fluorescence_ni_corrected"] > above["fluorescence"]
    assert below["fluorescence_mn"] > 0
    assert 0 < beamline.fluorescence.dead_time < 1
    beamline.shutter.set("closed").wait(60)
    beamline.electrometer.trigger().wait(60)
    assert beamline.electrometer.tey.get() == 0.0
    assert beamline.electrometer.i0.get() > 0


def test_bragg_angle_belongs_to_the_energy(beamline):
    beamline.energy.set(8350.0).wait(60)
    reading = beamline.energy.read()
    sine = np.sin(np.radians(reading["energy_bragg"]["value"]))
    spacing = beamline.energy.read_configuration()["energy_d_spacing_a"]["value"]
    assert 12398.42 / (2 * spacing * sine) == pytest.approx(8350.0, abs=0.01)


def test_best_effort_table_shows_energy_intensity_and_frame(beamline, capsys):
    best_effort = BestEffortCallback()
    best_effort.disable_plots()
    engine = RunEngine()
    engine.subscribe(best_effort)
    engine(bp.scan([beamline.camera, beamline.i0], beamline.energy, 8330.0, 8340.0, 2))
    table = capsys.readouterr().out
    header = next(line for line in table.splitlines() if "seq_num" in line)
    assert [word.strip() for word in header.split("|") if word.strip()] == [
        "seq_num", "time", "energy", "camera_mean", "i0",
    ]  # fmt: skip
    assert "8330.000" in table


def test_calibration_moves_the_axis_not_the_crystal(beamline):
    beamline.energy.set(8331.5).wait(60)
    beamline.energy.calibrate(8331.5, 8333.0)
    assert beamline.energy.position == 8333.0
    assert beamline.twin.energy_ev == 8331.5
    before = beamline.truth("Ni_K").edge_energy_ev
    assert np.nanmedian(before) > 8345.9
    beamline.energy.set(8340.0).wait(60)
    assert beamline.twin.energy_ev == pytest.approx(8338.5)


def test_moves_take_their_time_and_can_be_stopped(slow):
    status = slow.energy.set(8433.0)  # two seconds
    assert not status.done
    with pytest.raises(DeviceError, match="still busy"):
        slow.energy.set(8340.0)
    slow.energy.stop()
    with pytest.raises(DeviceError, match="was stopped"):
        status.wait(60)
    assert 8333.0 <= slow.energy.position < 8433.0
    assert slow.energy.setpoint.get() == 8433.0


@pytest.mark.parametrize("success", [True, False])
@pytest.mark.parametrize(
    ("name", "to", "back"),
    [
        ("energy", 8433.0, 8333.0),
        ("shutter", "open", "closed"),
        ("stage", "out", "in"),
        ("stage.y", 2.0, 0.0),
        ("filters", "thick", "none"),
        ("optics", 8433.0, 8333.0),
        ("optics.z", 20.0, 21.0),
    ],
)
def test_a_stopped_move_ends_as_the_one_who_stops_it_asks_for(slow, name, to, back, success):
    device = operator.attrgetter(name)(slow)
    status = device.set(to)
    assert not status.done
    device.stop(success=success)
    if success:
        status.wait(60)
    else:
        with pytest.raises(DeviceError, match="was stopped"):
            status.wait(60)
    # What was stopped is not where it was sent, and goes there or back when it is told to, at once.
    assert device.position != to if hasattr(device, "position") else slow.optics.energy_ev.get() != to
    device.set(to)
    device.stop(success=True)
    device.set(back).wait(60)
    if hasattr(device, "position"):
        assert device.position == back


@pytest.mark.parametrize("name", ["electrometer", "fluorescence", "camera"])
def test_a_paused_measurement_ends_at_once_and_can_be_taken_again(slow, name):
    device = getattr(slow, name)
    device.exposure_s.set(60.0).wait(60)
    status = device.trigger()
    device.pause()
    status.wait(30)  # half of the exposure
    device.resume()
    device.exposure_s.set(0.001).wait(60)
    device.trigger().wait(60)


def test_a_paused_exposure_ends_at_once_and_can_be_taken_again(slow):
    slow.camera.exposure_s.set(60.0).wait(60)
    status = slow.camera.trigger()
    slow.camera.pause()
    status.wait(30)  # half of the exposure
    slow.camera.resume()
    slow.camera.exposure_s.set(0.001).wait(60)
    slow.camera.trigger().wait(60)
    assert slow.camera.frame_number.get() == 2


def test_shutter_that_sticks_says_so(beamline):
    beamline.faults.arm(Fault.SHUTTER_STUCK)
    with pytest.raises(NotArrivedError, match="shutter was told 'open' but is still 'closed'"):
        beamline.shutter.set("open").wait(60)
    assert beamline.shutter.position == "closed"
    beamline.shutter.set("open").wait(60)
    assert beamline.twin.shutter_open


def test_shutter_that_lies_leaves_dark_frames(beamline):
    beamline.faults.arm(Fault.SHUTTER_SILENT)
    beamline.shutter.set("open").wait(60)
    beamline.camera.trigger().wait(60)
    assert beamline.shutter.position == "open"
    assert beamline.camera.mean.get() < 150


def test_energy_that_does_not_arrive(beamline):
    beamline.faults.arm(Fault.ENERGY_STUCK, after=1)
    beamline.energy.set(8340.0).wait(60)
    with pytest.raises(NotArrivedError, match="sent to 8350 eV but reads 8345 eV"):
        beamline.energy.set(8350.0).wait(60)
    assert beamline.energy.position == beamline.twin.energy_ev == 8345.0


def test_a_second_try_is_not_stopped_by_the_failure_of_the_first():
    beamline = SimBeamline((32, 32), time_scale=0.02)
    for target in (8340.0, 8333.0, 8340.0, 8333.0):
        beamline.faults.arm(Fault.ENERGY_STUCK)
        with pytest.raises(NotArrivedError):
            beamline.energy.set(target).wait(60)
        beamline.energy.set(target).wait(60)
        assert beamline.energy.position == target


def test_camera_that_never_answers(beamline):
    beamline.faults.arm(Fault.CAMERA_TIMEOUT)
    with pytest.raises(DeviceTimeoutError, match="camera gave no frame"):
        beamline.camera.trigger().wait(60)
    beamline.camera.trigger().wait(60)


def test_stale_frame_shows_in_its_number(beamline):
    beamline.shutter.set("open").wait(60)
    beamline.camera.trigger().wait(60)
    first = beamline.camera.read()
    beamline.faults.arm(Fault.STALE_FRAME)
    beamline.camera.trigger().wait(60)
    second = beamline.camera.read()
    np.testing.assert_array_equal(first["camera_image"]["value"], second["camera_image"]["value"])
    assert first["camera_frame_number"]["value"] == second["camera_frame_number"]["value"] == 1
    beamline.camera.trigger().wait(60)
    assert beamline.camera.frame_number.get() == 3


def test_dropped_frame_fails_the_trigger(beamline):
    beamline.faults.arm(Fault.DROPPED_FRAME)
    with pytest.raises(DeviceError, match="camera lost frame 1"):
        beamline.camera.trigger().wait(60)


@pytest.mark.parametrize("name", ["energy", "camera", "shutter", "sample", "i0"])
def test_disconnected_devices_say_who_they_are(beamline, name):
    device = next(d for d in devices(beamline) if d.name == name)
    beamline.faults.arm(Fault.DISCONNECTED, device=name, times=None)
    with pytest.raises(NotConnectedError, match=f"{name} cannot be reached"):
        device.read()
    use = {"energy": 8340.0, "shutter": "open", "sample": "out"}
    with pytest.raises(NotConnectedError):
        device.set(use[name]) if name in use else device.trigger()
    beamline.faults.clear()
    device.read()


def test_a_fault_in_a_plan_fails_the_run_and_keeps_what_was_taken(beamline):
    beamline.faults.arm(Fault.ENERGY_STUCK, after=2)
    documents = []
    with pytest.raises(FailedStatus) as failure:
        RunEngine()(
            bp.list_scan([beamline.camera], beamline.energy, [8330.0, 8340.0, 8350.0]),
            lambda name, doc: documents.append((name, doc)),
        )
    assert "sent to 8350 eV" in str(failure.value.__cause__)
    assert [name for name, _ in documents].count("event") == 2
    assert documents[-1][1]["exit_status"] != "success"


def test_faults_can_be_looked_at_and_cleared(beamline):
    faults = beamline.faults
    faults.arm("beam_trip", after=3)
    assert faults.armed(Fault.BEAM_TRIP)
    assert not faults.occurs_next(Fault.BEAM_TRIP)
    faults.clear("beam_trip")
    assert not faults.armed(Fault.BEAM_TRIP)


def test_standards_compounds_and_the_electrode_can_be_exchanged(beamline):
    beamline.load_standard("Ni_K", 1.0)
    assert np.all(beamline.truth("Ni_K").soc == 1.0)
    beamline.load_compound("NiO")
    assert np.all(beamline.truth("Ni_K").mask)
    assert not beamline.truth("Co_K").mask.any()
    beamline.load_electrode()
    assert np.nanstd(beamline.truth("Ni_K").soc) > 0.05
    with pytest.raises(DeviceError, match="no edge 'Fe_K'"):
        beamline.load_standard("Fe_K", 0.5)


def test_pixels_grow_with_binning():
    assert SimBeamline((128, 200)).pixel_size_nm == pytest.approx(31.2 * 8)
    assert SimBeamline((64, 64)).pixel_size_nm == pytest.approx(31.2 * 16)
    with pytest.raises(DeviceError, match="negative"):
        SimBeamline((32, 32), time_scale=-1)


def test_plain_plans_read_and_move_everything(beamline):
    def plan():
        yield from bps.mv(beamline.shutter, "open", beamline.stage, "out", beamline.energy, 8350.0)
        yield from bps.abs_set(beamline.camera.exposure_s, 0.1, wait=True)
        assert (yield from bps.rd(beamline.energy)) == 8350.0
        assert (yield from bps.rd(beamline.shutter)) == "open"
        yield from bp.count([beamline.camera, beamline.i0, beamline.ring], 2)

    documents = run(plan())
    event = next(doc for name, doc in documents if name == "event")
    assert event["data"]["i0"] == pytest.approx(50.0, rel=0.05)
    assert event["data"]["ring_current"] == pytest.approx(400.0, rel=0.05)
