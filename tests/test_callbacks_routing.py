"""Which run a document belongs to, and where event-model's routers do the job."""

import io

import numpy as np
import pytest
from event_model import RunRouter, pack_event_page
from rich.console import Console

from beamline_plans import RunLedger, learn_times
from callbacks.documents import RunRouting
from nimco._progress import ScanProgress
from nimco.testing import ScanDocuments, play

DOCUMENTS = ScanDocuments((4, 4), n_energies=16).run()
START, DESCRIPTOR, EVENT = (DOCUMENTS[i] for i in range(3))
UID = START[1]["uid"]


def in_pages(documents, size=4):
    """The same run with its events in pages of one stream."""
    told, held = [], {}

    def release(descriptor):
        if events := held.pop(descriptor, None):
            told.append(("event_page", pack_event_page(*events)))

    for name, doc in documents:
        if name == "event":
            held.setdefault(doc["descriptor"], []).append(doc)
            if len(held[doc["descriptor"]]) == size:
                release(doc["descriptor"])
            continue
        if name == "stop":
            for descriptor in list(held):
                release(descriptor)
        told.append((name, doc))
    return told


def test_every_document_of_a_run_is_told_its_run_until_it_is_forgotten():
    routing = RunRouting()
    for name, doc in in_pages(DOCUMENTS):
        assert routing.run_of(name, doc) == UID
    routing.forget(UID)
    assert routing.run_of(*EVENT) is None


@pytest.mark.parametrize(
    ("documents", "raised"),
    [
        ([EVENT], KeyError),
        ([DESCRIPTOR], KeyError),
        ([START, START, DESCRIPTOR], ValueError),
        ([START, ("descriptor", None)], TypeError),
        ([("start", {"plan_name": "x"})], KeyError),
    ],
    ids=["an event of a run not heard", "a descriptor", "a start twice", "no mapping", "no uid"],
)
def test_what_event_models_router_raises_at_is_only_passed_over(documents, raised):
    with pytest.raises(raised):
        play(RunRouter([lambda name, doc: ([], [])]), documents)
    routing = RunRouting()
    runs = [routing.run_of(name, doc) for name, doc in documents]
    assert runs[-1] == (UID if documents[-1] is DESCRIPTOR and len(documents) == 3 else None)


def test_event_models_router_packs_every_frame_into_a_page():
    names = []
    play(RunRouter([lambda name, doc: ([lambda name, doc: names.append(name)], [])]), DOCUMENTS)
    assert "event_page" in names
    assert "event" not in names


def test_pages_of_events_count_like_events():
    ledgers, bars = [], []
    for documents in (DOCUMENTS, in_pages(DOCUMENTS)):
        ledgers.append(RunLedger())
        ledgers[-1].add_documents(documents)
        written = io.StringIO()
        with ScanProgress(Console(file=written, force_terminal=True, width=120)) as progress:
            play(progress, documents)
        bars.append(written.getvalue())
    taken = [ledger.taken(UID).frames for ledger in ledgers]
    assert taken[0] == taken[1]
    assert len(taken[0]["primary"]) == 16
    assert "34/34" in bars[0]
    assert "34/34" in bars[1]


def test_durations_are_learnt_from_pages_too():
    timed, time_s = [], 0.0
    for name, doc in DOCUMENTS:
        if name == "event":
            time_s += 1.5
            doc = {**doc, "time": time_s}
        timed.append((name, doc))
    paged = in_pages(timed, size=1)
    assert {name for name, _ in paged} >= {"event_page"}
    assert learn_times(paged).to_dict() == pytest.approx(learn_times(timed).to_dict())
    assert not np.isnan(learn_times(paged).frame_s)
