"""Whatever interrupts a scan, the data hold each energy, and hold it under its own name."""

import asyncio
from threading import Thread

import numpy as np
import pytest
from bluesky import Msg, RunEngine
from bluesky.preprocessors import plan_mutator, suspend_wrapper
from bluesky.utils import RunEngineInterrupted, single_gen
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ophyd import Signal

from beamline_plans import (
    EnergyGrid,
    FrameError,
    PlanError,
    RunLedger,
    beam_suspenders,
    resume_scan,
    validate_run_documents,
    xanes_scan,
)
from nimco.testing import devices_of
from sim_devices import Fault, SimBeamline, SourceSettings, TwinSettings

GRID = EnergyGrid((8300.0, 8350.0, 8345.0, 8300.0), (0.1, 0.2, 0.2, 0.1))
HOME_EV = 8000.0
N_DARKS, N_FLATS, REPEATS = 2, 1, 2


def quiet_beamline():
    """A beamline whose mean counts tell, without noise to speak of, what was in the beam."""
    settings = TwinSettings(source=SourceSettings(drift=0.0))
    beamline = SimBeamline(shape=(32, 32), seed=3, settings=settings)
    beamline.energy.set(HOME_EV).wait(60)
    return beamline


def scan(beamline, **kwargs):
    fixed = {"edge": "Ni_K", "grid": GRID, "i0": beamline.i0}
    counts = {"n_darks": N_DARKS, "n_flats": N_FLATS, "repeats": REPEATS}
    return xanes_scan(*devices_of(beamline), **{**fixed, **counts, **kwargs})


class Session:
    """A RunEngine with a ledger, whose documents are kept."""

    def __init__(self):
        self.RE = RunEngine({}, call_returns_result=True)
        self.ledger = RunLedger()
        self.documents = []
        self.RE.subscribe(lambda name, doc: self.documents.append((name, doc)))
        self.RE.subscribe(self.ledger)

    def of(self, name):
        return [doc for n, doc in self.documents if n == name]

    def events(self, stream, run=None):
        uids = {
            d["uid"]
            for d in self.of("descriptor")
            if d["name"] == stream and (run is None or d["run_start"] == run)
        }
        return [doc["data"] for doc in self.of("event") if doc["descriptor"] in uids]


def expected_counts(beamline):
    """Mean counts of each kind of frame per energy index, taken by hand."""
    expected = {}
    for index, (energy, exposure) in enumerate(GRID):
        beamline.energy.set(energy).wait(60)
        for stream, position, beam in (
            ("primary", "in", "open"),
            ("flat", "out", "open"),
            ("dark", "in", "closed"),
        ):
            beamline.stage.set(position).wait(60)
            beamline.shutter.set(beam).wait(60)
            beamline.camera.exposure_s.set(exposure).wait(60)
            beamline.camera.trigger().wait(60)
            counts = float(np.mean(beamline.camera.read()["camera_image"]["value"]))
            expected[(stream, -1 if stream == "dark" else index, exposure)] = counts
    beamline.shutter.set("closed").wait(60)
    beamline.stage.set("in").wait(60)
    beamline.energy.set(HOME_EV).wait(60)
    return expected


@pytest.fixture(scope="module")
def counts():
    return expected_counts(quiet_beamline())


def check_every_label(session, counts):
    """Each frame shows what its label says: the readback agrees, and so do the counts in the image itself."""
    for stream in ("dark", "flat", "primary"):
        for data in session.events(stream):
            assert data["energy"] == pytest.approx(data["xanes_energy_setpoint_ev"], abs=0.1)
            key = (stream, data["xanes_energy_index"], data["xanes_exposure_s"])
            assert np.mean(data["camera_image"]) == pytest.approx(counts[key], rel=0.03)


def left_safe(beamline):
    return (
        beamline.shutter.position == "closed"
        and beamline.stage.position == "in"
        and beamline.energy.position == pytest.approx(HOME_EV, abs=0.1)
    )


def interrupted(plan, at, what):
    """Give the plan with what `what` makes right after each message whose number is in `at`."""
    count = [0]

    def mutate(msg):
        count[0] += 1
        return (None, single_gen(what(count[0]))) if count[0] in at else (None, None)

    return plan_mutator(plan, mutate)


def pause(_number):
    return Msg("pause", defer=False)


