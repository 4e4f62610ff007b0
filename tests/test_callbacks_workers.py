import copy
import json
import logging
import pickle
import threading

import numpy as np
import pytest

from callbacks import CallbackError, DocumentWorker, LiveSOC, LiveSOCPlot, SOCPublisher, open_soc
from callbacks.documents import ErrorLog, LaterError, LatestWins


class Hostile(DocumentWorker):
    """Raises what it is given; keeps the rest."""

    def __init__(self, **options):
        self.handled = []
        super().__init__("hostile", **options)

    def _handle(self, name, doc):
        if isinstance(doc, threading.Event):
            doc.wait()
        elif isinstance(doc, BaseException):
            raise doc
        self.handled.append(doc)


@pytest.mark.parametrize(
    "error", [ValueError("x"), MemoryError(), SystemExit(3), KeyboardInterrupt(), GeneratorExit()]
)
def test_an_error_of_any_class_costs_one_document_and_is_told(error, caplog):
    with Hostile() as worker:
        for doc in (1, error, 2):
            worker("event", doc)
        worker.wait(60)
        assert worker.handled == [1, 2]
        assert worker.errors == [error]
    assert type(error).__name__ in caplog.text


def test_a_worker_that_died_is_started_again_and_told(caplog):
    """The thread itself fails, outside of any document."""
    with Hostile() as worker:
        get, failures = worker._queue.get, iter([SystemExit("the thread"), MemoryError("the queue")])

        def failing_get(timeout_s=None):
            for failure in failures:
                raise failure
            return get(timeout_s)

        worker._queue.get = failing_get
        for number in range(3):
            worker("event", number)
        worker.wait(60)
        assert worker.handled == [0, 1, 2]
        assert [str(error) for error in worker.errors] == ["the thread", "the queue"]


def test_wait_does_not_return_while_documents_are_unhandled():
    release = threading.Event()
    worker = Hostile(close_timeout_s=0.1)
    worker("event", release)
    with pytest.raises(CallbackError, match=r"hostile is still \d documents behind"):
        worker.wait(0.2)
    worker.close()
    assert "hostile has hung for 0.1 s; it is left behind" in str(worker.errors[-1])
    release.set()


def test_closing_names_a_subscriber_that_hangs_and_does_not_wait_for_it(scan_documents, caplog, monkeypatch):
    monkeypatch.setattr("callbacks.techniques._live_soc._SUBSCRIBER_TIMEOUT_S", 2.0)
    release, seen = threading.Event(), []

    def hanging_viewer(update):
        release.wait()

    def leaving_viewer(update):
        raise SystemExit(3)

    live = LiveSOC(subscribers=[hanging_viewer, leaving_viewer, seen.append])
    for name, doc in scan_documents().run():
        live(name, doc)
    DocumentWorker.wait(live)  # all is fitted; the subscribers may be at it still
    with pytest.raises(CallbackError, match="subscriber hanging_viewer has not returned"):
        live.wait(1)
    with caplog.at_level(logging.ERROR):
        live.close()
    assert "hanging_viewer has not returned within 2 s; it is left behind" in caplog.text
    assert "leaving_viewer failed" in caplog.text
    assert seen[-1].final
    release.set()


def test_what_subscribers_get_is_read_only_and_the_published_map_is_the_fitted_one(
    tiled_server, scan_documents, caplog
):
    scan, refused = scan_documents(), []

    def vandal(update):
        changes = (
            *(lambda array=array: array.values.fill(0) for array in update.variables.values() if array.size),
            lambda: update["soc"].values.__setitem__(0, 99),
            lambda: np.add(update["soc"].values, 1, out=update["soc"].values),
            lambda: update.attrs["references"]["mu"][0].append(0),
            lambda: update.attrs["parameters"]["energies_ev"].append(0),
            lambda: update.attrs["pixels"].update(OK=0),
        )
        for change in changes:
            with pytest.raises((ValueError, TypeError, AttributeError)):
                change()
        refused.append(len(changes))
        # What can be assigned stays with who assigned it.
        update["soc"] = update["soc"] * 0
        update["goodness"].attrs["units"] = update.attrs["edge"] = "forged"

    documents = scan.run(nested={"list": [{"key": [1, 2]}]})
    before = copy.deepcopy(documents[0][1])
    with SOCPublisher(tiled_server.maps) as publisher, LiveSOC(subscribers=[vandal, publisher]) as live:
        for name, doc in documents:
            live(name, doc)
        live.wait()
        publisher.wait()
        vandal(live.latest())
        update = live.latest()
    assert len(refused) >= 2
    assert "vandal failed" not in caplog.text
    soc = open_soc(tiled_server.client(), update.attrs["raw_uid"])["soc"].values
    assert np.array_equal(soc, update["soc"].values, equal_nan=True)
    assert np.nanmax(np.abs(soc - scan.soc)) < 0.2
    assert update.attrs["edge"] == "Ni_K"
    assert update["goodness"].attrs["units"] == ""
    # They compare, serialise and copy as plain data do.
    parameters = update.attrs["parameters"]
    assert json.loads(json.dumps(parameters)) == parameters == dict(parameters)
    for made in (copy.deepcopy(parameters), pickle.loads(pickle.dumps(parameters))):
        made["energies_ev"].append(3)
        assert made["energies_ev"][:-1] == parameters["energies_ev"]
    assert before == documents[0][1]


