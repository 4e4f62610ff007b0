"""A pytest plugin with fixtures: ``pytest_plugins = ["nimco.testing.plugin"]`` in a ``conftest.py``.

``scan_documents`` is the class `ScanDocuments`, ``tiled_server`` a Tiled server that the tests of a session share,
``twin_session`` a `TwinSession` on it, ``start_ioc`` starts simulated EPICS beamlines.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nimco.testing import ScanDocuments, TwinSession, loopback_ioc, temporary_server


@pytest.fixture(scope="session")
def scan_documents() -> type[ScanDocuments]:
    """Class that composes the documents of a small scan with known truth."""
    return ScanDocuments


@pytest.fixture(scope="session")
def tiled_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Run a real Tiled server on loopback, shared by the tests of one session; it reads ``data_dir / "files"``."""
    folder = tmp_path_factory.mktemp("tiled")
    with temporary_server(folder, readable=(folder / "files",)) as server:
        yield server


@pytest.fixture
def twin_session(tiled_server: Any) -> Iterator[TwinSession]:
    """Run the digital twin with a RunEngine and a session on the shared server, new for each test."""
    with TwinSession((32, 32), server=tiled_server) as twin:
        yield twin


@pytest.fixture(scope="session")
def start_ioc(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Start a simulated EPICS beamline, under a prefix of its own, where the clients of this session find it."""

    def start(prefix: str, **settings: Any) -> Any:
        return loopback_ioc(prefix, tmp_path_factory.mktemp("ioc") / "log", **settings)

    return start
