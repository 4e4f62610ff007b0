"""The edge fitter: speed against named rivals in the same run, precision against the statistical limit, memory.

    python benchmarks/bench_edge_fitting.py [speed] [push] [precision] [memory] [particle] [checks]

Times are the shortest of several, because other work on the machine only ever adds to them. On a busy machine set
NUMBA_NUM_THREADS=1: processor time is taken then, and the rates are those of one core.
"""

import argparse
import gc
import os
import platform
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numba as nb
import numpy as np
from scipy.optimize import curve_fit

from edge_fitting import (
    EDGES,
    DriftTracker,
    EdgeFitter,
    ReferenceSeries,
    SpikeFinder,
    choose_energies,
    expected_sigma,
    fit_stack,
)
from edge_fitting.fit._offset import SeriesWithOffset
from edge_fitting.fit._quality import fit_checked

GRID = np.concatenate(
    [
        np.arange(8200.0, 8321.0, 10.0),
        np.arange(8330.0, 8356.0, 1.0),
        np.arange(8365.0, 8576.0, 10.0),
        [8630.0],
    ]
)
Row = tuple[str, str, str, str]


def spectrum(energy: np.ndarray, soc: np.ndarray) -> np.ndarray:
    """Arctan step and Gaussian white line that move by 2 eV and grow, shape (..., n_energy)."""
    edge = 8343.0 + 2.0 * np.asarray(soc)[..., None]
    line = np.exp(-(((energy - edge - 7.0) / 3.5) ** 2))
    return 0.5 + np.arctan((energy - edge) / 1.6) / np.pi + (0.5 + 0.1 * np.asarray(soc)[..., None]) * line


def references(n: int = 10, energy: np.ndarray = GRID) -> ReferenceSeries:
    """Ten references of that family."""
    soc = np.linspace(0.0, 1.0, n)
    return ReferenceSeries(energy, spectrum(energy, soc), soc)


def make_stack(size: int, noise: float, seed: int = 0) -> np.ndarray:
    """Stack (n_energy, size, size) float32 of random states and thicknesses."""
    random = np.random.default_rng(seed)
    rows = 64
    soc, jump = random.random((rows, size)), 0.4 + 0.4 * random.random((rows, size))
    clean = 0.3 + jump * np.moveaxis(spectrum(GRID, soc), -1, 0)
    stack = np.empty((GRID.size, size, size), np.float32)
    for start in range(0, size, rows):
        part = stack[:, start : start + rows]
        part[...] = clean[:, : part.shape[1]]
        part += noise * random.standard_normal(part.shape, dtype=np.float32)
    return stack


def shortest(work: Callable[[], object], repeats: int = 7) -> float:
    """Shortest time of some work in seconds, after one run that is not counted.

    With one thread, processor time is taken: then other work on the machine is left out.
    """
    clock = time.thread_time if nb.get_num_threads() == 1 else time.perf_counter
    work()
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


