"""Rotation series of DataExchange, NXtomo and FXI files, to sums and a volume."""

import h5py
import numpy as np
import pytest

from edge_fitting import tomography
from nimco.errors import NimcoError, ProjectionError
from nimco.testing import PhantomBall, ScanDocuments, VolumePhantom
from nimco.volumes import open_projections

ANGLES = np.arange(0.0, 180.0, 6.0)
DARK, LIGHT = 100.0, 20_000.0


@pytest.fixture(scope="module")
def scan():
    return ScanDocuments()


@pytest.fixture(scope="module")
def phantom():
    balls = (PhantomBall((4, 11, 12), 6.0), PhantomBall((4, 21, 20), 5.0))
    return VolumePhantom.of((8, 32, 32), balls, noise=0.0, soc_noise=0.0, blur=0.5, core=0.2, shell=0.2)


@pytest.fixture(scope="module")
def depths(phantom, scan):
    """Optical depth (energies, angles, rows, columns): a ball of SOC 0.2 and one of 0.8."""
    from skimage.transform import radon

    def projected(volume):
        return np.stack([radon(plane, ANGLES, circle=True).T for plane in volume], axis=1)

    first = np.where(phantom.labels == 2, 0.0, phantom.density)
    parts = projected(first), projected(phantom.density - first)
    return np.array(
        [
            0.03 * sum(part * scan.spectrum(energy, soc) for part, soc in zip(parts, (0.2, 0.8), strict=True))
            for energy in scan.energies_ev
        ]
    )


def exchange(path, depth, energy_ev, **change):
    held = {
        "exchange/data": DARK + LIGHT * np.exp(-depth),
        "exchange/data_white": np.full((3, *depth.shape[1:]), DARK + LIGHT),
        "exchange/data_dark": np.full((2, *depth.shape[1:]), DARK),
        "exchange/theta": ANGLES[: len(depth)],
        "measurement/instrument/monochromator/energy": energy_ev / 1000.0,
        "measurement/instrument/detection_system/objective/resolution": 0.05,
        **change,
    }
    with h5py.File(path, "w") as file:
        for name, values in held.items():
            if values is not None:
                file[name] = values
        for name, unit in (("energy", "keV"), ("resolution", "um")):
            for key in held:
                if key.endswith(name) and held[key] is not None:
                    file[key].attrs["units"] = unit
    return path


def fxi(path, depth, energy_ev):
    with h5py.File(path, "w") as file:
        file["img_tomo"] = np.rint(DARK + LIGHT * np.exp(-depth)).astype(np.uint16)
        file["img_bkg_avg"] = np.full((1, *depth.shape[1:]), DARK + LIGHT, np.float32)
        file["img_dark"] = np.full((2, *depth.shape[1:]), DARK, np.uint16)
        file["angle"] = ANGLES
        file["X_eng"] = energy_ev / 1000.0
        file["scan_id"] = 7
    return path


def nxtomo(path, entries):
    with h5py.File(path, "w") as file:
        for number, (energy_ev, depth) in enumerate(entries):
            shape = (1, *depth.shape[1:])
            flat, dark = np.full(shape, DARK + LIGHT), np.full(shape, DARK)
            # Dark and flat, half of the angles, a frame that is none, the rest, and a flat.
            counts, bad = DARK + LIGHT * np.exp(-depth), np.zeros(shape)
            half = len(depth) // 2
            entry = file.create_group(f"entry{number:04d}")
            entry["instrument/detector/data"] = np.concatenate(
                [dark, flat, counts[:half], bad, counts[half:], flat]
            )
            keys = [2, 1, *[0] * half, 3, *[0] * (len(depth) - half), 1]
            entry["instrument/detector/image_key"] = np.array(keys, np.int8)
            angles = np.radians([0.0, 0.0, *ANGLES[:half], ANGLES[half], *ANGLES[half:], 180.0])
            entry["sample/rotation_angle"] = angles
            entry["sample/rotation_angle"].attrs["units"] = "rad"
            entry["instrument/beam/incident_energy"] = energy_ev
            entry["instrument/beam/incident_energy"].attrs["units"] = "eV"
            entry["sample/x_pixel_size"] = 5e-8
            entry["sample/x_pixel_size"].attrs["units"] = "m"
    return path


@pytest.mark.parametrize("layout", ["exchange", "fxi", "nxtomo"])
def test_projections_are_read_as_they_were_taken(layout, depths, scan, tmp_path):
    energies = scan.energies_ev[[9, 4]]
    stacks = depths[[9, 4]]
    if layout == "nxtomo":
        paths = [nxtomo(tmp_path / "t.nx", zip(energies, stacks, strict=True))]
    else:
        write = {"exchange": exchange, "fxi": fxi}[layout]
        paths = [write(tmp_path / f"{k}.h5", stacks[k], energies[k]) for k in range(2)]
    with open_projections(paths) as series:
        np.testing.assert_allclose(series.energies_ev, sorted(energies))
        np.testing.assert_allclose(series.angles_deg, ANGLES, atol=1e-9)
        assert series.shape == depths.shape[2:]
        assert series.pixel_size_nm == (None if layout == "fxi" else pytest.approx(50.0))
        taken = list(series)
    assert len(taken) == len(series) == 2 * ANGLES.size
    for one in taken:
        truth = stacks[1 - one.energy_index][one.place]
        assert one.angle_deg == pytest.approx(ANGLES[one.place])
        assert one.energy_ev == pytest.approx(sorted(energies)[one.energy_index])
        np.testing.assert_allclose(one.depth, truth, atol=1e-4)


