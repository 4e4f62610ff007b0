import asyncio
import datetime
import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from pathlib import Path

import event_model
import httpx
import numpy as np
import pytest
from tiled.client import from_uri
from tiled.client.container import Container

from callbacks import CallbackError, DeliveryError, LiveSOC, RawRunWriter, SOCPublisher
from callbacks.documents import Spool
from nimco import TiledServer
from nimco._containers import create_containers
from nimco._server_process import build_server


def assert_stored(client, documents):
    """Every event of a run is in Tiled once, in order, with its frame."""
    run = client["raw"][documents[0][1]["uid"]]
    names = {doc["uid"]: doc["name"] for name, doc in documents if name == "descriptor"}
    for stream in ("dark", "flat", "primary"):
        events = [doc for name, doc in documents if name == "event" and names[doc["descriptor"]] == stream]
        assert list(run[stream].base["internal"].read()["seq_num"]) == [event["seq_num"] for event in events]
        stored = run[stream]["camera_image"].read()
        assert np.array_equal(stored, [event["data"]["camera_image"] for event in events])
    assert run.metadata["stop"]["exit_status"] == documents[-1][1]["exit_status"]


def test_a_run_is_written_and_its_log_goes(tiled_server, scan_documents, tmp_path):
    documents = scan_documents().run()
    with RawRunWriter(tiled_server.raw, spool_dir=tmp_path) as writer:
        for name, doc in documents[:-1]:
            writer(name, doc)
        writer.wait(240)
        assert list(tmp_path.glob("*.run"))
        writer(*documents[-1])
        writer.wait(240)
        assert list(tmp_path.iterdir()) == []
        assert writer.errors == []
    assert_stored(tiled_server.client(), documents)


def test_duplicate_documents_are_written_once(tiled_server, scan_documents, tmp_path):
    documents = scan_documents().run()
    with RawRunWriter(tiled_server.raw, spool_dir=tmp_path) as writer:
        for name, doc in documents:
            writer(name, doc)
            writer(name, doc)
        writer.wait(240)
        for name, doc in documents:  # and once more, after the run is over
            writer(name, doc)
        writer.wait(240)
        assert writer.errors == []
    assert_stored(tiled_server.client(), documents)


def test_runs_at_once_from_several_sessions_of_which_the_server_keeps_some_waiting(
    tiled_server, scan_documents, tmp_path, impatient_client
):
    """Four sessions on one server, and three requests are told that the database is locked."""
    runs = [scan_documents(seed=seed).run() for seed in (1, 2, 3, 4)]
    raw = tiled_server.client()["raw"]
    http = raw.context.http_client
    hooks, n_requests, n_told = http.event_hooks, itertools.count(1), []

    def locked(request):
        if next(n_requests) in (5, 12, 30):
            n_told.append(request)
            answer = httpx.Response(500, request=request, text="database is locked")
            raise httpx.HTTPStatusError("500", request=request, response=answer)

    http.event_hooks = {**hooks, "request": [*hooks["request"], locked]}
    try:
        writers = [RawRunWriter(raw, spool_dir=tmp_path) for _ in runs]
        for documents in zip(*runs, strict=True):
            for writer, (name, doc) in zip(writers, documents, strict=True):
                writer(name, doc)
        for writer in writers:
            writer.wait(240)
            writer.close()
    finally:
        http.event_hooks = hooks
    assert len(n_told) == 3
    assert not list(tmp_path.glob("*.run*"))
    for documents in runs:
        assert_stored(tiled_server.client(), documents)


def test_a_run_that_is_refused_again_and_again_goes_on_without_further_documents(
    tiled_server, scan_documents, tmp_path, impatient_client
):
    documents = scan_documents(n_energies=14).run()
    raw = tiled_server.client()["raw"]
    http = raw.context.http_client
    hooks, n_told = http.event_hooks, []

    def locked(request):
        if request.method == "POST" and len(n_told) < 4:  # one in each attempt
            n_told.append(request)
            answer = httpx.Response(500, request=request, text="database is locked")
            raise httpx.HTTPStatusError("500", request=request, response=answer)

    http.event_hooks = {**hooks, "request": [*hooks["request"], locked]}
    try:
        with RawRunWriter(raw, spool_dir=tmp_path) as writer:
            for name, doc in documents:
                writer(name, doc)
            writer.wait(60)
    finally:
        http.event_hooks = hooks
    assert len(n_told) == 4
    assert_stored(tiled_server.client(), documents)


