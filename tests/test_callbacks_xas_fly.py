"""Continuous scans from the plan to Tiled on the twin: samples in a file, binned, and what interruptions leave."""

import shutil
import threading
from collections import Counter

import h5py
import numpy as np
import pytest
import xarray as xr
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted

from beamline_devices.protocols import EnergyFlyer
from beamline_plans import EnergyGrid, EnergyRegion, dry_run, xas_fly
from callbacks import XAS, LiveSOC, RawRunWriter, RunReadings, SOCPublisher, documents_of, open_soc, read_run
from edge_fitting import EDGES
from nimco.testing import play, wait_until
from scan_contract import HC_EV_ANGSTROM, validate_run_documents
from sim_devices import ChamberSettings, MonoSettings, SimBeamline, TwinSettings

WAIT_S = 240
E0 = EDGES["Ni_K"].energy_ev
OFFSET_EV = 1.3
GRID = EnergyGrid.from_regions(
    [
        EnergyRegion(E0 + low, E0 + high, step, exposure_s)
        for low, high, step, exposure_s in (
            (-150, -20, 26.0, 0.5),
            (-20, 25, 0.5, 0.5),
            (25, 105, 8.0, 1.0),
            (105, 305, 50.0, 1.0),
        )
    ]
)
SAMPLE_S = 0.25
N_SAMPLES = round(sum(GRID.exposure_s) / SAMPLE_S)
# Of what is interrupted: energies, samples of a sweep, and samples before the interruption of the second one.
SHORT = EnergyGrid.from_regions([(E0 - 60, E0 - 20, 10.0, 0.5), (E0 - 20, E0 + 28, 2.0, 0.5)])
N_SHORT, N_ON_THE_WAY = 2 * len(SHORT), 16


def twin(folder):
    settings = TwinSettings(
        mono=MonoSettings(offset_ev=OFFSET_EV, drift_ev_per_h=6.0), chambers=ChamberSettings(noise=5e-4)
    )
    beamline = SimBeamline((16, 16), seed=4, settings=settings, data_dir=folder)
    beamline.load_standard("Ni_K", 0.6)
    return beamline


def scan(beamline, grid=GRID, **options):
    return xas_fly(
        beamline.energy,
        beamline.flyer,
        edge="Ni_K",
        grid=grid,
        i0=beamline.i0_chamber,
        it=beamline.it_chamber,
        iref=beamline.iref_chamber,
        shutter=beamline.shutter,
        **{"sample_s": SAMPLE_S, "n_darks": 3, **options},
    )


def analysed(documents):
    with LiveSOC() as live:
        play(live, documents)
        live.wait(WAIT_S)
        return live.latest(), [str(error) for error in live.errors]


def said(result):
    return " | ".join(result.attrs["warnings"])


@pytest.fixture(scope="module")
def flown(tiled_server):
    """Documents of two sweeps, what was told on the way, the result, the twin, and the folder of its files."""
    folder = tiled_server.data_dir / "files"
    beamline, told, documents, engine = twin(folder), [], [], RunEngine()
    with LiveSOC(subscribers=[told.append], update_period_s=0.0) as live:
        engine.subscribe(live)
        engine.subscribe(lambda name, doc: documents.append((name, doc)))
        engine(scan(beamline, sweeps=2, md={"sample": {"name": "pellet"}}))
        live.wait(WAIT_S)
        assert live.errors == []
        return documents, told, live.latest(), beamline, folder


def columns(folder):
    (path,) = folder.glob("*.h5")
    with h5py.File(path) as file:
        return {key: file[key][()] for key in file}


def test_a_flight_is_one_stream_of_samples_and_gives_the_spectrum(flown):
    documents, told, result, beamline, _ = flown
    assert isinstance(beamline.flyer, EnergyFlyer)
    validate_run_documents(documents)
    names = Counter(name for name, _ in documents)
    assert (names["stream_resource"], names["event"]) == (7, 3)
    assert result.attrs["warnings"] == []
    assert (result.attrs["n_frames"], result.attrs["frames_expected"]) == (2 * len(GRID), 2 * len(GRID))
    assert result.attrs["complete"]
    truth_ev = -(beamline.twin.axis_offset_ev + OFFSET_EV) / 2
    assert abs(float(result["axis_offset_ev"]) - truth_ev) < 3 * float(result["axis_offset_sigma_ev"])
    step_ev = (beamline.twin.axis_offset_ev - OFFSET_EV) / 2
    assert np.allclose(np.diff(result["sweep_offset_ev"].values), -step_ev, atol=0.03)
    edge_ev = float(np.nanmean(beamline.truth("Ni_K").edge_energy_ev)) - beamline.twin.axis_offset_ev
    # A straight line through so few points above the edge is worth 0.3 eV.
    assert abs(float(result["half_jump_ev"]) - edge_ev) < 0.3 + 3 * float(result["axis_offset_sigma_ev"])
    # It grows while the axis moves.
    assert told[0].attrs["n_frames"] < len(GRID)
    assert (beamline.energy.position, beamline.twin.shutter_open) == (E0, False)