class Held:
    """A function that returns once it may, and may ask for the same again."""

    def __init__(self, *refused):
        self.taken, self.refused = [], list(refused)
        self.began, self.free = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, item):
        self.began.release()
        self.free.acquire()
        if item in self.refused:
            self.refused.remove(item)
            raise LaterError(0.0)
        self.taken.append(item)


def offered(worker, held, items):
    """Offer items while the first of them is in hand, then let the worker go on."""
    (key, first, final), *others = items
    worker.offer(key, first, final=final)
    held.began.acquire()
    for key, item, final in others:
        worker.offer(key, item, final=final)
    held.free.release(100)


def test_the_latest_of_each_key_and_every_final_one_is_taken_in_order():
    held = Held()
    worker = LatestWins(held, "held")
    items = [("a", n, False) for n in range(4)] + [
        ("b", 10, False),
        ("a", 4, True),
        ("a", 5, False),
        ("a", 6, True),
    ]
    offered(worker, held, items)
    assert worker.wait(60)
    assert held.taken == [0, 4, 10, 6]
    assert worker.close(60)


def test_a_final_one_that_is_refused_keeps_its_place_and_an_update_gives_way_to_a_newer_one():
    held = Held(1, 3, 3)
    worker = LatestWins(held, "held")
    offered(worker, held, [("a", 1, False), ("a", 2, False), ("b", 9, False)])
    assert worker.wait(60)
    assert held.taken == [2, 9]
    held.taken.clear()
    held.began, held.free = threading.Semaphore(0), threading.Semaphore(0)
    offered(worker, held, [("a", 3, True), ("a", 4, True)])
    assert worker.wait(60)
    assert held.taken == [3, 4]
    assert worker.log.errors == []


def test_stopping_returns_what_was_not_dealt_with_also_what_is_in_hand():
    held = Held()
    worker = LatestWins(held, "held")
    worker.offer("a", 1, final=True)
    held.began.acquire()
    worker.offer("a", 2)
    worker.offer("a", 3)
    assert len(worker) == 2
    assert worker.stop(0.0) == [1, 3]
    held.free.release(100)


def test_one_worker_stands_before_each_sink_and_each_final_result_reaches_all(
    tiled_server, scan_documents, tmp_path
):
    """Two edges' scans come faster than a sink is: updates are passed over, the final result of each is not."""
    before = set(threading.enumerate())
    seen, slow = [], threading.Event()

    def slow_viewer(result):
        slow.wait(0.2)
        seen.append((result.attrs["raw_uid"], result.attrs["final"]))

    plot = LiveSOCPlot(tmp_path / "map.png", show=False)
    with (
        SOCPublisher(tiled_server.maps) as publisher,
        plot,
        LiveSOC(subscribers=[slow_viewer, publisher, plot], update_frames=1) as live,
    ):
        names = [thread.name for thread in threading.enumerate() if thread not in before]
        assert sorted(name for name in names if "SOC" in name) == [
            "SOC plot",
            "SOC publisher",
            "SOC subscriber slow_viewer",
            "live SOC analysis",
        ]
        uids = []
        for _ in range(2):
            for name, doc in scan_documents().run():
                live(name, doc)
                uids += [doc["uid"]] if name == "start" else []
        live.wait(240)
        publisher.wait(60)
        plot.wait(60)
    assert [uid for uid, final in seen if final] == uids
    assert len(seen) < 2 * 36
    for uid in uids:
        assert open_soc(tiled_server.client(), uid).attrs["final"]
    assert plot.path.stat().st_size
    assert live.errors == publisher.errors == plot.errors == []


def test_what_is_said_once_is_said_again_only_when_long_forgotten(caplog):
    log = ErrorLog("a worker")
    for _ in range(3):
        log.expected(CallbackError("the disk is full"))
        log.unexpected(ValueError("odd"))
    assert caplog.text.count("the disk is full") == caplog.text.count("a worker: ValueError: odd") == 1
    for number in range(2000):
        log.expected(CallbackError(f"error {number}"))
    assert len(log.errors) == 100
    caplog.clear()
    log.expected(CallbackError("the disk is full"))
    assert "the disk is full" in caplog.text