class Failing:
    """An application that answers 500 at every fifteenth request; rows and nodes it may have taken all the same."""

    def __init__(self, application):
        self._application = application
        self.n_requests, self.failed = 0, []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            self.n_requests += 1
            appends = scope["method"] == "PATCH" and "/table/" in scope["path"]
            if self.n_requests % 15 == 0 or (appends and self.n_requests % 3 == 0):
                self.failed.append(scope["path"])
                if (appends and len(self.failed) % 2) or scope["method"] == "POST":
                    await self._application(scope, receive, lambda message: asyncio.sleep(0))
                await send({"type": "http.response.start", "status": 500, "headers": []})
                await send({"type": "http.response.body", "body": b"database is locked"})
                return
        await self._application(scope, receive, send)


def test_a_server_that_fails_at_every_fifteenth_request_takes_a_run_and_its_map_once_and_in_one_go(
    scan_documents, tmp_path
):
    server = build_server(tmp_path, "key", [])
    failing = server.config.app = Failing(server.config.app)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        served = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
        served.start()
        try:
            client = from_uri(f"http://127.0.0.1:{listening.getsockname()[1]}", api_key="key")
            create_containers(client)
            runs = [scan_documents(n_energies=24).run()]
            with RawRunWriter(client["raw"], spool_dir=tmp_path / "spool") as writer:
                for documents in runs:
                    for number, document in enumerate(documents):
                        writer(*document)
                        if number % 8 == 0:
                            writer.wait(120)  # what has come is written: many small appends
                writer.wait(120)
                assert writer.errors == []
            assert len(failing.failed) > 5
            assert len({path for path in failing.failed if "/table/" in path}) > 1
            for documents in runs:
                assert_stored(client, documents)
            # A map is dozens of requests.
            n_failed = len(failing.failed)
            with SOCPublisher(client["maps"]) as publisher, LiveSOC(subscribers=[publisher]) as live:
                for name, doc in runs[0]:
                    live(name, doc)
                live.wait(120)
                publisher.wait(60)
                assert [error for error in publisher.errors if "refuse" in str(error)] == []
            assert len(failing.failed) > n_failed
            soc = client["maps"][runs[0][0][1]["uid"]]["Ni_K"]["soc"].read()
            assert np.array_equal(soc, live.latest()["soc"], equal_nan=True)
        finally:
            server.should_exit = True
            served.join()


def test_a_document_tiled_refuses_costs_only_its_run(tiled_server, scan_documents, tmp_path, caplog):
    bad, good = scan_documents().run(), scan_documents().run()
    bad[1][1]["data_keys"]["camera_image"]["shape"] = "nonsense"
    with RawRunWriter(tiled_server.raw, spool_dir=tmp_path) as writer:
        for name, doc in bad + good:
            writer(name, doc)
        writer.wait(240)
        assert any("refuses run" in str(error) for error in writer.errors)
    assert [path.stem for path in tmp_path.glob("*.run")] == [bad[0][1]["uid"]]
    assert_stored(tiled_server.client(), good)


def test_metadata_of_strangers_is_stored_and_costs_nothing(tiled_server, scan_documents, tmp_path):
    documents = scan_documents().run()
    start = documents[0][1]
    given = {
        "data": Path("/data/pass-317"),
        "when": datetime.date(2026, 3, 1),
        "temperature": float("nan"),
        "flux_per_s": 1e20,
        "number": 2**60,
        "huge": 2**70,
        "a.b": {"c/d": {1: b"x"}},
        "hints": 3,
        "tiled_specs": "mine",
        "tiled_access_tags": 3,
        "ring": [],
    }
    given["ring"].append(given["ring"])
    start.update(given)
    start["xanes"]["n_darks"] = "many"
    with RawRunWriter(tiled_server.raw, spool_dir=tmp_path) as writer:
        for name, doc in documents:
            writer(name, doc)
        writer.wait(120)
        assert writer.errors == []
        assert str(writer.delivery()) == "all raw documents are in Tiled"
    assert_stored(tiled_server.client(), documents)
    stored = tiled_server.client()["raw"][start["uid"]].metadata["start"]
    assert {key: stored[key] for key in ("data", "when", "temperature", "hints", "tiled_specs_")} == {
        "data": "/data/pass-317",
        "when": "2026-03-01",
        "temperature": None,
        "hints": 3,
        "tiled_specs_": "mine",
    }
    # Numbers that the field's writer would clip to 53 bits.
    assert (stored["flux_per_s"], stored["number"], stored["huge"]) == (1e20, 2**60, str(2**70))
    assert stored["a.b"] == {"c/d": {"1": "x"}}
    assert "temperature: NaN" in stored["_metadata_notes"]


