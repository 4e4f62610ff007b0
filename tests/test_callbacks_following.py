import threading

import numpy as np
import pytest

from callbacks import LiveSOC, ReadingError, SOCPublisher, follow_soc


def test_another_client_sees_the_map_grow_and_the_final_one(tiled_server, scan_documents):
    documents = scan_documents().run()
    uid = documents[0][1]["uid"]
    seen = []
    first = threading.Event()

    def follow():
        for followed in follow_soc(tiled_server.client(), uid):
            seen.append(followed)
            first.set()

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    with (
        SOCPublisher(tiled_server.maps) as publisher,
        LiveSOC(subscribers=[publisher], update_period_s=0.0) as live,
    ):
        for name, doc in documents[:60]:
            live(name, doc)
        live.wait(240)
        publisher.wait(240)
        assert first.wait(240)
        for name, doc in documents[60:]:
            live(name, doc)
            live.wait(240)
            publisher.wait(240)
        follower.join(240)
        assert not follower.is_alive()
        final = live.latest(uid)["soc"].values
    assert np.array_equal(seen[-1].values, final, equal_nan=True)
    assert len(seen) > 2
    pushed = [followed.sequence for followed in seen if followed.sequence]
    assert pushed
    assert pushed == sorted(pushed)


def test_following_a_run_that_is_over_gives_its_final_map(tiled_server, scan_documents):
    documents = scan_documents().run()
    uid = documents[0][1]["uid"]
    with SOCPublisher(tiled_server.maps) as publisher, LiveSOC(subscribers=[publisher]) as live:
        for name, doc in documents:
            live(name, doc)
        live.wait(240)
        publisher.wait(240)
        final = live.latest(uid)["soc"].values
    *_, last = follow_soc(tiled_server.client(), uid)
    with pytest.raises(ReadingError, match="colour"):
        next(follow_soc(tiled_server.client(), uid, array="colour"))
    assert np.array_equal(last.values, final, equal_nan=True)


def test_a_map_that_never_comes(tiled_server):
    with pytest.raises(ReadingError, match="no maps of run never"):
        next(follow_soc(tiled_server.client(), "never", timeout_s=0.1))
