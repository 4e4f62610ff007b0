import numpy as np
import pytest

from callbacks import LiveSOC, RawRunWriter, ReadingError, SOCPublisher, open_soc


def measure(server, documents):
    """Send documents the way a session does; return the client and the last update."""
    writer = RawRunWriter(server.raw)
    publisher = SOCPublisher(server.maps, raw_container=server.raw)
    with LiveSOC(subscribers=[publisher], update_period_s=0.0) as live:
        for name, doc in documents:
            writer(name, doc)
            live(name, doc)
        live.wait(240)
        writer.wait(240)
        publisher.wait(240)
        assert live.errors == []
        assert publisher.errors == []
        assert writer.errors == []
        update = live.latest(documents[0][1]["uid"])
    publisher.close()
    writer.close()
    return server.client(), update


def test_the_published_map_is_the_map_and_the_truth(tiled_server, scan_documents):
    scan = scan_documents()
    documents = scan.run(sample="NMC622")
    uid = documents[0][1]["uid"]
    client, update = measure(tiled_server, documents)

    maps = open_soc(client, uid)
    assert maps.soc.dims == ("row", "column")
    assert np.array_equal(maps.soc.values, update["soc"].values, equal_nan=True)
    assert np.array_equal(maps.status.values, update["status"].values)
    assert np.sqrt(np.nanmean((maps.soc.values - scan.soc) ** 2)) < 0.01
    assert float(maps.column[1] - maps.column[0]) == pytest.approx(0.04)  # 40 nm in um

    about = maps.attrs
    assert about["raw_uid"] == uid
    assert about["edge"] == "Ni_K"
    assert about["definition"] == update.attrs["definition"]
    assert maps["edge_energy_ev"].attrs["units"] == "eV"
    assert about["references"]["soc"] == scan.references.to_dict()["soc"]
    assert about["status_legend"]["0"] == "OK"
    assert about["n_frames"] == scan.energies_ev.size
    assert about["final"] is True
    assert about["partial"] is False
    assert {"nimco", "numpy"} <= set(about["versions"])

    # Both ways: from the maps to the run, and from the run to the maps.
    run = client[about["raw_path"]]
    assert run.metadata["start"]["sample"] == "NMC622"
    assert run.metadata["nimco"]["maps"] == f"maps/{uid}/Ni_K"
    assert client[run.metadata["nimco"]["maps"]].metadata["raw_uid"] == uid


def test_the_raw_run_is_a_bluesky_run_with_every_frame(tiled_server, scan_documents):
    scan = scan_documents()
    documents = scan.run()
    uid = documents[0][1]["uid"]
    client, _ = measure(tiled_server, documents)
    run = client["raw"][uid[:8]]
    assert type(run).__name__.startswith("BlueskyRun")
    frames = run["primary"]["camera_image"].read()
    sent = [doc["data"]["camera_image"] for name, doc in documents if name == "event"]
    assert frames.shape == (scan.energies_ev.size, *scan.shape)
    assert np.array_equal(frames, np.array(sent[3::2]))
    names = [name for name, _ in run.documents()]
    assert names[0] == "start"
    assert names[-1] == "stop"
    assert names.count("event") == len(sent)


def test_an_aborted_scan_leaves_a_partial_map_that_can_be_read(tiled_server, scan_documents):
    scan = scan_documents()
    documents = scan.run(scan.steps()[:50], exit_status="abort")
    client, _ = measure(tiled_server, documents)
    maps = open_soc(client, documents[0][1]["uid"], "Ni_K")
    assert maps.attrs["partial"] is True
    assert maps.attrs["exit_status"] == "abort"
    assert np.isfinite(maps.soc.values).any()


def test_maps_that_are_not_there(tiled_server, scan_documents):
    client, update = measure(tiled_server, scan_documents().run())
    with pytest.raises(ReadingError, match="no maps of run nothing"):
        open_soc(client, "nothing")
    with pytest.raises(ReadingError, match="no maps of Co_K, only of Ni_K"):
        open_soc(client, update.attrs["raw_uid"], "Co_K")
