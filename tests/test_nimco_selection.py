"""Leaving out energies, doing without darks, files that moved: in analyse, replay and the live analysis."""

from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
import pytest

from callbacks import LiveSOC, RawRunWriter, ReadingError, RootMap, open_soc
from nimco import TiledServer
from nimco._commands import export, reanalyse, replay
from nimco._selection import LeaveOut, SelectedDocuments, parse_roots
from nimco.errors import NimcoError, RecordingError

GRID = [8300.0, 8340.0, 8341.0, 8342.0, 8347.0, 8347.0, 8400.0, 8500.0]


@pytest.mark.parametrize(
    ("texts", "indices"),
    [
        (["8340"], [1]),
        (["8340.4"], [1]),
        (["8340.6"], [2]),
        (["8347.3"], [4, 5]),
        (["8346"], [4, 5]),
        (["8.347"], [4, 5]),
        (["8340-8342"], [1, 2, 3]),
        (["8342..8340 eV"], [1, 2, 3]),
        (["8340:8341", "8500"], [1, 2, 7]),
        (["8341, 8400"], [2, 6]),
        (["frame:0", "frame:6-7"], [0, 6, 7]),
        ([], []),
    ],
)
def test_energies_by_number_range_and_position(texts: list[str], indices: list[int]) -> None:
    assert LeaveOut(texts).indices(GRID) == indices


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8430", "8300, 8340, 8341"),
        ("9000", "8300, 8340, 8341"),
        ("8401-8499", "no such energy"),
        ("frame:8", "no such energy"),
        ("8000-9000", "nothing to analyse"),
        ("Ni", "write an energy"),
        ("-8340", "write an energy"),
        ("1e999", "write an energy"),
    ],
)
def test_what_means_no_energy_is_refused_with_those_there_are(text: str, words: str) -> None:
    with pytest.raises(NimcoError, match=words):
        LeaveOut([text]).indices(GRID)


@pytest.mark.parametrize(
    ("old", "named", "found"),
    [
        ("/beamline/data", "/beamline/data/2025/a.h5", "2025/a.h5"),
        ("/beamline/data/", "file://localhost/beamline/data/2025/a%20b.h5", "2025/a b.h5"),
        ("file://localhost/beamline/data", "file:///beamline/data/a.h5", "a.h5"),
        (r"C:\data", r"C:\data\x\a.h5", "x/a.h5"),
        ("c:/DATA/", r"C:\data\x\a.h5", "x/a.h5"),
        ("Z:", r"z:\data\a.h5", "data/a.h5"),
        ("Z:\\", r"z:\data\a.h5", "data/a.h5"),
        (r"C:\data", "file://localhost/C:/data/x/a.h5", "x/a.h5"),
        (r"\\server\share", r"\\SERVER\share\a.h5", "a.h5"),
        ("/beamline/data", "/beamline/database/a.h5", None),
        ("/Beamline/data", "/beamline/data/a.h5", None),
    ],
)
def test_a_file_is_found_under_its_new_root(old: str, named: str, found: str | None) -> None:
    mapped = RootMap({old: "/here"}).path(named)
    if found is None:
        assert not mapped.is_relative_to("/here")
    else:
        assert mapped == Path("/here") / PurePosixPath(found)
    both = RootMap({"/data": "/one", "/data/2025": "/two"})
    assert both.path("/data/2025/a.h5") == Path("/two/a.h5")  # the longest folder counts


def test_roots_are_split_and_checked(tmp_path: Path) -> None:
    assert parse_roots([f"C:\\da=ta={tmp_path}"]) == {"C:\\da=ta": tmp_path}
    for text in ("", "/old", "=new", "/old="):
        with pytest.raises(NimcoError, match="write OLD=NEW"):
            parse_roots([text])
    with pytest.raises(NimcoError, match="no folder"):
        parse_roots([f"/old={tmp_path}/none"])


def in_file(documents: list[tuple[str, dict]], root: str, semantics: str) -> list[tuple[str, dict]]:
    """Tell the same documents with the frames in a file ``run.h5`` under a root."""
    told: list[tuple[str, dict[str, Any]]] = []
    number = 0
    for name, doc in documents:
        if name == "descriptor":
            image = {**doc["data_keys"]["camera_image"], "external": "FILESTORE:"}
            doc = {**doc, "data_keys": {**doc["data_keys"], "camera_image": image}}
        if name == "event":
            if number == 0:
                resource = {
                    "uid": "R",
                    "spec": "AD_HDF5",
                    "root": root,
                    "resource_path": "day\\run.h5" if semantics == "windows" else "day/run.h5",
                    "resource_kwargs": {"frame_per_point": 1},
                    "path_semantics": semantics,
                    "run_start": documents[0][1]["uid"],
                }
                told.append(("resource", resource))
            datum = {"datum_id": f"R/{number}", "resource": "R", "datum_kwargs": {"point_number": number}}
            told.append(("datum", datum))
            doc = {
                **doc,
                "data": {**doc["data"], "camera_image": f"R/{number}"},
                "filled": {"camera_image": False},
            }
            number += 1
        told.append((name, doc))
    return told


@pytest.mark.parametrize(("root", "semantics"), [("Z:\\Data\\2025", "windows"), ("/beamline/data", "posix")])
def test_a_live_map_of_frames_whose_folder_is_mounted_elsewhere(
    scan_documents, tmp_path: Path, root: str, semantics: str
) -> None:
    scan = scan_documents(n_energies=16)
    documents = scan.run()
    (tmp_path / "day").mkdir()
    with h5py.File(tmp_path / "day" / "run.h5", "w") as file:
        file["entry/data/data"] = np.stack([d["data"]["camera_image"] for n, d in documents if n == "event"])
    with LiveSOC(
        root_map={root.lower() if semantics == "windows" else root: tmp_path}, file_timeout_s=2
    ) as live:
        for name, doc in in_file(documents, root, semantics):
            live(name, doc)
        live.wait(60)
        assert live.errors == []
        assert np.nanmedian(np.abs(live.latest()["soc"].values - scan.soc)) < 0.05


