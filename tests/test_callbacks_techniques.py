"""The pipeline from readings to results, with full-field transmission and with a technique of a test's own."""

import re
import sys
import threading
from pathlib import Path

import chexus
import numpy as np
import pytest
import xarray as xr

from callbacks import (
    Channel,
    EachReading,
    FlatFieldCorrector,
    LiveSOC,
    LiveSOCPlot,
    LiveSpectrum,
    Reduced,
    Retraction,
    RunReadings,
    SOCPublisher,
    Technique,
    export_nexus,
    open_soc,
    read_run,
)
from callbacks.reduce import optical_depth
from callbacks.results import Field, ResultSchema
from nimco.testing import play
from scan_contract import PointContract

WAIT_S = 240  # a cold machine compiles the kernels meanwhile

# A technique of its own: one photodiode against energy.
DIODE_SCHEMA = ResultSchema(
    "diode_spectrum",
    "1",
    (
        Field("energy_ev", ("energy",), "float64", "eV", "energy", "coordinate"),
        Field("current", ("energy",), "float64", "A", "current of the photodiode"),
    ),
)


class DiodeSpectrum:
    def __init__(self):
        self.points = {}

    def push(self, reduced):
        self.points[reduced.slot] = reduced.energy_ev, reduced.values

    def retract(self, reduced):
        del self.points[reduced.slot]

    def merge(self, other):
        self.points = {**other.points, **self.points}

    def result(self, state):
        if not self.points:
            return None
        energy_ev, current = np.asarray(sorted(self.points.values())).T
        attrs = {"raw_uid": state.contract.raw_uid, "final": state.final, "frames_done": state.frames_done}
        return DIODE_SCHEMA.make({"energy_ev": energy_ev, "current": current}, attrs)


DIODE = Technique(
    name="xas",
    contract=PointContract,
    reducers=lambda contract, left_out: [EachReading(lambda reading: reading.channels["diode"])],
    estimator=lambda contract, options: DiodeSpectrum(),
    channels={"diode": Channel("it", "scalar")},
)


def test_a_photodiode_against_energy_is_a_technique_in_one_module(tiled_server, tmp_path):
    from bluesky import RunEngine

    from beamline_plans import EnergyGrid, xas_scan
    from sim_devices import SimBeamline

    beamline = SimBeamline((16, 16))
    grid = EnergyGrid.from_regions([(8300.0, 8400.0, 10.0, 0.01)])
    told, documents = [], []
    with LiveSOC(techniques=(DIODE,), subscribers=[told.append], update_period_s=0.0) as live:
        engine = RunEngine()
        engine.subscribe(live)
        engine.subscribe(lambda name, doc: documents.append((name, doc)))
        engine(xas_scan(beamline.energy, edge="Ni_K", grid=grid, it=beamline.foil, shutter=beamline.shutter))
        live.wait(WAIT_S)
        result = live.latest()
        assert live.errors == []
    measured = [doc["data"]["foil"] for name, doc in documents if name == "event"]
    assert result["current"].values.tolist() == measured
    assert np.allclose(result["energy_ev"], grid.energies_ev, atol=0.5)
    assert result["current"].attrs["units"] == "A"
    assert (result.attrs["final"], result.attrs["frames_done"]) == (True, len(grid))
    assert told[-1].attrs["final"]
    with SOCPublisher(tiled_server.maps) as publisher:
        publisher(result)
        publisher.wait(WAIT_S)
    xr.testing.assert_identical(open_soc(tiled_server.client(), result.attrs["raw_uid"]), result)
    assert LiveSOCPlot(tmp_path / "diode.png", show=False).render(result).axes[0].lines
    path = export_nexus(result, tmp_path / "diode.h5")
    reader = chexus.read_hdf5(str(path))  # closes the file once it is forgotten
    found = chexus.validate(next(reader), chexus.validators.base_validators(has_scipp=False))
    assert not chexus.has_violations(found), chexus.report(found)


def test_a_frame_takes_the_way_that_is_drawn(scan_documents, tiled_server):
    """The modules that docs/explanation/architecture.md draws are passed by a frame, all and in that order."""
    root = Path(__file__).resolve().parents[1]
    page = (root / "docs/explanation/architecture.md").read_text()
    drawn = re.findall(r"^ ?\d+ (\w+/_\w+) ", page, re.MULTILINE)
    assert 0 < len(drawn) <= 10
    packages = str(root / "callbacks")
    passed, is_on = [], []

    def note(frame, event, _):
        code = frame.f_code
        if is_on and event == "call" and code.co_name != "wait" and code.co_filename.startswith(packages):
            module = Path(code.co_filename).relative_to(packages).with_suffix("").as_posix()
            if module not in passed:
                passed.append(module)

    documents = scan_documents().run()
    before = sys.getprofile()
    threading.setprofile(note)
    try:
        publisher = SOCPublisher(tiled_server.maps)
        with publisher, LiveSOC(subscribers=[publisher], update_period_s=0.0) as live:
            for name, doc in documents[:-1]:
                is_first = name == "event" and not passed and doc["data"].get("xanes_energy_index") == 3
                if is_first:
                    live.wait(WAIT_S)
                    publisher.wait(WAIT_S)
                    sys.setprofile(note)
                    is_on.append(True)
                live(name, doc)
                if is_on and name == "event":
                    live.wait(WAIT_S)
                    publisher.wait(WAIT_S)
                    if drawn[-1] in passed:
                        break
            is_on.clear()
            sys.setprofile(before)
            live(*documents[-1])
    finally:
        threading.setprofile(None)
        sys.setprofile(before)
    assert [module for module in passed if module in drawn] == drawn


