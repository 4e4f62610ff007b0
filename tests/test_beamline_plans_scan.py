import uuid

import numpy as np
import pytest
from bluesky import Msg, RunEngine
from bluesky.preprocessors import plan_mutator
from bluesky.simulators import RunEngineSimulator
from bluesky.utils import RunEngineInterrupted, single_gen

from beamline_plans import (
    DocumentError,
    EnergyGrid,
    FrameError,
    NotSafeError,
    PlanError,
    RunLedger,
    multi_edge_xanes,
    resume_scan,
    validate_run_documents,
    xanes_scan,
)
from edge_fitting import ReferenceSeries
from nimco.testing import DocumentCollector
from scan_contract import read_contract
from sim_devices import SimBeamline

GRID = EnergyGrid((8300.0, 8340.0, 8345.0, 8400.0), (0.1, 0.2, 0.2, 0.1))
HOME_EV = 8000.0


@pytest.fixture
def beamline():
    beamline = SimBeamline(shape=(8, 8), seed=3)
    beamline.energy.set(HOME_EV).wait(60)
    return beamline


def scan(beamline, **kwargs):
    devices = (beamline.camera, beamline.energy, beamline.shutter, beamline.stage)
    return xanes_scan(*devices, **{"edge": "Ni_K", "grid": GRID, "i0": beamline.i0, **kwargs})


@pytest.fixture
def recorder():
    return DocumentCollector(RunEngine({}, call_returns_result=True))


def frames_of(messages):
    """(stream, energy index, setpoint, repeat) of each saved frame and the positions it was taken at."""
    where, label, stream, out = {}, None, None, []
    for msg in messages:
        if msg.command == "set" and msg.obj.name == "xanes":
            label = msg.args[0]
        elif msg.command == "set":
            where[msg.obj.name] = msg.args[0]
        elif msg.command == "create":
            stream = msg.kwargs["name"]
        elif msg.command == "save":
            assert stream == label.stream
            out.append((stream, label.energy_index, label.repeat, dict(where), label))
    return out


def test_each_frame_is_taken_where_its_label_says(beamline):
    frames = frames_of(RunEngineSimulator().simulate_plan(scan(beamline, n_flats=2, n_darks=3, repeats=2)))
    assert len(frames) == 2 * 3 + 4 * 2 + 4 * 2
    for stream, index, _, where, label in frames:
        assert where["energy"] == label.energy_setpoint_ev
        assert where["camera_exposure_s"] == label.exposure_s
        assert where["shutter"] == ("closed" if stream == "dark" else "open")
        assert where["sample"] == ("out" if stream == "flat" else "in")
        if stream == "dark":
            assert index == -1
        else:
            assert (label.energy_setpoint_ev, label.exposure_s) == list(GRID)[index]
    darks = [label.exposure_s for stream, *_, label in frames if stream == "dark"]
    assert darks == [0.1] * 3 + [0.2] * 3


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("per_energy", "F0 P0 P1 F1 F2 P2 P3 F3"),
        ("every_n", "P0 P1 P2 F0 F1 F2 P3 F3"),
        ("after_all", "P0 P1 P2 P3 F0 F1 F2 F3"),
        ("none", "P0 P1 P2 P3"),
    ],
)
def test_flats_come_when_asked(beamline, order, expected):
    messages = RunEngineSimulator().simulate_plan(scan(beamline, flat_order=order, flat_every=3))
    taken = [f"{stream[0].upper()}{i}" for stream, i, *_ in frames_of(messages) if stream != "dark"]
    assert " ".join(taken) == expected


def test_message_order_of_one_energy(beamline):
    messages = RunEngineSimulator().simulate_plan(
        scan(beamline, grid=EnergyGrid((8345.0,)), flat_order="none", n_darks=1)
    )
    names = [(m.command, getattr(m.obj, "name", None)) for m in messages]
    block = [
        ("checkpoint", None),
        *[("set", n) for n in ("energy", "camera_exposure_s", "sample")],
        ("wait", None),
        ("set", "shutter"),
        ("wait", None),
        ("set", "xanes"),
        ("trigger", "camera"),
        ("trigger", "i0"),
        ("wait", None),
        ("create", None),
        *[("read", n) for n in ("camera", "xanes", "energy", "i0")],
        ("save", None),
    ]
    start = names.index(("open_run", None))
    pauses = ("rewindable", "pause_watch")
    read_energy = ("read", "energy")
    assert names[:start] == [read_energy, read_energy, pauses, ("stage", "camera"), ("stage", "i0")]
    assert names[start + 1 : start + 3] == [pauses, ("read", "camera")]
    end = start + 3 + 2 * len(block) + 1
    assert names[start + 3 : end] == [*block, *block, ("checkpoint", None)]
    tail = names[end:]
    assert tail[0] == ("close_run", None)
    assert [name for name in tail if name[0] in ("unstage", "set")] == [
        ("unstage", "i0"),
        ("unstage", "camera"),
        ("set", "shutter"),
        ("set", "sample"),
    ]