def test_a_document_that_cannot_be_stored_costs_that_document(tiled_server, scan_documents, tmp_path):
    documents = scan_documents().run()
    uid, camera = documents[0][1]["uid"], documents[1][1]["uid"]
    at = {"descriptor": camera, "time": 2.0, "timestamps": {}, "filled": {}}
    strange = [
        ("event", {**at, "uid": "1", "seq_num": 90, "data": None}),
        ("event", {**at, "uid": "2", "seq_num": 91, "data": {"camera_image": None}}),
        ("event", {**at, "uid": "3", "seq_num": 92, "data": {"camera_image": np.zeros((3, 3))}}),
        ("event", {**at, "uid": "4", "seq_num": "many", "data": {}}),
        ("event", {**at, "uid": "5", "descriptor": ["x"], "data": {}}),
        ("event", None),
        ("event_page", {"descriptor": camera, "uid": 3, "data": None}),
        ("descriptor", {"run_start": uid, "name": "lost"}),
        ("descriptor", {"run_start": uid, "uid": "bare", "name": "bare", "time": 1.0, "hints": 3}),
        ("event", {**at, "uid": "6", "descriptor": "bare", "seq_num": 1, "data": {"unknown": 1}}),
        ("resource", {"uid": "r", "run_start": uid}),
        ("stream_datum", {"uid": "d", "descriptor": camera, "stream_resource": 5}),
        ("bulk_events", {}),
        (None, {}),
    ]
    with RawRunWriter(tiled_server.raw, spool_dir=tmp_path) as writer:
        for name, doc in [*documents[:-1], *strange, documents[-1]]:
            writer(name, doc)
        writer.wait(120)
        assert not [error for error in writer.errors if not isinstance(error, CallbackError)]
        said = [str(error) for error in writer.errors]
        assert any("event 92" in text and "(3, 3)" in text for text in said)
        assert any(f"{uid}.kept" in text for text in said)
    assert_stored(tiled_server.client(), documents)
    # What is not in Tiled is not lost.
    assert [path.name for path in tmp_path.iterdir()] == [f"{uid}.kept"]


def test_values_that_are_not_what_was_announced_cost_no_event(tiled_server, tmp_path):
    run = event_model.compose_run(validate=False)
    keys = {
        "x": {"dtype": "number", "shape": [], "source": "x"},
        "n": {"dtype": "integer", "shape": [], "source": "x"},
        "text": {"dtype": "string", "shape": [], "source": "x"},
        "what": {"dtype": "any"},
    }
    stream = run.compose_descriptor(name="primary", data_keys=keys, validate=False)
    rows = [
        {"x": None, "n": None, "text": None, "what": None},
        {"x": 1, "n": 2, "text": "a", "what": 3},
        {"x": "broken", "n": 2.5, "text": 5},
        {"x": np.float32(2.5), "n": True, "text": Path("/a"), "what": [1]},
    ]
    documents = [("start", run.start_doc), ("descriptor", stream.descriptor_doc)]
    for row in rows:
        event = stream.compose_event(data=row, timestamps=dict.fromkeys(row, 1.0), validate=False)
        documents.append(("event", event))
    documents.append(("stop", run.compose_stop()))
    with RawRunWriter(tiled_server.raw, spool_dir=tmp_path) as writer:
        for name, doc in documents:
            writer(name, doc)
        writer.wait(120)
        assert any("'broken'" in str(error) for error in writer.errors)
    table = tiled_server.client()["raw"][run.start_doc["uid"]]["primary"].base["internal"].read()
    assert list(table["seq_num"]) == [1, 2, 3, 4]
    assert np.array_equal(table["x"], [np.nan, 1, np.nan, 2.5], equal_nan=True)
    assert list(table["text"]) == ["", "a", "5", "/a"]


