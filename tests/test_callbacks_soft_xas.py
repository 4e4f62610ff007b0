"""Soft XAS from the plan to Tiled on the twin: gamma in two yields, the layer behind both, and what bad input gives."""

import csv

import h5py
import numpy as np
import pytest
import xarray as xr
from bluesky import RunEngine

from beamline_devices import DeviceError
from beamline_plans import EnergyGrid, EnergyRegion, PlanError, dry_run, soft_xas_scan
from callbacks import (
    ExportError,
    LiveSOC,
    LiveSOCPlot,
    ReadingError,
    SOCPublisher,
    export_soft_series,
    open_soc,
)
from edge_fitting import (
    SOFT_EDGES,
    Component,
    describe_yield,
    fit_components,
    reduced_layer,
    saturated,
    unsaturated,
)
from nimco.monitor import Monitor
from nimco.testing import Browser, browser_program, play
from scan_contract import validate_run_documents
from sim_devices import (
    PUBLISHED_GAMMA,
    SOFT_COMPONENTS,
    SOFT_SAMPLES,
    LayeredSample,
    SimSoftBeamline,
    SoftSettings,
    YieldDepth,
    soft_spectrum,
)

WAIT_S = 240
POWER = 3000.0
TEY, FY = YieldDepth(7.5, 0.008), YieldDepth(75.0, 0.02)
REGIONS = (
    (820, 846, 2.0),
    (846, 851, 0.5),
    (851, 860, 0.2),
    (860, 868, 0.5),
    (868, 879, 0.25),
    (879, 899, 1.0),
)
GRID = EnergyGrid.from_regions([EnergyRegion(a, b, step, 1.0) for a, b, step in REGIONS])
ENERGY = np.asarray(GRID.energies_ev)
LINE = {"Ni_L3": {"energy_ev": 853.0, "sigma_ev": 0.02, "name": "NiO L3"}}
WIDE = {"Ni_L3": np.arange(805.0, 920.0, 0.1), "O_K": np.arange(505.0, 592.0, 0.2)}


def components(edge, low=-np.inf, high=np.inf):
    x = WIDE[edge]
    x = x[(x > low) & (x < high)]
    return [
        {"name": name, "energy_ev": x.tolist(), "normalized_mu": soft_spectrum(edge, name, x, POWER).tolist()}
        | ({"valence": one.valence} if edge != "O_K" else {})
        for name, one in SOFT_COMPONENTS[edge].items()
    ]


def devices(beamline):
    return {
        "i0": beamline.mesh,
        "tey": beamline.tey,
        "fy": beamline.fy,
        "iref": beamline.reference,
        "shutter": beamline.shutter,
    }


def measure(beamline, told=None, documents=None, **options):
    """Run the plan; the last result of each edge."""
    engine, found = RunEngine(), {}
    with LiveSOC(
        subscribers=[
            (lambda r: found.update({r.attrs["edge"]: r})),
            *([told.append] if told is not None else []),
        ]
    ) as live:
        engine.subscribe(live)
        if documents is not None:
            engine.subscribe(lambda name, doc: documents.append((name, doc)))
        engine(
            soft_xas_scan(
                beamline.energy, **{"grids": {"Ni": GRID}, "n_darks": 2, **devices(beamline), **options}
            )
        )
        live.wait(WAIT_S)
        assert live.errors == []
    return found


@pytest.fixture(scope="module")
def measured():
    """Documents of a sweep over Ni and O of the charged sample, each update, the results, and the truth."""
    beamline, told, documents = SimSoftBeamline(seed=3), [], []
    beamline.load("charged")
    found = measure(
        beamline,
        told,
        documents,
        edges=["Ni_L3", "O K"],
        components={"Ni L": components("Ni_L3"), "O": components("O_K")},
        lines=LINE,
        bulk={"Ni_L3": {"valence": 3.373, "sigma": 0.02, "source": "Ni K edge"}},
        stored_axis={"offset_ev": -0.4, "sigma_ev": 0.05, "source": "N2 gas"},
        md={"sample": {"name": "charged"}},
    )
    return documents, told, found, beamline


def said(result):
    return " | ".join(result.attrs["warnings"])


