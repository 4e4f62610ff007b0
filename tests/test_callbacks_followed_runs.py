"""Documents dropped between processes, with a real Tiled server to fill the gaps from."""

import logging

import numpy as np
import pytest

from callbacks import DroppedDocumentsError, FollowedRuns, LiveSOC, RawRunWriter
from callbacks.documents import DocumentWorker
from nimco.testing import wait_until


class Recorder(DocumentWorker):
    """A consumer that keeps what it gets."""

    def __init__(self) -> None:
        self.documents: list[tuple[str, dict]] = []
        super().__init__("recorder")

    def _handle(self, name, doc):
        self.documents.append((name, doc))


def store(server, documents):
    with RawRunWriter(server.raw) as writer:
        for name, doc in documents:
            writer(name, doc)
        writer.wait(240)


def numbers(documents):
    streams = {doc["uid"]: doc["name"] for name, doc in documents if name == "descriptor"}
    return sorted((streams[doc["descriptor"]], doc["seq_num"]) for name, doc in documents if name == "event")


def map_of(documents):
    with LiveSOC() as live:
        for name, doc in documents:
            live(name, doc)
        live.wait(240)
        return live.latest(documents[0][1]["uid"])["soc"].values


def followed(documents, raw, *, uid=None, n_events=None, missing_timeout_s=60.0, since_s=None):
    """Follow documents; return the live analysis' last update, what was passed on, and the errors."""
    with LiveSOC() as live, Recorder() as recorder:

        class Both(Recorder):
            def _handle(self, name, doc):
                live(name, doc)
                recorder(name, doc)

        both = Both()
        runs = FollowedRuns(both, raw, missing_timeout_s=missing_timeout_s, since_s=since_s)
        for name, doc in documents:
            runs(name, doc)
        runs.wait(240)

        def is_done():
            if n_events is None:
                return any(name == "stop" for name, _ in recorder.documents)
            return len(numbers(recorder.documents)) == n_events

        wait_until(is_done)
        runs.close()
        both.close()
        live.wait(240)
        recorder.wait(240)
        return live.latest(uid), recorder.documents, runs.errors


def test_a_complete_run_passes_unchanged_and_nothing_is_asked_of_tiled(scan_documents):
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError("Tiled was asked")

    documents = scan_documents().run()
    runs = FollowedRuns(recorder := Recorder(), None)
    runs.wait(240)
    runs._raw = Untouchable()
    runs._next_asking = 1e9  # looking for runs that nothing was heard of is right
    for name, doc in [documents[0], *documents, *documents[-3:]]:
        runs(name, doc)
    runs.wait(240)
    wait_until(lambda: recorder.documents and recorder.documents[-1][0] == "stop")
    runs.close()
    recorder.close()
    assert recorder.documents == documents
    assert runs.errors == []


@pytest.mark.parametrize(
    "lost", ["events", "descriptor", "start", "beginning", "end", "stop", "everything but one"]
)
def test_what_is_dropped_on_the_way_is_filled_from_tiled(tiled_server, scan_documents, lost):
    documents = scan_documents().run()
    store(tiled_server, documents)
    rng = np.random.default_rng(5)
    kept = {
        "events": [item for item in documents if item[0] != "event" or rng.random() < 0.7],
        "descriptor": [item for item in documents if item[0] != "descriptor"],
        "start": documents[1:],
        "beginning": documents[30:],
        "end": [*documents[:30], documents[-1]],
        "stop": documents[:-1],
        "everything but one": documents[40:41],
    }[lost]
    update, told, errors = followed(kept, tiled_server.client()["raw"], uid=documents[0][1]["uid"])
    assert numbers(told) == numbers(documents)
    assert [name for name, _ in told].count("stop") == 1
    assert update.attrs["complete"]
    assert np.array_equal(update["soc"].values, map_of(documents), equal_nan=True)
    assert errors == []


