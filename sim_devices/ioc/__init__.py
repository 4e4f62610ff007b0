"""The simulated EPICS beamline: its server, and the real device classes connected to it.

The environment of Channel Access has to be set before anything of ophyd is imported, this module included.
"""

from ._ioc_devices import IOCBeamline, connect_ioc
from ._ioc_process import IOCProcess, channel_access_environment, run_ioc

__all__ = [
    "IOCBeamline",
    "IOCProcess",
    "channel_access_environment",
    "connect_ioc",
    "run_ioc",
]
