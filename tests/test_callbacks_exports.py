"""Maps and tables out of a real Tiled server into files."""

import json

import h5py
import numpy as np
import pytest
import tifffile

from callbacks import (
    ExportError,
    LiveSOC,
    ReadingError,
    SOCPublisher,
    export_nexus,
    export_tiff,
    has_value,
    open_soc,
    open_soc_table,
)
from edge_fitting import label_particles
from nimco._commands import export


def publish(server, documents):
    publisher = SOCPublisher(server.maps)
    with LiveSOC(subscribers=[publisher]) as live:
        for name, doc in documents:
            live(name, doc)
        live.wait(240)
        publisher.wait(240)
        update = live.latest(documents[0][1]["uid"])
        assert publisher.errors == []
    publisher.close()
    return update


def islands(scan):
    """Open beam but for two particles of known state of charge."""
    rows, cols = np.indices(scan.shape)
    first = (rows - 9) ** 2 + (cols - 9) ** 2 < 36
    second = (rows - 22) ** 2 + (cols - 28) ** 2 < 64
    scan.soc = np.where(first, 0.3, 0.7)
    scan.jump = np.where(first | second, 0.8, 0.0)
    return first, second


@pytest.fixture
def exported(tiled_server, scan_documents):
    scan = scan_documents(shape=(32, 40), counts=6e4, noise=True)
    particles = islands(scan)
    update = publish(tiled_server, scan.run())
    return tiled_server, update, particles


def test_tables_of_frames_and_particles_stand_beside_the_maps(exported):
    server, update, (first, second) = exported
    frames = open_soc_table(server.client(), update.attrs["raw_uid"], "frames")
    assert len(frames) == update.attrs["n_frames"]
    assert frames["energy_ev"].tolist() == update["frame_energy_ev"].values.tolist()
    assert {"energy_index", "repeat", "attempt", "exposure_s", "i0", "mean_od", "bad_pixels"} <= set(
        frames.columns
    )

    particles = open_soc_table(server.client(), update.attrs["raw_uid"], "particles")
    labels = label_particles(has_value(update), min_pixels=16)
    assert len(particles) == labels.max()
    for truth, soc in ((first, 0.3), (second, 0.7)):
        line = particles.iloc[int(np.bincount(labels[truth & (labels > 0)]).argmax()) - 1]
        assert line["soc_median"] == pytest.approx(soc, abs=0.02)
        assert line["n_pixels"] == pytest.approx(truth.sum(), rel=0.1)
        rows, cols = np.nonzero(truth)
        assert line["row_um"] == pytest.approx(rows.mean() * 0.04, abs=0.03)
        assert line["column_um"] == pytest.approx(cols.mean() * 0.04, abs=0.03)
        assert line["diameter_um"] == pytest.approx(0.04 * np.sqrt(4 * truth.sum() / np.pi), rel=0.06)
    with pytest.raises(ReadingError, match="ask for 'frames' or 'particles'"):
        open_soc_table(server.client(), update.attrs["raw_uid"], "pixels")


def test_nexus_holds_everything_and_names_its_default_plot(exported, tmp_path):
    server, update, _ = exported
    maps = open_soc(server.client(), update.attrs["raw_uid"])
    frames = open_soc_table(server.client(), update.attrs["raw_uid"], "frames")
    path = export_nexus(maps, tmp_path / "deep" / "maps.h5", tables={"frames": frames})
    assert [file.name for file in path.parent.iterdir()] == ["maps.h5"]
    with h5py.File(path) as file:
        # The way a viewer finds what to show.
        group = file
        while "default" in group.attrs:
            group = group[group.attrs["default"]]
        assert group.name == "/entry/soc"
        assert group.attrs["NX_class"] == "NXdata"
        signal = group[group.attrs["signal"]]
        assert np.array_equal(signal[()], update["soc"].values, equal_nan=True)
        assert np.array_equal(group["soc_errors"][()], update["soc_sigma"].values, equal_nan=True)
        for axis, dim in enumerate(group.attrs["axes"]):
            assert group[dim].shape == (signal.shape[axis],)
            assert group[dim].attrs["units"] == "um"
            assert group[dim][1] == pytest.approx(0.04)
        energy = file["entry/edge_energy_ev/edge_energy_ev"]
        assert energy.attrs["units"] == "eV"
        assert file["entry/entry_identifier"][()].decode() == update.attrs["raw_uid"]
        assert file["entry/process/edge_energy_definition"][()].decode() == update.attrs["definition"]
        metadata = json.loads(file["entry/process/metadata/data"][()])
        assert metadata["references"]["soc"] == maps.attrs["references"]["soc"]
        assert np.allclose(file["entry/references/soc"][()], maps.attrs["references"]["soc"])
        assert np.allclose(file["entry/frames/energy_ev"][()], frames["energy_ev"])
        assert file["entry/mean_spectrum/energy"].attrs["units"] == "eV"


def test_tiff_values_and_pixel_size_come_back(exported, tmp_path):
    server, update, _ = exported
    paths = export_tiff(open_soc(server.client(), update.attrs["raw_uid"]), tmp_path)
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}
    (soc,) = [path for path in paths if path.stem.endswith("_Ni_K_soc")]
    with tifffile.TiffFile(soc) as file:
        assert np.array_equal(file.asarray(), update["soc"].values, equal_nan=True)
        assert file.imagej_metadata["unit"] == "um"
        pixels, per_um = file.pages[0].tags["XResolution"].value
        assert pixels / per_um == pytest.approx(25.0, rel=1e-4)
        assert json.loads(file.imagej_metadata["Info"])["run"] == update.attrs["raw_uid"]
    (status,) = [path for path in paths if path.stem.endswith("_status")]
    assert np.array_equal(tifffile.imread(status), update["status"].values)


def test_the_command_writes_both_and_a_folder_that_cannot_be_written_is_said(exported, tmp_path, monkeypatch):
    server, update, _ = exported
    monkeypatch.setenv("TILED_API_KEY", server.api_key)
    export(
        update.attrs["raw_uid"][:8],
        to=tmp_path / "out",
        layout="both",
        edge=None,
        tiled=server.uri,
        api_key_file=None,
    )
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert f"{update.attrs['raw_uid'][:8]}_Ni_K.h5" in names
    assert f"{update.attrs['raw_uid'][:8]}_Ni_K_soc.tif" in names
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match=r"cannot write .*choose another folder"):
        export_tiff(open_soc(server.client(), update.attrs["raw_uid"]), tmp_path / "file")
