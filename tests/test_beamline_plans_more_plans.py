"""Series, jump maps, point-detector scans and the calibration of the energy axis."""

import math

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.simulators import RunEngineSimulator
from ophyd import Signal

from beamline_plans import (
    EnergyGrid,
    PlanError,
    calibrate_energy,
    edge_jump_map,
    validate_run_documents,
    xanes_scan,
    xanes_series,
    xas_scan,
)
from nimco.testing import DocumentCollector, devices_of
from sim_devices import MonoSettings, SimBeamline, SourceSettings, TwinSettings

GRID = EnergyGrid((8300.0, 8345.0), 0.1)
HOME_EV = 8000.0


@pytest.fixture
def recorder():
    return DocumentCollector(RunEngine({}, call_returns_result=True))


@pytest.fixture
def beamline():
    beamline = SimBeamline(shape=(8, 8), seed=3)
    beamline.energy.set(HOME_EV).wait(60)
    return beamline


def test_a_series_visits_every_place_in_every_cycle(beamline, recorder):
    place = Signal(name="place", value=-1)
    plan = xanes_series(
        *devices_of(beamline),
        edges=["Ni_K", "Co_K"],
        grids={"Ni_K": GRID, "Co_K": EnergyGrid((7709.0,))},
        n_cycles=2,
        positioner=place,
        positions=[10, 20],
        n_darks=1,
        md={"sample": "cell"},
    )
    result = recorder.run_engine(plan)
    starts = recorder.of("start")
    assert result.plan_result == [s["uid"] for s in starts]
    got = [(s["series"]["cycle"], s["series"]["position"], s["xanes"]["edge"]) for s in starts]
    assert got == [(c, p, e) for c in (0, 1) for p in (10, 20) for e in ("Ni_K", "Co_K")]
    assert len({s["series_group"] for s in starts}) == 1
    groups = [s["scan_group"] for s in starts]
    assert len(set(groups)) == 4
    assert groups[0::2] == groups[1::2]
    for run in recorder.runs():
        validate_run_documents(run)
    assert place.get() == -1
    assert beamline.energy.position == pytest.approx(HOME_EV, abs=0.1)


def test_a_series_waits_for_the_start_of_the_next_cycle_with_the_shutter_closed(beamline):
    simulator = RunEngineSimulator()
    clock = [100.0]
    simulator.add_handler("read", lambda msg: {"clock": {"value": clock[0], "timestamp": 0.0}}, "clock")

    def sleep(msg):
        clock[0] += msg.args[0]

    def expose(msg):
        clock[0] += 0.5

    simulator.add_handler("sleep", sleep)
    simulator.add_handler("trigger", expose, "camera")
    starts = []
    simulator.add_handler("open_run", lambda msg: starts.append(clock[0]))
    plan = xanes_series(*devices_of(beamline), grids={"Ni_K": GRID}, n_cycles=3, interval_s=10.0, n_darks=1)
    messages = simulator.simulate_plan(plan)
    assert starts == pytest.approx([100, 110, 120])
    sleeps = [i for i, m in enumerate(messages) if m.command == "sleep"]
    for i in sleeps:
        assert messages[i - 1].command == "checkpoint"
        shutter = [m.args[0] for m in messages[:i] if m.command == "set" and m.obj.name == "shutter"]
        assert shutter[-1] == "closed"


