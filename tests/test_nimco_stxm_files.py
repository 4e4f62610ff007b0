"""Stacks of other microscopes and reconstructions: real files, files written here, and what cannot be read."""

import h5py
import numpy as np
import pytest

from nimco import ImageStack, read_image_stack, read_reconstructions, write_nxstxm
from nimco.errors import RecordingError

ENERGY = np.array([850.0, 853.0, 855.5])


def stack():
    rng = np.random.default_rng(1)
    return ImageStack(
        ENERGY,
        rng.poisson(500, (3, 4, 6)).astype(float),
        np.arange(4) * 0.05,
        np.arange(6) * 0.04,
        np.full(3, 0.01),
    )


def test_a_stack_is_written_as_nxstxm_and_read_back_equal(tmp_path):
    path = write_nxstxm(stack(), tmp_path / "out.nxs", title="grains")
    back = read_image_stack(path)
    for name in ("energy_ev", "values", "row_um", "column_um", "dwell_s"):
        np.testing.assert_array_equal(getattr(back, name), getattr(stack(), name), err_msg=name)
    with h5py.File(path) as file:  # what programs of others look for
        entry = file["entry1"]
        assert entry["definition"][()] == b"NXstxm"
        assert [name.decode() for name in entry["counter0"].attrs["axes"]] == [
            "energy",
            "sample_y",
            "sample_x",
        ]
        assert entry["instrument/monochromator/energy"].size == entry["instrument/detector/data"].size
    with pytest.raises(RecordingError, match="is there already"):
        write_nxstxm(stack(), path)


def test_real_files_of_two_facilities_are_read(shared_data):
    folder = shared_data / "files"
    if not folder.is_dir():
        pytest.skip("no files of other programs there")
    pollux = read_image_stack(folder / "pollux_nxstxm_stack_128.hdf5")
    assert pollux.values.shape == (4, 50, 50)
    np.testing.assert_allclose(pollux.energy_ev, [280.0, 284.5, 285.0, 320.0])
    assert np.diff(pollux.column_um) == pytest.approx(0.5)
    assert pollux.dwell_s[0] == pytest.approx(0.01)
    als = read_image_stack(folder / "als_71214078.hdr")
    assert als.values.shape == (3, 125, 125)  # the first three of 123
    assert als.energy_ev == pytest.approx([700.0, 700.375, 700.75])
    assert np.diff(als.column_um) == pytest.approx(0.08, abs=1e-6)


def ptypy(path, image, pixel_m=5e-9, energy_ev=850.0):
    with h5py.File(path, "w") as file:
        storage = file.create_group("content/obj/SMFG00")
        storage["data"] = image[None]
        storage["_psize"] = [pixel_m, pixel_m]
        storage["_energy"] = energy_ev * 1e-3
    return path


def cxi(path, image, pixel_m=5e-9, energy_ev=853.0):
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry_1")
        entry["image_1/data"] = image
        entry["image_1/x_pixel_size"] = pixel_m
        entry["instrument_1/source_1/energy"] = energy_ev * 1.602176634e-19
    return path


def test_reconstructions_become_optical_depth_and_phase_in_order_of_energy(tmp_path):
    depth = np.zeros((20, 20))
    depth[5:12, 5:12] = 0.8
    image = (np.exp(-0.5 * depth) * np.exp(0.3j * depth)).astype(np.complex64)
    paths = [cxi(tmp_path / "b.cxi", 2.0 * image), ptypy(tmp_path / "a.ptyr", image)]
    found = read_reconstructions(paths)
    assert found.energy_ev == pytest.approx([850.0, 853.0])
    np.testing.assert_allclose(found.values, [depth, depth], atol=1e-5)
    np.testing.assert_allclose(found.phase_rad, [0.3 * depth] * 2, atol=1e-5)
    assert np.diff(found.column_um) == pytest.approx(0.005)
    again = read_reconstructions(paths, energies_ev=[700.0, 701.0])
    assert again.energy_ev == pytest.approx([700.0, 701.0])


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    image = np.ones((8, 8), np.complex64)
    first = ptypy(tmp_path / "a.ptyr", image)
    cases = [
        (lambda: read_reconstructions([]), "no reconstruction"),
        (
            lambda: read_reconstructions([first, ptypy(tmp_path / "b.ptyr", image, pixel_m=6e-9)]),
            "pixels of 6.00 nm and a.ptyr of 5.00 nm",
        ),
        (lambda: read_reconstructions([first, ptypy(tmp_path / "c.ptyr", image[:4])]), "crop them alike"),
        (
            lambda: read_reconstructions([cxi(tmp_path / "d.cxi", image.real)]),
            "where a complex image is needed",
        ),
        (
            lambda: read_reconstructions([ptypy(tmp_path / "e.ptyr", image, energy_ev=np.nan)]),
            "does not say its energy",
        ),
        (lambda: read_reconstructions([first], energies_ev=[1.0, 2.0]), "2 energies are given for 1"),
        (lambda: read_image_stack(tmp_path / "none.hdf5"), "is no file"),
        (lambda: read_image_stack(first), "no entry with the definition NXstxm"),
    ]
    text = tmp_path / "text.hdf5"
    text.write_text("nothing")
    cases.append((lambda: read_image_stack(text), "cannot be read as HDF5"))
    header = tmp_path / "s.hdr"
    axes = (("PAxis", "0.0, 0.1"), ("QAxis", "0.0, 0.1"), ("StackAxis", "700.0, 701.0"))
    header.write_text("; ".join(f"{name} = {{ Points = (2, {points});}}" for name, points in axes))
    cases.append((lambda: read_image_stack(header), "there is no image s_a000.xim"))
    lone = tmp_path / "t.hdr"
    lone.write_text("PAxis = { Points = (2, 0.0, 0.1);}")
    cases.append((lambda: read_image_stack(lone), "names no points of the QAxis"))
    for make, words in cases:
        with pytest.raises(RecordingError, match=words):
            make()
    (tmp_path / "s_a000.xim").write_text("1 2\n3 4\n")
    assert read_image_stack(header).values.shape == (1, 2, 2)  # a scan that was stopped
    (tmp_path / "s_a001.xim").write_text("1 2 3\n3 4 5\n")
    with pytest.raises(RecordingError, match="holds 2 x 3 values where"):
        read_image_stack(header)
