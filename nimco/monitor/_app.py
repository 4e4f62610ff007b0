"""The application: pages, their files, the WebSocket, thumbnails and exports; all but signing in needs a session."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import bokeh
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from callbacks import CallbackError, StoredResult
from nimco.errors import NimcoError

from ._live_page import LivePage
from ._palettes import palettes
from ._plain import plain
from ._region_files import csv_of, xdi_of
from ._region_spectra import RegionResult
from ._sign_in import Sessions, sign_in_page
from ._versions import stored_version
from ._viewer import Viewer

_STATIC = Path(__file__).with_name("static")
_PLOTS = Path(bokeh.__file__).parent / "server" / "static" / "js"
_PLOT_SCRIPTS = ("bokeh.min.js", "bokeh-api.min.js")
_MOST_FORM_BYTES = 10_000
_POLICY_VIOLATION = 1008
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _Headers:
    """Puts the headers that every answer has into those that do not say otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in _HEADERS.items()
                        if name.lower().encode() not in there
                    ),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def build_app(tiled_uri: str, sessions: Sessions) -> ASGIApp:
    """Return the application.

    Parameters
    ----------
    tiled_uri : str
        Address of the Tiled server, for the page that asks for its key.
    sessions : Sessions
        Who has signed in.
    """

    async def signed_in(api_key: str) -> Response:
        try:
            token = await run_in_threadpool(sessions.sign_in, api_key)
        except NimcoError as error:
            return sign_in_page(tiled_uri, str(error))
        return sessions.remember(RedirectResponse("/", 303), token)

    async def page(request: Request) -> Response:
        if api_key := request.query_params.get("api_key"):
            return await signed_in(api_key)
        if sessions.viewer_of(request) is None:
            return sign_in_page(tiled_uri)
        return FileResponse(_STATIC / "monitor.html")

    async def sign_in(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MOST_FORM_BYTES:
                return sign_in_page(tiled_uri, "That is no key.")
        api_key = parse_qs(body.decode("utf-8", "replace")).get("api_key", [""])[0].strip()
        return await signed_in(api_key) if api_key else sign_in_page(tiled_uri, "Enter a key.")

    async def sign_out(request: Request) -> Response:
        sessions.sign_out(request)
        return RedirectResponse("/", 303)

    def file(request: Request, _: Viewer) -> Response:
        name = request.path_params["name"]
        folder = _PLOTS if name in _PLOT_SCRIPTS else _STATIC
        if name not in _PLOT_SCRIPTS and name not in {path.name for path in _STATIC.iterdir()}:
            return PlainTextResponse("There is no such file.", 404)
        cache = {"Cache-Control": "private, max-age=86400"} if folder is _PLOTS else None
        return FileResponse(folder / name, headers=cache)

    def colours(_: Request, __: Viewer) -> Response:
        return JSONResponse(palettes(), headers={"Cache-Control": "private, max-age=86400"})

    def thumbnail(request: Request, viewer: Viewer) -> Response:
        uid, name, key = (request.path_params[part] for part in ("uid", "name", "key"))
        pixels = viewer.frames(uid, name).thumbnail(key)
        if pixels is None:
            return PlainTextResponse("There is no such frame.", 404)
        headers = {"X-Rows": str(pixels.shape[0]), "X-Columns": str(pixels.shape[1])}
        return Response(pixels.tobytes(), media_type="application/octet-stream", headers=headers)

    def export(request: Request, viewer: Viewer) -> Response:
        uid, name, region_id = (request.path_params.get(part) for part in ("uid", "name", "region"))
        try:
            about = _about(stored_version(viewer.client, str(uid), str(name)))
        except CallbackError as error:
            return PlainTextResponse(str(error), 404)
        regions = viewer.regions(str(uid), str(name)).regions
        spectra = viewer.spectra(str(uid), str(name))
        results: list[RegionResult] = [
            spectra.of(region) for region in regions if region_id in (None, region.id)
        ]
        if not results:
            return PlainTextResponse("There is no such region; set one and keep it first.", 404)
        if region_id is None:
            return _download(csv_of(results, about), f"{name}_{str(uid)[:8]}_regions.csv", "text/csv")
        if results[0].spectrum is None:
            return PlainTextResponse(results[0].note, 404)
        file_name = f"{name}_{str(uid)[:8]}_{results[0].region.name}.xdi"
        return _download(xdi_of(results[0], about), file_name, "text/plain")

    def guarded(answer: Any) -> Any:
        async def endpoint(request: Request) -> Response:
            viewer = sessions.viewer_of(request)
            if viewer is None:
                return PlainTextResponse("Sign in first.", 401)
            response: Response = await run_in_threadpool(answer, request, viewer)
            return response

        return endpoint

    async def live(socket: WebSocket) -> None:
        viewer = sessions.viewer_of(socket)
        origin = urlsplit(socket.headers.get("origin", ""))
        # A page of somebody else in the same browser cannot open it, whatever cookies the browser adds.
        if viewer is None or origin.netloc != socket.headers.get("host"):
            await socket.close(_POLICY_VIOLATION)
            return
        await socket.accept()
        await LivePage(socket, viewer, sessions.ended).serve()

    routes = [
        Route("/", page, methods=["GET"]),
        Route("/sign-in", sign_in, methods=["POST"]),
        Route("/sign-out", sign_out, methods=["POST"]),
        Route("/files/{name}", guarded(file), methods=["GET"]),
        Route("/colours.json", guarded(colours), methods=["GET"]),
        Route("/thumbnails/{uid}/{name}/{key}", guarded(thumbnail), methods=["GET"]),
        Route("/regions/{uid}/{name}.csv", guarded(export), methods=["GET"]),
        Route("/regions/{uid}/{name}/{region}.xdi", guarded(export), methods=["GET"]),
        WebSocketRoute("/live", live),
    ]
    return _Headers(Starlette(routes=routes))


def _about(stored: StoredResult) -> dict[str, Any]:
    """Return what a file says of the measurement."""
    sample = plain(stored.attrs.get("sample"))
    return {
        "run": stored.attrs.get("raw_uid"),
        "edge": stored.attrs.get("edge"),
        "sample": sample.get("name") if isinstance(sample, dict) else sample,
        "method": stored.attrs.get("method"),
        "definition": stored.attrs.get("definition"),
        "frames": f"{stored.attrs.get('n_frames')} of {stored.attrs.get('frames_expected')}",
        "warnings": "; ".join(plain(stored.attrs.get("warnings")) or []),
        "references": json.dumps(plain(stored.attrs.get("reference_sources"))),
    }


def _download(text: str, name: str, kind: str) -> Response:
    return Response(
        text,
        media_type=kind,
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"},
    )