def test_arrays_of_any_size_are_stored(tiled_server, tmp_path):
    values = {
        "quadrants": ([2, 2], [np.arange(4.0).reshape(2, 2) + n for n in range(3)]),
        "few": ([4], [np.arange(4) + n for n in range(3)]),
        "lists": ([2, 2], [[[1, 2], [3, n]] for n in range(3)]),
        "no_axis": ([], [np.array(float(n)) for n in range(3)]),
        "any_length": ([None], [np.arange(n) for n in range(3)]),
        "empty_at_first": ([0], [np.arange(float(n)) for n in range(3)]),
    }
    run = event_model.compose_run(validate=False)
    keys = {key: {"dtype": "array", "shape": shape, "source": "x"} for key, (shape, _) in values.items()}
    stream = run.compose_descriptor(name="primary", data_keys=keys, validate=False)
    documents = [("start", run.start_doc), ("descriptor", stream.descriptor_doc)]
    for n in range(3):
        row = {key: held[n] for key, (_, held) in values.items()}
        event = stream.compose_event(data=row, timestamps=dict.fromkeys(row, 1.0), validate=False)
        documents.append(("event", event))
    documents.append(("stop", run.compose_stop()))
    with RawRunWriter(tiled_server.raw, spool_dir=tmp_path) as writer:
        for name, doc in documents:
            writer(name, doc)
        writer.wait(120)
        assert not writer.errors
    stored = tiled_server.client()["raw"][run.start_doc["uid"]]
    assert stored.metadata["stop"]["exit_status"] == "success"
    data = stored["primary"].read()
    for key in ("quadrants", "few", "lists"):
        assert np.array_equal(data[key], values[key][1]), key
    assert np.array_equal(np.ravel(data["no_axis"]), [0, 1, 2])
    for key in ("any_length", "empty_at_first"):
        assert [json.loads(str(text)) for text in data[key].values] == [
            held.tolist() for held in values[key][1]
        ], key
    assert not list(tmp_path.iterdir())


def test_a_spool_that_cannot_be_written_costs_no_run_and_one_word(
    tiled_server, scan_documents, tmp_path, caplog
):
    (tmp_path / "spool").write_text("")  # where the folder should be, there is a file: a test may run as root
    documents = scan_documents().run()
    with RawRunWriter(tiled_server.raw, spool_dir=tmp_path / "spool") as writer:
        for name, doc in documents:
            writer(name, doc)
        writer.wait(120)
    assert_stored(tiled_server.client(), documents)
    assert sum("documents are kept in memory until Tiled has them" in r.message for r in caplog.records) == 1


@pytest.mark.parametrize("uid", ["../../x", "/abs", "", ".."])
def test_a_uid_that_is_a_path_harms_nothing(tiled_server, scan_documents, tmp_path, uid):
    before = set(tiled_server.client())
    documents = scan_documents().run()
    own = documents[0][1]["uid"]
    spool = tmp_path / "a" / "b" / "spool"
    with RawRunWriter(tiled_server.raw, spool_dir=spool) as writer:
        for name, doc in documents[:3]:
            changed = {key: uid if value == own else value for key, value in doc.items()}
            writer(name, changed)
        writer.wait(60)
        assert any("cannot be the name of a run" in str(error) for error in writer.errors)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != spool] == []
    assert len(list(spool.glob("*.run"))) == 1
    assert set(tiled_server.client()) == before


def test_a_uid_that_another_run_begins_with_is_a_run_of_its_own(tiled_server, scan_documents, tmp_path):
    first, second = scan_documents().run(), scan_documents(seed=2).run()
    own, short = second[0][1]["uid"], first[0][1]["uid"][:8]
    second = [(name, {k: short if v == own else v for k, v in doc.items()}) for name, doc in second]
    with RawRunWriter(tiled_server.raw, spool_dir=tmp_path) as writer:
        for name, doc in first + second:
            writer(name, doc)
        writer.wait(120)
        assert writer.errors == []
    assert_stored(tiled_server.client(), first)
    raw = tiled_server.client()["raw"]
    assert Container.__getitem__(raw, short).metadata["stop"]["exit_status"] == "success"