def readings_of(documents):
    """The last reading of each sweep and energy index."""
    (start,) = (doc for name, doc in documents if name == "start")
    readings = RunReadings(read_run(start), XAS.channels)
    found = {}
    for name, doc in documents:
        for reading in readings.add(name, doc) if name != "start" else ():
            if reading.stream == "primary":
                found[reading.label.axes["sweep"], reading.energy_index] = reading
    assert readings.warnings == []
    return found


def check_readings(documents, folder, flight, planned=GRID):
    """Every reading is the mean, weighted by time, of the samples of a flight that are nearest to its energy."""
    held, grid = columns(folder), np.array(planned.energies_ev)
    energy = HC_EV_ANGSTROM / (2 * 3.1356 * np.sin(np.radians(held["flyer_angle"])))
    nearest = np.abs(energy[:, None] - grid).argmin(axis=1)
    readings = readings_of(documents)
    for (sweep, index), reading in readings.items():
        here = (held["flyer_flight"] == flight[sweep]) & (nearest == index)
        weights = held["flyer_exposure_s"][here]
        assert reading.exposure_s == pytest.approx(weights.sum())
        assert reading.energy_ev == pytest.approx(np.average(energy[here], weights=weights), abs=1e-6)
        for role in ("i0", "it", "iref"):
            mean = np.average(held[f"{role}_chamber"][here], weights=weights)
            assert reading.channels[role] == pytest.approx(mean, rel=1e-9)
    return readings


def test_samples_are_binned_to_the_grid_by_their_counting_time(flown):
    documents, _, _, _, folder = flown
    readings = check_readings(documents, folder, {0: 0, 1: 1})
    assert len(readings) == 2 * len(GRID)
    assert [readings[0, i].exposure_s for i in (2, len(GRID) - 2)] == pytest.approx([0.5, 1.0])
    # Counts of samples add up, where currents are averaged.
    counted = [
        (name, {**doc, "xanes": {**doc["xanes"], "dead_time_s": {"it": 0.0}}} if name == "start" else doc)
        for name, doc in documents
    ]
    as_counts = readings_of(counted)[1, len(GRID) - 2]
    plain = readings[1, len(GRID) - 2]
    n_samples = plain.exposure_s / SAMPLE_S
    assert as_counts.channels["it"] == pytest.approx(n_samples * plain.channels["it"])
    assert as_counts.channels["i0"] == pytest.approx(plain.channels["i0"])
    # Between two regions the middle of a cell is not the energy of the grid.
    assert abs(readings[0, 5].energy_ev - GRID.energies_ev[5]) > 5


def test_it_goes_to_tiled_and_is_analysed_again_from_there(flown, tiled_server):
    documents, _, result, _, folder = flown
    with RawRunWriter(tiled_server.raw) as writer, SOCPublisher(tiled_server.maps) as publisher:
        play(writer, documents)
        publisher(result)
        writer.wait(WAIT_S)
        publisher.wait(WAIT_S)
        assert writer.errors == []
    client = tiled_server.client()
    run = client["raw"][result.attrs["raw_uid"]]
    assert np.array_equal(run["primary"]["i0_chamber"].read().ravel(), columns(folder)["i0_chamber"])
    xr.testing.assert_identical(open_soc(client, result.attrs["raw_uid"]), result)
    again, errors = analysed(documents_of(run))
    assert errors == []
    xr.testing.assert_allclose(again.drop_attrs(), result.drop_attrs(), rtol=1e-9)
    assert again.attrs["n_frames"] == result.attrs["n_frames"]


