"""Point XAS from the plan to Tiled on the twin: axis by the foil, sweeps merged, glitches, and what bad input gives."""

import csv

import numpy as np
import pytest
import xarray as xr
from bluesky import RunEngine

from beamline_plans import EnergyGrid, EnergyRegion, PlanError, dry_run, xas_scan
from callbacks import (
    ExportError,
    LiveSOC,
    LiveSOCPlot,
    SOCPublisher,
    export_athena,
    export_campaign,
    export_xdi,
    open_soc,
)
from edge_fitting import (
    EDGES,
    EdgeFittingError,
    ReferenceSeries,
    Sweep,
    SweepAxis,
    describe_spectrum,
    find_glitches,
    foil_axis,
    merge_sweeps,
    read_athena_project,
    read_text_table,
)
from nimco.testing import play
from scan_contract import validate_run_documents
from sim_devices import ChamberSettings, MonoSettings, SimBeamline, TwinSettings

WAIT_S = 240  # a cold machine compiles the kernels meanwhile
E0 = EDGES["Ni_K"].energy_ev
OFFSET_EV = 1.3
GRID = EnergyGrid.from_regions(
    [
        EnergyRegion(E0 + low, E0 + high, step, 0.5)
        for low, high, step in ((-150, -20, 15.0), (-20, 30, 0.5), (30, 100, 4.0), (100, 300, 20.0))
    ]
)
ANCHORS = {"edge_energy_ev": [8342.4, 8348.8], "valence": [2.0, 4.0], "edge_energy_sigma_ev": 0.1}


def twin(**mono):
    """A pellet of state of charge 0.6 on an axis that is off."""
    settings = TwinSettings(
        mono=MonoSettings(**{"offset_ev": OFFSET_EV, "drift_ev_per_h": 3.0, **mono}),
        chambers=ChamberSettings(noise=5e-4),
    )
    beamline = SimBeamline((16, 16), seed=4, settings=settings)
    beamline.load_standard("Ni_K", 0.6)
    return beamline


def chambers(beamline):
    return {
        "i0": beamline.i0_chamber,
        "it": beamline.it_chamber,
        "iref": beamline.iref_chamber,
        "shutter": beamline.shutter,
    }


@pytest.fixture(scope="module")
def measured():
    """Documents of three sweeps on the twin, the result of each update, and the twin."""
    beamline, told, documents = twin(), [], []
    engine = RunEngine()
    with LiveSOC(subscribers=[told.append], update_period_s=0.0) as live:
        engine.subscribe(live)
        engine.subscribe(lambda name, doc: documents.append((name, doc)))
        engine(
            xas_scan(
                beamline.energy,
                edge="Ni_K",
                grid=GRID,
                **chambers(beamline),
                sweeps=3,
                n_darks=3,
                anchors=ANCHORS,
                compared_with={"energy_ev": [8000.0, 9000.0], "normalized_mu": [0.0, 0.0], "name": "nothing"},
                md={"sample": {"name": "pellet"}},
            )
        )
        live.wait(WAIT_S)
        assert live.errors == []
        return documents, told, live.latest(), beamline


def analysed(documents):
    with LiveSOC() as live:
        play(live, documents)
        live.wait(WAIT_S)
        return live.latest()


def said(result):
    return " | ".join(result.attrs["warnings"])


def changed(documents, change, channels=None):
    """The documents with the currents of each event of the sample changed, and fewer channels."""
    out = []
    for name, doc in documents:
        if name == "start" and channels is not None:
            block = {
                **doc["xanes"],
                "channels": {r: d for r, d in doc["xanes"]["channels"].items() if r in channels},
            }
            block["devices"] = {r: d for r, d in block["devices"].items() if r in (*channels, "energy")}
            doc = {**doc, "xanes": block}
        if name == "event" and "iref_chamber" in doc["data"] and change is not None:
            data = dict(doc["data"])
            change(data)
            doc = {**doc, "data": data}
        out.append((name, doc))
    return out


