"""areaDetector-like camera of the simulated IOC: driver, statistics and HDF5 writer, with the PV names of ADCore."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scan_contract import optional_import
from sim_devices.twin import Fault

from ._ioc_beam import Beam
from ._ioc_channels import choice, floating, integer, text
from ._ioc_files import FrameFile

with optional_import("sim", "simulated control systems"):
    from caproto import SkipWrite

__all__ = ["CameraRecords", "FileRecords", "Frame"]

_EPICS_EPOCH_S = 631152000.0
_NO_YES = ("No", "Yes")
_OFF_ON = ("Done", "Acquire")
_EXPOSURE_LIMITS_S = (1e-4, 600.0)


@dataclass(frozen=True)
class Frame:
    """One frame on its way to the plugins."""

    counts: NDArray[np.uint16]
    unique_id: int
    time_s: float


class FileRecords:
    """Records of the HDF5 writer, below ``prefix``.

    Parameters
    ----------
    prefix : str
        For example "SIM:CAM:HDF1:".
    dropped : callable
        Asked for each frame whether it is lost on the way.
    """

    def __init__(self, prefix: str, dropped: Callable[[], bool]) -> None:
        self._dropped = dropped
        self._file: FrameFile | None = None
        self._finished = asyncio.Event()
        self.enable = choice("Enable", ("Disable", "Enable"))
        self.path = text("", self._put_path)
        self.path_exists = choice("No", _NO_YES)
        self.create_directory = integer(0)
        self.name = text("")
        self.number = integer(0)
        self.increment = choice("Yes", _NO_YES)
        self.template = text("%s%s_%6.6d.h5")
        self.full_name = text("")
        self.mode = choice("Stream", ("Single", "Capture", "Stream"))
        self.num_capture = integer(1)
        self.num_captured = integer(0)
        self.capture = choice("Done", ("Done", "Capture"), self._put_capture)
        self.capture_rbv = choice("Done", ("Done", "Capture"))
        self.lazy_open = choice("Yes", _NO_YES)
        self.swmr = choice("On", ("Off", "On"))
        self.write_status = choice("Write OK", ("Write OK", "Write error"))
        self.write_message = text("")
        self.unique_id = integer(0)
        both = {
            "EnableCallbacks": self.enable,
            "FilePath": self.path,
            "FileName": self.name,
            "FileNumber": self.number,
            "AutoIncrement": self.increment,
            "FileTemplate": self.template,
            "FileWriteMode": self.mode,
            "NumCapture": self.num_capture,
            "LazyOpen": self.lazy_open,
            "NumFramesFlush": integer(1),
            "SWMRMode": self.swmr,
        }
        self.pvdb: dict[str, Any] = {
            prefix + "FilePathExists_RBV": self.path_exists,
            prefix + "CreateDirectory": self.create_directory,
            prefix + "FullFileName_RBV": self.full_name,
            prefix + "NumCaptured_RBV": self.num_captured,
            prefix + "Capture": self.capture,
            prefix + "Capture_RBV": self.capture_rbv,
            prefix + "WriteStatus": self.write_status,
            prefix + "WriteMessage": self.write_message,
            prefix + "UniqueId_RBV": self.unique_id,
        }
        for suffix, channel in both.items():
            self.pvdb[prefix + suffix] = channel
            self.pvdb[f"{prefix}{suffix}_RBV"] = channel

    async def _put_path(self, channel: Any, value: str) -> str:
        folder = Path(value)
        if value and self.create_directory.value < 0:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                await self.write_message.write(str(error)[:250])
        await self.path_exists.write("Yes" if value and folder.is_dir() else "No")
        return value if value.endswith("/") or not value else value + "/"

    async def _put_capture(self, channel: Any, value: str) -> None:
        if value == "Done":
            await self._end()
            return
        await self.num_captured.write(0)
        await self.write_status.write("Write OK")
        await self.write_message.write("")
        self._finished = asyncio.Event()
        await channel.write("Capture", verify_value=False)
        await self.capture_rbv.write("Capture")
        await self._finished.wait()
        raise SkipWrite()

    async def take(self, frame: Frame) -> None:
        """Write one frame, if capturing."""
        if self.capture_rbv.value != "Capture" or self.enable.value != "Enable" or self._dropped():
            return
        loop = asyncio.get_running_loop()
        try:
            if self._file is None:
                path = self.template.value % (self.path.value, self.name.value, self.number.value)
                await self.full_name.write(path)
                create = partial(
                    FrameFile,
                    Path(path),
                    frame.counts.shape,
                    frame.counts.dtype,
                    swmr=self.swmr.value == "On",
                )
                self._file = await loop.run_in_executor(None, create)
            await loop.run_in_executor(None, self._file.append, frame.counts, frame.unique_id, frame.time_s)
        except OSError as error:
            await self.write_message.write(str(error)[:250])
            await self.write_status.write("Write error")
            await self._end()
            return
        await self.unique_id.write(frame.unique_id)
        await self.num_captured.write(self.num_captured.value + 1)
        if 0 < self.num_capture.value <= self.num_captured.value:
            await self._end()

    async def _end(self) -> None:
        if self._file is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._file.close)
            self._file = None
            if self.increment.value == "Yes":
                await self.number.write(self.number.value + 1)
        await self.capture_rbv.write("Done")
        await self.capture.write("Done", verify_value=False)
        self._finished.set()


class CameraRecords:
    """Records of the camera driver and its plugins.

    Parameters
    ----------
    prefix : str
        For example "SIM:CAM:".
    beam : Beam
        What it looks at.
    time_scale : float
        Real seconds per simulated second; 0 exposes at once.
    """

    def __init__(self, prefix: str, beam: Beam, time_scale: float) -> None:
        rows, cols = beam.shape
        self._beam = beam
        self._time_scale = time_scale
        self._abort = asyncio.Event()
        self._last: Frame | None = None
        self.file = FileRecords(prefix + "HDF1:", lambda: beam.faults.occurs(Fault.DROPPED_FRAME))
        self.acquire = choice("Done", _OFF_ON, self._put_acquire)
        self.acquire_rbv = choice("Done", _OFF_ON)
        self.exposure = floating(0.5, units="s", precision=4, limits=_EXPOSURE_LIMITS_S)
        self.period = floating(0.5, units="s", precision=4)
        self.image_mode = choice("Single", ("Single", "Multiple", "Continuous"))
        self.num_images = integer(1)
        self.counter = integer(0)
        self.unique_id = integer(0)
        self.timestamp = floating(0.0, units="s", precision=6)
        self.state = choice("Idle", ("Idle", "Acquire", "Readout", "Aborted"))
        self.wait_for_plugins = choice("Yes", _NO_YES)
        self.callbacks = choice("Enable", ("Disable", "Enable"))
        self.mean = floating(0.0, units="counts", precision=1)
        self.largest = floating(0.0, units="counts", precision=0)
        both = {
            "AcquireTime": self.exposure,
            "AcquirePeriod": self.period,
            "ImageMode": self.image_mode,
            "NumImages": self.num_images,
            "ArrayCallbacks": self.callbacks,
        }
        cam = prefix + "cam1:"
        self.pvdb: dict[str, Any] = {
            **self.file.pvdb,
            cam + "Acquire": self.acquire,
            cam + "Acquire_RBV": self.acquire_rbv,
            cam + "ArrayCounter_RBV": self.counter,
            cam + "UniqueId_RBV": self.unique_id,
            cam + "TimeStamp_RBV": self.timestamp,
            cam + "DetectorState_RBV": self.state,
            cam + "WaitForPlugins": self.wait_for_plugins,
            cam + "ArraySizeX_RBV": integer(cols),
            cam + "ArraySizeY_RBV": integer(rows),
            cam + "SizeX_RBV": integer(cols),
            cam + "SizeY_RBV": integer(rows),
            cam + "DataType_RBV": choice("UInt16", ("Int8", "UInt8", "Int16", "UInt16", "Int32", "UInt32")),
            cam + "BitsPerPixel_RBV": integer(beam.twin.settings.camera.full_well.bit_length()),
            cam + "Manufacturer_RBV": text("nimco"),
            cam + "Model_RBV": text("digital twin"),
            prefix + "Stats1:EnableCallbacks": choice("Enable", ("Disable", "Enable")),
            prefix + "Stats1:ComputeStatistics": choice("Yes", _NO_YES),
            prefix + "Stats1:MeanValue_RBV": self.mean,
            prefix + "Stats1:MaxValue_RBV": self.largest,
        }
        for suffix, channel in both.items():
            self.pvdb[cam + suffix] = channel
            self.pvdb[f"{cam}{suffix}_RBV"] = channel

    async def _put_acquire(self, channel: Any, value: str) -> None:
        if value == "Done":
            self._abort.set()
            return
        if self.acquire_rbv.value == "Acquire":
            raise SkipWrite()
        self._abort = asyncio.Event()
        await channel.write("Acquire", verify_value=False)
        await self.acquire_rbv.write("Acquire")
        await self.state.write("Acquire")
        try:
            wanted = {"Single": 1, "Multiple": self.num_images.value}.get(self.image_mode.value)
            taken = 0
            while not self._abort.is_set() and (wanted is None or taken < wanted):
                if await self._one_frame():
                    taken += 1
        finally:
            await self.state.write("Aborted" if self._abort.is_set() else "Idle")
            await self.acquire_rbv.write("Done")
            await channel.write("Done", verify_value=False)
        raise SkipWrite()

    async def _one_frame(self) -> bool:
        """Expose one frame and give it to the plugins; False where it was aborted before its end."""
        if self._beam.faults.occurs(Fault.CAMERA_TIMEOUT):
            await self._abort.wait()
            return False
        exposure_s = float(self.exposure.value)
        if self._time_scale > 0 and await self._aborted_within(
            max(exposure_s, float(self.period.value)) * self._time_scale
        ):
            return False
        loop = asyncio.get_running_loop()
        if self._last is not None and self._beam.faults.occurs(Fault.STALE_FRAME):
            frame = self._last
        else:
            counts = await loop.run_in_executor(None, self._beam.expose, exposure_s)
            frame = Frame(counts, self.unique_id.value + 1, time.time())
            self._last = frame
            await self.unique_id.write(frame.unique_id)
            await self.timestamp.write(frame.time_s - _EPICS_EPOCH_S)
        await self.counter.write(self.counter.value + 1)
        await self.mean.write(float(frame.counts.mean()))
        await self.largest.write(float(frame.counts.max()))
        await self.file.take(frame)
        return True

    async def _aborted_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._abort.wait(), seconds)
        except TimeoutError:
            return False
        return True
