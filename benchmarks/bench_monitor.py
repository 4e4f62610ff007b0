"""The page in the browser: from a frame to a changed pixel, from a click to a spectrum, and what ten pages cost a scan.

    python benchmarks/bench_monitor.py [screen] [click] [pages] [--sizes 512 2048] [--frames 30] [--pages 10]

Everything runs on this machine: a real Tiled server and the page's server in processes of their own, and a headless
Chromium on loopback. "screen" takes the time from the moment a frame is handed to the live analysis until the browser
has drawn a map that holds it (the analysis, Tiled and the page are in it), frame by frame; large maps are drawn
coarsely first. "click" is taken in the page, from the click to the spectrum with its fit, while the scan runs and when
it is over. "pages" compares the time of the RunEngine for a scan of the twin with and without open pages, alternating.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from beamline_plans import xanes_scan
from callbacks import LiveSOC, RawRunWriter, SOCPublisher
from nimco import TiledServer
from nimco._compiling import compile_kernels
from nimco.monitor import MonitorProcess
from nimco.testing import Browser, ScanDocuments, TwinSession, play

# Notes when pictures are on the screen, and whether they are coarse.
NOTE_TIMES = """(() => {
  nimco.drawn = [];
  const show = nimco.view.show.bind(nimco.view);
  nimco.view.show = (head, bytes) => {
    show(head, bytes);
    requestAnimationFrame(() => nimco.drawn.push([Date.now(), head.step > 1 ? "coarse" : "whole"]));
  };
})()"""
MIDDLE = """(() => {
  const box = document.getElementById("drawing").getBoundingClientRect(), view = nimco.view;
  return [box.x + view.left + (ROW + 0.5) * view.zoom, box.y + view.top + (ROW + 0.5) * view.zoom];
})()"""


class Live:
    """A scan whose frames are handed out one by one, analysed, stored and published as a session does it."""

    def __init__(self, server: TiledServer, scan: ScanDocuments, closing: ExitStack) -> None:
        documents = scan.run(self._steps(scan))
        self.uid = str(documents[0][1]["uid"])
        primary = {doc["uid"] for name, doc in documents if name == "descriptor" and doc["name"] == "primary"}
        frames = [
            k for k, (name, doc) in enumerate(documents) if name == "event" and doc["descriptor"] in primary
        ]
        # Each frame with the flat before it; the stop document goes with `finish`.
        self.portions = [documents[a + 1 : b + 1] for a, b in zip([-1, *frames], frames, strict=False)]
        self.rest = documents[frames[-1] + 1 :]
        self.n_given = 0
        self.writer = closing.enter_context(RawRunWriter(server.raw))
        self.publisher = closing.enter_context(SOCPublisher(server.maps, raw_container=server.raw))
        self.live = closing.enter_context(LiveSOC(subscribers=[self.publisher]))

    @staticmethod
    def _steps(scan: ScanDocuments) -> Iterator[tuple[Any, ...]]:
        for repeat in range(2):
            yield "dark", -1, scan.dark.astype("uint16"), {"xanes_repeat": repeat}
        for index in range(scan.energies_ev.size):
            yield "flat", index, scan.flat()
            yield "primary", index, scan.frame(index)

    def _give(self, documents: list[Any]) -> None:
        for consumer in (self.writer, self.live):
            play(consumer, documents)

    def step(self) -> float:
        """Hand out the next frame; return when, in milliseconds since the epoch."""
        *before, frame = self.portions[self.n_given]
        self._give(before)
        self.n_given += 1
        began_ms = time.time() * 1e3
        self._give([frame])
        return began_ms

    def settle(self) -> None:
        """Wait until all that was handed out is stored and published."""
        for part in (self.writer, self.live, self.publisher):
            part.wait(600)

    def finish(self) -> None:
        """Hand out the rest, and wait until it is stored and published."""
        while self.n_given < len(self.portions):
            self.step()
        self._give(self.rest)
        self.settle()


def open_run(browser: Browser, monitor: MonitorProcess, uid: str) -> Any:
    page = browser.open(monitor.browser_url)
    page.call("Page.bringToFront")  # a page behind another one is not painted
    page.wait_for("window.nimco && nimco.view", timeout_s=120)
    button = f"#list button[data-run='{uid}']"
    page.wait_for(f'document.querySelector("{button}") !== null', timeout_s=120)
    page.run(f'document.querySelector("{button}").click()')
    page.wait_for(f"nimco.run.uid === '{uid}' && nimco.head", timeout_s=120)
    return page


def say(what: str, values_ms: list[float], asked_ms: float) -> None:
    if not values_ms:
        print(f"{what:58s} nothing measured", flush=True)
        return
    median, worst = statistics.median(values_ms), max(values_ms)
    print(
        f"{what:58s} median {median:7.0f} ms, worst {worst:7.0f} ms of {len(values_ms):3d}   (asked {asked_ms:.0f})",
        flush=True,
    )


def screen(server: TiledServer, browser: Browser, monitor: MonitorProcess, size: int, n_frames: int) -> None:
    """From a frame to a changed pixel."""
    with ExitStack() as closing:
        live = Live(server, ScanDocuments((size, size), n_energies=n_frames, counts=2e4, noise=True), closing)
        while live.n_given < n_frames // 2:  # until there is a map
            live.step()
        live.settle()
        page = open_run(browser, monitor, live.uid)
        page.run(NOTE_TIMES)
        taken: dict[str, list[float]] = {"coarse": [], "whole": []}
        while live.n_given < n_frames:
            page.run("nimco.drawn = []")
            began_ms = live.step()
            page.wait_for("nimco.drawn.some(([, kind]) => kind === 'whole')", timeout_s=60)
            for at_ms, kind in page.run("nimco.drawn"):
                taken[kind].append(at_ms - began_ms)
            live.settle()
        page.close()
        live.finish()
    for kind, values in taken.items():
        if kind == "whole" or size > 1024:
            asked_ms = 250 if kind == "coarse" else 700 if size > 1024 else 150
            say(f"frame -> pixel on the screen, {kind} map {size} x {size}", values, asked_ms)


def click(
    server: TiledServer, browser: Browser, monitor: MonitorProcess, size: int, n_frames: int, n_clicks: int
) -> None:
    """From a click to the spectrum with its fit."""
    with ExitStack() as closing:
        live = Live(server, ScanDocuments((size, size), n_energies=n_frames, counts=2e4, noise=True), closing)
        while live.n_given < n_frames - 4:
            live.step()
        live.settle()
        page = open_run(browser, monitor, live.uid)
        page.wait_for(f"nimco.frames && nimco.frames.n_read >= {n_frames - 4}", timeout_s=300)
        say(f"click -> spectrum, {n_frames} x {size} x {size}, running", clicked(page, size, n_clicks), 300)
        live.finish()
        page.wait_for("nimco.about.final && nimco.frames.is_read", timeout_s=300)
        say(f"click -> spectrum, {n_frames} x {size} x {size}, stored", clicked(page, size, n_clicks), 300)
        page.close()


def clicked(page: Any, size: int, n_clicks: int) -> list[float]:
    taken = []
    for number in range(n_clicks):
        page.run("nimco.spectrum_ms = null")
        page.click(page.run(MIDDLE.replace("ROW", str(size // 4 + number * size // (2 * n_clicks)))))
        taken.append(float(page.wait_for("nimco.spectrum_ms", timeout_s=120)))
    return taken


def pages(browser: Browser, size: int, n_pages: int, n_rounds: int) -> None:
    """Compare the time of a scan with and without open pages."""
    with TwinSession((size, size)) as twin:

        def scan() -> float:
            began = time.perf_counter()
            twin.run(xanes_scan(*twin.devices, edge="Ni_K", i0=twin.beamline.i0))
            took = time.perf_counter() - began
            twin.session.wait(600)
            return took

        scan()
        alone, watched = [], []
        with MonitorProcess(twin.server.uri, twin.server.api_key) as monitor:
            for _ in range(n_rounds):
                alone.append(scan())
                opened = [browser.open(monitor.browser_url) for _ in range(n_pages)]
                for page in opened:
                    page.wait_for("window.nimco && nimco.head", timeout_s=120)
                watched.append(scan())
                for page in opened:
                    page.close()
    for what, times in (("alone", alone), (f"with {n_pages} pages", watched)):
        span = f"{min(times):.2f} to {max(times):.2f}"
        print(f"RunEngine, {size} x {size}, {what:16s} {statistics.median(times):8.2f} s ({span})")
    print(
        f"RunEngine, with pages against alone {statistics.median(watched) / statistics.median(alone):.3f} x",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["screen", "click", "pages"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--click-size", type=int, default=1024)
    parser.add_argument("--click-frames", type=int, default=62)
    parser.add_argument("--clicks", type=int, default=10)
    parser.add_argument("--pages", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scan-size", type=int, default=256)
    chosen = parser.parse_args()
    compile_kernels()
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        with (
            TiledServer(Path(folder) / "data") as server,
            MonitorProcess(server.uri, server.api_key) as monitor,
        ):
            if "screen" in chosen.what:
                for size in chosen.sizes:
                    screen(server, browser, monitor, size, chosen.frames)
            if "click" in chosen.what:
                click(server, browser, monitor, chosen.click_size, chosen.click_frames, chosen.clicks)
        if "pages" in chosen.what:
            pages(browser, chosen.scan_size, chosen.pages, chosen.rounds)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
