"""Area-detector camera that writes HDF5: one file per run, and each event names its frame in it."""

import itertools
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from bluesky.protocols import Asset
from ophyd import Component, Device, DeviceStatus, EpicsSignal, EpicsSignalRO, Kind, Staged
from ophyd.device import create_device_from_components

from beamline_devices._area_detector import (
    ANSWER_TIMEOUT_S,
    CameraDriver,
    ExposureSignal,
    HDF5Writer,
    check_file_name,
    check_write,
)
from beamline_devices._described import CompleteDescriptions
from beamline_devices._parameters import Parameter
from beamline_devices._tasks import Task, await_put, put_complete, wait_for_value
from beamline_devices.errors import DeviceError

__all__ = ["DATASET", "EpicsCamera"]

DATASET = "/entry/data/data"
"""Where areaDetector keeps the frames in an HDF5 file."""

_NUMPY_TYPES = {
    "Int8": "|i1",
    "UInt8": "|u1",
    "Int16": "<i2",
    "UInt16": "<u2",
    "Int32": "<i4",
    "UInt32": "<u4",
    "Float32": "<f4",
    "Float64": "<f8",
}
_TEMPLATE = "%s%s_%6.6d.h5"
_CREATE_LEVELS = -8


class EpicsCamera(CompleteDescriptions, Device):
    """areaDetector camera whose HDF5 plugin writes one file per run.

    Each event names its frame: it holds the id of a datum (spec AD_HDF5), which gives the place of the frame in
    the file as the file writer counted it. So an event that is taken again after a pause, a frame that nobody asked
    for, darks and flats between the images, none of these shifts the frames against the events. The trigger is
    done when the frame is in the file, and the file may be read while it grows (SWMR).

    Parameters
    ----------
    prefix : str
        In front of ``cam1:``, ``HDF1:`` and ``Stats1:``.
    name : str
        Name of the device; the frame is ``<name>_image``.
    write_path : str
        Folder for the files as the IOC sees it; ``%Y``, ``%m``, ``%d`` become the date of the run.
    read_path : str, optional
        The same folder as the readers see it, where that differs. Tiled has to be told that it may read it.
    pixel_size_nm : float, optional
        Pixel size at the sample, for the record.
    saturation_counts : float, optional
        Counts at which a pixel is saturated, such as 4095 of a 12-bit camera that gives 16-bit frames; 0 where
        that is not known. The live analysis leaves such pixels out.
    bit_depth : str, optional
        Record after the prefix that holds the bits of the camera's converter, such as "cam1:BitsPerPixel_RBV",
        where the driver has one; it becomes part of the configuration, and the live analysis knows from it when a
        pixel is saturated.
    frames_per_trigger : int
        1 takes single frames; more takes so many per trigger ("multiple"), which become one image of shape
        (n, rows, columns).
    exposure_limits_s : tuple of float
        Shortest and longest exposure.
    overhead_s : float
        How much longer than its exposures a trigger may take.
    """

    driver = Component(CameraDriver, "cam1:", kind=Kind.config)
    writer = Component(HDF5Writer, "HDF1:", kind=Kind.omitted)
    mean = Component(EpicsSignalRO, "Stats1:MeanValue_RBV", kind=Kind.hinted)
    exposure_s = Component(ExposureSignal, "cam1:AcquireTime", kind=Kind.config)
    pixel_size_nm = Component(Parameter, value=0.0, units="nm", precision=2, kind=Kind.config)
    saturation_counts = Component(Parameter, value=0.0, units="counts", precision=0, kind=Kind.config)

    def __new__(cls, prefix: str, *, bit_depth: str | None = None, **kwargs: Any) -> "EpicsCamera":
        """Make an instance, of a class with one more component where there is a record with the bits."""
        made = cls
        if bit_depth is not None:
            made = create_device_from_components(
                cls.__name__, base_class=cls, bit_depth=Component(EpicsSignalRO, bit_depth, kind=Kind.config)
            )
        instance: EpicsCamera = object.__new__(made)
        return instance

    def __init__(
        self,
        prefix: str,
        *,
        name: str,
        write_path: str,
        read_path: str | None = None,
        pixel_size_nm: float = 0.0,
        saturation_counts: float = 0.0,
        bit_depth: str | None = None,
        frames_per_trigger: int = 1,
        exposure_limits_s: tuple[float, float] = (1e-4, 600.0),
        overhead_s: float = 10.0,
        **kwargs: Any,
    ) -> None:
        if frames_per_trigger < 1:
            raise DeviceError(f"{name} takes at least one frame per trigger, not {frames_per_trigger}")
        super().__init__(prefix, name=name, **kwargs)
        self.exposure_s.limits_s = exposure_limits_s
        self.pixel_size_nm.put(float(pixel_size_nm))
        self.saturation_counts.put(float(saturation_counts))
        self.frames_per_trigger = frames_per_trigger
        self._write_path = write_path
        self._read_path = write_path if read_path is None else read_path
        self._overhead_s = overhead_s
        self._task = Task(self)
        self._assets: deque[Asset] = deque()
        self._assets_lock = threading.Lock()
        self._folders = ("", "")
        self._frame: dict[str, dict[str, Any]] = {}
        self._unique_id: int | None = None
        self._resource_uid: str | None = None
        self._written: threading.Event | None = None
        self._losses = 0
        several = frames_per_trigger > 1
        self.stage_sigs.update(
            [
                (self.driver.acquire, 0),
                (self.driver.image_mode, "Multiple" if several else "Single"),
                (self.driver.num_images, frames_per_trigger),
                (self.driver.array_callbacks, "Enable"),
                (self.driver.wait_for_plugins, "Yes"),
                (self.writer.enable, "Enable"),
                (self.writer.auto_increment, "Yes"),
                (self.writer.file_template, _TEMPLATE),
                (self.writer.write_mode, "Stream"),
                (self.writer.lazy_open, "Yes"),
                (self.writer.swmr_mode, "On"),
                (self.writer.flush_every, 1),
            ]
        )

    # -- what readers need to know ---------------------------------------------------------------------

    @property
    def image_key(self) -> str:
        """Key of the frame."""
        return f"{self.name}_image"

    @property
    def read_path(self) -> str:
        """Folder of the files as the readers see it, dates still open; a Tiled server has to be allowed to read it."""
        return self._read_path

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Rows and columns of a frame as the driver has them now."""
        return int(self.driver.rows.get()), int(self.driver.columns.get())

    @property
    def frame_dtype(self) -> str:
        """NumPy type of a frame, such as "<u2".

        Raises
        ------
        DeviceError
            When the driver has a type that is none.
        """
        named = str(self.driver.data_type.get())
        if named not in _NUMPY_TYPES:
            raise DeviceError(
                f"{self.name} gives frames of the type {named!r}; choose one of {', '.join(_NUMPY_TYPES)}"
            )
        return _NUMPY_TYPES[named]

    def describe_image(self) -> dict[str, Any]:
        """Return the data key of one event's frame, whatever way it travels."""
        shape: list[int] = list(self.frame_shape)
        dims = ["row", "column"]
        if self.frames_per_trigger > 1:
            shape.insert(0, self.frames_per_trigger)
            dims.insert(0, "exposure")
        return {
            "source": f"PV:{self.prefix}",
            "dtype": "array",
            "dtype_numpy": self.frame_dtype,
            "shape": shape,
            "dims": dims,
            "units": "counts",
        }

    # -- staging ---------------------------------------------------------------------------------------

    def stage(self) -> list[object]:
        """Prepare the driver and the writer, with a file name of its own for this run.

        Raises
        ------
        DeviceError
            When the IOC cannot write where it is to write.
        """
        if self._staged == Staged.yes:
            raise DeviceError(f"{self.name} is staged already; unstage it first")
        self._task.connections.watch()
        self._losses = self._task.connections.losses
        self.prepare_folder()
        staged: list[object] = super().stage()
        try:
            self._written = self.begin_capture(0)
        except DeviceError:
            self.unstage()
            raise
        return staged

    def prepare_folder(self) -> str:
        """Set folder and file name on the writer; return the stem of the name."""
        now = datetime.now()
        self._folders = (_folder(now, self._write_path), _folder(now, self._read_path))
        stem = f"{self.name}_{uuid.uuid4().hex[:12]}"
        writer = self.writer
        for signal, value in (
            (self.driver.acquire, 0),
            (writer.capture, 0),
            (writer.create_directory, _CREATE_LEVELS),
            (writer.file_path, self._folders[0]),
            (writer.file_name, stem),
            (writer.file_number, 0),
        ):
            self._write(signal, value)
        if not int(writer.file_path_exists.get()):
            raise DeviceError(
                f"{self.name} cannot write to {self._folders[0]}: the IOC has no such folder and cannot "
                "make it; check path and rights"
            )
        self._unique_id = None
        self._resource_uid = None
        self._frame = {}
        return stem

    def _stage_again(self) -> None:
        """After the connection was lost: an IOC that has been started anew knows nothing of this run."""
        losses = self._task.connections.losses
        if losses == self._losses:
            return
        self.prepare_folder()
        for signal, value in self.stage_sigs.items():
            signal.set(value).wait(ANSWER_TIMEOUT_S)
        self._written = self.begin_capture(0)
        self._losses = losses

    def _write(self, signal: EpicsSignal, value: Any) -> None:
        done = put_complete(signal, value)
        await_put(
            done, ANSWER_TIMEOUT_S, lambda: f"{signal.name} does not answer within {ANSWER_TIMEOUT_S:g} s"
        )

    def unstage(self) -> list[object]:
        """Stop what is under way, close the file and give back the settings of before."""
        # Whoever ends a run waits for none of its frames any more.
        self._task.stop(success=True)
        self.end_acquisition()
        written, self._written = self._written, None
        try:
            if written is not None:
                await_put(
                    written, self._overhead_s, lambda: f"{self.name}: the file writer does not close its file"
                )
        finally:
            unstaged: list[object] = super().unstage()
        return unstaged

    # -- taking frames ---------------------------------------------------------------------------------

    def trigger(self) -> DeviceStatus:
        """Take the frames of one event; the status is done when they are in the file.

        Raises
        ------
        DeviceError
            When the camera is not staged.
        """
        if self._staged != Staged.yes:
            raise DeviceError(f"{self.name} is not staged; a plan stages it, by hand call stage() first")
        return self._task.start(self._take)

    def stop(self, *, success: bool = False) -> None:
        """End an exposure under way; the file stays open for further frames of the run."""
        self._task.stop(success=success)
        self.driver.acquire.put(0)
        super().stop(success=success)

    def pause(self) -> None:
        """End an acquisition under way; the RunEngine will ask for its frame again."""
        self.stop(success=True)

    def resume(self) -> None:
        """Carry on after a pause; nothing to do."""

    def end_acquisition(self) -> None:
        """Stop driver and writer."""
        self.driver.acquire.put(0)
        self.writer.capture.put(0)

    def _take(self) -> None:
        self._stage_again()
        frames = self.frames_per_trigger
        exposure_s = float(self.exposure_s.get())
        allowed_s = frames * max(exposure_s, float(self.driver.acquire_period.get())) + self._overhead_s
        writer = self.writer
        before = int(writer.num_captured.get(use_monitor=False))
        if before % frames:
            raise DeviceError(
                f"{self.name} has {before} frames in its file, not whole series of {frames}: an earlier series was "
                "broken off; end this run and begin another"
            )
        try:
            await_put(
                put_complete(self.driver.acquire, 1),
                allowed_s,
                lambda: (
                    f"{self.name} has not finished {frames} x {exposure_s:g} s within {allowed_s:g} s; "
                    "look at the camera and restart its IOC if it hangs"
                ),
                self._task,
            )
            wait_for_value(
                writer.num_captured,
                lambda count: int(count) >= before + frames,
                self._overhead_s,
                lambda: (
                    f"{self.name} took {frames} frames and its file writer got "
                    f"{int(writer.num_captured.get(use_monitor=False)) - before}: frames were dropped on the way; "
                    "look at the queue of the HDF5 plugin"
                ),
                self._task,
            )
        except DeviceError:
            self.driver.acquire.put(0)
            raise
        check_write(self.name, writer)
        place = (int(writer.num_captured.get(use_monitor=False)) - frames) // frames
        unique_id = int(writer.unique_id.get())
        is_new = unique_id != self._unique_id
        # A frame that the driver hands out once more keeps the time of the first: whoever compares times sees it.
        taken = time.time() if is_new or not self._frame else self._frame[self.image_key]["timestamp"]
        self._unique_id = unique_id
        reading = {
            self.image_key: self._announce(place),
            f"{self.name}_mean": float(self.mean.get()),
            f"{self.name}_frame_number": unique_id,
        }
        self._frame = {key: {"value": value, "timestamp": taken} for key, value in reading.items()}

    def begin_capture(self, frames: int) -> threading.Event:
        """Open the writer for so many frames (0: until it is closed); the event is set when their file is closed."""
        writer = self.writer
        await_put(
            put_complete(writer.num_capture, frames),
            ANSWER_TIMEOUT_S,
            lambda: f"{self.name}: the file writer does not answer",
        )
        written = put_complete(writer.capture, 1)
        wait_for_value(
            writer.capturing,
            lambda value: int(value) == 1,
            ANSWER_TIMEOUT_S,
            lambda: (
                f"{self.name}: the file writer does not begin to capture; it says "
                f"{writer.write_message.get()!r}"
            ),
            self._task,
        )
        return written

    def readers_path(self, full_name: str) -> PurePosixPath:
        """Path of a file as the readers see it, from its path as the IOC wrote it."""
        return PurePosixPath(self._folders[1]) / check_file_name(full_name, self._folders[0])

    def _announce(self, place: int) -> str:
        """Announce the frame at a place in the file, and the file with its first frame; return the id of the datum."""
        made: list[Any] = []
        if self._resource_uid is None:
            self._resource_uid = str(uuid.uuid4())
            path = self.readers_path(str(self.writer.full_file_name.get()))
            several = self.frames_per_trigger > 1
            resource = {
                "uid": self._resource_uid,
                "spec": "AD_HDF5",
                "root": str(path.parent),
                "resource_path": path.name,
                # One frame is an image; readers that are told "1 per point" make a stack of it.
                "resource_kwargs": {"frame_per_point": self.frames_per_trigger} if several else {},
                "path_semantics": "posix",
            }
            made.append(("resource", resource))
        datum_id = f"{self._resource_uid}/{uuid.uuid4().hex[:12]}"
        datum = {
            "datum_id": datum_id,
            "resource": self._resource_uid,
            "datum_kwargs": {"point_number": place},
        }
        made.append(("datum", datum))
        with self._assets_lock:
            self._assets.extend(made)
        return datum_id

    # -- documents -------------------------------------------------------------------------------------

    def collect_asset_docs(self) -> Iterator[Asset]:
        """Give the documents of the files taken since the last time."""
        with self._assets_lock:
            assets = list(self._assets)
            self._assets.clear()
        return itertools.chain(assets)

    def read(self) -> dict[str, Any]:
        """Frame (the id of its datum), its mean and its number, all with the time of the frame.

        Raises
        ------
        DeviceError
            Before the first trigger of a run.
        """
        if not self._frame:
            raise DeviceError(f"{self.name} has no frame yet; trigger it first")
        return {key: dict(entry) for key, entry in self._frame.items()}

    def describe(self) -> dict[str, Any]:
        """Return the data keys of the frame, its mean and its number."""
        source = f"PV:{self.prefix}"
        return {
            self.image_key: {**self.describe_image(), "external": "FILESTORE:"},
            f"{self.name}_mean": {
                "source": f"{source}Stats1:MeanValue_RBV",
                "dtype": "number",
                "dtype_numpy": "<f8",
                "shape": [],
                "units": "counts",
                "precision": 1,
            },
            f"{self.name}_frame_number": {
                "source": f"{source}HDF1:UniqueId_RBV",
                "dtype": "integer",
                "dtype_numpy": "<i8",
                "shape": [],
                "units": "",
            },
        }


def _folder(now: datetime, template: str) -> str:
    return now.strftime(template).rstrip("/") + "/"