def test_sweeps_are_put_on_the_foil_and_merged(measured):
    documents, told, result, beamline = measured
    validate_run_documents(documents)
    assert [doc["data"] for name, doc in documents if name == "event"][-1]["xanes_axis_sweep"] == 2
    assert result.attrs["warnings"] == []
    assert (result.attrs["n_frames"], result.attrs["frames_expected"]) == (3 * len(GRID), 3 * len(GRID))
    truth_ev = -(beamline.twin.axis_offset_ev + OFFSET_EV) / 2
    assert abs(float(result["axis_offset_ev"]) - truth_ev) < 3 * float(result["axis_offset_sigma_ev"])
    assert float(result["axis_offset_sigma_ev"]) < 0.35
    # The drift between the sweeps is found far better than any inflection.
    drift_ev = np.diff(result["sweep_offset_ev"].values)
    step_ev = (beamline.twin.axis_offset_ev - OFFSET_EV) / 3
    assert np.allclose(drift_ev, -step_ev, atol=0.03)
    edge_ev = float(np.nanmean(beamline.truth("Ni_K").edge_energy_ev)) - beamline.twin.axis_offset_ev
    # A straight line through so few points above the edge is worth 0.3 eV.
    assert abs(float(result["half_jump_ev"]) - edge_ev) < 0.3 + 3 * float(result["axis_offset_sigma_ev"])
    line = 2.0 + (float(result["half_jump_ev"]) - 8342.4) / 3.2
    assert float(result["valence"]) == pytest.approx(line, abs=1e-6)
    assert 0 < float(result["valence_sigma"]) < 0.1
    assert 0.01 < float(result["valence_systematic"]) < 0.1
    assert set(result["sweep_by_foil"].values) == {1}
    assert result.attrs["offsets"]["i0"] == pytest.approx(0.11, abs=0.01)
    assert np.allclose(result["difference"], result["normalized_mu"])
    after = result["normalized_mu"].values[result["energy_ev"].values > E0 + 150]
    # The absorption of a shell falls by a tenth over 300 eV; it is not flattened.
    assert ((after > 0.8) & (after < 1.05)).all()
    # A result exists from the second point on, and it grows.
    assert told[0].sizes["energy"] < told[-1].sizes["energy"] or told[0].attrs["n_frames"] < len(GRID)
    residual = result["sweep_deviation"].values
    assert (residual < 2.0).all()


def test_it_goes_to_tiled_and_back_and_into_a_picture(measured, tiled_server, tmp_path):
    _, _, result, _ = measured
    with SOCPublisher(tiled_server.maps) as publisher:
        publisher(result)
        publisher.wait(WAIT_S)
    xr.testing.assert_identical(open_soc(tiled_server.client(), result.attrs["raw_uid"]), result)
    assert len(LiveSOCPlot(tmp_path / "xas.png", show=False).render(result).axes) >= 3


def no_foil_light(data):
    data["iref_chamber"] = 0.0


def another_foil(data):
    ev = data["energy"]
    data["iref_chamber"] = data["it_chamber"] * np.exp(
        -0.5 - 1e-4 * (ev - E0)
    )  # a foil of another metal has no edge


def zero_i0(data):
    if 8350 < data["energy"] < 8354:
        data["i0_chamber"] *= -1e-4


def negative(data):
    data["it_chamber"] = -abs(data["it_chamber"])


@pytest.mark.parametrize(
    ("change", "channels", "words", "has_edge"),
    [
        (None, ("i0", "it"), "no foil was measured", True),
        (no_foil_light, None, "behind the foil", True),
        (another_foil, None, "not calibrated", True),
        (zero_i0, None, "zero or less", True),
        (None, ("it", "iref"), "I0 was not measured", True),
    ],
)
def test_what_is_left_of_bad_input_is_given(measured, change, channels, words, has_edge):
    documents, *_ = measured
    result = analysed(changed(documents, change, channels))
    assert words in said(result)
    assert np.isfinite(result["mu"]).all()
    assert result.attrs["final"]
    assert np.isfinite(float(result["half_jump_ev"])) == has_edge
    if channels == ("i0", "it") or change in (no_foil_light, another_foil):
        assert not result["sweep_by_foil"].any()
        # Without the foil the sweeps are still put onto one another.
        assert np.ptp(result["sweep_offset_ev"].values) > 0.1
        assert result.attrs["calibration"]["definition"] is None


