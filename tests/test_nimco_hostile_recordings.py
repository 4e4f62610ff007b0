"""Recordings that are broken or meant to do harm: one sentence, little memory, never a frame that is not there."""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from callbacks import RootMap
from nimco._recordings import RecordingFile
from nimco._replay import replay_documents
from nimco.errors import RecordingError

ENERGIES_EV = np.array([8250.0, 8330.0, 8340.0, 8345.0, 8350.0, 8400.0, 8500.0])
N = ENERGIES_EV.size
SHAPE = (6, 8)
FRAMES = np.random.default_rng(0).integers(1000, 5000, (N, *SHAPE), dtype=np.uint16)
HUGE = (N, 100_000, 80_000)


def write(path: Path, **changes: Any) -> Path:
    """Write a good recording, with some datasets replaced: an array, a link, keywords of create_dataset, or None."""
    parts: dict[str, Any] = {
        "energy_ev": ENERGIES_EV,
        "frames": FRAMES,
        "flats": FRAMES + 100,
        "dark": np.full(SHAPE, 100.0, np.float32),
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, value in parts.items():
            if isinstance(value, dict):
                file.create_dataset(name, **value)
            elif isinstance(value, h5py.VirtualLayout):
                file.create_virtual_dataset(name, value)
            elif value is not None:
                file[name] = value
    return path


def chunked(shape: tuple[int, ...], chunk: tuple[int, ...]) -> dict[str, Any]:
    return {"shape": shape, "dtype": "u2", "chunks": chunk}


def virtual_of(name: str, dataset: str = "d") -> h5py.VirtualLayout:
    layout = h5py.VirtualLayout(FRAMES.shape, "u2")
    layout[:] = h5py.VirtualSource(name, dataset, FRAMES.shape)
    return layout


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "112 GB of fill values": ({"frames": chunked(HUGE, (1, 1000, 1000))}, "GB of memory"),
    "fill values": ({"frames": chunked((N, *SHAPE), (1, *SHAPE))}, "never written"),
    "fill values in one piece": ({"frames": {"shape": (N, *SHAPE), "dtype": "u2"}}, "never written"),
    "flats of fill values": ({"flats": chunked((2, *SHAPE), (1, *SHAPE))}, "2 of 2 flat frames"),
    "ten thousand million energies": ({"energy_ev": chunked((10**10,), (1000,))}, "10000000000 values"),
    "ten thousand million darks": ({"dark": chunked((10**10, *SHAPE), (1, *SHAPE))}, "10000000000 frames"),
    "a hundred thousand darks": ({"dark": chunked((10**5, *SHAPE), (1, *SHAPE))}, "dark frames were never"),
    "ten thousand million i0": ({"i0": chunked((10**10,), (1000,))}, "10000000000 values"),
    "references without end": (
        {"reference/soc": np.linspace(0, 1, 5), "reference/mu": chunked((10**6, 10**6), (1, 10**6))},
        "shape",
    ),
    "colour": ({"frames": np.zeros((N, *SHAPE, 3), np.uint8)}, "colour"),
    "exposures in an axis of their own": ({"frames": np.zeros((N, 2, *SHAPE), np.uint8)}, "4 dimensions"),
    "text images": ({"frames": np.zeros((N, *SHAPE), "S4")}, "holds text"),
    "objects": ({"frames": np.array(["a"] * N, dtype=h5py.string_dtype())}, "objects or text"),
    "records": ({"frames": np.zeros((N, *SHAPE), [("r", "u1"), ("g", "u1")])}, "records"),
    "complex": ({"frames": np.zeros((N, *SHAPE), "c8")}, "complex"),
    "rows of any length": (
        {"frames": {"shape": (N,), "dtype": h5py.vlen_dtype(np.uint16)}},
        "objects or text",
    ),
    "link to itself": ({"frames": h5py.SoftLink("/frames")}, "link to /frames"),
    "link to nothing": ({"frames": h5py.SoftLink("/nowhere")}, "link to /nowhere"),
    "link to no file": ({"frames": h5py.ExternalLink("none.h5", "/x")}, r"/x in none\.h5"),
    "loop over the file": ({"frames": h5py.ExternalLink("it.h5", "/frames")}, r"/frames in it\.h5"),
    "link to a pipe": ({"frames": h5py.ExternalLink("pipe", "/frames")}, "in pipe"),
    "link to a link to a pipe": (
        {"frames": h5py.SoftLink("/a/b"), "a/b": h5py.ExternalLink("pipe", "/frames")},
        "link to /a/b",
    ),
    "links in a circle": (
        {"frames": h5py.SoftLink("a"), "a": h5py.SoftLink("/b"), "b": h5py.SoftLink("frames")},
        "link to a,",
    ),
    "a group that holds itself": ({"frames": h5py.SoftLink("/")}, "is a group"),
    "virtual of a pipe": ({"frames": virtual_of("pipe")}, "never written"),
    "link to a socket": ({"frames": h5py.ExternalLink("sock", "/frames")}, "in sock"),
    "virtual of a socket": ({"frames": virtual_of("sock")}, "never written"),
    "references as frames": (
        {"frames": {"shape": (N,), "dtype": h5py.ref_dtype}},
        "objects or text",
    ),
    "references as energies": ({"energy_ev": {"shape": (N,), "dtype": h5py.ref_dtype}}, "objects or text"),
    "regions as pixel size": (
        {"pixel_size_nm": {"shape": (), "dtype": h5py.regionref_dtype}},
        "pixel_size_nm",
    ),
    "virtual of itself": ({"frames": virtual_of("it.h5", "frames")}, "never written"),
    "energies that are no numbers": (
        {"energy_ev": np.where(ENERGIES_EV > 8400, np.nan, ENERGIES_EV)},
        "energy 6 in 'energy_ev' is nan",
    ),
    "complex energies": ({"energy_ev": ENERGIES_EV + 1j}, "complex"),
    "energies as objects": ({"energy_ev": np.array(["8250"] * N, dtype=h5py.string_dtype())}, "text"),
    "energies in records": ({"energy_ev": np.zeros(N, [("a", "f8")])}, "records"),
    "no energies": (
        {"energy_ev": {"shape": (0,), "maxshape": (None,), "dtype": "f8", "chunks": (8,)}},
        "empty",
    ),
    "a chunk of 3.8 GB": (
        {"frames": {"shape": (N, 20_000, 50_000), "dtype": "u2", "chunks": (2, 20_000, 48_000)}},
        "GB",
    ),
    "group": ({"frames": None, "frames/data": FRAMES}, "is a group"),
    "null": ({"frames": h5py.Empty("u2")}, "null dataset"),
    "no rows": ({"frames": np.zeros((N, 0, 8))}, "holds no frames"),
    "energy last": ({"frames": np.moveaxis(FRAMES, 0, -1)}, "energy is the last axis"),
    "no darks": ({"dark": None}, "--no-dark"),
    "darks of no frame": ({"dark": np.zeros((0, *SHAPE))}, "--no-dark"),
    "text as pixel size": ({"pixel_size_nm": "40 nm"}, "text '40 nm'"),
    "record as pixel size": ({"pixel_size_nm": np.zeros(1, [("a", "i4")])}, "records"),
    "milliseconds beside seconds": (
        {"exposure_s": 0.5, "flat_exposure_s": 300.0},
        "both are meant in seconds",
    ),
    "exposures that differ": ({"exposure_s": np.linspace(0.1, 1, N)}, "different values"),
    "text energies": ({"energy_ev": ENERGIES_EV.astype("S8")}, "holds text"),
    "negative": ({"energy_ev": -ENERGIES_EV}, "energy 0"),
    "keV and eV": ({"energy_ev": np.where(ENERGIES_EV < 8331, 0.001, 1) * ENERGIES_EV}, "neither all in keV"),
    "energies in two axes": ({"energy_ev": np.full((7, 2), 8340.0)}, "expected"),
    "raw file that is not there": (
        {"frames": {"shape": (N, *SHAPE), "dtype": "u2", "external": [("raw", 0, FRAMES.nbytes)]}},
        "never written",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_is_refused_with_one_sentence(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, words = BROKEN[kind]
    os.mkfifo(tmp_path / "pipe")
    bind(tmp_path, monkeypatch)
    path = write(tmp_path / "it.h5", **changes)
    with pytest.raises(RecordingError, match=words) as refused, RecordingFile(path):
        pass
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def bind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a socket "sock" in a folder whose own path may be too long for one."""
    with monkeypatch.context() as there, socket.socket(socket.AF_UNIX) as made:
        there.chdir(folder)
        made.bind("sock")


def test_attributes_that_are_references_do_not_matter(tmp_path: Path) -> None:
    path = write(tmp_path / "it.h5")
    with h5py.File(path, "a") as file:
        for name in ("frames", "energy_ev", "flats", "dark"):
            file[name].attrs["units"] = file["frames"].ref
            file[name].attrs["target"] = file["frames"].regionref[0:2]
        file.attrs["default"] = file["frames"].ref
        file.attrs["NX_class"] = h5py.Empty("S10")
    assert len(told_frames(path)) == N


def test_no_file_of_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    bind(tmp_path, monkeypatch)
    (tmp_path / "empty.h5").touch()
    (tmp_path / "text.h5").write_text("energy mu\n" * 1000)
    whole = write(tmp_path / "whole.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[:-50])
    for name, words in {
        "pipe": "no regular file",
        "sock": "no regular file",
        ".": "is a folder",
        "empty.h5": "is empty",
        "text.h5": "not HDF5",
        "cut.h5": "truncated",
        "none.h5": "no file",
        "a\0b": "no file",
    }.items():
        with pytest.raises(RecordingError, match=words), RecordingFile(f"{tmp_path}/{name}"):
            pass


@pytest.mark.parametrize("swmr", [False, True])
def test_a_file_still_open_in_its_writer(tmp_path: Path, swmr: bool) -> None:
    writer = (
        "import h5py, sys; f = h5py.File(sys.argv[1], 'w', libver='latest'); f['frames'] = [1]; f.flush()\n"
        + ("f.swmr_mode = True\n" if swmr else "")
        + "print('open', flush=True); sys.stdin.read()"
    )
    path = tmp_path / "open.h5"
    with subprocess.Popen(
        [sys.executable, "-c", writer, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with (
            pytest.raises(RecordingError, match="still open in the program that writes it"),
            RecordingFile(path),
        ):
            pass
        process.communicate(b"")


def test_a_filter_that_is_not_installed_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "it.h5", frames={"data": FRAMES, "chunks": (1, *SHAPE), "compression": "lzf"})
    content = bytearray(path.read_bytes())
    code = content.rfind((32000).to_bytes(2, "little"), 0, content.find(b"lzf\0"))
    content[code : code + 2] = (31999).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"filter 31999 \(lzf\)"), RecordingFile(path):
        pass


def told_frames(path: Path, **options: Any) -> dict[int, np.ndarray]:
    """Sample frames by energy index, as the documents tell them."""
    with RecordingFile(path, **options) as recording:
        documents = list(replay_documents(recording))
    (sample,) = {doc["uid"] for name, doc in documents if name == "descriptor" and doc["name"] == "primary"}
    return {
        doc["data"]["xanes_energy_index"]: doc["data"]["camera_image"]
        for name, doc in documents
        if name == "event" and doc["descriptor"] == sample
    }


def only_some(path: Path) -> Path:
    with h5py.File(write(path, frames=None), "r+") as file:
        frames = file.create_dataset("frames", FRAMES.shape, "u2", chunks=(2, 3, 8), compression="gzip")
        frames[:4] = FRAMES[:4]
        frames[6] = FRAMES[6]
    return path


def virtual(path: Path, *, folder: str = ".") -> Path:
    """Even and odd frames in files of their own; the last odd one was never written."""
    (path.parent / folder).mkdir(exist_ok=True)
    with h5py.File(path.parent / folder / "even.h5", "w") as file:
        file["d"] = FRAMES[::2]
    with h5py.File(path.parent / folder / "odd.h5", "w") as file:
        file.create_dataset("d", (3, *SHAPE), "u2", chunks=(1, *SHAPE))[:2] = FRAMES[1::2][:2]
    layout = h5py.VirtualLayout(FRAMES.shape, "u2")
    layout[::2] = h5py.VirtualSource(f"{folder}/even.h5", "d", (4, *SHAPE))
    layout[1::2] = h5py.VirtualSource(f"{folder}/odd.h5", "d", (3, *SHAPE))
    return write(path, frames=layout)


def one_file_missing(path: Path) -> Path:
    layout = h5py.VirtualLayout(FRAMES.shape, "u2")
    for index in range(N):
        if index != 2:
            with h5py.File(path.parent / f"{index}.h5", "w") as file:
                file["d"] = FRAMES[index]
        layout[index] = h5py.VirtualSource(f"{index}.h5", "d", SHAPE)
    return write(path, frames=layout)


@pytest.mark.parametrize(
    ("make", "left_out"), [(only_some, (4, 5)), (virtual, (5,)), (one_file_missing, (2,))]
)
def test_frames_that_are_not_in_the_file_are_left_out_and_named(
    tmp_path: Path, make: Callable[[Path], Path], left_out: tuple[int, ...]
) -> None:
    path = make(tmp_path / "it.h5")
    with RecordingFile(path) as recording:
        assert recording.left_out == left_out
        named = ", ".join(f"{ENERGIES_EV[index]:.2f}" for index in left_out)
        assert any(f"{named} eV" in note for note in recording.notes)
    told = told_frames(path)
    assert sorted(told) == [index for index in range(N) if index not in left_out]
    for index, frame in told.items():
        np.testing.assert_array_equal(frame, FRAMES[index])


def test_files_that_moved_are_found_by_their_new_root(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(FRAMES.shape, "u2")
    layout[:] = h5py.VirtualSource("C:\\Beamline\\Data\\all.h5", "d", FRAMES.shape)
    path = write(
        tmp_path / "it.h5", frames=layout, flats=h5py.ExternalLink("c:/beamline/data/flats.h5", "/d")
    )
    moved = tmp_path / "mounted"
    moved.mkdir()
    for name, stack in (("all.h5", FRAMES), ("flats.h5", FRAMES + 100)):
        with h5py.File(moved / name, "w") as file:
            file["d"] = stack
    with pytest.raises(RecordingError, match="--root"), RecordingFile(path):
        pass
    told = told_frames(path, roots=RootMap({r"C:\beamline\data": moved}))
    assert len(told) == N
    for index, frame in told.items():
        np.testing.assert_array_equal(frame, FRAMES[index])


def test_a_damaged_chunk_costs_one_frame_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "it.h5", frames={"data": FRAMES, "chunks": (1, *SHAPE), "compression": "gzip"})
    with h5py.File(path) as file:
        where = file["frames"].id.get_chunk_info(3).byte_offset
    content = bytearray(path.read_bytes())
    content[where : where + 20] = b"\xff" * 20
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert sorted(told_frames(path)) == [0, 1, 2, 4, 5, 6]
    assert "8345.00 eV cannot be read" in caplog.text


def test_a_counting_detector_needs_no_darks(tmp_path: Path) -> None:
    for dark in (None, np.zeros((0, *SHAPE)), np.full(SHAPE, 3.0)):
        with RecordingFile(write(tmp_path / "it.h5", dark=dark), no_dark=True) as recording:
            start = next(replay_documents(recording))[1]
        assert start["xanes"]["n_darks"] == 0
        assert "no dark frames are subtracted" in recording.notes


def test_numbers_of_every_type_are_read_as_they_are(tmp_path: Path) -> None:
    for dtype in (">u2", ">f4", "f2", "i8", np.longdouble, "u1"):
        stack = (FRAMES // 100).astype(dtype)
        told = told_frames(write(tmp_path / "it.h5", frames=stack))
        assert all(frame.dtype.isnative for frame in told.values())
        np.testing.assert_array_equal(np.stack([told[i] for i in range(N)]), stack.astype(float))
    with RecordingFile(write(tmp_path / "it.h5", pixel_size_nm="40.5")) as recording:
        assert recording.pixel_size_nm == 40.5


def test_what_is_refused_takes_no_memory(tmp_path: Path) -> None:
    """All of the large ones in a process whose address space may grow by 400 MB only."""
    large = [kind for kind, (changes, _) in BROKEN.items() if "chunks" in str(changes)]
    paths = [str(write(tmp_path / f"{number}.h5", **BROKEN[kind][0])) for number, kind in enumerate(large)]
    code = """
import resource, sys
from nimco.errors import RecordingError
from nimco._recordings import RecordingFile
pages = int(open('/proc/self/statm').read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 400 * 2**20,) * 2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        RecordingFile(path).__enter__()
    except RecordingError:
        print('refused')
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("the address space of a process is read from /proc, which is not here")
    run = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["refused"] * len(large)
