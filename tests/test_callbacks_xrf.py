"""Fluorescence maps from the plan to Tiled on the twin: composition against the truth, and what bad input gives."""

import h5py
import numpy as np
import pytest
import xarray as xr
import xraydb
from bluesky import Msg, RunEngine
from bluesky.utils import RunEngineInterrupted

from beamline_plans import RasterLedger, resume_xrf_map, xrf_map
from callbacks import (
    LiveSOC,
    LiveSOCPlot,
    SOCPublisher,
    export_nexus,
    export_tiff,
    fit_fluorescence,
    open_soc,
    read_fluorescence,
    write_fluorescence_table,
)
from callbacks.errors import CallbackError, DocumentError
from edge_fitting import (
    CompositionReferences,
    EdgeFittingError,
    ReferenceSeries,
    atoms_sensitivity,
    fit_composed_soc,
    fit_core_shell,
    fit_stack,
    without_saturation,
)
from nimco.testing import close_run_engine, play
from sim_devices import (
    NMC442,
    NMC701515,
    GradientParticle,
    NanoSample,
    NanoSettings,
    SimNanoBeamline,
    nickel_spectrum,
)

WAIT_S = 240
ELEMENTS = ["Mn", "Co", "Ni"]
SMALL = NanoSettings(n_elements=3, n_channels=1000, photons_per_s=1e9)
PARTICLE = GradientParticle(0.1, -0.1, 1.8, width_um=0.7)
AROUND = {"start": -2.2, "stop": 2.2, "step": 0.2}


@pytest.fixture
def run_engine():
    engine = RunEngine({})
    yield engine
    close_run_engine(engine)


def twin(settings=SMALL, sample=None):
    return SimNanoBeamline(settings=settings, sample=sample or NanoSample((PARTICLE,), {}, extent_um=6.0))


def raster(beamline, *, fly=True, **more):
    detector = {"mca": beamline.line_mca} if fly else {"mca": beamline.mca, "i0": beamline.i0}
    about = {
        "rows_um": AROUND, "columns_um": AROUND, "exposure_s": 0.03, "elements": ELEMENTS, "fly": fly,
        "calibration": beamline.calibration, "shutter": beamline.shutter, "focus_um": 0.2,
    }  # fmt: skip
    return xrf_map(
        energy=beamline.energy, row_axis=beamline.row_axis, column_axis=beamline.column_axis,
        **{**detector, **about, **more},
    )  # fmt: skip


def measured(run_engine, plan, *subscribers):
    with LiveSOC(subscribers=subscribers, update_period_s=60.0) as live:
        run_engine(plan, live)
        live.wait(WAIT_S)
        return live.latest()


def standard_of(run_engine, beamline):
    """A film of known densities, measured first: counts for a unit of I0 in a point of 0.03 s."""
    sample = beamline.station.sample
    beamline.load("standard")
    film = dict(beamline.station.sample.film_ug_cm2)
    result = measured(run_engine, raster(beamline, rows_um=[0.0], columns_um=[0.0, 0.5, 1.0], exposure_s=1.0))
    per_i0 = (result["element_counts_free"] / result["i0"]).mean(("row", "column")).values
    counts = {name: float(0.03 * value) for name, value in zip(ELEMENTS, per_i0, strict=True)}
    beamline.load(sample)
    return {"areal_density_ug_cm2": film, "counts": counts, "source": "film"}


