"""The simulated EPICS beamline in a process of its own."""

import argparse
import asyncio
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from beamline_devices import DeviceError, DeviceTimeoutError
from sim_devices.devices import SimBeamline
from sim_devices.twin import SourceSettings, TwinSettings

__all__ = ["IOCProcess", "channel_access_environment", "run_ioc"]

_READY = "ready"
_START_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 10.0
_LOOPBACK = "127.0.0.1"
_LARGEST_ARRAY_BYTES = "67108864"


def channel_access_environment(port: int, repeater_port: int) -> dict[str, str]:
    """Environment in which server and clients of Channel Access meet on loopback and nowhere else.

    A client must have it before it makes its first connection.
    """
    return {
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_ADDR_LIST": _LOOPBACK,
        "EPICS_CA_SERVER_PORT": str(port),
        "EPICS_CA_REPEATER_PORT": str(repeater_port),
        "EPICS_CA_MAX_ARRAY_BYTES": _LARGEST_ARRAY_BYTES,
        "EPICS_CAS_SERVER_PORT": str(port),
        "EPICS_CAS_INTF_ADDR_LIST": _LOOPBACK,
        "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
        "EPICS_CAS_BEACON_ADDR_LIST": "",
    }


def _free_port() -> int:
    """Return a port that is free on loopback for TCP and UDP alike."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind((_LOOPBACK, 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind((_LOOPBACK, port))
            except OSError:
                continue
            return port


def run_ioc(
    prefix: str,
    *,
    shape: tuple[int, int],
    seed: int,
    time_scale: float,
    ready: Callable[[], object],
    steady: bool = False,
) -> None:
    """Serve the simulated beamline in this process until it is interrupted.

    The environment of `channel_access_environment` must be set.

    Parameters
    ----------
    prefix : str
        In front of every PV name.
    shape : tuple of int
        Rows and columns of the camera.
    seed : int
        Seed of the twin.
    time_scale : float
        Real seconds per simulated second.
    ready : callable
        Called when clients can connect.
    steady : bool
        Whether the source neither decays nor drifts.
    """
    # Imported here: the server reads the environment of Channel Access when it is imported.
    from ._ioc import serve

    source = SourceSettings(drift=0.0, lifetime_h=0.0) if steady else SourceSettings()
    settings = TwinSettings(source=source)
    asyncio.run(serve(prefix, SimBeamline(shape, seed=seed, settings=settings), time_scale, ready))


class IOCProcess:
    """The simulated EPICS beamline, started and ended as a context.

    Parameters
    ----------
    prefix : str
        In front of every PV name.
    shape : tuple of int
        Rows and columns of the camera.
    seed : int
        Seed of the twin.
    time_scale : float
        Real seconds per simulated second; 0 waits for nothing.
    steady : bool
        Whether the source neither decays nor drifts.
    port, repeater_port : int, optional
        Ports of Channel Access; by default free ones.
    log : Path, optional
        File for what the server has to say.

    Raises
    ------
    DeviceError
        When the server ends before it can be connected to.
    """

    def __init__(
        self,
        prefix: str = "SIM:",
        *,
        shape: tuple[int, int] = (128, 128),
        seed: int = 1,
        time_scale: float = 0.0,
        steady: bool = False,
        port: int | None = None,
        repeater_port: int | None = None,
        log: Path | None = None,
    ) -> None:
        self.prefix = prefix
        self.port = _free_port() if port is None else port
        self._arguments = [prefix, *map(str, shape), str(seed), repr(time_scale)]
        if steady:
            self._arguments.append("--steady")
        self.environment = channel_access_environment(
            self.port, _free_port() if repeater_port is None else repeater_port
        )
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int | None:
        """Process number while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> "IOCProcess":
        """Start the server and return when clients can connect."""
        errors = subprocess.DEVNULL if self._log is None else self._log.open("a")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sim_devices.ioc._ioc_process", *self._arguments],
            env={**os.environ, **self.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        if not isinstance(errors, int):
            errors.close()
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.close()
            raise
        return self

    def _wait_until_ready(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        # Not `select.select`, which takes no descriptor above 1023.
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            has_answered = bool(selector.select(max(deadline - time.monotonic(), 0.0)))
        if not has_answered:
            raise DeviceTimeoutError(f"the simulated IOC did not answer within {_START_TIMEOUT_S:g} s")
        if process.stdout.readline().strip() != _READY:
            where = "" if self._log is None else f"; its reasons are in {self._log}"
            raise DeviceError(f"the simulated IOC ended while starting{where}")

    def close(self) -> None:
        """End the server."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.terminate()
        try:
            process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> "IOCProcess":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _end_with_parent() -> None:
    """End this process when the one that started it is gone and its pipe with it."""
    sys.stdin.read()
    os._exit(0)


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("prefix")
    parser.add_argument("rows", type=int)
    parser.add_argument("columns", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("time_scale", type=float)
    parser.add_argument("--steady", action="store_true")
    given = parser.parse_args()
    threading.Thread(target=_end_with_parent, daemon=True, name="parent watch").start()
    run_ioc(
        given.prefix,
        shape=(given.rows, given.columns),
        seed=given.seed,
        time_scale=given.time_scale,
        steady=given.steady,
        ready=lambda: (sys.stdout.write(f"{_READY}\n"), sys.stdout.flush()),
    )


if __name__ == "__main__":
    _main()
