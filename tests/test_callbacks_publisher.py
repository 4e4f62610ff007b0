import logging
import os
import signal

import numpy as np
import pytest

from callbacks import DeliveryError, LiveSOC, RawRunWriter, SOCPublisher, open_soc
from nimco import TiledServer


def updates_of(documents, upto=None):
    """All updates of a run, one per frame."""
    updates = []
    with LiveSOC(subscribers=[updates.append], update_period_s=0.0) as live:
        for name, doc in documents[:upto]:
            live(name, doc)
            live.wait(240)
    return updates


def test_being_called_does_not_wait_for_the_writing(tiled_server, scan_documents):
    update = updates_of(scan_documents().run(), upto=60)[-1]
    with SOCPublisher(tiled_server.maps) as publisher:
        for _ in range(1000):
            publisher(update)
        publisher.wait(240)
    # Each that is written writes several arrays; those that a newer one has overtaken are not.
    assert 0 < publisher.n_moved < 1000


def test_the_map_can_be_read_while_the_scan_runs_and_is_marked_partial(tiled_server, scan_documents):
    documents = scan_documents().run()
    update = updates_of(documents, upto=60)[-1]
    publisher = SOCPublisher(tiled_server.maps)
    publisher(update)
    publisher.wait(240)
    maps = open_soc(tiled_server.client(), update.attrs["raw_uid"])
    assert maps.attrs["final"] is False
    assert maps.attrs["partial"] is True
    assert maps.attrs["n_frames"] == update.attrs["n_frames"]
    assert np.array_equal(maps.soc.values, update["soc"].values, equal_nan=True)
    publisher.close()


def test_a_restarted_analysis_takes_up_the_maps_it_left(tiled_server, scan_documents):
    documents = scan_documents().run()
    updates = updates_of(documents)
    for update in (updates[len(updates) // 2], updates[-1]):
        with SOCPublisher(tiled_server.maps) as publisher:
            publisher(update)
            publisher.wait(240)
            assert publisher.errors == []
    maps = open_soc(tiled_server.client(), updates[-1].raw_uid)
    assert maps.attrs["final"] is True
    assert np.array_equal(maps.soc.values, updates[-1]["soc"].values, equal_nan=True)


def test_a_map_that_cannot_be_written_costs_only_itself(tiled_server, scan_documents, tmp_path, caplog):
    first, second = (updates_of(scan_documents().run())[-1] for _ in range(2))
    nonsense = first.assign_attrs(pixel_size_nm=object())
    with SOCPublisher(tiled_server.maps, spool_dir=tmp_path) as publisher:
        publisher(first.assign_attrs(edge="a/name/with/slashes"))
        publisher.wait(240)
        publisher(nonsense)
        publisher(second)
        publisher.wait(240)
        assert len(publisher.errors) >= 2
    assert open_soc(tiled_server.client(), second.raw_uid).attrs["final"] is True


@pytest.mark.slow
def test_maps_made_while_tiled_is_away_are_delivered_once_it_is_back(
    scan_documents, tmp_path, impatient_client, caplog
):
    runs = [scan_documents(seed=seed).run() for seed in (1, 2)]
    with TiledServer(tmp_path / "data") as server:
        writer = RawRunWriter(server.raw, spool_dir=tmp_path / "spool")
        publisher = SOCPublisher(server.maps, raw_container=server.raw, spool_dir=tmp_path / "spool")
        with LiveSOC(subscribers=[publisher], update_period_s=0.0) as live, caplog.at_level(logging.ERROR):
            for number, (name, doc) in enumerate(runs[0] + runs[1]):
                if number == 40:
                    live.wait(240)
                    os.kill(server.pid, signal.SIGKILL)
                writer(name, doc)
                live(name, doc)
            live.wait(240)
            writer.wait(240)
            publisher.wait(240)
            client = server.client()
            for documents in runs:
                uid = documents[0][1]["uid"]
                maps = open_soc(client, uid)
                assert maps.attrs["final"] is True
                assert np.array_equal(maps.soc.values, live.latest(uid)["soc"].values, equal_nan=True)
                assert client["raw"][uid].metadata["nimco"]["maps"] == f"maps/{uid}/Ni_K"
        publisher.close()
        writer.close()
    assert not list((tmp_path / "spool").iterdir())


@pytest.mark.slow
def test_a_final_map_outlives_its_session_and_a_damaged_one_is_set_aside_and_named(
    scan_documents, tmp_path, impatient_client, caplog
):
    update = updates_of(scan_documents().run())[-1]
    with TiledServer(tmp_path / "data") as server:
        maps = server.maps
    publisher = SOCPublisher(maps, spool_dir=tmp_path / "spool")
    publisher(update)
    with pytest.raises(DeliveryError, match="delivered when Tiled answers"):
        publisher.wait(1)
    publisher.close(timeout_s=1)
    (whole,) = (tmp_path / "spool").glob("*.map")
    # Beside it, the same cut off anywhere or with a byte changed: set aside, named, and never delivered.
    content = whole.read_bytes()
    damaged = {f"cut-{n}": content[:n] for n in np.linspace(0, len(content) - 1, 15).astype(int)}
    for n in np.linspace(40, len(content) - 1, 10).astype(int):
        damaged[f"changed-{n}"] = content[:n] + bytes([content[n] ^ 8]) + content[n + 1 :]
    for name, held in damaged.items():
        (tmp_path / "spool" / f"{name}.map").write_bytes(held)
    with TiledServer(tmp_path / "data") as server:
        with SOCPublisher(server.maps, spool_dir=tmp_path / "spool") as again:
            again.wait(240)
            said = [str(error) for error in again.errors]
        found = open_soc(server.client(), update.attrs["raw_uid"])
        assert np.array_equal(found.soc.values, update["soc"].values, equal_nan=True)
        assert list(server.client()["maps"]) == [update.attrs["raw_uid"]]
        assert len([key for key in server.client()["maps"][update.attrs["raw_uid"]] if "@" not in key]) == 1
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == sorted(
        f"{name}.map.damaged" for name in damaged
    )
    for name in damaged:
        assert any(name in sentence and "set aside as" in sentence for sentence in said), name