def test_composition_of_a_particle_is_that_of_the_twin_and_comes_back_from_tiled(
    run_engine, tiled_server, tmp_path
):
    beamline = twin()
    standard = standard_of(run_engine, beamline)
    result = measured(run_engine, raster(beamline, standard=standard))
    truth = beamline.truth(result["row_um"], result["column_um"]).fractions
    counts = result["element_counts"].sum("element").values
    inside = counts > 0.25 * np.nanmax(counts)
    error = (result["ni_fraction"].values - truth["Ni"])[inside]
    sigma = result["ni_fraction_sigma"].values[inside]
    assert abs(error.mean()) < 0.01
    assert 0.5 < np.sqrt((error**2).mean() / (sigma**2).mean()) < 1.9
    off = result["mn_ni"].values[inside] - (truth["Mn"] / truth["Ni"])[inside]
    assert abs(off.mean()) < 0.03
    # The density in the middle of the particle, from the film.
    mass = float(result["areal_density"].sum("element")[11, 10])
    assert mass == pytest.approx(4.7 * 3.6e-4 * 1e6 * 0.606, rel=0.05)
    assert any("keeps up to" in words for words in result.attrs["warnings"])
    with SOCPublisher(tiled_server.maps) as publisher:
        publisher(result)
        publisher.wait(WAIT_S)
    xr.testing.assert_identical(open_soc(tiled_server.client(), result.attrs["raw_uid"]), result)
    figure = LiveSOCPlot(tmp_path / "xrf.png", show=False).render(result)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert "all spectra" in titles
    assert any(title.startswith("Mn, to") for title in titles)
    # Core and surface, of which the map shows the sum along the beam only.
    free = dict(zip(ELEMENTS, result["element_counts_free"].values, strict=True))
    spread = dict(zip(ELEMENTS, result["element_counts_sigma"].values, strict=True))
    fit = fit_core_shell(
        free,
        spread,
        atoms_sensitivity(ELEMENTS, 9600.0),
        pixel_size_um=0.2,
        excitation_ev=9600.0,
        focus_um=0.2,
    )
    for name in ELEMENTS:
        assert fit.core[name] == pytest.approx(NMC701515[name], abs=0.01)
        assert fit.surface[name] == pytest.approx(NMC442[name], abs=0.012)
    assert fit.width_um == pytest.approx(0.7, abs=0.05)
    assert fit.radius_um == pytest.approx(1.8, abs=0.03)


@pytest.mark.parametrize("fly", [False, True])
def test_an_aborted_raster_and_what_resumes_it_make_one_map(run_engine, fly):
    beamline, ledger = twin(), RasterLedger()
    run_engine.subscribe(ledger)
    some = {"start": -1.0, "stop": 1.0, "step": 0.5}
    plan = raster(beamline, fly=fly, rows_um=some, columns_um=some)

    def pausing():
        answer, begun = None, 0
        while True:
            try:
                message = plan.send(answer)
            except StopIteration:
                return
            begun += message.command == "create"
            if begun == (3 if fly else 13) and message.command == "create":
                yield Msg("pause", None, defer=False)
            answer = yield message

    with LiveSOC(subscribers=[]) as live:
        run_engine.subscribe(live)
        with pytest.raises(RunEngineInterrupted):
            run_engine(pausing())
        (aborted,) = run_engine.abort("no beam")
        live.wait(WAIT_S)
        part = live.latest()
        assert np.isnan(part["ni_fraction"].values[3:]).all()
        assert np.isfinite(part["ni_fraction"].values[:2]).all()
        assert any("were not measured" in words for words in part.attrs["warnings"])
        detector = {"mca": beamline.line_mca} if fly else {"mca": beamline.mca, "i0": beamline.i0}
        run_engine(
            resume_xrf_map(
                energy=beamline.energy, row_axis=beamline.row_axis, column_axis=beamline.column_axis, uid=aborted,
                archive=ledger, shutter=beamline.shutter, **detector,
            )
        )  # fmt: skip
        live.wait(WAIT_S)
        whole = live.latest()
    assert np.isfinite(whole["ni_fraction"].values).all()
    assert whole.attrs["complete"]
    assert not any("were not measured" in words for words in whole.attrs["warnings"])


def replayed(documents, change=None):
    """The result of documents, each changed on its way."""
    results = []
    with LiveSOC(subscribers=[results.append]) as live:
        play(live, [(name, change(name, dict(doc)) if change else doc) for name, doc in documents])
        live.wait(WAIT_S)
    return results[-1]


