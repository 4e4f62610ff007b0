"""Rasters with a fluorescence detector: what they record, where they go on, and what they leave behind."""

import pytest
from bluesky import Msg, RunEngine
from bluesky.utils import RunEngineInterrupted

from beamline_plans import PlanError, RasterLedger, dry_run, resume_xrf_map, xrf_coarse_fine, xrf_map
from nimco.testing import close_run_engine
from scan_contract import read_contract, validate_run_documents
from sim_devices import NanoSettings, SimNanoBeamline

SETTINGS = NanoSettings(n_elements=2, n_channels=1000)
AROUND = {"start": -4.0, "stop": 4.0, "step": 2.0}


@pytest.fixture
def beamline():
    return SimNanoBeamline(settings=SETTINGS)


@pytest.fixture
def run_engine():
    engine = RunEngine({})
    yield engine
    close_run_engine(engine)


def raster(beamline, *, fly=False, plan=xrf_map, **more):
    detector = {"mca": beamline.line_mca} if fly else {"mca": beamline.mca, "i0": beamline.i0}
    entries = {
        "rows_um": AROUND,
        "columns_um": [-3.0, 0.0, 3.0],
        "exposure_s": 0.01,
        "elements": ["Mn", "Co", "Ni"],
    }
    about = {"calibration": beamline.calibration, "shutter": beamline.shutter, "fly": fly}
    return plan(
        energy=beamline.energy, row_axis=beamline.row_axis, column_axis=beamline.column_axis,
        **{**detector, **entries, **about, **more},
    )  # fmt: skip


def events_of(documents):
    return [doc for name, doc in documents if name == "event"]


@pytest.mark.parametrize("fly", [False, True])
def test_every_place_is_labelled_and_the_contract_is_kept(beamline, run_engine, fly):
    documents = []
    run_engine(raster(beamline, fly=fly), lambda name, doc: documents.append((name, doc)))
    validate_run_documents(documents)
    scan = read_contract(documents[0][1]).scan
    assert scan.axes["row"] == (-4.0, -2.0, 0.0, 2.0, 4.0)
    events = events_of(documents)
    assert len(events) == scan.readings_expected == (5 if fly else 15)
    shape = (3, 2, 1000) if fly else (2, 1000)
    key = "line_mca" if fly else "mca"
    assert events[0]["data"][key].shape == shape
    brightest = max(events, key=lambda event: event["data"][key].sum())
    assert brightest["data"]["xanes_axis_row"] == 2
    assert beamline.shutter.position == "closed"
    assert (beamline.row_axis.position, beamline.column_axis.position) == (0.0, 0.0)


@pytest.mark.parametrize("fly", [False, True])
def test_an_aborted_raster_goes_on_at_its_line(beamline, run_engine, fly):
    ledger, documents = RasterLedger(), []
    run_engine.subscribe(ledger)
    run_engine.subscribe(lambda name, doc: documents.append((name, doc)))
    plan = raster(beamline, fly=fly, energies_ev=[9500.0, 9600.0], md={"sample": {"name": "one"}})

    def pausing():
        answer, saved = None, 0
        while True:
            try:
                message = plan.send(answer)
            except StopIteration:
                return
            saved += message.command == "create"
            if saved == (8 if fly else 20) and message.command == "create":
                yield Msg("pause", None, defer=False)
            answer = yield message

    with pytest.raises(RunEngineInterrupted):
        run_engine(pausing())
    assert beamline.shutter.position == "closed"
    run_engine.abort("no beam")
    (aborted,) = [doc["uid"] for name, doc in documents if name == "start"]
    devices = (
        beamline.line_mca if fly else beamline.mca,
        beamline.energy,
        beamline.row_axis,
        beamline.column_axis,
    )
    i0 = None if fly else beamline.i0
    again = {"uid": aborted[:8], "archive": ledger, "i0": i0, "shutter": beamline.shutter}
    before = len(documents)
    run_engine(resume_xrf_map(*devices, **again))
    resumed = documents[before:]
    validate_run_documents(resumed)
    start = resumed[0][1]
    assert start["sample"]["name"] == "one"
    scan = read_contract(start).scan
    assert scan.resumes == aborted
    assert scan.take.primary == (1,)
    assert scan.take.first_row == (2 if fly else 1)
    first = events_of(resumed)[0]["data"]
    assert (first["xanes_energy_index"], first["xanes_axis_row"]) == (1, scan.take.first_row)
    before = len(documents)
    run_engine(resume_xrf_map(*devices, **again))
    assert len(documents) == before  # nothing was missing
    assert ledger.taken(aborted).first_missing() is None


def test_a_coarse_map_says_where_the_fine_one_is(beamline, run_engine):
    documents = []
    plan = raster(
        beamline, fly=True, plan=xrf_coarse_fine, rows_um={"start": -6, "stop": 6, "step": 1.5},
        columns_um={"start": -6, "stop": 6, "step": 1.5}, fine_step_um=1.0, fine_exposure_s=0.005,
    )  # fmt: skip
    run_engine(plan, lambda name, doc: documents.append((name, doc)))
    coarse, fine = [read_contract(doc).scan for name, doc in documents if name == "start"]
    assert len(coarse.axes["row"]) == 9
    assert -4.0 <= fine.axes["row"][0] <= -3.0
    assert 3.0 <= fine.axes["row"][-1] <= 4.0
    beamline.load("standard")  # the same everywhere: nothing to find
    documents.clear()
    plan = raster(
        beamline,
        plan=xrf_coarse_fine,
        rows_um=[-1.0, 0.0],
        columns_um=[-1.0, 0.0],
        fine_step_um=0.5,
        fine_exposure_s=0.01,
    )
    run_engine(plan, lambda name, doc: documents.append((name, doc)))
    assert sum(name == "start" for name, _ in documents) == 1


def test_time_and_dose_are_known_before(beamline):
    stepped = dry_run(raster(beamline, energies_ev=[9500.0, 9600.0]))
    assert stepped.frames["primary"] == 30
    assert stepped.sample_exposure_s == pytest.approx(0.3)
    flown = dry_run(raster(beamline, fly=True))
    assert flown.sample_exposure_s == pytest.approx(0.15)
    assert flown.disk_bytes > 5 * 3 * 2 * 1000 * 4
    assert beamline.row_axis.position == 0.0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"rows_um": {"start": 0, "stop": 1}}, 'rows_um needs "start"'),
        ({"rows_um": [100.0]}, "nano_y cannot go to 100"),
        ({"columns_um": []}, "columns_um must be a list"),
        ({"exposure_s": 0.0}, "exposure_s must be a time above 0"),
        ({"energies_ev": [9.6]}, "looks like keV"),
        ({"elements": []}, "elements"),
        ({"calibration": [None, None]}, "no detector element has an energy scale"),
        ({"elements": ["Ni", "Ni"]}, "named twice"),
        ({"fly": True}, "cannot fly lines"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_moves(beamline, more, words):
    if more.get("fly"):
        more = {**more, "mca": beamline.mca}
    with pytest.raises(PlanError, match=words):
        dry_run(raster(beamline, **more))


def test_uneven_lines_cannot_be_flown(beamline):
    with pytest.raises(PlanError, match="even steps"):
        dry_run(raster(beamline, fly=True, columns_um=[0.0, 1.0, 3.0]))
