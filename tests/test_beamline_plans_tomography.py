"""Rotation series: their angles, their documents, where the sample is moved, and what is taken after an abort."""

import contextlib

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted

from beamline_plans import (
    EnergyGrid,
    PlanError,
    RunLedger,
    dry_run,
    interleaved_angles,
    resume_scan,
    resume_tomography,
    spread_angles,
    tomography_scan,
    validate_run_documents,
)
from nimco.testing import close_run_engine
from scan_contract import ContractError, TomographyContract, make_contract, read_contract
from sim_devices import SimBeamline

ENERGIES_EV = (8300.0, 8340.0, 8352.0, 8400.0)
GRID = EnergyGrid(ENERGIES_EV, (0.1,) * len(ENERGIES_EV))
N_ANGLES = 5
SAFE_DEG = 20.0


def devices(beamline):
    return beamline.camera, beamline.energy, beamline.shutter, beamline.stage, beamline.stage.rotation


def scan(beamline, **options):
    options = {"n_angles": N_ANGLES, "safe_angle_deg": SAFE_DEG, "n_flats": 2, "n_darks": 2, **options}
    return tomography_scan(*devices(beamline), edge="Ni_K", grid=GRID, i0=beamline.i0, **options)


@pytest.fixture(scope="module")
def beamline():
    made = SimBeamline((16, 16))
    made.load_volume()
    return made


def played(beamline, plan, *, stop_at=None):
    """Run a plan; its documents, and angle and state of the stage whenever the sample was told to move."""
    engine, documents, moves, events = RunEngine(), [], [], [0]

    def hook(msg):
        if msg.command == "set" and msg.obj is beamline.stage:
            moves.append((msg.args[0], beamline.stage.position, beamline.stage.rotation.position))
        if msg.command == "save":
            events[0] += 1
            if events[0] == stop_at:
                engine.loop.create_task(engine._request_pause_coro(False))

    engine.msg_hook = hook
    engine.subscribe(lambda name, doc: documents.append((name, doc)))
    with contextlib.suppress(RunEngineInterrupted):
        engine(plan)
    if stop_at is not None:
        assert beamline.shutter.position == "closed"
        engine.abort()
    close_run_engine(engine)
    return documents, moves


def places(documents):
    """Energy index and angle of the saved projections, in order, with what the axis read."""
    streams = {doc["uid"]: doc["name"] for name, doc in documents if name == "descriptor"}
    return [
        (
            doc["data"]["xanes_energy_index"],
            doc["data"]["xanes_axis_angle_deg"],
            doc["data"]["sample_rotation"],
        )
        for name, doc in documents
        if name == "event" and streams[doc["descriptor"]] == "primary"
    ]


def test_angles_are_spread_and_interleaved():
    assert spread_angles(4, 180.0, 10.0) == (10.0, 55.0, 100.0, 145.0)
    angles, rows = interleaved_angles(6, 7)
    assert len(set(angles)) == 42
    assert [len(row) for row in rows] == [7] * 6
    # Any number of energies leaves no large gap.
    for n_energies in (1, 2, 4, 6):
        taken = np.sort(np.array(angles)[: 7 * n_energies])
        gaps = np.diff(taken, append=taken[0] + 180.0)
        assert gaps.max() < 3.0 * 180.0 / taken.size
    for bad in ({"n_angles": 2}, {"n_angles": 10, "range_deg": 90.0}, {"n_angles": 4, "start_deg": np.nan}):
        with pytest.raises(PlanError):
            spread_angles(**bad)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nesting": "angle_outer", "flat_order": "every_n", "flat_every": 2},
        {"interleaved": True, "flat_order": "every_n", "flat_every": 3},
        {"range_deg": 360.0, "flat_order": "before_all", "repeats": 2},
    ],
)
def test_documents_keep_the_contract_and_the_sample_moves_at_the_safe_angle(beamline, options):
    beamline.stage.rotation.set(3.0).wait()
    start_ev = beamline.energy.position
    documents, moves = played(beamline, scan(beamline, **options))
    validate_run_documents(documents)
    contract = read_contract(documents[0][1]).scan
    assert isinstance(contract, TomographyContract)
    taken = places(documents)
    assert len(taken) == contract.readings_expected == N_ANGLES * 4 * options.get("repeats", 1)
    assert len([1 for name, _ in documents if name == "event"]) == contract.events_expected
    for index, place, angle_deg in taken:
        assert angle_deg == pytest.approx(contract.angles_deg[place])
        assert place in contract.places_of(index)
    changed = [(goal, at, angle) for goal, at, angle in moves if goal != at]
    assert changed
    assert all(angle == SAFE_DEG for goal, at, angle in changed)
    assert beamline.stage.rotation.position == 3.0
    assert (beamline.stage.position, beamline.shutter.position) == ("in", "closed")
    assert beamline.energy.position == pytest.approx(start_ev)
    order = [index for index, *_ in taken]
    assert (order == sorted(order)) == (options.get("nesting") != "angle_outer")