@pytest.mark.parametrize("name", list(PUBLISHED_GAMMA))
def test_one_set_of_components_and_one_layer_give_the_published_table(name):
    beamline = SimSoftBeamline()
    beamline.load(name)
    truth = beamline.truth()
    for channel, published in zip(("tey", "fy"), PUBLISHED_GAMMA[name], strict=True):
        assert truth.gamma[channel] == pytest.approx(published, abs=0.006)
    # The layer is as thick for all of them, and its spectra are mixtures of the same components.
    assert truth.layer_nm == 8.0
    x = np.arange(850.0, 860.0, 0.1)
    seen = SOFT_SAMPLES[name].seen("Ni_L3", x, YieldDepth(7.5, 0.0), POWER)
    parts = SOFT_SAMPLES[name].seen_fractions("Ni_L3", YieldDepth(7.5, 0.0))
    mixture = sum(part * soft_spectrum("Ni_L3", one, x, POWER) for one, part in parts.items())
    assert np.allclose(seen, mixture, atol=1e-12)


def test_both_yields_say_gamma_valence_and_axis(measured):
    documents, told, found, beamline = measured
    starts = [place for place, (name, _) in enumerate(documents) if name == "start"]
    for place, end in zip(starts, [*starts[1:], len(documents)], strict=True):
        validate_run_documents(documents[place:end])
    result, truth = found["Ni_L3"], beamline.truth()
    assert result.attrs["n_frames"] == result.attrs["frames_expected"] == len(GRID)
    assert result.attrs["calibration"]["source"] == "line"
    offset = float(result["axis_offset_ev"])
    assert abs(offset + truth.axis_offset_ev) < 0.02 + 2 * float(result["axis_offset_sigma_ev"])
    for key in ("tey", "fy"):
        gamma, sigma = float(result[f"{key}_gamma"]), float(result[f"{key}_gamma_sigma"])
        allowed = 3 * np.hypot(sigma, float(result[f"{key}_gamma_systematic"]))
        assert abs(gamma - truth.gamma[key]) < allowed < 0.06
        assert float(result[f"{key}_gamma_window"]) == pytest.approx(truth.gamma[key], rel=0.03)
        true = truth.fractions[f"Ni_L3 {key}"]
        share = dict(zip(result.attrs["component_names"], result[f"{key}_fraction"].values, strict=True))
        assert all(abs(share[name] - true[name]) < 0.08 for name in true)
        valence = sum(v * true[n] for n, v in zip(true, (2, 3, 4), strict=True))
        assert abs(float(result[f"{key}_valence"]) - valence) < 0.02
        assert 0.6 < float(result[f"{key}_branching_ratio"]) < 0.75
    assert float(result["tey_saturation"]) == pytest.approx(TEY.saturation, abs=0.004)
    assert float(result["fy_saturation"]) == pytest.approx(FY.saturation, abs=0.005)
    delta = truth.gamma["fy"] - truth.gamma["tey"]
    assert abs(float(result["delta_gamma"]) - delta) < 0.04
    assert result.attrs["offsets"]["i0"] == pytest.approx(0.05, abs=1e-3)
    assert not told[0].attrs["final"] or told[0].attrs["n_frames"] == len(GRID)


def test_the_layer_is_a_curve_and_with_the_bulk_a_point(measured):
    _, _, found, beamline = measured
    result, truth = found["Ni_L3"], beamline.truth()
    at = int(np.argmin(np.abs(result["layer_nm"].values - truth.layer_nm)))
    fraction = float(result["layer_reduced_fraction"][at])
    allowed = 3 * float(result["layer_sigma"][at]) + float(result["layer_systematic"][at])
    assert abs(fraction - truth.reduced_fraction) < allowed
    assert np.isnan(result["layer_reduced_fraction"].values[0])  # half a nanometre cannot hold so much
    assert abs(float(result["point_nm"]) - 8.0) < 3 * float(result["point_nm_sigma"])
    assert abs(float(result["point_reduced_fraction"]) - truth.reduced_fraction) < 3 * float(
        result["point_reduced_fraction_sigma"]
    )
    alone = reduced_layer((2.5, 0.01), (3.0, 0.01), reduced_valence=2.0)
    assert np.isnan(alone.point_nm)
    assert "hard XAS" in alone.warnings[0]
    impossible = reduced_layer((3.0, 0.01), (2.5, 0.01), reduced_valence=2.0, bulk=(3.0, 0.01))
    assert "agree with no layer" in impossible.warnings[0]


