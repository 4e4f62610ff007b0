from collections import Counter

import numpy as np
import pytest
from bluesky import RunEngine
from ophyd import Signal

from beamline_plans import (
    DryRun,
    EnergyGrid,
    PlanError,
    TimeModel,
    dry_run,
    edge_jump_map,
    learn_times,
    multi_edge_xanes,
    resume_scan,
    xanes_scan,
    xanes_series,
    xas_scan,
)
from edge_fitting import ReferenceSeries, expected_sigma
from nimco.testing import devices_of
from sim_devices import SimBeamline

GRID = EnergyGrid.from_regions([(8300, 8330, 10, 0.2), (8335, 8355, 1, 0.5), (8365, 8425, 20, 0.2)])
# What the twin's devices take, see its settings.
TWIN = TimeModel(frame_s=0.0, energy_s=0.05, energy_s_per_ev=1 / 50, stage_s=2.0, shutter_s=0.05)


@pytest.fixture
def beamline():
    return SimBeamline(shape=(16, 24), seed=3)


def scan(beamline, **kwargs):
    return xanes_scan(*devices_of(beamline), **{"edge": "Ni_K", "grid": GRID, "i0": beamline.i0, **kwargs})


def test_nothing_moves(beamline):
    touched = []
    for device in (
        beamline.energy,
        beamline.shutter,
        beamline.stage,
        beamline.camera,
        beamline.camera.exposure_s,
    ):
        for method in ("set", "trigger", "stage"):
            if hasattr(device, method):
                setattr(device, method, lambda *a, **k: touched.append(a))
    dry_run(scan(beamline))
    assert touched == []


def test_it_counts_what_the_scan_then_takes(beamline):
    kwargs = {"repeats": 2, "n_flats": 3, "n_darks": 4, "flat_order": "every_n", "flat_every": 5}
    found = dry_run(scan(beamline, **kwargs))
    documents = []
    RunEngine({})(scan(beamline, **kwargs), lambda name, doc: documents.append((name, doc)))
    streams = {doc["uid"]: doc["name"] for name, doc in documents if name == "descriptor"}
    events = [streams[doc["descriptor"]] for name, doc in documents if name == "event"]
    assert {s: events.count(s) for s in ("dark", "flat", "primary")} == dict(found.frames)
    assert found.n_frames == len(events)
    assert found.n_runs == 1
    exposed = sum(
        doc["data"]["xanes_exposure_s"]
        for name, doc in documents
        if name == "event" and streams[doc["descriptor"]] == "primary"
    )
    assert found.sample_exposure_s == pytest.approx(exposed)
    images = 16 * 24 * 2 * len(events)
    assert images <= found.disk_bytes < 1.3 * images


def test_its_time_is_that_of_the_twin(beamline):
    kwargs = {"flat_order": "none", "n_darks": 2}
    before = beamline.twin.clock_s
    RunEngine({})(scan(beamline, **kwargs))
    took = beamline.twin.clock_s - before
    # The twin's clock adds up moves that go on at the same time, of which this scan has hardly any.
    assert dry_run(scan(beamline, **kwargs), times=TWIN).time_s == pytest.approx(took, rel=0.1)


def test_concurrent_moves_take_as_long_as_the_longest(beamline):
    energy_only = dry_run(scan(beamline, flat_order="none", n_darks=1), times=TWIN).time_s
    # 28 flats, whose 28 visits bring the sample out and in as often.
    with_flats = dry_run(scan(beamline, n_darks=1), times=TWIN)
    exposure = sum(GRID.exposure_s)
    stage_moves = len(GRID)
    extra = with_flats.time_s - energy_only
    assert extra == pytest.approx(exposure + stage_moves * TWIN.stage_s, rel=0.05)


def test_the_dose_counts_the_time_in_the_open_beam(beamline):
    quick = dry_run(scan(beamline, flat_order="none", n_darks=1), times=TimeModel(0, 0, 0, 0, 0, 0))
    assert (
        quick.sample_open_s == pytest.approx(quick.sample_exposure_s) == pytest.approx(sum(GRID.exposure_s))
    )
    slow = dry_run(scan(beamline, flat_order="none", n_darks=1), times=TimeModel(1.0, 0, 0, 0, 0, 0))
    assert slow.sample_open_s == pytest.approx(sum(GRID.exposure_s) + len(GRID))
    assert slow.sample_exposure_s == quick.sample_exposure_s


def references():
    energy = np.linspace(8280, 8450, 300)
    steps = [1 / (1 + np.exp(-(energy - e0))) for e0 in (8343.0, 8344.5, 8346.0)]
    return ReferenceSeries(energy, np.stack(steps), np.array([0.0, 0.5, 1.0]))


def test_the_expected_sigma_is_that_of_the_grid(beamline):
    series = references()
    found = dry_run(scan(beamline, references=series.to_dict()), jump=0.8, counts_per_s=1000.0)
    counts = 1000.0 * np.mean(GRID.exposure_s)
    expected = expected_sigma(GRID, series, 0.8, np.sqrt(2 / counts))
    assert found.expected_sigma == {"Ni_K": pytest.approx(expected)}
    more = dry_run(
        scan(beamline, references=series.to_dict(), repeats=4, n_flats=4), jump=0.8, counts_per_s=1000.0
    )
    assert more.expected_sigma["Ni_K"] == pytest.approx(expected / 2)
    assert dry_run(scan(beamline)).expected_sigma == {}


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"free_bytes": 10_000}, "GB"),
        ({"max_time_s": 5.0}, "min"),
        ({"max_sample_exposure_s": 1.0}, "exposed"),
        ({"jump": 0.0}, "jump"),
    ],
)
def test_what_cannot_fit_is_refused(beamline, limits, said):
    with pytest.raises(PlanError, match=said):
        dry_run(scan(beamline), **limits)