def test_a_bad_frame_and_the_darks_of_a_run_are_left_out(scan_documents) -> None:
    scan = scan_documents(n_energies=16)
    scan.dark[:] = 0.0
    bad = 8
    steps = [
        (stream, index, np.full_like(image, 7) if (stream, index) == ("primary", bad) else image, *rest)
        for stream, index, image, *rest in scan.steps()
    ]
    wanted = LeaveOut([f"{scan.energies_ev[bad]:.1f}"])
    maps = {}
    for no_dark in (False, True):
        with LiveSOC() as live:
            selected = SelectedDocuments(live, wanted, no_dark=no_dark)
            for name, doc in scan.run(steps):
                selected(name, doc)
            live.wait(60)
            update = live.latest()
        assert (update.attrs["n_frames"], update.attrs["frames_expected"]) == (15, 15)
        assert any(f"{scan.energies_ev[bad]:.2f} eV" in warning for warning in update.attrs["warnings"])
        maps[no_dark] = update["soc"].values
        assert np.nanmedian(np.abs(update["soc"].values - scan.soc)) < 0.05
    np.testing.assert_allclose(maps[True], maps[False], atol=1e-3)


def recording(path: Path, scan: Any, **changes: Any) -> Path:
    """Write a scan as a recording, with its references."""
    order = [(stream, image) for stream, _, image, *_ in scan.steps()]
    parts = {
        "energy_ev": scan.energies_ev,
        "frames": np.stack([image for stream, image in order if stream == "primary"]),
        "flats": np.stack([image for stream, image in order if stream == "flat"]),
        "dark": np.stack([image for stream, image in order if stream == "dark"]),
        "reference/mu": scan.references.evaluate(scan.energies_ev, scan.references.soc),
        "reference/soc": scan.references.soc,
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, value in parts.items():
            if value is not None:
                file[name] = value
    return path


def run_uid(text: str) -> str:
    (uid,) = (line.split()[1] for line in text.splitlines() if line.startswith("run "))
    return uid


@pytest.mark.slow
def test_replay_and_analyse_leave_out_what_is_asked(
    scan_documents, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = scan_documents(n_energies=16)
    scan.dark[:] = 0.0
    path = recording(tmp_path / "scan.h5", scan, dark=None)
    data = tmp_path / "data"
    with pytest.raises(RecordingError, match="--no-dark"):
        replay(file=path, data_dir=data)
    with pytest.raises(NimcoError, match="there is no such energy among those of the scan: 8250"):
        replay(file=path, data_dir=data, no_dark=True, leave_out=["7000"])
    with pytest.raises(NimcoError, match="There are no data in"):
        export(run="abc", to=tmp_path / "out", data_dir=data)
    assert not data.exists()  # nothing was written, so nothing was made
    assert not (tmp_path / "out").exists()

    replay(file=path, data_dir=data, no_dark=True, leave_out=["8330-8340"])
    text = capsys.readouterr().out
    left_out = [energy for energy in scan.energies_ev if 8330 <= energy <= 8340]
    assert f"left out, as asked: {left_out[0]:.2f}" in text
    uid = run_uid(text)
    with TiledServer(data) as server:
        monkeypatch.setenv("TILED_API_KEY", server.api_key)
        soc = open_soc(server.client(), uid)
        assert soc.attrs["n_frames"] == 16 - len(left_out)
        assert soc.attrs["warnings"]
        for warning in soc.attrs["warnings"]:
            assert f"note   Ni K: {warning}\n" in text
        assert np.nanmedian(np.abs(soc["soc"].values - scan.soc)) < 0.05
        with pytest.raises(NimcoError, match="no such energy"):
            reanalyse([uid], tiled=server.uri, data_dir=data, leave_out=["7000"])
        reanalyse([uid], tiled=server.uri, data_dir=data, leave_out=["8250", "frame:15"], no_dark=True)
        assert "left out before the analysis: the energies 8250.00" in " ".join(
            capsys.readouterr().out.split()
        )
        assert open_soc(server.client(), uid).attrs["n_frames"] == 16 - len(left_out) - 2
    with pytest.raises(ReadingError, match="there are no maps of run abc"):
        export(run="abc", to=tmp_path / "out", data_dir=data)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_stored_run_whose_frames_lie_in_a_file_that_moved(
    scan_documents, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = scan_documents(n_energies=16)
    documents = scan.run()
    recorded, now = tmp_path / "recorded", tmp_path / "now"
    (recorded / "day").mkdir(parents=True)
    with h5py.File(recorded / "day" / "run.h5", "w") as file:
        file["entry/data/data"] = np.stack([d["data"]["camera_image"] for n, d in documents if n == "event"])
    uid = documents[0][1]["uid"]
    with TiledServer(tmp_path / "data", readable=(recorded,)) as server:
        monkeypatch.setenv("TILED_API_KEY", server.api_key)
        writer = RawRunWriter(server.raw)
        for name, doc in in_file(documents, str(recorded), "posix"):
            writer(name, doc)
        writer.wait(60)
        writer.close()
        recorded.rename(now)
        reanalyse([uid], tiled=server.uri, data_dir=tmp_path, root=[f"{recorded}={now}"])
        soc = open_soc(server.client(), uid)["soc"].values
    assert np.nanmedian(np.abs(soc - scan.soc)) < 0.05
