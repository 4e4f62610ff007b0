"""`nimco volume`, and volumes from and to files."""

import os
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from callbacks import analyse_volume
from nimco._commands import volume as volume_command
from nimco.errors import NimcoError, VolumeError
from nimco.testing import PhantomBall, PhantomCrack, VolumePhantom
from nimco.volumes import Volume, read_volume, write_volume
from sim_devices import SimBeamline, VolumeSettings

BALLS = (
    PhantomBall((20, 20, 18), 14, (PhantomCrack(4.0, (0, 0, 1), 1, 0.7),)),
    PhantomBall((20, 20, 45), 13),
)


@pytest.fixture(scope="module")
def phantom():
    return VolumePhantom.of((40, 40, 62), BALLS, shell_depth=3.0)


@pytest.fixture(scope="module")
def volume(phantom):
    return Volume(
        phantom.density,
        50.0,
        phantom.soc,
        phantom.soc_sigma,
        np.ones(phantom.density.shape, bool),
        source="v",
    )


@pytest.mark.parametrize("name", ["v.h5", "v.zarr", "v.tif"])
def test_a_volume_reads_back_equal_with_its_voxel_size(volume, name, tmp_path):
    place = tmp_path / name
    for _ in range(2):  # the second replaces the first
        written = write_volume(volume, place)
    assert written[0] == place
    again = read_volume(place)
    assert again.voxel_size_nm == 50.0
    for what, values in volume.arrays():
        held = getattr(again, what)
        assert held.dtype == values.dtype, what
        np.testing.assert_array_equal(held, values)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_other_programs_read_what_is_written(volume, tmp_path):
    write_volume(volume, tmp_path / "v.h5")
    with h5py.File(tmp_path / "v.h5") as file:
        group = file[file.attrs["default"]]
        group = group[group.attrs["default"]]
        assert group[group.attrs["signal"]].shape == volume.density.shape
        assert list(group.attrs["axes"]) == ["plane", "row", "column"]
        assert group["row"].attrs["units"] == "nm"
        assert group["row"][1] == 50.0
    write_volume(volume, tmp_path / "v.tif")
    with tifffile.TiffFile(tmp_path / "v.tif") as file:
        assert file.imagej_metadata["unit"] == "um"
        assert file.imagej_metadata["spacing"] == 0.05
        assert file.pages[0].tags["XResolution"].value[0] / file.pages[0].tags["XResolution"].value[1] == 20.0
    write_volume(volume, tmp_path / "v.zarr")
    held = zarr.open_group(tmp_path / "v.zarr", mode="r")
    assert held["density"].metadata.dimension_names == ("plane", "row", "column")


def test_volumes_from_elsewhere_are_read(volume, tmp_path):
    density = volume.density
    with h5py.File(tmp_path / "tomopy.h5", "w") as file:
        file["exchange/reconstruction"] = density
        file["pixel_size"] = [0.05, 0.05]
        file["pixel_size"].attrs["units"] = "um"
        file["results/second"] = density + 1
    assert read_volume(tmp_path / "tomopy.h5").voxel_size_nm == pytest.approx(50.0)
    second = read_volume(f"{tmp_path / 'tomopy.h5'}::results/second")
    np.testing.assert_array_equal(second.density, density + 1)

    (tmp_path / "planes").mkdir()
    for number, plane in enumerate(density):
        tifffile.imwrite(tmp_path / "planes" / f"rec_{number + 8:05d}.tiff", plane)
    np.testing.assert_array_equal(read_volume(tmp_path / "planes", voxel_size_nm=30.0).density, density)

    ome = zarr.open_group(tmp_path / "ome.zarr", mode="w", zarr_format=2)
    ome.create_array("0", shape=(1, 1, *density.shape), dtype="f4", chunks=(1, 1, 20, 20, 20))[...] = density[
        None, None
    ]
    axes = [{"name": "t"}, {"name": "c"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = {"type": "scale", "scale": [1, 1, 0.04, 0.04, 0.04]}
    ome.attrs["multiscales"] = [
        {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [scale]}]}
    ]
    held = read_volume(tmp_path / "ome.zarr")
    assert held.voxel_size_nm == pytest.approx(40.0)
    np.testing.assert_array_equal(held.density, density)


def test_what_was_never_written_is_not_known(volume, tmp_path):
    write_volume(volume, tmp_path / "v.zarr")
    (lost,) = (tmp_path / "v.zarr" / "density").glob("c/0/0/0")
    whole = read_volume(tmp_path / "v.zarr").density
    lost.unlink()
    with pytest.raises(VolumeError, match="no chunk of 'density'"):
        read_volume(tmp_path / "v.zarr")
    with h5py.File(tmp_path / "half.h5", "w") as file:
        held = file.create_dataset("density", whole.shape, "f4", chunks=(1, *whole.shape[1:]))
        held[:30] = whole[:30]
    half = read_volume(tmp_path / "half.h5", voxel_size_nm=50.0)
    assert np.isnan(half.density[30:]).all()
    found = analyse_volume(half.density, voxel_size_nm=50.0)
    assert not found["particle_label_map"].values[30:].any()
    assert found["particle_at_border"].values.all()


