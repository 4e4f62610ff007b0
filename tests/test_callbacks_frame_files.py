"""Frames that travel in files, written by real detectors' documents under a real RunEngine."""

import asyncio
import contextlib
import fcntl
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import event_model
import h5py
import numpy as np
import pytest
import tifffile
from bluesky import RunEngine
from ophyd_async.core import (
    DetectorAcquireLogic,
    DetectorDataLogic,
    DetectorTriggerLogic,
    StandardDetector,
    StreamResourceDataProvider,
    StreamResourceInfo,
    TriggerInfo,
    init_devices,
    soft_signal_r_and_setter,
)

from beamline_plans import EnergyGrid, xanes_scan
from callbacks import (
    CallbackError,
    DocumentError,
    FrameError,
    FrameFile,
    LiveSOC,
    LiveSpectrum,
    MissingFrameError,
    RunReadings,
    read_run,
)
from sim_devices import SimBeamline

DATASET = "/entry/data/data"
ENERGIES = (
    8190.0,
    8210.0,
    8230.0,
    8250.0,
    8270.0,
    8290.0,
    8310.0,
    8325.0,
    8338.0,
    8341.0,
    8344.0,
    8347.0,
    8350.0,
    8370.0,
    8450.0,
    8500.0,
    8550.0,
    8600.0,
)


class SwmrFile:
    """A detector's HDF5 file that readers may follow while it grows."""

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self.path = path
        self.file = h5py.File(path, "w", libver="latest")
        self.data = self.file.create_dataset(
            DATASET, (0, *shape), np.uint16, maxshape=(None, *shape), chunks=(1, *shape)
        )
        self.file.swmr_mode = True

    def append(self, *images: np.ndarray) -> None:
        for image in images:
            self.data.resize(self.data.shape[0] + 1, axis=0)
            self.data[-1] = image
        self.data.flush()

    def skip(self) -> None:
        """Make room for a frame and never write it."""
        self.data.resize(self.data.shape[0] + 1, axis=0)
        self.data.flush()

    def close(self) -> None:
        self.file.close()


class ClassicCamera:
    """The twin's camera behind an AD_HDF5 file plugin: frames go to a file, events carry datum ids."""

    parent = None
    name = "camera"

    def __init__(self, beamline: SimBeamline, folder: Path, *, per_event: int = 1) -> None:
        self.inner = beamline.camera
        self.hints: dict[str, Any] = {"fields": []}
        self.exposure_s = self.inner.exposure_s
        self.folder = folder
        self.per_event = per_event
        self.taken: list[np.ndarray] = []
        self.write: Callable[[SwmrFile, list[np.ndarray]], None] = lambda file, images: file.append(*images)
        self.folder_in_documents = folder
        self._documents: list[tuple[str, dict]] = []
        self._stagings = 0
        self._exposed = False

    def stage(self):
        self._stagings += 1
        name = f"scan{self._stagings}.h5"
        self.shape = self.inner.image.get().shape
        self.file = SwmrFile(self.folder / name, self.shape)
        self.resource, self.compose_datum, _ = event_model.compose_resource(
            spec="AD_HDF5_SWMR",
            root=str(self.folder_in_documents),
            resource_path=name,
            resource_kwargs={"frame_per_point": self.per_event},
            start={"uid": "to be replaced by the RunEngine"},
        )
        self._documents = [("resource", self.resource)]
        self._points = 0
        return [self]

    def unstage(self):
        self.file.close()
        return [self]

    def trigger(self):
        self._exposed = True
        return self.inner.trigger()

    def describe(self):
        shape = [self.per_event, *self.shape]
        return {
            "camera_image": {
                "source": "file", "dtype": "array", "shape": shape, "dtype_numpy": "<u2", "external": "FILESTORE:"
            }
        }  # fmt: skip

    def read(self):
        if not self._exposed:
            raise RuntimeError("no frame has been taken yet")
        self._exposed = False
        images = [np.array(self.inner.image.get())]
        while len(images) < self.per_event:
            self.inner.trigger().wait(10)
            images.append(np.array(self.inner.image.get()))
        self.taken.append(np.stack(images))
        self.write(self.file, images)
        datum = self.compose_datum({"point_number": self._points})
        self._points += 1
        self._documents.append(("datum", datum))
        return {"camera_image": {"value": datum["datum_id"], "timestamp": float(self._points)}}

    def collect_asset_docs(self):
        documents, self._documents = self._documents, []
        yield from documents

    def read_configuration(self):
        return {}

    def describe_configuration(self):
        return {}


