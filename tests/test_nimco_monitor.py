"""The page in a real browser, over a real Tiled server: maps that change, spectra of regions, keys, many viewers."""

import http.client
import io
import json
import os
import resource
import signal
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pandas as pd
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from callbacks import LiveSOC, RawRunWriter, SOCPublisher, open_soc
from nimco import NimcoError
from nimco._cmd_monitor import monitor as monitor_command
from nimco.monitor import Monitor, MonitorProcess
from nimco.testing import Browser, browser_program, play, wait_until

needs_browser = pytest.mark.skipif(browser_program() is None, reason="there is no Chromium on this machine")
SHAPE = (40, 48)
READY = "window.nimco && nimco.head && nimco.frames && nimco.frames.is_read"


class Scan:
    """A scan whose documents are given out step by step, analysed and published as a session does it."""

    def __init__(self, server, scan, steps=None, **md):
        self.truth = scan
        self.documents = scan.run(steps, **md)
        self.uid = self.documents[0][1]["uid"]
        self._writer = RawRunWriter(server.raw)
        self._publisher = SOCPublisher(server.maps, raw_container=server.raw)
        self._live = LiveSOC(subscribers=[self._publisher])

    def __enter__(self):
        return self

    def __exit__(self, *about):
        self._live.close()
        self._publisher.close()
        self._writer.close()

    def step(self, n_documents=None):
        """Play so many documents more, or all, and wait until what they give is published."""
        now, self.documents = (
            self.documents[:n_documents],
            self.documents[n_documents or len(self.documents) :],
        )
        for consumer in (self._writer, self._live):
            play(consumer, now)
        self._writer.wait(240)
        self._live.wait(240)
        self._publisher.wait(240)


@pytest.fixture(scope="module")
def page_server(tiled_server):
    with Monitor(tiled_server.uri, api_key=tiled_server.api_key) as monitor:
        yield monitor


@pytest.fixture(scope="module")
def stored(tiled_server, scan_documents):
    """Return a scan that is over; one frame of it has no light."""
    scan = scan_documents(SHAPE, noise=True, counts=2e4)
    with Scan(tiled_server, scan, sample={"name": "stored electrode"}) as played:
        played.step()
    return played


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


