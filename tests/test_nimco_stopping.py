"""Ctrl-C and SIGTERM, sent to a real process at several moments of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from callbacks import RawRunWriter
from nimco import TiledServer
from nimco.testing import wait_until

NIMCO = [sys.executable, "-u", "-c", "from nimco._cli import main; main()"]
# What a process prints when it gets to a moment that nothing of its own output marks.
MARK = """
import sys, threading
from {module} import {owner} as owner
original = owner.{name}
def marked(*arguments, **options):
    if threading.current_thread() is threading.main_thread():
        print("MARK", flush=True)
    return original(*arguments, **options)
owner.{name} = marked
from nimco._cli import main
main()
"""


def marked(module: str, owner: str, name: str) -> list[str]:
    return [sys.executable, "-u", "-c", MARK.format(module=module, owner=owner, name=name)]


def stop(command, *arguments, cwd, at, number=signal.SIGINT, times=1):
    """Run a command, send a signal when a line of its output begins with a mark; return code and output."""
    with subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "MPLBACKEND": "Agg", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        seen = []
        for line in process.stdout:
            seen.append(line)
            if at in line:
                break
        else:
            pytest.fail(f"{at!r} was never printed: {''.join(seen)} {process.stderr.read()}")
        for _ in range(times):
            process.send_signal(number)
        out, err = process.communicate(timeout=600)
    return process.returncode, "".join(seen) + out, err


def sentence(code, err, expected=130):
    assert code == expected, err
    assert "Traceback" not in err, err
    assert "Exception ignored" not in err, err
    said = [line for line in err.splitlines() if line.startswith("nimco: Stopped by ")]
    assert len(said) == 1, err
    return said[0]


def assert_no_server_is_left(data_dir: Path) -> None:
    """The lock is free and no process serves the directory."""

    def left():
        command = ["pgrep", "-f", f"_server_process.py {data_dir.resolve()}"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()

    wait_until(lambda: not left(), 20, f"the end of the server on {data_dir}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "at", "number", "kept"),
    [
        (
            marked("nimco._server", "TiledServer", "_wait_until_ready"),
            "MARK",
            signal.SIGTERM,
            "nothing was measured",
        ),
        (marked("nimco._session", "Session", "start"), "MARK", signal.SIGINT, "nothing was measured"),
        (NIMCO, "Tiled server at", signal.SIGINT, ""),
        (
            marked("callbacks.techniques._live_soc", "LiveSOC", "wait"),
            "MARK",
            signal.SIGTERM,
            "(4 runs) is stored in data, what was cut short marked",
        ),
        (
            marked("nimco._session", "Session", "close"),
            "MARK",
            signal.SIGINT,
            "(4 runs) is stored in data; nothing waits",
        ),
        (
            marked("nimco._server", "TiledServer", "close"),
            "MARK",
            signal.SIGINT,
            "(4 runs) is stored in data; nothing waits",
        ),
    ],
    ids=["server starts", "kernels compile", "scan", "fit", "session closes", "server closes"],
)
def test_the_demo_is_stopped_at_any_moment(tmp_path, command, at, number, kept):
    code, _, err = stop(
        command, "demo", "--size", 32, "--data-dir", "data", cwd=tmp_path, at=at, number=number
    )
    said = sentence(code, err)
    assert ("Ctrl-C" if number == signal.SIGINT else "SIGTERM") in said
    assert "nothing waits in data/spool" in said
    assert kept in said
    assert_no_server_is_left(tmp_path / "data")
    if not kept:
        with TiledServer(tmp_path / "data") as server:
            for run in server.raw.values():
                assert run.metadata["stop"]["exit_status"] in ("success", "abort")


@pytest.mark.slow
def test_every_other_command_is_stopped_alike(tmp_path, scan_documents, tiled_server):
    scan = scan_documents((32, 32))
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["energy_ev"] = scan.energies_ev
        file["frames"] = np.stack([scan.frame(index) for index in range(scan.energies_ev.size)])
        file["flats"] = np.stack([scan.flat() for _ in scan.energies_ev])
        file["dark"] = scan.dark
    spectra = []
    for state in (0.0, 1.0):
        energy = np.arange(8240, 8520, 0.5)
        path = tmp_path / f"{state}.txt"
        np.savetxt(path, np.c_[energy, scan.spectrum(energy, state)])
        spectra += ["--reference", f"{path}={state}"]
    with RawRunWriter(tiled_server.raw, spool_dir=tmp_path / "spool") as writer:
        documents = scan.run()
        for name, doc in documents:
            writer(name, doc)
        writer.wait(120)
    uid = documents[0][1]["uid"]
    here = ("--tiled", tiled_server.uri, "--api-key-file", tiled_server.key_path)

    replay = ("replay", "scan.h5", *spectra, "--edge", "Ni", "--data-dir", "data")
    for command in (
        marked("callbacks.documents._worker", "DocumentWorker", "__call__"),  # the frames are fed
        marked("nimco._session", "Session", "close"),
    ):
        code, _, err = stop(command, *replay, cwd=tmp_path, at="MARK")
        said = sentence(code, err)
        assert "what was measured (1 run) is stored in data" in said
        assert "nothing waits in data/spool" in said
    assert_no_server_is_left(tmp_path / "data")

    code, _, err = stop(
        marked("callbacks.techniques._stack_fit", "StackFit", "fit"),
        "reanalyse",
        uid,
        *here,
        cwd=tmp_path,
        at="MARK",
    )
    assert "0 of the results are in Tiled, and what was read and fitted is kept in" in sentence(code, err)

    code, _, err = stop(
        NIMCO, "serve", "--port", 0, "--data-dir", "served", cwd=tmp_path, at="serving ", times=2
    )
    assert "what it held stays in served" in sentence(code, err)
    assert_no_server_is_left(tmp_path / "served")


def test_while_modules_are_imported_it_ends_at_once(tmp_path):
    hook = (
        "import sys\n"
        "class Hook:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('bluesky', 'tiled'): print('MARK', flush=True)\n"
        "sys.meta_path.insert(0, Hook())\n"
        "from nimco._cli import main\nmain()"
    )
    for number, arguments in (
        (signal.SIGINT, ["demo"]),
        (signal.SIGTERM, ["replay", "x.h5"]),
        (signal.SIGINT, ["dry-run"]),
        (signal.SIGINT, ["reanalyse", "x"]),
    ):
        returned, _, err = stop(
            [sys.executable, "-u", "-c", hook], *arguments, cwd=tmp_path, at="MARK", number=number
        )
        assert "before anything was begun: nothing is stored, nothing waits" in sentence(returned, err)
    assert not list(tmp_path.iterdir())
