"""Fixtures shared by all tests: those of `nimco.testing.plugin`, and the reference data beside the repository."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nimco.testing import use_loopback_channel_access

pytest_plugins = ["nimco.testing.plugin"]


def pytest_configure() -> None:
    """Keep Channel Access on loopback, before ophyd is imported."""
    use_loopback_channel_access()


# What tests call, compiled before any of them is timed; numba keeps it on disk for all processes.
_COMPILE = """
from edge_fitting import warm_up
for method in ("series", "inflection", "white_line", "lcf", "arctan_gauss"):
    warm_up(method)
from sim_devices import SimBeamline
beamline = SimBeamline((32, 32))
beamline.shutter.set("open").wait()
beamline.camera.trigger().wait()
"""


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the kernels once, before the workers start, where they have changed since the last run."""
    config = session.config
    workers = getattr(config.option, "numprocesses", None)  # None in the workers themselves, and without them
    if not workers or os.environ.get("NUMBA_DISABLE_JIT"):
        return
    root = Path(__file__).resolve().parents[1]
    sources = [
        path for name in ("edge_fitting", "sim_devices") for path in sorted((root / name).rglob("*.py"))
    ]
    stamp = [sys.version, *(f"{path.name} {path.stat().st_mtime_ns}" for path in sources)]
    cache = getattr(config, "cache", None)  # absent with -p no:cacheprovider
    if cache is None or cache.get("nimco/kernels", None) == stamp:
        return
    config.get_terminal_writer().line("compiling the kernels, once after each change of them")
    done = subprocess.run([sys.executable, "-c", _COMPILE], cwd=root, check=False)
    if done.returncode == 0:  # where it fails, tests say why
        cache.set("nimco/kernels", stamp)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real reference data beside the repository; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no reference data beside the repository ({folder.name}/ is missing)")
    return folder


@pytest.fixture
def impatient_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tiled's client give a dead server up at once, so that our own handling is what is tested."""
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)
