import logging
import socket
import threading
import time

import numpy as np
import pytest
from bluesky import RunEngine

from beamline_plans import EnergyGrid, xanes_scan
from callbacks import open_soc
from nimco import RemoteTiled, Session, TiledServer
from sim_devices import SimBeamline


@pytest.fixture
def remote(tiled_server, tmp_path):
    return RemoteTiled(tiled_server.uri, tiled_server.api_key, data_dir=tmp_path / "session")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("nimco._session._CLOSE_TIMEOUT_S", 2.0)
    monkeypatch.setattr("callbacks.techniques._live_soc._SUBSCRIBER_TIMEOUT_S", 2.0)


def test_nothing_that_listens_reaches_the_run_engine_or_the_others(remote, scan_documents, impatient, caplog):
    release, seen = threading.Event(), []
    threads = set()

    def raising(name, doc):
        threads.add(threading.current_thread())
        raise {"start": KeyboardInterrupt, "event": SystemExit, "stop": MemoryError}.get(name, ValueError)(
            name
        )

    def hanging(name, doc):
        release.wait()

    def counting(name, doc):
        seen.append(name)

    beamline = SimBeamline((16, 16), seed=1)
    references = scan_documents().references.to_dict()
    with Session(remote, observers=[raising, hanging, counting]) as session:
        session.live.subscribe(lambda update: 1 / 0)
        session.live.subscribe(lambda update: release.wait())
        run_engine = RunEngine()
        run_engine.subscribe(session)
        (uid,) = run_engine(
            xanes_scan(
                beamline.camera, beamline.energy, beamline.shutter, beamline.stage, edge="Ni_K", i0=beamline.i0,
                grid=EnergyGrid(tuple(np.linspace(8250, 8500, 14)), 0.01), references=references, n_darks=2,
            )
        )  # fmt: skip
        session("event", None)  # whatever it is given
        session.raw_writer.wait()
    assert threading.main_thread() not in threads
    assert seen.count("start") == seen.count("stop") == 1
    assert open_soc(remote.client(), uid).attrs["final"] is True
    assert remote.raw[uid].metadata["stop"]["exit_status"] == "success"
    kinds = {type(error) for error in session.errors}
    assert {KeyboardInterrupt, SystemExit, MemoryError} <= kinds
    assert "observer hanging has hung" in caplog.text
    assert "lambda> has not returned within 2 s; it is left behind" in caplog.text
    release.set()


def test_what_a_session_holds_and_how_far_delivery_is_can_be_seen(remote, scan_documents):
    with Session(remote) as session:
        assert remote.uri in repr(session)
        assert "0 received" in repr(session)
        documents = scan_documents().run()
        for name, doc in documents:
            session(name, doc)
        for name, doc in scan_documents(n_energies=13).run(xanes=None)[:1]:
            session(name, doc)
            session(
                "stop",
                {"uid": "its end", "run_start": doc["uid"], "time": doc["time"], "exit_status": "success"},
            )
        session.wait()
        told = repr(session)
        assert "2 received, 1 of them energy scans" in told
        assert f"map     {documents[0][1]['uid'][:8]} Ni K: 36 of 36 frames, success" in told
        assert "waiting 0 documents for the analysis, 0 documents and 0 maps for Tiled" in told
        assert "api_key" not in told
        assert remote.api_key not in told
    assert "(closed)" in repr(session)


@pytest.mark.slow
def test_a_server_that_is_gone_holds_up_the_end_of_a_session_for_seconds(
    tmp_path, scan_documents, impatient, caplog
):
    """The address takes connections and answers none, which is the slowest way to be gone."""
    documents = scan_documents().run()
    with TiledServer(tmp_path / "data") as server:
        session = Session(RemoteTiled(server.uri, server.api_key, data_dir=tmp_path / "session")).start()
        address = (server.host, server.port)

    with socket.create_server(address, reuse_port=False):
        for name, doc in documents:
            session(name, doc)
        session.live.wait()
        began = time.monotonic()
        with caplog.at_level(logging.ERROR):
            session.close()
        took_s = time.monotonic() - began
    assert took_s < 30, took_s
    assert "documents are kept in" in caplog.text
    assert "map(s) could not be written to Tiled and are kept in" in caplog.text
    assert "spool   1 run and 1 map in" in repr(session)
    with TiledServer(tmp_path / "data") as server:
        again = RemoteTiled(server.uri, server.api_key, data_dir=tmp_path / "session")
        with Session(again) as session:
            session.raw_writer.wait()
            session.publisher.wait()
        uid = documents[0][1]["uid"]
        assert open_soc(again.client(), uid).attrs["final"] is True
        assert again.raw[uid].metadata["stop"]["exit_status"] == "success"
