"""Whole spectra fitted: spectra a second of the projection, against a plain matrix product and against NNLS per pixel.

    python benchmarks/bench_xrf.py [--side 200] [--channels 4096]

All three see the same map. Conversion of the counts is in the times, the response is not: it is found once.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import nnls

from edge_fitting import DetectorResponse, SpectrumProjection, calibrate_spectrum

ELEMENTS = ("Mn", "Fe", "Co", "Ni")
EXCITATION_EV = 9600.0
_NNLS_SPECTRA = 400


def spectra(side: int, n_channels: int) -> np.ndarray:
    """Return counts of a map whose channels end at 20.5 keV."""
    gain = 20_480.0 / n_channels
    response = DetectorResponse(gain, 0.0, 75.0, 0.118)
    start = calibrate_spectrum(
        np.ones(n_channels), ELEMENTS, EXCITATION_EV, nominal=response, fit_response=False
    )
    window = start.model.window
    shares = np.array([300.0, 5.0, 300.0, 900.0, 60.0, 120.0, 60.0, 60.0])[: start.model.matrix.shape[1]]
    expected = np.zeros(n_channels)
    expected[window.slice] = start.model.matrix @ shares
    rng = np.random.default_rng(1)
    out = np.empty((side * side, n_channels), np.uint16)
    for row in range(0, side * side, side):
        out[row : row + side] = rng.poisson(expected, (side, n_channels))
    return out


def rate(run: Callable[[], Any], n: int, repeats: int = 5) -> float:
    """Return spectra a second, the best of some."""
    best = np.inf
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return n / best


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=200)
    parser.add_argument("--channels", type=int, default=4096)
    chosen = parser.parse_args()
    counts = spectra(chosen.side, chosen.channels)
    n = len(counts)
    found = calibrate_spectrum(
        counts.sum(axis=0, dtype=float),
        ELEMENTS,
        EXCITATION_EV,
        nominal=DetectorResponse(20_480.0 / chosen.channels),
    )
    projection = SpectrumProjection(found.model, found.curve / n)
    matrix = found.model.matrix
    weights = 1.0 / np.sqrt(np.maximum(found.curve / n, 1e-3))
    onto = np.zeros((chosen.channels, matrix.shape[1]), np.float32)
    onto[found.model.window.slice] = projection.matrix.T

    def per_pixel() -> None:
        weighted = matrix * weights[:, None]
        for spectrum in counts[:_NNLS_SPECTRA, found.model.window.slice]:
            nnls(weighted, spectrum * weights)

    rows = {
        "projection": rate(lambda: projection.project(counts), n),
        "with sigma, and again where negative": rate(lambda: projection.fit(counts), n),
        "plain matrix product, all channels": rate(lambda: counts.astype(np.float32) @ onto, n, 2),
        "NNLS per pixel (scipy)": rate(per_pixel, _NNLS_SPECTRA, 2),
    }
    print(
        f"{n} spectra of {chosen.channels} channels, {matrix.shape[0]} of them at the lines, "
        f"{matrix.shape[1]} components"
    )
    for name, per_s in rows.items():
        print(f"{name:38s} {per_s:12,.0f} spectra/s")


if __name__ == "__main__":
    main()
