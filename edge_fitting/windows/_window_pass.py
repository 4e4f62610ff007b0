"""The one pass over the frames of a block of pixels that the window estimators share, frame-major."""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from edge_fitting.sums import add_rows

from ._window_status import squared_residual

BLOCK = 1024

_Frame = NDArray[np.float32]


class _Block(NamedTuple):
    """Pixels ``lo`` to ``hi`` of a stack, and what is kept of their frames as these pass."""

    stack: _Frame
    """All of the stack, shape (n_frames, n_pixels)."""
    lo: int
    hi: int
    slots: NDArray[np.int64]
    """Place of each frame in the search window, or -1."""
    spectra: _Frame
    """Frames of the search window, shape (n_inside, at least hi - lo)."""
    seen: _Frame
    """Highest value, how often it occurs, NaN where some are missing, shape (3, at least hi - lo)."""


class _WindowRule(NamedTuple):
    """Frames of a window and what is made of them."""

    frames: NDArray[np.int64]
    rule: NDArray[np.float64]
    """Coefficients of the polynomials, shape (n_rules, n_frames)."""
    weight: NDArray[np.float64]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _check_four(a, b, c, d, highest, at_highest, gap):
    """Keep each pixel's highest value, how often it occurs, and NaN for missing ones."""
    one, zero = np.float32(1.0), np.float32(0.0)
    for i in range(a.size):
        # Zero for finite values, NaN for NaN and infinity.
        gap[i] += (a[i] - a[i]) + (b[i] - b[i]) + (c[i] - c[i]) + (d[i] - d[i])
        first = a[i] if a[i] > b[i] else b[i]
        second = c[i] if c[i] > d[i] else d[i]
        top = first if first > second else second
        count = zero if top > highest[i] else at_highest[i]
        top = top if top > highest[i] else highest[i]
        count += one if a[i] == top else zero
        count += one if b[i] == top else zero
        count += one if c[i] == top else zero
        count += one if d[i] == top else zero
        highest[i] = top
        at_highest[i] = count


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _check_frame_rows(frame, highest, at_highest, gap):
    """Do the same for one frame."""
    one, zero = np.float32(1.0), np.float32(0.0)
    for i in range(frame.size):
        gap[i] += frame[i] - frame[i]
        count = zero if frame[i] > highest[i] else at_highest[i]
        highest[i] = frame[i] if frame[i] > highest[i] else highest[i]
        at_highest[i] = count + (one if frame[i] == highest[i] else zero)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _recount(stack, pixel, i, seen):
    """Survey one pixel that has missing values; return how many."""
    highest, at_highest = seen[0], seen[1]
    missing = np.float32(0.0)
    highest[i] = np.float32(-np.inf)
    at_highest[i] = np.float32(0.0)
    for f in range(stack.shape[0]):
        y = stack[f, pixel]
        if (y - y) != 0.0:
            missing += np.float32(1.0)
        elif y >= highest[i]:
            at_highest[i] = at_highest[i] + np.float32(1.0) if y == highest[i] else np.float32(1.0)
            highest[i] = y
    return missing


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _shift_four(left, four, base, square, weights):
    """Subtract a frame from four, and add up the squares of what is left."""
    y0, y1, y2, y3 = left
    a, b, c, d = four
    w0, w1, w2, w3 = weights
    for i in range(base.size):
        y0[i] = a[i] - base[i]
        y1[i] = b[i] - base[i]
        y2[i] = c[i] - base[i]
        y3[i] = d[i] - base[i]
        square[i] += w0 * y0[i] * y0[i] + w1 * y1[i] * y1[i] + w2 * y2[i] * y2[i] + w3 * y3[i] * y3[i]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _survey_frames(block, frames):
    """Survey up to four frames while they are in the cache, and copy those of the search window."""
    stack, lo, hi, slots, spectra, seen = block
    size = hi - lo
    highest, at_highest, gap = seen[0, :size], seen[1, :size], seen[2, :size]
    if frames.size == 4:
        _check_four(
            stack[frames[0], lo:hi], stack[frames[1], lo:hi], stack[frames[2], lo:hi], stack[frames[3], lo:hi],
            highest, at_highest, gap,
        )  # fmt: skip
    else:
        for m in range(frames.size):
            _check_frame_rows(stack[frames[m], lo:hi], highest, at_highest, gap)
    for m in range(frames.size):
        if slots[frames[m]] >= 0:
            source, row = stack[frames[m], lo:hi], spectra[slots[frames[m]], :size]
            for i in range(size):
                row[i] = source[i]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _project_window(block, window, rows, chi2):
    """Project the frames of a window on orthonormal polynomials; add the squared residual.

    The first frame of the window is subtracted from all, so that single precision is enough: what is left is of the
    size of the noise, not of the optical depth. The constant polynomial takes it up.
    """
    stack, lo, hi = block.stack, block.lo, block.hi
    frames, rules, weights = window.frames, window.rule, window.weight
    size = hi - lo
    n, n_rules = frames.size, rules.shape[0]
    y = np.empty((4, size + 24), np.float32)
    y0, y1, y2, y3 = y[0, :size], y[1, :size], y[2, :size], y[3, :size]
    base = stack[frames[0], lo:hi]
    zero = np.float32(0.0)
    for k in range(rows.shape[0]):
        for i in range(size):
            rows[k, i] = zero
    square = np.zeros(size, np.float32)
    c = np.zeros((2, 4), np.float32)
    for j in range(0, n, 4):
        left = min(4, n - j)
        _survey_frames(block, frames[j : j + left])
        # Past the last frame it is repeated, with no weight.
        j1, j2, j3 = min(j + 1, n - 1), min(j + 2, n - 1), min(j + 3, n - 1)
        four = (
            stack[frames[j], lo:hi], stack[frames[j1], lo:hi], stack[frames[j2], lo:hi], stack[frames[j3], lo:hi],
        )  # fmt: skip
        of_four = (
            np.float32(weights[j]), np.float32(weights[j1]) if left > 1 else zero,
            np.float32(weights[j2]) if left > 2 else zero, np.float32(weights[j3]) if left > 3 else zero,
        )  # fmt: skip
        _shift_four((y0, y1, y2, y3), four, base, square, of_four)
        for k in range(0, rows.shape[0], 2):
            for r in range(2):
                for m in range(4):
                    c[r, m] = rules[k + r, j + m] if m < left and k + r < n_rules else 0.0
            add_rows(rows[k, :size], rows[k + 1, :size], c, y0, y1, y2, y3)
    for k in range(n_rules):
        row = rows[k, :size]
        for i in range(size):
            square[i] -= row[i] * row[i]
    for i in range(size):
        chi2[i] += square[i] if square[i] > zero else zero


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _white_line_height(spectra, size, energies, reference_ev, level, slope, height):
    """Highest value of the search window above the pre-edge line, the mean of three frames weighted 1, 2, 1."""
    quarter, half = np.float32(0.25), np.float32(0.5)
    last = energies.size - 1
    for i in range(size):
        height[i] = np.float32(-np.inf)
    for j in range(last + 1):
        before, here, after = spectra[max(j - 1, 0)], spectra[j], spectra[min(j + 1, last)]
        away = np.float32(energies[j] - reference_ev)
        for i in range(size):
            value = quarter * (before[i] + after[i]) + half * here[i] - level[i] - away * slope[i]
            height[i] = value if value > height[i] else height[i]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def go_over_frames(stack, lo, hi, scan, pooled):
    """Go once over the frames of a block: the search window, rows 2 to 5 of ``raw``, ``seen``, the pre-edge line.

    Rows of ``raw`` are energy, its sigma, step, squared residual, noise variance, mean height above the pre-edge line
    in the upper part of the search window.
    ``level`` becomes the pre-edge line at the reference energy plus half of the step, ``slope`` its slope per eV.
    Where ``limits`` say so, the height of the white line stands in place of the step.
    The frames of the search window are copied, because several passes over them follow: rows of an image with a power
    of two of pixels would push each other out of the cache.
    """
    frames, line, search, limits = scan
    pre, post, others, slots = frames.pre, frames.post, frames.others, frames.slots
    post_rule, post_level = frames.post_rule, frames.post_level
    size = hi - lo
    n_inside = search.energy_ev.size
    spectra = np.empty((n_inside, size + 24), np.float32)
    raw = np.empty((6, size + 24), np.float32)
    seen = np.empty((3, size + 24), np.float32)
    level = np.empty(size, np.float32)
    slope = np.empty(size, np.float32)
    for i in range(size):
        seen[0, i] = np.float32(-np.inf)
        seen[1, i] = np.float32(0.0)
        seen[2, i] = np.float32(0.0)
    chi2 = raw[3, :size]
    for i in range(size):
        chi2[i] = np.float32(0.0)
    block = _Block(stack, lo, hi, slots, spectra, seen)
    rows = np.empty((2, size + 24), np.float32)
    _project_window(block, _WindowRule(pre, frames.pre_rule, frames.pre_weight), rows, chi2)
    low = stack[pre[0], lo:hi]
    lever, constant = np.float32(line.reference_ev - line.centre_ev), np.float32(line.level)
    per_ev = np.float32(line.slope)
    if line.shared == line.shared:
        relative = np.float32(line.shared / line.slope)
        for i in range(size):
            shared = relative * (low[i] + constant * rows[0, i])
            chi2[i] += (rows[1, i] - shared) ** 2
            rows[1, i] = shared
    for i in range(size):
        slope[i] = per_ev * rows[1, i]
        level[i] = low[i] + constant * rows[0, i] + lever * slope[i]
    rows = np.empty((2 * ((post_rule.shape[0] + 1) // 2), size + 24), np.float32)
    _project_window(block, _WindowRule(post, post_rule, frames.post_weight), rows, chi2)
    step = raw[2, :size]
    base = stack[post[0], lo:hi]
    for i in range(size):
        step[i] = base[i] - level[i]
    for k in range(post_level.size):
        value = np.float32(post_level[k])
        row = rows[k, :size]
        for i in range(size):
            step[i] += value * row[i]
    for j in range(0, others.size, 4):
        _survey_frames(block, others[j : min(j + 4, others.size)])
    for i in range(size):
        if seen[2, i] != 0.0:
            seen[2, i] = _recount(stack, lo + i, i, seen)
    if limits.by_white_line:
        _white_line_height(spectra, size, search.energy_ev, line.reference_ev, level, slope, step)
    half = np.float32(0.5)
    for i in range(size):
        level[i] += half * step[i]
    rise, noise2 = raw[5, :size], raw[4, :size]
    to_top = np.float32(search.top_ev - line.reference_ev)
    for i in range(size):
        rise[i] = half * step[i] - level[i] - to_top * slope[i]
    share = np.float32(1.0 / (n_inside - search.top))
    for j in range(search.top, n_inside):
        row = spectra[j, :size]
        for i in range(size):
            rise[i] += share * row[i]
    for i in range(size):
        own = squared_residual(chi2[i], limits.weight_above, seen[0, i]) / limits.dof
        noise2[i] = pooled[lo + i] if pooled.size else own
    return spectra, raw, seen, level, slope
