"""Live analysis: what a scan pays for it, how soon a map is seen elsewhere, frames per second, memory.

    python benchmarks/bench_callbacks.py [blocked] [latency] [throughput] [memory] [--size 2048] [--frames 60]

Everything is measured in one run on this machine, against a real RunEngine and a real Tiled server (a process of its
own, on loopback). "blocked" is the time the RunEngine spends inside its subscribers for one event.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import event_model
import numpy as np
from bluesky import RunEngine
from bluesky.callbacks.buffer import BufferingWrapper
from bluesky_tiled_plugins import TiledWriter

from callbacks import LiveSOC, RawRunWriter, SOCPublisher
from edge_fitting import ReferenceSeries
from nimco import TiledServer

Documents = Iterator[tuple[str, dict[str, Any]]]

# In an order that lets the first few frames determine a map.
ENERGIES_EV = np.random.default_rng(0).permutation(np.r_[8250:8325:10.0, 8330:8366:1.0, 8370:8500:10.0])


def mu(energy_ev: Any, soc: float) -> Any:
    """Step and white line that shift with the state of charge."""
    centre = 8343.0 + 2.0 * soc
    step = 0.5 + np.arctan((energy_ev - centre) / 1.6) / np.pi
    return step + 0.7 * np.exp(-(((energy_ev - centre - 6) / 4) ** 2))


def start_metadata(n_energies: int, repeats: int = 1) -> dict[str, Any]:
    fine = np.arange(8240.0, 8520.0, 0.5)
    states = np.linspace(0, 1, 5)
    references = ReferenceSeries(fine, np.array([mu(fine, soc) for soc in states]), states)
    energies = ENERGIES_EV[np.arange(n_energies) % ENERGIES_EV.size]
    return {
        "plan_name": "xanes_scan",
        "scan_group": "bench",
        "xanes": {
            "schema_version": 1,
            "edge": "Ni_K",
            "energies_ev": energies.tolist(),
            "exposure_s": [1.0] * n_energies,
            "repeats": repeats,
            "technique": "txm_transmission",
            "flat_order": "per_energy",
            "n_flats": 1,
            "n_darks": 1,
            "pixel_size_nm": 40.0,
            "references": references.to_dict(),
            "devices": {"camera": "camera", "energy": "energy", "i0": None},
        },
    }


def frames(size: int, n: int, seed: int = 1) -> list[np.ndarray]:
    """Noisy sample frames at the first n energies; noise drawn once and its rows mixed, which is quick.

    Noise that is only moved is a pattern that drifts, and would be registered.
    """
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 140, (size, size)).astype(np.float32)
    soc = np.linspace(0.2, 0.8, size)[None, :]
    images = []
    for index in range(n):
        ideal = 2e4 * np.exp(-0.3 - 0.8 * mu(ENERGIES_EV[index % ENERGIES_EV.size], soc))
        images.append((ideal + noise[rng.permutation(size)] + 100).astype(np.uint16))
    return images


class Shot:
    """Camera, energy and label in one readable, so that the RunEngine's own work is small."""

    parent = None

    def __init__(self, name: str, describe: dict[str, Any]) -> None:
        self.name = name
        self.hints = {"fields": list(describe)[:1]}
        self._describe = describe
        self.values: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        return {key: {"value": value, "timestamp": time.time()} for key, value in self.values.items()}

    def describe(self) -> dict[str, Any]:
        return self._describe


NUMBER = {"dtype": "number", "shape": [], "dtype_numpy": "<f8", "source": "bench"}
INTEGER = {"dtype": "integer", "shape": [], "dtype_numpy": "<i8", "source": "bench"}
LABEL = {
    "xanes_energy_index": INTEGER,
    "xanes_energy_setpoint_ev": NUMBER,
    "xanes_exposure_s": NUMBER,
    "xanes_repeat": INTEGER,
    "xanes_attempt": INTEGER,
}


def image_key(size: int) -> dict[str, Any]:
    return {"dtype": "array", "shape": [size, size], "dtype_numpy": "<u2", "source": "bench"}


def label(index: int, repeat: int = 0) -> dict[str, Any]:
    energy = float(ENERGIES_EV[index % ENERGIES_EV.size]) if index >= 0 else 8250.0
    return {
        "xanes_energy_index": index,
        "xanes_energy_setpoint_ev": energy,
        "xanes_exposure_s": 1.0,
        "xanes_repeat": repeat,
        "xanes_attempt": 0,
    }


