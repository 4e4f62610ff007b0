"""What Tiled holds of a scan that was paused, aborted and resumed."""

import numpy as np
import pytest
from bluesky import Msg, RunEngine
from bluesky.preprocessors import plan_mutator
from bluesky.utils import RunEngineInterrupted, single_gen

from beamline_plans import EnergyGrid, RunLedger, resume_scan, validate_run_documents, xanes_scan
from callbacks import LiveSOC
from nimco import RemoteTiled, Session, TiledServer, open_soc
from nimco._commands import reanalyse
from scan_contract import read_contract
from sim_devices import SimBeamline

GRID = EnergyGrid((8300.0, 8345.0, 8350.0, 8400.0), 0.1)


def with_pauses(plan, at):
    count = [0]

    def mutate(msg):
        count[0] += 1
        return (None, single_gen(Msg("pause", defer=False))) if count[0] in at else (None, None)

    return plan_mutator(plan, mutate)


def stored_frames(run, stream):
    """Image of each (energy index, repeat, attempt), as a reader of Tiled finds them."""
    table = {key: run[stream][f"xanes_{key}"].read() for key in ("energy_index", "repeat", "attempt")}
    labels = list(zip(*(np.asarray(column).tolist() for column in table.values()), strict=True))
    images = np.asarray(run[stream]["camera_image"].read())
    assert len(labels) == len(images) == len(set(labels))
    return dict(zip(labels, images, strict=True))


@pytest.mark.slow
def test_tiled_holds_every_frame_under_its_own_name(tmp_path):
    documents = []
    beamline = SimBeamline((16, 16), seed=1)
    devices = (beamline.camera, beamline.energy, beamline.shutter, beamline.stage)
    RE = RunEngine({})
    with TiledServer(tmp_path) as server, Session(server) as session:
        RE.subscribe(session)
        RE.subscribe(lambda name, doc: documents.append((name, doc)))
        scan = xanes_scan(*devices, edge="Ni_K", grid=GRID, i0=beamline.i0, n_darks=2, repeats=2)
        with pytest.raises(RunEngineInterrupted):
            RE(with_pauses(scan, {60, 90, 105}))
        for _ in range(2):
            with pytest.raises(RunEngineInterrupted):
                RE.resume()
        RE.abort()
        session.wait(240)
        uid = documents[0][1]["uid"]
        raw = server.client()["raw"]
        ledger = RunLedger()
        ledger.add_documents(raw[uid].documents())
        assert ledger.taken(uid).missing()["primary"]
        (second,) = RE(resume_scan(*devices, uid=uid, archive=ledger, i0=beamline.i0))
        session.wait(240)
        runs = [raw[uid], raw[second]]
        for run in runs:
            validate_run_documents(run.documents())
        streams = {
            doc["uid"]: (doc["run_start"], doc["name"]) for name, doc in documents if name == "descriptor"
        }
        held = set()
        for run, run_uid in zip(runs, (uid, second), strict=True):
            emitted = {}
            for name, doc in documents:
                if name == "event" and streams[doc["descriptor"]] == (run_uid, "primary"):
                    label = tuple(
                        doc["data"][f"xanes_{key}"] for key in ("energy_index", "repeat", "attempt")
                    )
                    emitted[label] = doc["data"]["camera_image"]
            stored = stored_frames(run, "primary")
            assert stored.keys() == emitted.keys()
            for label, image in stored.items():
                np.testing.assert_array_equal(image, emitted[label])
            held |= {(index, repeat) for index, repeat, _ in stored}
    assert held == {(index, repeat) for index in range(len(GRID)) for repeat in range(2)}
    attempts = [doc["data"]["xanes_attempt"] for name, doc in documents if name == "event"]
    assert max(attempts) > 0


