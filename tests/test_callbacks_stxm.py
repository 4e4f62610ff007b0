"""STXM from the plan to maps on the twin: state, thickness, I0, interruptions, and what bad input gives."""

import threading

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted

from beamline_plans import EnergyGrid, PlanError, dry_run, stxm_scan
from callbacks import LiveSOC, LiveSOCPlot, SOCPublisher, open_soc
from edge_fitting import EdgeFittingError, FitStatus, edge_distance, register_stack, soft_edge
from edge_fitting.profiles import ParticleShape, Profile, distance_profile, fit_diffusion
from edge_fitting.soft import Component, bare_region, edge_step_per_nm, fit_soft_stack
from scan_contract import validate_run_documents
from sim_devices import (
    SOFT_COMPONENTS,
    STXM_ENDS,
    GrainSettings,
    SimStxmBeamline,
    StxmSettings,
    soft_spectrum,
)

WAIT_S = 240
ENERGIES = (840.0, 844.0, 848.0, 850.0, *np.arange(851.0, 858.1, 0.5).tolist(), 860.0, 863.0, 867.0, 868.5)
GRID = EnergyGrid(ENERGIES, tuple(0.003 for _ in ENERGIES))
GRAINS = GrainSettings(n_grains=2, field_um=1.8, radius_nm=(300.0, 340.0))
WIDE = np.arange(800.0, 930.0, 0.1)
FORMULA = {"formula": "LiNi0.6Mn0.2Co0.2O2", "density_g_cm3": 4.75}


def components(edge="Ni_L3", energy_ev=WIDE):
    return [
        {
            "name": name,
            "energy_ev": energy_ev.tolist(),
            "normalized_mu": soft_spectrum(edge, name, energy_ev, 3000.0).tolist(),
            "valence": SOFT_COMPONENTS[edge][name].valence,
        }
        for name in STXM_ENDS[edge]
    ]


def plan(beamline, **changes):
    settings = beamline.station.settings
    asked = {
        "edge": "Ni_L3",
        "grid": GRID,
        "regions": {"size_um": [1.6, 1.6], "step_um": 0.05},
        "line": beamline.line_counter,
        "i0": beamline.mesh,
        "zone_plate": beamline.zone_plate,
        "aperture": beamline.aperture,
        "shutter": beamline.shutter,
        "focus": beamline.focus_table([800.0, 900.0]),
        "dead_time_s": settings.dead_time_s,
        "dark_hz": settings.dark_hz,
        "stray_share": settings.stray_share,
        "components": components(),
        "material": FORMULA,
        **changes,
    }
    return stxm_scan(beamline.energy, **asked)


SMALL = {
    "regions": {"size_um": [1.2, 1.2], "step_um": 0.2},
    "grid": EnergyGrid(ENERGIES[::2], tuple(0.003 for _ in ENERGIES[::2])),
}


def run(beamline, scan, *subscribers):
    documents, engine = [], RunEngine()
    with LiveSOC(subscribers=list(subscribers), update_period_s=0.0) as live:
        engine.subscribe(live)
        engine.subscribe(lambda name, doc: documents.append((name, doc)))
        uids = engine(scan)
        live.wait(WAIT_S)
        return live.latest(), documents, uids


@pytest.fixture(scope="module")
def beamline():
    return SimStxmBeamline(settings=StxmSettings(grains=GRAINS, jitter_nm=0.5))


@pytest.fixture(scope="module")
def measured(beamline):
    result, documents, _ = run(beamline, plan(beamline))
    return result, documents, beamline.truth(result["row_um"].values, result["column_um"].values)


def test_state_and_thickness_are_those_of_the_twin_within_their_sigma(measured):
    result, documents, truth = measured
    validate_run_documents(documents)
    assert not result.attrs["warnings"]
    inside = truth.thickness_nm > 75.0
    ok = inside & (result["status"].values == FitStatus.OK)
    assert ok.sum() > 0.98 * inside.sum() > 150
    error = (result["valence"].values - 2.0 - truth.state)[ok]
    pull = error / result["valence_sigma"].values[ok]
    assert abs(error.mean()) < 0.01
    assert 0.6 < np.median(np.abs(pull)) / 0.6745 < 1.5
    thick = result["thickness_nm"].values[inside & (edge_distance(truth.labels, pixel_size=50.0) > 100)]
    assert np.median(thick) == pytest.approx(80.0, rel=0.03)
    assert set(np.unique(result["status"].values[truth.thickness_nm < 0.1])) == {FitStatus.NO_EDGE}
    assert result["bare"].values.sum() > 200
    assert not result["bare"].values[truth.thickness_nm > 5].any()