def ask(monitor, method="GET", path="/", body=None, **headers):
    connection = http.client.HTTPConnection(urlsplit(monitor.url).netloc, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


def cookie_of(monitor, key):
    status, headers, _ = ask(monitor, "POST", "/sign-in", f"api_key={key}")
    assert status == 303
    assert "HttpOnly" in headers["set-cookie"]
    assert "samesite=strict" in headers["set-cookie"].lower()
    assert key not in headers["set-cookie"]
    return headers["set-cookie"].partition(";")[0]


def open_run(browser, monitor, uid, edge="Ni_K"):
    page = browser.open(monitor.browser_url)
    page.wait_for("window.nimco && nimco.view")
    button = f"#list button[data-run='{uid}'][data-name='{edge}']"
    page.wait_for(f'document.querySelector("{button}") !== null')
    page.run(f'document.querySelector("{button}").click()')
    page.wait_for(f"nimco.run.uid === '{uid}' && nimco.about && nimco.about.uid === '{uid}'")
    return page


def place(page, row, column):
    """Return where the middle of a pixel of the map is on the page."""
    return page.run(
        "(() => { const box = document.getElementById('drawing').getBoundingClientRect(), view = nimco.view;"
        f" return [box.x + view.left + {column + 0.5} * view.zoom, box.y + view.top + {row + 0.5} * view.zoom]; }})()"
    )


@needs_browser
def test_a_map_is_watched_while_the_scan_runs(tiled_server, scan_documents, page_server, browser):
    scan = scan_documents(SHAPE, noise=True, counts=2e4)
    with Scan(tiled_server, scan, sample={"name": "running electrode"}) as played:
        everything = list(played.documents)
        played.step(3 + 2 + 40)  # start, descriptors, darks, and some twenty frames
        page = open_run(browser, page_server, played.uid)
        page.wait_for("nimco.head && nimco.about.n_frames >= 19")
        # What is said of a map is that of its last frame, not of the one before.
        played.step(2)
        primary = [
            doc["uid"] for name, doc in everything if name == "descriptor" and doc["name"] == "primary"
        ]
        so_far = everything[: len(everything) - len(played.documents)]
        n_given = sum(name == "event" and doc["descriptor"] in primary for name, doc in so_far)
        page.wait_for(f"nimco.about.n_frames === {n_given}")
        drawn, shown = page.run("[nimco.view.n_drawn, nimco.about.n_frames]")
        assert "running" in page.run("document.getElementById('progress-text').textContent")
        # The spectrum of a pixel is there before the scan is over, and grows.
        page.click(place(page, 10, 12))
        page.wait_for("nimco.results.length && nimco.results[0].energy_ev")
        first = page.run("nimco.results[0].energy_ev.length")
        played.step()
        page.wait_for(f"nimco.about.final && nimco.view.n_drawn > {drawn} && nimco.about.n_frames === 36")
        page.wait_for(f"nimco.results[0].energy_ev.length === 36 && {first} < 36")
        assert shown < 36
        result = page.run("nimco.results[0]")
        assert result["values"]["soc"] == pytest.approx(
            scan.soc[10, 12], abs=5 * result["values"]["soc_sigma"]
        )
        assert len(result["curve"]) == 36
        assert page.errors == []


@needs_browser
def test_values_regions_and_ranges(tiled_server, stored, page_server, browser, tmp_path):
    page = open_run(browser, page_server, stored.uid)
    page.wait_for(READY)
    soc = tiled_server.client()["maps"][stored.uid]["Ni_K"]["soc"].read()
    # Full values under the mouse, not those of 255 colours.
    page.move(place(page, 7, 30))
    page.wait_for("nimco.value && nimco.value.row === 7 && nimco.value.column === 30")
    assert page.run("nimco.value.values.soc") == pytest.approx(float(soc[7, 30]), rel=1e-6)
    # A rectangle is drawn, kept, and in Tiled beside the maps, where readers of results pass over it.
    page.click("[data-tool=rectangle]")
    page.drag([place(page, 5, 10), place(page, 9, 14), place(page, 14, 19)])
    page.wait_for("nimco.results.length === 1 && nimco.results[0].n_pixels === 100")
    values = page.run("nimco.results[0].values")
    assert values["soc"] == pytest.approx(stored.truth.soc[5:15, 10:20].mean(), abs=0.01)
    page.click("#keep")
    of_run = tiled_server.client()["maps"][stored.uid]
    wait_until(lambda: "Ni_K@regions" in tiled_server.client()["maps"][stored.uid], 60)
    wait_until(lambda: len(of_run["Ni_K@regions"].read()) == 1, 60)
    kept = page.wait_for("nimco.regions.length === 1 && nimco.regions[0]")
    # Polygon and particle.
    page.click("[data-tool=polygon]")
    for corner in ((2, 2), (2, 20), (20, 2)):
        page.click(place(page, *corner))
    x, y = place(page, 20, 2)
    page.click((x, y), count=2)
    page.wait_for("nimco.probe && nimco.probe.kind === 'polygon' && nimco.results[0].kind === 'polygon'")
    assert 130 < page.run("nimco.results[0].n_pixels") < 200
    page.click("[data-tool=particle]")
    page.click(place(page, 20, 20))
    page.wait_for("nimco.results[0].kind === 'particle' && nimco.results[0].n_pixels > 1000")
    # Other maps and ranges.
    for name, limits in (("edge_energy_ev", 3.0), ("status", None)):
        page.run(
            f"(() => {{ const s = document.getElementById('map'); s.value = '{name}'; s.onchange(); }})()"
        )
        page.wait_for(f"nimco.head.map === '{name}'")
        if limits:
            page.run(
                "(() => { const s = document.getElementById('range'); s.value = 'recentred'; s.onchange(); })()"
            )
            width = page.wait_for("Math.abs(nimco.head.limits[1] - nimco.head.limits[0] - 3) < 1e-6")
            assert width
    assert "ok" in page.run("document.getElementById('ticks').textContent")
    # Exports.
    cookie = cookie_of(page_server, tiled_server.api_key)
    status, _, text = ask(page_server, path=f"/regions/{stored.uid}/Ni_K.csv", cookie=cookie)
    assert status == 200
    table = pd.read_csv(io.StringIO(text), comment="#")
    assert len(table) == 36
    assert np.abs(table["residual"]).max() < 0.02
    status, _, text = ask(page_server, path=f"/regions/{stored.uid}/Ni_K/{kept['id']}.xdi", cookie=cookie)
    assert text.startswith("# XDI/1.0 nimco/")
    assert "# Element.symbol: Ni\n" in text
    columns = np.loadtxt(text.splitlines())
    assert columns.shape == (36, 5)
    assert np.allclose(columns[:, 1], table["optical_depth"], rtol=1e-6)
    page.screenshot(tmp_path / "page.png")
    assert page.errors == []


@needs_browser
def test_two_viewers_set_regions_at_once(tiled_server, stored, page_server, browser):
    before = {row["id"] for row in kept_rows(tiled_server, stored.uid)}
    with Monitor(tiled_server.uri, api_key=tiled_server.api_key) as other:  # another desk
        pages = [open_run(browser, monitor, stored.uid) for monitor in (page_server, other)]
        for page in pages:
            page.wait_for(READY)
        for round_number in range(3):
            for number, page in enumerate(pages):
                page.click(place(page, 3 + round_number, 5 + 10 * number))
                page.run("document.getElementById('keep').click()")
        for page in pages:
            page.wait_for(f"nimco.regions.length === {len(before) + 6}")
        wait_until(lambda: len({row["id"] for row in kept_rows(tiled_server, stored.uid)} - before) == 6, 60)
        # What one removes goes from the other's page too.
        pages[0].run("document.querySelector('#regions td:last-child button').click()")
        pages[1].wait_for(f"nimco.regions.length === {len(before) + 5}")


@needs_browser
def test_alarms_and_former_versions_are_shown(tiled_server, scan_documents, page_server, browser, tmp_path):
    scan = scan_documents(SHAPE, noise=True, counts=2e4)
    steps = scan.steps()
    places = [k for k, step in enumerate(steps) if step[0] == "primary"]
    steps[places[9]] = ("primary", 9, (0.6 * steps[places[9]][2].astype(float)).astype("uint16"))
    steps[places[12]] = ("primary", 12, np.full_like(steps[places[12]][2], 65535))
    with Scan(tiled_server, scan, steps, sample={"name": "alarmed electrode"}) as played:
        everything = list(played.documents)
        played.step(3 + 2 + 50)
        page = open_run(browser, page_server, played.uid)
        page.wait_for("document.querySelectorAll('#alarms li').length > 0")
        assert "since" in page.run("document.getElementById('alarms').textContent")
        played.step()
        page.wait_for("nimco.about.final")
    said = page.wait_for("nimco.about.alarms.length > 1 && document.getElementById('alarms').innerText")
    assert "frame, since" in said
    assert "left out" in said
    assert "saturation, since" in said
    assert "Look at" not in said  # it is over
    # Each is told once, as an alarm or as a warning.
    lines = page.run(
        "[...document.querySelectorAll('#alarms li, #warnings li')].map((line) => line.textContent)"
    )
    about = page.run("nimco.about")
    sentences = [*about["warnings"], *(alarm["sentence"] for alarm in about["alarms"])]
    assert len(lines) == len({text.rstrip(".") for text in sentences})
    page.screenshot(tmp_path / "alarms.png")
    # They are no part of the result that is read back.
    assert "alarms" not in open_soc(tiled_server.client(), played.uid).attrs
    assert page.run("document.getElementById('version-label').hidden")
    # Analysed anew by another method: the former version is there to choose, with its own map.
    publisher = SOCPublisher(tiled_server.maps)
    with LiveSOC(subscribers=[publisher], method="half_jump") as live:
        play(live, everything)
        live.wait(240)
    publisher.wait(240)
    publisher.close()
    page.wait_for("nimco.about.versions.length === 2 && !document.getElementById('version-label').hidden")
    assert page.run("nimco.about.method") == "half_jump"
    page.run("(() => { const s = document.getElementById('version'); s.value = 'Ni_K@1'; s.onchange(); })()")
    page.wait_for(
        "nimco.about && nimco.about.name === 'Ni_K@1' && nimco.head && nimco.about.method === 'series'"
    )
    assert "version 1" in page.run("document.getElementById('title').textContent")
    page.click(place(page, 10, 12))
    page.wait_for("nimco.results.length && nimco.results[0].energy_ev")
    assert page.errors == []


def kept_rows(server, uid):
    of_run = server.client()["maps"][uid]
    return of_run["Ni_K@regions"].read().to_dict("records") if "Ni_K@regions" in of_run else []


@needs_browser
def test_a_wrong_key_is_one_sentence_and_the_key_is_asked_for_once(
    tiled_server, stored, page_server, browser
):
    ask_cookieless = browser.open(page_server.url + "?api_key=wrong")
    said = ask_cookieless.run("document.getElementById('problem').textContent")
    assert "refuses the key" in said
    assert stored.uid not in ask_cookieless.run("document.documentElement.outerHTML")
    ask_cookieless.click("#key")
    ask_cookieless.type(tiled_server.api_key)
    ask_cookieless.click("#open")
    ask_cookieless.wait_for("window.nimco && nimco.head")
    assert tiled_server.api_key not in ask_cookieless.run("location.href + document.cookie")
    ask_cookieless.go(page_server.url)
    ask_cookieless.wait_for("window.nimco && nimco.head")


def test_nothing_answers_without_a_session(tiled_server, stored, page_server):
    paths = (
        "/files/monitor.js", "/files/bokeh.min.js", "/colours.json", "/live", f"/regions/{stored.uid}/Ni_K.csv",
        f"/regions/{stored.uid}/Ni_K/abc.xdi", f"/thumbnails/{stored.uid}/Ni_K/primary-3-0.0", "/nowhere",
    )  # fmt: skip
    for path in paths:
        for cookie in ("", f"nimco_monitor_{page_server.port}=guess"):
            status, headers, body = ask(page_server, path=path, cookie=cookie)
            assert status in (401, 404)
            assert stored.uid not in body
            assert "default-src 'none'" in headers["content-security-policy"]
    assert ask(page_server)[0] == 401
    address = page_server.url.replace("http", "ws") + "live"
    cookie = cookie_of(page_server, tiled_server.api_key)
    for headers in (
        {},
        {"Cookie": "nimco_monitor=1", "Origin": page_server.url.rstrip("/")},
        {"Cookie": cookie, "Origin": "http://evil.example"},
        {"Cookie": cookie},
    ):
        with pytest.raises(InvalidStatus) as refused:
            connect(address, additional_headers=headers)
        assert refused.value.response.status_code == 403
    with connect(
        address, additional_headers={"Cookie": cookie, "Origin": page_server.url.rstrip("/")}
    ) as socket:
        assert json.loads(socket.recv(60))["type"] == "list"


def live(monitor, key):
    """Open the WebSocket as a page does."""
    headers = {"Cookie": cookie_of(monitor, key), "Origin": monitor.url.rstrip("/")}
    return connect(monitor.url.replace("http", "ws") + "live", additional_headers=headers, max_size=None)


def heard(socket, fits, timeout_s=60):
    """Return the first message that fits."""
    while True:
        message = socket.recv(timeout_s)
        if isinstance(message, str) and fits(told := json.loads(message)):
            return told


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ({"kind": "point", "points": [[900, 20]]}, "row 900, column 20 is outside the field of 40 x 48"),
        ({"kind": "rectangle", "points": [[-9, -9], [-2, -2]]}, "no pixel of the rectangle is inside the field"),
        ({"kind": "polygon", "points": [[90, 90], [95, 90], [95, 95]]}, "no pixel of the polygon is inside"),
        ({"kind": "rectangle", "points": [[1, 1]]}, "2 to 500 places"),
        ({"kind": "circle", "points": [[1, 1]]}, "A region is one of point"),
        ({"kind": "point", "points": [[float("nan"), 1]]}, "no row and column"),
        ({"kind": "point", "points": "everywhere"}, "1 to 500 places"),
        ("nonsense", "A region is one of point"),
    ],
)  # fmt: skip
def test_regions_that_cannot_be_are_said(tiled_server, stored, page_server, region, said):
    with live(page_server, tiled_server.api_key) as socket:
        socket.send(json.dumps({"do": "open", "uid": stored.uid, "name": "Ni_K"}))
        heard(socket, lambda told: told["type"] == "frames" and told["is_read"])
        socket.send(json.dumps({"do": "probe", "region": region}))

        def says(told):
            notes = [told.get("text", "")] + [result["note"] for result in told.get("results", ())]
            return any(said in note for note in notes)

        heard(socket, says)
        # A rectangle that is partly outside is what of it is inside.
        inside = {"kind": "rectangle", "points": [[-5, -5], [1.5, 2.5]]}
        socket.send(json.dumps({"do": "probe", "region": inside}))
        heard(socket, lambda told: any(r.get("n_pixels") == 6 for r in told.get("results", ())))