@pytest.mark.parametrize("nesting", ["energy_outer", "angle_outer"])
def test_an_aborted_series_is_completed_without_taking_a_projection_twice(beamline, nesting):
    ledger = RunLedger()
    first, _ = played(beamline, scan(beamline, nesting=nesting), stop_at=21)
    ledger.add_documents(first)
    uid = first[0][1]["uid"]
    with pytest.raises(PlanError, match="resume_tomography"):
        next(resume_scan(*devices(beamline)[:4], uid=uid, archive=ledger, i0=beamline.i0))
    rest, _ = played(beamline, resume_tomography(*devices(beamline), uid=uid, archive=ledger, i0=beamline.i0))
    validate_run_documents(rest)
    contract = read_contract(rest[0][1]).scan
    assert contract.resumes == uid
    both = [(index, place) for index, place, _ in (*places(first), *places(rest))]
    assert len(both) == len(set(both)) == 4 * N_ANGLES
    assert len(places(rest)) == contract.readings_expected > 0
    ledger.add_documents(rest)
    with pytest.raises(StopIteration) as end:
        next(resume_tomography(*devices(beamline), uid=uid, archive=ledger, i0=beamline.i0))
    assert end.value.value is None


def test_a_dry_run_tells_time_dose_disk_and_sigma_of_a_voxel(beamline):
    grid = np.arange(8300.0, 8400.0, 4.0)
    width = np.array([[3.0], [3.4], [3.8]])
    edge_ev = np.array([[8343.0], [8344.5], [8346.0]])
    fine = np.arange(8200.0, 8700.0, 0.5)
    references = {
        "soc": [0.0, 0.5, 1.0],
        "energy_ev": fine.tolist(),
        "mu": (0.5 + np.arctan((fine - edge_ev) / width) / np.pi).tolist(),
    }
    plans = [
        tomography_scan(
            *devices(beamline), edge="Ni_K", grid=EnergyGrid(tuple(grid), (0.5,) * grid.size), n_angles=n,
            references=references,
        )
        for n in (10, 40)
    ]  # fmt: skip
    few, many = (dry_run(plan) for plan in plans)
    assert many.frames["primary"] == 4 * few.frames["primary"] == 40 * grid.size
    assert many.sample_exposure_s == pytest.approx(0.5 * 40 * grid.size)
    assert many.time_s > 40 * grid.size * 0.5
    assert many.disk_bytes > 40 * grid.size * 16 * 16 * 2
    few_sigma, many_sigma = (run.expected_sigma["Ni_K per voxel"] for run in (few, many))
    assert few_sigma == pytest.approx(2.0 * many_sigma, rel=0.01)


def test_what_makes_no_sense_is_refused_before_anything_moves(beamline):
    for bad, said in (
        ({"n_angles": 1}, "angles"),
        ({"safe_angle_deg": 400.0}, "sample_rotation"),
        ({"start_deg": 300.0}, "sample_rotation"),
        ({"interleaved": True, "nesting": "angle_outer"}, "energy by energy"),
        ({"flat_order": "after_all"}, "before what they correct"),
        ({"n_flats": 0}, "flat"),
    ):
        with pytest.raises(PlanError, match=said):
            next(scan(beamline, **bad))
    with pytest.raises(ContractError, match="beyond the 3 angles"):
        make_contract(
            TomographyContract, edge="Ni_K", energies_ev=(8333.0,), exposure_s=(1.0,),
            devices={"camera": "c", "energy": "e"}, axes={"angle_deg": (0.0, 1.0, 2.0)}, angles_of=((3,),),
        )  # fmt: skip
