"""`nimco ioc`: one command serves the simulated beamline, and a user's mistake is one sentence."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nimco._commands import ioc
from nimco.errors import NimcoError
from nimco.testing import free_port

NIMCO = [sys.executable, "-c", "from nimco._cli import main; main()"]
ASK = "import epics; print(*(epics.caget(f'CLI:{name}', timeout=20) for name in ('mono:bragg.EGU', 'shutter:Status')))"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.mark.slow
def test_a_client_reaches_it_with_what_it_prints(port: int, tmp_path: Path) -> None:
    server = subprocess.Popen(
        [*NIMCO, "ioc", "--prefix", "CLI:", "--size", "32", "--port", str(port), "--time-scale", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        printed = {}
        for line in server.stdout:
            words = line.strip().removeprefix("export ").split("=", 1)
            if len(words) == 2:
                printed[words[0]] = words[1]
            if "Ctrl-C" in line:
                break
        answer = tmp_path / "answer"
        with answer.open("w") as file:
            subprocess.run(
                [sys.executable, "-c", ASK],
                env={**os.environ, **printed},
                stdout=file,
                timeout=600,
                check=True,
            )
        assert answer.read_text().split() == ["deg", "0"]
        server.send_signal(signal.SIGINT)
        assert server.wait(240) == 130
    finally:
        if server.poll() is None:
            server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_in_use_is_one_sentence(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        with pytest.raises(NimcoError, match=r"port \d+ is in use.*--port"):
            ioc(port=taken.getsockname()[1])