def test_the_diffusivity_of_the_twin_comes_out_of_the_map(measured):
    result, _, truth = measured
    distance = edge_distance(truth.labels, pixel_size=50.0, frame_is_rim=True)
    profiles = []
    for number, radius in enumerate(truth.radius_nm, start=1):
        found = distance_profile(
            result["valence"].values - 2.0, result["valence_sigma"].values, distance,
            edges=np.arange(30.0, radius, 30.0), mask=truth.labels == number,
        )  # fmt: skip
        shape = ParticleShape("sphere", radius, "section", section_nm=80.0)
        inside = found.distance < shape.edge_nm
        points = (x[inside] for x in (found.distance, found.mean, found.standard_error))
        profiles.append(Profile(*points, shape, GRAINS.elapsed_s))
    fit = fit_diffusion(profiles)
    assert not fit.reason
    assert fit.ln_d == pytest.approx(np.log(GRAINS.diffusivity_cm2_s), abs=0.25)


def test_it_goes_to_tiled_and_back_and_into_a_picture(measured, tiled_server, tmp_path):
    result, _, _ = measured
    with SOCPublisher(tiled_server.maps) as publisher:
        publisher(result)
        publisher.wait(WAIT_S)
    back = open_soc(tiled_server.client(), result.attrs["raw_uid"])
    for name in (
        "valence",
        "valence_sigma",
        "fraction",
        "thickness_nm",
        "status",
        "row_um",
        "lines_done",
        "image",
    ):
        np.testing.assert_array_equal(back[name].values, result[name].values, err_msg=name)
        assert back[name].attrs["units"] == result[name].attrs["units"]
    picture = tmp_path / "stxm.png"
    with LiveSOCPlot(path=picture) as plot:
        plot(result)
        plot.wait(WAIT_S)
    assert picture.stat().st_size > 20_000


def test_points_spectra_and_several_regions_give_the_same_kind_of_map(beamline):
    small = [
        {"name": "a", "centre_um": [0.0, 0.0], "size_um": [1.2, 0.6], "step_um": 0.2},
        {"name": "b", "centre_um": [0.1, 0.3], "size_um": [1.0, 0.8], "step_um": 0.2},
    ]
    shapes, groups = [], set()
    for changes in (
        {"line": None, "counter": beamline.counter, "stage": beamline.stage, "order": "spectrum"},
        {"order": "spectrum", "snake": False},
    ):
        results = []
        _, documents, uids = run(
            beamline, plan(beamline, **{**SMALL, "regions": small, "open_beam": open_beam(beamline), **changes}),
            lambda result, results=results: results.append(result),
        )  # fmt: skip
        last = {result.attrs["raw_uid"]: result for result in results}
        for uid in uids:
            shapes.append(last[uid]["valence"].shape)
            groups.add(last[uid].attrs["scan_group"])
            truth = beamline.truth(last[uid]["row_um"].values, last[uid]["column_um"].values)
            middle = truth.thickness_nm > 78
            assert middle.any()
            np.testing.assert_allclose(
                last[uid]["thickness_nm"].values[middle], truth.thickness_nm[middle], atol=8.0
            )
        assert len({doc["uid"] for name, doc in documents if name == "start"}) == 2
    assert shapes == [(4, 7), (5, 6)] * 2
    assert len(groups) == 2


def open_beam(beamline):
    """Count beside the sample at each energy."""
    energies = np.arange(800.0, 930.0, 0.25)
    station, flux = beamline.station, []
    before = station.setpoint_ev, station.shutter_open
    station.shutter_open = True
    for energy_ev in energies:
        station.setpoint_ev = float(energy_ev)
        flux.append(station._flux() * (1 + station.settings.stray_share))
    station.setpoint_ev, station.shutter_open = before
    return {"energy_ev": energies.tolist(), "rate_hz": flux}


