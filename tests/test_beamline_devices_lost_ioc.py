"""A control system that dies in the middle of a move, and comes back or not, over real Channel Access."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from bluesky import RunEngine

import beamline_plans.running._frames as frames_of_plans
import beamline_plans.running._safe_state as safe_state
from beamline_devices import DeviceError, NotArrivedError, NotConnectedError
from beamline_plans import EnergyGrid, FrameError, NotSafeError, validate_run_documents, xanes_scan
from nimco.testing import wait_until
from sim_devices.ioc import connect_ioc

PREFIX = "LOST:"
GRID = EnergyGrid((8300.0, 8350.0, 8400.0), (0.05,) * 3)

pytestmark = pytest.mark.slow


@pytest.fixture
def ioc(start_ioc):
    # Slow enough that a move is under way for seconds.
    process = start_ioc(PREFIX, shape=(16, 16), seed=3, steady=True, time_scale=0.2)
    with process:
        yield process


@pytest.fixture
def devices(ioc, tmp_path):
    return connect_ioc(PREFIX, data_dir=tmp_path, pixel_size_nm=570.5, timeout_s=240.0)


@pytest.fixture(scope="module")
def steady_devices(start_ioc, tmp_path_factory):
    with start_ioc("HELD:", shape=(16, 16), seed=3, steady=True, time_scale=0.2):
        yield connect_ioc("HELD:", data_dir=tmp_path_factory.mktemp("frames"), timeout_s=240.0)


def kill(process):
    os.kill(process.pid, signal.SIGKILL)


def restart(process):
    process.close()
    process.start()


MOVES = {
    "energy": (8900.0, "mono:bragg"),
    "stage": ("out", "stage:x"),
    "stage.x": (5.0, "stage:x"),
    "shutter": ("open", "shutter:"),
}


def test_a_lost_connection_ends_a_move_within_seconds_and_names_the_process_variables(ioc, devices):
    moving = {}
    for name, (target, pv) in MOVES.items():
        if name == "stage.x":
            continue
        moving[name] = (getattr(devices, name).set(target), pv)
    killed_at = time.monotonic()
    kill(ioc)
    for name in ("energy", "stage"):
        status, pv = moving[name]
        with pytest.raises(NotConnectedError, match=pv):
            status.wait(10)
    assert time.monotonic() - killed_at < 8.0
    for name, (target, _) in MOVES.items():
        device = devices.stage.x if name == "stage.x" else getattr(devices, name)
        with pytest.raises(NotConnectedError, match="has lost its connection to"):
            device.set(target).wait(10)
    restart(ioc)

    def is_moved():
        with contextlib.suppress(DeviceError):
            devices.stage.set("in").wait(30)
            return True

    wait_until(is_moved, 60)
    assert devices.stage.position == "in"


@pytest.mark.parametrize("success", [True, False])
@pytest.mark.parametrize("name", ["energy", "stage", "stage.y", "optics", "filters", "shutter"])
def test_a_stopped_move_over_channel_access_ends_as_the_one_who_stops_it_asks_for(
    steady_devices, name, success
):
    devices = steady_devices
    device, target, back = {
        "energy": (devices.energy, 8900.0, 8333.0),
        "stage": (devices.stage, "out", "in"),
        "stage.y": (devices.stage.y, 4.0, 0.0),
        "optics": (devices.energy._followers[0], 8900.0, 8400.0),
        "filters": (devices.filters, "thick", "none"),
        "shutter": (devices.shutter, "open", "closed"),
    }[name]
    status = device.set(target)
    device.stop(success=success)
    if success:
        status.wait(10)
    elif not status.done or status.exception(10) is not None:
        with pytest.raises(DeviceError, match="stop"):
            status.wait(10)
    # Told to go back at once, it goes back, though it may still be slowing down.
    device.set(back).wait(60)
    find = {
        "energy": lambda: device.energy_ev,
        "optics": lambda: float(device.energy_ev.get()),
    }.get(name, lambda: device.position)
    assert find() == (back if isinstance(back, str) else pytest.approx(back, abs=0.1))


@pytest.mark.parametrize("name", ["energy", "stage", "optics"])
def test_what_is_stopped_at_any_moment_of_its_move_goes_back_at_once(steady_devices, name):
    # Its parts are told to stop while they are being told to move.
    devices = steady_devices
    device, target, back = {
        "energy": (devices.energy, 8420.0, 8400.0),
        "stage": (devices.stage, "out", "in"),
        "optics": (devices.energy._followers[0], 8420.0, 8400.0),
    }[name]
    for delay_s in (0.0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032):
        moving = device.set(target)
        threading.Event().wait(delay_s)
        device.stop(success=True)
        device.set(back).wait(60)
        moving.wait(10)


def test_an_axis_that_is_sent_elsewhere_on_its_way_goes_there(steady_devices):
    axis = steady_devices.stage.y
    first = axis.set(4.0)
    second = axis.set(0.5)
    second.wait(60)
    assert axis.position == pytest.approx(0.5, abs=0.01)
    with pytest.raises(NotArrivedError):
        first.wait(10)


class Documents:
    def __init__(self, RE):
        self.all = []
        RE.subscribe(lambda name, doc: self.all.append((name, doc)))

    def of(self, name):
        return [doc for kind, doc in self.all if kind == name]


def scan(devices):
    return xanes_scan(
        devices.camera,
        devices.energy,
        devices.shutter,
        devices.stage,
        edge="Ni_K",
        grid=GRID,
        n_darks=1,
        i0=devices.i0,
    )


def when_moving(devices, nth, action):
    """Do something in the middle of the n-th move of the energy."""
    count = [0]
    move = devices.energy.set

    def moved(value, **kwargs):
        status = move(value, **kwargs)
        count[0] += 1
        if count[0] == nth:
            action()
        return status

    devices.energy.set = moved


def test_a_scan_takes_up_a_control_system_that_was_started_anew(ioc, devices, caplog):
    RE = RunEngine({})
    documents = Documents(RE)
    devices.energy.set(8320.0).wait(60)

    def die():
        kill(ioc)
        threading.Thread(target=restart, args=(ioc,), daemon=True).start()

    when_moving(devices, 4, die)
    RE(scan(devices))
    said = [record.message for record in caplog.records if record.name == "beamline_plans"]
    assert any("waits up to" in message for message in said), said
    validate_run_documents([(n, d) for n, d in documents.all if n not in ("resource", "datum")])
    streams = {doc["uid"]: doc["name"] for doc in documents.of("descriptor")}
    shots = [(streams[e["descriptor"]], e["data"]["xanes_energy_index"]) for e in documents.of("event")]
    assert set(shots) == {("dark", -1), *((s, i) for s in ("flat", "primary") for i in range(3))}
    assert devices.shutter.position == "closed"
    assert devices.stage.position == "in"
    assert devices.energy.energy_ev == pytest.approx(8320.0, abs=0.1)
    # Every event's frame is in its file, and is the one it should be: light in all but the darks.
    files = {r["uid"]: Path(r["root"]) / r["resource_path"] for r in documents.of("resource")}
    assert len(files) == 2
    data = {
        d["datum_id"]: (files[d["resource"]], d["datum_kwargs"]["point_number"])
        for d in documents.of("datum")
    }
    for event in documents.of("event"):
        assert event["data"]["energy"] == pytest.approx(event["data"]["xanes_energy_setpoint_ev"], abs=0.1)
        path, place = data[event["data"]["camera_image"]]
        # The one that was killed has not closed its file.
        with h5py.File(path, "r", swmr=True) as file:
            frame = file["entry/data/data"][place]
        assert (np.mean(frame) > 150.0) == (streams[event["descriptor"]] != "dark")


def test_a_control_system_that_does_not_come_back_ends_the_scan_and_says_what_is_not_safe(
    ioc, devices, monkeypatch, caplog
):
    monkeypatch.setattr(frames_of_plans, "_RETURN_S", 2.0)
    monkeypatch.setattr(safe_state, "_RETURN_IN_CLEANUP_S", 2.0)
    RE = RunEngine({})
    documents = Documents(RE)
    killed_at = []
    when_moving(devices, 4, lambda: (kill(ioc), killed_at.append(time.monotonic())))
    with pytest.raises(NotSafeError) as said:
        RE(scan(devices))
    assert time.monotonic() - killed_at[0] < 100.0
    for what in ("close the shutter", "bring the sample in", "restore the energy", "process variables"):
        assert what in str(said.value)
    chain, error = [], said.value
    while error is not None:
        chain.append(error)
        error = error.__context__
    (of_frame,) = (error for error in chain if isinstance(error, FrameError))
    assert "did not come back within 2 s" in str(of_frame)
    assert documents.all[-1][0] == "stop"
    assert documents.all[-1][1]["exit_status"] == "fail"
    assert any(record.levelname == "CRITICAL" for record in caplog.records)