def test_a_series_that_cannot_keep_up_goes_on_at_once(beamline):
    simulator = RunEngineSimulator()
    clock = [0.0]
    simulator.add_handler("read", lambda msg: {"clock": {"value": clock[0], "timestamp": 0.0}}, "clock")

    def expose(msg):
        clock[0] += 60.0

    simulator.add_handler("trigger", expose, "camera")
    plan = xanes_series(*devices_of(beamline), grids={"Ni_K": GRID}, n_cycles=2, interval_s=10.0)
    assert [m for m in simulator.simulate_plan(plan) if m.command == "sleep"] == []


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"n_cycles": 0}, "n_cycles"),
        ({"interval_s": -1.0}, "interval_s"),
        ({"interval_s": math.nan}, "interval_s"),
        ({"positions": [1]}, "together"),
        ({"positioner": Signal(name="place"), "positions": []}, "at least one position"),
        ({"edges": ["Fe_K"]}, "Fe_K"),
    ],
)
def test_a_series_that_makes_no_sense_moves_nothing(beamline, recorder, kwargs, said):
    with pytest.raises(PlanError, match=said):
        recorder.run_engine(xanes_series(*devices_of(beamline), **kwargs))
    assert recorder.documents == []


def test_the_jump_map_measures_the_amount_of_each_metal(recorder):
    beamline = SimBeamline(shape=(32, 32), seed=5)
    recorder.run_engine(
        edge_jump_map(*devices_of(beamline), edges=["Ni_K", "Co_K"], i0=beamline.i0, repeats=4, n_flats=4)
    )
    for run, edge in zip(recorder.runs(), ("Ni_K", "Co_K"), strict=True):
        validate_run_documents(run)
        start = run[0][1]
        assert start["plan_name"] == "edge_jump_map"
        below, above = start["xanes"]["energies_ev"]
        assert below < {"Ni_K": 8333.0, "Co_K": 7709.0}[edge] < above
        depth = optical_depths(run)
        truth = beamline.truth(edge)
        measured = (depth[1] - depth[0])[truth.mask]
        # The jump falls off by a few percent up to the upper energy, and the background with it.
        slope = np.polyfit(truth.jump[truth.mask], measured, 1)[0]
        assert 0.8 < slope < 1.1


def optical_depths(run):
    """OD per energy index from the documents of a run, by its definition."""
    streams = {d["uid"]: d["name"] for n, d in run if n == "descriptor"}
    sums = {}
    for name, doc in run:
        if name == "event":
            data, stream = doc["data"], streams[doc["descriptor"]]
            key = (stream, data["xanes_energy_index"])
            dose = 1.0 if stream == "dark" else data["i0"]
            sums.setdefault(key, []).append((np.asarray(data["camera_image"], float), dose))
    dark = np.mean([image for image, _ in sums["dark", -1]], axis=0)
    out = []
    for index in range(len(run[0][1]["xanes"]["energies_ev"])):
        frame, flat = (
            np.mean([(image - dark) / dose for image, dose in sums[s, index]], axis=0)
            for s in ("primary", "flat")
        )
        out.append(-np.log(frame / flat))
    return out


@pytest.mark.parametrize(
    "kwargs", [{"below_ev": 0.0}, {"above_ev": -5.0}, {"edges": []}, {"exposure_s": 0.0}]
)
def test_a_jump_map_that_makes_no_sense_moves_nothing(beamline, recorder, kwargs):
    with pytest.raises(PlanError):
        recorder.run_engine(edge_jump_map(*devices_of(beamline), **kwargs))
    assert recorder.documents == []


def point_detectors(beamline):
    """Transmission seen by a photodiode in place of the camera."""
    twin = beamline.twin

    def transmitted():
        return float(twin.expose(0.5).astype(float).mean()) - 102.0

    # Of the same class as the twin's I0, which is not part of its public names.
    return type(beamline.i0)(name="it", units="nA", twin=twin, measure=transmitted)


