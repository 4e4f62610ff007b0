"""What plans may ask of a device, and the device classes that drive real hardware."""

from beamline_devices._errors import (
    DeviceDisconnectedError,
    DeviceError,
    DeviceTimeoutError,
    NotArrivedError,
    OutOfLimitsError,
    UnknownPositionError,
)

__all__ = [
    "DeviceDisconnectedError",
    "DeviceError",
    "DeviceTimeoutError",
    "NotArrivedError",
    "OutOfLimitsError",
    "UnknownPositionError",
]