class TwinWriter:
    """The twin's camera writing one HDF5 file."""

    def __init__(self, beamline: SimBeamline, path: Path) -> None:
        self.inner = beamline.camera
        self.path = path
        self.file: SwmrFile | None = None
        self.taken: list[np.ndarray] = []
        self.written, self.set_written = soft_signal_r_and_setter(int)
        self.exposures = 1

    @property
    def shape(self) -> tuple[int, int]:
        return self.inner.image.get().shape

    def open(self) -> None:
        self.file = SwmrFile(self.path, self.shape)
        self.set_written(0)

    async def expose(self) -> None:
        images = []
        for _ in range(self.exposures):
            await asyncio.to_thread(self.inner.trigger().wait, 10)
            images.append(np.array(self.inner.image.get()))
        self.taken.append(np.stack(images))
        self.file.append(*images)
        self.set_written(self.file.data.shape[0])


class TwinTrigger(DetectorTriggerLogic):
    def __init__(self, writer: TwinWriter) -> None:
        self.writer = writer

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        self.writer.exposures = num


class TwinAcquire(DetectorAcquireLogic):
    def __init__(self, writer: TwinWriter) -> None:
        self.writer = writer

    async def start_acquiring(self) -> None:
        await self.writer.expose()

    async def wait_for_idle(self) -> None:
        return

    async def ensure_stopped(self) -> None:
        return


class TwinData(DetectorDataLogic):
    def __init__(self, writer: TwinWriter) -> None:
        self.writer = writer

    async def prepare_unbounded(self, datakey_name: str) -> StreamResourceDataProvider:
        self.writer.open()
        shape = self.writer.shape
        return StreamResourceDataProvider(
            uri=self.writer.path.as_uri(),
            resources=[
                StreamResourceInfo(
                    data_key=datakey_name, shape=shape, chunk_shape=(1, *shape), dtype_numpy="<u2",
                    parameters={"dataset": DATASET},
                )
            ],
            mimetype="application/x-hdf5",
            collections_written_signal=self.writer.written,
        )  # fmt: skip

    async def stop(self) -> None:
        if self.writer.file is not None:
            self.writer.file.close()

    def get_hinted_fields(self, datakey_name: str) -> list[str]:
        return [datakey_name]


class AsyncCamera(StandardDetector):
    def __init__(self, beamline: SimBeamline, path: Path, per_event: int = 1, name: str = "") -> None:
        self.writer = TwinWriter(beamline, path)
        self.add_detector_logics(TwinTrigger(self.writer), TwinAcquire(self.writer), TwinData(self.writer))
        self._per_event = per_event
        super().__init__(name=name)
        object.__setattr__(self, "exposure_s", beamline.camera.exposure_s)

    def trigger(self):
        if self._prepare_ctx is None:
            status = self.prepare(TriggerInfo(collections_per_event=self._per_event))
            return _after(status, super().trigger)
        return super().trigger()


def _after(first, second):
    from ophyd_async.core import AsyncStatus

    async def both():
        await first
        await second()

    return AsyncStatus(both())


@pytest.fixture
def beamline() -> SimBeamline:
    return SimBeamline((24, 32), seed=4)


def scan(beamline: SimBeamline, camera: Any, *subscribers: Callable) -> list[tuple[str, dict]]:
    """Run a scan with the camera given; return its documents."""
    documents: list[tuple[str, dict]] = []
    run_engine = RunEngine(call_returns_result=True)
    if isinstance(camera, partial_camera):
        with init_devices():
            camera = camera()
    run_engine.subscribe(lambda name, doc: documents.append((name, doc)))
    for subscriber in subscribers:
        run_engine.subscribe(subscriber)
    grid = EnergyGrid(ENERGIES, (0.5,) * len(ENERGIES))
    result = run_engine(
        xanes_scan(
            camera, beamline.energy, beamline.shutter, beamline.stage,
            edge="Ni_K", grid=grid, i0=beamline.i0, n_darks=2, pixel_size_nm=40.0,
        )
    )  # fmt: skip
    assert result.exit_status == "success"
    return documents