def test_an_aborted_scan_keeps_its_lines_and_one_that_resumes_it_completes_the_map(beamline):
    engine, results, uids = RunEngine(), [], []
    with LiveSOC(subscribers=[results.append], update_period_s=0.0) as live:
        engine.subscribe(live)
        taken = 0

        def stop_in_a_line(name, doc):
            nonlocal taken
            if name == "start":
                uids.append(doc["uid"])
            if name == "event":
                taken += 1
                if taken == 60:  # in the ninth image of seven lines
                    threading.Thread(target=engine.request_pause).start()

        token = engine.subscribe(stop_in_a_line)
        with pytest.raises(RunEngineInterrupted):
            engine(plan(beamline, **SMALL))
        assert beamline.shutter.position == "closed"
        engine.abort("test")
        engine.unsubscribe(token)
        live.wait(WAIT_S)
        part = live.latest()
        assert part.attrs["exit_status"] == "abort"
        assert np.isnan(part["image"].values).any()
        assert np.isfinite(part["image"].values).any()
        lacking = part.attrs["energies_lacking"]
        assert 0 < len(lacking) < len(SMALL["grid"])
        assert any("missing points" in words for words in part.attrs["warnings"])
        engine.subscribe(lambda name, doc: uids.append(doc["uid"]) if name == "start" else None)
        engine(plan(beamline, **SMALL, resumes=uids[0], take=lacking))
        live.wait(WAIT_S)
        whole = live.latest()
    assert whole.attrs["raw_uids"] == uids
    assert whole.attrs["complete"]
    assert not whole.attrs["energies_lacking"]
    assert beamline.energy.position == 850.0
    assert beamline.zone_plate.position == pytest.approx(beamline.station.focal_length_um(850.0))


def test_the_dry_run_says_time_and_dose_and_moves_nothing(beamline):
    before = beamline.zone_plate.position, beamline.energy.position
    found = dry_run(plan(beamline, **SMALL))
    n_points = 49 * len(SMALL["grid"])
    assert found.sample_exposure_s == pytest.approx(0.003 * n_points)
    assert found.time_s > found.sample_exposure_s
    assert found.frames["primary"] == 7 * len(SMALL["grid"])
    assert (beamline.zone_plate.position, beamline.energy.position) == before
    with pytest.raises(PlanError, match="The sample would be exposed"):
        dry_run(plan(beamline, **SMALL), max_sample_exposure_s=0.1)


TOUCHING = {"energy_ev": [800, 900], "zone_plate_um": [5000, 450], "aperture_um": [400, 400]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"focus": {"energy_ev": [800, 860], "zone_plate_um": [5e3, 5.8e3], "aperture_um": [4e2, 4e2]}},
         "covers 800 to 860 eV, not 863"),
        ({"focus": TOUCHING, "grid": EnergyGrid((850.0, 899.9), (0.1, 0.1))}, "nearer than 100 um"),
        ({"focus": {**TOUCHING, "aperture_um": [50, 50]}}, "nearer than 100 um"),
        ({"focus": {"energy_ev": [800, 900], "zone_plate_um": [5e3]}}, "cannot be used"),
        ({"zone_plate": None}, "give zone_plate and aperture"),
        ({"regions": []}, "regions must be a list"),
        ({"regions": {"size_um": [1.0, 1.0]}}, "needs size_um"),
        ({"regions": {"size_um": [0.01, 1.0], "step_um": 0.1}}, "no two lines"),
        ({"regions": {"size_um": [200.0, 1.0], "step_um": 0.5}}, "cannot reach"),
        ({"regions": {"size_um": [900.0, 900.0], "step_um": 0.01}}, "larger steps"),
        ({"regions": [{"name": "a", "size_um": [1, 1], "step_um": 0.5}] * 2}, "Two regions have one name"),
        ({"line": None}, "give either line or counter"),
        ({"resumes": "abc"}, "needs both the uid"),
        ({"edge": "Ni_K", "grid": EnergyGrid((8333.0,), (1.0,))}, "soft edge|out of range"),
        ({"components": [{"name": "x", "energy_ev": [1, 2], "normalized_mu": [0]}]}, "cannot be described"),
        ({"dwell_s": -1.0}, "dwell_s must be positive"),
        ({"order": "energy"}, "order must be"),
    ],
)  # fmt: skip
def test_a_raster_that_cannot_be_is_refused_before_anything_moves(beamline, changes, words):
    before = beamline.zone_plate.position, beamline.energy.position, beamline.shutter.position
    with pytest.raises(PlanError, match=words):
        dry_run(plan(beamline, **changes))
    assert (beamline.zone_plate.position, beamline.energy.position, beamline.shutter.position) == before


