"""Kernels that fold frames into per-pixel sums.

All of them are frame-major: energy is the outermost axis, so that the inner loops run over neighbouring
pixels. A block of pixels stays in the first-level cache while every frame of a batch passes over it.
"""

from __future__ import annotations

import numba as nb
import numpy as np

_BLOCK = 256


@nb.njit(cache=True, nogil=True)
def _take_frame(frame, values, highest, at_highest, saturated):  # type: ignore[no-untyped-def]
    """Copy one frame of one block as float64, missing values as 0; return how many are missing."""
    missing = 0
    for i in range(frame.size):
        y = frame[i]
        finite = (y - y) == 0.0
        if not finite:
            missing += 1
        values[i] = y if finite else 0.0
    for i in range(frame.size):
        y = frame[i]
        top = highest[i]
        at_highest[i] = 1 if y > top and (y - y) == 0.0 else at_highest[i] + (1 if y == top else 0)
        highest[i] = y if y > top and (y - y) == 0.0 else top
    if missing:
        for i in range(frame.size):
            y = frame[i]
            if y == y and (y - y) != 0.0:
                saturated[i] += 1
    return missing


@nb.njit(cache=True, nogil=True)
def _fold_block(  # type: ignore[no-untyped-def]
    stack, projector, weight, lo, hi, sums, highest, at_highest, saturated, missing
):
    n_frames, n_basis = projector.shape
    size = hi - lo
    y0 = np.empty(size)
    y1 = np.empty(size)
    y2 = np.empty(size)
    y3 = np.empty(size)
    top = highest[lo:hi]
    at_top = at_highest[lo:hi]
    sat = saturated[lo:hi]
    square = sums[n_basis, lo:hi]
    for f in range(0, n_frames, 4):
        left = n_frames - f
        # Four frames per pass over the sums, the last pass filled up with zero weights.
        f1 = f + 1 if left > 1 else f
        f2 = f + 2 if left > 2 else f
        f3 = f + 3 if left > 3 else f
        w0 = weight[f]
        w1 = weight[f1] if left > 1 else 0.0
        w2 = weight[f2] if left > 2 else 0.0
        w3 = weight[f3] if left > 3 else 0.0
        missing[f] += _take_frame(stack[f, lo:hi], y0, top, at_top, sat)
        if left > 1:
            missing[f1] += _take_frame(stack[f1, lo:hi], y1, top, at_top, sat)
        else:
            y1[:] = 0.0
        if left > 2:
            missing[f2] += _take_frame(stack[f2, lo:hi], y2, top, at_top, sat)
        else:
            y2[:] = 0.0
        if left > 3:
            missing[f3] += _take_frame(stack[f3, lo:hi], y3, top, at_top, sat)
        else:
            y3[:] = 0.0
        for i in range(size):
            square[i] += w0 * y0[i] * y0[i] + w1 * y1[i] * y1[i] + w2 * y2[i] * y2[i] + w3 * y3[i] * y3[i]
        for k in range(n_basis):
            c0 = w0 * projector[f, k]
            c1 = w1 * projector[f1, k]
            c2 = w2 * projector[f2, k]
            c3 = w3 * projector[f3, k]
            row = sums[k, lo:hi]
            for i in range(size):
                row[i] += c0 * y0[i] + c1 * y1[i] + c2 * y2[i] + c3 * y3[i]


@nb.njit(cache=True, nogil=True, parallel=True)
def fold(  # type: ignore[no-untyped-def]
    stack, projector, weight, sums, highest, at_highest, saturated, missing
):
    """Add frames to the sufficient statistics.

    Parameters
    ----------
    stack : float32 (n_frames, n_pixels)
        Optical depth; NaN is missing, infinite is missing for saturation.
    projector : float64 (n_frames, n_basis)
        Values of the basis functions at each frame's energy.
    weight : float64 (n_frames,)
        Weight of each frame.
    sums : float64 (n_basis + 1, n_pixels)
        Sum of weight * basis * y, and in the last row of weight * y**2; added to.
    highest : float32 (n_pixels,)
        Highest finite value met; updated.
    at_highest : uint16 (n_pixels,)
        How often exactly that value was met; updated.
    saturated : uint16 (n_pixels,)
        Infinite values met; updated.
    missing : int64 (n_threads_or_blocks, n_frames)
        Missing values per block and frame; added to. One row per block of 256 pixels.
    """
    n_pixels = stack.shape[1]
    for block in nb.prange(missing.shape[0]):
        lo = block * _BLOCK
        hi = min(lo + _BLOCK, n_pixels)
        _fold_block(stack, projector, weight, lo, hi, sums, highest, at_highest, saturated, missing[block])