def test_oxygen_says_its_oxidised_share_and_the_area_below_the_edge(measured):
    _, _, found, beamline = measured
    result, truth = found["O_K"], beamline.truth()
    assert result.attrs["calibration"] == {"axis": "stored offset: N2 gas", "source": "stored"}
    areas = []
    for key in ("tey", "fy"):
        true = truth.fractions[f"O_K {key}"]["O oxidised"]
        assert float(result[f"{key}_fraction"][1]) == pytest.approx(true, abs=0.02)
        areas.append(float(result[f"{key}_pre_edge_area"]))
    # Transitions into the holes of oxidised oxygen, of which the surface has fewer.
    assert areas[1] > areas[0] > 0.5
    assert "tey_gamma" in result
    assert np.isnan(float(result["tey_gamma"]))


def test_it_goes_to_tiled_and_back_and_into_a_picture(measured, tiled_server, tmp_path):
    _, _, found, _ = measured
    with SOCPublisher(tiled_server.maps) as publisher:
        publisher(found["Ni_L3"])
        publisher(found["O_K"])
        publisher.wait(WAIT_S)
    client = tiled_server.client()
    for edge, written in (("Ni_L3", ("Ni L3", "ni-l", "NiL3")), ("O_K", ("O K", "ok", "o"))):
        uid = found[edge].attrs["raw_uid"]
        for spelling in (None, edge, *written):
            xr.testing.assert_identical(open_soc(client, uid, spelling), found[edge])
    with pytest.raises(ReadingError, match="no edge 'F K'"):
        open_soc(client, uid, "F K")
    for edge, result in found.items():
        figure = LiveSOCPlot(tmp_path / "soft.png", show=False).render(result)
        said = [
            text.get_text()
            for axes in figure.axes
            if axes.get_legend()
            for text in axes.get_legend().get_texts()
        ]
        assert len(said) >= 4
        assert not set(said) & set(map(str, result.data_vars)), "names of variables"
        written = " ".join(text.get_text() for text in figure.texts)
        assert f"{edge.replace('_', ' ')} edge" in written
        assert " points, complete" in written


@pytest.mark.skipif(browser_program() is None, reason="no Chromium here")
def test_the_page_shows_the_curves_with_their_gaps(measured, tiled_server):
    result = measured[2]["Ni_L3"]
    names = ("tey_normalized", "tey_curve", "fy_normalized", "fy_curve")
    gaps = [bool(np.isnan(result[name].values[-1])) for name in names]
    uid = result.attrs["raw_uid"]
    with SOCPublisher(tiled_server.maps) as publisher:
        publisher(result)
        publisher.wait(WAIT_S)
    with Monitor(tiled_server.uri, api_key=tiled_server.api_key) as monitor, Browser() as browser:
        page = browser.open(monitor.browser_url)
        button = f"#list button[data-run='{uid}'][data-name='Ni_L3']"
        page.wait_for(f'document.querySelector("{button}") !== null')
        page.run(f'document.querySelector("{button}").click()')
        page.wait_for(f"nimco.about && nimco.about.uid === '{uid}' && nimco.plots.lines.data.ys.length > 0")
        ends = page.run("nimco.plots.lines.data.ys.map((curve) => Number.isNaN(curve.at(-1)))")
        colours = page.run("nimco.plots.lines.data.c")
        named = page.run("document.getElementById('spectrum-note').innerText")
        assert page.errors == []
    assert ends == gaps
    assert any(gaps)
    assert len(set(colours)) == len(colours) == 4
    assert "fit of the electron yield" in named


