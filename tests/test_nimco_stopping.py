"""Ctrl-C and SIGTERM, sent to a real process at several moments of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nimco import TiledServer

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
        out, err = process.communicate(timeout=120)
    return process.returncode, "".join(seen) + out, err


def sentence(code, err, expected=130):
    assert code == expected, err
    assert "Traceback" not in err, err
    assert "Exception ignored" not in err, err
    said = [line for line in err.splitlines() if line.startswith("nimco: ")]
    assert len(said) == 1, err
    assert said[0].startswith("nimco: Stopped by ")
    return said[0]


def assert_no_server_is_left(data_dir: Path) -> None:
    """The lock is free and no process serves the directory."""
    deadline = time.monotonic() + 20
    while left := subprocess.run(
        ["pgrep", "-f", f"_server_process.py {data_dir.resolve()}"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split():
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command, at, n_runs",
    [
        (marked("nimco._server", "TiledServer", "_wait_until_ready"), "MARK", 0),
        (NIMCO, "Tiled server at", None),
        (marked("callbacks", "LiveSOC", "wait"), "MARK", 4),
        (marked("nimco", "Session", "close"), "MARK", 4),
        (marked("nimco", "TiledServer", "close"), "MARK", 4),
    ],
    ids=["server starts", "scan", "fit", "session closes", "server closes"],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_is_stopped_at_any_moment(tmp_path, command, at, n_runs, number):
    code, out, err = stop(
        command, "demo", "--size", 48, "--data-dir", "data", cwd=tmp_path, at=at, number=number
    )
    said = sentence(code, err)
    assert ("Ctrl-C" if number == signal.SIGINT else "SIGTERM") in said
    assert "nothing waits in data/spool" in said
    if n_runs == 0:
        assert "nothing was measured" in said
    if n_runs:
        assert f"({n_runs} runs) is stored in data" in said
    assert_no_server_is_left(tmp_path / "data")
    if n_runs is None:
        with TiledServer(tmp_path / "data") as server:
            for run in server.raw.values():
                assert run.metadata["stop"]["exit_status"] in ("success", "abort")


def test_while_modules_are_imported_it_ends_at_once(tmp_path):
    """The first import of a command that takes long: typer has parsed the options by then."""
    code = "import nimco._commands; print('MARK', flush=True)\nfrom nimco._cli import main\nmain()"
    hook = (
        "import sys\n"
        "class Hook:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'bluesky': print('MARK', flush=True)\n"
        "sys.meta_path.insert(0, Hook())\n"
        "from nimco._cli import main\nmain()"
    )
    del code
    for number in (signal.SIGINT, signal.SIGTERM):
        for arguments in (["demo"], ["replay", "x.h5"], ["dry-run"]):
            returned, _, err = stop(
                [sys.executable, "-u", "-c", hook], *arguments, cwd=tmp_path, at="MARK", number=number
            )
            assert "before anything was begun: nothing is stored, nothing waits" in sentence(returned, err)
    assert not list(tmp_path.iterdir())