def test_runs_that_are_not_there_or_have_no_frames_are_said(tiled_server, scan_documents, page_server):
    with Scan(tiled_server, scan_documents(SHAPE)) as played:
        played._live.close()
        play(played._publisher, [])
        documents = [doc for doc in played.documents if doc[0] in ("start", "stop")]
        documents[-1][1]["num_events"] = {}
        play(played._writer, documents)
        played._writer.wait(240)
    with live(page_server, tiled_server.api_key) as socket:
        for uid, said in (("0" * 32, "there are no maps of run"), (played.uid, "there are no maps of run")):
            socket.send(json.dumps({"do": "open", "uid": uid, "name": "Ni_K"}))
            heard(socket, lambda told, said=said: said in (told.get("problem") or ""))
        for nonsense in ("[]", "{", '{"do": "delete everything"}', '{"do": "value", "row": "x"}'):
            socket.send(nonsense)
            assert heard(socket, lambda told: told["type"] == "notice")["text"]


def test_no_server_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.delenv("TILED_API_KEY", raising=False)
    with pytest.raises(NimcoError, match=r"Tiled does not answer at http://127\.0\.0\.1:9"):
        monitor_command(
            tiled="http://127.0.0.1:9", api_key_file=None, data_dir=tmp_path, port=0, host="127.0.0.1"
        )
    with Monitor("http://127.0.0.1:9") as monitor:
        status, _, body = ask(monitor, "POST", "/sign-in", "api_key=any")
        assert status == 401
        assert "Tiled does not answer at http://127.0.0.1:9" in body


