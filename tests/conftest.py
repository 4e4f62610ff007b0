"""Fixtures shared by all tests: those of `nimco.testing.plugin`, and the reference data beside the repository."""

import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Threads of BLAS wait for one another actively: beside other workers, a test with small matrices took 59 s of processor
# time instead of 8. To be set before numpy is imported; processes that tests start inherit it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

from nimco.testing import close_run_engine, use_loopback_channel_access

pytest_plugins = ["nimco.testing.plugin"]

# Files that take longest come first, so that no worker is left alone with one at the end.
LONGEST = (
    "test_docs_code_blocks",
    "test_nimco_cli",
    "test_packaging",
    "test_nimco_stopping",
    "test_nimco_reanalyse",
    "test_nimco_monitor",
    "test_callbacks_versions",
    "test_nimco_reference_library",
    "test_nimco_selection",
    "test_nimco_server",
    "test_callbacks_bad_frames",
    "test_callbacks_publisher",
    "test_nimco_interrupted_scan",
    "test_nimco_facility_server",
    "test_nimco_analyse",
    "test_beamline_plans_beam_loss",
)


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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


# RunEngines of the test that runs now; each has a thread and three descriptors, which bluesky never gives back.
ENGINES = pytest.StashKey[list[Any]]()


@contextmanager
def engines_kept(item: pytest.Item) -> Iterator[None]:
    """Keep the RunEngines that are made, for the end of a test."""
    module = sys.modules.get("bluesky.run_engine")
    if module is None:
        yield
        return
    make, made = module.RunEngine.__init__, item.stash.setdefault(ENGINES, [])

    def make_and_keep(engine: Any, *arguments: Any, **options: Any) -> None:
        make(engine, *arguments, **options)
        made.append(engine)

    module.RunEngine.__init__ = make_and_keep
    try:
        yield
    finally:
        module.RunEngine.__init__ = make


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Keep the RunEngines of fixtures that are of one test."""
    if fixturedef.scope != "function":
        return (yield)
    with engines_kept(request.node):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Keep the RunEngines of a test."""
    with engines_kept(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """End the loops of the RunEngines of a test."""
    try:
        return (yield)
    finally:
        for engine in item.stash.get(ENGINES, []):
            if engine.state == "idle":  # a test that failed may leave one that is not
                close_run_engine(engine)
        item.stash[ENGINES] = []


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