def test_the_optics_never_touch_on_the_way_whichever_moves():
    beamline = SimStxmBeamline(settings=StxmSettings(grains=GRAINS))
    # The aperture follows the zone plate so closely that one order of the moves would bring them together.
    energies = [800.0, 900.0]
    zone_plate = [beamline.station.focal_length_um(energy) for energy in energies]
    table = {
        "energy_ev": energies,
        "zone_plate_um": zone_plate,
        "aperture_um": [z - 120.0 for z in zone_plate],
    }
    grid = EnergyGrid((860.0, 840.0, 870.0, 835.0), (0.001,) * 4)
    RunEngine()(plan(beamline, focus=table, regions={"size_um": [0.4, 0.4], "step_um": 0.2}, grid=grid))
    assert beamline.aperture.position == 400.0


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({"grid": EnergyGrid((853.0,), (0.003,))}, {}, "there is one energy, 853.0 eV"),
        ({"components": components(energy_ev=np.arange(700.0, 800.0, 1.0))}, {}, "references cover 700.0 to 799.0 eV"),
        ({"components": []}, {}, "no references of known state"),
        ({"material": {"formula": "SiO2", "density_g_cm3": 2.2}}, {}, "SiO2 holds no Ni"),
        ({}, {"flux_hz": 1e-6, "dark_hz": 0.0}, "there is no light"),
        ({"open_beam": {"energy_ev": [830.0, 835.0], "rate_hz": [8e6, 8e6]}}, {}, "I0 is zero or unknown"),
        ({"dead_time_s": 1e-6}, {}, "count faster than a dead time"),
    ],
)  # fmt: skip
def test_what_makes_no_map_is_one_sentence_and_the_image_stays(changes, settings, words):
    beamline = SimStxmBeamline(settings=StxmSettings(grains=GRAINS, **settings))
    result, _, _ = run(beamline, plan(beamline, **{**SMALL, **changes}))
    assert any(words in said for said in result.attrs["warnings"]), result.attrs["warnings"]
    assert result["image"].shape == (7, 7)


def test_a_field_without_a_bare_pixel_is_refused_and_not_taken_as_thinner():
    edge, energy = soft_edge("Ni_L3"), np.asarray(ENERGIES)
    parts = [Component(c["name"], WIDE, np.array(c["normalized_mu"]), c["valence"]) for c in components()]
    rng = np.random.default_rng(1)
    curve = np.mean([np.interp(energy, c.energy_ev, c.normalized) for c in parts], axis=0)
    step = np.where(np.hypot(*(np.mgrid[:40, :40] - 20)) < 12, 0.15, 0.0)
    flux = 1.0 + 0.04 * np.sin(energy / 3.1)
    for least, bare in ((0.0, True), (0.06, False)):
        counts = rng.poisson(2e4 * flux[:, None, None] * np.exp(-(step + least) * (2 + curve[:, None, None])))
        if bare:
            found = bare_region(energy, counts / 1.0, counts, edge, parts)
            assert not found.pixels[step > 0].any()
        else:
            with pytest.raises(EdgeFittingError, match="the brightest pixels show the Ni_L3 edge themselves"):
                bare_region(energy, counts / 1.0, counts, edge, parts)


