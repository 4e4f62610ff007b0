"""The plans through a real RE Manager."""

import inspect
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import beamline_plans
import nimco
from nimco.testing import free_port, wait_until

zmq_comms = pytest.importorskip("bluesky_queueserver", reason="bluesky-queueserver is not installed")

PLANS = {
    "adaptive_xanes",
    "calibrate_energy",
    "edge_jump_map",
    "multi_edge_xanes",
    "resume_scan",
    "resume_tomography",
    "resume_xrf_map",
    "soft_xas_scan",
    "tomography_scan",
    "stxm_scan",
    "xanes_mosaic",
    "xanes_scan",
    "xanes_series",
    "xas_fly",
    "xas_scan",
    "xpeem_scan",
    "xrf_coarse_fine",
    "xrf_map",
}
SOFT_EDGES_OFFERED = "typing.Literal['Ni_L3', 'Co_L3', 'Mn_L3', 'O_K']"
EDGES_OFFERED = "typing.Literal['Ni_K', 'Co_K', 'Mn_K', 'Ni_L3', 'Ni_L2', 'Co_L3', 'Co_L2', 'Mn_L3', 'Mn_L2']"
PERMISSIONS = Path(nimco.__path__[0]) / "user_group_permissions.yaml"


@pytest.fixture(scope="module")
def redis_address(tmp_path_factory):
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("redis-server is not installed; the RE Manager needs it")
    port = free_port()
    folder = tmp_path_factory.mktemp("redis")
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers():
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
        except OSError:
            return False

    try:
        wait_until(answers, 240, "the start of redis-server")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(240)


@pytest.fixture(scope="module")
def manager(redis_address, tmp_path_factory):
    folder = tmp_path_factory.mktemp("manager")
    shutil.copy(PERMISSIONS, folder)
    address = f"tcp://127.0.0.1:{free_port()}"
    log = (folder / "log.txt").open("w")
    command = [
        str(Path(sys.executable).with_name("start-re-manager")),
        "--startup-module=nimco._queueserver_startup",
        f"--existing-plans-devices={folder}",
        f"--user-group-permissions={folder}",
        f"--redis-addr={redis_address}",
        f"--zmq-control-addr={address}",
        f"--zmq-info-addr=tcp://127.0.0.1:{free_port()}",
        "--zmq-publish-console=OFF",
    ]
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)

    def ask(method, **params):
        from bluesky_queueserver.manager.comms import zmq_single_request

        answer, error = zmq_single_request(method, params, zmq_server_address=address, timeout=60000)
        assert not error, error
        return answer

    def status():
        try:
            return ask("status")
        except AssertionError:
            return None

    try:
        wait_until(status, 300, "the start of the RE Manager")
        opened = ask("environment_open")
        assert opened["success"], opened
        idle = wait_until(
            lambda: ask("status")["manager_state"] == "idle" and ask("status"), 600, "opening the environment"
        )
        assert idle["worker_environment_exists"], (folder / "log.txt").read_text()[-4000:]
        yield ask
        ask("environment_close")
        wait_until(lambda: not ask("status")["worker_environment_exists"], 240, "closing the environment")
        ask("manager_stop")
        process.wait(240)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(240)
        log.close()


def plan_item(name, *devices, **kwargs):
    args = devices or ("camera", "energy", "shutter", "stage")
    return {"item_type": "plan", "name": name, "args": list(args), "kwargs": kwargs}


def run_plan(ask, name, *devices, **kwargs):
    item = plan_item(name, *devices, **kwargs)
    ask("queue_clear")  # a plan that failed goes back to the front of the queue
    before = ask("status")["items_in_history"]
    added = ask("queue_item_add", item=item, user="tester", user_group="primary")
    assert added["success"], added
    started = ask("queue_start")
    assert started["success"], started
    wait_until(lambda: ask("status")["items_in_history"] > before, 600, f"the end of {name}")
    wait_until(lambda: ask("status")["manager_state"] == "idle", 240, "rest")
    return ask("history_get")["items"][-1]["result"]


GRID = {"energies_ev": [8300.0, 8345.0, 8350.0], "exposure_s": 0.01}


