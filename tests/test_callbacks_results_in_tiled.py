"""Results of any schema go to Tiled, to files and into a picture, and come back as they were."""

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr
from tiled.structures.core import Spec

from callbacks import (
    Field,
    LiveSOC,
    LiveSOCPlot,
    ResultSchema,
    SOCPublisher,
    export_csv,
    export_nexus,
    export_tiff,
    follow_soc,
    has_value,
    open_soc,
    open_soc_table,
)

LINE = ResultSchema(
    "Photodiode",
    "1",
    (
        Field("current_a", ("energy",), "float64", "A", "photocurrent"),
        Field("current_sigma_a", ("energy",), "float64", "A", "its standard deviation", "sigma", "current_a"),
        Field("energy_ev", ("energy",), "float64", "eV", "photon energy", "coordinate"),
    ),
)
VOLUME = ResultSchema(
    "Volume",
    "3",
    (
        Field("density", ("element", "z", "y", "x"), "float32", "g/cm^3", "density of each element"),
        Field("attenuation", ("z", "y", "x"), "float32", "1/cm", "attenuation"),
        Field("inside", ("z", "y", "x"), "bool", "", "whether it is sample", "quality"),
        Field("element", ("element",), "<U2", "", "element", "coordinate"),
        Field("voxels", ("particle",), "int64", "", "size of each particle", "quality"),
    ),
)


def line(n_points, **attrs):
    energy = 8300.0 + np.arange(n_points)
    values = {"energy_ev": energy, "current_a": np.sqrt(energy), "current_sigma_a": np.full(n_points, 0.25)}
    values["current_a"][0] = np.nan
    about = {
        "raw_uid": "line-1",
        "technique": "photodiode",
        "final": False,
        "nothing": None,
        "n_frames": n_points,
    }
    return LINE.make(values, about | attrs)


def volume():
    rng = np.random.default_rng(1)
    values = {
        "density": rng.random((2, 3, 4, 5)),
        "attenuation": rng.random((3, 4, 5)),
        "inside": rng.random((3, 4, 5)) > 0.5,
        "element": ["Ni", "Mn"],
        "voxels": [],
    }
    return VOLUME.make(
        values, {"raw_uid": "volume-1", "technique": "volume", "final": True, "deep": {"a": [1, None]}}
    )


def published(server, *results):
    with SOCPublisher(server.maps) as publisher:
        for result in results:
            publisher(result)
            publisher.wait(240)
        assert publisher.errors == []
    return open_soc(server.client(), results[-1].attrs["raw_uid"])


def test_results_of_other_dimensions_come_back_identical(tiled_server):
    xr.testing.assert_identical(published(tiled_server, line(3)), line(3))
    final = line(7, final=True, exit_status="success")
    # It has grown since, and a key of its metadata is gone.
    del final.attrs["nothing"]
    xr.testing.assert_identical(published(tiled_server, final), final)
    found = published(tiled_server, volume())
    xr.testing.assert_identical(found, volume())
    for name, variable in volume().variables.items():
        assert found[name].dtype == variable.dtype
    assert not any(found[name].values.flags.writeable for name in found.data_vars)
    node = tiled_server.client()["maps"]["volume-1"]["volume"]
    assert [(spec.name, spec.version) for spec in node.specs] == [("Volume", "3")]
    assert node["density"].dims == ("element", "z", "y", "x")
    (state,) = follow_soc(tiled_server.client(), "volume-1")
    assert np.array_equal(state.values, volume()["density"])


def test_results_of_other_dimensions_become_files_and_pictures(tmp_path):
    for result in (line(6, final=True), volume()):
        with h5py.File(export_nexus(result, tmp_path / "result.h5")) as file:
            lacking = []
            file.visititems(
                lambda name, node, lacking=lacking: (
                    lacking.append(name)
                    if isinstance(node, h5py.Dataset) and node.dtype.kind == "f" and "units" not in node.attrs
                    else None
                )
            )
            assert lacking == []
            shown = file["entry"][file["entry"].attrs["default"]]
            signal = result.attrs["signal"]
            assert shown[shown.attrs["signal"]].attrs["units"] == result[signal].attrs["units"]
            assert np.array_equal(shown[signal][()], result[signal].values, equal_nan=True)
        figure = LiveSOCPlot(tmp_path / "x.png", show=False).render(result)
        assert any(axes.lines or axes.images for axes in figure.axes)
    csv = export_csv(line(6), tmp_path)
    assert [path.name for path in csv] == ["line-1_photodiode_energy.csv"]
    assert (
        pd.read_csv(csv[0], float_precision="round_trip")["current_a"].tolist()[1:]
        == line(6)["current_a"].values.tolist()[1:]
    )
    assert export_tiff(line(6), tmp_path) == []
    stack = next(path for path in export_tiff(volume(), tmp_path) if path.stem.endswith("attenuation"))
    assert np.array_equal(tifffile.imread(stack), volume()["attenuation"].values)


@pytest.fixture
def final(scan_documents):
    documents = scan_documents().run(sample="NMC622")
    with LiveSOC() as live:
        for name, doc in documents:
            live(name, doc)
        live.wait(240)
        return live.latest()


def test_a_full_field_result_comes_back_identical_and_looks_the_same(tiled_server, final, tmp_path):
    found = published(tiled_server, final)
    xr.testing.assert_identical(found, final)
    plot = LiveSOCPlot(tmp_path / "map.png", show=False)
    pictures = []
    for result in (found, final):
        canvas = plot.render(result).canvas
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba()))
    assert np.array_equal(*pictures)


def test_containers_of_the_first_version_still_open(tiled_server, final):
    names = ("soc", "soc_sigma", "edge_energy_ev", "edge_energy_sigma_ev", "edge_jump", "goodness", "status")
    spectrum = {"energy_ev": final["energy_ev"], "optical_depth": final["mean_optical_depth"]}
    history = np.stack([final["history_n_frames"], final["history_sigma"]], axis=1)
    later = {"spec", "signal", "technique", "complete", "sample", "edges"}
    metadata = {key: value for key, value in final.attrs.items() if key not in later} | {
        "schema_version": 1,
        "units": {"edge_energy_ev": "eV"},
        "mean_spectrum": {key: value.values.tolist() for key, value in spectrum.items()},
        "history": history.tolist(),
    }
    node = tiled_server.maps.create_container("old").create_container(
        "Ni_K", metadata=metadata, specs=[Spec("NimcoSOC", version="1")]
    )
    for name in names:
        node.write_array(final[name].values, key=name, dims=("row", "column"))
    frames = {
        name.removeprefix("frame_"): final[name].values
        for name in final.variables
        if name.startswith("frame_")
    }
    node.write_table(pd.DataFrame(frames), key="frames")
    found = open_soc(tiled_server.client(), "old")
    assert (
        open_soc_table(tiled_server.client(), "old", "frames")["attempt"].tolist()
        == frames["attempt"].tolist()
    )
    assert found.attrs["definition"] == final.attrs["definition"]
    assert np.array_equal(has_value(found), has_value(final))
    for name in found.variables:
        xr.testing.assert_identical(
            found[name].drop_vars(found[name].coords), final[name].drop_vars(final[name].coords)
        )
    assert {*names, "row", "energy_ev", "history_sigma", "frame_attempt"} <= set(found.variables)