def test_results_are_a_series_against_the_cycle(measured, tmp_path):
    _, _, found, _ = measured
    result = found["Ni_L3"]
    sequence = [result.assign_attrs(sample={"name": f"cell {n}", "cycle": n}) for n in (50, 1, 200)]
    with export_soft_series(sequence, tmp_path / "series.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["cycle"] for row in rows] == ["1", "50", "200"]
    reduced = rows[0]["tey_fraction Ni2+"]
    assert float(reduced) == pytest.approx(float(result["tey_fraction"][0]))
    assert float(rows[0]["delta_gamma_sigma"]) == pytest.approx(float(result["delta_gamma_sigma"]))
    with pytest.raises(ExportError, match="at least one"):
        export_soft_series([], tmp_path / "none.csv")
    with pytest.raises(ExportError, match="not of soft XAS"):
        export_soft_series([result.assign_attrs(spec="NimcoXAS")], tmp_path / "none.csv")


def test_two_in_three_sigmas_of_gamma_hold_the_truth():
    rng = np.random.default_rng(7)
    sample = SOFT_SAMPLES["charged"]
    clean = 0.6 + sample.seen("Ni_L3", ENERGY, TEY, POWER)
    truth = sample.gamma(TEY, POWER)
    inside = 0
    for _ in range(200):
        found = describe_yield(ENERGY, clean * (1 + 0.02 * rng.standard_normal(ENERGY.size)), edge="Ni_L3")
        inside += abs(found.gamma.value - truth) < found.gamma.sigma
    # 68 % with the scatter of 200 scans.
    assert 0.60 < inside / 200 < 0.76


@pytest.mark.parametrize(
    ("edge", "low_ev", "parts"),
    [
        ("Mn_L3", 630.0, {"Mn2+": 0.25, "Mn3+": 0.3, "Mn4+": 0.45}),
        ("Co_L3", 770.0, {"Co2+": 0.35, "Co3+": 0.65}),
        ("Ni_L3", 843.0, {"Ni2+": 0.4, "Ni3+": 0.35, "Ni4+": 0.25}),
    ],
)
def test_two_in_three_sigmas_of_the_fractions_hold_the_truth(edge, low_ev, parts):
    rng = np.random.default_rng(3)
    x = np.arange(low_ev, low_ev + 36.0, 0.2)
    states = [
        Component(name, x, soft_spectrum(edge, name, x, POWER), one.valence)
        for name, one in SOFT_COMPONENTS[edge].items()
    ]
    clean = 0.6 + 1e-3 * (x - low_ev) + sum(parts[one.name] * one.normalized for one in states)
    valence = sum(parts[one.name] * one.valence for one in states)
    n_scans, within, off, sigma = 100, 0, [], []
    for _ in range(n_scans):
        noisy = clean * (1 + 0.02 * rng.standard_normal(x.size))
        found = fit_components(x, noisy, clean / clean.mean(), states, SOFT_EDGES[edge], saturation=0.0)
        off.append([found.fractions[name] - part for name, part in parts.items()])
        sigma.append([found.sigma[name] for name in parts])
        within += abs(found.valence - valence) < found.valence_sigma
    off, sigma = np.array(off), np.array(sigma)
    inside = np.mean(np.abs(off) < sigma, axis=0)
    # 68 % with the scatter of 100 scans, three standard deviations of it.
    assert ((inside > 0.53) & (inside < 0.83)).all()
    assert 0.53 < within / n_scans < 0.83
    assert (np.abs(off.mean(axis=0)) < 0.35 * off.std(axis=0)).all()


def test_saturation_is_found_and_what_it_does_to_gamma_is_said():
    sample, strong = SOFT_SAMPLES["chemically delithiated"], YieldDepth(75.0, 0.15)
    y = 0.6 + sample.seen("Ni_L3", ENERGY, strong, POWER)
    y *= 1 + 0.003 * np.random.default_rng(1).standard_normal(ENERGY.size)
    parts = [
        Component(c["name"], np.array(c["energy_ev"]), np.array(c["normalized_mu"]), c["valence"])
        for c in components("Ni_L3")
    ]
    found = describe_yield(ENERGY, y, edge="Ni_L3", channel="fy", components=parts)
    assert found.saturation.value == pytest.approx(0.15, abs=0.03)
    assert "saturation moves gamma" in " ".join(found.warnings)
    without = sample.gamma(YieldDepth(75.0, 0.0), POWER)
    assert found.gamma.value < without
    assert found.gamma_shift == pytest.approx(sample.gamma(strong, POWER) - without, rel=0.4)
    assert np.allclose(unsaturated(saturated([0.0, 1.0, 7.0], 0.1), 0.1), [0.0, 1.0, 7.0])


def test_sweeps_on_a_line_of_their_own_are_averaged():
    beamline = SimSoftBeamline(settings=SoftSettings(noise=0.01))
    beamline.load("charged")
    found = measure(beamline, edges=["Ni_L3"], sweeps=3, lines=LINE)["Ni_L3"]
    once = measure(beamline, edges=["Ni_L3"], lines=LINE)["Ni_L3"]
    assert found.attrs["n_frames"] == 3 * len(GRID)
    for key in ("tey", "fy"):
        better = float(once[f"{key}_gamma_sigma"]) / float(found[f"{key}_gamma_sigma"])
        assert 1.3 < better < 2.4
        error = abs(float(found[f"{key}_gamma"]) - beamline.truth().gamma[key])
        assert error < 3.5 * float(found[f"{key}_gamma_sigma"])
    assert abs(float(found["axis_offset_ev"]) + 0.4) < 0.05


def test_the_structure_of_the_mesh_is_divided_out():
    settings = SoftSettings(mesh_structure=0.3, noise=1e-3, offset_ev=0.0)
    beamline = SimSoftBeamline(settings=settings)
    x = WIDE["O_K"]
    mesh = {"energy_ev": x.tolist(), "normalized_mu": beamline.station.mesh_response(x).tolist()}
    parts = {"O_K": components("O_K")}
    common = {"edges": ["O_K"], "components": parts, "grids": None}
    raw = measure(beamline, **common)["O_K"]
    cleaned = measure(beamline, **common, mesh=mesh)["O_K"]
    true = beamline.truth().fractions["O_K fy"]["O oxidised"]
    assert abs(float(cleaned["fy_fraction"][1]) - true) < 0.02
    assert abs(float(raw["fy_fraction"][1]) - true) > 0.04
    assert cleaned.attrs["parameters"]["mesh_structure_divided_out"]


def zero_i0(data):
    if 880 < data["soft_energy"] < 884:
        data["soft_mesh"] = 0.04


def negative(data):
    data["soft_tey"] = -data["soft_tey"]


def clipped(data):
    data["soft_fy"] = min(data["soft_fy"], 0.05)


def no_line(data):
    data["soft_reference"] = 0.1


@pytest.mark.parametrize(
    ("change", "words", "key", "within"),
    [
        (zero_i0, "currents of the incident intensity are zero or less", "tey_gamma", 0.04),
        (negative, "their sign is turned", "tey_gamma", 0.03),
        (clipped, "the fluorescence yield is saturated", "tey_gamma", 0.03),
        (no_line, "no line within 4 eV", "tey_gamma", 0.03),
        (lambda data: data["soft_energy"] > 849.5 or None, "no pre-edge", "tey_gamma", 0.12),
        (lambda data: data["soft_energy"] < 862 or None, "ends before the level above L2", "tey_gamma", 0.06),
        (lambda data: data["soft_energy"] < 848 or None, "below the Ni_L3 edge", None, 0),
    ],
)
def test_what_is_left_of_bad_input_is_given(measured, change, words, key, within, tmp_path):
    documents, *_, beamline = measured
    changed, run = [], None
    for name, doc in documents:
        run = doc["uid"] if name == "start" and run is None else run
        if name == "start" and doc["uid"] != run:
            break
        if name == "event" and doc["data"]["soft_mesh"] > 0.3:
            data = dict(doc["data"])
            keep = change(data)
            if keep is None and change.__name__ == "<lambda>":
                continue
            doc = {**doc, "data": data}
        changed.append((name, doc))
    with LiveSOC() as live:
        play(live, changed)
        live.wait(WAIT_S)
        result = live.latest()
    assert words in said(result)
    assert result.attrs["final"]
    assert result.sizes["energy"] > 10
    if key is None:
        # What there is of it has a picture too.
        assert LiveSOCPlot(tmp_path / "below.png", show=False).render(result).axes
    else:
        assert float(result[key]) == pytest.approx(beamline.truth().gamma[key[:3]], abs=within)


def test_references_that_are_too_short_are_said_and_used_as_far_as_they_go():
    x, rng = ENERGY, np.random.default_rng(0)
    y = 0.6 + SOFT_SAMPLES["charged"].seen("Ni_L3", x, TEY, POWER) * (1 + 0.002 * rng.standard_normal(x.size))

    def fit(low, high):
        parts = [
            Component(c["name"], np.array(c["energy_ev"]), np.array(c["normalized_mu"]), c["valence"])
            for c in components("Ni_L3", low, high)
        ]
        return describe_yield(x, y, edge="Ni_L3", components=parts)

    some, none = fit(845, 865), fit(845, 856)
    assert "are not in the linear combination" in " ".join(some.warnings)
    assert some.components.fractions["Ni2+"] == pytest.approx(0.34, abs=0.1)
    assert "which is not the white line" in " ".join(none.warnings)
    assert none.components is None
    assert np.isfinite(none.gamma.value)


def test_an_edge_that_overlaps_is_left_out_and_named():
    x = np.concatenate(
        [np.arange(615.0, 638.0, 1.0), np.arange(638.0, 665.0, 0.2), np.arange(665.0, 706.0, 1.0)]
    )
    y = 0.5 + soft_spectrum("Mn_L3", "Mn4+", x, POWER)
    fluorine = y + 4.0 / (1 + np.exp(-(x - 690.0)))
    clean, found = describe_yield(x, y, edge="Mn_L3"), describe_yield(x, fluorine, edge="Mn_L3")
    assert "F K edge" in " ".join(found.warnings)
    assert found.energy_ev.max() <= 684.0
    assert found.gamma.value == pytest.approx(clean.gamma.value, rel=0.01)


def test_requests_that_make_no_sense_are_refused_before_anything_moves():
    beamline = SimSoftBeamline()
    have = devices(beamline)
    for options, words in (
        ({"edges": ["Cu_L3"]}, "no soft edge"),
        ({"edges": []}, "list of soft edges"),
        ({"edges": ["Ni_L3", "ni l"]}, "named twice"),
        ({"tey": None, "fy": None}, "no yield to measure"),
        ({"lines": LINE, "iref": None}, "needs its signal"),
        ({"grids": {"Ni_L3": EnergyGrid((8333.0,))}}, "out of range"),
        ({"edges": ["Ni_L3", "O_K"], "components": {"O_K": [{"name": "O"}]}}, "cannot be described"),
        ({"n_darks": 2, "shutter": None}, "shutter"),
    ):
        with pytest.raises((PlanError, ValueError), match=words):
            list(soft_xas_scan(beamline.energy, **{**have, **options}))
    short = {"energies_ev": [770.0, 778.0], "exposure_s": 1.0}
    plan = soft_xas_scan(
        beamline.energy,
        edges=["Ni_L3", "Co_L3"],
        grids={"ni": GRID, "co": short},
        n_darks=3,
        sweeps=2,
        **have,
    )
    found = dry_run(plan)
    assert (found.frames["dark"], found.frames["primary"]) == (6, 2 * len(GRID) + 4)
    with pytest.raises(DeviceError, match="cannot be reduced"):
        LayeredSample("none", 3.0, 8.0, 1.5)


def test_real_yields_of_iron_have_a_white_line_and_two_maxima(shared_data):
    for number in (3, 4):
        with h5py.File(shared_data / "files" / f"i06_fe_l_tey_tfy_23646{number}.nxs") as file:
            energy, tey, tfy = (file[f"entry/raw/{name}"][()] for name in ("energy", "tey", "tfy"))
        order = np.argsort(energy)
        for channel, values in (("tey", tey), ("fy", tfy)):
            found = describe_yield(energy[order], values[order], edge="Fe_L3", channel=channel)
            assert found.has_white_line, channel
            assert 705 < found.low_ev.value < found.high_ev.value < 713
            assert 0 < found.gamma.value < 10
