"""Rotation series of the twin from the plan to Tiled: the volume against the truth, parts of it, what goes wrong."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from scipy.ndimage import binary_erosion

from beamline_plans import EnergyGrid, RunLedger, resume_tomography, tomography_scan
from callbacks import (
    LiveSOC,
    LiveSOCPlot,
    SOCPublisher,
    TomographySettings,
    open_soc,
    tomography_technique,
)
from callbacks.errors import CallbackError
from edge_fitting import FitStatus, ReferenceSeries
from nimco.testing import close_run_engine, play
from sim_devices import SimBeamline, TwinSettings, VolumeSettings

SIZE, N_ANGLES, OFFSET_PX = 24, 18, 0.7
ENERGIES_EV = (*np.arange(8273.0, 8320.0, 20.0), *np.arange(8332.0, 8362.0, 2.0), 8380.0, 8420.0)
GRID = EnergyGrid(ENERGIES_EV, (2.0,) * len(ENERGIES_EV))
VOLUME = VolumeSettings(
    n_particles=2, radius=(0.2, 0.28), axis_offset_px=OFFSET_PX, wide_cracks=0.0, fine_cracks=0.0, shell_excess=0.05
)  # fmt: skip
WAIT_S = 240


@pytest.fixture(scope="module")
def references():
    """Spectra of pellets, without noise."""
    beamline = SimBeamline((8, 8), settings=TwinSettings.ideal())
    twin, states = beamline.twin, np.linspace(0.0, 1.0, 5)
    energies_ev = np.unique(np.r_[EnergyGrid.preset("default", "Ni_K").energies_ev, ENERGIES_EV])
    dark = twin.settings.camera.offset
    spectra = np.empty((states.size, energies_ev.size))
    twin.shutter_open = True
    for row, soc in zip(spectra, states, strict=True):
        beamline.load_standard("Ni_K", soc)
        for k, energy_ev in enumerate(energies_ev):
            twin.energy_ev = float(energy_ev)
            light = []
            for twin.sample_in in (False, True):
                light.append(float(np.mean(twin.expose(3.0) - dark)))
            row[k] = np.log(light[0] / light[1])
    return ReferenceSeries(energies_ev, spectra, states)


@pytest.fixture(scope="module")
def beamline():
    made = SimBeamline((SIZE, SIZE))
    made.load_volume(VOLUME)
    return made


def devices(beamline):
    return beamline.camera, beamline.energy, beamline.shutter, beamline.stage, beamline.stage.rotation


def series(beamline, references, **options):
    options = {"n_angles": N_ANGLES, "n_flats": 8, "n_darks": 2, "grid": GRID, **options}
    return tomography_scan(
        *devices(beamline),
        edge="Ni_K",
        i0=beamline.i0,
        references=None if references is None else references.to_dict(),
        pixel_size_nm=beamline.pixel_size_nm,
        **options,
    )


def analysed(documents, **options):
    """Result of documents, and the signals of the updates on the way."""
    seen = []
    with LiveSOC(subscribers=[seen.append], update_period_s=0.0, **options) as live:
        play(live, documents)
        live.wait(WAIT_S)
        assert not live.errors, live.errors
        return live.latest(), seen


def played(plan, *more, stop_at=None):
    engine, documents, saved = RunEngine(), [], [0]

    def hook(msg):
        saved[0] += msg.command == "save"
        if saved[0] == stop_at and msg.command == "save":
            engine.loop.create_task(engine._request_pause_coro(False))

    engine.msg_hook = hook
    engine.subscribe(lambda name, doc: documents.append((name, doc)))
    for consumer in more:
        engine.subscribe(consumer)
    with contextlib.suppress(RunEngineInterrupted):
        engine(plan)
    if stop_at is not None:
        engine.abort()
    close_run_engine(engine)
    return documents


@pytest.fixture(scope="module")
def measured(beamline, references, tiled_server, tmp_path_factory):
    """A series with the energies outside, live into a Tiled server; its documents, results and picture."""
    folder = tmp_path_factory.mktemp("tomography")
    picture, seen = folder / "live.png", []
    with (
        SOCPublisher(tiled_server.client()["maps"]) as publisher,
        LiveSOCPlot(picture, show=False) as plot,
        LiveSOC(subscribers=[publisher, plot, seen.append], update_frames=100) as live,
    ):
        documents = played(series(beamline, references), live)
        live.wait(WAIT_S)
        publisher.wait(WAIT_S)
        plot.wait(WAIT_S)
        assert not live.errors, live.errors
        result = live.latest()
    return documents, result, seen, picture


def bulk(beamline):
    truth = beamline.volume_truth("Ni_K")
    return truth, binary_erosion((truth.density > 0.85) & np.isfinite(truth.soc), iterations=2)


def error_of(result, beamline):
    truth, inside = bulk(beamline)
    found = inside & np.isfinite(result["soc"].values)
    assert found.sum() > 0.95 * inside.sum() > 100
    return (result["soc"].values - truth.soc)[found], result["soc_sigma"].values[found]


def test_the_volume_is_the_truth_within_sigma(measured, beamline):
    _, result, seen, _ = measured
    error, sigma = error_of(result, beamline)
    assert abs(error.mean()) < 0.01
    assert np.sqrt(np.mean(error**2)) < 1.5 * np.sqrt(np.mean(sigma**2))
    assert result.attrs["centre_px"] == pytest.approx(0.5 * (SIZE - 1) + OFFSET_PX, abs=0.05)
    assert result.attrs["warnings"] == []
    assert (result.attrs["complete"], result.attrs["technique"]) == (True, "tomography")
    assert result.attrs["voxel_size_nm"] == pytest.approx(beamline.pixel_size_nm)
    truth, inside = bulk(beamline)
    ratio = result["edge_jump"].values[inside] / truth.edge_jump[inside]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.05)
    # The other phase has no nickel, air has nothing.
    status = result["status"].values
    assert (status[truth.density + truth.other < 0.01] == FitStatus.NO_DATA).mean() > 0.9
    core = binary_erosion(truth.other > 0.9, iterations=1)
    assert core.any()
    assert (status[core] == FitStatus.OK).mean() < 0.05
    # Before the end there was a volume of fewer energies.
    early = [one for one in seen if not one.attrs["final"] and one.attrs["signal"] == "soc"]
    assert early
    assert early[0].attrs["n_frames"] < result.attrs["n_frames"]
    assert set(result["angle_n_frames"].values) == {len(ENERGIES_EV)}


def test_what_tiled_gives_back_is_the_volume(measured, tiled_server):
    documents, result, _, picture = measured
    client = tiled_server.client()
    uid = documents[0][1]["uid"]
    back = open_soc(client, uid)
    assert set(back.variables) == set(result.variables)
    for name, variable in result.variables.items():
        assert back[name].dims == variable.dims
        np.testing.assert_array_equal(back[name].values, variable.values)
    assert back.attrs["spec"] == "NimcoTomography"
    node = client["maps"][uid]["Ni_K"]["soc"]
    np.testing.assert_array_equal(node[SIZE // 2], result["soc"].values[SIZE // 2])
    assert picture.stat().st_size > 10_000


def test_with_the_angles_outside_each_projection_is_known_at_once(beamline, references):
    documents = played(series(beamline, references, nesting="angle_outer", n_angles=4))
    result, seen = analysed(documents, update_frames=len(ENERGIES_EV))
    first = next(one for one in seen if one.attrs["n_frames"] >= len(ENERGIES_EV))
    assert first.attrs["signal"] == "projected_soc"
    assert first.attrs["projected_angle_deg"] == 0.0
    beamline.stage.rotation.set(0.0).wait()
    truth = beamline.truth("Ni_K")
    inside = binary_erosion(truth.jump > 0.15, iterations=1)
    error = first["projected_soc"].values[inside] - truth.soc[inside]
    assert np.nanmedian(np.abs(error)) < 0.03
    assert "soc" in result


def test_an_aborted_series_goes_on_where_it_was(beamline, references, measured):
    ledger = RunLedger()
    first = played(series(beamline, references), stop_at=300)
    ledger.add_documents(first)
    rest = played(
        resume_tomography(*devices(beamline), uid=first[0][1]["uid"], archive=ledger, i0=beamline.i0)
    )
    result, _ = analysed([*first, *rest])
    assert result.attrs["raw_uids"] == [first[0][1]["uid"], rest[0][1]["uid"]]
    assert result.attrs["n_frames"] == result.attrs["frames_expected"] == N_ANGLES * len(ENERGIES_EV)
    error, sigma = error_of(result, beamline)
    assert np.sqrt(np.mean(error**2)) < 1.5 * np.sqrt(np.mean(sigma**2))
    half, _ = analysed(first)
    assert not half.attrs["complete"]
    assert "missing" in " ".join(half.attrs["warnings"])
    assert np.isfinite(half["soc"].values).any()


def test_one_energy_gives_the_morphology(beamline):
    one = EnergyGrid((8400.0,), (2.0,))
    result, _ = analysed(played(series(beamline, None, grid=one)))
    truth, inside = bulk(beamline)
    assert result.attrs["signal"] == "attenuation"
    assert result.attrs["warnings"] == []
    assert "soc" not in result
    depth = result["attenuation"].values
    assert np.median(depth[inside]) > 10 * np.median(np.abs(depth[truth.density + truth.other < 0.01]))
    few = EnergyGrid(ENERGIES_EV[:3], (2.0,) * 3)
    several, _ = analysed(played(series(beamline, None, grid=few, n_angles=5)))
    assert "no references" in " ".join(several.attrs["warnings"])


def test_interleaved_angles_give_a_volume(beamline, references):
    result, _ = analysed(played(series(beamline, references, interleaved=True, n_angles=10)))
    error, sigma = error_of(result, beamline)
    assert abs(np.median(error)) < 0.03
    assert result.attrs["parameters"]["interleaved"]
    assert np.isfinite(sigma).all()


def test_energies_without_flats_and_lost_angles_are_told(measured, beamline, references):
    documents, whole, _, _ = measured
    streams = {doc["uid"]: doc["name"] for name, doc in documents if name == "descriptor"}

    def kept(name, doc):
        if name != "event":
            return True
        stream, data = streams[doc["descriptor"]], doc["data"]
        if stream == "flat":
            return data["xanes_energy_index"] != 6
        # Nothing at one angle, and no more than a few energies at another.
        return stream != "primary" or not (
            data["xanes_axis_angle_deg"] == 3
            or (data["xanes_axis_angle_deg"] == 5 and data["xanes_energy_index"] > 4)
        )

    result, _ = analysed([item for item in documents if kept(*item)])
    said = " ".join(result.attrs["warnings"])
    assert "no flat field of" in said
    assert "frames are missing" in said
    assert "1 angles are left out" in said
    error, _ = error_of(result, beamline)
    assert np.sqrt(np.mean(error**2)) < 3.0 * np.sqrt(np.mean(error_of(whole, beamline)[0] ** 2))


def test_rings_are_taken_out_where_it_is_asked_for(measured, beamline):
    pytest.importorskip("algotom", reason="algotom is not installed")
    documents, whole, _, _ = measured
    technique = tomography_technique(TomographySettings(filter_name="ramp", clean_up="sorting"))
    result, _ = analysed(documents, techniques=(technique,))
    assert result.attrs["parameters"]["clean_up"] == "sorting"
    found = np.isfinite(result["soc"].values) & bulk(beamline)[1]
    # On so small a sinogram the clean-up takes structure for stripes: it is what was asked for.
    assert found.any()
    assert not np.array_equal(result["attenuation"].values, whole["attenuation"].values)
    given = tomography_technique(TomographySettings(centre_px=9.0))
    wrong, _ = analysed(documents, techniques=(given,))
    assert wrong.attrs["centre_px"] == 9.0
    worse, _ = error_of_any(wrong, beamline)
    assert worse > 2.0 * np.sqrt(np.mean(error_of(whole, beamline)[0] ** 2))
    with pytest.raises(CallbackError, match="clean_up"):
        tomography_technique(TomographySettings(clean_up="scrub"))


def error_of_any(result, beamline):
    truth, inside = bulk(beamline)
    found = inside & np.isfinite(result["soc"].values)
    return float(np.sqrt(np.mean((result["soc"].values - truth.soc)[found] ** 2))), found


@pytest.mark.slow
def test_the_demonstration_compares_with_the_truth(tmp_path):
    command = ("demo", "--technique", "tomography", "--size", "32", "--data-dir", "data", "--no-hold")
    done = subprocess.run(
        [sys.executable, "-c", "from nimco._cli import main; main()", *command],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        cells = [cell.strip() for cell in line.strip("│ ").split("│")]
        if len(cells) == 2:
            found[cells[0]] = cells[1]
    axis = float(found["axis of rotation found (px from the middle)"])
    assert axis == pytest.approx(float(found["axis of rotation, truth"]), abs=0.05)
    assert float(found["SOC error (RMS), bulk"]) < 2.0 * float(found["sigma (median), bulk"]) + 0.01
    assert (tmp_path / "data" / "live.png").stat().st_size > 10_000
