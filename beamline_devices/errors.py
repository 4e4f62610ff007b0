"""What can go wrong with a device, as exceptions whose message is one sentence for the person at the beamline."""

__all__ = [
    "DeviceError",
    "DeviceTimeoutError",
    "NotArrivedError",
    "NotConnectedError",
    "OutOfLimitsError",
    "UnknownPositionError",
]


class DeviceError(RuntimeError):
    """A device cannot do what it was asked to do."""


class OutOfLimitsError(DeviceError, ValueError):
    """A value lies outside what the device accepts; nothing has moved."""


class UnknownPositionError(DeviceError, ValueError):
    """A named position does not exist; nothing has moved."""


class NotArrivedError(DeviceError):
    """A device reports a place other than the one it was sent to."""


class DeviceTimeoutError(DeviceError, TimeoutError):
    """A device did not answer in the time it was given."""


class NotConnectedError(DeviceError, ConnectionError):
    """A device cannot be reached."""