def test_a_point_scan_says_which_channel_is_which(beamline, recorder):
    it = point_detectors(beamline)
    grid = EnergyGrid((8300.0, 8340.0, 8345.0))
    uid = recorder.run_engine(
        xas_scan(
            beamline.energy,
            edge="Ni_K",
            grid=grid,
            i0=beamline.i0,
            it=it,
            shutter=beamline.shutter,
            repeats=2,
        )
    ).plan_result
    start = recorder.of("start")[0]
    assert start["uid"] == uid
    validate_run_documents(recorder.documents)
    assert start["xanes"]["technique"] == "xas"
    assert start["xanes"]["channels"] == {"i0": "i0", "it": "it"}
    assert start["xanes"]["energies_ev"] == list(grid.energies_ev)
    data = [doc["data"] for doc in recorder.of("event")]
    assert [(d["xanes_energy_index"], d["xanes_repeat"]) for d in data] == [
        (i, r) for i in range(3) for r in (0, 1)
    ]
    assert all(d["it"] > 100 for d in data)
    assert data[0]["it"] > data[-1]["it"]
    assert beamline.shutter.position == "closed"
    assert beamline.energy.position == pytest.approx(HOME_EV, abs=0.1)


def test_a_point_scan_sets_the_exposure_of_a_detector_that_has_one(beamline):
    grid = EnergyGrid((8300.0, 8340.0), (0.2, 0.7))
    messages = RunEngineSimulator().simulate_plan(
        xas_scan(beamline.energy, edge="Ni_K", grid=grid, it=beamline.camera)
    )
    sets = [m.args[0] for m in messages if m.command == "set" and m.obj.name == "camera_exposure_s"]
    assert sets == [0.2, 0.7]


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({}, "nothing to measure with"),
        ({"repeats": 0, "it": "i0"}, "repeats"),
        ({"grid": [20.0], "it": "i0"}, "keV"),
        ({"edge": "X", "it": "i0"}, "no edge"),
    ],
)
def test_a_point_scan_that_makes_no_sense_moves_nothing(beamline, recorder, kwargs, said):
    if "it" in kwargs:
        kwargs = {**kwargs, "it": beamline.i0}
    with pytest.raises(PlanError, match=said):
        recorder.run_engine(xas_scan(beamline.energy, **{"edge": "Ni_K", "grid": GRID, **kwargs}))
    assert recorder.documents == []


@pytest.fixture
def shifted():
    settings = TwinSettings(mono=MonoSettings(offset_ev=1.3), source=SourceSettings(drift=0.0))
    beamline = SimBeamline(shape=(64, 64), seed=3, settings=settings)
    beamline.load_compound("Ni")
    return beamline


def test_calibration_puts_the_foil_where_it_belongs(shifted, recorder, capsys):
    foil = point_detectors(shifted)
    plan = calibrate_energy(
        shifted.energy,
        shifted.i0,
        foil,
        shifted.energy.offset_ev,
        edge="Ni_K",
        shutter=shifted.shutter,
        write="yes",
    )
    shift = recorder.run_engine(plan).plan_result
    assert shift == pytest.approx(1.3, abs=0.15)
    assert shifted.energy.offset_ev.get() == pytest.approx(-shift)
    assert "first inflection" in capsys.readouterr().out
    # What reads 8333 now is 8333.
    again = recorder.run_engine(
        calibrate_energy(
            shifted.energy,
            shifted.i0,
            foil,
            shifted.energy.offset_ev,
            edge="Ni_K",
            shutter=shifted.shutter,
            write="no",
        )
    ).plan_result
    assert again == pytest.approx(0.0, abs=0.1)
    capsys.readouterr()
    coarse = EnergyGrid(tuple(np.arange(8300.0, 8380.0, 1.0)))
    recorder.run_engine(
        calibrate_energy(
            shifted.energy,
            shifted.i0,
            foil,
            shifted.energy.offset_ev,
            edge="Ni_K",
            grid=coarse,
            shutter=shifted.shutter,
            write="no",
        )
    )
    said = capsys.readouterr().out
    assert "by the steps of the scan" in said
    assert "inf eV" not in said
    assert "nan" not in said