@pytest.mark.slow
def test_the_manager_lists_the_plans_with_their_devices(manager):
    plans = manager("plans_allowed", user_group="primary")["plans_allowed"]
    assert set(plans) >= PLANS
    for name in PLANS:
        parameters = {p["name"]: p for p in plans[name]["parameters"]}
        assert plans[name]["properties"]["is_generator"]
        assert "__MOVABLE__" in parameters["energy"]["annotation"]["type"]
        assert plans[name]["description"]
        for parameter in parameters.values():
            assert parameter["description"], (name, parameter["name"])
            assert "As for" not in parameter["description"], (name, parameter["name"])
            assert "Any" not in parameter["annotation"]["type"], (name, parameter["name"])
        if "edge" in parameters:
            offered = SOFT_EDGES_OFFERED if name in ("stxm_scan", "xpeem_scan") else EDGES_OFFERED
            assert parameters["edge"]["annotation"]["type"] == offered
        if "edges" in parameters:
            offered = SOFT_EDGES_OFFERED if name == "soft_xas_scan" else EDGES_OFFERED
            assert parameters["edges"]["annotation"]["type"] == f"list[{offered}]"
        # One definition: what a plan takes the queue offers, but for what belongs to the worker.
        taken = set(inspect.signature(getattr(beamline_plans, name)).parameters) - {"live", "archive"}
        assert set(parameters) == taken
    asked = {p["name"]: p for p in plans["calibrate_energy"]["parameters"]}["write"]
    assert (asked["annotation"]["type"], asked["default"]) == ("typing.Literal['no', 'yes']", "'no'")
    visitors = manager("plans_allowed", user_group="users")["plans_allowed"]
    assert set(visitors) == PLANS - {"calibrate_energy"}
    devices = manager("devices_allowed", user_group="primary")["devices_allowed"]
    assert set(devices) >= {"camera", "energy", "shutter", "stage", "i0"}


@pytest.mark.slow
def test_a_scan_runs_through_the_queue(manager):
    result = run_plan(
        manager, "xanes_scan", edge="Ni_K", grid=GRID, i0="i0", n_darks=1, md={"sample": "queued"}
    )
    assert result["exit_status"] == "completed", result
    assert len(result["run_uids"]) == 1
    # The ledger of the worker knows that nothing is missing of it.
    again = run_plan(manager, "resume_scan", uid=result["run_uids"][0], i0="i0")
    assert (again["exit_status"], again["run_uids"]) == ("completed", [])


@pytest.mark.slow
def test_a_continuous_scan_runs_through_the_queue(manager):
    channels = {"i0": "i0_chamber", "it": "it_chamber", "shutter": "shutter", "n_darks": 1}
    result = run_plan(
        manager, "xas_fly", "energy", "flyer", edge="Ni_K", grid=GRID, sample_s=0.01, sweeps=2, **channels
    )
    assert result["exit_status"] == "completed", result
    assert len(result["run_uids"]) == 1


@pytest.mark.slow
def test_edges_run_as_one_run_each(manager):
    result = run_plan(manager, "edge_jump_map", edges=["Ni_K", "Co_K"], exposure_s=0.01, n_darks=1)
    assert result["exit_status"] == "completed", result
    assert len(result["run_uids"]) == 2


@pytest.mark.slow
def test_a_mistake_comes_back_in_words(manager):
    result = run_plan(manager, "xanes_scan", edge="Ni_K", grid={"energies_ev": [8.345]})
    assert result["exit_status"] == "failed"
    assert "looks like keV" in result["msg"]
    wrong = {"item_type": "plan", "name": "xanes_scan", "args": ["camera", "energy", "shutter", "stage"]}
    refused = manager("queue_item_add", item=wrong, user="tester", user_group="primary")
    assert not refused["success"]
    assert "edge" in refused["msg"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("xanes_scan", {"edge": "Fe_K"}),
        ("xanes_scan", {"edge": "Ni_K", "grid": 8345.0}),
        ("xanes_scan", {"edge": "Ni_K", "n_darks": "many"}),
        ("multi_edge_xanes", {"edges": ["Ni_K", "Fe_K"]}),
        ("edge_jump_map", {"edges": ["Ni_M"]}),
        ("adaptive_xanes", {"edge": "Ni_K", "references": {}, "first_frames": "few"}),
        ("adaptive_xanes", {"edge": "Ni_K", "references": {}, "live": 1}),
    ],
)
def test_what_a_plan_cannot_take_does_not_enter_the_queue(manager, name, kwargs):
    answer = manager("queue_item_add", item=plan_item(name, **kwargs), user="tester", user_group="primary")
    assert not answer["success"]


@pytest.mark.slow
def test_the_axis_is_calibrated_without_anybody_at_the_terminal(manager):
    devices = ("energy", "i0", "foil", "energy.offset_ev")
    for write in ({}, {"write": "yes"}):
        result = run_plan(manager, "calibrate_energy", *devices, edge="Ni_K", shutter="shutter", **write)
        assert result["exit_status"] == "completed", result["msg"]
        assert len(result["run_uids"]) == 1
    item = plan_item("calibrate_energy", *devices, edge="Ni_K", write="ask")
    assert not manager("queue_item_add", item=item, user="tester", user_group="primary")["success"]


def test_the_wheel_carries_the_permissions():
    from hatchling.builders.wheel import WheelBuilder

    root = Path(__file__).resolve().parents[1]
    shipped = {file.distribution_path for file in WheelBuilder(str(root)).recurse_included_files()}
    assert "nimco/user_group_permissions.yaml" in shipped


def test_the_edges_offered_are_those_there_are():
    from edge_fitting import EDGES
    from nimco._queueserver_plans import EdgeName

    assert get_args(EdgeName) == tuple(EDGES)