def interrupted(folder, then):
    """Two sweeps whose second one is paused on its way; `then` goes on from the pause."""
    beamline, documents = twin(folder), []
    engine, follow, creeping = RunEngine({}), beamline.energy.follow, threading.Event()

    def slow_axis(energy_ev):
        if not creeping.is_set() and beamline.energy.position > E0 and flights[1:]:
            creeping.wait(1.0)  # a second for a sample, until the pause is over
        follow(energy_ev)

    beamline.energy.follow = slow_axis
    engine.subscribe(lambda name, doc: documents.append((name, doc)))
    flights = []

    def hook(msg):
        if msg.command == "complete":
            flights.append(msg)
            if len(flights) == 2:
                wait_until(lambda: beamline.energy.position > E0, WAIT_S, "the second sweep")
                # On the event loop itself, where the message hook runs.
                engine.loop.create_task(engine._request_pause_coro(False))

    engine.msg_hook = hook
    with pytest.raises(RunEngineInterrupted):
        engine(scan(beamline, SHORT, sweeps=2))
    assert not beamline.twin.shutter_open
    creeping.set()
    then(engine)
    assert (beamline.energy.position, beamline.twin.shutter_open) == (E0, False)
    return documents, columns(folder)


def test_what_was_measured_before_an_abort_is_kept(tmp_path):
    documents, held = interrupted(tmp_path, lambda engine: engine.abort())
    last = held["flyer_angle"].size
    assert N_SHORT + N_ON_THE_WAY < last < 2 * N_SHORT
    announced = [doc for name, doc in documents if name == "stream_datum"]
    assert max(doc["indices"]["stop"] for doc in announced) == last
    result, errors = analysed(documents)
    assert errors == []
    assert (result.sizes["sweep"], result.attrs["exit_status"]) == (2, "abort")
    assert len(SHORT) + 5 < result.attrs["n_frames"] < 2 * len(SHORT)
    assert result["n_sweeps"].values.min() == 1
    assert result["n_sweeps"].values.max() == 2
    assert "are missing" in said(result)


def test_a_sweep_that_a_pause_came_upon_is_flown_again(tmp_path):
    documents, held = interrupted(tmp_path, lambda engine: engine.resume())
    second = held["flyer_sweep"] == 1
    assert set(held["flyer_flight"][second]) == {1, 2}
    result, errors = analysed(documents)
    assert (errors, result.attrs["complete"], result.sizes["sweep"]) == ([], True, 2)
    # Nothing of the flight that was given up is left.
    assert len(check_readings(documents, tmp_path, {0: 0, 1: 2}, SHORT)) == 2 * len(SHORT)


def test_samples_that_cannot_be_used_are_left_out_and_said(flown, tmp_path):
    documents, _, result, _, folder = flown
    (path,) = folder.glob("*.h5")
    damaged = tmp_path / "damaged.h5"
    shutil.copy(path, damaged)
    with h5py.File(damaged, "r+") as file:
        file["it_chamber"][100:103] = np.nan
        file["flyer_exposure_s"][150] = 0.0
    moved = [
        (name, {**doc, "uri": f"file://localhost{damaged}"} if name == "stream_resource" else doc)
        for name, doc in documents
    ]
    found, errors = analysed(moved)
    assert errors == []
    assert f"4 of {2 * N_SAMPLES} samples" in said(found)
    assert float(found["half_jump_ev"]) == pytest.approx(float(result["half_jump_ev"]), abs=0.1)
    lost = [(name, doc) for name, doc in documents if name != "stream_datum" or doc["indices"]["start"] == 0]
    found, _ = analysed(lost)
    assert 0 < found.attrs["n_frames"] < 2 * len(GRID)
    assert "are missing" in said(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grid": GRID.ordered("descending")}, "increasing energies"),
        ({"sample_s": 0.6}, "no longer than the shortest exposure"),
        ({"n_darks": 2, "shutter": None}, "shutter"),
        ({"sweeps": 0}, "sweeps"),
        ({"flyer": None}, "recorded"),
        ({"grid": EnergyGrid((E0 - 50, E0 + 20000.0), 1.0)}, "eV"),
    ],
)
def test_requests_that_make_no_sense_are_refused(change, words, tmp_path):
    beamline = twin(tmp_path)
    if "flyer" in change:
        beamline.flyer = beamline.stage
        change = {}
    given = {"grid": GRID, "sample_s": SAMPLE_S, "shutter": beamline.shutter, **change}
    with pytest.raises(ValueError, match=words):
        list(xas_fly(beamline.energy, beamline.flyer, edge="Ni_K", i0=beamline.i0_chamber, **given))


def test_a_dry_run_counts_samples_and_time(tmp_path):
    found = dry_run(scan(twin(tmp_path), sweeps=2))
    assert (found.frames["primary"], found.frames["dark"]) == (2 * N_SAMPLES, 3)
    assert found.sample_exposure_s == pytest.approx(2 * sum(GRID.exposure_s))
    assert found.time_s > found.sample_exposure_s
    assert not list(tmp_path.iterdir())
