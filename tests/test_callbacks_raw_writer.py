import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from callbacks import DeliveryError, RawRunWriter
from nimco._server import TiledServer


@pytest.fixture
def impatient(monkeypatch):
    """Let tiled's client give a dead server up at once, so that our own handling is what is tested."""
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)


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


def test_two_runs_at_once_from_two_sessions(tiled_server, scan_documents, tmp_path):
    runs = [scan_documents(seed=seed).run() for seed in (1, 2)]
    writers = [RawRunWriter(tiled_server.raw, spool_dir=tmp_path) for _ in runs]
    for pair in zip(*runs, strict=True):
        for writer, (name, doc) in zip(writers, pair, strict=True):
            writer(name, doc)
    for writer in writers:
        writer.close()
        assert writer.errors == []
    for documents in runs:
        assert_stored(tiled_server.client(), documents)


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


@pytest.mark.slow
def test_tiled_dies_and_returns_mid_scan(scan_documents, tmp_path, impatient, caplog):
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
def test_tiled_is_never_there_and_the_next_session_delivers(scan_documents, tmp_path, impatient, caplog):
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
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from conftest import ScanDocuments
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
