"""A headless Chromium, driven through its DevTools protocol."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from ._waiting import wait_until

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_START_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 60.0
_POLL_S = 0.02


def browser_program() -> str | None:
    """Return the path of a Chromium on this machine, None where there is none."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


class BrowserError(Exception):
    """The browser does not start, a page raised an error, or something did not happen in time."""


class Browser:
    """A headless Chromium with a profile of its own, which goes with it. Use as a context manager.

    Parameters
    ----------
    width, height : int
        Size of its pages, in pixels.

    Raises
    ------
    BrowserError
        There is no Chromium here, or it does not start.
    """

    def __init__(self, width: int = 1280, height: int = 800) -> None:
        self._size = width, height
        self._pages: list[Page] = []

    def __enter__(self) -> "Browser":
        program = browser_program()
        if program is None:
            raise BrowserError(f"there is no Chromium here (looked for {', '.join(_NAMES)})")
        self._profile = TemporaryDirectory(prefix="nimco-browser-", ignore_cleanup_errors=True)
        port_file = Path(self._profile.name) / "DevToolsActivePort"
        width, height = self._size
        self._process = subprocess.Popen(
            [
                program,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--hide-scrollbars",
                "--remote-debugging-port=0",
                f"--user-data-dir={self._profile.name}",
                f"--window-size={width},{height}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(
                lambda: port_file.exists() and port_file.read_text().count("\n") >= 1,
                timeout_s=_START_TIMEOUT_S,
            )
        except BaseException:
            self.close()
            raise
        self._port = int(port_file.read_text().split()[0])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        for page in self._pages:
            page.leave()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    def open(self, url: str = "about:blank") -> "Page":
        """Open a page in a new tab."""
        made = httpx.put(f"http://127.0.0.1:{self._port}/json/new?about:blank", timeout=_START_TIMEOUT_S)
        made.raise_for_status()
        about = made.json()
        page = Page(about["webSocketDebuggerUrl"], self._size)
        page.close_url = f"http://127.0.0.1:{self._port}/json/close/{quote(about['id'])}"
        self._pages.append(page)
        if url != "about:blank":
            page.go(url)
        return page


class Page:
    """One tab of a `Browser`."""

    def __init__(self, address: str, size: tuple[int, int]) -> None:
        from websockets.sync.client import connect

        self._closing = ExitStack()
        self._socket = self._closing.enter_context(connect(address, max_size=None))
        self._number = 0
        self.errors: list[str] = []
        self.close_url = ""
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=1,
            mobile=False,
        )

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol and return its answer.

        Raises
        ------
        BrowserError
            The browser refuses it or does not answer.
        """
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        deadline = time.monotonic() + _ANSWER_TIMEOUT_S
        while (left := deadline - time.monotonic()) > 0:
            with suppress(TimeoutError):
                message = json.loads(self._socket.recv(left))
                if message.get("id") == self._number:
                    if "error" in message:
                        raise BrowserError(f"{method}: {message['error'].get('message')}")
                    result: dict[str, Any] = message["result"]
                    return result
                if message.get("method") == "Runtime.exceptionThrown":
                    about = message["params"]["exceptionDetails"]
                    self.errors.append(str(about.get("exception", {}).get("description", about["text"])))
        raise BrowserError(f"the browser has not answered {method} within {_ANSWER_TIMEOUT_S:g} s")

    def go(self, url: str) -> None:
        """Load an address and wait until its document and scripts are there."""
        answer = self.call("Page.navigate", url=url)
        if "errorText" in answer:
            raise BrowserError(f"{url}: {answer['errorText']}")
        self.wait_for("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """Evaluate JavaScript, wait for its promise, and return the value.

        Raises
        ------
        BrowserError
            It throws.
        """
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            about = answer["exceptionDetails"]
            raise BrowserError(str(about.get("exception", {}).get("description", about["text"])))
        return answer["result"].get("value")

    def wait_for(self, script: str, *, timeout_s: float = 60.0) -> Any:
        """Evaluate JavaScript until it gives something true, and return that.

        Raises
        ------
        BrowserError
            It does not within the time allowed.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                found = self.run(script)
            except BrowserError as error:  # a page that is being replaced has no context to run it in
                found, said = None, str(error)
            else:
                said = ""
            if found:
                return found
            if time.monotonic() > deadline:
                raise BrowserError(f"not within {timeout_s:g} s: {script} {said} {' '.join(self.errors)}")
            time.sleep(_POLL_S)

    def centre_of(self, selector: str) -> tuple[float, float]:
        """Return where the centre of an element is on the page, in pixels."""
        self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'nearest'}})")
        x, y = self.run(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        return x, y

    def click(self, where: str | tuple[float, float], *, count: int = 1) -> None:
        """Click an element (by its selector) or a place on the page."""
        x, y = self.centre_of(where) if isinstance(where, str) else where
        self.move((x, y))
        for kind in ("mousePressed", "mouseReleased"):
            self._mouse(kind, x, y, buttons=1 if kind == "mousePressed" else 0, clickCount=count)

    def drag(self, places: Sequence[tuple[float, float]]) -> None:
        """Press the mouse at the first place, move it over the others and let go at the last."""
        self.move(places[0])
        self._mouse("mousePressed", *places[0], buttons=1, clickCount=1)
        for place in places[1:]:
            self._mouse("mouseMoved", *place, buttons=1)
        self._mouse("mouseReleased", *places[-1], buttons=0, clickCount=1)

    def move(self, place: tuple[float, float]) -> None:
        """Move the mouse, over this tab: one that another covers gets no events."""
        self.call("Page.bringToFront")
        self._mouse("mouseMoved", *place, buttons=0)

    def type(self, text: str) -> None:
        """Type into the element that has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path | str) -> None:
        """Write a picture of the page (PNG)."""
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def leave(self) -> None:
        """Let go of the tab."""
        with suppress(Exception):
            self._closing.close()

    def close(self) -> None:
        """Close the tab."""
        self.leave()
        with suppress(httpx.HTTPError):
            httpx.get(self.close_url)

    def _mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", **more)
