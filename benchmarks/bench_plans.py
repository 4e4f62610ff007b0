"""Plans: few frames against many, foretold against real duration, overhead of a plan.

    python benchmarks/bench_plans.py [frames] [recorded] [dryrun] [overhead] [--seeds 20] [--size 96]

"frames" runs real scans of the simulated electrode under a RunEngine with the live analysis, and compares with what is
really in the beam; "recorded" picks frames from a recording (``--file``, layout of `nimco replay`, with its truth).
"""

import argparse
import os
import platform
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from bluesky import RunEngine
from bluesky.plans import list_scan

from beamline_plans import EnergyGrid, TimeModel, dry_run, learn_times, xanes_scan
from callbacks import LiveSOC
from edge_fitting import ReferenceSeries, choose_energies, fit_stack
from nimco import measure_standards
from sim_devices import SimBeamline

_EDGE = "Ni_K"
_SOCS = (0.0, 0.25, 0.5, 0.75, 1.0)
_JUMP = 0.2


def table(title: str, header: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}\n")
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]
    for row in [header, ["-" * w for w in widths], *rows]:
        print("  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)))


def devices_of(beamline: SimBeamline) -> tuple[Any, ...]:
    return beamline.camera, beamline.energy, beamline.shutter, beamline.stage


def shifted(series: ReferenceSeries, by_ev: float) -> ReferenceSeries:
    return ReferenceSeries(np.asarray(series.energy_ev) + by_ev, series.mu, series.soc)


def half_jump_scale(series: ReferenceSeries) -> np.ndarray:
    """Line that turns a half-jump energy into a state of charge, from the references themselves."""
    stack = np.asarray(series.mu, np.float32).T[:, None, :]
    maps = fit_stack(series.energy_ev, stack, edge=_EDGE, method="half_jump")
    energies = maps.edge_energy_ev[0]
    good = np.isfinite(energies)
    return np.polyfit(energies[good], np.asarray(series.soc)[good], 1)


def rms(value: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    where = where & np.isfinite(value)
    return float(np.sqrt(np.mean((value - truth)[where] ** 2)))


def share(value: np.ndarray, where: np.ndarray) -> float:
    return float(np.isfinite(value[where]).mean())


def scan_maps(beamline: SimBeamline, grid: EnergyGrid, fits: dict[str, LiveSOC]) -> dict[str, Any]:
    """Run one real scan and give its maps by each of the given analyses."""
    run_engine = RunEngine({})
    for live in fits.values():
        run_engine.subscribe(live)
    (uid,) = run_engine(xanes_scan(*devices_of(beamline), edge=_EDGE, grid=grid, i0=beamline.i0))
    maps = {}
    for name, live in fits.items():
        live.wait(60)
        maps[name] = live.latest(uid)
        live.close()
    return maps


def bench_frames(seeds: int, size: int) -> None:
    full = EnergyGrid.preset("ssrl_62", _EDGE)
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(1, seeds + 1):
        beamline = SimBeamline((size, size), seed=seed)
        # The standards cover the grid by steps of the full scan, as a user would measure them.
        series = measure_standards(RunEngine({}), beamline, _EDGE, socs=_SOCS, grid=full)
        wrong = shifted(series, 0.3)
        scale = half_jump_scale(series)
        truth = beamline.truth(_EDGE)
        where = truth.mask & (truth.jump > _JUMP)

        def note(name: str, soc: np.ndarray, truth: Any = truth, where: np.ndarray = where) -> None:
            found.setdefault(name, []).append((rms(soc, truth.soc, where), share(soc, where)))

        many = scan_maps(
            beamline,
            full,
            {
                "series, 62 frames": LiveSOC(series),
                "series, 62 frames, references 0.3 eV off": LiveSOC(wrong),
                "half-jump, 62 frames": LiveSOC(method="half_jump"),
            },
        )
        for name, maps in many.items():
            soc = maps.soc.values if name.startswith("series") else None
            note(name, np.polyval(scale, maps.edge_energy_ev.values) if soc is None else soc)
        for n_frames in (8, 6):
            # Jump and noise only scale the foretold sigma, they do not change the choice.
            chosen = choose_energies(series, n_frames, 0.5, 0.03, candidates_ev=full.energies_ev)
            few = scan_maps(
                beamline,
                EnergyGrid(chosen.energies_ev),
                {
                    f"series, {n_frames} chosen frames": LiveSOC(series),
                    f"series, {n_frames} chosen frames, references 0.3 eV off": LiveSOC(wrong),
                },
            )
            for name, maps in few.items():
                note(name, maps.soc.values)
    reference = np.mean([r for r, _ in found["series, 62 frames"]])
    half_jump = np.mean([r for r, _ in found["half-jump, 62 frames"]])
    rows = []
    for name, values in found.items():
        errors, shares = np.asarray(values).T
        mean = errors.mean()
        rows.append(
            [
                name,
                f"{mean:.4f}",
                f"{errors.min():.4f}-{errors.max():.4f}",
                f"{mean / reference:.2f}",
                f"{mean / half_jump:.2f}",
                f"{100 * shares.mean():.0f} %",
            ]
        )
    title = (
        f"Achieved SOC error on the simulated electrode, {seeds} seeds, {size} x {size} px, jump > {_JUMP}"
    )
    table(title, ["fit", "RMS", "range", "/ series 62", "/ half-jump 62", "pixels"], rows)


def bench_recorded(path: Path) -> None:
    with h5py.File(path) as file:
        energies = file["energy_ev"][:]
        dark = file["dark"][:]
        # The flats of this layout are per energy; i0 is the intensity of the frame relative to that of its flat.
        ratio = (file["frames"][:] - dark) / (file["flats"][:] - dark) / file["i0"][:][:, None, None]
        depth = -np.log(np.clip(ratio, 1e-4, None)).astype(np.float32)
        series = ReferenceSeries(energies, file["reference/mu"][:], file["reference/soc"][:])
        truth_soc, jump, mask = (file[f"truth/{k}"][:] for k in ("soc", "edge_jump", "mask"))
    where = mask & (jump > 0.4)
    half = fit_stack(energies, depth, edge=_EDGE, method="half_jump").edge_energy_ev
    half_soc = np.polyval(half_jump_scale(series), half)
    rows = []
    half_jump = rms(half_soc, truth_soc, where)
    full: float | None = None
    for n_frames in (62, 8, 5):
        if n_frames == 62:
            picked = np.arange(energies.size)
        else:
            chosen = choose_energies(series, n_frames, 0.5, 0.03, candidates_ev=energies, max_repeats=1)
            picked = np.flatnonzero(np.isin(energies, chosen.energies_ev))
        maps = fit_stack(energies[picked], depth[picked], edge=_EDGE, references=series)
        error = rms(maps.soc, truth_soc, where)
        full = full or error
        rows.append(
            [
                f"series, {n_frames} frames",
                f"{error:.4f}",
                f"{error / full:.2f}",
                f"{error / half_jump:.2f}",
                f"{100 * share(maps.soc, where):.0f} %",
                " ".join(f"{e:g}" for e in energies[picked]) if n_frames < 62 else "all",
            ]
        )
    rows.append(
        ["half-jump, 62 frames", f"{half_jump:.4f}", f"{half_jump / (full or 1):.2f}", "1.00",
         f"{100 * share(half_soc, where):.0f} %", "all"]
    )  # fmt: skip
    header = ["fit", "RMS", "/ series 62", "/ half-jump 62", "pixels", "energies"]
    table(f"Achieved SOC error on {path.name}, jump > 0.4", header, rows)


def bench_dryrun() -> None:
    beamline = SimBeamline((128, 128), seed=1, time_scale=1.0)
    learning = EnergyGrid.from_regions(
        [(8250, 8310, 30, 0.1), (8330, 8350, 2.5, 0.2), (8400, 8600, 100, 0.1)]
    )
    scans: list[tuple[str, dict[str, Any]]] = [
        ("flats per energy", {"grid": EnergyGrid.from_regions([(8280, 8400, 10, 0.5)])}),
        (
            "flats every 10, 2 repeats",
            {
                "grid": EnergyGrid.preset("fxi_41", _EDGE, exposure_s=0.3),
                "flat_order": "every_n",
                "repeats": 2,
            },
        ),
        (
            "flats after all, interleaved",
            {
                "grid": EnergyGrid.preset("fxi_21", _EDGE, exposure_s=0.5).ordered("interleaved"),
                "flat_order": "after_all",
            },
        ),
    ]
    run_engine = RunEngine({})
    documents: list[tuple[str, dict[str, Any]]] = []
    common = {"edge": _EDGE, "i0": beamline.i0}
    run_engine(
        xanes_scan(*devices_of(beamline), grid=learning, **common),
        lambda name, doc: documents.append((name, doc)),
    )
    times = learn_times(documents)
    rows = []
    for name, kwargs in scans:
        plans = [xanes_scan(*devices_of(beamline), **common, **kwargs) for _ in range(3)]
        learnt = dry_run(plans[0], times=times).time_s
        assumed = dry_run(plans[1], times=TimeModel()).time_s
        began = time.monotonic()
        run_engine(plans[2])
        took = time.monotonic() - began
        rows.append([name, f"{took:.1f} s", f"{learnt / took - 1:+.1%}", f"{assumed / took - 1:+.1%}"])
    header = ["scan", "took", "foretold, learnt from one other scan", "foretold, nothing learnt"]
    table("Dry run against the real duration on the twin at its own speed", header, rows)


class _Instant:
    """A device that does everything in no time."""

    parent = None

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.hints = {"fields": [name]}
        self._value = value

    done = success = True

    def add_callback(self, callback: Any) -> None:
        callback(self)

    def exception(self, timeout: float | None = 0.0) -> None:
        return None

    def set(self, value: Any) -> "_Instant":
        self._value = value
        return self

    def trigger(self) -> "_Instant":
        return self

    def read(self) -> dict[str, Any]:
        return {self.name: {"value": self._value, "timestamp": time.time()}}

    def describe(self) -> dict[str, Any]:
        return {self.name: {"source": "none", "dtype": "number", "shape": []}}

    def read_configuration(self) -> dict[str, Any]:
        return {}

    def describe_configuration(self) -> dict[str, Any]:
        return {}


def bench_overhead() -> None:
    camera, energy, i0 = _Instant("camera", 0.0), _Instant("energy", 8333.0), _Instant("i0", 1.0)
    camera.exposure_s = _Instant("camera_exposure_s", 0.5)  # type: ignore[attr-defined]
    shutter, stage = _Instant("shutter", "closed"), _Instant("sample", "in")
    grid = EnergyGrid.preset("fxi_101", _EDGE)
    run_engine = RunEngine({})

    def ours() -> Any:
        return xanes_scan(camera, energy, shutter, stage, edge=_EDGE, grid=grid, i0=i0, n_darks=1)  # type: ignore[arg-type]

    def rival() -> Any:
        # The same events, two per energy, without moves of sample and shutter, labels or checkpoints per energy.
        twice = [e for e in grid.energies_ev for _ in range(2)]
        return list_scan([camera, i0], energy, twice)

    def messages(plan: Any) -> int:
        return sum(1 for _ in plan)

    def best(work: Any, repeats: int = 5) -> list[str]:
        """Give the least wall-clock and processor time of some tries; the latter ignores a busy machine."""
        times = []
        for _ in range(repeats):
            began = time.perf_counter(), time.process_time()
            work()
            times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        return [f"{min(column) / len(grid) * 1e3:.2f} ms" for column in zip(*times, strict=True)]

    rows = [
        ["xanes_scan, messages alone", *best(lambda: messages(ours()))],
        ["xanes_scan under a RunEngine", *best(lambda: run_engine(ours()))],
        ["bluesky list_scan, as many events", *best(lambda: run_engine(rival()))],
    ]
    table(
        "Overhead per energy (one flat, one frame), devices that take no time",
        ["plan", "wall clock", "processor"],
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", help="frames, recorded, dryrun, overhead; all by default")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--size", type=int, default=96)
    default = Path(__file__).resolve().parents[2] / "shared" / "data" / "stacks" / "semireal_ni_k_particle.h5"
    parser.add_argument("--file", type=Path, default=default)
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    parts = arguments.parts or ["overhead", "recorded", "frames", "dryrun"]
    if "overhead" in parts:
        bench_overhead()
    if "recorded" in parts and arguments.file.exists():
        bench_recorded(arguments.file)
    if "frames" in parts:
        bench_frames(arguments.seeds, arguments.size)
    if "dryrun" in parts:
        bench_dryrun()


if __name__ == "__main__":
    main()
