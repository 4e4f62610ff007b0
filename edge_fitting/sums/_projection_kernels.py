"""Kernels that fold frames into per-pixel sums.

All of them are frame-major: energy is the outermost axis, so that the inner loops run over neighbouring
pixels. A block of pixels stays in the first-level cache while every frame of a batch passes over it.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from ._records import BlockSums, CountsCorrection

BLOCK = 512
_CHUNK = 16384


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _take_frame(frame, weight, values, square, top, at_top, saturated):
    """Copy one frame of one block as float64, missing values as 0; return how many are missing."""
    missing = 0
    for i in range(frame.size):
        y = frame[i]
        finite = (y - y) == 0.0
        values[i] = y if finite else 0.0
        square[i] += weight * values[i] * values[i]
        if not finite:
            missing += 1
            saturated[i] += 1 if y == y else 0
        elif y >= top[i]:
            at_top[i] = at_top[i] + 1.0 if y == top[i] else 1.0
            top[i] = y
    return missing


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _take_four(frames, weights, values, square):
    """Copy four frames of one block as float64; a missing value makes ``square`` NaN or infinite."""
    a, b, c, d = frames
    wa, wb, wc, wd = weights
    ya, yb, yc, yd = values
    for i in range(a.size):
        ya[i] = a[i]
        yb[i] = b[i]
        yc[i] = c[i]
        yd[i] = d[i]
        square[i] += wa * ya[i] * ya[i] + wb * yb[i] * yb[i] + wc * yc[i] * yc[i] + wd * yd[i] * yd[i]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _update_highest_of_four(a, b, c, d, top, at_top):
    """Keep the highest value of each pixel and how often exactly it was met."""
    one, zero = np.float32(1.0), np.float32(0.0)
    for i in range(a.size):
        first = a[i] if a[i] > b[i] else b[i]
        second = c[i] if c[i] > d[i] else d[i]
        highest = first if first > second else second
        count = zero if highest > top[i] else at_top[i]
        highest = highest if highest > top[i] else top[i]
        count += one if a[i] == highest else zero
        count += one if b[i] == highest else zero
        count += one if c[i] == highest else zero
        count += one if d[i] == highest else zero
        top[i] = highest
        at_top[i] = count


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _update_highest(frame, top, at_top):
    """Do the same for one frame."""
    one, zero = np.float32(1.0), np.float32(0.0)
    for i in range(frame.size):
        count = zero if frame[i] > top[i] else at_top[i]
        top[i] = frame[i] if frame[i] > top[i] else top[i]
        at_top[i] = count + (one if frame[i] == top[i] else zero)


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def add_rows(r0, r1, c, ya, yb, yc, yd):
    """Add four frames, each times its coefficient, to two rows of sums; c is (row, frame).

    Two rows, because their eight coefficients and all else then stay in the sixteen registers of the processor.
    """
    a0, b0, c0, d0 = c[0, 0], c[0, 1], c[0, 2], c[0, 3]
    a1, b1, c1, d1 = c[1, 0], c[1, 1], c[1, 2], c[1, 3]
    for i in range(r0.size):
        r0[i] += a0 * ya[i] + b0 * yb[i] + c0 * yc[i] + d0 * yd[i]
        r1[i] += a1 * ya[i] + b1 * yb[i] + c1 * yc[i] + d1 * yd[i]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _add_four_rows(r0, r1, r2, r3, c, ya, yb, yc, yd):
    """Do the same for four rows at once: fewer loads and stores for processors with more registers."""
    a0, b0, c0, d0 = c[0, 0], c[0, 1], c[0, 2], c[0, 3]
    a1, b1, c1, d1 = c[1, 0], c[1, 1], c[1, 2], c[1, 3]
    a2, b2, c2, d2 = c[2, 0], c[2, 1], c[2, 2], c[2, 3]
    a3, b3, c3, d3 = c[3, 0], c[3, 1], c[3, 2], c[3, 3]
    for i in range(r0.size):
        a, b, e, d = ya[i], yb[i], yc[i], yd[i]
        r0[i] += a0 * a + b0 * b + c0 * e + d0 * d
        r1[i] += a1 * a + b1 * b + c1 * e + d1 * d
        r2[i] += a2 * a + b2 * b + c2 * e + d2 * d
        r3[i] += a3 * a + b3 * b + c3 * e + d3 * d


@nb.njit(cache=True, nogil=True, error_model="numpy")
def make_coefficients(frames):
    """Work out what each four frames add to all rows of sums, shape (groups, rows, 4); rows beyond them add nothing."""
    projector, weight = frames.projector, frames.weight
    n_frames, n_basis = projector.shape
    coefficients = np.zeros(((n_frames + 3) // 4, 2 * ((n_basis + 1) // 2), 4))
    for f in range(n_frames):
        for k in range(n_basis):
            coefficients[f // 4, k, f % 4] = weight[f] * projector[f, k]
    return coefficients


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _project_four(rows, size, c, y):
    """Add four frames, as float64 in ``y``, to all rows of sums; c is (row, frame)."""
    ya, yb, yc, yd = y[0, :size], y[1, :size], y[2, :size], y[3, :size]
    n = rows.shape[0]
    k = 0
    while n - k > 2:
        _add_four_rows(
            rows[k, :size],
            rows[k + 1, :size],
            rows[k + 2, :size],
            rows[k + 3, :size],
            c[k : k + 4],
            ya,
            yb,
            yc,
            yd,
        )
        k += 4
    if k < n:
        add_rows(rows[k, :size], rows[k + 1, :size], c[k : k + 2], ya, yb, yc, yd)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _rows_of(n_rows, size):
    """Make zeros of float64, shape (n_rows, size and more).

    In a big array, rows of an image with a power of two of pixels would all fall on the same lines of the cache; a row
    of padding keeps them off each other here.
    """
    return np.zeros((n_rows, size + 24))


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _fold_complete(frames, coefficients, lo, hi, block):
    """Project the frames of one block; return whether none of their values is missing.

    That shows in the end, in the squares, which saves looking at every value first.
    """
    stack, weight, square = frames.stack, frames.weight, block.square
    n_frames = stack.shape[0]
    size = hi - lo
    y = _rows_of(4, size)
    for f in range(0, n_frames, 4):
        left = min(4, n_frames - f)
        last = f + left - 1
        # Past the last frame it is repeated, with no weight.
        f1, f2, f3 = min(f + 1, last), min(f + 2, last), min(f + 3, last)
        wb = weight[f1] if left > 1 else 0.0
        wc = weight[f2] if left > 2 else 0.0
        wd = weight[f3] if left > 3 else 0.0
        four = stack[f, lo:hi], stack[f1, lo:hi], stack[f2, lo:hi], stack[f3, lo:hi]
        _take_four(
            four, (weight[f], wb, wc, wd), (y[0, :size], y[1, :size], y[2, :size], y[3, :size]), square
        )
        if left == 4:
            _update_highest_of_four(four[0], four[1], four[2], four[3], block.top, block.at_top)
        else:
            for m in range(left):
                _update_highest(stack[f + m, lo:hi], block.top, block.at_top)
        _project_four(block.rows, size, coefficients[f // 4], y)
    gaps = 0
    for i in range(size):
        gaps += 0 if square[i] - square[i] == 0.0 else 1
    return gaps == 0


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _fold_with_gaps(frames, coefficients, lo, hi, block, saturated, missing):
    """Project the frames of one block, missing values as nothing."""
    n_frames = frames.stack.shape[0]
    size = hi - lo
    y = _rows_of(4, size)
    for f in range(0, n_frames, 4):
        left = min(4, n_frames - f)
        for m in range(left):
            missing[f + m] += _take_frame(
                frames.stack[f + m, lo:hi], frames.weight[f + m], y[m, :size], block.square, block.top, block.at_top,
                saturated,
            )  # fmt: skip
        _project_four(block.rows, size, coefficients[f // 4], y)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _begin_block(pixels, at, block):
    """Begin a block anew: no sums, the highest values as they were."""
    square, top, at_top = block.square, block.top, block.at_top
    end = at + square.size
    highest, at_highest = pixels.highest[at:end], pixels.at_highest[at:end]
    for k in range(block.rows.shape[0]):
        row = block.rows[k]
        for i in range(row.size):
            row[i] = 0.0
    for i in range(square.size):
        square[i] = 0.0
        top[i] = highest[i]
    for i in range(square.size):
        at_top[i] = at_highest[i]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _add_to(total, row):
    """Add to one row of sums. Element by element: compiling the assignment of a slice takes seconds."""
    for i in range(total.size):
        total[i] += row[i]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def fold_block(frames, coefficients, lo, hi, at, pixels, missing):
    """Add the frames of pixels ``lo`` to ``hi`` to the sums, which begin at ``at``; see :func:`fold`.

    ``coefficients`` are those of :func:`make_coefficients`.
    """
    n_basis = frames.projector.shape[1]
    size = hi - lo
    rows = _rows_of(coefficients.shape[1], size)
    block = BlockSums(rows, np.empty(size), np.empty(size, np.float32), np.empty(size, np.float32))
    _begin_block(pixels, at, block)
    if not _fold_complete(frames, coefficients, lo, hi, block):
        _begin_block(pixels, at, block)
        _fold_with_gaps(frames, coefficients, lo, hi, block, pixels.saturated[at : at + size], missing)
    end = at + size
    for k in range(n_basis):
        _add_to(pixels.sums[k, at:end], rows[k])
    _add_to(pixels.sums[n_basis, at:end], block.square)
    highest, at_highest = pixels.highest[at:end], pixels.at_highest[at:end]
    for i in range(size):
        highest[i] = block.top[i]
    for i in range(size):
        at_highest[i] = np.uint16(block.at_top[i])


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def fold(frames, pixels, missing):
    """Add frames to the sufficient statistics.

    Parameters
    ----------
    frames : WeightedFrames
        The frames.
    pixels : PixelSums
        Added to.
    missing : int64 (n_blocks, n_frames)
        Missing values per block and frame; added to. One row per block of pixels (see :func:`count_blocks`).
    """
    n_pixels = frames.stack.shape[1]
    coefficients = make_coefficients(frames)
    for block in nb.prange(missing.shape[0]):
        lo = block * BLOCK
        hi = min(lo + BLOCK, n_pixels)
        fold_block(frames, coefficients, lo, hi, lo, pixels, missing[block])


def count_blocks(n_pixels: int) -> int:
    """Rows that :func:`fold` needs in ``missing``."""
    return -(-n_pixels // BLOCK)


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def correct_counts(counts, correction, out):
    """Turn detector counts into optical depth, ``-ln(scale * (counts - dark) / (flat - dark_flat))``.

    Parameters
    ----------
    counts : uint16 (n_pixels,)
        Detector counts.
    correction : CountsCorrection
        What corrects them.
    out : float32 (n_pixels,)
        Optical depth; NaN where the flat has no light, infinite where the sample frame is saturated (-inf) or
        has no light (+inf).
    """
    n_pixels = counts.size
    for block in nb.prange((n_pixels + _CHUNK - 1) // _CHUNK):
        lo = block * _CHUNK
        hi = min(lo + _CHUNK, n_pixels)
        part = CountsCorrection(
            correction.dark[lo:hi], correction.flat[lo:hi], correction.dark_flat[lo:hi], correction.scale,
            correction.saturation,
        )  # fmt: skip
        _correct_block(counts[lo:hi], part, out[lo:hi])


@nb.njit(cache=True, nogil=True)
def _as_word(number):
    """Bits of a float32."""
    return np.float32(number).view(np.int32)


@nb.njit(cache=True, nogil=True)
def _as_number(word):
    """Float32 of some bits."""
    return np.int32(word).view(np.float32)


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _correct_block(counts, correction, out):
    """Correct one block; see :func:`correct_counts`.

    The logarithm is written out (method of Cephes ``logf``: exponent split off, polynomial on [sqrt(1/2), sqrt(2)],
    relative error below 1e-7), because a call per pixel would keep the loop from being vectorised.
    """
    dark, flat, dark_flat = correction.dark, correction.flat, correction.dark_flat
    scale, saturation = correction.scale, correction.saturation
    zero, half, one = np.float32(0.0), np.float32(0.5), np.float32(1.0)
    for i in range(counts.size):
        count = np.float32(counts[i])
        light = count - dark[i]
        beam = flat[i] - dark_flat[i]
        lit = light > zero and beam > zero
        ratio = scale * light / beam if lit else one
        word = _as_word(np.float32(ratio))
        exponent = np.float32(np.int32(word >> np.int32(23)) - np.int32(126))
        x = _as_number(np.int32((word & np.int32(0x007FFFFF)) | np.int32(0x3F000000)))
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
        y = y * x * z + np.float32(-2.12194440e-4) * exponent - half * z
        depth = -(x + y + np.float32(0.693359375) * exponent)
        depth = depth if light > zero else np.float32(np.inf)
        depth = depth if count < saturation else np.float32(-np.inf)
        out[i] = depth if beam > zero else np.float32(np.nan)