def count_messages(beamline):
    from bluesky.simulators import RunEngineSimulator

    return len(RunEngineSimulator().simulate_plan(scan(beamline)))


N_MESSAGES = count_messages(SimBeamline(shape=(8, 8)))


def meddle(beamline):
    """What a person at the beamline may do while a scan is paused."""
    beamline.energy.set(8200.0).wait(60)
    beamline.stage.set("out").wait(60)
    beamline.shutter.set("closed").wait(60)
    beamline.camera.exposure_s.set(0.033).wait(60)
    beamline.camera.trigger().wait(60)


def trip(RE):
    """Register a message that is a beam trip: the beam dies mid-scan and comes back a moment later."""
    happened = set()

    async def tripped(msg):
        if msg.args in happened:
            return  # a rewind replays the message, the beam does not trip again
        happened.add(msg.args)
        back = asyncio.Event()
        RE.request_suspend(back.wait)
        RE.loop.call_later(0.02, back.set)

    RE.register_command("trip", tripped)
    return lambda number: Msg("trip", None, number)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    at=st.sets(st.integers(1, N_MESSAGES), min_size=1, max_size=4),
    how=st.sampled_from(["pause", "trip", "abort", "stop"]),
)
@example(at={2}, how="abort")
@example(at={2}, how="stop")
def test_interrupted_at_any_message_the_data_hold_each_energy_correctly_labelled(counts, at, how):
    beamline = quiet_beamline()
    session = Session()
    what = trip(session.RE) if how == "trip" else pause
    if how in ("abort", "stop"):
        at = {min(at)}  # there is one end only
    try:
        session.RE(interrupted(scan(beamline), at, what))
    except RunEngineInterrupted:
        while session.RE.state == "paused":
            meddle(beamline)
            try:
                getattr(session.RE, "resume" if how == "pause" else how)()
            except RunEngineInterrupted:
                continue
    assert session.RE.state == "idle"
    # Before its first read the plan knows of no place to go back to, and has moved nothing.
    assert left_safe(beamline) or at == {1}
    check_every_label(session, counts)
    starts = session.of("start")
    if how in ("abort", "stop") and starts:
        # What was measured stays, and what is missing can be taken later.
        uid = starts[0]["uid"]
        if how == "abort":
            validate_run_documents(session.documents)
        before = len(session.documents)
        session.RE(resume_scan(*devices_of(beamline), uid=uid, archive=session.ledger, i0=beamline.i0))
        if len(session.documents) > before:
            validate_run_documents(session.documents[before:])
        check_every_label(session, counts)
        assert left_safe(beamline)
    elif how in ("pause", "trip"):
        validate_run_documents(session.documents)
    if starts:
        for stream, n in (("primary", REPEATS), ("flat", N_FLATS)):
            held = {(d["xanes_energy_index"], d["xanes_repeat"]) for d in session.events(stream)}
            assert held == {(i, r) for i in range(len(GRID)) for r in range(n)}


@pytest.mark.parametrize("nth", [3, 7, 9])
def test_a_pause_in_the_middle_of_an_exposure_discards_that_exposure(counts, nth):
    beamline = SimBeamline(
        shape=(32, 32), seed=3, settings=TwinSettings(source=SourceSettings(drift=0.0)), time_scale=0.02
    )
    beamline.energy.set(HOME_EV).wait(60)
    grid = EnergyGrid(GRID.energies_ev, [10 * t for t in GRID.exposure_s])
    session = Session()
    trigger = beamline.camera.trigger
    pausing = []

    def paused_mid_exposure():
        status = trigger()
        pausing.append(1)
        if len(pausing) == nth:
            assert not status.done
            Thread(target=session.RE.request_pause, daemon=True).start()
        return status

    beamline.camera.trigger = paused_mid_exposure
    with pytest.raises(RunEngineInterrupted):
        session.RE(scan(beamline, grid=grid, repeats=1))
    before = len(session.of("event"))
    meddle(beamline)
    session.RE.resume()
    assert before == nth - 1
    validate_run_documents(session.documents)
    for stream in ("dark", "flat", "primary"):
        for data in session.events(stream):
            exposure = data["xanes_exposure_s"]
            light = (np.mean(data["camera_image"]) - 100.0) / 10 + 100.0
            expected = counts[(stream, data["xanes_energy_index"], round(exposure / 10, 6))]
            assert light == pytest.approx(expected, rel=0.03)
            assert data["energy"] == pytest.approx(data["xanes_energy_setpoint_ev"], abs=0.1)
    assert left_safe(beamline)