def test_files_become_sums_and_a_volume_of_the_states_they_were_made_of(depths, scan, phantom, tmp_path):
    files = [exchange(tmp_path / f"{k}.h5", depths[k], energy) for k, energy in enumerate(scan.energies_ev)]
    with open_projections(files) as series:
        weights = np.ones(len(series.energies))
        functions = tomography.SumFunctions(scan.references, series.energies_ev, weights)
        sums = tomography.ProjectionSums(functions, tuple(series.angles_deg), series.shape)
        for one in series:
            sums.push(one.place, one.energy_index, one.energy_ev, one.depth, 1.0)
    settings = tomography.ReconstructionSettings(centre_px=16.0, take_out_runout=False)
    fit = tomography.reconstruct(sums.even(), functions, settings)
    soc = fit.values["soc"][4]
    inner = phantom.density[4] > 0.99
    for label, truth in ((1, 0.2), (2, 0.8)):
        own = inner & (phantom.labels[4] == label)
        assert np.nanmedian(soc[own]) == pytest.approx(truth, abs=0.03)


def test_an_energy_without_a_unit_is_kev_below_100_and_given_ones_come_first(depths, tmp_path):
    for value, expected in ((8.344, 8344.0), (8344.0, 8344.0)):
        place = exchange(
            tmp_path / "e.h5", depths[0], 0.0,
            **{"measurement/instrument/monochromator/energy": None, "exchange/energy": None, "energy": None},
        )  # fmt: skip
        with h5py.File(place, "a") as file:
            file["energy"] = value
        with open_projections([place]) as series:
            assert series.energies_ev.tolist() == [expected]
        with open_projections([place], energies_ev=[8350.0]) as series:
            assert series.energies_ev.tolist() == [8350.0]
        with pytest.raises(ProjectionError, match="2 energies were given for 1 series"):
            open_projections([place], energies_ev=[8350.0, 8351.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exchange/theta": None}, "no angles"),
        ({"exchange/theta": ANGLES[:-3]}, "27 angles for 30 frames"),
        ({"exchange/theta": np.full(30, np.nan)}, "30 angles are no numbers"),
        ({"exchange/theta": ANGLES / 2}, "cover 90 of 180 degrees"),
        ({"measurement/instrument/monochromator/energy": None}, "does not say its energy"),
        ({"measurement/instrument/monochromator/energy": [8.3, 8.4]}, "2 energies for one"),
        ({"measurement/instrument/monochromator/energy": -8.3}, "no X-ray energy"),
        ({"exchange/data_white": None}, "no flats at 8340 eV"),
        ({"exchange/data_dark": None}, "no darks at 8340 eV"),
        ({"exchange/data_white": np.ones((1, 5, 5))}, "flats have"),
        ({"exchange/data": np.ones((30, 4))}, "no projections|pixels|30 frames|angles for"),
        ({"exchange/data": np.full((30, 4, 4), b"x")}, "text"),
        ({"exchange/data": None}, "no rotation series"),
    ],
)
def test_what_is_missing_of_a_series_is_one_sentence(change, message, depths, tmp_path):
    path = exchange(tmp_path / "e.h5", depths[0], 8340.0, **change)
    with pytest.raises(NimcoError, match=message) as caught:
        open_projections([path])
    assert "\n" not in str(caught.value)


def test_half_a_series_and_files_that_do_not_belong_together_are_one_sentence(depths, tmp_path):
    whole = exchange(tmp_path / "a.h5", depths[0], 8340.0)
    with pytest.raises(ProjectionError, match="both of 8340 eV"):
        open_projections([whole, exchange(tmp_path / "b.h5", depths[1], 8340.0)])
    with pytest.raises(ProjectionError, match="files of one series"):
        open_projections([whole, exchange(tmp_path / "c.h5", depths[1][:, :, :20], 8341.0)])
    half = tmp_path / "half.h5"
    exchange(half, depths[0], 8342.0, **{"exchange/data": None})
    with h5py.File(half, "a") as file:
        held = file.create_dataset("exchange/data", depths[0].shape, "f4", chunks=(1, *depths[0].shape[1:]))
        held[:12] = DARK + LIGHT
    with pytest.raises(ProjectionError, match="18 of 30 projections at 8342 eV were never written"):
        open_projections([half])
    swapped = exchange(
        tmp_path / "s.h5", depths[0], 8343.0, **{"exchange/data_white": np.full((1, 8, 32), DARK)}
    )
    with (
        open_projections([swapped]) as series,
        pytest.raises(ProjectionError, match="no brighter than the darks"),
    ):
        next(iter(series))
    with open_projections([exchange(tmp_path / "p.h5", depths[0][:15], 8344.0)], is_partial=True) as series:
        assert len(series) == 15
    with pytest.raises(NimcoError, match="no file"):
        open_projections([tmp_path / "none.h5"])
    with pytest.raises(ProjectionError, match="no files"):
        open_projections([])
