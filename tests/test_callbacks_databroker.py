"""Raw runs and maps through databroker's client, in a process of its own: touching it changes clients for good."""

import subprocess
import sys
import textwrap

import numpy as np

from callbacks import LiveSOC, RawRunWriter, SOCPublisher


def test_runs_and_maps_are_read_back_with_databroker(tiled_server, scan_documents, tmp_path):
    documents = scan_documents().run(sample="NMC622")
    uid = documents[0][1]["uid"]
    with (
        RawRunWriter(tiled_server.raw, spool_dir=tmp_path) as writer,
        SOCPublisher(tiled_server.maps, raw_container=tiled_server.raw) as publisher,
        LiveSOC(subscribers=[publisher]) as live,
    ):
        for name, doc in documents:
            writer(name, doc)
            live(name, doc)
        live.wait(240)
        writer.wait(240)
        publisher.wait(240)
        soc = live.latest(uid)["soc"].values
    np.save(tmp_path / "soc.npy", soc)
    frames = [doc["data"]["camera_image"] for name, doc in documents if name == "event"][3::2]
    np.save(tmp_path / "frames.npy", np.array(frames))
    code = f"""
        import numpy as np
        import databroker
        from tiled.client import from_uri
        from callbacks import open_soc

        client = from_uri({tiled_server.uri!r}, api_key={tiled_server.api_key!r})
        run = client["raw"][{uid!r}]
        frames, soc = np.load("frames.npy"), np.load("soc.npy")

        # The way of databroker 2, which is Tiled's client.
        assert np.array_equal(run["primary"]["camera_image"].read(), frames)
        assert np.array_equal(open_soc(client, run.metadata["nimco"]["maps"].split("/")[1]).soc, soc, equal_nan=True)

        # The way of databroker 1.
        from databroker.v1 import Broker

        header = Broker(client["raw"])[{uid!r}]
        assert header.start["sample"] == "NMC622"
        table = header.table("primary")
        assert len(table) == len(frames), len(table)
        assert np.allclose(table["energy"], {[float(e) for e in documents[0][1]["xanes"]["energies_ev"]]})
        assert np.array_equal(np.array(table["camera_image"].tolist()), frames)
        print("read back")
        """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "read back" in done.stdout
