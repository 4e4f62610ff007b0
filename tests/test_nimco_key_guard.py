"""Nothing but the health check answers without the key: every route, every method, over HTTP and WebSocket."""

import asyncio
import http.client
import re
import secrets
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import Engine, event
from tiled.client import from_uri
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from callbacks import LiveSOC, RawRunWriter, SOCPublisher
from nimco._key_guard import KeyGuard
from nimco._server_process import build_server

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
OPEN = ("/healthz", "/api/v1/")
SAMPLE = "SECRET-CELL-7"
WRONG = "0" * 64
CARRIERS = {
    "no key": ("", {}),
    "wrong header": ("", {"Authorization": f"Apikey {WRONG}"}),
    "wrong query": (f"?api_key={WRONG}", {}),
    "wrong cookie": ("", {"Cookie": f"tiled_api_key={WRONG}"}),
    "empty": ("?api_key=", {"Authorization": "Apikey ", "Cookie": "tiled_api_key="}),
    "other scheme": ("", {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."}),
    "not ASCII": ("?api_key=%C3%A9%FF", {"Authorization": "Apikey \xe9\xff"}),
}


@pytest.fixture(scope="module")
def stored(tiled_server, scan_documents):
    """Uid of a run that is stored with its map, and whose sample must not be told to strangers."""
    documents = scan_documents((8, 8)).run(sample={"name": SAMPLE})
    with (
        RawRunWriter(tiled_server.raw, spool_dir=tiled_server.data_dir / "spool") as writer,
        SOCPublisher(tiled_server.maps, raw_container=tiled_server.raw) as publisher,
        LiveSOC(subscribers=[publisher]) as live,
    ):
        for name, doc in documents:
            writer(name, doc)
            live(name, doc)
        writer.wait(240)
        live.wait(240)
        publisher.wait(240)
    uid = documents[0][1]["uid"]
    with_key = ask(tiled_server, "GET", f"/zarr/v3/raw/{uid}/zarr.json?api_key={tiled_server.api_key}")
    assert with_key[0] == 200
    assert SAMPLE in with_key[2]
    return uid


def ask(server, method, target, headers=()):
    """Send a request line as it is; return status, headers and body."""
    connection = http.client.HTTPConnection(urlsplit(server.uri).netloc, timeout=30)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in dict(headers).items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode("latin1")
    finally:
        connection.close()


def walk(routes, prefix=""):
    """Yield the path of every route, those of mounted and included applications too."""
    for route in routes:
        path = prefix + getattr(route, "path", "")
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from walk(inner.routes, path + route.include_context.prefix)
        elif getattr(route, "routes", None):
            yield from walk(route.routes, path)
        else:
            assert hasattr(route, "path"), f"a route of a kind this walk does not know: {route!r}"
            yield path


def paths_of(server, uid, tmp_path):
    application = build_server(tmp_path, "key", []).config.app.app
    listed = httpx.get(f"{server.uri}/openapi.json", params={"api_key": server.api_key}).json()["paths"]
    patterns = {*walk(application.routes), *listed}
    # What a walk that finds nothing would not notice.
    assert len(patterns) > 40
    assert any(pattern.startswith("/zarr/v3") for pattern in patterns)
    assert "/api/v1/stream/single/{path:path}" in patterns
    nodes = (f"raw/{uid}", f"raw/{uid}/primary/camera_image", f"maps/{uid}/Ni_K/soc", "raw", "")
    for pattern in patterns:
        for node in nodes if "{path" in pattern else ("",):
            filled = re.sub(r"\{path[^}]*\}", node, pattern)
            yield re.sub(r"\{[^}]*\}", "0", filled)


def assert_refused(answer, *, page):
    status, headers, body = answer
    assert status == 401
    assert SAMPLE not in body
    assert "set-cookie" not in {name.lower() for name in headers}
    if body:
        assert ("<form" in body) == page
        assert page or set(httpx.Response(status, text=body).json()) == {"detail"}


def test_no_route_answers_without_the_key(tiled_server, stored, tmp_path):
    paths = sorted(
        {*paths_of(tiled_server, stored, tmp_path), "/static/favicon.ico", "/ui/assets/", "/nowhere"}
    )
    for path in paths:
        page = path == "/" or path.startswith("/ui")
        for method in METHODS:
            if not (path in OPEN and method == "GET"):
                assert_refused(ask(tiled_server, method, path), page=page and method in ("GET", "HEAD"))
        for carrier, (query, headers) in CARRIERS.items():
            if not (path in OPEN and carrier in ("no key", "empty", "other scheme")):
                assert_refused(ask(tiled_server, "GET", path + query, headers), page=page)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_no_path_trick_gets_around_the_check(tiled_server, stored, carrier):
    query, headers = CARRIERS[carrier]
    node = f"raw/{stored}"
    for path in (
        f"//zarr/v3/{node}/zarr.json",
        f"/zarr/v2/../v3/{node}/zarr.json",
        f"/healthz/../zarr/v3/{node}/zarr.json",
        f"/healthz%2f..%2fzarr/v3/{node}/zarr.json",
        f"/ui/../zarr/v3/{node}/zarr.json",
        f"/ui/%2e%2e/zarr/v3/{node}/zarr.json",
        f"/static/..%2f..%2fzarr/v3/{node}/zarr.json",
        f"/%7aarr/v3/{node}/zarr.json",
        f"/ZARR/v3/{node}/zarr.json",
        f"/zarr/v3/{node}/zarr.json/",
        f"/zarr/v3/{node}/",
        f"/zarr/v3/{node}/zarr.json;/healthz",
        f"/zarr/v3/{node}/zarr.json%00/healthz",
        "/healthz/",
        "//healthz",
        "/healthz%20",
        "/docs/",
        "/openapi.json/",
        f"{tiled_server.uri}/zarr/v3/{node}/zarr.json",
    ):
        status, _, body = ask(tiled_server, "GET", path + query, headers)
        assert status in (400, 401), path
        assert SAMPLE not in body
        assert "zarr_format" not in body


def test_forwarding_headers_and_preflights_open_nothing(tiled_server, stored):
    path = f"/zarr/v3/raw/{stored}/zarr.json"
    for headers in (
        {"X-Original-URL": "/healthz", "X-Rewrite-URL": "/healthz"},
        {"X-Forwarded-Prefix": "/healthz", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "127.0.0.1"},
        {"X-HTTP-Method-Override": "OPTIONS"},
        {"Origin": tiled_server.uri},
    ):
        assert_refused(ask(tiled_server, "GET", path, headers), page=False)
    preflight = {
        "Origin": "http://elsewhere.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = ask(tiled_server, "OPTIONS", path, preflight)
    assert_refused(answer, page=False)
    assert not [name for name in answer[1] if name.lower().startswith("access-control")]


def test_no_stream_opens_without_the_key(tiled_server, stored, tmp_path):
    address = tiled_server.uri.replace("http://", "ws://")
    paths = {path for path in paths_of(tiled_server, stored, tmp_path) if "stream" in path or "zarr" in path}
    for path in {*paths, "/", "/healthz", "/ui/", "/api/graphql", "/nowhere"}:
        for query, headers in (*list(CARRIERS.values())[:4], ("?envelope_format=json&start=0", {})):
            with (
                pytest.raises(InvalidStatus, match="403"),
                connect(address + path + query, additional_headers=headers, open_timeout=20, proxy=None),
            ):
                pass
    node = f"/api/v1/stream/single/maps/{stored}/Ni_K/soc?envelope_format=json&start=0"
    allowed = {"Authorization": f"Apikey {tiled_server.api_key}"}
    with connect(address + node, additional_headers=allowed, open_timeout=20, proxy=None) as stream:
        assert stream.recv(timeout=20)


def test_the_key_opens_by_header_query_and_cookie(tiled_server, stored):
    key = tiled_server.api_key
    for path in (f"/zarr/v3/raw/{stored}/zarr.json", f"/api/v1/metadata/raw/{stored}", "/ui/browse", "/docs"):
        for query, headers in (
            ("", {"Authorization": f"Apikey {key}"}),
            ("", {"Authorization": f"apikey {key}"}),
            (f"?api_key={key}", {}),
            ("", {"Cookie": f"other=1; tiled_api_key={key}"}),
        ):
            assert ask(tiled_server, "GET", path + query, headers)[0] == 200, path


def test_a_browser_is_asked_for_the_key_and_then_let_in(tiled_server):
    with httpx.Client(base_url=tiled_server.uri, follow_redirects=True, trust_env=False) as browser:
        asked = browser.get("/ui/")
        assert asked.status_code == 401
        assert "enter the key here" in asked.text
        (field,) = re.findall(r'name="(\w+)" required', asked.text)
        assert "not the one of this server" in browser.get("/ui/", params={field: WRONG}).text
        opened = browser.get("/ui/", params={field: tiled_server.api_key})
        assert opened.status_code == 200
        script = re.search(r'src="(/ui/assets/[^"]+)"', opened.text)[1]
        assert browser.get(script).status_code == 200
        assert browser.get("/api/v1/search/").json()["data"]


def test_a_client_without_the_key_sees_nothing_measured(tiled_server, stored):
    with pytest.raises(RuntimeError, match="requires API key authentication"):
        list(from_uri(tiled_server.uri, api_key=None))
    assert ask(tiled_server, "GET", "/healthz")[2] == '{"status":"ready"}'
    about = ask(tiled_server, "GET", "/api/v1/")[2]
    assert stored not in about
    assert SAMPLE not in about
    assert str(tiled_server.data_dir) not in about


def test_a_request_costs_no_analysis_of_signatures(tmp_path, monkeypatch):
    guarded = build_server(tmp_path, "key", []).config.app

    def analysed(**about):
        raise AssertionError(f"analysed anew: {about}")

    async def ask():
        async with (
            guarded.app.router.lifespan_context(guarded.app),
            httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://here") as client,
        ):
            for key, status in (("key", 200), ("key", 200), ("other", 401)):
                answer = await client.get("/api/v1/metadata/", params={"api_key": key})
                assert answer.status_code == status
                monkeypatch.setattr("fastapi.dependencies.utils.get_dependant", analysed)

    asyncio.run(ask())


def test_a_node_is_found_by_one_statement_however_deep_it_is(tmp_path):
    guarded = build_server(tmp_path, "key", []).config.app
    statements, path = [], "/"

    async def ask():
        nonlocal path
        async with (
            guarded.app.router.lifespan_context(guarded.app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(guarded),
                base_url="http://here/api/v1",
                headers={"Authorization": "Apikey key"},
            ) as client,
        ):
            for key in ("a", "b", "c"):
                node = {
                    "id": key,
                    "structure_family": "container",
                    "metadata": {"at": key},
                    "data_sources": [],
                }
                made = await client.post(f"/metadata{path}", json={**node, "specs": [], "access_tags": None})
                assert made.status_code == 200
                path = f"{path.rstrip('/')}/{key}"
            event.listen(Engine, "before_cursor_execute", note)
            found = await client.get(f"/metadata{path}")
            event.remove(Engine, "before_cursor_execute", note)
            assert found.json()["data"]["attributes"]["metadata"] == {"at": "c"}
            for missing in ("/metadata/a/c", "/metadata/a/b/c/d", "/metadata/b", "/array/full/a/b"):
                answer = await client.get(missing)
                assert answer.status_code == 404, missing
            assert "structure family" in answer.text

    def note(connection, cursor, statement, *others):
        statements.append(statement)

    asyncio.run(ask())
    assert "JOIN nodes" in statements[0]
    assert len(statements) <= 2  # and how many are below it


def test_a_key_need_not_be_ascii_and_an_empty_one_is_refused():
    async def application(scope, receive, send):
        passed.append(scope["type"])

    async def send(message):
        sent.append(message)

    def through(key, path="/zarr/v3", kind="http"):
        headers = [(b"cookie", f"tiled_api_key={key}".encode("latin1"))]
        scope = {"type": kind, "path": path, "method": "GET", "headers": headers, "query_string": b""}
        asyncio.run(guard(scope, None, send))

    passed, sent = [], []
    key = secrets.token_hex(8)
    guard = KeyGuard(application, key)
    through("é" + key)
    through(key[:-1])
    assert passed == []
    assert [message["status"] for message in sent if "status" in message] == [401, 401]
    through(key)
    assert passed == ["http"]
    with pytest.raises(ValueError, match="open to everybody"):
        KeyGuard(application, "")