def test_a_run_under_way_is_taken_up_at_the_start_of_the_process(tiled_server, scan_documents):
    documents = scan_documents(n_darks=1).run()  # stored event by event
    with RawRunWriter(tiled_server.raw) as writer:
        for name, doc in documents[:40]:
            writer(name, doc)
        writer.wait(240)
        # No document reaches the new process before the end of the scan.
        _, told, errors = followed([], tiled_server.client()["raw"], n_events=len(numbers(documents[:40])))
        assert errors == []
        assert numbers(told) == numbers(documents[:40])
        for name, doc in documents[40:]:
            writer(name, doc)
    # Started again in the middle; two events fell between what was stored then and what it still received.
    update, told, errors = followed(documents[42:], tiled_server.client()["raw"], uid=documents[0][1]["uid"])
    assert errors == []
    assert update.attrs["complete"]
    assert numbers(told) == numbers(documents)


def test_a_scan_that_ended_while_the_process_started_is_analysed_and_an_earlier_one_is_not(
    tiled_server, scan_documents
):
    earlier, documents = scan_documents().run(), scan_documents().run()
    earlier = [(name, {**doc, "time": doc["time"] - 60} if name == "stop" else doc) for name, doc in earlier]
    store(tiled_server, earlier)
    store(tiled_server, documents)
    began_s = documents[-1][1]["time"] - 1
    _, told, errors = followed([], tiled_server.client()["raw"], since_s=began_s)
    assert errors == []
    assert numbers(told) == numbers(documents)
    assert {doc["uid"] for name, doc in told if name == "start"} == {documents[0][1]["uid"]}


def test_a_store_that_lags_behind_is_waited_for(tiled_server, scan_documents):
    import threading

    documents = scan_documents().run()
    late = threading.Timer(1.0, store, [tiled_server, documents])
    late.start()
    update, told, _ = followed([*documents[:20], *documents[25:]], tiled_server.client()["raw"])
    late.join()
    assert update.attrs["complete"]
    assert numbers(told) == numbers(documents)


def test_without_tiled_what_is_lost_is_said_once_and_the_rest_is_right(scan_documents, caplog):
    scan = scan_documents()
    documents = scan.run()
    lost = [index for index, (name, doc) in enumerate(documents) if name == "event"][20:26]
    kept = [item for index, item in enumerate(documents) if index not in lost]
    with caplog.at_level(logging.ERROR):
        update, _, errors = followed(kept, None)
    assert {type(error) for error in errors} == {DroppedDocumentsError}
    said = [record.getMessage() for record in caplog.records if "lost on the way" in record.getMessage()]
    assert len(said) == len(set(said))
    assert "no Tiled server was given to ask" in said[0]
    assert not update.attrs["complete"]
    assert np.sqrt(np.nanmean((update["soc"].values - scan.soc) ** 2)) < 0.01


def test_what_is_not_in_tiled_either_is_said_and_the_run_still_ends(tiled_server, scan_documents):
    documents = scan_documents().run()
    kept = [item for index, item in enumerate(documents) if not 20 <= index < 26]
    store(tiled_server, kept)
    update, told, errors = followed(kept, tiled_server.client()["raw"], missing_timeout_s=0.5)
    assert told[-1][0] == "stop"
    assert any("could not be had from Tiled" in str(error) for error in errors)
    assert update.attrs["n_frames"] == update.attrs["frames_expected"] - 3


def test_tiled_that_cannot_be_reached_does_not_end_the_analysis(tmp_path, scan_documents):
    from nimco import TiledServer

    documents = scan_documents().run()
    with TiledServer(tmp_path) as server:
        raw = server.client()["raw"]
    kept = [item for index, item in enumerate(documents) if index != 30]
    update, _, errors = followed(kept, raw, missing_timeout_s=0.5)
    assert update.attrs["n_frames"] >= update.attrs["frames_expected"] - 1
    assert any("could not be had from Tiled" in str(error) for error in errors)
