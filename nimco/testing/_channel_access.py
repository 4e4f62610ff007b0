"""Channel Access of a test: on loopback, on ports of its own."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._waiting import free_port

if TYPE_CHECKING:  # an extra brings it
    from sim_devices.ioc import IOCProcess


def use_loopback_channel_access() -> None:
    """Keep Channel Access of this process and its children on loopback, on free ports.

    Call it before ophyd is imported: the library of Channel Access reads the environment once. Nothing a test does
    then reaches a control system that is in reach of the machine.
    """
    server, repeater = free_port(), free_port()
    while repeater == server:
        repeater = free_port()
    os.environ.update(
        EPICS_CA_AUTO_ADDR_LIST="NO",
        EPICS_CA_ADDR_LIST="127.0.0.1",
        EPICS_CA_SERVER_PORT=str(server),
        EPICS_CA_REPEATER_PORT=str(repeater),
        EPICS_CA_MAX_ARRAY_BYTES="67108864",
    )


def loopback_ioc(prefix: str, log: Path | str, **settings: Any) -> "IOCProcess":
    """Make a simulated EPICS beamline that the Channel Access clients of this process find; a context manager.

    Parameters
    ----------
    prefix : str
        Of its process variables; one of its own for each that runs at the same time.
    log : Path
        File for what it says.
    **settings
        As for `sim_devices.ioc.IOCProcess`: ``shape``, ``seed``, ``steady``, ``time_scale``.

    Raises
    ------
    RuntimeError
        `use_loopback_channel_access` was not called before.
    """
    from sim_devices.ioc import IOCProcess

    if os.environ.get("EPICS_CA_ADDR_LIST") != "127.0.0.1" or "EPICS_CA_SERVER_PORT" not in os.environ:
        raise RuntimeError("call nimco.testing.use_loopback_channel_access() first, before ophyd is imported")
    return IOCProcess(
        prefix,
        port=int(os.environ["EPICS_CA_SERVER_PORT"]),
        repeater_port=int(os.environ["EPICS_CA_REPEATER_PORT"]),
        log=Path(log),
        **settings,
    )