@pytest.fixture(scope="module")
def documents():
    engine, beamline, held = RunEngine({}), twin(), []
    some = {"start": -1.5, "stop": 1.5, "step": 0.5}
    engine(raster(beamline, rows_um=some, columns_um=some), lambda *one: held.append(one))
    close_run_engine(engine)
    return held


def data_of(doc, **values):
    return {**doc, "data": {**doc["data"], **values}}


def test_a_dead_element_and_one_without_a_scale_are_left_out(documents):
    whole = replayed(documents)

    def silenced(name, doc):
        if name == "event":
            spectra = doc["data"]["line_mca"].copy()
            spectra[:, 1] = 0
            return data_of(doc, line_mca=spectra)
        return doc

    def without_scale(name, doc):
        if name == "start":
            block = {
                **doc["xanes"],
                "calibration": [doc["xanes"]["calibration"][0], None, doc["xanes"]["calibration"][2]],
            }
            return {**doc, "xanes": block}
        return doc

    for change, words in (
        (silenced, "element 2 gives next to nothing"),
        (without_scale, "element 2 has no energy scale"),
    ):
        result = replayed(documents, change)
        assert any(words in said for said in result.attrs["warnings"])
        both = xr.align(result["ni_fraction"], whole["ni_fraction"])
        assert float(np.abs(both[0] - both[1]).median()) < 0.02
        assert 0.5 < float(result["element_counts"].sum() / whole["element_counts"].sum()) < 0.8


def test_live_time_that_is_missing_and_saturation_are_said(documents):
    def no_live_time(name, doc):
        return data_of(doc, line_mca_live_s=np.full((7, 3), np.nan)) if name == "event" else doc

    def saturated(name, doc):
        if name == "event" and doc["seq_num"] == 4:
            return data_of(doc, line_mca_live_s=np.full((7, 3), 0.001))
        return doc

    result = replayed(documents, no_live_time)
    assert any("do not say how long the detector was live" in said for said in result.attrs["warnings"])
    result = replayed(documents, saturated)
    assert any("saturated" in said for said in result.attrs["warnings"])
    assert np.isnan(result["element_counts"].values[:, 3]).all()
    assert (result["point_status"].values[3] == 2).all()


def test_lines_that_are_missing_or_damaged_are_nan(documents):
    def damaged(name, doc):
        if name == "event" and doc["seq_num"] == 2:
            return data_of(doc, line_mca=np.zeros((2, 2)))
        return doc

    lacking = [(name, doc) for name, doc in documents if not (name == "event" and doc["seq_num"] == 5)]
    for held, change, row in ((documents, damaged, 1), (lacking, None, 4)):
        result = replayed(held, change)
        assert np.isnan(result["element_counts"].values[:, row]).all()
        assert np.isfinite(np.delete(result["element_counts"].values, row, axis=1)).all()
        assert any(
            "7 points were not measured, whole lines among them (1)" in said
            for said in result.attrs["warnings"]
        )
        assert not result.attrs["complete"]


def test_elements_that_are_not_excited_are_left_out_and_said(documents):
    def looking_for(*elements):
        def change(name, doc):
            return {**doc, "xanes": {**doc["xanes"], "elements": elements}} if name == "start" else doc

        return change

    result = replayed(documents, looking_for(*ELEMENTS, "Zn"))
    assert result.attrs["elements"] == ELEMENTS
    assert any("K lines of Zn are not excited at 9600 eV" in said for said in result.attrs["warnings"])
    with LiveSOC(subscribers=[]) as live:
        play(live, [(name, looking_for("Zn")(name, dict(doc))) for name, doc in documents])
        live.wait(WAIT_S)
        assert any("Zn are not excited" in str(error) for error in live.errors)


def nickel_series(fraction):
    energy_ev, states = np.arange(8200.0, 8520.0, 2.0), np.linspace(0.0, 1.0, 6)
    spectra = np.stack([nickel_spectrum(fraction, state, energy_ev) for state in states])
    return ReferenceSeries(energy_ev, spectra, states)


