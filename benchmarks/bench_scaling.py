"""How the series fit grows with pixels and energies, on one and two threads, against reading the stack once.

    python benchmarks/bench_scaling.py [--picture FILE.png] [--most-gb 5]

Times are the shortest of several. Exponents are of the time against the size, by least squares in logarithms: over the
pixels of frames of 512 x 512 and more, over the energies from 62 on. What every fit does once whatever its size (its
basis, looking at a sample of pixels) counts in smaller ones.
"""

import argparse
from pathlib import Path

import numba as nb
import numpy as np
from bench_edge_fitting import read_once, references, shortest, spectrum

from edge_fitting import fit_stack

SIDES = (256, 512, 1024, 2048, 4096)
N_ENERGIES = (20, 62, 155, 310, 620)
SIDE, N_ENERGY = 512, 62
# Smaller ones are measured and shown, but the exponent is not theirs.
LEAST_SIDE, LEAST_ENERGIES = 512, 62


def make(n_energy: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return energies, and a stack whose pixels repeat those of 128 rows."""
    random = np.random.default_rng(1)
    energy = np.linspace(8200.0, 8630.0, n_energy)
    energy[1:-1] = np.concatenate(
        [np.linspace(8210.0, 8320.0, (n_energy - 2) // 4), np.linspace(8328.0, 8358.0, (n_energy - 2) // 2),
         np.linspace(8362.0, 8600.0, n_energy - 2 - (n_energy - 2) // 4 - (n_energy - 2) // 2)]
    )  # fmt: skip
    rows = min(side, 128)
    soc, jump = random.random((rows, side)), 0.4 + 0.4 * random.random((rows, side))
    part = np.empty((n_energy, rows, side), np.float32)
    for k, values in enumerate(np.moveaxis(spectrum(energy, soc), -1, 0)):
        part[k] = 0.3 + jump * values + 0.02 * random.standard_normal((rows, side))
    stack = np.empty((n_energy, side, side), np.float32)
    for start in range(0, side, rows):
        stack[:, start : start + rows] = part
    return energy, stack


def measure(n_energy: int, side: int, threads: int) -> tuple[float, float]:
    """Return the times of the fit and of reading the stack once (s)."""
    energy, stack = make(n_energy, side)
    series = references()
    flat, out = stack.reshape(n_energy, -1), np.empty(side * side, np.float32)
    nb.set_num_threads(threads)
    repeats = 3 if side > 1024 else 7
    return (
        shortest(lambda: fit_stack(energy, stack, references=series), repeats),
        shortest(lambda: read_once(flat, out), repeats),
    )


def exponent(sizes: list[int], times: list[float]) -> float:
    """Slope of the times against the sizes in logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def draw(rows: dict[tuple[str, int], tuple[list[int], list[float]]], path: Path) -> None:
    """Draw both dependences, double logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for (what, threads), (sizes, times) in rows.items():
        axis = axes[0] if what == "pixels" else axes[1]
        axis.loglog(
            sizes, np.multiply(times, 1e3), "o-" if threads == 1 else "s--", label=f"{threads} threads"
        )
    axes[0].set_xlabel(f"pixels ({N_ENERGY} energies)")
    axes[1].set_xlabel(f"energies ({SIDE} x {SIDE} pixels)")
    for axis, sizes in zip(axes, ([side**2 for side in SIDES], N_ENERGIES), strict=True):
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=7)
        axis.minorticks_off()
        axis.set_ylabel("time of the fit (ms)")
        axis.grid(visible=True, which="both", alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print the table, and draw it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--most-gb", type=float, default=5.0, help="larger stacks are left out")
    chosen = parser.parse_args()
    rows: dict[tuple[str, int], tuple[list[int], list[float]]] = {}
    print(
        "| threads | energies | pixels | fit (ms) | M spectra/s | reading once |\n|---|---|---|---|---|---|"
    )
    for threads in (1, 2):
        for what, cases in (
            ("pixels", [(N_ENERGY, side) for side in SIDES]),
            ("energies", [(n, SIDE) for n in N_ENERGIES]),
        ):
            sizes, times = rows.setdefault((what, threads), ([], []))
            for n_energy, side in cases:
                if 4e-9 * n_energy * side**2 > chosen.most_gb:
                    continue
                fit_s, read_s = measure(n_energy, side, threads)
                sizes.append(side**2 if what == "pixels" else n_energy)
                times.append(fit_s)
                print(
                    f"| {threads} | {n_energy} | {side} x {side} | {1e3 * fit_s:.1f} | {1e-6 * side**2 / fit_s:.1f} | "
                    f"{fit_s / read_s:.1f} x |",
                    flush=True,
                )
    for (what, threads), (sizes, times) in rows.items():
        least = LEAST_SIDE**2 if what == "pixels" else LEAST_ENERGIES
        kept = [(size, time) for size, time in zip(sizes, times, strict=True) if size >= least]
        print(f"exponent over {what}, {threads} threads: {exponent(*map(list, zip(*kept, strict=True))):.3f}")
    if chosen.picture:
        draw(rows, chosen.picture)


if __name__ == "__main__":
    main()
