import json
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from bluesky import RunEngine
from typer.testing import CliRunner

from beamline_plans import EnergyGrid, PlanError, TimeModel, xanes_scan
from edge_fitting import EdgeFittingError
from nimco._commands import dry_run as dry_run_command
from nimco._learned_times import LearnedTimes, read_times
from nimco.errors import NimcoError
from sim_devices import SimBeamline


@pytest.fixture
def run(tmp_path):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(dry_run_command)

    def call(*args):
        result = CliRunner().invoke(
            app, ["--data-dir", str(tmp_path / "data"), *args], catch_exceptions=False, env={"COLUMNS": "200"}
        )
        return result.output

    return call


def test_it_prints_what_the_scan_would_take(run):
    output = run("--edges", "Ni,Co", "--grid", "fxi_21", "--size", "1024", "--repeats", "2")
    assert "2 edges" in output or "Ni_K, Co_K" in output
    assert "136 (10 dark, 42 flat, 84 primary)" in output
    assert f"{136 * 1024 * 1024 * 2 / 1e9:.2f} GB" in output
    assert "sample exposed 42.0 s" in output
    assert "assumed: no past scan" in output


def test_it_foretells_the_sigma_from_reference_files(run, tmp_path):
    energy = np.arange(8200.0, 8800.0)
    for soc, e0 in ((0, 8343.0), (1, 8346.0)):
        mu = 1 / (1 + np.exp(-(energy - e0)))
        np.savetxt(tmp_path / f"{soc}.txt", np.stack([energy, mu], axis=1))
    output = run("--reference", f"{tmp_path / '0.txt'}=0", "--reference", f"{tmp_path / '1.txt'}=1")
    line = next(line for line in output.splitlines() if "sigma of SOC" in line)
    value = float(next(word for word in line.replace("│", " ").split() if word.startswith("0.")))
    assert 0.0 < value < 0.1


def test_the_grid_may_be_a_file(run, tmp_path):
    EnergyGrid((8300.0, 8345.0, 8400.0), 0.2).to_csv(tmp_path / "grid.csv")
    assert "3 primary" in run("--grid", str(tmp_path / "grid.csv"), "--order", "descending")


@pytest.mark.parametrize(
    ("args", "error", "said"),
    [
        (("--edges", "Fe"), EdgeFittingError, "Fe"),
        (("--grid", "nothing"), PlanError, "ssrl_62"),
        (("--grid", "missing.csv"), PlanError, r"missing\.csv"),
        (("--repeats", "0"), PlanError, "repeats"),
        (("--max-minutes", "0.1"), PlanError, "min are left"),
        (("--max-sample-exposure-s", "1"), PlanError, "exposed"),
        (("--edges", "Ni_L3"), PlanError, "energy cannot go to"),
        (("--edges", "Ni,Co", "--reference", "a.txt=0"), NimcoError, "one edge"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(run, args, error, said):
    with pytest.raises(error, match=said) as caught:
        run(*args)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_refused(run, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10**6))
    with pytest.raises(NimcoError, match=r"need 1\.1 GB but 0\.0 GB are free"):
        run()


def test_it_uses_what_past_scans_taught(run, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    beamline = SimBeamline(shape=(16, 16), seed=1)
    run_engine = RunEngine({})
    learner = LearnedTimes(folder)
    run_engine.subscribe(learner)
    devices = (beamline.camera, beamline.energy, beamline.shutter, beamline.stage)
    run_engine(xanes_scan(*devices, edge="Ni_K", grid=EnergyGrid.preset("fxi_21", "Ni_K", exposure_s=1e-4)))
    learner.wait()
    learner.close()
    times = read_times(folder)
    # The twin waits for nothing, so that its moves take no time: far less than is assumed at first.
    assert times.stage_s < 0.1 < TimeModel().stage_s
    assert "learnt from past scans" in run("--grid", "fxi_21")


def test_a_damaged_file_is_named_and_harms_no_scan(tmp_path):
    path = tmp_path / "learned-times.json"
    path.write_text("{")
    with pytest.raises(NimcoError, match=r"learned-times\.json"):
        read_times(tmp_path)
    path.write_text(json.dumps({"stage_s": "fast"}))
    with pytest.raises(NimcoError, match=r"learned-times\.json"):
        read_times(tmp_path)
    learner = LearnedTimes(tmp_path)
    learner("start", {"uid": "a", "xanes": {}})
    learner("stop", {"run_start": "a"})
    learner.wait()
    learner.close()
    assert json.loads(path.read_text()) == {"stage_s": "fast"}
