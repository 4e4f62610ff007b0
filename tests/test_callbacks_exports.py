"""Maps and tables out of a real Tiled server into files."""

import json
from importlib.util import find_spec

import chexus
import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
from bluesky import RunEngine

from beamline_plans import edge_jump_map
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
from callbacks.results import Field, ResultSchema
from edge_fitting import label_particles
from nimco._commands import export
from sim_devices import SimBeamline

# Units that NeXus knows (UDUNITS), of all that the results here have.
UNITS = {"1", "degree", "eV", "g/cm^3", "nm", "s", "um"}
VOLUME = ResultSchema(
    "Volume",
    "1",
    (
        Field("density", ("element", "row", "column"), "float32", "g/cm^3", "density of each element"),
        Field("inside", ("row", "column"), "bool", "", "whether it is sample", "quality"),
        Field("element", ("element",), "<U2", "", "element", "coordinate"),
    ),
)


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


def objections(path):
    """What the validator of NeXus files says against one, with units that are none of NeXus and axes that miss."""
    reader = chexus.read_hdf5(str(path))
    found = chexus.validate(
        next(reader), validators=chexus.validators.base_validators(has_scipp=find_spec("scipp") is not None)
    )
    assert sum(result.checks for result in found.values()) > 30
    said = [violation.format() for result in found.values() for violation in result.violations]

    def look(name, node):
        unit = node.attrs.get("units")
        if unit is not None and unit not in UNITS:
            said.append(f"{name} is in {unit!r}")
        if node.attrs.get("NX_class") == "NXdata":
            sizes = node[node.attrs["signal"]].shape
            if tuple(node[axis].size for axis in node.attrs["axes"]) != sizes:
                said.append(f"{name} has axes of other sizes")

    with h5py.File(path) as file:
        file.visititems(look)
    return said


def test_nexus_files_of_every_kind_of_result_pass_the_validator(scan_documents, tmp_path):
    bare = scan_documents(pixel_size_nm=None, references=None)
    times = np.array(["2026-01-02T03:04:05", "NaT"], "datetime64[s]")
    strange = pd.DataFrame({"at": times, "good": [True, False], "who": [b"a", "b"], "n": [1, 2]})
    beamline = SimBeamline((32, 32))
    plan = edge_jump_map(
        beamline.camera,
        beamline.energy,
        beamline.shutter,
        beamline.stage,
        edges=["Ni_K", "Mn_K"],
        exposure_s=1.0,
    )
    engine, uids = RunEngine({}), []
    with LiveSOC() as live:
        for name, doc in [*scan_documents().run(), *bare.run()]:
            live(name, doc)
            if name == "start":
                uids.append(doc["uid"])
        engine.subscribe(live)
        uids += engine(plan)
        live.wait(240)
        results = [live.latest(uid) for uid in uids]
    assert {result.attrs["signal"] for result in results} == {"soc", "edge_energy_ev", "edge_jump"}
    attrs = {"raw_uid": "volume-1", "technique": "volume", "final": True}
    values = {"density": np.ones((2, 3, 4)), "inside": np.ones((3, 4), bool), "element": ["Ni", "Mn"]}
    results.append(VOLUME.make(values, attrs))
    for number, result in enumerate(results):
        path = export_nexus(result, tmp_path / f"{number}.h5", tables={"logbook": strange})
        assert objections(path) == []
    with h5py.File(tmp_path / "1.h5") as file:
        assert file["entry/edge_energy_ev/row"].attrs["long_name"].endswith("in pixels")
        assert file["entry/history/sigma"].attrs["units"] == "eV"
        assert file["entry/logbook/at"][0].decode() == "2026-01-02T03:04:05"
        assert file["entry/logbook/good"][()].tolist() == [True, False]
        file_with_a_fault = tmp_path / "fault.h5"
        with h5py.File(file_with_a_fault, "w") as other:
            file.copy("entry", other)
            del other["entry/soc/soc"].attrs["units"]
            other["entry/goodness/goodness"].attrs["units"] = "pixel"
    assert len(objections(file_with_a_fault)) >= 2


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
    with SOCPublisher(server.maps) as publisher:  # of a technique that has no edge
        publisher(
            VOLUME.make({"density": np.ones((2, 3, 4))}, {"raw_uid": "volume-2", "technique": "volume"})
        )
        publisher.wait(240)
    export("volume-2", to=tmp_path, layout="both", edge=None, tiled=server.uri, api_key_file=None)
    assert {path.name for path in tmp_path.iterdir()} == {
        "out",
        "volume-2_volume.h5",
        "volume-2_volume_density.tif",
    }
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match=r"cannot write .*choose another folder"):
        export_tiff(open_soc(server.client(), update.attrs["raw_uid"]), tmp_path / "file")