def test_every_move_is_shown_to_its_device(beamline):
    with pytest.raises(PlanError, match=r"camera_exposure_s cannot go to"):
        dry_run(scan(beamline, grid=EnergyGrid((8345.0,), 1e-9)))
    with pytest.raises(PlanError, match="out of range"):
        dry_run(scan(beamline, grid=[6539.0]))
    beamline.stage.check_value = lambda value: (_ for _ in ()).throw(ValueError("jammed"))
    with pytest.raises(PlanError, match="sample cannot go to 'in': jammed"):
        dry_run(scan(beamline))


def test_every_plan_can_be_tried_dry(beamline):
    devices = devices_of(beamline)
    assert dry_run(multi_edge_xanes(*devices, edges=["Ni_K", "Co_K"])).n_runs == 2
    assert dry_run(edge_jump_map(*devices, edges=["Ni_K"])).frames["primary"] == 2
    assert dry_run(xas_scan(beamline.energy, edge="Ni_K", it=beamline.i0)).frames["primary"] == 62
    place = Signal(name="place", value=0)
    series = xanes_series(
        *devices, grids={"Ni_K": GRID}, n_cycles=3, interval_s=600.0, positioner=place, positions=[1, 2]
    )
    found = dry_run(series)
    assert found.n_runs == 6
    assert 1200.0 < found.time_s < 1800.0

    class Nothing:
        def taken(self, uid):
            raise PlanError("no such run")

    with pytest.raises(PlanError, match="no such run"):
        dry_run(resume_scan(*devices, uid="x", archive=Nothing()))


def recorded_run(times, *, noise=0.0, grid=GRID, seed=0):
    """Documents of a run whose clock obeys `times`, made without any of the code that learns from them."""
    rng = np.random.default_rng(seed)
    documents = [("start", {"uid": "run"})]
    documents += [("descriptor", {"uid": s, "name": s}) for s in ("dark", "flat", "primary")]
    now, where = 1000.0, None

    def event(stream, energy, exposure, wait):
        nonlocal now
        now += wait + exposure + times.frame_s + abs(rng.normal(0, noise))
        data = {"xanes_energy_setpoint_ev": energy, "xanes_exposure_s": exposure, "xanes_attempt": 0}
        documents.append(("event", {"descriptor": stream, "time": now, "data": data}))

    for _ in range(5):
        event("dark", grid.energies_ev[0], 0.2, 0.0)
    where = grid.energies_ev[0]
    for position, (energy, exposure) in enumerate(grid):
        move = times.energy_s + times.energy_s_per_ev * abs(energy - where)
        where = energy
        streams = ("flat", "primary") if position % 2 == 0 else ("primary", "flat")
        event(
            streams[0], energy, exposure, move + (times.shutter_s + times.stage_s if position == 0 else 0.0)
        )
        event(streams[1], energy, exposure, times.stage_s)
    return documents


def test_durations_are_learnt_from_past_runs():
    true = TimeModel(frame_s=0.07, energy_s=0.4, energy_s_per_ev=0.03, stage_s=5.0, shutter_s=0.1)
    learnt = learn_times(recorded_run(true))
    for name in ("frame_s", "energy_s", "energy_s_per_ev", "stage_s"):
        assert getattr(learnt, name) == pytest.approx(getattr(true, name), rel=0.02)
    noisy = learn_times(recorded_run(true, noise=0.02))
    assert noisy.stage_s == pytest.approx(true.stage_s, rel=0.05)


def test_a_night_of_pauses_is_not_taken_for_the_speed_of_the_beamline():
    true = TimeModel(frame_s=0.07, energy_s=0.4, energy_s_per_ev=0.03, stage_s=5.0)
    documents = recorded_run(true)
    for late in (12, 25, 40):
        for _, doc in documents[late:]:
            if "time" in doc:
                doc["time"] += 3600.0
    learnt = learn_times(documents)
    assert learnt.energy_s + 10 * learnt.energy_s_per_ev == pytest.approx(0.7, rel=0.1)
    assert learnt.stage_s == pytest.approx(5.0, rel=0.1)


def test_a_simulation_that_waits_for_nothing_teaches_nothing():
    documents = []
    beamline = SimBeamline(shape=(16, 16))
    RunEngine({})(
        scan(beamline, grid=EnergyGrid(GRID.energies_ev, 60.0)), lambda *pair: documents.append(pair)
    )
    assert learn_times(documents) == TimeModel()


def test_what_was_not_seen_stays_as_it_was():
    before = TimeModel(stage_s=42.0)
    assert learn_times([], before) == before
    assert learn_times(recorded_run(TimeModel())[:8], before).stage_s == 42.0
    assert TimeModel.from_dict(before.to_dict()) == before
    for wrong in ({"speed": 1.0}, {"stage_s": -1.0}, {"stage_s": float("nan")}, {"stage_s": "fast"}):
        with pytest.raises(PlanError):
            TimeModel.from_dict(wrong)


def test_printed_it_is_a_table():
    found = DryRun(
        n_runs=2, n_moves=30, frames=Counter(dark=5, primary=62), time_s=754.2, sample_exposure_s=31.0,
        sample_open_s=40.25, disk_bytes=560_000_000, expected_sigma={"Ni_K": 0.0214},
    )  # fmt: skip
    assert str(found).splitlines() == [
        "runs                 2",
        "frames               67 (5 dark, 62 primary)",
        "moves                30",
        "time                 12 min 34 s",
        "sample exposed       31.0 s",
        "sample in open beam  40.2 s",
        "frames on disk       0.560 GB, uncompressed",
        "sigma of SOC, Ni_K   0.021",
    ]
    assert "time                 0.0 s" in str(DryRun())
