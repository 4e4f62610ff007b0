"""Kernels that write the values and the status of the pixels of a block.

Short loops of few arrays each: the compiler makes vector code of those only.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from edge_fitting.base import FitStatus

_OK = int(FitStatus.OK)
_BELOW = int(FitStatus.BELOW_RANGE)
_ABOVE = int(FitStatus.ABOVE_RANGE)
_NO_DATA = int(FitStatus.NO_DATA)
_FLAT = int(FitStatus.FLAT)
_NO_EDGE = int(FitStatus.NO_EDGE)
_INVERTED = int(FitStatus.INVERTED)
_SATURATED = int(FitStatus.SATURATED)
_UNCERTAIN = int(FitStatus.UNCERTAIN)
# What a pixel lacks, beside its status.
_STATUS = 255
_NO_VALUE, _NO_EDGE_VALUE, _NO_NOISE = 256, 512, 1024
_NO_VALUE_NOR_EDGE = _NO_VALUE | _NO_EDGE_VALUE
_UNUSABLE = _NO_VALUE | _NO_EDGE_VALUE | _NO_NOISE


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _between(series, place, at):
    """Interpolate what the table says to the places of a block; shape (6, size)."""
    table = series.at_nodes
    last = table.shape[0] - 1
    for i in range(place.size):
        a = min(max(np.int64(place[i]), 0), last - 1)
        t = min(max(place[i] - a, 0.0), 1.0)
        low, high = np.uint64(a), np.uint64(a + 1)
        for m in range(6):
            at[m, i] = (1.0 - t) * table[low, m] + t * table[high, m]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _judge_values(series, limits, found, soc, sigma, codes):
    """Say what pixels are by their value alone."""
    last = np.float64(series.at_nodes.shape[0] - 1)
    place = found.place
    widest, soc_low, soc_high = limits.widest_sigma, limits.soc_low, limits.soc_high
    for i in range(soc.size):
        code = _OK
        code = _BELOW if soc[i] < soc_low else code
        code = _ABOVE if soc[i] > soc_high else code
        codes[i] = code if sigma[i] < widest else _UNCERTAIN | _NO_VALUE
    for i in range(soc.size):
        codes[i] = codes[i] if place[i] >= 0.0 else _BELOW | _NO_VALUE
    for i in range(soc.size):
        codes[i] = codes[i] if not place[i] > last else _ABOVE | _NO_VALUE


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _judge_edges(limits, found, noise2, noise2_down, codes):
    """Say which pixels have no edge, or one that falls."""
    peak, worst = found.peak, found.worst
    detect = limits.detection
    for i in range(codes.size):
        codes[i] = codes[i] if peak[i] * peak[i] > detect * noise2[i] else _NO_EDGE | _NO_VALUE_NOR_EDGE
    for i in range(codes.size):
        code = _INVERTED if worst[i] * worst[i] > detect * noise2_down[i] else _NO_EDGE
        codes[i] = code | _NO_VALUE_NOR_EDGE if -worst[i] > peak[i] else codes[i]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _judge_counts(highest, at_highest, saturated, n_frames, codes):
    """Say which pixels cannot be fitted for what the detector gave."""
    for i in range(codes.size):
        codes[i] = _FLAT | _UNUSABLE if at_highest[i] >= n_frames else codes[i]
    for i in range(codes.size):
        burnt = saturated[i] > 1 and saturated[i] > 0.05 * n_frames
        codes[i] = _SATURATED | _UNUSABLE if burnt else codes[i]
    for i in range(codes.size):
        code = _SATURATED if saturated[i] > 0 else _NO_DATA
        codes[i] = code | _UNUSABLE if highest[i] == -np.inf else codes[i]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _keep(values, codes, unless, kept):
    """Take over values, NaN where the code says that there are none."""
    for i in range(codes.size):
        kept[i] = np.nan if codes[i] & unless else values[i]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def write_values(pixels, series, n_frames, limits, pooled, span, found, out, status):
    """Write values and status of the pixels of a block.

    Short loops of few arrays each: the compiler makes vector code of those only.
    """
    lo, hi, at = span
    size = hi - lo
    end = at + size
    peak, rest, worst = found.peak, found.rest, found.worst
    at_highest = pixels.at_highest[lo:hi]
    q = pixels.sums[pixels.sums.shape[0] - 1, lo:hi]
    table = np.empty((6, size))
    _between(series, found.place, table)
    soc, length, fisher, power, energy, slope = table[0], table[1], table[2], table[3], table[4], table[5]
    noise, noise2, noise2_down, jump, goodness, sigma = np.empty((6, size))
    codes = np.empty(size, np.int32)
    dof = limits.dof
    # Rounding of float32 data and float64 sums sets the smallest residual that means anything.
    for i in range(size):
        noise2_down[i] = max(rest[i] - worst[i] * worst[i], 1e-14 * q[i]) / dof
    for i in range(size):
        rest[i] = max(rest[i] - peak[i] * peak[i], 1e-14 * q[i])
    for i in range(size):
        noise2[i] = rest[i] / dof
    for i in range(size):
        noise[i] = np.sqrt(noise2[i])
    if pooled.size > 1:
        for i in range(size):
            noise2[i] = pooled[lo + i]
            noise2_down[i] = pooled[lo + i]
    for i in range(size):
        jump[i] = peak[i] / length[i]
    for i in range(size):
        goodness[i] = rest[i] / (jump[i] * jump[i] * power[i] + rest[i])
    for i in range(size):
        sigma[i] = np.sqrt(noise2[i] / fisher[i]) / jump[i]
    # The last judgement is the one that counts.
    _judge_values(series, limits, found, soc, sigma, codes)
    often = max(4.0, 0.1 * n_frames)
    for i in range(size):
        clipped = at_highest[i] >= often and goodness[i] > 1e-6
        codes[i] = _SATURATED | _NO_VALUE_NOR_EDGE if clipped else codes[i]
    _judge_edges(limits, found, noise2, noise2_down, codes)
    _judge_counts(pixels.highest[lo:hi], at_highest, pixels.saturated[lo:hi], n_frames, codes)
    _keep(soc, codes, _NO_VALUE, out[0, at:end])
    _keep(sigma, codes, _NO_VALUE, out[1, at:end])
    _keep(energy, codes, _NO_VALUE, out[2, at:end])
    for i in range(size):
        slope[i] = abs(slope[i]) * sigma[i]
    _keep(slope, codes, _NO_VALUE, out[3, at:end])
    _keep(jump, codes, _NO_EDGE_VALUE, out[4, at:end])
    _keep(goodness, codes, _NO_EDGE_VALUE, out[5, at:end])
    _keep(noise, codes, _NO_NOISE, out[6, at:end])
    written = status[at:end]
    for i in range(size):
        written[i] = codes[i] & _STATUS