def test_small_events_are_written_in_batches(tiled_server, tmp_path):
    """As many events as a fast scan gives in some seconds leave in some dozen requests."""
    run = event_model.compose_run(validate=False)
    keys = {"x": {"dtype": "number", "shape": [], "source": "x"}}
    stream = run.compose_descriptor(name="primary", data_keys=keys, validate=False)
    requests = []
    raw = tiled_server.client()["raw"]
    http = raw.context.http_client
    http.event_hooks = {**http.event_hooks, "request": [*http.event_hooks["request"], requests.append]}
    with RawRunWriter(raw, spool_dir=tmp_path) as writer:
        writer("start", run.start_doc)
        writer("descriptor", stream.descriptor_doc)
        for number in range(3000):
            writer(
                "event",
                stream.compose_event(data={"x": float(number)}, timestamps={"x": 1.0}, validate=False),
            )
        writer("stop", run.compose_stop())
        writer.wait(120)
        assert writer.errors == []
        assert writer.delivery().documents_per_s > 0
    assert len(requests) < 100
    table = raw[run.start_doc["uid"]]["primary"].base["internal"].read()
    assert list(table["x"]) == list(range(3000))


def test_closing_without_an_answer_takes_bounded_time_and_says_what_waits(
    scan_documents, tmp_path, monkeypatch
):
    monkeypatch.setattr("callbacks.publish._raw_writer._NO_PROGRESS_S", 0.5)
    monkeypatch.setattr("callbacks.publish._raw_writer._JOIN_S", 0.5)
    with TiledServer(tmp_path / "data") as server:
        raw = server.raw
    documents = scan_documents().run()
    writer = RawRunWriter(raw, spool_dir=tmp_path / "spool")
    for name, doc in documents:
        writer(name, doc)
    began = time.monotonic()
    writer.close()
    assert time.monotonic() - began < 30  # of the client's retries alone take longer
    assert any(f"their {len(documents)} documents are kept in" in str(error) for error in writer.errors)


@pytest.mark.slow
def test_tiled_dies_and_returns_mid_scan(scan_documents, tmp_path, impatient_client, caplog):
    documents = scan_documents().run()
    with (
        TiledServer(tmp_path / "data") as server,
        RawRunWriter(server.raw, spool_dir=tmp_path / "spool") as writer,
    ):
        for name, doc in documents[:40]:
            writer(name, doc)
        writer.wait(240)
        os.kill(server.pid, signal.SIGKILL)
        for name, doc in documents[40:]:
            writer(name, doc)
        writer.wait(240)
        assert_stored(server.client(), documents)
        assert not list((tmp_path / "spool").iterdir())
        said = [record for record in caplog.records if "does not answer" in record.message]
        assert len(said) <= 1


@pytest.mark.slow
def test_tiled_is_never_there_and_the_next_session_delivers(
    scan_documents, tmp_path, impatient_client, caplog
):
    documents = scan_documents().run()
    with TiledServer(tmp_path / "data") as server:
        raw = server.raw
    writer = RawRunWriter(raw, spool_dir=tmp_path / "spool")
    with caplog.at_level(logging.ERROR):
        for name, doc in documents:
            writer(name, doc)
        with pytest.raises(DeliveryError, match="are kept in"):
            writer.wait(1)
        writer.close(timeout_s=1)
    assert sum("does not answer" in record.message for record in caplog.records) == 1
    assert len(list((tmp_path / "spool").glob("*.run"))) == 1
    with TiledServer(tmp_path / "data") as server:
        with RawRunWriter(server.raw, spool_dir=tmp_path / "spool") as writer:
            writer.wait(240)
        assert_stored(server.client(), documents)
    assert not list((tmp_path / "spool").iterdir())