def corrected(scan, steps, **options):
    """Items that the corrector gives, its depths made at once."""
    documents = scan.run(steps)
    run = read_run(documents[0][1])
    reader, corrector = RunReadings(run), FlatFieldCorrector(run.scan, **options)
    items = [
        item
        for name, doc in documents[1:]
        for reading in reader.add(name, doc)
        for item in corrector.add(reading)
    ]
    return [*items, *corrector.finish()]


def told_of(items, index):
    """Kind and values of what was said about an energy."""
    said = []
    for item in items:
        reduced = item.reduced if isinstance(item, Retraction) else item
        if reduced.label.energy_index == index:
            values = reduced.values
            depth = values if isinstance(values, np.ndarray) else optical_depth(values)
            said.append((type(item), depth.ravel(), reduced.weight))
    return said


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("again", ["frame", "flat"])
def test_what_is_taken_again_is_retracted_as_it_was_given(scan_documents, again, fused):
    scan = scan_documents()
    steps = scan.steps()[:12]
    repeated = {
        "frame": ("primary", 2, scan.frame(2) // 2, {"xanes_attempt": 1}),
        "flat": ("flat", 2, scan.flat() // 2, {"xanes_attempt": 1}),
    }[again]
    items = corrected(scan, [*steps, repeated], fused=fused)
    once = told_of(corrected(scan, steps, fused=fused), 2)
    said = told_of(items, 2)
    assert [kind for kind, *_ in once] == [Reduced]
    assert [kind for kind, *_ in said] == [Reduced, Retraction, Reduced]
    assert np.array_equal(said[0][1], said[1][1], equal_nan=True)
    assert said[0][2] == said[1][2]
    assert np.array_equal(said[0][1], once[0][1], equal_nan=True)
    assert not np.allclose(said[0][1], said[2][1], atol=0.1)
    assert sum(isinstance(item, Retraction) for item in items) == 1


def test_a_flat_that_comes_last_is_waited_for(scan_documents):
    scan = scan_documents()
    steps = scan.steps()
    late = next(step for step in steps if step[:2] == ("flat", 7))
    with LiveSOC() as live:
        play(live, scan.run([step for step in steps if step is not late] + [late]))
        live.wait(WAIT_S)
        update = live.latest()
    assert update.attrs["complete"]
    assert not update.attrs["warnings"]
    assert np.nanmax(np.abs(update["soc"].values - scan.soc)) < 0.01


def test_a_limit_that_shows_late_corrects_the_frames_before(scan_documents):
    """Counts clipped at no full scale are known after several frames: those before are retracted and given anew."""
    scan = scan_documents((24, 24), counts=6000, noise=True)
    scan.open_beam[:, 12:] *= 0.5
    steps = [
        (stream, index, image // 2 if index in (0, 1) else np.minimum(image, 4000), *more)
        for stream, index, image, *more in scan.steps()
    ]
    items = corrected(scan, steps)
    in_fit = {}
    for item in items:
        if isinstance(item, Retraction):
            assert in_fit.pop(item.reduced.slot).weight == item.reduced.weight
        else:
            assert item.slot not in in_fit
            in_fit[item.slot] = item
    assert len(in_fit) == scan.energies_ev.size
    assert any(isinstance(item, Retraction) for item in items)
    for item in in_fit.values():
        assert item.values.limit == 4000
    assert np.isneginf(optical_depth(in_fit["primary", 20, 0].values)).any()


def test_a_reference_spectrum_gets_the_checks_of_the_maps(scan_documents):
    scan = scan_documents()
    steps = scan.steps()
    spoiled = []
    for step in steps:
        if step[:2] == ("primary", 20):
            step = (
                "primary",
                20,
                next(s for s in steps if s[:2] == ("primary", 19))[2],
            )  # the camera's last frame
        if step[:2] == ("primary", 25):
            step = ("primary", 25, step[2], {"i0": float("nan")})
        spoiled.append(step)
    # A flat that had half the light is taken again after its frame.
    place = next(place for place, step in enumerate(spoiled) if step[:2] == ("flat", 10))
    spoiled.append((*spoiled[place], {"xanes_attempt": 1}))
    spoiled[place] = ("flat", 10, spoiled[place][2] // 2)
    documents = scan.run(spoiled, standard={"name": "pellet", "soc": 0.0})
    with LiveSpectrum() as spectra:
        play(spectra, documents)
        spectra.wait(WAIT_S)
        energy, depth, _ = spectra.spectrum(documents[0][1]["uid"])
        assert len(spectra.errors) == 2
    kept = np.delete(scan.energies_ev, [20, 25])
    assert np.allclose(energy, np.sort(kept))
    truth = [
        np.mean(0.3 - 1e-4 * (value - 8340) + scan.jump * scan.spectrum(value, scan.soc)) for value in energy
    ]
    assert np.abs(depth - truth).max() < 1e-3


def test_a_technique_that_is_not_known_is_said_once(scan_documents):
    scan = scan_documents(technique="ptychography")
    with LiveSOC() as live:
        play(live, scan.run())
        live.wait(WAIT_S)
        assert [str(error) for error in live.errors if "'ptychography'" in str(error)]
        assert len(live.errors) == 1