def test_a_beam_trip_during_an_exposure_repeats_that_energy(counts):
    beamline = quiet_beamline()
    session = Session()
    ring = Signal(name="ring_current", value=400.0)
    trigger = beamline.camera.trigger
    shutter_during_trip = []
    calls = []

    def trip_mid_frame():
        calls.append(1)
        status = trigger()
        if len(calls) == 9:
            ring.put(0.0)
            session.RE.loop.call_later(0.2, lambda: shutter_during_trip.append(beamline.shutter.position))
            session.RE.loop.call_later(0.3, ring.put, 400.0)
        return status

    beamline.camera.trigger = trip_mid_frame
    suspenders = beam_suspenders([(ring, 100.0, 300.0)], settle_s=0.05, shutter=beamline.shutter)
    session.RE(suspend_wrapper(scan(beamline), suspenders))
    validate_run_documents(session.documents)
    check_every_label(session, counts)
    assert shutter_during_trip == ["closed"]
    frames = [
        (d["xanes_energy_index"], d["xanes_repeat"]) for s in ("flat", "primary") for d in session.events(s)
    ]
    assert len(calls) > 4 + len(GRID) * (REPEATS + N_FLATS)
    assert len(set(frames)) == len(GRID) * REPEATS
    attempts = [d["xanes_attempt"] for s in ("flat", "primary") for d in session.events(s)]
    assert max(attempts) == 1
    assert left_safe(beamline)


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ([(Signal(name="ring"), 100.0, 100.0)], {}, "ring must come back above 100"),
        ([], {"settle_s": -1.0}, "settle_s"),
        ([], {"settle_s": 10_000.0}, "settle_s must be from 0 to 3600 seconds"),
    ],
)
def test_suspenders_that_make_no_sense_are_refused(args, kwargs, said):
    with pytest.raises(PlanError, match=said):
        beam_suspenders(args, **kwargs)


def test_a_frame_without_beam_is_kept_marked_and_taken_again(counts):
    beamline = quiet_beamline()
    session = Session()
    read = beamline.i0.read
    readings = []

    def read_low():
        reading = read()
        readings.append(1)
        if len(readings) == 7:
            reading["i0"]["value"] = 0.01
        return reading

    beamline.i0.read = read_low
    session.RE(scan(beamline, i0_min=1.0))
    validate_run_documents(session.documents)
    check_every_label(session, counts)
    low = [d for s in ("flat", "primary") for d in session.events(s) if d["i0"] < 1.0]
    assert len(low) == 1
    slot = (low[0]["xanes_energy_index"], low[0]["xanes_repeat"])
    again = [d for d in session.events("primary") if (d["xanes_energy_index"], d["xanes_repeat"]) == slot]
    assert [d["xanes_attempt"] for d in again] == [0, 1]
    assert again[1]["i0"] > 1.0


def test_a_beam_that_stays_away_is_a_loud_failure():
    beamline = quiet_beamline()
    session = Session()
    with pytest.raises(
        FrameError, match=r"I0 is .*, not at least 1000 \(no frame .* give i0_min in that unit"
    ):
        session.RE(scan(beamline, i0_min=1000.0))
    assert left_safe(beamline)
    assert session.of("stop")[0]["exit_status"] == "fail"


def test_a_limit_of_i0_in_another_unit_is_said_at_the_first_frame(caplog):
    for i0_min, factor, said in ((0.5, 1e3, 1), (0.5, -1e3, 1), (1.0, 1.0, 0), (0.0, 1e3, 0)):
        caplog.clear()
        beamline = quiet_beamline()
        with_i0(beamline, lambda n, i0, factor=factor: i0 * factor)
        session = Session()
        session.RE(scan(beamline, i0_min=i0_min))
        words = [r.getMessage() for r in caplog.records if "a hundredth of it" in r.getMessage()]
        assert len(words) == said, words
    # A beam that goes later is no matter of units.
    beamline = quiet_beamline()
    with_i0(beamline, lambda n, i0: 0.01 if n > 5 else i0)
    with pytest.raises(FrameError, match=r"not at least 1 failed|not at least 1\)") as gone:
        Session().RE(scan(beamline, i0_min=1.0))
    assert "unit" not in str(gone.value)