def test_a_killed_session_loses_nothing_it_had_received(tiled_server, scan_documents, tmp_path):
    """A process is killed mid-scan; the next writer on its spool folder brings the run to Tiled."""
    code = f"""
        import os, signal, sys
        from nimco.testing import ScanDocuments
        from tiled.client import from_uri
        from callbacks import RawRunWriter
        documents = ScanDocuments().run()
        raw = from_uri({tiled_server.uri!r}, api_key={tiled_server.api_key!r})["raw"]
        writer = RawRunWriter(raw, spool_dir={str(tmp_path)!r})
        for name, doc in documents[:50]:
            writer(name, doc)
        writer.wait(240)
        print(documents[0][1]["uid"], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    uid = killed.stdout.strip()
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with RawRunWriter(tiled_server.raw, spool_dir=tmp_path) as writer:
        writer.wait(240)
        assert writer.errors == []
    run = tiled_server.client()["raw"][uid]
    assert run.metadata["stop"]["exit_status"] == "fail"
    assert "ended before its stop document" in run.metadata["stop"]["reason"]
    stored = sum(len(run[stream].base["internal"].read()) for stream in ("dark", "flat", "primary"))
    assert stored == 50 - 4  # all but start and descriptors


def spooled_documents(tmp_path, uid):
    """Documents of a small run without its stop, the file a killed process left of them, where each ends in it."""
    bundle = event_model.compose_run(uid=uid)
    keys = {"x": {"source": "here", "dtype": "array", "shape": [300], "dtype_numpy": "<u2"}}
    descriptor = bundle.compose_descriptor(name="primary", data_keys=keys)
    documents = [("start", dict(bundle.start_doc)), ("descriptor", dict(descriptor.descriptor_doc))]
    for number in range(3):
        event = descriptor.compose_event(
            data={"x": np.full(300, 1000 + number, np.uint16)}, timestamps={"x": float(number)}
        )
        documents.append(("event", dict(event)))
    path = tmp_path / "whole" / f"{uid}.run"
    spool = Spool(path)
    begins = [spool.append(name, doc) for name, doc in documents]
    spool.close()
    return documents, path.read_bytes(), [*begins, spool.nbytes]


def test_a_spool_cut_or_damaged_anywhere_gives_what_is_whole_and_the_rest_is_kept_and_named(
    tiled_server, tmp_path
):
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    expected: dict[str, list[int]] = {}
    damaged: set[str] = set()

    def leave(uid, content, whole, is_damaged):
        (folder / f"{uid}.run").write_bytes(content)
        expected[uid] = whole
        if is_damaged:
            damaged.add(uid)

    def new_run():
        uid = str(uuid.uuid4())
        documents, content, begins = spooled_documents(tmp_path, uid)
        assert len(begins) == len(documents) + 1
        return uid, content, begins

    _, _, (start, descriptor, *_, last, end) = new_run()
    for cut in (
        0,
        7,
        start,
        start + 43,
        start + 60,
        descriptor,
        descriptor + 60,
        last - 1,
        last,
        last + 44,
        end,
    ):
        uid, content, begins = new_run()
        whole = sum(record_end <= cut for record_end in begins[1:])
        leave(uid, content[:cut], list(range(whole)), cut not in begins[1:])
    for cut in (start + 60, last + 60):  # a file of the right length whose end was never written
        uid, content, begins = new_run()
        leave(
            uid,
            content[:cut] + bytes(len(content) - cut),
            list(range(sum(e <= cut for e in begins[1:]))),
            True,
        )
    for index in (0, 1, 3):
        uid, content, begins = new_run()
        hole = bytearray(content)
        hole[begins[index] + 60] ^= 255
        leave(uid, hole, [n for n in range(5) if n != index], True)
        uid, content, begins = new_run()
        gone = content[: begins[index]] + content[begins[index + 1] :]
        leave(uid, gone, [n for n in range(5) if n != index], True)
    with RawRunWriter(tiled_server.raw, spool_dir=folder) as writer:
        writer.wait(240)
        said = [str(error) for error in writer.errors]
    assert {path.name for path in folder.iterdir()} == {f"{uid}.damaged" for uid in damaged}
    raw = tiled_server.client()["raw"]
    for uid, whole in expected.items():
        if uid in damaged:
            assert sum(uid in text for text in said) >= 1, uid
        else:
            assert not any(uid[:8] in text for text in said)
        if 0 not in whole:
            assert uid not in raw
            continue
        assert raw[uid].metadata["stop"]["exit_status"] == "fail"
        if 1 in whole and whole[2:]:
            values = raw[uid]["primary"]["x"].read()
            assert values[:, 0].tolist() == [998 + n for n in whole if n >= 2]
