"""Signing in: the key is asked for once, and a cookie stands for it from then on."""

import secrets
import threading
from collections import OrderedDict
from html import escape

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, Response

from ._viewer import Viewer

_MOST_SESSIONS = 500
_MOST_VIEWERS = 50


class Sessions:
    """Who has signed in. The cookie is a random word: other servers on this machine, which get it too, learn no key.

    Parameters
    ----------
    uri : str
        Address of the Tiled server.
    port : int
        Of the page: cookies of one machine are not told apart by their port.
    """

    def __init__(self, uri: str, port: int) -> None:
        self._uri = uri
        self._cookie = f"nimco_monitor_{port}"
        self._viewers: OrderedDict[str, Viewer] = OrderedDict()
        self._keys: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()
        self.ended = threading.Event()

    def viewer_of(self, connection: HTTPConnection) -> Viewer | None:
        """Return whom a connection belongs to; None where its cookie is none of ours."""
        with self._lock:
            return self._viewers.get(self._keys.get(connection.cookies.get(self._cookie, ""), ""))

    def sign_in(self, api_key: str) -> str:
        """Return a new session for a key.

        Raises
        ------
        NimcoError
            The server does not answer or refuses the key.
        """
        with self._lock:
            known = api_key in self._viewers
        viewer = None if known else Viewer(self._uri, api_key)
        with self._lock:
            if viewer is not None and api_key not in self._viewers:
                self._viewers[api_key] = viewer
            self._viewers.move_to_end(api_key)
            while len(self._viewers) > _MOST_VIEWERS:
                self._viewers.popitem(last=False)[1].end()
            token = secrets.token_urlsafe(32)
            self._keys[token] = api_key
            while len(self._keys) > _MOST_SESSIONS:
                self._keys.popitem(last=False)
        return token

    def sign_out(self, connection: HTTPConnection) -> None:
        """Forget a session."""
        with self._lock:
            self._keys.pop(connection.cookies.get(self._cookie, ""), None)

    def remember(self, response: Response, token: str) -> Response:
        """Put the cookie of a session into a response."""
        response.set_cookie(self._cookie, token, httponly=True, samesite="strict", path="/")
        return response

    def end(self) -> None:
        """Forget everybody, and end the pages that are open."""
        self.ended.set()
        with self._lock:
            for viewer in self._viewers.values():
                viewer.end()
            self._viewers.clear()
            self._keys.clear()


def sign_in_page(uri: str, problem: str = "") -> Response:
    """Return the page that asks for the key: all that is seen without one."""
    said = f'<p class="problem" id="problem">{escape(problem)}</p>' if problem else ""
    page = _PAGE.replace("SERVER", escape(uri)).replace("PROBLEM", said)
    return HTMLResponse(page, 401)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>nimco monitor: key needed</title>
<link rel="icon" href="data:,">
<style>
body { font: 16px/1.5 system-ui, sans-serif; background: #f4f5f7; color: #1d2530; margin: 0 }
main { max-width: 30em; margin: 12vh auto; padding: 2em; background: #fff; border: 1px solid #d9dde3 }
h1 { font-size: 1.3em; margin: 0 0 .5em }
input { width: 100%; box-sizing: border-box; padding: .5em; margin: .3em 0 1em; font: inherit }
button { padding: .5em 1.5em; font: inherit; background: #1f5fa8; color: #fff; border: 0; border-radius: 4px }
.problem { color: #a11d1d; font-weight: 600 }
</style>
</head>
<body><main>
<h1>Key needed</h1>
PROBLEM
<p>This page shows the measurements of the Tiled server at SERVER to those who have a key for it. Open the link that was
printed when the page was started, or enter the key: that of <code>nimco serve</code> is in the file
<code>api_key</code> of the data directory.</p>
<form method="post" action="/sign-in">
<label>Key <input type="password" name="api_key" id="key" required autofocus autocomplete="current-password"></label>
<button id="open">Open</button>
</form>
</main></body>
</html>
"""