def test_currents_that_are_all_negative_are_said(measured):
    documents, *_ = measured
    with LiveSOC() as live:
        play(live, changed(documents, negative))
        live.wait(WAIT_S)
        assert any("without a frame that could be fitted" in str(error) for error in live.errors)


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (lambda ev: ev < E0 - 30, "below the Ni_K edge"),
        (lambda ev: ev > E0 - 12, "edge"),
    ],
)
def test_a_scan_without_one_side_of_the_edge_says_so(measured, keep, words):
    documents, *_ = measured
    kept = [
        (name, doc)
        for name, doc in documents
        if name != "event" or "dark" in name or keep(doc["data"]["energy"])
    ]
    result = analysed(kept)
    assert words in said(result)
    assert result["mu"].size > 2
    assert np.isnan(float(result["edge_step"])) or "edge_step" in result


def test_a_reference_range_that_is_too_short_is_said():
    energy = np.arange(8200.0, 8500.0, 1.0)

    def spectrum(shift):
        return 0.5 + np.arctan((energy - 8344 - shift) / 1.5) / np.pi

    short = ReferenceSeries(energy[100:200], np.stack([spectrum(0), spectrum(2)])[:, 100:200], [0.0, 1.0])
    found = describe_spectrum(energy, spectrum(1.0), edge="Ni_K", references=short)
    assert "references cover" in " ".join(found.warnings)
    assert np.isfinite(found.positions["half_jump"].value_ev)
    found = describe_spectrum(energy[210:], spectrum(1.0)[210:], edge="Ni_K", references=short)
    assert "no state of charge" in " ".join(found.warnings)


def test_glitches_are_told_apart():
    rng = np.random.default_rng(3)
    energy = np.arange(8250.0, 8450.0, 0.5)
    mu = 0.5 + np.arctan((energy - 8344) / 2.0) / np.pi + 2e-4 * rng.standard_normal(energy.size)
    i0 = 1e5 * (1 - 1e-3 * (energy - 8250) / 200)
    i0[220:] *= 1.05  # a top-up is no glitch
    both, alone, only_i0 = [40, 41], [330, 331], [120]
    i0[both] *= 0.7
    mu[alone] += 0.05
    i0[only_i0] *= 0.9
    mu[only_i0] += np.log(0.9)
    found = find_glitches(energy, i0, mu, edge="Ni_K")
    assert np.flatnonzero(found.kind == 1).tolist() == both
    assert np.flatnonzero(found.kind == 2).tolist() == alone
    assert np.flatnonzero(found.kind == 3).tolist() == only_i0
    assert (
        not find_glitches(energy, None, mu - 0.05 * np.isin(np.arange(mu.size), alone), edge="Ni_K")
        .kind[:100]
        .any()
    )


def test_a_glitch_of_the_twin_is_left_out_and_listed():
    beamline = twin(glitch_depth=0.5, drift_ev_per_h=0.0)
    told = []
    engine = RunEngine()
    with LiveSOC(subscribers=[told.append]) as live:
        engine.subscribe(live)
        fine = EnergyGrid.from_regions([EnergyRegion(E0 - 80, E0 + 60, 0.5, 0.5)])
        engine(xas_scan(beamline.energy, edge="Ni_K", grid=fine, **chambers(beamline), n_darks=1))
        live.wait(WAIT_S)
        result = live.latest()
    assert result.sizes["glitch"] > 0
    assert set(result["glitch_kind"].values) == {1}
    assert result.sizes["energy"] + result.sizes["glitch"] == len(fine)
    assert "glitches of i0 and it" in said(result)