def scan_plan(size: int, images: list[np.ndarray], pause_s: float) -> Iterator[Any]:
    camera = Shot("camera", {"camera_image": image_key(size)})
    energy = Shot("energy", {"energy": NUMBER})
    words = Shot("xanes", LABEL)
    dark, flat = np.full((size, size), 100, np.uint16), np.full((size, size), 20_100, np.uint16)

    def take(stream: str, index: int, image: np.ndarray) -> Iterator[Any]:
        camera.values = {"camera_image": image}
        words.values = label(index)
        energy.values = {"energy": words.values["xanes_energy_setpoint_ev"]}
        yield from bps.sleep(pause_s)
        yield from bps.create(stream)
        for device in (camera, energy, words):
            yield from bps.read(device)
        yield from bps.save()

    @bpp.run_decorator(md=start_metadata(len(images)))
    def run() -> Iterator[Any]:
        yield from take("dark", -1, dark)
        for index, image in enumerate(images):
            yield from take("flat", index, flat)
            yield from take("primary", index, image)

    return run()


def blocked(size: int, n: int) -> None:
    """Time the RunEngine spends in its subscribers, per event, and what the stop document costs."""
    images = frames(size, n)
    print(f"\nRunEngine blocked per event, {size} x {size} uint16 inline, {2 * n + 1} events, 0.15 s apart")
    rows: dict[str, tuple[float, float, float, float]] = {}
    with tempfile.TemporaryDirectory() as folder, TiledServer(folder) as server:

        def measure(name: str, subscriber: Callable[[str, dict[str, Any]], Any]) -> None:
            times: list[float] = []
            stop: list[float] = []

            def timed(kind: str, doc: dict[str, Any]) -> None:
                began = time.perf_counter()
                subscriber(kind, doc)
                spent = time.perf_counter() - began
                if kind == "event":
                    times.append(1e3 * spent)
                elif kind == "stop":
                    stop.append(1e3 * spent)

            run_engine = RunEngine({}, context_managers=[])
            run_engine.subscribe(timed)
            run_engine(scan_plan(size, images, 0.15))
            p50, p99 = np.percentile(times, (50, 99))
            rows[name] = (p50, p99, max(times), stop[0])
            print(
                f"  {name:31s} p50 {p50:8.3f}  p99 {p99:8.3f}  max {max(times):8.3f}  stop {stop[0]:8.1f} ms"
            )

        measure("TiledWriter, batch_size=1", TiledWriter(server.raw, batch_size=1))
        measure("TiledWriter, default", TiledWriter(server.raw))
        buffered = BufferingWrapper(TiledWriter(server.raw, batch_size=1))
        measure("BufferingWrapper(TiledWriter)", buffered)
        buffered.shutdown()
        spool = f"{folder}/spool"
        with (
            RawRunWriter(server.raw, spool_dir=spool) as writer,
            SOCPublisher(server.maps, spool_dir=spool) as publisher,
            LiveSOC(subscribers=[publisher]) as live,
        ):

            def ours(kind: str, doc: dict[str, Any]) -> None:
                writer(kind, doc)
                live(kind, doc)

            ours_name = "nimco: LiveSOC + RawRunWriter"
            measure(ours_name, ours)
            live.wait()
            writer.wait()
            publisher.wait()
            assert [*live.errors, *writer.errors, *publisher.errors] == []
            print(f"  maps of {live.latest().attrs['n_frames']} frames, every document in Tiled")
    plain = rows["TiledWriter, batch_size=1"]
    p50, p99 = plain[0] / rows[ours_name][0], plain[1] / rows[ours_name][1]
    print(f"  ratio plain TiledWriter / nimco: p50 {p50:.0f}, p99 {p99:.0f}")


def documents(size: int, images: list[np.ndarray], *, repeats: int = 1) -> Documents:
    """Compose a run by hand, without a RunEngine."""
    run = event_model.compose_run(metadata=start_metadata(len(images), repeats))
    yield "start", run.start_doc
    streams = {}
    for stream in ("dark", "flat", "primary"):
        streams[stream] = run.compose_descriptor(
            name=stream,
            data_keys={"camera_image": image_key(size), "energy": NUMBER, **LABEL},
            object_keys={"camera": ["camera_image"], "energy": ["energy"], "xanes": list(LABEL)},
            hints={"energy": {"fields": ["energy"]}},
        )
        yield "descriptor", streams[stream].descriptor_doc

    def event(stream: str, index: int, image: np.ndarray, repeat: int = 0) -> tuple[str, dict[str, Any]]:
        words = label(index, repeat)
        data = {"camera_image": image, "energy": words["xanes_energy_setpoint_ev"], **words}
        return "event", streams[stream].compose_event(
            data=data, timestamps=dict.fromkeys(data, time.time()), validate=False
        )

    yield event("dark", -1, np.full((size, size), 100, np.uint16))
    flat = np.full((size, size), 20_100, np.uint16)
    for index, image in enumerate(images):
        yield event("flat", index, flat)
        for repeat in range(repeats):
            yield event("primary", index, image, repeat)
    yield "stop", run.compose_stop()