def with_i0(beamline, of_reading):
    """Let the n-th reading of I0 be what a function makes of it."""
    read, readings = beamline.i0.read, []

    def changed():
        reading = read()
        readings.append(1)
        reading["i0"]["value"] = of_reading(len(readings), reading["i0"]["value"])
        return reading

    beamline.i0.read = changed


def test_a_negative_i0_is_compared_by_its_magnitude_and_one_of_the_other_sign_is_taken_again(counts, caplog):
    beamline = quiet_beamline()
    # Low at the ninth reading, of the other sign at the twelfth.
    with_i0(beamline, lambda n, i0: {9: -0.01, 12: i0}.get(n, -i0))
    session = Session()
    session.RE(scan(beamline, i0_min=1.0))
    validate_run_documents(session.documents)
    check_every_label(session, counts)
    again = [d for s in ("flat", "primary") for d in session.events(s) if d["xanes_attempt"] > 0]
    assert len(again) == 2
    assert sum("its magnitude is compared" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("i0", [np.nan, -np.inf, -0.5, 0.0])
def test_no_i0_at_all_is_not_taken_for_a_negative_one(i0):
    beamline = quiet_beamline()
    with_i0(beamline, lambda _n, _i0: i0)
    with pytest.raises(FrameError, match="not at least 1"):
        Session().RE(scan(beamline, i0_min=1.0))
    with pytest.raises(PlanError, match="its magnitude is compared"):
        Session().RE(scan(beamline, i0_min=-1.0))


@pytest.mark.parametrize(("says", "counts"), [(4095.0, 4095.0), (0.0, None)])
def test_the_contract_says_where_the_camera_is_saturated_if_the_camera_does(says, counts):
    beamline = quiet_beamline()
    beamline.camera.saturation_counts.put(says)
    session = Session()
    session.RE(scan(beamline))
    assert session.of("start")[0]["xanes"]["saturation_counts"] == counts


def test_a_camera_that_does_not_tell_its_configuration_costs_no_scan(monkeypatch):
    beamline = quiet_beamline()
    tell = beamline.camera.read_configuration
    session = Session()

    def read_configuration():
        if not session.of("start"):
            raise OSError("link down")
        return tell()

    monkeypatch.setattr(beamline.camera, "read_configuration", read_configuration)
    session.RE(scan(beamline))
    assert session.of("start")[0]["xanes"]["saturation_counts"] is None
    assert session.of("stop")[0]["exit_status"] == "success"


@pytest.mark.parametrize("where", ["energy.set", "camera.trigger", "camera.read", "shutter.set", "i0.read"])
@pytest.mark.parametrize("call", [6, 8, 10])
def test_a_device_that_fails_once_is_asked_again(counts, where, call):
    beamline = quiet_beamline()
    session = Session()
    device, method = where.split(".")
    target = getattr(beamline, device)
    original = getattr(target, method)
    calls = []

    def fails_once(*args):
        calls.append(1)
        if len(calls) == call:
            raise OSError("link down")
        return original(*args)

    setattr(target, method, fails_once)
    session.RE(scan(beamline))
    assert len(calls) > call
    validate_run_documents(session.documents)
    check_every_label(session, counts)
    assert left_safe(beamline)


@pytest.mark.parametrize("after", [1, 3, 5, 8])
@pytest.mark.parametrize(
    ("fault", "device"),
    [
        (Fault.STALE_FRAME, None),
        (Fault.DROPPED_FRAME, None),
        (Fault.CAMERA_TIMEOUT, None),
        (Fault.ENERGY_STUCK, None),
        (Fault.SHUTTER_STUCK, None),
        (Fault.BEAM_TRIP, None),
        (Fault.DISCONNECTED, "camera"),
        (Fault.DISCONNECTED, "i0"),
        (Fault.DISCONNECTED, "energy"),
    ],
)
def test_no_fault_of_the_beamline_gets_a_wrong_frame_into_the_data(counts, fault, device, after):
    beamline = quiet_beamline()
    session = Session()
    first = fault is not Fault.DISCONNECTED and after == 1
    beamline.faults.arm(fault, after=0 if first else after, device=device)
    session.RE(scan(beamline, i0_min=1.0))
    beamline.faults.clear()
    validate_run_documents(session.documents)
    for stream in ("dark", "flat", "primary"):
        last = {}
        for data in session.events(stream):
            last[(data["xanes_energy_index"], data["xanes_exposure_s"], data["xanes_repeat"])] = data
        # Of a frame that was begun more than once the last attempt counts.
        for (index, exposure, _), data in last.items():
            assert np.mean(data["camera_image"]) == pytest.approx(counts[(stream, index, exposure)], rel=0.03)
            assert data["energy"] == pytest.approx(data["xanes_energy_setpoint_ev"], abs=0.1)
    assert left_safe(beamline)


def test_resuming_takes_only_what_is_missing(counts):
    beamline = quiet_beamline()
    session = Session()
    with pytest.raises(RunEngineInterrupted):
        session.RE(interrupted(scan(beamline, md={"sample": "cell 3"}), {150}, pause))
    session.RE.abort()
    first = session.of("start")[0]
    held = {d["xanes_energy_index"] for d in session.events("primary", first["uid"])}
    assert 0 < len(held) < len(GRID)
    plan = resume_scan(*devices_of(beamline), uid=first["uid"][:8], archive=session.ledger, i0=beamline.i0)
    uid = session.RE(plan).plan_result
    second = session.of("start")[1]
    assert second["uid"] == uid
    assert (second["sample"], second["scan_group"]) == ("cell 3", first["scan_group"])
    assert second["xanes"]["resumes"] == first["uid"]
    assert second["xanes"]["energies_ev"] == first["xanes"]["energies_ev"]
    taken = [d["xanes_energy_index"] for d in session.events("primary", uid)]
    assert sorted(set(taken)) == second["xanes"]["take"]["primary"]
    complete = {
        i for i in held
        if {(i, r) for r in range(REPEATS)}
        <= {(d["xanes_energy_index"], d["xanes_repeat"]) for d in session.events("primary", first["uid"])}
    }  # fmt: skip
    assert set(taken) == set(range(len(GRID))) - complete
    # Nothing is missing now, whichever of the two runs one asks for.
    for known in (first["uid"], uid):
        again = resume_scan(*devices_of(beamline), uid=known, archive=session.ledger, i0=beamline.i0)
        assert session.RE(again).plan_result is None
    assert len(session.of("start")) == 2


def test_a_ledger_can_be_filled_from_stored_documents():
    beamline = quiet_beamline()
    session = Session()
    session.RE(scan(beamline))
    ledger = RunLedger()
    ledger.add_documents(session.documents)
    uid = session.of("start")[0]["uid"]
    assert ledger.taken(uid).missing() == {"primary": [], "flat": []}
    without_last = [d for d in session.documents if d[1] is not session.of("event")[-1]]
    ledger = RunLedger()
    ledger.add_documents(without_last)
    missing = ledger.taken(uid).missing()
    assert sum(len(indices) for indices in missing.values()) == 1


def test_what_cannot_be_resumed_is_refused():
    beamline = quiet_beamline()
    session = Session()
    session.RE(scan(beamline))
    uid = session.of("start")[0]["uid"]
    devices = devices_of(beamline)
    with pytest.raises(PlanError, match="No run"):
        session.RE(resume_scan(*devices, uid="nothing", archive=session.ledger))
    with pytest.raises(PlanError, match="same"):
        session.RE(resume_scan(*devices, uid=uid, archive=session.ledger))
    assert len(session.of("start")) == 1


def test_a_retry_waits_for_the_camera_that_is_still_exposing():
    beamline = SimBeamline(shape=(16, 16), seed=3, time_scale=1.0)
    session = Session()
    trigger = beamline.i0.trigger
    calls = []

    def fails_once():
        calls.append(1)
        if len(calls) == 4:
            raise OSError("link down")
        return trigger()

    beamline.i0.trigger = fails_once
    grid = EnergyGrid((8300.0, 8350.0), (0.6, 0.6))
    session.RE(xanes_scan(*devices_of(beamline), edge="Ni_K", grid=grid, i0=beamline.i0, n_darks=1))
    assert session.of("stop")[0]["exit_status"] == "success"
    attempts = [doc["data"]["xanes_attempt"] for doc in session.of("event")]
    assert len(attempts) == 5
    assert len(calls) == 6  # one more than frames: the camera was not asked while it was busy
