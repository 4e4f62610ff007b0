"""Nothing of the embedded server answers without its key: the check that stands before every route."""

import secrets
from html import escape
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, JSONResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_COOKIE = "tiled_api_key"
# The health check, and what Tiled's client asks before it sends its key: versions, and that a key is needed.
_OPEN = ("/healthz", "/api/v1/")
_POLICY_VIOLATION = 1008


class KeyGuard:
    """An ASGI application that passes on what carries the key and refuses everything else.

    Tiled checks keys route by route, and some of its routes (``/zarr/v2``, ``/zarr/v3``, ``/docs``, ...) do
    not. Here whatever is not named is refused, over HTTP and WebSocket: a route that a new release adds is
    guarded like the others. Without a key only the health check answers, and the description of the server
    that Tiled's client reads before it sends its key: nothing that was measured is in either. The pages for a
    browser answer with a form that asks for the key (status 401).

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    api_key : str
        Taken where Tiled takes it: ``?api_key=``, the header ``Authorization: Apikey ...``, or the cookie.
    """

    def __init__(self, app: "ASGIApp", api_key: str) -> None:
        if not api_key:
            raise ValueError("a server without a key would be open to everybody")
        self.app = app
        self._api_key = api_key.encode()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Pass one connection on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        given = _given_key(HTTPConnection(scope))
        # Bytes, because a key with other than ASCII characters would raise; the comparison takes the same time
        # however much of the key is right.
        if given is not None and secrets.compare_digest(given.encode("utf-8", "replace"), self._api_key):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        elif given is None and scope["method"] == "GET" and scope["path"] in _OPEN:
            await self.app(scope, receive, send)
        else:
            await _refusal(scope, wrong=given is not None)(scope, receive, send)


def _given_key(connection: HTTPConnection) -> str | None:
    """Return the key that a request carries; where it carries several, the one that Tiled would take."""
    if key := connection.query_params.get("api_key"):
        return key
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "apikey" and key.strip():
        return key.strip()
    return connection.cookies.get(_COOKIE) or None


def _refusal(scope: "Scope", *, wrong: bool) -> Response:
    path = scope["path"]
    headers = {"Cache-Control": "no-store"}
    reason = "The key is not the one of this server." if wrong else "This server answers to its key only."
    if scope["method"] in ("GET", "HEAD") and (path in ("/", "/ui") or path.startswith("/ui/")):
        headers |= {
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
            "Referrer-Policy": "no-referrer",
        }
        return HTMLResponse(_SIGN_IN.replace("REASON", escape(reason)), 401, headers)
    detail = f"{reason} Send it as the header 'Authorization: Apikey ...' (it is in the file api_key)."
    return JSONResponse({"detail": detail}, 401, headers)


_SIGN_IN = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>nimco: key needed</title>
<style>
body { font-family: sans-serif; max-width: 34em; margin: 4em auto; padding: 0 1em; line-height: 1.5 }
input { width: 100%; box-sizing: border-box; padding: .5em; margin: .5em 0 1em; font: inherit }
button { padding: .5em 1.5em; font: inherit }
</style>
</head>
<body>
<h1>Key needed</h1>
<p>REASON Open the link with the key that was printed when the server started, or enter the key here. It is in
the file <code>api_key</code> of the data directory.</p>
<form method="get">
<label>Key <input type="password" name="api_key" required autofocus autocomplete="current-password"></label>
<button>Open</button>
</form>
</body>
</html>
"""