def count_blocks(n_pixels: int) -> int:
    """Rows that :func:`fold` needs in ``missing``."""
    return -(-n_pixels // _BLOCK)


@nb.njit(cache=True, nogil=True, parallel=True)
def correct_counts(  # type: ignore[no-untyped-def]
    counts, dark, flat, dark_flat, scale, saturation, bits, out
):
    """Turn detector counts into optical depth, ``-ln(scale * (counts - dark) / (flat - dark_flat))``.

    Parameters
    ----------
    counts : uint16 (n_pixels,)
        Detector counts.
    dark, flat, dark_flat : float32 (n_pixels,)
        Mean dark of the frame's exposure, mean flat, mean dark of the flat's exposure.
    scale : float32
        Ratio of exposures and incident intensities, flat over sample.
    saturation : int64
        Counts from here on are saturated.
    bits : int32 (n_pixels,)
        The memory of ``out`` seen as integers.
    out : float32 (n_pixels,)
        Optical depth; NaN where the flat has no light, infinite where the sample frame is saturated (-inf) or
        has no light (+inf).

    Notes
    -----
    The logarithm is written out (Cephes ``logf``: exponent split off, degree-8 polynomial, relative error below
    1e-7) because a call per pixel would keep the loop from being vectorised.
    """
    n_pixels = counts.size
    blocks = (n_pixels + 4095) // 4096
    for block in nb.prange(blocks):
        lo = block * 4096
        hi = min(lo + 4096, n_pixels)
        _correct_block(
            counts[lo:hi],
            dark[lo:hi],
            flat[lo:hi],
            dark_flat[lo:hi],
            scale,
            saturation,
            bits[lo:hi],
            out[lo:hi],
        )


@nb.njit(cache=True, nogil=True)
def _correct_block(counts, dark, flat, dark_flat, scale, saturation, bits, out):  # type: ignore[no-untyped-def]
    one = np.float32(1.0)
    half = np.float32(0.5)
    for i in range(counts.size):
        light = np.float32(counts[i]) - dark[i]
        beam = flat[i] - dark_flat[i]
        out[i] = light * scale / beam if light > 0.0 and beam > 0.0 else one
    for i in range(counts.size):
        word = bits[i]
        exponent = np.float32((word >> 23) - 126)
        bits[i] = (word & 0x007FFFFF) | 0x3F000000
        x = out[i]
        low = x < np.float32(0.707106781186547524)
        exponent = exponent - one if low else exponent
        x = x + x - one if low else x - one
        z = x * x
        y = np.float32(7.0376836292e-2)
        y = y * x - np.float32(1.1514610310e-1)
        y = y * x + np.float32(1.1676998740e-1)
        y = y * x - np.float32(1.2420140846e-1)
        y = y * x + np.float32(1.4249322787e-1)
        y = y * x - np.float32(1.6668057665e-1)
        y = y * x + np.float32(2.0000714765e-1)
        y = y * x - np.float32(2.4999993993e-1)
        y = y * x + np.float32(3.3333331174e-1)
        y = y * x * z
        y = y + np.float32(-2.12194440e-4) * exponent
        y = y - half * z
        out[i] = -(x + y + np.float32(0.693359375) * exponent)
    for i in range(counts.size):
        light = np.float32(counts[i]) - dark[i]
        beam = flat[i] - dark_flat[i]
        y = out[i]
        y = y if light > 0.0 else np.float32(np.inf)
        y = y if counts[i] < saturation else np.float32(-np.inf)
        out[i] = y if beam > 0.0 else np.float32(np.nan)