class partial_camera:  # noqa: N801
    """An ophyd-async camera that is made once the RunEngine's loop runs."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __call__(self) -> AsyncCamera:
        self.made = AsyncCamera(*self.arguments, name="camera")
        return self.made


def frames_of(documents, **options):
    reader = RunReadings(read_run(documents[0][1]), **options)
    return [frame for name, doc in documents[1:] for frame in reader.add(name, doc)], reader


def labels(documents, frames):
    """Energy index and stream of the frames, and of the events, in order."""
    streams = {doc["uid"]: doc["name"] for name, doc in documents if name == "descriptor"}
    events = [doc for name, doc in documents if name == "event"]
    return (
        [(frame.stream, frame.energy_index) for frame in frames],
        [(streams[event["descriptor"]], event["data"]["xanes_energy_index"]) for event in events],
    )


@pytest.mark.parametrize("per_event", [1, 3])
def test_resource_and_datum_give_the_frames_the_camera_took(beamline, tmp_path, per_event):
    camera = ClassicCamera(beamline, tmp_path, per_event=per_event)
    documents = scan(beamline, camera)
    frames, _ = frames_of(documents)
    assert len(frames) == 2 + 2 * len(ENERGIES)
    found, expected = labels(documents, frames)
    assert found == expected
    for frame, taken in zip(frames, camera.taken, strict=True):
        assert np.allclose(frame.image, taken.mean(axis=0), rtol=1e-6)
    assert (frames[0].image.dtype == np.uint16) is (per_event == 1)


@pytest.mark.parametrize("per_event", [1, 3])
def test_stream_resource_and_stream_datum_of_ophyd_async_give_the_frames_the_camera_took(
    beamline, tmp_path, per_event
):
    camera = partial_camera(beamline, tmp_path / "a file.h5", per_event)
    documents = scan(beamline, camera)
    assert [name for name, _ in documents].count(
        "stream_resource"
    ) == 1  # one file for darks, flats and frames
    frames, _ = frames_of(documents)
    found, expected = labels(documents, frames)
    assert found == expected
    taken = camera.made.writer.taken
    assert len(frames) == len(taken) == 2 + 2 * len(ENERGIES)
    for frame, images in zip(frames, taken, strict=True):
        assert images.shape[0] == per_event
        assert np.allclose(frame.image, images.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("kind", ["classic", "ophyd-async"])
def test_live_map_and_spectrum_are_those_of_the_same_frames_inside_the_events(beamline, tmp_path, kind):
    camera: Any = (
        ClassicCamera(beamline, tmp_path)
        if kind == "classic"
        else partial_camera(beamline, tmp_path / "a.h5")
    )
    with LiveSOC() as live, LiveSpectrum() as spectrum, LiveSOC() as live_inline:
        documents = scan(beamline, camera, live, spectrum)
        taken = iter(camera.taken if kind == "classic" else camera.made.writer.taken)
        for name, doc in documents:
            if name == "event":
                doc = {**doc, "data": {**doc["data"], "camera_image": next(taken)[0]}, "filled": {}}
            live_inline(name, doc)
        for worker in (live, spectrum, live_inline):
            worker.wait(240)
            assert worker.errors == []
        uid = documents[0][1]["uid"]
        update, expected = live.latest(uid), live_inline.latest(uid)
        assert update.attrs["complete"]
        assert np.isfinite(update["edge_energy_ev"].values).any()
        assert np.array_equal(
            update["edge_energy_ev"].values, expected["edge_energy_ev"].values, equal_nan=True
        )
        energy_ev, depth, _ = spectrum.spectrum(uid)
        assert energy_ev.size == len(ENERGIES)
        assert np.isfinite(depth).all()


def test_frames_are_read_while_another_process_writes(scan_documents, tmp_path):
    """A frame is asked for before it is written; the reader holds the file open and sees it come."""
    scan_ = scan_documents()
    path = tmp_path / "growing.h5"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), *map(str, scan_.shape)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    documents = as_stream(scan_.run([("primary", index, scan_.frame(index)) for index in range(4)]), path)
    reader = RunReadings(read_run(documents[0][1]), file_timeout_s=60)
    frames = []

    def tell_later(index: int) -> None:
        assert writer.stdin is not None
        writer.stdin.write(f"{index}\n")
        writer.stdin.flush()

    n_events = 0
    for name, doc in documents[1:]:
        if name == "event":
            threading.Timer(0.15, tell_later, [n_events]).start()
            n_events += 1
        frames += reader.add(name, doc)
    writer.communicate()
    assert [float(frame.image.mean()) for frame in frames] == [100.0, 101.0, 102.0, 103.0]
    assert [frame.energy_index for frame in frames] == [0, 1, 2, 3]


WRITER = """
import sys, h5py, numpy as np
path, rows, cols = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
file = data = None
for line in sys.stdin:
    if file is None:
        file = h5py.File(path, "w", libver="latest")
        data = file.create_dataset("/entry/data/data", (0, rows, cols), np.uint16, maxshape=(None, rows, cols),
                                   chunks=(1, rows, cols))
        file.swmr_mode = True
    data.resize(data.shape[0] + 1, axis=0)
    data.flush()                      # the length is seen before the values
    data[-1] = 100 + int(line)
    data.flush()
