"""An embedded Tiled server: one directory, loopback, one API key, nothing to install or start by hand."""

import fcntl
import logging
import os
import re
import secrets
import socket
import stat
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
from nimco._listening import listen
from nimco._terminal import enter_was_pressed, forget_typed, is_interactive
from nimco.errors import ServerError
from scan_contract import require_packages

# Against a server that hangs; one that ends is noticed at once, and a busy machine may take a minute to start it.
_STARTUP_TIMEOUT_S = 240.0
_SHUTDOWN_TIMEOUT_S = 10.0
# What the process of the server imports first of the extra that brings it.
_NEEDED = ("uvicorn", "cachetools", "sqlalchemy", "starlette", "fastapi", "adbc_driver_sqlite")
KEY_FILE = "api_key"
_LOCK_FILE = "server.lock"
_LOG_FILE = "server.log"
_LOG_TAIL_BYTES = 64 * 2**10
_LONGEST_WORDS = 300
_HOLD_POLL_S = 0.2
_EXCEPTION = re.compile(r"[\w.]+(Error|Exception)\b")
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 30.0
# A server that has run for this long is started again at once when it dies.
_STEADY_S = 60.0

logger = logging.getLogger("nimco.server")


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
        self._log_start = 0

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
        return self.data_dir / KEY_FILE

    @property
    def pid(self) -> int | None:
        """Process number while the server runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def browser_url(self) -> str:
        """Address that opens the pages of the server in a browser, with the key."""
        return f"{self.uri}/ui/?api_key={self.api_key}"

    def start(self) -> "TiledServer":
        """Start the server and return it when it answers."""
        require_packages("server", "Tiled servers of one's own", *_NEEDED)
        _make_private(self.data_dir)
        self._closing.clear()
        self._socket = listen(self.host, self.port)
        try:
            self.port = self._socket.getsockname()[1]
            self._lock = _lock(self.data_dir, self.uri)
            if not self.api_key:
                self.api_key, self.key_is_new = _kept_key(self.key_path)
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
        path = self.data_dir / _LOG_FILE
        with path.open("ab") as log:
            os.fchmod(log.fileno(), 0o600)
            log.seek(0, os.SEEK_END)
            self._log_start = log.tell()
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
                umask=0o077,
            )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # dead already, which the next step finds
            self._process.stdin.write(f"{self.api_key}\n".encode())
            self._process.stdin.flush()
        self._wait_until_ready()

    def _watch(self) -> None:
        """Start the server again whenever its process dies: the socket stays open, so requests only wait."""
        deaths, began = 0, time.monotonic()
        while not self._closing.is_set():
            process = self._process
            if process is None:
                return
            code = process.wait()
            if self._closing.is_set():
                return
            deaths = 1 if time.monotonic() - began > _STEADY_S else deaths + 1
            pause_s = 0.0 if deaths == 1 else min(_FIRST_PAUSE_S * 2 ** (deaths - 2), _LONGEST_PAUSE_S)
            again = "" if deaths == 1 else f", {deaths} times in a row"
            logger.error(
                "the Tiled server died (code %s%s)%s; starting it again %s",
                code,
                again,
                self._log_tail(),
                f"in {pause_s:g} s" if pause_s else "now",
            )
            if self._closing.wait(pause_s):
                return
            began = time.monotonic()
            try:
                self._launch()
            except Exception as error:  # whatever it is, the next attempt may do better
                alive = self._process is not None and self._process.poll() is None
                if not self._closing.is_set() and (alive or not isinstance(error, ServerError)):
                    logger.error("the Tiled server cannot be started again: %s", error)
                if alive and self._process is not None:
                    self._process.kill()  # alive, but without an answer
            if self._closing.is_set() and self._process is not None:
                _end(self._process)

    def _log_tail(self) -> str:
        """Return the last line that the process logged, as the end of a clause; empty where there is none."""
        try:
            with (self.data_dir / _LOG_FILE).open("rb") as log:
                log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                lines = log.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        said = [line.strip() for line in lines if line.strip() and " INFO " not in line]
        # The exception, where there is one, rather than what is logged because of it.
        said = [line for line in said if _EXCEPTION.match(line)] or said
        return f": {said[-1][:_LONGEST_WORDS]}" if said else ""

    def hold(self, console: Console, *, until_enter: bool = False) -> None:
        """Stay up until Ctrl-C, which is raised.

        Parameters
        ----------
        console : rich.console.Console
            Where to say so.
        until_enter : bool
            Whether Enter ends it too, where there is a terminal.
        """
        by_enter = until_enter and is_interactive()
        ends = "Enter or Ctrl-C" if by_enter else "Ctrl-C"
        console.print(f"serving {self.data_dir} at {self.uri}; {ends} ends it")
        if by_enter:
            forget_typed()
        while not self._closing.wait(_HOLD_POLL_S):
            if by_enter and is_interactive() and enter_was_pressed():
                return

    def _wait_until_ready(self) -> None:
        process = self._process
        assert process is not None
        deadline = time.monotonic() + _STARTUP_TIMEOUT_S
        # The socket listens already, so the first request simply waits until the server takes it.
        with httpx.Client(trust_env=False) as http:
            while time.monotonic() < deadline and not self._closing.is_set():
                if process.poll() is not None:
                    raise ServerError(
                        f"the Tiled server ended while starting (code {process.returncode}){self._log_tail()}; "
                        f"more is in {self.data_dir / _LOG_FILE}"
                    )
                try:
                    if http.get(f"{self.uri}/healthz", timeout=0.5).status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    continue
        raise ServerError(
            f"the Tiled server did not answer within {_STARTUP_TIMEOUT_S:.0f} s{self._log_tail()}; "
            f"more is in {self.data_dir / _LOG_FILE}"
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    try:
        process.wait(_SHUTDOWN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _make_private(directory: Path) -> None:
    """Make a data directory that only its owner can read; one that holds other files too is left as it is."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=directory):
            pass
        about = directory.stat()
        is_ours = not any(directory.iterdir()) or (directory / KEY_FILE).exists()
        if is_ours and about.st_uid == os.getuid() and stat.S_IMODE(about.st_mode) & 0o077:
            directory.chmod(0o700)
    except OSError as error:
        raise DataDirectoryError(
            f"cannot write to the data directory {directory} ({error.strerror}); choose another one"
        ) from error