def test_state_of_charge_follows_the_composition_of_each_pixel():
    """Charged alike everywhere: one series gets the shell or the core wrong, the blend neither."""
    energies = np.array(
        [8250.0, 8290.0, 8310.0, *np.arange(8330.0, 8360.0, 2.0), 8380.0, 8410.0, 8440.0, 8480.0]
    )
    fraction = np.linspace(0.4, 0.7, 60).reshape(6, 10)
    true = np.stack([nickel_spectrum(one, 0.6, energies) for one in fraction.ravel()], axis=1)
    noise = 0.01 * np.random.default_rng(6).standard_normal(true.shape)
    stack = (true + noise).reshape(-1, 6, 10).astype(np.float32)
    known = [CompositionReferences(0.4, nickel_series(0.4)), CompositionReferences(0.7, nickel_series(0.7))]
    found = fit_composed_soc(energies, stack, fraction, known)
    error = found.soc - 0.6
    assert abs(error.mean()) < 0.01
    assert 0.5 < error.std() / found.soc_sigma.mean() < 1.7
    alone = fit_stack(energies, stack, references=known[1].series).soc
    assert alone[0].mean() < 0.45  # the shell, by more than 0.15
    beyond = fit_composed_soc(energies, stack, fraction + 0.1, known)
    assert 0.5 < beyond.supported.mean() < 0.9
    assert np.isnan(beyond.soc[~beyond.supported]).all()
    assert "outside of the references" in beyond.warnings[0]
    with pytest.raises(EdgeFittingError, match="two different compositions"):
        fit_composed_soc(energies, stack, fraction, known[:1])


def test_fluorescence_over_an_edge_gives_the_state_of_charge(run_engine):
    particle = GradientParticle(0.0, 0.0, 0.9, soc=0.6, width_um=0.35)
    beamline = twin(sample=NanoSample((particle,), {}, extent_um=4.0, step_um=0.1))
    energies = [8250.0, 8300.0, *np.arange(8332.0, 8358.0, 3.0).tolist(), 8390.0, 8470.0]
    some = {"start": -0.6, "stop": 0.6, "step": 0.3}
    references = [{"fraction": one, "references": nickel_series(one).to_dict()} for one in (0.4, 0.7)]
    plan = raster(
        beamline,
        rows_um=some,
        columns_um=some,
        exposure_s=0.6,
        energies_ev=energies,
        composition_references=references,
    )
    result = measured(run_engine, plan)
    assert result.attrs["signal"] == "soc"
    assert result["series"].shape == (len(energies), 5, 5)
    middle = result["soc"].values[1:4, 1:4]
    assert np.isfinite(middle).all()
    assert abs(middle.mean() - 0.6) < 0.1  # saturation is not corrected without a standard, which is said
    assert any("without a standard the saturation" in said for said in result.attrs["warnings"])


def test_saturation_of_fluorescence_is_taken_out():
    energies = np.array([8250.0, 8300.0, 8340.0, 8350.0, 8352.0, 8380.0, 8450.0, 8480.0])
    true = nickel_spectrum(0.7, 0.5, energies)
    under = xraydb.mu_elam("Ni", 8328.0) * (energies / 8333.0) ** -2.8
    jump = xraydb.mu_elam("Ni", np.maximum(energies, 8338.0)) - under
    mass = 8e-4  # g/cm2
    out = np.sqrt(2.0) * mass * xraydb.mu_elam("Ni", 7474.0)
    depth = mass * (under + jump * true) + out
    seen = true * -np.expm1(-depth) / depth
    assert (seen / seen[-2:].mean()).max() < (true / true[-2:].mean()).max() - 0.04
    corrected = without_saturation(energies, seen[:, None], {"Ni": [800.0]}, "Ni")[:, 0]
    np.testing.assert_allclose(corrected / corrected[-2:].mean(), true / true[-2:].mean(), atol=0.01)


