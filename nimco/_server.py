"""An embedded Tiled server: one directory, loopback, one API key, nothing to install or start by hand."""

import fcntl
import logging
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

import httpx
from rich.console import Console

from nimco._containers import TiledAccess, create_containers
from nimco._errors import NimcoError

# Against a server that hangs; one that ends is noticed at once, and a busy machine may take a minute to start it.
_STARTUP_TIMEOUT_S = 240.0
_SHUTDOWN_TIMEOUT_S = 10.0
_KEY_FILE = "api_key"
_LOCK_FILE = "server.lock"
_LOG_FILE = "server.log"
_MOST_RESTARTS = 20

logger = logging.getLogger("nimco.server")


class ServerError(NimcoError):
    """The embedded Tiled server cannot be started."""


class PortInUseError(ServerError):
    """Another program listens on the wanted port."""


class DataDirectoryError(ServerError):
    """The data directory cannot be written, or another server is using it."""


class TiledServer(TiledAccess):
    """A Tiled server in a process of its own, with its catalog (SQLite) and arrays in one directory.

    Use as a context manager, or call `start` and `close`. Nothing but programs on this machine can connect,
    unless ``host`` says otherwise, and nobody without the key. Raw runs are kept in the container ``raw``,
    maps in ``maps``.

    Parameters
    ----------
    data_dir : Path
        Created where missing, kept afterwards: a server started on it again serves what was measured.
    port : int
        0 takes a free one.
    api_key : str, optional
        Letters and digits. By default the key kept in the data directory (readable by its owner only), made
        on the first start.
    host : str
        Interface to listen on.
    readable : sequence of Path
        Folders with files of detectors that the server may read.

    Raises
    ------
    DataDirectoryError
        The directory cannot be created or written, or another server runs on it.
    PortInUseError
        The port is taken.
    ServerError
        The server process ended before it answered.
    """

    def __init__(
        self,
        data_dir: Path | str,
        port: int = 0,
        api_key: str | None = None,
        *,
        host: str = "127.0.0.1",
        readable: tuple[Path | str, ...] = (),
    ) -> None:
        self.data_dir = Path(data_dir).expanduser().resolve()
        self.host = host
        self.port = port
        self.api_key = api_key or ""
        self.key_is_new = False
        self._readable = tuple(str(Path(folder).resolve()) for folder in readable)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._watcher: threading.Thread | None = None
        self._closing = threading.Event()
        self._lock: IO[str] | None = None

    def __enter__(self) -> "TiledServer":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<TiledServer {self.uri} on {self.data_dir}>"

    @property
    def uri(self) -> str:
        """Address of the server, without the key."""
        return f"http://{self.host}:{self.port}"

    @property
    def key_path(self) -> Path:
        """File that keeps the API key, readable by its owner only."""
        return self.data_dir / _KEY_FILE

    @property
    def pid(self) -> int | None:
        """Process number while the server runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> "TiledServer":
        """Start the server and return it when it answers."""
        _check_writable(self.data_dir)
        self._closing.clear()
        self._socket = _listen(self.host, self.port)
        try:
            self._lock = _lock(self.data_dir)
            if not self.api_key:
                self.api_key, self.key_is_new = _kept_key(self.key_path)
            self.port = self._socket.getsockname()[1]
            self._launch()
            create_containers(self.client())
        except BaseException:
            self.close()
            raise
        self._watcher = threading.Thread(target=self._watch, name="Tiled server watch", daemon=True)
        self._watcher.start()
        return self

    def close(self) -> None:
        """End the server; what it holds stays in the data directory."""
        self._closing.set()
        process, self._process = self._process, None
        if process is not None:
            _end(process)
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._watcher is not None:
            self._watcher.join(_SHUTDOWN_TIMEOUT_S)
            self._watcher = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        for name in ("raw", "maps"):
            self.__dict__.pop(name, None)

    def _launch(self) -> None:
        """Start the process and wait until it answers."""
        assert self._socket is not None
        with (self.data_dir / _LOG_FILE).open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    # Run as a file: the server needs nothing of the package, whose import takes seconds.
                    str(Path(__file__).with_name("_server_process.py")),
                    str(self.data_dir),
                    str(self._socket.fileno()),
                    *self._readable,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=[self._socket.fileno()],
                start_new_session=True,
            )
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self.api_key}\n".encode())
        self._process.stdin.flush()
        self._wait_until_ready()

    def _watch(self) -> None:
        """Start the server again when its process dies: the socket stays open, so requests only wait."""
        restarts = 0
        while not self._closing.is_set():
            process = self._process
            if process is None:
                return
            code = process.wait()
            if self._closing.is_set():
                return
            restarts += 1
            logger.error("the Tiled server died (code %s); starting it again", code)
            if restarts > _MOST_RESTARTS:
                logger.error("the Tiled server died %d times and stays down; see %s", restarts, self.data_dir)
                return
            try:
                self._launch()
            except (ServerError, OSError) as error:
                logger.error("%s", error)

    def hold(self, console: Console) -> None:
        """Stay up, until Ctrl-C."""
        console.print(f"serving {self.data_dir} at {self.uri}; Ctrl-C ends it")
        with suppress(KeyboardInterrupt):
            while self.pid is not None:
                time.sleep(0.2)

    def _wait_until_ready(self) -> None:
        process = self._process
        assert process is not None
        deadline = time.monotonic() + _STARTUP_TIMEOUT_S
        # The socket listens already, so the first request simply waits until the server takes it.
        with httpx.Client(trust_env=False) as http:
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    raise ServerError(
                        f"the Tiled server ended while starting (code {process.returncode}); "
                        f"its reasons are in {self.data_dir / _LOG_FILE}"
                    )
                try:
                    if http.get(f"{self.uri}/healthz", timeout=0.5).status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    continue
        raise ServerError(
            f"the Tiled server did not answer within {_STARTUP_TIMEOUT_S:.0f} s; "
            f"see {self.data_dir / _LOG_FILE}"
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_SHUTDOWN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _check_writable(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise DataDirectoryError(
            f"cannot write to the data directory {directory} ({error.strerror}); choose another one"
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise PortInUseError(
            f"cannot listen on {host}:{port} ({error.strerror}); "
            "stop the program that holds the port or choose another (0 takes a free one)"
        ) from error
    return listening


def _lock(directory: Path) -> IO[str]:
    lock = (directory / _LOCK_FILE).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise DataDirectoryError(
            f"another Tiled server is using {directory}; connect to that one or choose another data directory"
        ) from error
    return lock


def _kept_key(path: Path) -> tuple[str, bool]:
    """Return the key kept in a file, and whether it has just been made."""
    if path.exists():
        return path.read_text().strip(), False
    key = secrets.token_hex(32)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key)
    return key, True