def test_a_scan_keeps_the_contract_and_leaves_the_instrument_as_it_was(beamline, recorder):
    result = recorder.run(
        scan(beamline, n_flats=2, repeats=2, pixel_size_nm=30.0, md={"sample": "NMC622", "proposal": 7})
    )
    validate_run_documents(recorder.documents)
    start = recorder.of("start")[0]
    assert result.plan_result == start["uid"]
    assert (start["plan_name"], start["sample"], start["proposal"]) == ("xanes_scan", "NMC622", 7)
    uuid.UUID(start["scan_group"])
    xanes = start["xanes"]
    assert (xanes["schema_version"], xanes["edge"], xanes["technique"]) == (2, "Ni_K", "full_field")
    assert EnergyGrid.from_dict({k: xanes[k] for k in ("energies_ev", "exposure_s")}) == GRID
    assert xanes["devices"] == {"camera": "camera", "energy": "energy", "i0": "i0"}
    assert [e["xanes_energy_index"] for e in recorder.data("primary")] == [0, 0, 1, 1, 2, 2, 3, 3]
    for event in recorder.data("primary") + recorder.data("flat"):
        assert event["energy"] == pytest.approx(event["xanes_energy_setpoint_ev"], abs=0.1)
        assert event["xanes_attempt"] == 0
    flat, primary, dark = (np.mean(recorder.data(s)[-1]["camera_image"]) for s in ("flat", "primary", "dark"))
    assert flat > primary > dark
    assert left_as_it_was(beamline)


def left_as_it_was(beamline):
    at_home = abs(beamline.energy.position - HOME_EV) < 0.1
    return beamline.shutter.position == "closed" and beamline.stage.position == "in" and at_home


def test_energies_may_come_in_any_order_and_twice(beamline, recorder):
    recorder.run(scan(beamline, grid={"energies_ev": [8345.0, 8300.0, 8345.0], "exposure_s": 0.1}))
    validate_run_documents(recorder.documents)
    events = recorder.data("primary")
    assert [(e["xanes_energy_index"], e["xanes_energy_setpoint_ev"]) for e in events] == [
        (0, 8345.0),
        (1, 8300.0),
        (2, 8345.0),
    ]


def test_a_failure_leaves_the_instrument_safe_and_what_was_measured_readable(beamline, recorder, monkeypatch):
    taken = []
    trigger = beamline.camera.trigger

    def failing_trigger():
        taken.append(1)
        if len(taken) >= 9:
            raise OSError("camera unplugged")
        return trigger()

    monkeypatch.setattr(beamline.camera, "trigger", failing_trigger)
    with pytest.raises(FrameError, match=r"failed 3 times in a row \(OSError: camera unplugged\)"):
        recorder.run(scan(beamline, n_darks=2))
    assert left_as_it_was(beamline)
    assert recorder.of("stop")[0]["exit_status"] == "fail"
    assert len(recorder.of("event")) == 8
    validate_run_documents(recorder.documents)


def test_one_device_that_fails_in_the_cleanup_does_not_keep_the_others_from_it(
    beamline, recorder, monkeypatch, caplog
):
    def stuck(value):
        raise OSError("shutter stuck")

    def break_things(name, doc):
        if name == "event":
            monkeypatch.setattr(beamline.shutter, "set", stuck)

    recorder.run_engine.subscribe(break_things)
    said = r"NOT SAFE: could not close the shutter \(shutter to closed; OSError: shutter stuck\). Look where shutter is"
    with pytest.raises(NotSafeError, match=said):
        recorder.run(scan(beamline, n_darks=1))
    assert any(record.levelname == "CRITICAL" and "NOT SAFE" in record.message for record in caplog.records)
    assert beamline.stage.position == "in"
    assert beamline.energy.position == pytest.approx(HOME_EV, abs=0.1)


def paused_after(plan, command, occurrence):
    """Give the plan with a pause right after the n-th message of one kind."""
    seen = []

    def mutate(msg):
        if msg.command == command:
            seen.append(msg)
            if len(seen) == occurrence:
                return None, single_gen(Msg("pause", defer=False))
        return None, None

    return plan_mutator(plan, mutate)


