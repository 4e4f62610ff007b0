import copy
import json
import logging
import pickle
import threading

import numpy as np
import pytest

from callbacks import CallbackError, DocumentWorker, LiveSOC, SOCPublisher, open_soc


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
    worker = Hostile(patience_s=0.1)
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
    tiled_server, scan_documents
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
        runner_errors = [error for runner in live._runners for error in runner.errors]
    assert len(refused) >= 2
    assert runner_errors == []
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