"""


def as_stream(documents, path, *, seq_nums=None, mimetype="application/x-hdf5", dataset=DATASET):
    """Retell a run of one stream with inline frames as one whose frames are in a file."""
    told = []
    index = 0
    for name, doc in documents:
        if name == "descriptor":
            doc = {**doc, "data_keys": {key: dict(value) for key, value in doc["data_keys"].items()}}
            doc["data_keys"]["camera_image"]["external"] = "STREAM:"
            told.append((name, doc))
            told.append((
                "stream_resource",
                {
                    "uid": "the file", "data_key": "camera_image", "mimetype": mimetype,
                    "uri": f"file://localhost{path}", "run_start": doc["run_start"],
                    "parameters": {"dataset": dataset, "chunk_shape": [1]},
                },
            ))  # fmt: skip
        elif name == "event":
            number = doc["seq_num"] if seq_nums is None else seq_nums[index]
            told.append((
                "stream_datum",
                {
                    "uid": f"the file/{index}", "stream_resource": "the file", "descriptor": doc["descriptor"],
                    "indices": {"start": index, "stop": index + 1},
                    "seq_nums": {"start": number, "stop": number + 1},
                },
            ))  # fmt: skip
            data = {key: value for key, value in doc["data"].items() if key != "camera_image"}
            told.append((name, {**doc, "seq_num": number, "data": data}))
            index += 1
        else:
            told.append((name, doc))
    return told


def write_frames(path: Path, images: list[np.ndarray], dataset: str = DATASET) -> None:
    with h5py.File(path, "w") as file:
        file[dataset] = np.stack(images)


def test_documents_in_any_order_and_twice_give_each_frame_once(scan_documents, tmp_path):
    scan_ = scan_documents()
    images = [scan_.frame(index) for index in range(12)]
    write_frames(tmp_path / "a.h5", images)
    documents = as_stream(
        scan_.run([("primary", index, image) for index, image in enumerate(images)]), tmp_path / "a.h5"
    )
    rng = np.random.default_rng(0)
    for _ in range(5):
        middle = [
            documents[index] for index in rng.permutation(np.repeat(np.arange(2, len(documents) - 1), 2))
        ]
        frames, reader = frames_of([*documents[:2], *middle, documents[-1]])
        assert sorted(frame.energy_index for frame in frames) == list(range(12))
        assert reader.warnings == []
        for frame in frames:
            assert np.array_equal(frame.image, images[frame.energy_index])


def test_events_taken_again_under_the_same_number_get_their_own_frames(scan_documents, tmp_path):
    scan_ = scan_documents()
    images = [scan_.frame(index) for index in (0, 1, 2, 2, 3)]
    write_frames(tmp_path / "a.h5", images)
    steps = [
        ("primary", index, image, {"xanes_attempt": attempt})
        for (index, attempt), image in zip([(0, 0), (1, 0), (2, 0), (2, 1), (3, 0)], images, strict=True)
    ]
    # A pause makes the RunEngine number an event as the one before it.
    documents = as_stream(scan_.run(steps), tmp_path / "a.h5", seq_nums=[1, 2, 3, 3, 4])
    frames, _ = frames_of(documents)
    assert [(frame.energy_index, frame.attempt) for frame in frames] == [
        (0, 0),
        (1, 0),
        (2, 0),
        (2, 1),
        (3, 0),
    ]
    for frame, image in zip(frames, images, strict=True):
        assert np.array_equal(frame.image, image)


def test_a_file_that_never_comes_is_said_once_and_the_scan_and_its_analysis_go_on(beamline, tmp_path, caplog):
    camera = ClassicCamera(beamline, tmp_path)
    camera.folder_in_documents = tmp_path / "elsewhere"
    with caplog.at_level(logging.ERROR), LiveSOC(file_timeout_s=0.2) as live:
        scan(beamline, camera, live)
        live.wait(240)
        missing = [error for error in live.errors if isinstance(error, MissingFrameError)]
        assert len(missing) == 2 + 2 * len(ENERGIES)
        said = [record.getMessage() for record in caplog.records if "looks once more" in record.getMessage()]
        assert len(said) == 1
        assert "elsewhere/scan1.h5 has not come within 0.2 s (there is no such file)" in said[0]
        # The next run, whose file is there, is analysed as ever.
        camera.folder_in_documents = tmp_path
        uid = scan(beamline, camera, live)[0][1]["uid"]
        live.wait(240)
        assert live.latest(uid).complete


def test_one_frame_that_never_comes_costs_that_frame_only(beamline, tmp_path):
    camera = ClassicCamera(beamline, tmp_path)
    lost = 2 + 2 * 4  # position in the file of a frame in the middle of the scan

    def write(file: SwmrFile, images: list[np.ndarray]) -> None:
        if file.data.shape[0] == lost:
            file.skip()
        else:
            file.append(*images)

    camera.write = write
    documents = []
    with LiveSOC(file_timeout_s=0.2) as live:
        documents = scan(beamline, camera, live)
        live.wait(240)
        update = live.latest(documents[0][1]["uid"])
    events = [doc for name, doc in documents if name == "event"]
    index = events[lost]["data"]["xanes_energy_index"]
    frames = []
    reader = RunReadings(read_run(documents[0][1]), file_timeout_s=0.1)
    for name, doc in documents[1:]:
        with contextlib.suppress(MissingFrameError):
            frames += reader.add(name, doc)
    assert len(frames) == len(events) - 1
    assert [frame.uid for frame in frames] == [event["uid"] for event in events if event is not events[lost]]
    assert f" at {ENERGIES[index]:.1f} eV is left out" in " ".join(update.attrs["warnings"])
    assert "has room for the frame but no values" in " ".join(update.attrs["warnings"])


def test_a_file_that_comes_late_is_in_the_map_in_the_end(beamline, tmp_path):
    camera = ClassicCamera(beamline, tmp_path)
    camera.folder_in_documents = tmp_path / "mounted"
    with LiveSOC(file_timeout_s=0.2) as live:
        documents = []

        def appears_before_the_stop(name: str, doc: dict) -> None:
            if name == "stop":
                live.wait(240)
                (tmp_path / "mounted").symlink_to(tmp_path)
            live(name, doc)

        documents = scan(beamline, camera, appears_before_the_stop)
        live.wait(240)
        assert any(isinstance(error, MissingFrameError) for error in live.errors)
        update = live.latest(documents[0][1]["uid"])
    assert update.attrs["complete"]
    assert update.attrs["warnings"] == []


def test_a_file_locked_by_its_writer_is_waited_for(scan_documents, tmp_path):
    scan_ = scan_documents()
    images = [scan_.frame(index) for index in range(3)]
    path = tmp_path / "a.h5"
    write_frames(path, images)
    documents = as_stream(scan_.run([("primary", index, image) for index, image in enumerate(images)]), path)
    with path.open("rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        with pytest.raises(MissingFrameError, match="its writer keeps it locked"):
            frames_of(documents[:-1], file_timeout_s=0.1)
        threading.Timer(0.2, fcntl.flock, [locked, fcntl.LOCK_UN]).start()
        frames, _ = frames_of(documents, file_timeout_s=30)
    assert len(frames) == 3


def test_a_pixel_saturated_in_one_exposure_has_no_mean(scan_documents, tmp_path):
    scan_ = scan_documents(n_darks=0)
    images = np.full((2, *scan_.shape), 1000, np.uint16)
    images[1, 3, 4] = 65535
    write_frames(tmp_path / "a.h5", list(images))
    documents = as_stream(scan_.run([("primary", 0, images[0])]), tmp_path / "a.h5")
    descriptor = documents[1][1]
    descriptor["data_keys"]["camera_image"]["shape"] = [2, *scan_.shape]
    (frame,), _ = frames_of(documents)
    assert np.isposinf(frame.image[3, 4])
    assert np.isinf(frame.image).sum() == 1
    assert np.all(frame.image[np.isfinite(frame.image)] == 1000)


def in_one_piece(file, _folder):
    file.create_dataset(DATASET, (1, 12, 16), "u2")  # announced, and never written


def virtual(file, folder):
    """The upper half is there, the file of the lower one is not: it would be read as zeros."""
    layout = h5py.VirtualLayout((1, 12, 16), "u2")
    with h5py.File(folder / "upper.h5", "w") as upper:
        upper["d"] = np.full((1, 6, 16), 900, np.uint16)
    layout[:, :6] = h5py.VirtualSource("upper.h5", "d", (1, 6, 16))
    layout[:, 6:] = h5py.VirtualSource("lower.h5", "d", (1, 6, 16))
    file.create_virtual_dataset(DATASET, layout)


def raw_file_missing(file, _folder):
    file.create_dataset(DATASET, (1, 12, 16), "u2", external=[("raw", 0, 384)])


def loop_of_links(file, _folder):
    file[DATASET] = h5py.SoftLink(DATASET)


def link_to_a_pipe(file, folder):
    os.mkfifo(folder / "pipe")
    file[DATASET] = h5py.ExternalLink("pipe", "/d")


def holding(**what):
    return lambda file, _folder: file.create_dataset(DATASET, **what)


HOSTILE_FILES = {
    "never written in one piece": (in_one_piece, MissingFrameError, "no values"),
    "half of it in a file that is not there": (virtual, MissingFrameError, r"needs .*lower\.h5, which is not there"),
    "raw file that is not there": (raw_file_missing, MissingFrameError, "needs .*raw, which is not there"),
    "loop of links": (loop_of_links, MissingFrameError, "a.h5"),
    "link to a pipe": (link_to_a_pipe, FrameError, "pipe, which is no regular file"),
    "images of 16 GB": (
        holding(shape=(1, 100_000, 80_000), dtype="u2", chunks=(1, 1000, 1000)), FrameError, "16 GB, more than"
    ),
    "a chunk of 3 GB": (
        holding(shape=(2 * 10**6, 12, 16), dtype="f8", chunks=(2 * 10**6, 12, 16)), FrameError, "chunks of 3.07 GB"
    ),
    "records": (holding(data=np.zeros((1, 12, 16), [("r", "u1"), ("g", "u1")])), FrameError, "counts are needed"),
    "complex": (holding(data=np.zeros((1, 12, 16), "c8")), FrameError, "counts are needed"),
    "objects": (holding(data=np.array(["a"], object), dtype=h5py.string_dtype()), FrameError, "counts are needed"),
    "a null dataset": (holding(data=h5py.Empty("u2")), FrameError, "0 dimensions"),
    "a group": (lambda file, _folder: file.create_group(DATASET), FrameError, "a group"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE_FILES)
def test_a_hostile_file_costs_its_frames_and_is_named(scan_documents, tmp_path, kind):
    make, expected, words = HOSTILE_FILES[kind]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file, tmp_path)
    scan_ = scan_documents()
    documents = as_stream(scan_.run([("primary", 0, scan_.frame(0))]), tmp_path / "a.h5")
    with pytest.raises(expected, match=words) as said:
        frames_of(documents[:-1], file_timeout_s=0.05)
    assert "a.h5" in str(said.value)
    with pytest.raises(CallbackError, match=r"a\.h5"):
        FrameFile(tmp_path / "a.h5", DATASET).read()


def test_what_is_no_file_is_not_opened(scan_documents, tmp_path):
    os.mkfifo(tmp_path / "a.h5")  # would wait for whoever writes into it
    scan_ = scan_documents()
    documents = as_stream(scan_.run([("primary", 0, scan_.frame(0))]), tmp_path / "a.h5")
    with pytest.raises(FrameError, match="no regular file"):
        frames_of(documents[:-1], file_timeout_s=0.05)
    for path, words in (
        (tmp_path / "a.h5", "no regular file"),
        (tmp_path, "a folder"),
        (tmp_path / "b", "no file"),
    ):
        with pytest.raises(CallbackError, match=words) as said:
            FrameFile(path, DATASET).read()
        assert str(path) in str(said.value)


@pytest.mark.parametrize("fault", ["shape", "dataset", "not hdf5", "filter", "mimetype", "spec"])
def test_what_cannot_be_read_is_named(scan_documents, tmp_path, fault):
    scan_ = scan_documents()
    path = tmp_path / "a.h5"
    write_frames(path, [scan_.frame(0)[:-1] if fault == "shape" else scan_.frame(0)])
    steps = [("primary", 0, scan_.frame(0))]
    documents = as_stream(scan_.run(steps), path)
    expected: tuple[type[Exception], str]
    if fault == "shape":
        expected = (FrameError, r"shape \(11, 16\) in .*a.h5 where \(12, 16\) was announced")
    elif fault == "dataset":
        documents = as_stream(scan_.run(steps), path, dataset="/nowhere")
        expected = (MissingFrameError, "it has no dataset /nowhere")
    elif fault == "not hdf5":
        path.write_text("no HDF5")
        expected = (MissingFrameError, "it cannot be opened")
    elif fault == "filter":
        with h5py.File(path, "w") as file:
            file.create_dataset(DATASET, data=[scan_.frame(0)], chunks=(1, *scan_.shape), compression="lzf")
        content = path.read_bytes()
        name = content.find(b"lzf\0")
        code = content.rfind((32000).to_bytes(2, "little"), 0, name)
        path.write_bytes(content[:code] + (31999).to_bytes(2, "little") + content[code + 2 :])
        expected = (
            FrameError,
            r"filter 31999 \(lzf\), which is not installed here; run: pip install 'nimco\[files",
        )
    elif fault == "mimetype":
        documents = as_stream(scan_.run(steps), path, mimetype="image/jpeg")
        expected = (DocumentError, "image/jpeg.*cannot be read here")
    else:
        documents = as_datum(scan_.run(steps), tmp_path, spec="NEVER_HEARD_OF", template="x")
        expected = (FrameError, "'NEVER_HEARD_OF' cannot be read here; HDF5 can")
    with pytest.raises(expected[0], match=expected[1]):
        frames_of(documents[:-1], file_timeout_s=0.05)


def as_datum(documents, root, *, spec, **kwargs):
    """Retell a run of one stream with inline frames as one whose events carry datum ids."""
    told = []
    index = 0
    for name, doc in documents:
        if name == "descriptor":
            doc = {**doc, "data_keys": {key: dict(value) for key, value in doc["data_keys"].items()}}
            doc["data_keys"]["camera_image"]["external"] = "FILESTORE:"
            told.append((name, doc))
            told.append((
                "resource",
                {
                    "uid": "the files", "spec": spec, "root": str(root), "resource_path": "", "path_semantics": "posix",
                    "resource_kwargs": kwargs, "run_start": doc["run_start"],
                },
            ))  # fmt: skip
        elif name == "event":
            datum_id = f"the files/{index}"
            told.append(
                (
                    "datum",
                    {"datum_id": datum_id, "resource": "the files", "datum_kwargs": {"point_number": index}},
                )
            )
            told.append((name, {**doc, "data": {**doc["data"], "camera_image": datum_id}}))
            index += 1
        else:
            told.append((name, doc))
    return told


def test_other_specs_are_read_with_the_reader_a_package_registers(scan_documents, tmp_path):
    scan_ = scan_documents()
    images = [scan_.frame(index) for index in range(3)]
    for number, image in enumerate(images):
        tifffile.imwrite(tmp_path / f"shot_{number:03d}.tif", image)
    documents = as_datum(
        scan_.run([("primary", index, image) for index, image in enumerate(images)]),
        tmp_path, spec="AD_TIFF", template="%s%s_%03d.tif", filename="shot", frame_per_point=1,
    )  # fmt: skip
    frames, _ = frames_of(documents)
    assert all(np.array_equal(frame.image, image) for frame, image in zip(frames, images, strict=True))