def test_an_abort_leaves_the_instrument_safe(beamline, recorder):
    with pytest.raises(RunEngineInterrupted):
        recorder.run(paused_after(scan(beamline, n_darks=2), "save", 9))
    recorder.run_engine.abort("enough")
    assert left_as_it_was(beamline)
    assert recorder.of("stop")[0]["exit_status"] == "abort"
    validate_run_documents(recorder.documents)


@pytest.mark.parametrize("command", ["checkpoint", "set", "wait", "trigger", "create", "read", "save"])
def test_after_a_pause_the_energy_is_taken_again_and_the_double_is_marked(beamline, recorder, command):
    n = {"checkpoint": 5, "set": 25, "wait": 21, "trigger": 13, "create": 7, "read": 27, "save": 7}[command]
    with pytest.raises(RunEngineInterrupted):
        recorder.run(paused_after(scan(beamline, n_darks=2, repeats=2), command, n))
    # A person looks around during the pause.
    beamline.energy.set(8200.0).wait(60)
    beamline.stage.set("out").wait(60)
    beamline.shutter.set("closed").wait(60)
    recorder.run_engine.resume()
    validate_run_documents(recorder.documents)
    for event in recorder.data("primary") + recorder.data("flat"):
        assert event["energy"] == pytest.approx(event["xanes_energy_setpoint_ev"], abs=0.1)
    # The pause after the seventh save comes when both repeats of the first energy are saved.
    if command == "save":
        assert [e["xanes_attempt"] for e in recorder.data("primary")[:4]] == [0, 0, 1, 1]
    images = {s: [np.mean(e["camera_image"]) for e in recorder.data(s)] for s in ("dark", "flat", "primary")}
    assert min(images["primary"]) > 1.5 * max(images["dark"])
    assert left_as_it_was(beamline)


def test_multi_edge_is_one_run_per_edge_under_one_group(beamline, recorder):
    grids = {"Ni_K": GRID, "Mn_K": {"energies_ev": [6500.0, 6550.0], "exposure_s": 0.3}}
    devices = (beamline.camera, beamline.energy, beamline.shutter, beamline.stage)
    result = recorder.run(
        multi_edge_xanes(*devices, edges=["Ni_K", "Mn_K"], grids=grids, i0=beamline.i0, md={"sample": "s"})
    )
    starts = recorder.of("start")
    assert result.plan_result == [s["uid"] for s in starts]
    assert [s["xanes"]["edge"] for s in starts] == ["Ni_K", "Mn_K"]
    assert len({s["scan_group"] for s in starts}) == 1
    assert {s["sample"] for s in starts} == {"s"}
    assert starts[1]["xanes"]["exposure_s"] == [0.3, 0.3]
    split = next(i for i, (name, _) in enumerate(recorder.documents) if name == "stop") + 1
    validate_run_documents(recorder.documents[:split])
    validate_run_documents(recorder.documents[split:])
    assert left_as_it_was(beamline)


def test_filters_are_set_per_edge_and_restored(beamline, recorder):
    from ophyd import Signal

    filters = Signal(name="filters", value=2)
    moves = []
    filters.subscribe(lambda value, **_: moves.append(value), run=False)
    devices = (beamline.camera, beamline.energy, beamline.shutter, beamline.stage)
    grids = {"Ni_K": GRID, "Co_K": EnergyGrid((7700.0,))}
    recorder.run(
        multi_edge_xanes(
            *devices,
            edges=["Ni_K", "Co_K"],
            grids=grids,
            filters=filters,
            filter_per_edge={"Ni_K": 5, "Co_K": 7},
        )
    )
    assert moves == [5, 7, 2]
    assert [s["xanes"]["filter_position"] for s in recorder.of("start")] == [5, 7]


def test_a_camera_that_repeats_its_last_frame_is_asked_again_and_then_given_up(
    beamline, recorder, monkeypatch
):
    trigger = beamline.camera.trigger
    frozen = []
    calls = []

    def sometimes():
        calls.append(1)
        if len(calls) in frozen:
            from ophyd.status import Status

            status = Status()
            status.set_finished()
            return status
        return trigger()

    monkeypatch.setattr(beamline.camera, "trigger", sometimes)
    frozen[:] = [4, 8, 9]
    recorder.run(scan(beamline, n_darks=2))
    validate_run_documents(recorder.documents)
    times = [doc["timestamps"]["camera_image"] for doc in recorder.of("event")]
    assert len(set(times)) == len(times) == 4 + 8
    assert [e["xanes_attempt"] for s in ("dark", "flat", "primary") for e in recorder.data(s)].count(2) == 1

    calls.clear()
    frozen[:] = [5, 6, 7]
    with pytest.raises(FrameError, match="camera gave the frame of before"):
        recorder.run(scan(beamline, n_darks=2))
    assert left_as_it_was(beamline)