def test_an_odd_sweep_is_named_and_left_out():
    rng = np.random.default_rng(1)
    energy = np.arange(8200.0, 8500.0, 0.5)

    def sweep(shift=0.0, width=1.5, noise=1e-3):
        mu = 0.5 + np.arctan((energy - 8344 - shift) / width) / np.pi
        return Sweep(energy, mu + noise * rng.standard_normal(energy.size))

    sweeps = [sweep(), sweep(0.7), sweep(-1.1), sweep(width=6.0), sweep(0.2, noise=5e-3)]
    merged = merge_sweeps(sweeps, edge="Ni_K")
    assert merged.used.tolist() == [True, True, True, False, True]
    assert "sweep 4 differs" in " ".join(merged.warnings)
    offsets = [axis.offset_ev for axis in merged.axes]
    assert np.allclose(np.array(offsets)[[1, 2, 4]], [-0.7, 1.1, -0.2], atol=0.06)
    # Weighted by noise: the noisy sweep hardly counts.
    truth = 0.5 + np.arctan((merged.energy_ev - 8344) / 1.5) / np.pi
    inner = slice(20, -20)
    assert np.std((merged.mu - truth)[inner]) < 1.3 * 1e-3 / np.sqrt(3)
    assert np.median(merged.sigma) == pytest.approx(1e-3 / np.sqrt(3), rel=0.3)


def test_points_that_were_counted_longer_have_a_smaller_sigma():
    rng = np.random.default_rng(2)
    energy = np.arange(8200.0, 8500.0, 0.5)
    truth = 0.5 + np.arctan((energy - 8344) / 1.5) / np.pi
    exposure_s = np.where(energy > 8400, 4.5, 0.5)
    sigma = 2e-3 * np.sqrt(0.5 / exposure_s)
    # The second sweep is off in its counting times, too.
    sweeps = [
        Sweep(energy, truth + s * rng.standard_normal(energy.size), None, t)
        for s, t in ((sigma, exposure_s), (sigma[::-1], exposure_s[::-1]))
    ]
    merged = merge_sweeps(sweeps, edge="Ni_K", axes=[SweepAxis(), SweepAxis()])
    expected = 1 / np.sqrt(1 / sigma**2 + 1 / sigma[::-1] ** 2)
    assert np.median(merged.sigma / expected) == pytest.approx(1.0, abs=0.15)
    assert np.std((merged.mu - truth)[20:-20] / merged.sigma[20:-20]) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("dead_time_s", [2e-6, 1.2e-6])
def test_counts_become_rates_and_dead_time_is_put_right(measured, dead_time_s):
    documents, _, result, _ = measured
    per_na = 1e4  # photons a second

    def count(data):
        for key in ("i0_chamber", "it_chamber", "iref_chamber"):
            rate = per_na * max(data[key], 0.0)
            data[key] = rate / (1 + rate * 2e-6) * data["xanes_exposure_s"]

    def with_dead_times(block):
        return {**block, "dead_time_s": dict.fromkeys(("i0", "it", "iref"), dead_time_s)}

    counted = [
        (name, {**doc, "xanes": with_dead_times(doc["xanes"])} if name == "start" else doc)
        for name, doc in changed(documents, count)
    ]
    found = analysed(counted)
    assert found.attrs["dead_time_s"]["i0"] == dead_time_s
    if dead_time_s == 2e-6:
        np.testing.assert_allclose(found["mu"], result["mu"], atol=1e-6)
        assert float(found["half_jump_ev"]) == pytest.approx(float(result["half_jump_ev"]), abs=1e-3)
        assert "lost in its dead time" in said(found)
    else:
        # With a wrong dead time the spectrum is another one.
        assert np.abs(found["mu"] - result["mu"]).max() > 0.01
    slow = [
        (name, {**doc, "xanes": {**doc["xanes"], "dead_time_s": {"i0": 1e-4}}} if name == "start" else doc)
        for name, doc in counted
    ]
    with LiveSOC() as live:
        play(live, slow)
        live.wait(WAIT_S)
        assert any("without a frame that could be fitted" in str(error) for error in live.errors)


