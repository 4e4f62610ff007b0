"""Numba kernels that turn maps of the sample into counts.

Each works on a block of rows, holds no lock, and is run over the blocks by a few threads (see `RowBlocks`):
Numba's own parallel loops may not be entered from two threads at once, and the twin renders beside a running
analysis. Random numbers come from a counter (splitmix64 of seed, frame and pixel), so that a frame is the same
whatever the number of blocks.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numba
import numpy as np

__all__ = ["RowBlocks", "expose", "resample_columns", "resample_rows", "transmit"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27 = np.uint64(27)
_S30 = np.uint64(30)
_S24 = np.uint64(24)
_S31 = np.uint64(31)
_S48 = np.uint64(48)
_S40 = np.uint64(40)
_MASK_24 = np.uint64(0xFFFFFF)
_MASK_16 = np.uint64(0xFFFF)
_UNIT_24 = 1.0 / 16777216.0
_HALF_ROOT = math.sqrt(0.5)
_MANY = 1000.0


@numba.njit(inline="always")
def _mix(z):  # type: ignore[no-untyped-def]
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@numba.njit(inline="always")
def _poisson(mean, state, normal):  # type: ignore[no-untyped-def]
    """One Poisson variate and the advanced counter.

    From 1000 on: a normal deviate with the skewness of the Poisson law (Cornish-Fisher), good to a part in `mean`.
    Below: transformed rejection with squeeze (W. Hoermann, Insurance: Mathematics and Economics 12, 39 (1993)),
    and below 10 products of uniforms, both exact.
    """
    state = state + _GOLDEN
    if mean >= _MANY:
        bits = _mix(state)
        z = (normal[bits & _MASK_16] + normal[bits >> _S48]) * _HALF_ROOT
        return math.floor(mean + math.sqrt(mean) * z + (z * z - 1.0) / 6.0 + 0.5), state
    if mean < 10.0:
        limit = math.exp(-mean)
        product = 1.0
        count = -1.0
        while True:
            count += 1.0
            product *= (float(_mix(state) >> _S40) + 0.5) * _UNIT_24
            if product <= limit:
                return count, state
            state = state + _GOLDEN
    root = math.sqrt(mean)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    squeeze = 0.9277 - 3.6224 / (b - 2.0)
    while True:
        bits = _mix(state)
        u = (float(bits >> _S40) + 0.5) * _UNIT_24 - 0.5
        v = (float(bits & _MASK_24) + 0.5) * _UNIT_24
        us = 0.5 - abs(u)
        k = math.floor((2.0 * a / us + b) * u + mean + 0.43)
        if us >= 0.07 and v <= squeeze:
            return k, state
        if k >= 0.0 and not (us < 0.013 and v > us):
            accept = math.log(v * (1.1239 + 1.1328 / (b - 3.4)) / (a / (us * us) + b))
            if accept <= k * math.log(mean) - mean - math.lgamma(k + 1.0):
                return k, state
        state = state + _GOLDEN


@numba.njit(nogil=True, cache=True)
def transmit(first, stop, margin, areal, soc, variance, table, film, out):  # type: ignore[no-untyped-def]
    """Transmission of every pixel at one photon energy.

    Parameters
    ----------
    first, stop : int
        Rows of `out` to work on.
    margin : int
        Rows and columns of the maps before the first of `out`.
    areal : float32 (maps, rows, cols)
        Thickness in um, times metal fraction.
    soc, variance : float32 (rows, cols)
        State of charge and its variance along the ray.
    table : float32 (maps, nodes)
        Absorption per um over the state of charge.
    film : float32
        Optical depth common to all pixels (binder, carbon, electrolyte).
    out : float32 (rows, cols)
        Receives the transmission.
    """
    maps, nodes = table.shape
    last = nodes - 1
    scale = np.float32(last)
    step = table[:, 1:] - table[:, :-1]
    # Half the second derivative: what a spread of states along the ray adds to the absorption of their mean.
    curve = np.zeros_like(table)
    for m in range(maps):
        for n in range(1, last):
            curve[m, n] = (
                np.float32(0.5) * (table[m, n + 1] - 2 * table[m, n] + table[m, n - 1]) * scale * scale
            )
        curve[m, 0] = curve[m, 1]
        curve[m, last] = curve[m, last - 1]
    bare = np.float32(math.exp(-film))
    for i in range(first, stop):
        for j in range(out.shape[1]):
            y, x = i + margin, j + margin
            if areal[0, y, x] == 0.0:
                out[i, j] = bare
                continue
            place = soc[y, x] * scale
            node = min(int(place), last - 1)
            part = place - np.float32(node)
            spread = variance[y, x]
            depth = film
            for m in range(maps):
                depth += areal[m, y, x] * (table[m, node] + part * step[m, node] + spread * curve[m, node])
            out[i, j] = math.exp(-depth)


@numba.njit(nogil=True, cache=True)
def resample_columns(first, stop, source, index, weight, out):  # type: ignore[no-untyped-def]
    """Interpolate along each row: ``out[:, j] = sum_k weight[j, k] source[:, index[j] + k]``, k = 0..3.

    Parameters
    ----------
    first, stop : int
        Rows to work on.
    source : float32 (rows, any)
        What is resampled.
    index : int64 (cols,)
        First of four neighbours for each column.
    weight : float32 (cols, 4)
        Their weights.
    out : float32 (rows, cols)
        Receives the result.
    """
    for i in range(first, stop):
        for j in range(out.shape[1]):
            a = index[j]
            out[i, j] = (
                weight[j, 0] * source[i, a]
                + weight[j, 1] * source[i, a + 1]
                + weight[j, 2] * source[i, a + 2]
                + weight[j, 3] * source[i, a + 3]
            )


@numba.njit(nogil=True, cache=True)
def resample_rows(first, stop, source, index, weight, out):  # type: ignore[no-untyped-def]
    """Interpolate along each column, as `resample_columns` does along each row."""
    for i in range(first, stop):
        a = index[i]
        w0, w1, w2, w3 = weight[i, 0], weight[i, 1], weight[i, 2], weight[i, 3]
        for j in range(out.shape[1]):
            out[i, j] = (
                w0 * source[a, j] + w1 * source[a + 1, j] + w2 * source[a + 2, j] + w3 * source[a + 3, j]
            )


@numba.njit(nogil=True, cache=True)
def expose(  # type: ignore[no-untyped-def]
    first, stop, sensitivity, tilt, transmission, photons, stray, dark, well, noise, normal, seed, out
):
    """Draw the counts of one exposure.

    Parameters
    ----------
    first, stop : int
        Rows to work on.
    sensitivity : float32 (rows, cols)
        Illumination and sensitivity of each pixel (mean about 1).
    tilt : tuple of float
        Change of the illumination from the centre to the last row and column.
    transmission : float32 (rows, cols) or (0, 0)
        Transmission of the sample; empty with the sample out.
    photons : float
        Mean photons per pixel of the open beam; 0 behind a closed shutter.
    stray : float
        Share of the open beam that reaches every pixel past the sample.
    dark : tuple of float32 (rows, cols), float32 (rows, cols) and float
        Offset in counts, dark charge in photon equivalents per second, and exposure in s.
    well : tuple of float
        Counts per photon and largest count.
    noise : tuple of (bool, float)
        Whether photons arrive at random, and the standard deviation of the read-out in counts.
    normal : float32 (65536,)
        Quantiles of the standard normal distribution.
    seed : uint64
        Different for each frame.
    out : uint16 (rows, cols)
        Receives the frame.
    """
    rows, cols = sensitivity.shape
    offset, charge, exposure_s = dark
    gain, full = well
    random, read_noise = noise
    has_sample = transmission.shape[0] > 0
    start = _mix(seed)
    for i in range(first, stop):
        across = 1.0 + tilt[0] * (2.0 * i / rows - 1.0)
        for j in range(cols):
            state = start + np.uint64(i * cols + j) * _MIX_1
            light = photons * sensitivity[i, j] * (across + tilt[1] * (2.0 * j / cols - 1.0))
            if has_sample:
                light *= transmission[i, j] * (1.0 - stray) + stray
            mean = light + charge[i, j] * exposure_s
            if random and mean > 0.0:
                mean, state = _poisson(mean, state, normal)
            value = offset[i, j] + gain * mean
            if read_noise > 0.0:
                value += read_noise * normal[(_mix(state) >> _S24) & _MASK_16]
            out[i, j] = np.uint16(min(max(math.floor(value + 0.5), 0.0), full))


class RowBlocks:
    """Runs a kernel over blocks of rows, with a thread for each processor when the frame is worth it.

    Parameters
    ----------
    pixels : int
        Size of the frame.
    """

    def __init__(self, pixels: int) -> None:
        self._workers = min(os.cpu_count() or 1, 8) if pixels >= 200_000 else 1
        self._pool = ThreadPoolExecutor(self._workers, "twin-render") if self._workers > 1 else None

    def run(self, kernel: Callable[..., None], rows: int, *args: object) -> None:
        """Call ``kernel(first, stop, *args)`` over all rows and wait."""
        if self._pool is None:
            kernel(0, rows, *args)
            return
        edges = np.linspace(0, rows, 4 * self._workers + 1).astype(int).tolist()
        futures = [self._pool.submit(kernel, a, b, *args) for a, b in pairwise(edges)]
        for future in futures:
            future.result()
