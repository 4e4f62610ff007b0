"""What `nimco.testing` offers to a beamline's own tests."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from beamline_plans import EnergyGrid, xanes_scan
from callbacks import LiveSOC
from nimco.testing import (
    DocumentCollector,
    ScanDocuments,
    TwinSession,
    devices_of,
    free_port,
    loopback_ioc,
    play,
    temporary_server,
    wait_until,
)
from scan_contract import validate_run_documents
from sim_devices.ioc import connect_ioc

GRID = EnergyGrid(tuple(np.linspace(8250.0, 8500.0, 14)), 0.01)


def test_documents_made_without_a_run_engine_are_a_valid_run_of_known_truth():
    scan = ScanDocuments((8, 10), n_energies=24)
    documents = scan.run(sample="pellet")
    validate_run_documents(documents)
    assert documents[0][1]["sample"] == "pellet"
    with LiveSOC() as live:
        play(live, documents)
        live.wait(240)
        result = live.latest()
    assert np.nanmax(np.abs(result["soc"].values - scan.soc)) < 0.05


def test_a_twin_session_measures_maps_publishes_and_reads_back(twin_session):
    plan = xanes_scan(*twin_session.devices, edge="Ni_K", i0=twin_session.beamline.i0, grid=GRID, n_darks=1)
    (uid,) = twin_session.run(plan)
    assert twin_session.devices == devices_of(twin_session.beamline)
    result = twin_session.result(uid)
    assert result.attrs["final"]
    assert result["edge_energy_ev"].shape == (32, 32)
    validate_run_documents(twin_session.collector.documents)
    assert len(twin_session.collector.events()) == len(GRID)
    assert len(twin_session.collector.data("flat", uid)) == len(GRID)
    assert twin_session.collector.data(run="another") == []
    (run,) = twin_session.collector.runs()
    assert [run[0][0], run[-1][0]] == ["start", "stop"]


def test_a_twin_session_of_its_own_leaves_nothing_behind():
    with TwinSession((8, 8), seed=4) as twin:
        folder, uri = twin.server.data_dir, twin.server.uri
        assert folder.is_dir()
        assert uri.startswith("http://127.0.0.1:")
    assert not folder.exists()


def test_a_server_on_a_folder_keeps_its_data(tmp_path):
    with temporary_server(tmp_path / "kept") as server:
        server.maps.write_array(np.arange(3.0), key="x")
    with temporary_server(tmp_path / "kept") as server:
        assert server.client()["maps/x"].read().tolist() == [0, 1, 2]


def test_a_collector_waits_for_documents_of_another_thread():
    collector, go = DocumentCollector(), threading.Event()
    documents = ScanDocuments((4, 4), n_energies=14).run()

    def feed():
        go.wait()
        play(collector, documents)

    thread = threading.Thread(target=feed)
    thread.start()
    with pytest.raises(TimeoutError, match=r"0 of 1 stop documents came within 0\.01 s"):
        collector.wait_for("stop", timeout_s=0.01)
    go.set()
    assert collector.wait_for("stop")[0]["exit_status"] == "success"
    assert len(collector.wait_for("event", 14, fits=lambda doc: "i0" in doc["data"])) >= 14
    thread.join()
    assert collector.documents == documents
    with pytest.raises(ValueError, match="has no RunEngine"):
        collector.run([])


def test_waiting_ends_when_it_happened_or_says_what_did_not():
    happened = iter([0, None, "", "now"])
    assert wait_until(lambda: next(happened)) == "now"
    with pytest.raises(TimeoutError, match=r"^the flood did not happen within 0\.05 s$"):
        wait_until(lambda: False, 0.05, "the flood")
    assert 0 < free_port() < 65536


def test_an_ioc_is_not_started_where_it_could_reach_a_real_control_system(monkeypatch, tmp_path):
    monkeypatch.setenv("EPICS_CA_ADDR_LIST", "10.0.0.255")
    with pytest.raises(RuntimeError, match="use_loopback_channel_access"):
        loopback_ioc("X:", tmp_path / "log")


def test_two_simulated_iocs_are_found_side_by_side(tmp_path):
    settings = {"shape": (16, 16), "steady": True}
    with (
        loopback_ioc("ONE:", tmp_path / "one.log", **settings) as one,
        loopback_ioc("TWO:", tmp_path / "two.log", **settings) as two,
    ):
        assert one.port != two.port
        for prefix in ("ONE:", "TWO:"):
            devices = connect_ioc(prefix, data_dir=tmp_path, timeout_s=120.0)
            assert devices.energy.position.energy > 0


PROGRAM = """
import sys
sys.modules["pytest"] = None  # as where it is not installed
import nimco.testing
assert all(getattr(nimco.testing, name) for name in nimco.testing.__all__)
heavy = {"numba", "tiled", "ophyd", "bluesky", "matplotlib", "caproto"} & set(sys.modules)
assert not heavy, heavy
nimco.testing.ScanDocuments((4, 4), n_energies=14).run()
"""


def test_it_needs_no_pytest_and_loads_little():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_plugin_gives_its_fixtures_to_the_tests_of_another_project(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["nimco.testing.plugin"]\n')
    (tmp_path / "test_own.py").write_text(
        "def test_own(scan_documents, start_ioc, tiled_server):\n"
        "    assert scan_documents((4, 4), n_energies=14).run()\n"
        "    assert tiled_server.client()['raw'] is not None\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(tmp_path), "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