def test_the_drifting_scans_of_the_shared_project_agree(shared_data):
    path = shared_data / "spectra" / "Ni" / "larch_NiO.prj"
    groups = {group.name: group for group in read_athena_project(path)}
    scans = [g for g in groups.values() if g.label.startswith("NiO.") and g.reference in groups]
    scans = list({scan.mu.tobytes(): scan for scan in scans}.values())
    assert len(scans) == 10
    sweeps = [Sweep(scan.energy_ev, scan.mu, groups[scan.reference].mu) for scan in scans]
    merged = merge_sweeps(sweeps, edge="Ni_K", axes=[foil_axis(sweep, "Ni_K") for sweep in sweeps])
    assert np.ptp([axis.offset_ev for axis in merged.axes]) == pytest.approx(5.35, abs=0.1)
    for definition in ("half_jump", "white_line"):
        found = [
            describe_spectrum(s.energy_ev + a.offset_ev, s.mu, edge="Ni_K").positions[definition].value_ev
            for s, a in zip(sweeps, merged.axes, strict=True)
        ]
        assert np.abs(np.array(found) - np.median(found)).max() < 0.2
    # The project holds the shifts that its author chose by the same foils, to a common constant.
    theirs = np.array([scan.parameters["bkg_eshift"] for scan in scans], float)
    apart = np.array([axis.offset_ev for axis in merged.axes]) - theirs
    assert np.std(apart) < 0.1


def test_sweeps_end_when_the_edge_is_known_well_enough():
    beamline, documents = twin(drift_ev_per_h=0.0), []
    engine = RunEngine()
    engine.subscribe(lambda name, doc: documents.append((name, doc)))
    common = {"edge": "Ni_K", "grid": GRID, **chambers(beamline), "sweeps": 4}
    engine(xas_scan(beamline.energy, **common, target_sigma_ev=0.5))
    assert len([1 for name, _ in documents if name == "event"]) == len(GRID)
    result = analysed(documents)
    assert result.attrs["sweeps_needed"] == 1
    with pytest.raises(PlanError, match="i0 and it"):
        engine(xas_scan(beamline.energy, edge="Ni_K", it=beamline.it_chamber, target_sigma_ev=0.1))
    with pytest.raises(PlanError, match="shutter"):
        engine(xas_scan(beamline.energy, edge="Ni_K", it=beamline.it_chamber, n_darks=2))
    with pytest.raises(PlanError, match="2 edge energies and 1 valences"):
        engine(
            xas_scan(
                beamline.energy,
                edge="Ni_K",
                it=beamline.it_chamber,
                anchors={"edge_energy_ev": [8342.0, 8345.0], "valence": [2.0]},
            )
        )
    with pytest.raises(PlanError, match="no channel"):
        list(xas_scan(beamline.energy, **common, dead_time_s={"fy": 1e-6}))
    found = dry_run(xas_scan(beamline.energy, **common, n_darks=2))
    assert (found.frames["primary"], found.frames["dark"]) == (4 * len(GRID), 2)


def test_a_spectrum_is_written_as_xdi_and_read_back(measured, tmp_path):
    _, _, result, _ = measured
    path = export_xdi(result, tmp_path / "pellet.xdi")
    header = dict(
        line[2:].split(": ", 1)
        for line in path.read_text().splitlines()
        if line.startswith("# ") and ": " in line
    )
    assert path.read_text().startswith("# XDI/1.0")
    assert (header["Element.symbol"], header["Element.edge"]) == ("Ni", "K")
    assert header["Sample.name"] == "pellet"
    assert float(header["Nimco.half_jump_ev"]) == pytest.approx(float(result["half_jump_ev"]), abs=1e-4)
    table = read_text_table(path)
    assert np.allclose(table.values[:, 0], result["energy_ev"], atol=1e-4)
    assert np.allclose(table.values[:, 1], result["mu"], rtol=1e-7)
    assert np.allclose(table.values[:, 2], result["foil_mu"], rtol=1e-7)
    with pytest.raises(ExportError, match="no point spectrum"):
        export_xdi(result.drop_vars("mu"), tmp_path / "none.xdi")


