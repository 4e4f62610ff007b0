"""The command line as a user meets it: in a process of its own."""

import os
import pty
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from callbacks import open_soc
from nimco import TiledServer
from nimco._cli import _user_errors, build_app
from nimco.testing import wait_until
from sim_devices import SimBeamline

NIMCO = [sys.executable, "-c", "from nimco._cli import main; main()"]


def nimco(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NIMCO, *arguments],
        cwd=cwd,
        env={**os.environ, "MPLBACKEND": "Agg", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a refusal: exit code 2, one line, no traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("nimco: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def refused_here(*arguments: str, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The one sentence of a refusal, in this process: what main() makes of it is seen in one of its own."""
    monkeypatch.chdir(cwd)
    done = CliRunner().invoke(build_app(), list(arguments))
    assert isinstance(done.exception, _user_errors()), done.output
    sentence = str(done.exception)
    assert "\n" not in sentence
    return sentence


def run_uids(text: str) -> list[str]:
    return [line.split()[1] for line in text.splitlines() if line.startswith("run ")]


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the demo of three edges said, and where it kept its data."""
    here = tmp_path_factory.mktemp("demo")
    done = nimco("demo", "--edges", "Ni,Mn,Co", "--size", "64", "--seed", "5", "--data-dir", "data", cwd=here)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, here / "data"


@pytest.mark.slow
def test_demo_measures_fits_publishes_and_tells_where(demonstrated: tuple[str, Path]) -> None:
    said, data_dir = demonstrated
    uids = run_uids(said)
    assert "only until the scan is over; --hold keeps it" in said
    assert "nimco serve --data-dir" in said
    assert "nimco monitor --data-dir" in said
    assert "http://127.0.0.1" not in said.partition("State of charge")[2]  # the server is gone
    assert (data_dir / "live.png").stat().st_size > 10_000
    truth = SimBeamline((64, 64), seed=5).truth("Ni_K")
    with TiledServer(data_dir) as server:
        client = server.client()
        starts = [client["raw"][uid].metadata["start"] for uid in uids]
        soc = open_soc(client, uids[0])
        raw = client["raw"][uids[0]]
        assert raw.metadata["stop"]["exit_status"] == "success"
        assert raw.metadata["nimco"]["maps"] == f"maps/{uids[0]}/Ni_K"
        assert raw["primary"]["camera_image"].shape[1:] == (64, 64)
        inside = truth.mask & (truth.jump > 0.3) & np.isfinite(soc["soc"].values)
        assert inside.sum() > 100
        error = soc["soc"].values[inside] - truth.soc[inside]
        expected = soc["soc_sigma"].values[inside]
    # The published sigma must describe the published error: counting noise and nothing else to speak of.
    assert np.sqrt(np.mean((error / expected) ** 2)) < 1.5
    # Three edges are one measurement.
    assert [start["xanes"]["edge"] for start in starts] == ["Ni_K", "Mn_K", "Co_K"]
    assert len({start["scan_group"] for start in starts}) == 1


# A terminal of its own, as a shell gives it to a command.
IN_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from nimco._cli import main
main()
"""


@pytest.mark.slow
def test_in_a_terminal_the_page_of_the_demo_stays_until_enter(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = ("demo", "--technique", "xas", "--data-dir", "data")
    with (
        subprocess.Popen(
            [sys.executable, "-c", IN_TERMINAL, *command],
            cwd=tmp_path,
            env={**os.environ, "MPLBACKEND": "Agg", "COLUMNS": "200", "TERM": "dumb"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process,
    ):
        os.close(theirs)
        os.write(ours, b"\n")  # typed before: it ends nothing
        said = b""
        while b"Enter or Ctrl-C ends it" not in said:
            more = os.read(ours, 65536)
            assert more, said.decode()
            said += more
        text = said.decode().replace("\r", "")
        assert "also when the scan is over" in text
        watch, again = re.findall(r"^watch +(http\S+)", text, re.MULTILINE)
        assert watch == again
        # The process of the page starts when it is asked for.
        assert httpx.get(watch, timeout=120, follow_redirects=True, trust_env=False).status_code == 200
        os.write(ours, b"\n")
        assert process.wait(60) == 0
    os.close(ours)


def test_what_reads_makes_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (
        ["export", "abc"],
        ["report", "abc"],
        ["reanalyse", "abc"],
        ["references", "list"],
        ["monitor"],
    ):
        said = refused_here(*command, "--data-dir", "missing", cwd=tmp_path, monkeypatch=monkeypatch)
        assert "There are no data in missing" in " ".join(said.split()), command
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_replay_of_the_reference_stack(shared_data: Path, tmp_path: Path) -> None:
    stack = shared_data / "stacks" / "semireal_ni_k_particle.h5"
    done = nimco("replay", str(stack), "--data-dir", "data", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (uid,) = run_uids(done.stdout)
    with h5py.File(stack) as file:
        truth, jump = file["truth/soc"][:], file["truth/edge_jump"][:]
    with TiledServer(tmp_path / "data") as server:
        soc = open_soc(server.client(), uid)["soc"].values
    inside = jump > 0.4
    fitted = inside & np.isfinite(soc)
    assert fitted.sum() > 0.95 * inside.sum()
    assert np.sqrt(np.mean((soc - truth)[fitted] ** 2)) < 0.05
    assert "half-jump" in done.stdout


@pytest.mark.slow
def test_replay_of_a_drifting_stack_says_what_registration_brings(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = shared_data / "stacks" / "semireal_ni_k_particle_drift.h5"
    done = nimco("replay", str(stack), "--data-dir", "data", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("│") for line in done.stdout.splitlines() if line.count("│") > 2]
    figures = {cells[1].strip(): cells[2].strip() for cells in rows}
    registered, left = (
        float(figures[f"SOC error (RMS), series fit{how}, jump > 0.4"].split(",")[0])
        for how in ("", " without registration")
    )
    assert registered < 0.7 * left
    assert float(figures["shift error (RMS), common offset taken out"].split()[0]) < 0.1
    assert abs(float(figures["axis offset (eV)"].split()[0])) < 0.05
    said = refused_here(
        "replay",
        str(stack),
        "--axis-offset",
        "guess",
        "--data-dir",
        "data",
        cwd=tmp_path,
        monkeypatch=monkeypatch,
    )
    assert "--axis-offset" in said


# The scan of the sample stays in an exposure that never ends, late enough for a first map.
STUCK = """
from ophyd import DeviceStatus
import nimco._cmd_demo as demo
plan = demo.multi_edge_xanes
def stuck(camera, *arguments, **options):
    left, trigger = list(range(30)), type(camera).trigger
    type(camera).trigger = lambda self: trigger(self) if left and left.pop() is not None else DeviceStatus(self)
    return plan(camera, *arguments, **options)
demo.multi_edge_xanes = stuck
from nimco._cli import main
main()
"""


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUCK, "demo", "--size", "96", "--data-dir", "data"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg", "COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        picture = tmp_path / "data" / "live.png"
        wait_until(lambda: picture.exists() or process.poll() is not None, 600)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    assert "Stopped by Ctrl-C: what was measured (4 runs) is stored in data, what was cut short marked" in err
    (uid,) = run_uids(out)
    with TiledServer(tmp_path / "data") as server:
        client = server.client()
        assert client["raw"][uid].metadata["stop"]["exit_status"] == "abort"
        assert len(client["raw"][uid]["primary"]["energy"].read()) > 0
        assert np.isfinite(client["maps"][uid]["Ni_K"]["edge_jump"].read()).any()


def test_unknown_edge(tmp_path: Path) -> None:
    assert "no edge 'Fe'" in refused(nimco("demo", "--edges", "Fe", cwd=tmp_path))


def test_missing_truncated_and_unknown_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no file" in refused_here("replay", "none.h5", cwd=tmp_path, monkeypatch=monkeypatch)
    (tmp_path / "text.h5").write_text("not HDF5")
    assert "truncated or of another format" in refused_here(
        "replay", "text.h5", cwd=tmp_path, monkeypatch=monkeypatch
    )


def test_recording_without_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["energy_ev"] = np.linspace(8300, 8400, 5)
        file["frames"] = file["flats"] = np.full((5, 4, 4), 1000, np.uint16)
        file["dark"] = np.zeros((4, 4))
    assert "--reference" in refused_here("replay", "scan.h5", cwd=tmp_path, monkeypatch=monkeypatch)


def test_port_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refused_here("demo", "--port", str(port), cwd=tmp_path, monkeypatch=monkeypatch)
    assert str(port) in sentence


def test_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in refused_here("demo", "--data-dir", "file/data", cwd=tmp_path, monkeypatch=monkeypatch)