@pytest.mark.slow
def test_the_map_of_a_resumed_scan_is_that_of_the_whole_scan(tmp_path, monkeypatch):
    beamline = SimBeamline((48, 48), seed=1)
    devices = (beamline.camera, beamline.energy, beamline.shutter, beamline.stage)
    ledger = RunLedger()
    RE = RunEngine({})
    grid = EnergyGrid.preset("fxi_41", "Ni_K", exposure_s=0.5)
    with TiledServer(tmp_path) as server, Session(server) as session:
        RE.subscribe(session)
        RE.subscribe(ledger)
        scan = xanes_scan(*devices, edge="Ni_K", grid=grid, i0=beamline.i0, n_darks=2)
        with pytest.raises(RunEngineInterrupted):
            RE(with_pauses(scan, {500}))
        (first,) = RE.abort()
        session.wait(240)
        cut_short = session.live.latest(first)
        assert 0 < cut_short.attrs["n_frames"] < len(grid)
        (second,) = RE(resume_scan(*devices, uid=first, archive=ledger, i0=beamline.i0))
        session.wait(240)
        update = session.live.latest(second)
        assert session.live.errors == []
        assert update.attrs["raw_uids"] == [first, second]
        assert update.attrs["complete"]
        assert update.attrs["n_frames"] == update.attrs["frames_expected"] == len(grid)
        truth = beamline.twin.truth("Ni_K")
        thick = truth.jump > 0.2
        found = update["edge_energy_ev"].values[thick]
        assert np.isfinite(found).mean() > 0.95
        assert np.corrcoef(found[np.isfinite(found)], truth.soc[thick][np.isfinite(found)])[0, 1] > 0.5

        # The same from what is stored, in a process that never saw the interrupted run.
        monkeypatch.setenv("TILED_API_KEY", server.api_key)
        before = open_soc(server.client(), second)
        reanalyse([second], tiled=server.uri, data_dir=tmp_path / "anew")
        anew = open_soc(server.client(), second)
        assert anew.attrs["raw_uids"] == [first, second]
        assert anew.attrs["n_frames"] == len(grid)
        np.testing.assert_allclose(anew.edge_energy_ev, before.edge_energy_ev, atol=0.01)


def test_flats_taken_before_all_frames_serve_a_scan_that_is_aborted_and_resumed(tiled_server, tmp_path):
    beamline = SimBeamline((24, 24), seed=1)
    devices = (beamline.camera, beamline.energy, beamline.shutter, beamline.stage)
    grid = EnergyGrid.from_regions(
        [(8250.0, 8330.0, 20.0, 0.1), (8333.0, 8363.0, 3.0, 0.1), (8370.0, 8500.0, 20.0, 0.1)]
    )
    ledger, RE = RunLedger(), RunEngine({})
    remote = RemoteTiled(tiled_server.uri, tiled_server.api_key, data_dir=tmp_path)
    with Session(remote) as session:
        RE.subscribe(session)
        RE.subscribe(ledger)
        scan = xanes_scan(
            *devices, edge="Ni_K", grid=grid, i0=beamline.i0, n_darks=2, n_flats=3, flat_order="before_all",
        )  # fmt: skip
        with pytest.raises(RunEngineInterrupted):
            RE(with_pauses(scan, {200}))
        (first,) = RE.abort()
        session.wait(240)
        n_first = session.live.latest(first).attrs["n_frames"]
        assert 0 < n_first < len(grid)
        (second,) = RE(resume_scan(*devices, uid=first, archive=ledger, i0=beamline.i0))
        session.wait(240)
        assert session.live.errors == []
        live = session.live.latest(second)
    raw = tiled_server.client()["raw"]
    for uid, n_frames in ((first, n_first), (second, len(grid) - n_first)):
        validate_run_documents(raw[uid].documents())
        assert read_contract(raw[uid].metadata["start"]).scan.flat_order == "before_all"
        assert raw[uid]["flat"]["xanes_energy_index"].read().tolist() == [-1, -1, -1]
        assert len(raw[uid]["primary"]["xanes_energy_index"].read()) == n_frames
    published = open_soc(tiled_server.client(), second)
    with LiveSOC(update_period_s=1e9) as anew:
        for uid in (first, second):
            for name, doc in raw[uid].documents():
                anew(name, doc)
        anew.wait(240)
        assert anew.errors == []
        replayed = anew.latest(second)
    for result in (live, published, replayed):
        assert result.attrs["raw_uids"] == [first, second]
        assert (result.attrs["n_frames"], result.attrs["complete"]) == (len(grid), True)
        assert not [text for text in result.attrs["warnings"] if "missing" in text or "left out" in text]
        np.testing.assert_allclose(result["edge_energy_ev"], live["edge_energy_ev"], atol=1e-3)
    thick = beamline.twin.truth("Ni_K").jump > 0.2
    assert np.isfinite(live["edge_energy_ev"].values[thick]).mean() > 0.9
