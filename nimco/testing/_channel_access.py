"""Channel Access of a test: on loopback, on ports of its own."""

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._waiting import free_port

if TYPE_CHECKING:  # an extra brings it
    from sim_devices.ioc import IOCProcess

_LOOPBACK = "127.0.0.1"
_MOST_SERVERS = 8


def use_loopback_channel_access() -> None:
    """Keep Channel Access of this process and its children on loopback, on free ports.

    Call it before ophyd is imported: the library of Channel Access reads the environment once. Nothing a test does
    then reaches a control system that is in reach of the machine.
    """
    ports: set[int] = set()
    while len(ports) < _MOST_SERVERS + 1:
        ports.add(free_port())
    repeater, *servers = sorted(ports)
    os.environ.update(
        EPICS_CA_AUTO_ADDR_LIST="NO",
        # A port for each server: of those that share one, a search on loopback reaches one only.
        EPICS_CA_ADDR_LIST=" ".join(f"{_LOOPBACK}:{port}" for port in servers),
        EPICS_CA_SERVER_PORT=str(servers[0]),
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
        `use_loopback_channel_access` was not called before, or eight run already.
    """
    from sim_devices.ioc import IOCProcess

    addresses = [address.partition(":") for address in os.environ.get("EPICS_CA_ADDR_LIST", "").split()]
    if not addresses or not all(host == _LOOPBACK and port for host, _, port in addresses):
        raise RuntimeError("call nimco.testing.use_loopback_channel_access() first, before ophyd is imported")
    free = next((port for _, _, port in addresses if _is_free(int(port))), None)
    if free is None:
        raise RuntimeError(f"{len(addresses)} simulated IOCs run already; end one before another is started")
    return IOCProcess(
        prefix,
        port=int(free),
        repeater_port=int(os.environ["EPICS_CA_REPEATER_PORT"]),
        log=Path(log),
        **settings,
    )


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
        try:
            tried.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True
