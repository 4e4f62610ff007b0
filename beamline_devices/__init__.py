"""What plans may ask of a device (`protocols`), and the device classes that drive real hardware (`epics`)."""

from beamline_devices.errors import (
    DeviceError,
    DeviceTimeoutError,
    NotArrivedError,
    NotConnectedError,
    OutOfLimitsError,
    UnknownPositionError,
)

__all__ = [
    "DeviceError",
    "DeviceTimeoutError",
    "NotArrivedError",
    "NotConnectedError",
    "OutOfLimitsError",
    "UnknownPositionError",
]