def _lock(directory: Path, uri: str) -> IO[str]:
    """Take a data directory and leave the address in its lock file, for whoever comes second."""
    path = directory / _LOCK_FILE
    try:
        lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
    except OSError as error:
        raise DataDirectoryError(
            f"cannot write {path} ({error.strerror}); choose another data directory"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        address = lock.readline().strip()
        lock.close()
        raise DataDirectoryError(
            f"another Tiled server is using {directory}{f' at {address}' if address else ''}; "
            "connect to that one or choose another data directory"
        ) from error
    lock.truncate(0)
    lock.write(f"{uri}\n{os.getpid()}\n")
    lock.flush()
    return lock


def running_server(data_dir: Path | str) -> tuple[str, str] | None:
    """Return address and key of the server that runs on a data directory; None where none does.

    Raises
    ------
    DataDirectoryError
        One runs whose key cannot be read here.
    """
    directory = Path(data_dir).expanduser().resolve()
    try:
        with (directory / _LOCK_FILE).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                address = lock.readline().strip()
            else:
                return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataDirectoryError(f"cannot read {directory / _LOCK_FILE} ({error.strerror})") from error
    if not address or not (directory / KEY_FILE).exists():
        return None
    return address, _kept_key(directory / KEY_FILE)[0]


def _kept_key(path: Path) -> tuple[str, bool]:
    """Return the key kept in a file, and whether it has just been made."""
    try:
        key = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return _new_key(path), True
    except (OSError, UnicodeDecodeError) as error:
        raise DataDirectoryError(f"the key file {path} cannot be read ({error}); {_WITHOUT_KEY}") from error
    if not key.isalnum():
        problem = "does not hold a key of letters and digits" if key else "is empty"
        raise DataDirectoryError(f"the key file {path} {problem}; {_WITHOUT_KEY}")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        with suppress(OSError):
            path.chmod(0o600)
    return key, False


def _new_key(path: Path) -> str:
    key = secrets.token_hex(32)
    # Whole or not at all: a key file that a full disk cut short would lock everybody out.
    unfinished = path.with_name(f"{path.name}.new")
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(key)
        unfinished.replace(path)
    except OSError as error:
        raise DataDirectoryError(
            f"cannot write the key file {path} ({error.strerror}); choose another data directory"
        ) from error
    return key


_WITHOUT_KEY = "put the key back, or delete the file to have a new one made"
