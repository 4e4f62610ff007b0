"""Runs read back from a real Tiled server as documents."""

import importlib.util
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from tiled.client.array import ArrayClient

from callbacks import LiveSOC, RawRunWriter, ReadingError, RunReadings, documents_of, read_run
from callbacks.documents._reading import event_identity


def store(server, documents):
    with RawRunWriter(server.raw) as writer:
        for name, doc in documents:
            writer(name, doc)
        writer.wait(240)
        assert writer.errors == []
    return server.client()["raw"][documents[0][1]["uid"]]


def frames_of(documents):
    documents = list(documents)
    reader = RunReadings(read_run(documents[0][1]))
    return [frame for name, doc in documents[1:] for frame in reader.add(name, doc)]


def same_frames(found, expected):
    """Compare everything but the event uids, which Tiled does not keep."""
    key = lambda frame: (frame.time_s, frame.stream, frame.seq_num)  # noqa: E731
    found, expected = sorted(found, key=key), sorted(expected, key=key)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.slot == other.slot
        for name in ("attempt", "energy_ev", "energy_setpoint_ev", "exposure_s", "i0", "seq_num", "time_s"):
            assert getattr(one, name) == getattr(other, name), name
        assert one.image.dtype == other.image.dtype
        assert np.array_equal(one.image, other.image)


def test_a_stored_run_gives_the_frames_of_the_live_one(tiled_server, scan_documents):
    documents = scan_documents().run(sample={"name": "NMC622"})
    run = store(tiled_server, documents)
    told = list(documents_of(run))
    names = [name for name, _ in told]
    assert names[0] == "start"
    assert names[-1] == "stop"
    assert told[0][1]["sample"] == {"name": "NMC622"}
    same_frames(frames_of(told), frames_of(documents))
    with LiveSOC() as live, LiveSOC() as again:
        for name, doc in documents:
            live(name, doc)
        for name, doc in told:
            again(name, doc)
        live.wait(240)
        again.wait(240)
        assert again.errors == []
        assert np.array_equal(live.latest()["soc"].values, again.latest()["soc"].values, equal_nan=True)


def test_stored_and_live_documents_of_one_run_may_overlap(tiled_server, scan_documents):
    documents = scan_documents(n_flats=2).run()
    run = store(tiled_server, documents)
    reader = RunReadings(read_run(documents[0][1]))
    middle = len(documents) // 2
    both = [*documents[:middle], *documents_of(run), *documents[middle - 5 :]]
    frames = [frame for name, doc in both[1:] if name != "stop" for frame in reader.add(name, doc)]
    same_frames(frames, frames_of(documents))


def test_what_is_known_already_is_not_read(tiled_server, scan_documents):
    documents = scan_documents().run()
    run = store(tiled_server, documents)
    events = [doc for name, doc in documents if name == "event"]
    known = {event_identity(event) for event in events[10:20]}
    told = [doc for name, doc in documents_of(run, skip=known.__contains__) if name == "event"]
    assert {event_identity(event) for event in told} == {event_identity(event) for event in events} - known


def test_events_taken_again_under_the_same_number_keep_their_frames(tiled_server, scan_documents):
    """A pause makes the RunEngine use a number twice; nothing may shift by that."""
    scan = scan_documents()
    steps = [("primary", index, scan.frame(index)) for index in (0, 1, 2)]
    steps += [("primary", 2, scan.frame(2) + 7, {"xanes_attempt": 1})]
    steps += [("primary", index, scan.frame(index)) for index in (3, 4)]
    documents = scan.run(steps)
    events = [doc for name, doc in documents if name == "event"]
    for event, number in zip(events, (1, 2, 3, 3, 4, 5), strict=True):
        event["seq_num"] = number
    same_frames(frames_of(documents_of(store(tiled_server, documents))), frames_of(documents))


def test_frames_and_events_that_do_not_pair_up_are_refused(tiled_server, scan_documents):
    documents = scan_documents().run()
    run = store(tiled_server, documents)
    node = run["primary"].base["camera_image"]
    node.patch(np.zeros((1, *node.shape[1:]), np.uint16), offset=(node.shape[0],), extend=True)
    with pytest.raises(ReadingError, match="holds 36 events and 37 of 'camera_image'"):
        list(documents_of(tiled_server.client()["raw"][documents[0][1]["uid"]]))


