"""Records of areaDetector that a camera consists of, and what its file writer answers."""

from typing import Any

from ophyd import Component, Device, EpicsSignal, EpicsSignalRO, Kind
from ophyd.areadetector.base import EpicsSignalWithRBV
from ophyd.status import Status

from beamline_devices._checks import check_range
from beamline_devices._tasks import await_put, put_complete
from beamline_devices.errors import DeviceError

ANSWER_TIMEOUT_S = 5.0
"""How long a record may take to answer."""

_EXPOSURE_ROUNDING = 0.01


class ExposureSignal(EpicsSignalWithRBV):
    """Exposure of the next frame in seconds, done when the camera has taken it over."""

    limits_s = (1e-4, 600.0)

    def check_value(self, value: Any) -> None:
        """Refuse an exposure outside the limits.

        Raises
        ------
        OutOfLimitsError
            When it is outside, or no finite number.
        """
        check_range(self.name, value, self.limits_s, "s")

    def set(self, value: float, **_: Any) -> Status:
        """Set a new exposure in seconds."""
        self.check_value(value)
        wanted = float(value)
        status = Status(self)

        def take_over() -> None:
            await_put(
                put_complete(self, wanted),
                ANSWER_TIMEOUT_S,
                lambda: f"{self.name} does not answer within {ANSWER_TIMEOUT_S:g} s",
            )
            taken = float(self.get(use_monitor=False))
            if abs(taken - wanted) > _EXPOSURE_ROUNDING * wanted:
                raise DeviceError(
                    f"{self.name} was set to {wanted:g} s and the camera made {taken:g} s of it"
                )

        def run() -> None:
            try:
                take_over()
            except Exception as error:
                status.set_exception(error)
            else:
                status.set_finished()

        self.cl.thread_class(target=run, daemon=True, name=f"{self.name} set").start()
        return status

    def describe(self) -> dict[str, Any]:
        """Return the data key with the limits that are kept."""
        described: dict[str, Any] = super().describe()
        low, high = self.limits_s
        described[self.name].update(lower_ctrl_limit=low, upper_ctrl_limit=high, units="s", precision=4)
        return described


class CameraDriver(Device):
    """Records of the camera driver (ADCore 3 or later)."""

    acquire = Component(EpicsSignal, "Acquire", kind=Kind.omitted)
    image_mode = Component(EpicsSignalWithRBV, "ImageMode", string=True, kind=Kind.config)
    num_images = Component(EpicsSignalWithRBV, "NumImages", kind=Kind.config)
    acquire_period = Component(EpicsSignalWithRBV, "AcquirePeriod", kind=Kind.config)
    wait_for_plugins = Component(EpicsSignal, "WaitForPlugins", string=True, kind=Kind.omitted)
    array_callbacks = Component(EpicsSignalWithRBV, "ArrayCallbacks", string=True, kind=Kind.omitted)
    columns = Component(EpicsSignalRO, "ArraySizeX_RBV", kind=Kind.omitted)
    rows = Component(EpicsSignalRO, "ArraySizeY_RBV", kind=Kind.omitted)
    data_type = Component(EpicsSignalRO, "DataType_RBV", string=True, kind=Kind.config)
    manufacturer = Component(EpicsSignalRO, "Manufacturer_RBV", string=True, kind=Kind.config)
    model = Component(EpicsSignalRO, "Model_RBV", string=True, kind=Kind.config)


class HDF5Writer(Device):
    """Records of the HDF5 file plugin (ADCore 3 or later)."""

    enable = Component(EpicsSignalWithRBV, "EnableCallbacks", string=True, kind=Kind.omitted)
    create_directory = Component(EpicsSignal, "CreateDirectory", kind=Kind.omitted)
    file_path = Component(EpicsSignalWithRBV, "FilePath", string=True, kind=Kind.omitted)
    file_path_exists = Component(EpicsSignalRO, "FilePathExists_RBV", kind=Kind.omitted)
    file_name = Component(EpicsSignalWithRBV, "FileName", string=True, kind=Kind.omitted)
    file_number = Component(EpicsSignalWithRBV, "FileNumber", kind=Kind.omitted)
    auto_increment = Component(EpicsSignalWithRBV, "AutoIncrement", string=True, kind=Kind.omitted)
    file_template = Component(EpicsSignalWithRBV, "FileTemplate", string=True, kind=Kind.omitted)
    full_file_name = Component(EpicsSignalRO, "FullFileName_RBV", string=True, kind=Kind.omitted)
    write_mode = Component(EpicsSignalWithRBV, "FileWriteMode", string=True, kind=Kind.omitted)
    lazy_open = Component(EpicsSignalWithRBV, "LazyOpen", string=True, kind=Kind.omitted)
    swmr_mode = Component(EpicsSignalWithRBV, "SWMRMode", string=True, kind=Kind.omitted)
    flush_every = Component(EpicsSignalWithRBV, "NumFramesFlush", kind=Kind.omitted)
    num_capture = Component(EpicsSignalWithRBV, "NumCapture", kind=Kind.omitted)
    num_captured = Component(EpicsSignalRO, "NumCaptured_RBV", kind=Kind.omitted, auto_monitor=True)
    capture = Component(EpicsSignal, "Capture", kind=Kind.omitted)
    capturing = Component(EpicsSignalRO, "Capture_RBV", kind=Kind.omitted, auto_monitor=True)
    write_status = Component(EpicsSignalRO, "WriteStatus", kind=Kind.omitted)
    write_message = Component(EpicsSignalRO, "WriteMessage", string=True, kind=Kind.omitted)
    unique_id = Component(EpicsSignalRO, "UniqueId_RBV", kind=Kind.omitted)


def check_file_name(full_name: str, folder: str) -> str:
    """Return the name of a file in the folder it was to be written to.

    Raises
    ------
    DeviceError
        When it lies elsewhere: somebody changed the path while the camera was in use.
    """
    if not full_name.startswith(folder) or len(full_name) <= len(folder):
        raise DeviceError(
            f"the camera wrote {full_name!r}, not into {folder}; its path was changed behind this "
            "session's back"
        )
    return full_name[len(folder) :]


def check_write(name: str, writer: HDF5Writer) -> None:
    """Raise what the file writer has to complain of.

    Raises
    ------
    DeviceError
        When it could not write.
    """
    if int(writer.write_status.get()) != 0:
        raise DeviceError(f"{name} could not write its file: {writer.write_message.get()}")