FOLLOWER = """
import sys
from tiled.client import from_uri
from callbacks import follow_soc
uri, key, uid = sys.argv[1:]
for followed in follow_soc(from_uri(uri, api_key=key), uid, timeout_s=120):
    print(followed.received_s, followed.sequence, flush=True)
"""


def latency(sizes: list[int], n: int) -> None:
    """From handing over a frame to its map in another process."""
    print("\nframe -> its full-resolution map in another process (pushed by Tiled, loopback)")
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder, TiledServer(folder) as server:
            images = frames(size, n)
            with (
                SOCPublisher(server.maps) as publisher,
                LiveSOC(subscribers=[publisher], update_period_s=0.0) as live,
            ):
                delays: list[float] = []
                fitting: list[float] = []
                viewer: subprocess.Popen[str] | None = None
                count = 0
                for name, doc in documents(size, images):
                    is_frame = (
                        name == "event"
                        and doc["data"]["xanes_energy_index"] >= 0
                        and "camera" in str(doc["data"].keys())
                    )
                    began = time.time()
                    live(name, doc)
                    if name != "event":
                        continue
                    count += 1
                    if count < 2 * n // 2:
                        continue
                    live.wait(120)
                    if viewer is None:
                        publisher.wait(120)
                        command = [
                            sys.executable,
                            "-c",
                            FOLLOWER,
                            server.uri,
                            server.api_key,
                            live.latest().attrs["raw_uid"],
                        ]
                        viewer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                        assert viewer.stdout is not None
                        viewer.stdout.readline()  # the map as it was
                        time.sleep(1.0)
                        continue
                    if not is_frame or count % 2 == 0:
                        continue  # a flat makes no map
                    fitting.append(1e3 * (time.time() - began))
                    assert viewer.stdout is not None
                    received = float(viewer.stdout.readline().split()[0])
                    delays.append(1e3 * (received - began))
                    publisher.wait(120)
                if viewer is not None:
                    viewer.kill()
                    viewer.wait()
        print(
            f"  {size:5d} x {size:<5d} median {statistics.median(delays):7.1f} ms"
            f"   p90 {np.percentile(delays, 90):7.1f} ms"
            f"   of which correction and fit {statistics.median(fitting):6.1f} ms   ({len(delays)} maps)"
        )


def throughput(sizes: list[int], n: int) -> None:
    """Frames per second when they come as fast as the analysis takes them."""
    print("\nsustained, correction and fit of every frame, maps as often as there is time")
    for size in sizes:
        images = frames(size, n)
        prepared = list(documents(size, images))
        updates: list[Any] = []
        with LiveSOC(subscribers=[updates.append]) as live:
            for name, doc in prepared:  # once to compile
                live(name, doc)
            live.wait()
            updates.clear()
            prepared = list(documents(size, images))
            began = time.perf_counter()
            for name, doc in prepared:
                live(name, doc)
            live.wait()
            spent = time.perf_counter() - began
        print(
            f"  {size:5d} x {size:<5d} {n / spent:8.1f} sample frames/s (and as many flats), {len(updates)} updates"
        )


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(size: int, n: int) -> None:
    """Resident memory while 10,000 frames go through the analysis."""
    energies, repeats = 100, n // 100
    images = frames(size, energies)
    print(f"\nmemory over {energies * repeats} frames of {size} x {size}")
    with LiveSOC() as live:
        for count, (name, doc) in enumerate(documents(size, images, repeats=repeats)):
            live(name, doc)
            if count % 1000 == 999:
                live.wait()
                print(f"  {count + 1:6d} events  {resident_mb():7.0f} MB")
        live.wait()
        print(f"  {live.latest().attrs['n_frames']} frames in the map")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["blocked", "latency", "throughput", "memory"])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--frames", type=int, default=40)
    chosen = parser.parse_args()
    if "blocked" in chosen.what:
        blocked(chosen.size, chosen.frames)
    if "latency" in chosen.what:
        latency([512, 1024, 2048], chosen.frames)
    if "throughput" in chosen.what:
        throughput([512, 1024, 2048], chosen.frames)
    if "memory" in chosen.what:
        memory(256, 10_000)


if __name__ == "__main__":
    main()