def written(path, layout, counts):
    """A file as the other programs write them: counts of (rows, columns, channels)."""
    with h5py.File(path, "w") as file:
        i0 = np.full(counts.shape[:2], 7.0)
        if layout == "pyxrf":
            file["xrfmap/detsum/counts"] = counts
            file["xrfmap/scalers/name"] = np.array([b"i0", b"time"])
            file["xrfmap/scalers/val"] = np.stack([i0, i0], axis=-1)
            file["xrfmap/positions/name"] = np.array([b"x_pos", b"y_pos"])
            y, x = np.meshgrid([0.0, 0.5], [1.0, 1.5, 2.0], indexing="ij")
            file["xrfmap/positions/pos"] = np.stack([x, y])
            file.create_group("xrfmap/scan_metadata").attrs["instrument_mono_incident_energy"] = 9.6
        elif layout == "xrf-maps":
            file["MAPS/Spectra/mca_arr"] = np.moveaxis(counts, -1, 0)
            file["MAPS/Spectra/Energy"] = 0.01 * np.arange(counts.shape[2])
            file["MAPS/Scan/x_axis"], file["MAPS/Scan/y_axis"] = [1.0, 1.5, 2.0], [0.0, 0.5]
            file["MAPS/Scalers/Names"] = np.array([b"US_IC"])
            file["MAPS/Scalers/Values"] = i0[None]
        else:
            file["entry/instrument/fluorescence/data"] = counts
            file["entry/instrument/fluorescence/energy"] = 10.0 * np.arange(counts.shape[2])
            file["entry/instrument/monochromator/energy"] = 9600.0
            file["entry/monitor/data"] = i0
            file["entry/data/x"], file["entry/data/y"] = [1.0, 1.5, 2.0], [0.0, 0.5]
    return path


@pytest.mark.parametrize("layout", ["pyxrf", "xrf-maps", "nexus"])
def test_files_of_other_programs_are_read_and_fitted(documents, tmp_path, layout):
    spectra = np.stack([doc["data"]["line_mca"].sum(axis=1) for name, doc in documents if name == "event"])
    counts = spectra[2:4, 2:5]
    file = read_fluorescence(written(tmp_path / "map.h5", layout, counts))
    assert file.layout == layout
    np.testing.assert_array_equal(file.counts, counts)
    np.testing.assert_array_equal(file.i0, np.full((2, 3), 7.0))
    assert (file.row_um.tolist(), file.column_um.tolist()) == ([0.0, 0.5], [1.0, 1.5, 2.0])
    result = fit_fluorescence(file, ELEMENTS, excitation_ev=None if layout != "xrf-maps" else 9600.0)
    lines = result["element_counts"].sum("element")
    assert float((lines / counts.sum(axis=2)).min()) > 0.8
    table = write_fluorescence_table(result, tmp_path / "table.csv").read_text().splitlines()
    assert table[0].startswith("row_um,column_um,Mn_counts,Mn_counts_sigma,Co_counts")
    assert len(table) == 7
    assert float(table[1].split(",")[2]) == pytest.approx(float(result["element_counts"][0, 0, 0]), rel=1e-5)
    with h5py.File(export_nexus(result, tmp_path / "out"), "r") as stored:
        assert "element_counts" in str(list(stored["entry"]))
    assert any("element_counts" in path.name for path in export_tiff(result, tmp_path / "tiff"))
    if layout == "xrf-maps":
        with pytest.raises(CallbackError, match="does not say the energy of the beam"):
            fit_fluorescence(file, ELEMENTS)


def test_files_that_hold_no_map_are_said(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["something"] = 1
    (tmp_path / "text.h5").write_text("no")
    with h5py.File(tmp_path / "half.h5", "w") as file:
        file.create_group("xrfmap")
    for name, words in (
        ("other", "it holds something"),
        ("text", "cannot be read as HDF5"),
        ("half", "no counts"),
    ):
        with pytest.raises(DocumentError, match=words):
            read_fluorescence(tmp_path / f"{name}.h5")
