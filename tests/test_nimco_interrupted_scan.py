"""What Tiled holds of a scan that was paused, aborted and resumed."""

import numpy as np
import pytest
from bluesky import Msg, RunEngine
from bluesky.preprocessors import plan_mutator
from bluesky.utils import RunEngineInterrupted, single_gen

from beamline_plans import EnergyGrid, RunLedger, resume_scan, validate_run_documents, xanes_scan
from nimco import Session, TiledServer
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
        session.wait(60)
        uid = documents[0][1]["uid"]
        raw = server.client()["raw"]
        ledger = RunLedger()
        ledger.add_documents(raw[uid].documents())
        assert ledger.taken(uid).missing()["primary"]
        (second,) = RE(resume_scan(*devices, uid=uid, archive=ledger, i0=beamline.i0))
        session.wait(60)
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