@pytest.mark.parametrize(("answer", "written"), [("y", True), ("", False), ("n", False)])
def test_calibration_asks_before_it_writes(shifted, recorder, answer, written):
    asked = []

    async def answer_it(msg):
        asked.append(msg.kwargs["prompt"])
        return answer

    recorder.run_engine.register_command("input", answer_it)
    recorder.run_engine(
        calibrate_energy(
            shifted.energy,
            shifted.i0,
            point_detectors(shifted),
            shifted.energy.offset_ev,
            edge="Ni_K",
            shutter=shifted.shutter,
        )
    )
    assert len(asked) == 1
    assert (shifted.energy.offset_ev.get() != 0) is written


def test_calibration_refuses_what_it_cannot_trust(shifted, recorder):
    foil = point_detectors(shifted)
    offset = shifted.energy.offset_ev
    common = {"edge": "Ni_K", "write": "yes"}
    with pytest.raises(PlanError, match=r"more than 0\.5 eV"):
        recorder.run_engine(
            calibrate_energy(
                shifted.energy, shifted.i0, foil, offset, shutter=shifted.shutter, max_shift_ev=0.5, **common
            )
        )
    with pytest.raises(PlanError, match=r"read zero or less|no calibration"):
        recorder.run_engine(calibrate_energy(shifted.energy, shifted.i0, foil, offset, **common))
    with pytest.raises(PlanError, match="write must be"):
        recorder.run_engine(
            calibrate_energy(shifted.energy, shifted.i0, foil, offset, edge="Ni_K", write="maybe")
        )
    assert offset.get() == 0


def test_distances_in_kev_and_exposures_in_ms_are_refused_before_anything_moves():
    b = SimBeamline((8, 8))
    full = (b.camera, b.energy, b.shutter, b.stage)
    edge_jump = {"edges": ["Ni"]}
    point = (b.energy, b.i0, b.electrometer, b.energy.offset_ev)
    fine = {"regions": [(8313.0, 8373.0, 0.0005)]}
    for plan, said in (
        (lambda: edge_jump_map(*full, **edge_jump, below_ev=0.05), r"below_ev is 0\.05 eV.*\(50 eV\?\)"),
        (lambda: edge_jump_map(*full, **edge_jump, exposure_s=500), "seconds are meant"),
        (lambda: calibrate_energy(*point, edge="Ni_K", grid=fine), "looks like keV"),
        (lambda: calibrate_energy(*point, edge="Ni_K", exposure_s=500), "seconds are meant"),
        (
            lambda: xas_scan(b.energy, edge="Ni_K", it=b.foil, grid={"preset": "default", "exposure_s": 500}),
            "seconds are",
        ),
    ):
        RE, seen = RunEngine({}), []
        RE.msg_hook = seen.append
        with pytest.raises(PlanError, match=said):
            RE(plan())
        assert not [msg for msg in seen if msg.command in ("set", "trigger", "open_run")]


def test_one_device_in_two_roles_is_refused_before_anything_moves():
    beamline = SimBeamline((8, 8))
    b = beamline
    full = (b.camera, b.energy, b.shutter, b.stage)
    plans = [
        lambda: xas_scan(b.energy, edge="Ni_K", i0=b.i0, it=b.i0),
        lambda: xas_scan(b.energy, edge="Ni_K", i0=b.energy),
        lambda: xanes_scan(b.camera, b.energy, b.shutter, b.shutter, edge="Ni_K"),
        lambda: xanes_scan(*full, edge="Ni_K", i0=b.camera),
        lambda: xanes_series(*full, positioner=b.energy, positions=[8300.0]),
        lambda: calibrate_energy(b.energy, b.i0, b.i0, b.energy.offset_ev, edge="Ni_K"),
        lambda: calibrate_energy(b.energy, b.i0, b.electrometer, b.energy, edge="Ni_K"),
        lambda: calibrate_energy(b.energy, b.i0, b.electrometer, b.twin, edge="Ni_K"),
    ]
    for plan in plans:
        RE, seen = RunEngine({}), []
        RE.msg_hook = seen.append
        with pytest.raises(PlanError, match=r"is given as|can serve as"):
            RE(plan())
        assert not [msg for msg in seen if msg.command in ("set", "trigger", "open_run")]
