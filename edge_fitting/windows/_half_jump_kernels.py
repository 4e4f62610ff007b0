"""Half-jump: where the normalised absorption crosses one half."""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from ._window_pass import BLOCK, go_over_frames
from ._window_records import WindowScan
from ._window_status import set_status

# Where a random walk with a rise of 1/2 x**2 is lowest scatters by this (Chernoff's distribution, standard deviation
# 0.5134) times 2**(2/3).
_LOWEST_OF_WALK = 0.815


_Row = NDArray[np.float32]


class _RunningSum(NamedTuple):
    """Running sum of the differences to the half-way line and its minimum, for the pixels of a block, shape (size,)."""

    level: _Row
    """Half-way line at the reference energy."""
    slope: _Row
    """Its slope per eV."""
    total: _Row
    """Running sum."""
    lowest: _Row
    """Its minimum so far."""
    at: _Row
    """Frame of the minimum; -1 before the first."""
    below: _Row
    """Difference in that frame."""
    above: _Row
    """Difference in the frame after it."""


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _add_two(first, second, number, offsets, steps, sums):
    """Take two frames of the search window, one behind the other; see :func:`_find_half_jump`."""
    level, slope, running, lowest, at, below, above = sums
    one = np.float32(1.0)
    e0, e1 = offsets
    w0, w1 = steps
    for i in range(level.size):
        d0 = first[i] - (level[i] + e0 * slope[i])
        d1 = second[i] - (level[i] + e1 * slope[i])
        t0 = running[i] + d0 * w0
        t1 = t0 + d1 * w1
        after = d0 if at[i] == number - one else above[i]
        new0 = t0 < lowest[i]
        low = t0 if new0 else lowest[i]
        place = number if new0 else at[i]
        under = d0 if new0 else below[i]
        after = d1 if place == number else after
        new1 = t1 < low
        lowest[i] = t1 if new1 else low
        at[i] = number + one if new1 else place
        below[i] = d1 if new1 else under
        above[i] = after
        running[i] = t1


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _add_one(row, number, offset, step, sums):
    """Take one frame."""
    level, slope, running, lowest, at, below, above = sums
    for i in range(level.size):
        d = row[i] - (level[i] + offset * slope[i])
        above[i] = d if at[i] == number - np.float32(1.0) else above[i]
        running[i] += d * step
        new = running[i] < lowest[i]
        lowest[i] = running[i] if new else lowest[i]
        at[i] = number if new else at[i]
        below[i] = d if new else below[i]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _hold_top(spectra, size):
    """Hold each spectrum at its highest value from there on: behind a white line it falls below one half again."""
    n = spectra.shape[0]
    highest = np.full(size, np.float32(-np.inf))
    at = np.zeros(size, np.int64)
    quarter, half = np.float32(0.25), np.float32(0.5)
    for j in range(n):
        before, here, after = spectra[max(j - 1, 0)], spectra[j], spectra[min(j + 1, n - 1)]
        for i in range(size):
            value = quarter * (before[i] + after[i]) + half * here[i]
            if value > highest[i]:
                highest[i] = value
                at[i] = j
    for j in range(1, n):
        row, before = spectra[j], spectra[j - 1]
        for i in range(size):
            if j > at[i]:
                row[i] = before[i]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _find_half_jump(spectra, size, scan, level, slope, rises, raw):
    """Energy of the half-jump crossing and its sigma, into rows 0 and 1.

    Of several crossings in noise the one is taken that splits the window best into a part below and a part above
    one half: where the running sum of the differences is smallest. The steepness that turns noise into energy is that
    of a line through the frames around, because noise chooses the two frames between which the crossing is found, and
    they rise too much. Where noise exceeds the rise from frame to frame, the sum is a random walk on a parabola.
    """
    search, line = scan.search, scan.line
    energies, weights, widths = search.energy_ev, search.weight, search.width_ev
    n = energies.size
    running = np.zeros(size, np.float32)
    lowest = np.zeros(size, np.float32)
    at = np.full(size, np.float32(-1.0))
    below = np.zeros(size, np.float32)
    above = np.zeros(size, np.float32)
    sums = _RunningSum(level, slope, running, lowest, at, below, above)
    reference = line.reference_ev
    for j in range(0, n - 1, 2):
        offsets = (np.float32(energies[j] - reference), np.float32(energies[j + 1] - reference))
        steps = (np.float32(widths[j]), np.float32(widths[j + 1]))
        _add_two(spectra[j, :size], spectra[j + 1, :size], np.float32(j), offsets, steps, sums)
    if n % 2:
        offset, step = np.float32(energies[n - 1] - reference), np.float32(widths[n - 1])
        _add_one(spectra[n - 1, :size], np.float32(n - 1), offset, step, sums)
    for i in range(size):
        j = int(at[i])
        rise = above[i] - below[i]
        if j < 0 or j == n - 1 or not rise > 0.0:
            raw[0, i] = np.nan
            raw[1, i] = np.nan
            continue
        t = -below[i] / rise
        step = energies[j + 1] - energies[j]
        e = energies[j] + t * step
        steepness = -np.float64(slope[i])
        for m in range(rises.n_frames[j]):
            steepness += rises.slope[j, m] * spectra[rises.start[j] + m, i]
        # What the two frames rise more counts as far as noise does not explain it.
        more = rise / step - steepness
        unsure = raw[4, i] * (1.0 / weights[j] + 1.0 / weights[j + 1]) / (step * step)
        if more * more > 9.0 * unsure:
            steepness += more * (1.0 - 9.0 * unsure / (more * more))
        if not steepness > 0.0:
            raw[0, i] = e
            raw[1, i] = np.inf
            continue
        # The mean inverse square of a steepness that itself is uncertain, to second order.
        doubt = raw[4, i] * rises.covariance[j, j] / steepness**2
        per_noise = np.sqrt(raw[4, i] * (1.0 + 3.0 * doubt)) / steepness
        lever = line.own_slope * ((e - line.centre_ev) - 0.5 * (reference - line.centre_ev))
        shared = 0.25 * line.level**2 + lever**2 + 0.25 * line.post_variance
        local = ((1.0 - t) ** 2 / weights[j] + t**2 / weights[j + 1]) * per_noise**2
        if local > step * step:
            local = min(
                local, (_LOWEST_OF_WALK * step) ** 2 * (per_noise**2 / weights[j] / step**2) ** (2.0 / 3.0)
            )
        raw[0, i] = e
        raw[1, i] = np.sqrt(local + shared * per_noise**2)


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def fit_half_jump(stack, frames, line, search, limits, rises, pooled, out, status):
    """Find the half-jump crossing of every pixel.

    Parameters
    ----------
    stack : float32 (n_frames, n_pixels)
        Optical depth, frames of different energies in any order.
    frames, line, search, limits
        The members of a `WindowScan`.
    rises : SlopeRules
        Slopes of lines through the frames around the middle between each frame and the next.
    pooled : float64 (n_pixels,) or (0,)
        Noise variance at weight 1; with no element each pixel's own.
    out : float32 (8, n_pixels)
        soc and its sigma (left NaN), edge energy, its sigma, jump, R-factor, noise, highest optical depth.
    status : uint8 (n_pixels,)
        Status codes; ``INCOMPLETE`` where frames are missing.
    """
    n_pixels = stack.shape[1]
    for block in nb.prange((n_pixels + BLOCK - 1) // BLOCK):
        lo = block * BLOCK
        hi = min(lo + BLOCK, n_pixels)
        size = hi - lo
        # Made here: numba takes no tuples of tuples of arrays into a parallel kernel.
        scan = WindowScan(frames, line, search, limits)
        spectra, raw, seen, level, slope = go_over_frames(stack, lo, hi, scan, pooled)
        if scan.limits.by_white_line:
            _hold_top(spectra, size)
        _find_half_jump(spectra, size, scan, level, slope, rises, raw)
        set_status(raw, seen, lo, hi, scan.limits, out, status)
