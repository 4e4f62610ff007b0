"""Continuous acquisition: the camera runs freely into one HDF5 file while something else moves."""

import threading
import uuid
from collections.abc import Iterator
from typing import Any

from bluesky.protocols import StreamAsset
from event_model import StreamDatum, StreamRange, StreamResource
from ophyd import DeviceStatus, Staged

from beamline_devices._area_detector import check_write
from beamline_devices._camera import DATASET, EpicsCamera
from beamline_devices._tasks import Task, await_put, wait_for_value
from beamline_devices.errors import DeviceError

__all__ = ["ContinuousAcquisition"]

_ANSWER_TIMEOUT_S = 10.0


class ContinuousAcquisition:
    """Flyer that takes frames with a camera without a trigger for each.

    All frames go to one HDF5 file that may be read while it grows (SWMR). They are announced as a stream
    resource of type application/x-hdf5 and stream datums; the n-th event of the stream is the n-th frame of
    the file.

    Parameters
    ----------
    camera : EpicsCamera
        The camera; not staged at the same time.
    n_frames : int
        Frames to take; 0 takes them until `complete` is called.

    Examples
    --------
    Run it with `bluesky.plan_stubs.declare_stream`, `kickoff`, `complete` and `collect`.
    """

    parent = None

    def __init__(self, camera: EpicsCamera, n_frames: int = 0) -> None:
        if n_frames < 0:
            raise DeviceError(f"{camera.name} cannot take {n_frames} frames; 0 means until told to end")
        self._camera = camera
        self._n_frames = n_frames
        self._task = Task(camera)
        self._written: threading.Event | None = None
        self._resource_uid: str | None = None
        self._announced = 0
        self._data_key: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """Name of the camera."""
        return str(self._camera.name)

    @property
    def hints(self) -> dict[str, Any]:
        """No number to plot."""
        return {}

    def stage(self) -> list[Any]:
        """Prepare the file."""
        camera = self._camera
        if camera._staged == Staged.yes:
            raise DeviceError(f"{camera.name} is staged already; unstage it first")
        camera.prepare_folder()
        self._data_key = camera.describe_image()
        for signal, value in (
            (camera.driver.image_mode, "Multiple" if self._n_frames else "Continuous"),
            (camera.driver.num_images, max(self._n_frames, 1)),
            (camera.writer.enable, "Enable"),
            (camera.writer.write_mode, "Stream"),
            (camera.writer.lazy_open, "Yes"),
            (camera.writer.swmr_mode, "On"),
        ):
            signal.set(value).wait(_ANSWER_TIMEOUT_S)
        self._resource_uid = None
        self._announced = 0
        return [self]

    def unstage(self) -> list[Any]:
        """End the acquisition and close the file."""
        self._task.stop(success=True)
        self._camera.end_acquisition()
        return [self]

    def kickoff(self) -> DeviceStatus:
        """Begin; the status is done when the first frame is in the file."""
        camera = self._camera
        if camera._staged == Staged.yes:
            raise DeviceError(
                f"{camera.name} is staged for single frames; unstage it before it runs continuously"
            )
        allowed_s = float(camera.exposure_s.get()) + _ANSWER_TIMEOUT_S

        def begin() -> None:
            self._written = camera.begin_capture(self._n_frames)
            camera.driver.acquire.put(1)
            wait_for_value(
                camera.writer.num_captured,
                lambda count: int(count) >= 1,
                allowed_s,
                lambda: f"{camera.name} has delivered no frame within {allowed_s:g} s",
                self._task,
            )

        return self._task.start(begin)

    def complete(self) -> DeviceStatus:
        """Wait for the frames asked for, or end an endless acquisition; the status is done when the file is closed."""
        camera = self._camera
        written = self._written
        if written is None:
            raise DeviceError(f"{camera.name} has not been started; kick it off first")
        per_frame_s = max(float(camera.exposure_s.get()), float(camera.driver.acquire_period.get()))
        allowed_s = self._n_frames * per_frame_s + _ANSWER_TIMEOUT_S

        def end() -> None:
            if self._n_frames == 0:
                camera.end_acquisition()
            await_put(
                written,
                allowed_s,
                lambda: (
                    f"{camera.name} delivered {int(camera.writer.num_captured.get())} of "
                    f"{self._n_frames} frames "
                    f"within {allowed_s:g} s"
                ),
                self._task,
            )
            check_write(camera.name, camera.writer)

        return self._task.start(end)

    def describe_collect(self) -> dict[str, Any]:
        """Return the data key of the frames."""
        return {self._camera.image_key: {**self._data_key, "external": "STREAM:"}}

    def get_index(self) -> int:
        """Return how many frames are in the file."""
        return int(self._camera.writer.num_captured.get(use_monitor=False))

    def collect_asset_docs(self, index: int | None = None) -> Iterator[StreamAsset]:
        """Announce the frames that have come since the last time, up to a number of them."""
        count = self.get_index() if index is None else min(index, self.get_index())
        if count <= self._announced:
            return
        camera = self._camera
        if self._resource_uid is None:
            self._resource_uid = str(uuid.uuid4())
            path = camera.readers_path(str(camera.writer.full_file_name.get()))
            yield (
                "stream_resource",
                StreamResource(
                    uid=self._resource_uid,
                    data_key=camera.image_key,
                    mimetype="application/x-hdf5",
                    uri=f"file://localhost{path}",
                    parameters={"dataset": DATASET, "swmr": True, "chunk_shape": (1, *camera.frame_shape)},
                ),
            )
        yield (
            "stream_datum",
            StreamDatum(
                uid=f"{self._resource_uid}/{self._announced}",
                stream_resource=self._resource_uid,
                descriptor="",
                indices=StreamRange(start=self._announced, stop=count),
                # The RunEngine numbers them.
                seq_nums=StreamRange(start=0, stop=0),
            ),
        )
        self._announced = count

    def collect(self) -> Iterator[dict[str, Any]]:
        """Give no events of its own: every frame is in the file."""
        return iter(())

    def describe_configuration(self) -> dict[str, Any]:
        """Return the data keys of the camera's configuration."""
        return dict(self._camera.describe_configuration())

    def read_configuration(self) -> dict[str, Any]:
        """Return the camera's configuration."""
        return dict(self._camera.read_configuration())