def test_a_run_that_goes_on_is_told_as_far_as_it_is(tiled_server, scan_documents):
    documents = scan_documents(n_darks=1).run()  # written event by event
    with RawRunWriter(tiled_server.raw) as writer:
        for name, doc in documents[:41]:
            writer(name, doc)
        writer.wait(240)
        run = tiled_server.client()["raw"][documents[0][1]["uid"]]
        told = list(documents_of(run))
        assert told[-1][0] == "event"
        same_frames(frames_of(told), frames_of(documents[:41]))
        for name, doc in documents[41:]:
            writer(name, doc)


@pytest.mark.parametrize("kind", ["classic", "ophyd-async"])
@pytest.mark.parametrize("per_event", [1, 3])
def test_frames_in_a_file_shared_by_the_streams_are_stored_and_read_back_by_stream(tmp_path, kind, per_event):
    from nimco import TiledServer

    cameras = camera_module()
    beamline = cameras.SimBeamline((24, 32), seed=4)
    camera = (
        cameras.ClassicCamera(beamline, tmp_path, per_event=per_event)
        if kind == "classic"
        else cameras.partial_camera(beamline, tmp_path / "one_file.h5", per_event)
    )
    documents = cameras.scan(beamline, camera)
    taken = camera.taken if kind == "classic" else camera.made.writer.taken
    names = {doc["uid"]: doc["name"] for name, doc in documents if name == "descriptor"}
    events = [doc for name, doc in documents if name == "event"]
    with TiledServer(tmp_path / "server", readable=(tmp_path,)) as server:
        run = store(server, documents)
        for stream in ("dark", "flat", "primary"):
            expected = [
                taken[number] for number, event in enumerate(events) if names[event["descriptor"]] == stream
            ]
            (key,) = [part for part in run[stream].base if part != "internal"]
            stored = run[stream][key].read()
            assert np.array_equal(stored, np.array(expected).reshape(stored.shape))
            assert np.array_equal(run[stream][key][1].reshape(expected[1].shape), expected[1])
        same_frames(frames_of(documents_of(run)), frames_of(documents))


def test_a_folder_that_tiled_may_not_read_is_said_while_the_run_is_written(tmp_path):
    from nimco import TiledServer

    cameras = camera_module()
    beamline = cameras.SimBeamline((24, 32), seed=4)
    documents = cameras.scan(beamline, cameras.ClassicCamera(beamline, tmp_path, per_event=1))
    with TiledServer(tmp_path / "server") as server, RawRunWriter(server.raw) as writer:
        for name, doc in documents:
            writer(name, doc)
        writer.wait(240)
        assert [str(error) for error in writer.errors if "nimco serve --readable" in str(error)]
        assert len(writer.errors) == 1
        assert documents[0][1]["uid"] in server.client()["raw"]


def camera_module():
    """The file-writing cameras of the tests of frames from files."""
    name = "frame_file_cameras"
    if name not in sys.modules:
        path = Path(__file__).with_name("test_callbacks_frame_files.py")
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture
def damaged_row(monkeypatch):
    """A row of every array that the server holds and cannot give."""
    read, row = ArrayClient.__getitem__, 3

    def refuse(array, rows):
        if rows.start <= row < rows.stop:
            raise RuntimeError("500: a chunk cannot be decompressed")
        return read(array, rows)

    monkeypatch.setattr(ArrayClient, "__getitem__", refuse)
    return row


def test_a_frame_that_tiled_cannot_give_costs_that_frame_and_is_named(
    tiled_server, scan_documents, damaged_row, caplog
):
    scan = scan_documents(n_darks=1)
    run = store(tiled_server, scan.run())
    told = list(documents_of(run))
    assert told[-1][0] == "stop"
    lost = [doc for name, doc in told if name == "event" and "camera_image" not in doc["data"]]
    assert [event["seq_num"] for event in lost] == [damaged_row + 1] * 2  # of the frames and of the flats
    with LiveSOC() as live:
        for name, doc in told:
            live(name, doc)
        live.wait(240)
        update = live.latest()
    assert update.attrs["n_frames"] == update.attrs["frames_expected"] - 1
    energy = f"{scan.energies_ev[damaged_row]:.1f}"
    assert any(energy in said and "left out" in said for said in update.warnings)
    said = [record.message for record in caplog.records if "cannot be read from Tiled" in record.message]
    assert len(said) == 2


def test_a_server_that_does_not_answer_is_no_matter_of_single_frames(
    tiled_server, scan_documents, monkeypatch
):
    run = store(tiled_server, scan_documents(n_darks=1).run())
    asked = []

    def away(array, rows):
        asked.append(rows)
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(ArrayClient, "__getitem__", away)
    with pytest.raises(httpx.ConnectError):
        list(documents_of(run))
    assert len(asked) <= 3
