"""The server of the page: on a thread of this process, or in a process of its own."""

import asyncio
import logging
import selectors
import subprocess
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from nimco._listening import listen
from nimco.errors import NimcoError
from scan_contract import require_packages

if TYPE_CHECKING:
    import uvicorn

    from ._sign_in import Sessions

_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 10.0
_LARGEST_MESSAGE = 2**18
_LOOK_S = 0.2
_MOST_STARTS = 3
_LOG = logging.getLogger("nimco")


def check_packages() -> None:
    """Refuse where a package of the extra is missing.

    Raises
    ------
    MissingPackageError
        One is not installed.
    """
    require_packages("monitor", "pages in the browser", "uvicorn", "starlette", "websockets", "bokeh")


class Monitor:
    """Serves the page of a Tiled server, on a thread. Use as a context manager, or call `start` and `close`.

    Only programs on this machine can connect unless ``host`` says otherwise, and nobody without a key that the Tiled
    server takes: it is asked for once. What a page shows is read with that key, and regions are written with it.

    Parameters
    ----------
    tiled_uri : str
        Address of the Tiled server.
    api_key : str, optional
        A key, for `browser_url`.
    port : int
        0 takes a free one.
    host : str
        Interface to listen on.

    Raises
    ------
    PortInUseError
        The port is taken.
    MissingPackageError
        The packages of the extra ``monitor`` are not installed.
    """

    def __init__(
        self, tiled_uri: str, *, api_key: str | None = None, port: int = 0, host: str = "127.0.0.1"
    ) -> None:
        self.tiled_uri = tiled_uri.rstrip("/")
        self._api_key = api_key
        self._host = host
        self.port = port
        self._server: uvicorn.Server | None = None
        self._sessions: Sessions | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Monitor":
        return self if self._server is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Address of the page, without a key."""
        return f"http://{self._host}:{self.port}/"

    @property
    def browser_url(self) -> str:
        """Address that opens the page, with the key where one was given."""
        return with_key(self.url, self._api_key)

    def start(self, descriptor: int | None = None) -> "Monitor":
        """Start to serve, on a socket that listens already where its file descriptor is given."""
        import socket

        check_packages()
        import uvicorn

        from ._app import build_app
        from ._sign_in import Sessions

        listening = listen(self._host, self.port) if descriptor is None else socket.socket(fileno=descriptor)
        self.port = listening.getsockname()[1]
        self._sessions = Sessions(self.tiled_uri, self.port)
        config = uvicorn.Config(
            build_app(self.tiled_uri, self._sessions),
            loop="asyncio",
            ws="websockets-sansio",
            log_config=None,
            access_log=False,  # request lines may carry a key
            ws_per_message_deflate=False,  # compressing a map costs more than its transfer
            ws_max_size=_LARGEST_MESSAGE,
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
        server = self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[listening])), name="monitor", daemon=True
        )
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(_START_TIMEOUT_S / 0.02)):
            if server.started:
                return self
            if not self._thread.is_alive():
                break
            waited.wait(0.02)
        raise NimcoError(f"the page cannot be served at {self.url}; look at what was logged before")

    def close(self) -> None:
        """Serve no longer."""
        if self._sessions is not None:
            self._sessions.end()  # and with it the pages that are open
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_END_TIMEOUT_S)


class MonitorProcess:
    """Serves the page in a process of its own, which begins when a browser first asks for it.

    Its address is known at once. Use as a context manager.

    Parameters
    ----------
    tiled_uri, api_key
        As for `Monitor`.
    port : int
        0 takes a free one.
    """

    def __init__(self, tiled_uri: str, api_key: str, *, port: int = 0) -> None:
        check_packages()
        self._tiled_uri = tiled_uri
        self._listening = listen("127.0.0.1", port)
        self.port = self._listening.getsockname()[1]
        self.browser_url = with_key(f"http://127.0.0.1:{self.port}/", api_key)
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._waiting = threading.Thread(target=self._wait_for_browser, name="monitor link", daemon=True)
        self._waiting.start()

    def __enter__(self) -> "MonitorProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process: it ends with its standard input."""
        self._ended.set()
        self._waiting.join(_END_TIMEOUT_S)
        self._listening.close()
        if self._process is None:
            return
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_for_browser(self) -> None:
        """Start the process at the first connection, which waits for it in the socket, and again where it fails."""
        for _ in range(_MOST_STARTS):
            # Not `select.select`, which takes no descriptor above 1023.
            with selectors.DefaultSelector() as selector:
                selector.register(self._listening, selectors.EVENT_READ)
                while not selector.select(_LOOK_S):
                    if self._ended.is_set():
                        return
            descriptor = self._listening.fileno()
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "nimco.monitor", self._tiled_uri, str(descriptor)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[descriptor],
                start_new_session=True,
            )
            while process.poll() is None:
                if self._ended.wait(_LOOK_S):
                    return
            _LOG.warning("the process of the page in the browser ended (exit code %d)", process.returncode)
        self._listening.close()  # a browser is told at once that nobody is there
        _LOG.warning("the page in the browser is given up; start it with: nimco monitor %s", self._tiled_uri)


def with_key(url: str, api_key: str | None) -> str:
    """Return an address that signs in, where there is a key to do so with."""
    return url if not api_key else f"{url}?api_key={api_key}"
