"""`nimco ioc`: the simulated beamline as EPICS process variables."""

import os
import socket

from rich.console import Console

from nimco._stopping import ended_by_signal
from nimco.errors import NimcoError


def ioc(
    *,
    prefix: str,
    size: int,
    seed: int,
    port: int,
    time_scale: float,
) -> None:
    """Serve the simulated beamline over EPICS Channel Access, on loopback only, until Ctrl-C."""
    console = Console()
    _check_free(port)
    # Not at the top: both read the environment of Channel Access when they are imported.
    from sim_devices.ioc import channel_access_environment, run_ioc

    environment = channel_access_environment(port, port + 1)
    os.environ.update(environment)

    def ready() -> None:
        console.print(f"The simulated beamline answers to {prefix}... on port {port}. For each client:")
        for name, value in environment.items():
            if name.startswith("EPICS_CA_"):
                console.print(f"  export {name}={value}", highlight=False, soft_wrap=True)
        console.print("Ctrl-C ends it.")

    with ended_by_signal(lambda: "the simulated beamline has ended; it stores nothing", is_service=True):
        run_ioc(prefix, shape=(size, size), seed=seed, time_scale=time_scale, ready=ready)


def _check_free(port: int) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                # As the server does: a port that has just been left is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise NimcoError(
                    f"port {port} is in use, perhaps by another IOC; choose another with --port"
                ) from error
