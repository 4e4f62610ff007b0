"""Kernels that find single pixels of a frame which the frame before and the pixels around do not bear out."""

from __future__ import annotations

import numba as nb
import numpy as np

_ROWS = 32
_REACH = 2
# Part of the light around that a spike has at least.
_LEAST_PART = 0.02
_MOST_RATIO = 1e6
_AROUND = (2 * _REACH + 1) ** 2 - 1


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _sums(now, before, r, c):
    """Add up the four neighbours of a pixel in both frames; at the border the one inside counts twice."""
    rows, cols = now.shape
    up, down = (r - 1 if r > 0 else r + 1), (r + 1 if r + 1 < rows else r - 1)
    left, right = (c - 1 if c > 0 else c + 1), (c + 1 if c + 1 < cols else c - 1)
    return (
        now[up, c] + now[down, c] + now[r, left] + now[r, right],
        before[up, c] + before[down, c] + before[r, left] + before[r, right],
    )


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _square(value, around, around_before):
    """Variance of the excess times the square of the sum before, for counts of one photon each."""
    expected = max(value, np.float32(0.25) * around_before)
    return expected * around * (around_before + around) * (np.float32(1.0) + expected / around_before)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def deviation(now, before, r, c):
    """How far a pixel is off what the frame before lets expect, in standard deviations of counts of one photon each."""
    around, around_before = _sums(now, before, r, c)
    if not (around > 0 and around_before > 0):
        return np.float32(0.0)
    excess = now[r, c] * around_before - before[r, c] * around
    return excess / np.sqrt(_square(before[r, c], around, around_before))


@nb.njit(cache=True, nogil=True, error_model="numpy")
def deviations(now, before, pixels, out):
    """Do that for some pixels, given by flat indices."""
    cols = now.shape[1]
    for k in range(pixels.size):
        out[k] = deviation(now, before, pixels[k] // cols, pixels[k] % cols)


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _mark_row(above, row, below, above_before, row_before, below_before, most, marks):
    """Mark the pixels of a row, but for its ends, whose squared deviation exceeds a limit."""
    quarter = np.float32(0.25)
    for c in range(1, row.size - 1):
        around = above[c] + below[c] + row[c - 1] + row[c + 1]
        around_before = above_before[c] + below_before[c] + row_before[c - 1] + row_before[c + 1]
        value = row_before[c]
        excess = row[c] * around_before - value * around
        expected = value if value > quarter * around_before else quarter * around_before
        variance = expected * around * (around_before + around) * (around_before + expected)
        # Both sides times the sum before, which saves a division.
        marks[c] = excess * excess * around_before > most * variance and around > 0 and around_before > 0
    marks[0] = marks[row.size - 1] = True


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def mark(now, before, most, marks):
    """Mark pixels whose squared deviation exceeds a limit; those at the borders in any case.

    Parameters
    ----------
    now, before : float32 (rows, cols)
        Counts above the dark.
    most : float32
        Limit.
    marks : bool (rows, cols)
        Result.
    """
    rows = now.shape[0]
    for block in nb.prange((rows + _ROWS - 1) // _ROWS):
        for r in range(block * _ROWS, min((block + 1) * _ROWS, rows)):
            if r in (0, rows - 1):
                for c in range(now.shape[1]):
                    marks[r, c] = True
            else:
                _mark_row(
                    now[r - 1], now[r], now[r + 1], before[r - 1], before[r], before[r + 1], most, marks[r]
                )  # fmt: skip


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _size_around(now, before, r, c, share):
    """Size of the deviations around a pixel: that which a share of them does not exceed."""
    rows, cols = now.shape
    sizes = np.empty(_AROUND, np.float32)
    n = 0
    for i in range(max(r - _REACH, 0), min(r + _REACH + 1, rows)):
        for j in range(max(c - _REACH, 0), min(c + _REACH + 1, cols)):
            if i != r or j != c:
                sizes[n] = abs(deviation(now, before, i, j))
                n += 1
    return np.sort(sizes[:n])[min(int(share * n), n - 1)]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def judge(now, before, candidates, gain, least_z, share, ratios):
    """Judge marked pixels one by one.

    Parameters
    ----------
    now, before : float32 (rows, cols)
        Counts above the dark.
    candidates : int64 (n,)
        Flat indices.
    gain : float
        Counts of one photon, as far as the spread of the frame tells.
    least_z, share : float
        Standard deviations that are needed; share of the pixels around.
    ratios : float32 (n,)
        Result: times the deviation that the share of the pixels around does not exceed; 0 for what does not stick out.
    """
    cols = now.shape[1]
    root = np.sqrt(gain)
    ratios[:] = 0.0
    for k in range(candidates.size):
        r, c = candidates[k] // cols, candidates[k] % cols
        z = deviation(now, before, r, c) / root
        if not abs(z) > least_z:
            continue
        around, around_before = _sums(now, before, r, c)
        # Few photons have rare high values more often than a normal variable (Bernstein).
        sigma = np.sqrt(gain * _square(before[r, c], around, around_before)) / around_before
        least = max(least_z * sigma + gain * least_z * least_z / 3.0, _LEAST_PART * 0.25 * around)
        if not abs(z) * sigma > least:
            continue
        # Beside a spike, in this frame or the one before, every pixel looks off the other way.
        rows, beside = now.shape[0], False
        for i, j in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
            if 0 <= i < rows and 0 <= j < cols:
                other = deviation(now, before, i, j) / root
                beside |= other * z < 0 and abs(other) > abs(z)
        if beside:
            continue
        ratios[k] = min(abs(z) * root / _size_around(now, before, r, c, share), _MOST_RATIO)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def smooth_over(now, before, pixels):
    """Put into some pixels what the frame before and the pixels around let expect; from the first on, in place."""
    cols = now.shape[1]
    for k in range(pixels.size):
        r, c = pixels[k] // cols, pixels[k] % cols
        around, around_before = _sums(now, before, r, c)
        now[r, c] = before[r, c] * around / around_before