def references(low, high):
    energy = np.linspace(low, high, 120)
    step = 1 / (1 + np.exp(-(energy - 8343.0)))
    shifted = 1 / (1 + np.exp(-(energy - 8346.0)))
    return ReferenceSeries(energy, np.stack([step, shifted]), np.array([0.0, 1.0])).to_dict()


def test_references_travel_in_the_start_document(beamline, recorder):
    recorder.run(scan(beamline, references=references(8200, 8700)))
    series = ReferenceSeries.from_dict(recorder.of("start")[0]["xanes"]["references"])
    assert list(series.soc) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"edge": "Fe_K"}, "no edge 'Fe_K'"),
        ({"grid": []}, "empty"),
        ({"grid": [8345.0, float("nan")]}, "finite"),
        ({"grid": [8.345]}, "keV"),
        ({"grid": [6539.0]}, "out of range for Ni_K"),
        ({"grid": "ssrl"}, "choose one of"),
        ({"grid": 8345.0}, "list of numbers"),
        ({"n_flats": 0}, "at least one flat"),
        ({"n_darks": 0}, "n_darks"),
        ({"repeats": 0}, "repeats"),
        ({"flat_order": "never"}, "flat order"),
        ({"flat_order": "every_n", "flat_every": 0}, "flat_every"),
        ({"pixel_size_nm": -1.0}, "pixel_size_nm"),
        ({"pixel_size_nm": 0.04}, r"pixel_size_nm is 0.04, where nanometres are meant \(0.04 um are 40 nm\)"),
        (
            {"grid": {"preset": "default", "exposure_s": 500}},
            "exposure_s of the grid is 500 s.*seconds are meant",
        ),
        ({"references": {"soc": [0]}}, "references"),
        ({"references": references(8320, 8360)}, "cover 8320 to 8360 eV"),
    ],
)
def test_a_request_that_makes_no_sense_moves_nothing(beamline, recorder, kwargs, said):
    with pytest.raises(PlanError, match=said) as caught:
        recorder.run(scan(beamline, **kwargs))
    assert "\n" not in str(caught.value)
    assert recorder.documents == []
    assert beamline.energy.position == pytest.approx(HOME_EV)


def test_an_energy_the_device_refuses_stops_the_scan_before_it_moves(recorder):
    beamline = SimBeamline(shape=(8, 8))
    _, high = beamline.energy.limits
    original = beamline.energy.check_value
    beamline.energy.check_value = lambda value: original(value if value < 8390 else high + 1)
    with pytest.raises(PlanError, match="energy cannot go to 8400"):
        recorder.run(scan(beamline))
    assert recorder.documents == []


def test_a_device_that_cannot_serve_is_named(beamline, recorder):
    with pytest.raises(PlanError, match=r"camera \(i0\) has no 'exposure_s'"):
        recorder.run(xanes_scan(beamline.i0, beamline.energy, beamline.shutter, beamline.stage, edge="Ni_K"))


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"edges": []}, "no edge"),
        ({"edges": ["Ni_K", "Ni_K"]}, "twice"),
        ({"edges": ["Ni_K"], "grids": {"Co_K": None}}, "grids names 'Co_K'"),
        ({"edges": ["Ni_K"], "references": {"Co_K": {}}}, "references names 'Co_K'"),
        ({"edges": ["Ni_K"], "filter_per_edge": {"Ni_K": 1}}, "no filters"),
        ({"edges": ["Ni_K", "Co_K"], "grids": {"Co_K": [5000.0]}}, "out of range for Co_K"),
    ],
)
def test_multi_edge_checks_every_edge_before_the_first(beamline, recorder, kwargs, said):
    devices = (beamline.camera, beamline.energy, beamline.shutter, beamline.stage)
    with pytest.raises(PlanError, match=said):
        recorder.run(multi_edge_xanes(*devices, **kwargs))
    assert recorder.documents == []