def test_larch_reads_what_is_written(measured, tmp_path):
    io = pytest.importorskip("larch.io", reason="xraylarch is not installed")
    _, _, result, _ = measured
    path = export_xdi(result, tmp_path / "pellet.xdi")
    read = io.read_xdi(str(path))
    assert np.allclose(read.energy, result["energy_ev"], atol=1e-4)
    assert np.allclose(read.mutrans, result["mu"])
    assert np.allclose(read.murefer, result["foil_mu"])
    header = [line[2:].split(": ", 1) for line in path.read_text().partition("# ///")[0].splitlines()[1:]]
    assert len(header) > 25
    for name, value in header:
        family, _, key = name.partition(".")
        assert read.attrs[family.lower()][key.lower()] == value, name
    assert read.attrs["detector"]["i0"] == "i0_chamber"
    project = io.read_athena(str(export_athena([result], tmp_path / "pellet.prj")))
    sample, foil = (group for group in project.groups.values())
    assert np.allclose(sample.mu, result["mu"])
    assert np.allclose(foil.mu, result["foil_mu"])
    assert sample.label == "pellet"
    # What Larch makes of it with our windows is what we made of it.
    edge = EDGES["Ni_K"]
    e0 = float(result["inflection_ev"])
    pre, post = ((low - e0, high - e0) for low, high in (edge.pre_edge_ev, edge.post_edge_ev))
    xafs = pytest.importorskip("larch.xafs")
    xafs.pre_edge(sample, e0=e0, pre1=pre[0], pre2=pre[1], norm1=post[0], norm2=post[1])
    assert sample.edge_step == pytest.approx(float(result["edge_step"]), rel=1e-6)
    assert np.allclose(sample.norm, result["normalized_mu"], atol=1e-6)


def test_a_campaign_is_a_project_and_a_table(measured, tmp_path):
    _, _, result, _ = measured
    groups = read_athena_project(export_athena([result, result], tmp_path / "all.prj"))
    assert [group.name for group in groups] == ["nim0000", "ref0000", "nim0001", "ref0001"]
    assert (groups[0].label, groups[0].reference, groups[1].reference) == ("pellet", "ref0000", "nim0000")
    assert np.allclose(groups[0].mu, result["mu"])
    assert np.allclose(groups[1].mu, result["foil_mu"])
    rows = list(csv.DictReader(export_campaign([result, result], tmp_path / "all.csv").open()))
    assert len(rows) == 2
    assert rows[0]["sample"] == "pellet"
    assert float(rows[1]["valence"]) == pytest.approx(float(result["valence"]))
    for nothing in (export_athena, export_campaign):
        with pytest.raises(ExportError):
            nothing([], tmp_path / "nothing")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"1 2 3", "no Athena project"),
        (b"# Athena project file\n", "holds no spectrum"),
        (b"\x1f\x8b\x08", "read"),
    ],
)
def test_what_is_no_project_is_refused(tmp_path, content, words):
    (tmp_path / "a.prj").write_bytes(content)
    with pytest.raises(EdgeFittingError, match=words):
        read_athena_project(tmp_path / "a.prj")


def test_every_shared_project_is_read(shared_data):
    paths = sorted((shared_data / "spectra").glob("*/*.prj"))
    assert paths
    for path in paths:
        for group in read_athena_project(path):
            assert group.energy_ev.size == group.mu.size > 50
            assert group.label