def test_the_command_prints_tables_and_writes_picture_and_files(
    volume, phantom, tmp_path, monkeypatch, capsys
):
    write_volume(volume, tmp_path / "v.h5")
    monkeypatch.chdir(tmp_path)
    volume_command(
        ["v.h5"], plot=Path("v.png"), table=Path("v.csv"), to=Path("found.zarr"), damage="0.01,0.05"
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "2 particles in 40 x 40 x 62 voxels of 50 nm" in said
    assert "1 severe (cracks 5 % or more), 0 mild (1 %), 1 least" in said
    particles = pd.read_csv(tmp_path / "v.csv").sort_values("column_um")
    assert particles["file"].tolist() == ["v.h5", "v.h5"]
    error = particles["crack_share"].to_numpy() - phantom.crack_share
    assert (np.abs(error) < np.maximum(2 * particles["crack_share_sigma"], 0.002)).all()
    assert particles["damage"].tolist() == [2, 0]
    np.testing.assert_allclose(particles["diameter_um"], [1.4, 1.3], rtol=0.03)
    np.testing.assert_allclose(particles["soc_bulk"], 0.4, atol=0.03)
    np.testing.assert_allclose(particles["column_um"], [18.5 * 0.05, 45.5 * 0.05], atol=0.03)
    assert particles["wide_thickness_um"].iloc[0] == pytest.approx(0.2, abs=0.04)
    depths, damage = (pd.read_csv(tmp_path / f"v_{name}.csv") for name in ("depths", "damage"))
    assert depths["soc_less_bulk"].iloc[0] == pytest.approx(0.2, abs=0.02)
    assert damage[["n_severe", "n_least"]].to_numpy().sum() == 2 * 3
    assert (tmp_path / "v.png").stat().st_size > 50_000
    again = read_volume(tmp_path / "found.zarr")
    assert set(np.unique(again.particles)) == {0, 1, 2}
    assert np.count_nonzero(again.cracks) > 500


@pytest.mark.parametrize(
    "refused", ["no_size", "no_unit", "no_cube", "no_file", "twice", "sizes", "keV", "damage"]
)
def test_what_cannot_be_analysed_is_one_sentence(refused, volume, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = {"no_unit": ([50.0], None), "no_cube": ([50.0, 60.0], "nm"), "keV": ([1.0], "keV")}
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["density"] = volume.density[:20]
        if refused in sizes:
            file["voxel_size"] = sizes[refused][0]
            if sizes[refused][1]:
                file["voxel_size"].attrs["units"] = sizes[refused][1]
        file["small"] = volume.density[:10]
    files, options, message = {
        "no_size": (["v.h5"], {}, "does not say the size of its voxels; give it with --voxel-size-nm"),
        "no_unit": (["v.h5"], {}, "without a unit"),
        "no_cube": (["v.h5"], {}, "no cubes"),
        "keV": (["v.h5"], {}, "no unit of length"),
        "no_file": (["w.h5"], {}, "no file w.h5"),
        "twice": (["v.h5", "v.h5"], {"soc": "v.h5"}, "--soc belongs to one volume"),
        "sizes": (["v.h5"], {"voxel_size_nm": 50.0, "soc": "v.h5::small"}, "on one grid"),
        "damage": (["v.h5"], {"voxel_size_nm": 50.0, "damage": "much"}, "MILD,SEVERE"),
    }[refused]
    with pytest.raises(NimcoError, match=message) as caught:
        volume_command(files, **options)
    assert "\n" not in str(caught.value)


def _broken(kind, folder, density):
    path = folder / "b.h5"
    if kind == "folder gap":
        path = folder / "planes"
        path.mkdir()
        for number in (1, 2, 4, 5):
            tifffile.imwrite(path / f"p{number}.tif", density[number])
    elif kind == "folder shapes":
        path = folder / "planes"
        path.mkdir()
        for number in range(4):
            tifffile.imwrite(path / f"p{number}.tif", density[number, : 10 + number // 3])
    elif kind == "empty folder":
        path = folder / "planes"
        path.mkdir()
    elif kind == "truncated tiff":
        path = folder / "b.tif"
        tifffile.imwrite(path, density)
        path.write_bytes(path.read_bytes()[: density.nbytes // 2])
    elif kind == "colour tiff":
        path = folder / "b.tif"
        tifffile.imwrite(path, np.zeros((5, 8, 9, 3), np.uint8), photometric="rgb")
    elif kind == "no tiff":
        path = folder / "b.tif"
        path.write_bytes(b"not an image")
    elif kind == "group":
        with h5py.File(path, "w") as file:
            file["density/inner"] = density
    elif kind == "flat":
        with h5py.File(path, "w") as file:
            file["density"] = density[0]
    elif kind == "text":
        with h5py.File(path, "w") as file:
            file["density"] = np.full((4, 4, 4), b"x")
    elif kind == "huge":
        with h5py.File(path, "w") as file:
            file.create_dataset("density", (90_000, 90_000, 90_000), "f4", chunks=(1, 512, 512))
    elif kind == "zarr metadata":
        path = folder / "b.zarr"
        path.mkdir()
        (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array", "shape": "many"}')
    elif kind == "zarr chunk":
        path = folder / "b.zarr"
        write_volume(Volume(density, 50.0), path)
        chunk = next(path.glob("density/c/0/0/0"))
        chunk.write_bytes(chunk.read_bytes()[:50])
    elif kind == "zarr pipe":
        path = folder / "b.zarr"
        write_volume(Volume(density, 50.0), path)
        chunk = next(path.glob("density/c/0/0/0"))
        chunk.unlink()
        os.mkfifo(chunk)
    elif kind in ("plane pipe", "pipe"):
        path = folder / "p1.tif"
        os.mkfifo(path)
        path = folder if kind == "plane pipe" else path
    elif kind == "huge zarr":
        path = folder / "b.zarr"
        zarr.create_array(path, shape=(90_000,) * 3, dtype="f4", chunks=(64,) * 3)
    elif kind == "no volume":
        with h5py.File(path, "w") as file:
            file["soup"] = 1.0
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("folder gap", "from number 2 to 4"),
        ("folder shapes", "a plane of"),
        ("empty folder", "holds no TIFF"),
        ("truncated tiff", "TIFF|truncated"),
        ("colour tiff", "one stack of gray planes"),
        ("no tiff", "cannot be read as TIFF"),
        ("group", "no volume under a usual name"),
        ("flat", "no volume"),
        ("text", "text"),
        ("huge", "GB"),
        ("zarr metadata", "cannot be read as Zarr"),
        ("zarr chunk", "cannot be read as Zarr"),
        ("zarr pipe", "no regular file"),
        ("plane pipe", "no regular file"),
        ("pipe", "no regular file"),
        ("huge zarr", "GB"),
        ("no volume", "soup"),
    ],
)
def test_damaged_and_hostile_files_are_one_sentence(kind, message, volume, tmp_path):
    path = _broken(kind, tmp_path, volume.density)
    with pytest.raises(NimcoError, match=message) as caught:
        read_volume(path, voxel_size_nm=50.0)
    assert "\n" not in str(caught.value)
    with pytest.raises(VolumeError, match=r"written as \.h5, \.zarr or \.tif"):
        write_volume(volume, tmp_path / "v.npy")
    (tmp_path / "mine.zarr").mkdir()
    with pytest.raises(VolumeError, match="no Zarr volume"):
        write_volume(volume, tmp_path / "mine.zarr")


def test_particles_and_cracks_of_the_twin_are_those_it_was_made_of():
    beamline = SimBeamline((64, 88), seed=3)
    beamline.load_volume(VolumeSettings(n_particles=6, n_other=0, wide_voxels=4.0, fine_voxels=0.8))
    truth = beamline.volume_truth("Ni_K")
    density = truth.density + 0.04 * np.random.default_rng(0).standard_normal(truth.density.shape)
    found = analyse_volume(density, voxel_size_nm=truth.voxel_size_nm, soc=truth.soc)
    labels = found["particle_label_map"].values
    numbers = [k for k in range(1, truth.particle.max() + 1) if (truth.particle == k).any()]
    assert labels.max() == len(numbers) >= 4
    for number in numbers:
        own = truth.particle == number
        row = np.bincount(labels[own]).argmax() - 1
        # Up to half of a particle is crack here.
        assert np.count_nonzero(own & (labels == row + 1)) > 0.85 * np.count_nonzero(
            own | (labels == row + 1)
        )
        wide, fine = (np.count_nonzero(truth.crack[own] == kind) / np.count_nonzero(own) for kind in (1, 2))
        share, sigma = (found[f"particle_crack_share{suffix}"].values[row] for suffix in ("", "_sigma"))
        # A fine crack of the twin takes 0.8 of its voxels.
        assert share == pytest.approx(wide + 0.8 * fine, abs=max(2.5 * sigma, 0.01))
        assert found["particle_soc_mean"].values[row] == pytest.approx(np.nanmean(truth.soc[own]), abs=0.02)
    # The twin charges the surface by 0.2 more than the centre, and cracks by 0.1.
    assert (found["particle_soc_surface_minus_bulk"].values > 0.04).all()
    at_cracks = found["particle_soc_crack_minus_bulk"].values
    assert 0.03 < np.nanmedian(at_cracks) < 0.12
