"""Numba kernels that turn maps of the sample into counts.

Each works on a block of rows, holds no lock, and is run over the blocks by a few threads (see `RowBlocks`):
Numba's own parallel loops may not be entered from two threads at once, and the twin renders beside a running
analysis. Random numbers come from a counter (a hash of seed, frame and pixel), so that a frame is the same whatever
the number of blocks.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

__all__ = [
    "CameraResponse",
    "Illumination",
    "RowBlocks",
    "SampleArrays",
    "expose",
    "normal_thirds",
    "resample_columns",
    "resample_rows",
    "transmit",
]


class SampleArrays(NamedTuple):
    """A sample as the kernel takes it."""

    areal: NDArray[np.float32]
    """Thickness in um, times metal fraction, shape (maps, rows, cols)."""
    soc: NDArray[np.float32]
    """State of charge, shape (rows, cols)."""
    variance: NDArray[np.float32]
    """Its variance along the ray, shape (rows, cols)."""


class Illumination(NamedTuple):
    """The open beam during one exposure."""

    photons: float
    """Mean photons per pixel; 0 behind a closed shutter."""
    tilt: tuple[float, float]
    """Change of the illumination from the centre to the last row and column."""
    stray: float
    """Share of the open beam that reaches every pixel past the sample."""
    random: bool
    """Whether photons arrive at random."""
    exposure_s: float
    """Length of the exposure."""


class CameraResponse(NamedTuple):
    """What a camera makes of photons."""

    sensitivity: NDArray[np.float32]
    """Illumination and sensitivity of each pixel (mean about 1), shape (rows, cols)."""
    offset: NDArray[np.float32]
    """Counts without light, shape (rows, cols)."""
    dark_per_s: NDArray[np.float32]
    """Dark charge in photon equivalents per second, shape (rows, cols)."""
    gain: float
    """Counts per photon."""
    full_well: float
    """Largest count."""
    read_noise: float
    """Standard deviation of the read-out in counts."""


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27 = np.uint64(27)
_S30 = np.uint64(30)
_S31 = np.uint64(31)
_S32 = np.uint64(32)
_S40 = np.uint64(40)
_MASK_24 = np.uint64(0xFFFFFF)
_UNIT_24 = 1.0 / 16777216.0
_GOLDEN_32 = np.uint32(0x9E3779B9)
_MIX_32A = np.uint32(0x7FEB352D)
_MIX_32B = np.uint32(0x846CA68B)
_MIX_32C = np.uint32(0x85EBCA6B)
_T12 = np.uint32(12)
_T15 = np.uint32(15)
_T16 = np.uint32(16)
_MASK_12 = np.uint32(0xFFF)
_UNITY = np.float32(1.0)
_HALF = np.float32(0.5)
_SIXTH = np.float32(1.0 / 6.0)
_MANY = np.float32(1000.0)


@numba.njit(inline="always")
def _mix(z):
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@numba.njit(inline="always")
def _mix32(h):
    h = (h ^ (h >> _T16)) * _MIX_32A
    h = (h ^ (h >> _T15)) * _MIX_32B
    return h ^ (h >> _T16)


@numba.njit(inline="always")
def _poisson(mean, state):
    """One Poisson variate, exact.

    From 10 on: transformed rejection with squeeze (W. Hoermann, Insurance: Mathematics and Economics 12, 39
    (1993)); below: products of uniforms.
    """
    state = state + _GOLDEN
    if mean < 10.0:
        limit = math.exp(-mean)
        product = 1.0
        count = -1.0
        while True:
            count += 1.0
            product *= (float(_mix(state) >> _S40) + 0.5) * _UNIT_24
            if product <= limit:
                return count
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
        k = float(math.floor((2.0 * a / us + b) * u + mean + 0.43))
        if us >= 0.07 and v <= squeeze:
            return k
        if k >= 0.0 and not (us < 0.013 and v > us):
            accept = math.log(v * (1.1239 + 1.1328 / (b - 3.4)) / (a / (us * us) + b))
            if accept <= k * math.log(mean) - mean - math.lgamma(k + 1.0):
                return k
        state = state + _GOLDEN


@numba.njit(nogil=True, cache=True)
def transmit(first, stop, origin, sample, table, film, out):
    """Transmission of every pixel at one photon energy.

    Parameters
    ----------
    first, stop : int
        Rows of `out` to work on.
    origin : tuple of int
        Row and column of the maps that `out` begins with; beyond their border the maps repeat themselves.
    sample : SampleArrays
        What is in the beam.
    table : float32 (maps, nodes)
        Absorption per um over the state of charge.
    film : float32
        Optical depth common to all pixels (binder, carbon, electrolyte).
    out : float32 (rows, cols)
        Receives the transmission.
    """
    areal, soc, variance = sample
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
    rows, cols = soc.shape
    for i in range(first, stop):
        y = (i + origin[0]) % rows
        x = (origin[1] - 1) % cols
        for j in range(out.shape[1]):
            x = x + 1 if x + 1 < cols else 0
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
def resample_columns(first, stop, source, index, weight, out):
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
def resample_rows(first, stop, source, index, weight, out):
    """Interpolate along each column, as `resample_columns` does along each row."""
    for i in range(first, stop):
        a = index[i]
        w0, w1, w2, w3 = weight[i, 0], weight[i, 1], weight[i, 2], weight[i, 3]
        for j in range(out.shape[1]):
            out[i, j] = (
                w0 * source[a, j] + w1 * source[a + 1, j] + w2 * source[a + 2, j] + w3 * source[a + 3, j]
            )


@numba.njit(nogil=True, cache=True)
def expose(first, stop, light, camera, transmission, normal, seed, out):
    """Draw the counts of one exposure.

    Parameters
    ----------
    first, stop : int
        Rows to work on.
    light : Illumination
        The open beam during the exposure.
    camera : CameraResponse
        What the camera makes of it.
    transmission : float32 (rows, cols) or (0, 0)
        Transmission of the sample; empty with the sample out.
    normal : float32 (4096,)
        Quantiles of a normal distribution of variance 1/3, from `normal_thirds`.
    seed : uint64
        Different for each frame.
    out : uint16 (rows, cols)
        Receives the frame.
    """
    tilt, photons, random = light.tilt, light.photons, light.random
    sensitivity, offset, charge = camera.sensitivity, camera.offset, camera.dark_per_s
    rows, cols = sensitivity.shape
    gain, full = np.float32(camera.gain), np.float32(camera.full_well)
    has_sample = transmission.shape[0] > 0
    past, through = np.float32(light.stray), np.float32(1.0 - light.stray)
    exposure_s = np.float32(light.exposure_s)
    read_noise = np.float32(camera.read_noise * math.sqrt(3.0))
    start = _mix(seed)
    mean = np.empty(cols, dtype=np.float32)
    for i in range(first, stop):
        left = np.float32(photons * (1.0 + tilt[0] * (2.0 * i / rows - 1.0) - tilt[1]))
        slope = np.float32(photons * 2.0 * tilt[1] / cols)
        for j in range(cols):
            light = (left + slope * np.float32(j)) * sensitivity[i, j]
            if has_sample:
                light *= transmission[i, j] * through + past
            mean[j] = light + charge[i, j] * exposure_s
        base = np.uint32(_mix(start + np.uint64(i) * _MIX_1) >> _S32)
        for j in range(cols):
            # Three normal deviates add up to one; a fourth is the read-out. The quadratic term gives the photons
            # the skewness of the Poisson law (Cornish-Fisher), which makes them good to a part in the mean.
            bits = _mix32(base + np.uint32(j) * _GOLDEN_32)
            more = _mix32(bits + _MIX_32C)
            z = normal[bits & _MASK_12] + normal[(bits >> _T12) & _MASK_12] + normal[more & _MASK_12]
            photon = mean[j]
            if random:
                photon = np.floor(photon + np.sqrt(photon) * z + (z * z - _UNITY) * _SIXTH + _HALF)
            value = offset[i, j] + gain * photon + read_noise * normal[(more >> _T12) & _MASK_12]
            out[i, j] = np.uint16(np.int32(min(max(value + _HALF, np.float32(0.0)), full)))
        if not random:
            continue
        for j in range(cols):
            if mean[j] < _MANY:
                count = np.float32(_poisson(mean[j], start + np.uint64(i * cols + j) * _MIX_2))
                more = _mix32(_mix32(base + np.uint32(j) * _GOLDEN_32) + _MIX_32C)
                value = offset[i, j] + gain * count + read_noise * normal[(more >> _T12) & _MASK_12]
                out[i, j] = np.uint16(np.int32(min(max(value + _HALF, np.float32(0.0)), full)))


def normal_thirds() -> NDArray[np.float32]:
    """Return 4096 quantiles of a normal distribution, scaled so that three independent ones have variance 1."""
    quantiles = ndtri((np.arange(4096) + 0.5) / 4096)
    return np.asarray(quantiles / np.sqrt(3.0 * np.mean(quantiles**2)), dtype=np.float32)


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
