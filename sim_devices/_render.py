"""Numba kernels that turn maps of the sample into counts.

Each works on a block of rows, holds no lock, and is run over the blocks by a few threads (see `RowBlocks`): Numba's own parallel loops
may not be entered from two threads at once, and the twin renders beside a running analysis. Random numbers come from a counter
(splitmix64 of seed, frame and pixel), so a frame is the same whatever the number of blocks.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

__all__ = ["RowBlocks", "expose", "transmit"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27 = np.uint64(27)
_S30 = np.uint64(30)
_S31 = np.uint64(31)
_S40 = np.uint64(40)
_ONE = np.uint64(1)
_MASK_24 = np.uint64(0xFFFFFF)
_MASK_16 = np.uint64(0xFFFF)
_UNIT_24 = 1.0 / 16777216.0


@numba.njit(inline="always")
def _mix(z):  # type: ignore[no-untyped-def]
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@numba.njit(inline="always")
def _poisson(mean, state):  # type: ignore[no-untyped-def]
    """One Poisson variate and the advanced counter.

    Large means: transformed rejection with squeeze (W. Hoermann, Insurance: Mathematics and Economics 12, 39 (1993)); small ones:
    products of uniforms.
    """
    if mean < 10.0:
        limit = math.exp(-mean)
        product = 1.0
        count = -1
        while True:
            count += 1
            state = state + _GOLDEN
            product *= float((_mix(state) >> _S40) + _ONE) * _UNIT_24
            if product <= limit:
                return float(count), state
    root = math.sqrt(mean)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    squeeze = 0.9277 - 3.6224 / (b - 2.0)
    while True:
        state = state + _GOLDEN
        bits = _mix(state)
        u = (float(bits >> _S40) + 0.5) * _UNIT_24 - 0.5
        v = (float(bits & _MASK_24) + 0.5) * _UNIT_24
        us = 0.5 - abs(u)
        k = math.floor((2.0 * a / us + b) * u + mean + 0.43)
        if us >= 0.07 and v <= squeeze:
            return k, state
        if k < 0.0 or (us < 0.013 and v > us):
            continue
        accept = math.log(v * (1.1239 + 1.1328 / (b - 3.4)) / (a / (us * us) + b))
        if accept <= k * math.log(mean) - mean - math.lgamma(k + 1.0):
            return k, state


@numba.njit(nogil=True, cache=True)
def transmit(first, stop, areal, soc, table, film, out):  # type: ignore[no-untyped-def]
    """Transmission of every pixel at one photon energy.

    Parameters
    ----------
    first, stop : int
        Rows to work on.
    areal : float32 (metals, rows, cols)
        Thickness in um times metal fraction.
    soc : float32 (rows, cols)
        State of charge.
    table : float32 (metals, nodes)
        Absorption per um over the state of charge.
    film : float32
        Optical depth common to all pixels (binder, carbon, electrolyte).
    out : float32 (rows, cols)
        Receives the transmission.
    """
    cols = soc.shape[1]
    last = table.shape[1] - 1
    step = table[:, 1:] - table[:, :-1]
    scale = np.float32(last)
    for i in range(first, stop):
        for j in range(cols):
            x = soc[i, j] * scale
            node = min(int(x), last - 1)
            part = x - np.float32(node)
            depth = film
            for m in range(table.shape[0]):
                depth += areal[m, i, j] * (table[m, node] + part * step[m, node])
            out[i, j] = math.exp(-depth)


@numba.njit(nogil=True, cache=True)
def expose(first, stop, beam, transmission, photons, dark, normal, read_noise, seed, saturation, out):  # type: ignore[no-untyped-def]
    """Draw the counts of one exposure.

    Parameters
    ----------
    first, stop : int
        Rows to work on.
    beam : float32 (rows, cols)
        Relative sensitivity and illumination of each pixel (mean about 1).
    transmission : float32 (rows, cols) or (0, 0)
        Transmission of the sample; empty with the sample out.
    photons : float
        Mean photon counts per pixel where beam and transmission are 1; 0 behind a closed shutter.
    dark : float32 (rows, cols)
        Offset plus dark charge of this exposure.
    normal : float32 (65536,)
        Quantiles of the standard normal distribution.
    read_noise : float
        Standard deviation of the read-out, counts.
    seed : uint64
        Different for each frame.
    saturation : int
        Largest count the camera gives.
    out : uint16 (rows, cols)
        Receives the frame.
    """
    cols = beam.shape[1]
    has_sample = transmission.shape[0] > 0
    start = _mix(seed)
    for i in range(first, stop):
        for j in range(cols):
            state = _mix(start + np.uint64(i * cols + j) * _GOLDEN)
            mean = photons * beam[i, j]
            if has_sample:
                mean *= transmission[i, j]
            value = dark[i, j]
            if mean > 0.0:
                count, state = _poisson(mean, state)
                value += count
            if read_noise > 0.0:
                value += read_noise * normal[_mix(state + _GOLDEN) & _MASK_16]
            out[i, j] = np.uint16(min(max(math.floor(value + 0.5), 0.0), float(saturation)))


class RowBlocks:
    """Runs a kernel over blocks of rows, with a thread for each processor when the frame is worth it.

    Parameters
    ----------
    rows, cols : int
        Shape of the frame.
    """

    def __init__(self, rows: int, cols: int) -> None:
        workers = min(os.cpu_count() or 1, 8) if rows * cols >= 200_000 else 1
        edges = np.linspace(0, rows, 4 * workers + 1 if workers > 1 else 2).astype(int)
        self._blocks = [(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True) if b > a]
        self._pool = ThreadPoolExecutor(workers, "nimco-render") if workers > 1 else None

    def run(self, kernel: Callable[..., None], *args: object) -> None:
        """Call ``kernel(first, stop, *args)`` for every block and wait."""
        if self._pool is None:
            for first, stop in self._blocks:
                kernel(first, stop, *args)
            return
        for future in [self._pool.submit(kernel, a, b, *args) for a, b in self._blocks]:
            future.result()
