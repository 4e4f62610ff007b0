"""Recorded scans in the layouts of the field, and their documents."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from event_model import DocumentRouter

from nimco._recordings import RecordingFile
from nimco._replay import replay_documents
from nimco.errors import RecordingError

ENERGIES_EV = np.array([8250.0, 8330.0, 8340.0, 8345.0, 8350.0, 8400.0, 8500.0])
SHAPE = (6, 8)


def stack(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1000, 5000, (ENERGIES_EV.size, *SHAPE), dtype=np.uint16)


@pytest.fixture
def native(tmp_path: Path) -> Path:
    path = tmp_path / "native.h5"
    with h5py.File(path, "w") as file:
        file["energy_ev"] = ENERGIES_EV
        file["frames"] = stack(0)
        file["flats"] = stack(1)
        file["dark"] = np.full(SHAPE, 100.0, np.float32)
        file["i0"] = np.linspace(1.0, 0.9, ENERGIES_EV.size)
    return path


def test_native_layout(native: Path) -> None:
    with RecordingFile(native) as recording:
        assert recording.edge == "Ni_K"
        assert recording.flats_per_energy
        assert recording.shape == SHAPE
        np.testing.assert_array_equal(recording.frames[3], stack(0)[3])


def test_data_exchange_in_kev_with_few_flats(tmp_path: Path) -> None:
    path = tmp_path / "dx.h5"
    with h5py.File(path, "w") as file:
        file["exchange/data"] = stack(0)
        file["exchange/data_white"] = stack(1)[:2]
        file["exchange/data_dark"] = stack(2)[:3]
        file["exchange/energy"] = ENERGIES_EV / 1000
    with RecordingFile(path) as recording:
        np.testing.assert_allclose(recording.energies_ev, ENERGIES_EV)
        assert not recording.flats_per_energy
        assert any("keV" in note for note in recording.notes)
        documents = list(replay_documents(recording))
    flats = [doc for name, doc in documents if name == "event" and doc["data"]["xanes_energy_index"] == -1]
    assert len(flats) == 2 + 3


@pytest.mark.parametrize("transmission", [False, True])
def test_fxi_export_of_counts_and_of_transmission(tmp_path: Path, transmission: bool) -> None:
    path = tmp_path / "fxi.h5"
    dark = np.full((1, *SHAPE), 90.0, np.float32)
    counts, flats = stack(0).astype(np.float32), stack(1).astype(np.float32) + 4000
    with h5py.File(path, "w") as file:
        file["X_eng"] = ENERGIES_EV / 1000
        file["img_xanes"] = (counts - dark) / (flats - dark) if transmission else counts
        file["img_bkg"], file["img_dark"] = flats, dark
    with RecordingFile(path) as recording:
        flat = np.asarray(recording.flats[0])
        ratio = (recording.frames[0] - recording.darks[0]) / (flat - recording.darks[0])
    np.testing.assert_allclose(ratio, (counts[0] - dark[0]) / (flats[0] - dark[0]), rtol=1e-6)


def test_documents_are_valid_and_tell_every_frame_once(native: Path) -> None:
    seen: dict[str, list[tuple[int, float, np.ndarray]]] = {}
    streams: dict[str, str] = {}

    class Check(DocumentRouter):
        def descriptor(self, doc):
            streams[doc["uid"]] = doc["name"]

        def event(self, doc):
            data = doc["data"]
            seen.setdefault(streams[doc["descriptor"]], []).append(
                (data["xanes_energy_index"], data["energy"], data["camera_image"])
            )

    check = Check()
    with RecordingFile(native) as recording:
        for name, doc in replay_documents(recording):
            check(name, doc)
    assert [index for index, _, _ in seen["primary"]] == list(range(ENERGIES_EV.size))
    for index, energy_ev, image in seen["primary"]:
        assert energy_ev == ENERGIES_EV[index]
        np.testing.assert_array_equal(image, stack(0)[index])
    assert [index for index, _, _ in seen["flat"]] == list(range(ENERGIES_EV.size))
    assert len(seen["dark"]) == 1


def test_an_interruption_closes_the_run_as_aborted(native: Path) -> None:
    with RecordingFile(native) as recording:
        documents = replay_documents(recording)
        next(documents)
        name, stop = documents.throw(KeyboardInterrupt())
    assert name == "stop"
    assert stop["exit_status"] == "abort"


def test_truncated_file(native: Path) -> None:
    native.write_bytes(native.read_bytes()[:1500])
    with pytest.raises(RecordingError, match="truncated"), RecordingFile(native):
        pass


def test_unknown_layout_says_what_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        file["tomography"] = np.zeros(3)
    with pytest.raises(RecordingError, match="tomography"), RecordingFile(path):
        pass


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no file"), RecordingFile(tmp_path / "none.h5"):
        pass


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("energy_ev", np.array([])), "empty"),
        (("energy_ev", np.where(ENERGIES_EV == 8340.0, np.nan, ENERGIES_EV)), "energy 2"),
        (("energy_ev", ENERGIES_EV[:-1]), "6 energies"),
        (("energy_ev", ENERGIES_EV - 3000), "cross no"),
        (("flats", np.zeros((7, 4, 4))), "flat frames"),
        (("flats", np.zeros((0, *SHAPE))), "flat frames"),
        (("dark", np.zeros((4, 4))), "dark frames"),
        (("i0", np.ones(3)), "i0"),
    ],
)
def test_parts_that_do_not_fit(native: Path, change: tuple[str, np.ndarray], words: str) -> None:
    name, value = change
    with h5py.File(native, "r+") as file:
        del file[name]
        file[name] = value
    with pytest.raises(RecordingError, match=words), RecordingFile(native):
        pass


@pytest.mark.parametrize("pixel_size", [0.0312, 3.12e-8, 5e7])
def test_a_pixel_size_that_cannot_be_in_nm_is_left_out_and_said(native: Path, pixel_size: float) -> None:
    with h5py.File(native, "r+") as file:
        file["pixel_size_nm"] = pixel_size
    with RecordingFile(native) as recording:
        assert recording.pixel_size_nm is None
        assert any("nanometres are meant" in note for note in recording.notes)


def test_the_real_stacks_are_read(shared_data: Path) -> None:
    for path in sorted((shared_data / "stacks").glob("semireal_ni_k_particle*.h5")):
        with RecordingFile(path) as recording:
            assert recording.edge == "Ni_K"
            assert recording.references is not None
            assert recording.truth is not None
            assert recording.frames.shape[0] == recording.energies_ev.size