def test_flats_may_come_before_all_frames_and_a_run_that_goes_on_takes_its_own(beamline, recorder):
    ledger = RunLedger()
    recorder.run_engine.subscribe(ledger)
    recorder.run(
        scan(beamline, flat_order="before_all", n_flats=3, md={"sample": {"name": "cell 4", "cycle": 2}})
    )
    validate_run_documents(recorder.documents)
    assert [d["xanes_energy_index"] for d in recorder.data("flat")] == [-1, -1, -1]
    start = recorder.of("start")[0]
    assert len(recorder.of("event")) == read_contract(start).scan.events_expected
    assert ledger.taken(start["uid"]).missing() == {"primary": [], "flat": []}
    # The last frame of the sample has not been saved.
    ledger = RunLedger()
    ledger.add_documents(d for d in recorder.documents if d[1] is not recorder.of("event")[-1])
    recorder.documents.clear()
    devices = (beamline.camera, beamline.energy, beamline.shutter, beamline.stage)
    recorder.run(resume_scan(*devices, uid=start["uid"], archive=ledger, i0=beamline.i0))
    validate_run_documents(recorder.documents)
    scanned = read_contract(recorder.of("start")[0]).scan
    assert (scanned.resumes, scanned.taken_indices, scanned.sample.cycle) == (start["uid"], (3,), 2)
    assert len(recorder.of("event")) == scanned.events_expected
    assert len(recorder.data("flat")) == 3


def test_who_and_what_are_in_the_contract_and_checked_before_anything_moves(beamline, recorder):
    md = {
        "sample": {"name": "cell 4", "composition": "NMC622"},
        "proposal": 317000,
        "field_of_view": {"row_um": 3},
    }
    recorder.run(scan(beamline, md=md))
    said = recorder.of("start")[0]["xanes"]
    assert said["sample"] == {"name": "cell 4", "composition": "NMC622"}
    assert (said["proposal"], said["field_of_view"]) == ({"number": "317000"}, {"row_um": 3.0})
    recorder.documents.clear()
    for wrong, match in (
        ({"sample": {"cycle": "first"}}, "sample.*cycle is 'first'"),
        ({"proposal": ["a"]}, "proposal is \\['a'\\]"),
    ):
        with pytest.raises(PlanError, match=match):
            recorder.run(scan(beamline, md=wrong))
    assert recorder.documents == []


def tampered(documents, name, change):
    """Copy of the documents in which `change` was applied to each document of one kind."""
    out = []
    for kind, doc in documents:
        doc = {**doc, **{k: dict(doc[k]) for k in ("data", "xanes", "data_keys") if k in doc}}
        if kind == name:
            change(doc)
        out.append((kind, doc))
    return out


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("start", lambda d: d.pop("scan_group"), "scan_group"),
        ("start", lambda d: d.pop("xanes"), "says nothing of an energy scan"),
        ("start", lambda d: d["xanes"].pop("edge"), "edge"),
        ("start", lambda d: d["xanes"].update(schema_version=3), "version 3"),
        ("start", lambda d: d["xanes"].update(energies_ev=[8333.0]), "1 energies and 4 exposures"),
        ("start", lambda d: d["xanes"].update(devices={"camera": "camera"}), "which device is the energy"),
        ("descriptor", lambda d: d["data_keys"].pop("xanes_attempt"), "xanes_attempt"),
        ("descriptor", lambda d: d.update(object_keys={}), "camera"),
        ("event", lambda d: d["data"].update(xanes_energy_index=4), "index 4"),
        ("event", lambda d: d["data"].update(xanes_energy_index=2), "grid"),
        ("event", lambda d: d["data"].update(xanes_repeat=-1), "start at 0"),
        ("event", lambda d: d["data"].update(xanes_energy_setpoint_ev=1.0), "1 eV"),
        ("event", lambda d: d.update(descriptor="?"), "descriptor"),
    ],
)
def test_the_validator_says_what_is_wrong(beamline, recorder, name, change, said):
    recorder.run(scan(beamline))
    validate_run_documents(recorder.documents)
    with pytest.raises(DocumentError, match=said):
        validate_run_documents(tampered(recorder.documents, name, change))


def test_the_validator_misses_frames_doubles_and_documents(beamline, recorder):
    recorder.run(scan(beamline))
    documents = recorder.documents
    events = [i for i, (name, _) in enumerate(documents) if name == "event"]
    for gone in (events[0], events[-1], events[-2]):
        with pytest.raises(DocumentError, match="ended in success"):
            validate_run_documents(documents[:gone] + documents[gone + 1 :])
    with pytest.raises(DocumentError, match="twice as attempt 0"):
        validate_run_documents([*documents[:-1], documents[events[-1]], documents[-1]])
    with pytest.raises(DocumentError, match="not finished"):
        validate_run_documents(documents[:-1])
    with pytest.raises(DocumentError, match="more than one start"):
        validate_run_documents(documents + documents)
    with pytest.raises(DocumentError, match="not a start"):
        validate_run_documents(documents[1:])
    with pytest.raises(DocumentError, match="no start"):
        validate_run_documents([])