def test_a_browser_that_reads_nothing_holds_nobody_up(tiled_server, stored, page_server):
    with live(page_server, tiled_server.api_key) as slow, live(page_server, tiled_server.api_key) as other:
        slow.send(json.dumps({"do": "open", "uid": stored.uid, "name": "Ni_K"}))
        for _ in range(300):  # nothing of the answers is read
            slow.send(json.dumps({"do": "range", "range": {"mode": "map"}}))
        other.send(json.dumps({"do": "open", "uid": stored.uid, "name": "Ni_K"}))
        heard(other, lambda told: told["type"] == "frames" and told["is_read"])


@needs_browser
def test_ten_pages_watch_one_scan(tiled_server, scan_documents, page_server, browser):
    with Scan(tiled_server, scan_documents(SHAPE, noise=True, counts=2e4)) as played:
        played.step(3 + 2 + 30)
        pages = [open_run(browser, page_server, played.uid) for _ in range(10)]
        named = [thread.name for thread in threading.enumerate()]
        played.step()
        for page in pages:
            page.wait_for("nimco.about.final && nimco.head.n_frames === 36")
            assert page.errors == []
            page.close()
        # Ten pages of one key share what follows the run.
        assert named.count("monitor frames") <= 4
        assert named.count("monitor map") < 10