def test_shares_and_sigmas_of_three_components_hold_and_missing_energies_cost_no_pixel():
    edge, energy = soft_edge("Mn_L3"), np.arange(625.0, 660.0, 0.5)
    wide = np.arange(600.0, 720.0, 0.1)
    names = SOFT_COMPONENTS["Mn_L3"]
    parts = [Component(n, wide, soft_spectrum("Mn_L3", n, wide, 3000.0), names[n].valence) for n in names]
    rng, shape = np.random.default_rng(2), (30, 40)
    share = rng.dirichlet([1.0, 1.0, 1.0], shape)
    mu = np.stack([np.interp(energy, c.energy_ev, c.normalized) for c in parts])
    noise = rng.uniform(0.005, 0.02, shape)
    depth = (
        0.3 + 0.2 * np.einsum("rck,ke->erc", share, mu) + noise * rng.standard_normal((energy.size, *shape))
    )
    depth[::3, 5:9] = np.nan
    depth[:, 0, 0] = np.nan
    depth[5:, 0, 1] = np.nan
    maps = fit_soft_stack(energy, depth, np.broadcast_to(noise**2, depth.shape), parts, edge)
    assert maps.status[0, 0] == FitStatus.NO_DATA
    assert maps.status[0, 1] == FitStatus.TOO_FEW_FRAMES
    ok = maps.status == FitStatus.OK
    assert ok.sum() == ok.size - 2
    for k in range(3):
        pull = ((maps.fraction[k] - share[..., k]) / maps.fraction_sigma[k])[ok]
        assert 0.9 < np.std(pull) < 1.1
    valence = share @ np.array([c.valence for c in parts])
    assert 0.9 < np.std(((maps.state - valence) / maps.state_sigma)[ok]) < 1.1
    assert maps.misfit == pytest.approx(1.0, abs=0.05)


def test_a_real_stack_runs_through_optical_depth_registration_and_maps(shared_data):
    path = shared_data / "stacks" / "als11022_fe_l_stxm_62energies.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    held = np.load(path)
    energy, counts = held["energy_ev"].astype(float), held["counts"].astype(float)
    counts[counts <= 0] = np.nan
    edge = soft_edge("Fe_L3")
    found = bare_region(energy, counts, counts, edge)
    depth = (-np.log(counts / found.rate[:, None, None])).astype(np.float32)
    inner = depth[:, 30:110, 30:110]
    rng = np.random.default_rng(3)
    drift = np.cumsum(rng.normal(0, 0.3, (len(energy), 2)), axis=0)
    drift -= drift[0]
    from scipy.ndimage import shift

    filled = np.nan_to_num(inner)
    moved = np.stack(
        [shift(image, by, order=3, mode="nearest") for image, by in zip(filled, drift, strict=True)]
    )
    registered = register_stack(energy, moved.astype(np.float32), edge=_iron())
    error = registered.shifts_px - drift
    error -= np.median(error, axis=0)
    # The frames as stored lie within 0.08 px of each other; against them the synthetic drift is found within 0.01.
    assert np.sqrt((error**2).mean()) < 0.12
    bright = np.nanmean(inner, axis=0) > np.nanpercentile(np.nanmean(inner, axis=0), 80)
    mean = np.nanmean(inner[:, bright], axis=1)
    own = (mean - mean[:5].mean()) / max(mean[-5:].mean() - mean[:5].mean(), 1e-3)
    reference = Component("own mean", energy, own)
    variance = (1.0 / np.where(counts > 0, counts, np.nan))[:, 30:110, 30:110]
    maps = fit_soft_stack(energy, inner, variance, [reference], edge)
    ok = maps.status == FitStatus.OK
    assert 0.05 < ok.mean() < 0.6
    # Where the map says iron the white line stands out of the wings beside it.
    line = (energy > 707.0) & (energy < 711.0)
    rises = np.nanmean(inner[line], axis=0) - np.nanmean(inner[energy < 705.0], axis=0)
    assert np.nanmedian(rises[ok]) > 4 * abs(np.nanmedian(rises[~ok]))


def _iron():
    import dataclasses

    from edge_fitting import EDGES

    return dataclasses.replace(EDGES["Ni_L3"], name="Fe_L3", element="Fe", energy_ev=706.8)


def test_thickness_comes_from_tables_and_a_formula():
    edge = soft_edge("Ni_L3")
    nickel = edge_step_per_nm(edge, "Ni", 8.9)
    assert nickel == pytest.approx(8.9e-7 * 9000, rel=0.15)
    assert edge_step_per_nm(edge, "NiO", 6.67) < nickel
    with pytest.raises(EdgeFittingError, match="holds no Ni"):
        edge_step_per_nm(edge, "MnO2", 5.0)