@nb.njit(parallel=True)
def read_once(stack, out):  # type: ignore[no-untyped-def]
    """Sum over energies: what any kernel that sees every value must at least do."""
    size = 4096
    for block in nb.prange(stack.shape[1] // size):
        total = np.zeros(size, np.float32)
        for f in range(stack.shape[0]):
            row = stack[f, block * size : (block + 1) * size]
            for i in range(size):
                total[i] += row[i]
        out[block * size : (block + 1) * size] = total


def half_jump_numpy(stack: np.ndarray) -> np.ndarray:
    """Half-jump with a pre-edge line per pixel, in vectorised NumPy."""
    edge = EDGES["Ni_K"]
    pre = np.flatnonzero((edge.pre_edge_ev[0] <= GRID) & (edge.pre_edge_ev[1] >= GRID))
    post = np.flatnonzero((edge.post_edge_ev[0] <= GRID) & (edge.post_edge_ev[1] >= GRID))
    near = np.flatnonzero((edge.half_jump_window_ev[0] <= GRID) & (edge.half_jump_window_ev[1] >= GRID))
    x = ((GRID - 8343.0) / 100.0).astype(np.float32)
    flat = stack.reshape(GRID.size, -1)
    rule = np.linalg.pinv(np.stack([np.ones(pre.size), x[pre]], axis=1)).astype(np.float32)
    level, slope = rule @ flat[pre]
    step = flat[post].mean(axis=0) - level - slope * x[post].mean()
    above = (flat[near] - level - x[near, None] * slope) / step >= 0.5
    first = np.maximum(above.argmax(axis=0), 1)
    index = np.arange(flat.shape[1])
    low = (flat[near[first - 1], index] - level - x[near[first - 1]] * slope) / step - 0.5
    high = (flat[near[first], index] - level - x[near[first]] * slope) / step - 0.5
    e0, e1 = GRID[near[first - 1]], GRID[near[first]]
    return e0 - low / (high - low) * (e1 - e0)


def curve_fit_rate(stack: np.ndarray, series: ReferenceSeries, n: int = 200) -> float:
    """Spectra per second of scipy's curve_fit on the same model: offset, slope, jump, state."""
    x = (GRID - 8343.0) / 100.0
    fine = np.linspace(-0.2, 1.2, 281)
    table = series.evaluate(GRID, fine)

    def model(_, offset, slope, jump, soc):
        place = np.clip((soc - fine[0]) / (fine[1] - fine[0]), 0, fine.size - 2)
        k = int(place)
        return offset + slope * x + jump * ((1 - place + k) * table[k] + (place - k) * table[k + 1])

    spectra = stack.reshape(GRID.size, -1)[:, :n].T.astype(float)
    start = time.thread_time()
    for y in spectra:
        curve_fit(model, GRID, y, p0=(y[0], 0.0, y[-1] - y[0], 0.5))
    return n / (time.thread_time() - start)


def speed() -> Iterator[Row]:
    """Whole stacks of 62 energies x 1024 x 1024."""
    size = 1024
    stack, series = make_stack(size, 0.02), references()
    pixels = size * size
    flat, out = stack.reshape(GRID.size, -1), np.empty(pixels, np.float32)
    reading = shortest(lambda: read_once(flat, out))
    ours = shortest(lambda: fit_stack(GRID, stack, references=series))
    rival = curve_fit_rate(stack, series)
    yield (
        "series fit, all frames pushed and solved",
        f"{pixels / ours / 1e6:.1f} M spectra/s",
        ">= 10 M spectra/s",
        f"{ours / reading:.1f} x the time of reading the stack once",
    )
    yield (
        "",
        f"{pixels / ours / rival:.0f} x scipy curve_fit",
        ">= 1000 x",
        f"curve_fit {rival:.0f} spectra/s, one thread",
    )
    window = shortest(lambda: fit_stack(GRID, stack, method="half_jump"))
    numpy_time = shortest(lambda: half_jump_numpy(stack), 3)
    yield (
        "half-jump with sigma and status",
        f"{numpy_time / window:.1f} x vectorised NumPy",
        ">= 3 x",
        f"{pixels / window / 1e6:.1f} M spectra/s; NumPy gives no sigma and no status",
    )
    yield (
        "",
        f"{reading / window:.2f} x reading once",
        ">= 0.5 x",
        f"reading {flat.nbytes / reading / 1e9:.0f} GB/s",
    )


def push() -> Iterator[Row]:
    """One frame of 2048 x 2048 counts, dark, flat, logarithm and projection."""
    size = 2048
    random = np.random.default_rng(1)
    counts = random.integers(1000, 5000, (size, size)).astype(np.uint16)
    dark = np.full((size, size), 100.0, np.float32)
    flat = np.full((size, size), 6000.0, np.float32)
    fitter = EdgeFitter((size, size), references=references())
    frames = 16

    def push_all() -> None:
        for k in range(frames):
            fitter.push_counts(GRID[k], counts, dark=dark, flat=flat)

    ours = shortest(push_all, 5) / frames
    converted = np.empty(counts.shape, np.float32)
    conversion = shortest(lambda: np.copyto(converted, counts), 30)
    rival = shortest(lambda: -np.log((counts - dark) / (flat - dark)), 5)
    yield (
        "push of one 2048 x 2048 uint16 frame",
        f"{ours / conversion:.1f} x a uint16 -> float32 conversion",
        "<= 8 x",
        f"{rival / ours:.1f} x faster than the dark, flat and logarithm alone in NumPy",
    )


def cramer_rao(energy: np.ndarray, soc: float) -> float:
    """Bound on the state for a ratio of noise to jump of one, from the analytic spectrum."""
    step = 1e-4
    slope = (spectrum(energy, soc + step) - spectrum(energy, soc - step)) / (2 * step)
    design = np.stack([slope, spectrum(energy, soc), np.ones_like(energy), (energy - 8343.0) / 100.0], axis=1)
    return float(np.sqrt(np.linalg.inv(design.T @ design)[0, 0]))


def simulated(
    energy: np.ndarray,
    series: ReferenceSeries,
    soc: float,
    noise: float,
    size: int = 300,
    truth: Callable[..., np.ndarray] = spectrum,
) -> np.ndarray:
    """Errors of the series fit on simulated pixels of one state."""
    clean = 0.3 + 0.5 * truth(energy, soc)[:, None, None]
    random = np.random.default_rng(int(1e4 * noise) + energy.size)
    stack = clean + 0.5 * noise * random.standard_normal((energy.size, size, size))
    return fit_stack(energy, stack, references=series).soc.astype(float) - soc


def precision() -> Iterator[Row]:
    """Root mean square error against the bound; 16 chosen frames against 62."""
    series = references()
    for noise in (0.01, 0.03, 0.05):
        worst_rms, worst_bias = 0.0, 0.0
        for soc in (0.25, 0.5, 0.75):
            error, bound = simulated(GRID, series, soc, noise), noise * cramer_rao(GRID, soc)
            worst_rms = max(worst_rms, float(np.sqrt(np.nanmean(error**2)) / bound))
            worst_bias = max(worst_bias, float(abs(np.nanmean(error)) / bound))
        yield (
            f"precision of the series fit, {100 * noise:.0f} % noise",
            f"{worst_rms:.3f} x the Cramer-Rao bound",
            "<= 1.05 x",
            f"bias {worst_bias:.3f} sigma (limit 0.1); worst of three states",
        )
    yield few_frames("16 chosen frames, arctan and Gaussian", series, GRID, spectrum)


def few_frames(name: str, series: ReferenceSeries, grid: np.ndarray, truth: Callable[..., np.ndarray]) -> Row:
    """Sigma of 16 chosen frames against that of a whole grid, expected and simulated."""
    chosen = choose_energies(series, 16, 0.5, 0.5 * 0.03)
    energies = np.array(chosen.energies_ev)
    ratio = chosen.expected_sigma / expected_sigma(grid, series, 0.5, 0.5 * 0.03)
    few, many = (
        np.concatenate([simulated(e, series, soc, 0.03, truth=truth).ravel() for soc in (0.25, 0.5, 0.75)])
        for e in (energies, grid)
    )
    measured = np.sqrt(np.nanmean(few**2) / np.nanmean(many**2))
    return (
        name,
        f"expected {ratio:.2f}, simulated {measured:.2f} x sigma of {grid.size}",
        "<= 1 x",
        "3 % noise",
    )


def memory() -> Iterator[Row]:
    """Peak memory of a streamed scan with 62 and with 620 energies."""
    size = 512
    frame = np.full((size, size), 0.4, np.float32)
    peaks = {}
    for n in (62, 620):
        energies = np.linspace(GRID[0], GRID[-1], n)
        gc.collect()
        tracemalloc.start()
        fitter = EdgeFitter((size, size), references=references())
        for energy in energies:
            fitter.push(energy, frame)
        fitter.maps()
        peaks[n] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    yield (
        "peak memory, streaming, 512 x 512",
        f"{peaks[62] / 2**20:.1f} MiB at 62, {peaks[620] / 2**20:.1f} MiB at 620 energies",
        "the same",
        f"{peaks[62] / size**2:.0f} bytes a pixel; a kept stack takes 248 and 2480",
    )


def particle() -> Iterator[Row]:
    """All estimators on the semi-real particle, where the reference data are at hand."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data" / "stacks" / "semireal_ni_k_particle.h5"
    if not path.is_file():
        yield ("semi-real particle", "not measured", "", "no reference data beside the repository")
        return
    import h5py

    with h5py.File(path) as file:
        energy, dark = file["energy_ev"][:], file["dark"][:]
        depth = -np.log((file["frames"][:] - dark) / (file["flats"][:] - dark))
        light = (file["frames"][:] - dark)[:, file["truth/mask"][:]].mean(axis=1)
        series = ReferenceSeries(energy, file["reference/mu"][:], file["reference/soc"][:])
        soc, jump, mask = file["truth/soc"][:], file["truth/edge_jump"][:], file["truth/mask"][:]

    yield few_frames("16 chosen frames, real charge spectra", series, energy, series.evaluate)

    def row(name: str, method: str, goal: str, weights: np.ndarray | None = None) -> Row:
        maps = fit_stack(energy, depth, method=method, references=series, weights=weights)
        thick = mask & (jump > 0.4)
        error = (maps.soc - soc)[thick & np.isfinite(maps.soc)]
        thin = mask & (jump > 0.2) & (jump <= 0.4)
        thin_error = (maps.soc - soc)[thin & np.isfinite(maps.soc)]
        return (
            f"semi-real particle, {name}",
            f"SOC RMS {np.sqrt(np.mean(error**2)):.4f} (jump > 0.4), {np.sqrt(np.mean(thin_error**2)):.4f} (0.2-0.4)",
            goal,
            f"bias {error.mean():+.4f}; {100 * error.size / thick.sum():.1f} % of the pixels have a value",
        )

    yield row("series", "series", "<= 0.048, 0.086")
    yield row("series, frames weighted by their light", "series", "", light / light.mean())
    for method in ("lcf", "white_line", "half_jump", "inflection", "arctan_gauss"):
        yield row(method, method, "")


def checks() -> Iterator[Row]:
    """Compare the fit with checks of frames and pixels with that without; time a frame of 1024 x 1024 on its way in."""
    series, stack = references(), make_stack(1024, 0.05)
    flat, weight = stack.reshape(GRID.size, -1), np.ones(GRID.size)
    estimator = SeriesWithOffset((1024, 1024), series, apply=False, search=False)
    plain, checked = [], []
    for _ in range(5):
        # In turns, since what else the machine does changes.
        plain.append(shortest(lambda: estimator.fit_stack(GRID, flat, weight), 1))
        checked.append(shortest(lambda: fit_checked(estimator, GRID, flat, weight), 1))
    ratio = float(np.median(np.array(plain) / np.array(checked)))
    yield "fit with checks", f"{ratio:.2f} of the speed without", ">= 0.9", "1024 x 1024, 62 frames"

    tracker = DriftTracker((1024, 1024), references=series)
    fitter = EdgeFitter((1024, 1024), references=series, axis_offset=0.0)
    for energy, frame in zip(GRID, stack, strict=True):
        tracker.push(float(energy), frame)
    tracker.finish()
    energy, frame, finder = float(GRID[40]), stack[40], SpikeFinder()
    counts = (20000.0 * np.exp(-frame)).astype(np.float32)
    finder.find(counts.copy())

    def sixteen_frames() -> None:
        # So many are folded into the sums together.
        for _ in range(16):
            (placed,) = tracker.push(energy, frame)
            fitter.push(energy, placed.optical_depth)

    yield (
        "register, resample, push",
        f"{1000 * shortest(sixteen_frames, 3) / 16:.0f} ms a frame",
        "<= 60 ms",
        f"1024 x 1024, {nb.get_num_threads()} threads",
    )
    spikes = 1000 * shortest(lambda: finder.find(counts.copy()))
    pushed = 1000 * shortest(lambda: [fitter.push(energy, frame) for _ in range(16)], 3) / 16
    yield "look for zingers", f"{spikes:.1f} ms a frame", "", f"a push takes {pushed:.1f} ms"


def main() -> None:
    """Print the table."""
    parts = {f.__name__: f for f in (speed, push, precision, memory, particle, checks)}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", help=", ".join(parts) + "; all by default")
    chosen = parser.parse_args().what or list(parts)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {nb.get_num_threads()} threads, ",
        end="",
    )
    print(f"numba {nb.__version__}, numpy {np.__version__}")
    print("| work | measured | reach | note |\n|---|---|---|---|")
    for name in chosen:
        for row in parts[name]():
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