def test_a_key_that_may_not_write_keeps_regions_here(tiled_server, stored, page_server, monkeypatch):
    def refuse(self, request, *args, **kwargs):
        if request.method in ("PUT", "POST", "PATCH") and "regions" in str(
            request.url
        ) + request.content.decode("latin1"):
            return httpx.Response(403, request=request)
        return send(self, request, *args, **kwargs)

    send = httpx.Client.send
    monkeypatch.setattr(httpx.Client, "send", refuse)
    with Monitor(tiled_server.uri) as monitor, live(monitor, tiled_server.api_key) as socket:
        socket.send(json.dumps({"do": "open", "uid": stored.uid, "name": "Ni_K"}))
        heard(socket, lambda told: told["type"] == "frames" and told["is_read"])
        region = {"kind": "point", "points": [[3, 4]], "name": "here only"}
        socket.send(json.dumps({"do": "keep", "region": region}))
        told = heard(socket, lambda told: told["type"] == "regions" and told["kept_here"])
        assert "may not write" in told["kept_here"]
        assert "here only" in [region["name"] for region in told["regions"]]


def test_a_port_that_is_taken_is_said(page_server):
    with pytest.raises(NimcoError, match="cannot listen on"):
        Monitor("http://127.0.0.1:9", port=page_server.port).start()


@pytest.fixture
def many_files():
    # As in a long session: descriptors above 1023, which `select.select` does not take.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard > 0 else 4096, hard))
    with ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(Path(os.devnull).open())
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_page_in_a_process_of_its_own_starts_when_asked_for_and_again_after_a_kill(tiled_server, caplog):
    with MonitorProcess(tiled_server.uri, tiled_server.api_key) as page:
        for n in (1, 2):
            with httpx.Client(timeout=120, follow_redirects=True) as client:
                answer = client.get(page.browser_url)
            assert answer.status_code == 200
            assert "monitor.js" in answer.text
            command = ["pgrep", "-f", f"nimco.monitor {tiled_server.uri} "]
            (pid,) = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            assert tiled_server.api_key not in Path(f"/proc/{pid}/cmdline").read_text()
            os.kill(int(pid), signal.SIGKILL)
            ended = f"the page in the browser ended (exit code {-signal.SIGKILL:d})"
            wait_until(lambda n=n, ended=ended: caplog.text.count(ended) == n, 60)
