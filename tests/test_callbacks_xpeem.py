"""XPEEM from the plan to a map of the surface on the twin; what bad input gives."""

import numpy as np
import pytest
from bluesky import RunEngine

from beamline_plans import EnergyGrid, PlanError, dry_run, xpeem_scan
from callbacks import LiveSOC, SOCPublisher, open_soc
from edge_fitting import FitStatus
from scan_contract import validate_run_documents
from sim_devices import (
    SOFT_COMPONENTS,
    STXM_ENDS,
    GrainSettings,
    SimXpeemBeamline,
    XpeemSettings,
    soft_spectrum,
)

WAIT_S = 240
ENERGIES = (840.0, 844.0, 848.0, *np.arange(851.0, 858.1, 0.5).tolist(), 860.0, 864.0)
WIDE = np.arange(800.0, 930.0, 0.1)
GRAINS = GrainSettings(n_grains=3, field_um=2.0, radius_nm=(280.0, 340.0))


def components():
    return [
        {
            "name": name,
            "energy_ev": WIDE.tolist(),
            "normalized_mu": soft_spectrum("Ni_L3", name, WIDE, 3000.0).tolist(),
            "valence": SOFT_COMPONENTS["Ni_L3"][name].valence,
        }
        for name in STXM_ENDS["Ni_L3"]
    ]


def plan(beamline, **changes):
    asked = {
        "grid": EnergyGrid(ENERGIES, tuple(1.0 for _ in ENERGIES)),
        "sample": beamline.sample,
        "i0": beamline.mesh,
        "components": components(),
        "pixel_size_nm": beamline.pixel_size_nm,
        **changes,
    }
    return xpeem_scan(beamline.camera, beamline.energy, beamline.shutter, **asked)


def run(beamline, **changes):
    documents, engine = [], RunEngine()
    with LiveSOC(update_period_s=100.0, register=changes.pop("register", "off")) as live:
        engine.subscribe(live)
        engine.subscribe(lambda name, doc: documents.append((name, doc)))
        engine(plan(beamline, **changes))
        live.wait(WAIT_S)
        return live.latest(), documents


def made(**settings):
    return SimXpeemBeamline(
        settings=XpeemSettings(
            **{"grains": GRAINS, "shape": (50, 50), "drift_nm_per_frame": (0.0, 0.0), **settings}
        )
    )


def errors(result, truth):
    inside = (truth.thickness_nm > 0.9) & (result["status"].values == FitStatus.OK)
    return (result["valence"].values - 2.0 - truth.state)[inside], result["valence_sigma"].values[inside]


def test_the_state_of_the_surface_is_that_of_the_twin_without_a_logarithm(tiled_server):
    beamline = made()
    result, documents = run(beamline)
    validate_run_documents(documents)
    assert not result.attrs["warnings"]
    error, sigma = errors(result, beamline.truth())
    assert error.size > 300
    assert abs(error.mean()) < 0.01
    assert 0.7 < error.std() / np.median(sigma) < 1.6
    assert (beamline.shutter.position, beamline.sample.position) == ("closed", "in")
    with SOCPublisher(tiled_server.maps) as publisher:
        publisher(result)
        publisher.wait(WAIT_S)
    back = open_soc(tiled_server.client(), result.attrs["raw_uid"])
    for name in ("valence", "valence_sigma", "fraction", "status", "image"):
        np.testing.assert_array_equal(back[name].values, result[name].values, err_msg=name)


def test_the_pattern_of_the_plate_and_the_flicker_of_the_beam_go_where_they_are_measured():
    beamline = made(plate_pattern=0.2, flux_noise=0.1)
    error, _ = errors(run(beamline)[0], beamline.truth())
    bare = made(plate_pattern=0.2, flux_noise=0.1)
    result, _ = run(bare, n_flats=0, n_darks=0, i0=None)
    worse, _ = errors(result, bare.truth())
    said = " ".join(result.attrs["warnings"])
    assert "no flat frame" in said
    assert "no dark frame" in said
    assert "I0 was not measured" in said
    assert np.sqrt((worse**2).mean()) > 2.0 * np.sqrt((error**2).mean())


def test_a_slow_drift_is_taken_out():
    beamline = made(drift_nm_per_frame=(3.0, 0.0), shape=(64, 64))
    moved, _ = run(beamline)
    put_back, _ = run(made(drift_nm_per_frame=(3.0, 0.0), shape=(64, 64)), register="auto")
    truth = beamline.truth()
    assert "shift_row_px" in put_back
    before, after = (np.sqrt((errors(one, truth)[0] ** 2).mean()) for one in (moved, put_back))
    assert after < before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sample": None}, "Flats need the plain surface"),
        ({"n_darks": -1}, "Frames are counted from 0"),
        ({"grid": EnergyGrid((300.0,), (1.0,))}, "out of range"),
        ({"components": [{"name": "a"}]}, "cannot be described"),
    ],
)
def test_a_scan_that_cannot_be_is_refused_before_anything_moves(changes, words):
    with pytest.raises(PlanError, match=words):
        dry_run(plan(made(), **changes))


def test_the_dry_run_counts_frames_and_dose_and_no_light_is_said():
    found = dry_run(plan(made()))
    assert dict(found.frames) == {"dark": 5, "flat": 10, "primary": len(ENERGIES)}
    assert found.sample_exposure_s == pytest.approx(len(ENERGIES))
    beamline, dark = made(), made()  # the shutter of the other one stays closed, its mesh has no current
    with LiveSOC(update_period_s=100.0) as live:
        engine = RunEngine()
        engine.subscribe(live)
        engine(plan(beamline, i0=dark.mesh))
        live.wait(WAIT_S)
        assert any("incident intensity" in str(error) or "I0" in str(error) for error in live.errors)
