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
    energies, widths = search.energy_ev, search.width_ev
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
    near = np.empty((6, size))
    _look_around(spectra, scan, rises, slope, at, near)
    _place_crossing(line, sums, near, raw)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _look_around(spectra, scan, rises, slope, at, near):
    """Collect what belongs to the two frames of each crossing: rows of ``near`` are as `_place_crossing` takes them.

    The step is 0 where there is no frame behind the last one below one half.
    """
    search = scan.search
    energies, weights = search.energy_ev, search.weight
    n = energies.size
    for i in range(at.size):
        j = np.int64(at[i])
        if j < 0 or j == n - 1:
            near[1, i] = 0.0
            continue
        steepness = -np.float64(slope[i])
        first = rises.start[j]
        for m in range(rises.n_frames[j]):
            steepness += rises.slope[j, m] * spectra[first + m, i]
        near[0, i] = energies[j]
        near[1, i] = energies[j + 1] - energies[j]
        near[2, i] = 1.0 / weights[j]
        near[3, i] = 1.0 / weights[j + 1]
        near[4, i] = steepness
        near[5, i] = rises.covariance[j, j]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _place_crossing(line, sums, near, raw):
    """Energy between two frames and its sigma, all pixels of the block abreast, in short loops of few arrays each."""
    first_ev, step, before, behind, steepness, covariance = (
        near[0],
        near[1],
        near[2],
        near[3],
        near[4],
        near[5],
    )
    size = step.size
    below, above = sums.below, sums.above
    energy, sigma, noise2 = raw[0, :size], raw[1, :size], raw[4, :size]
    t, own, unsure, per_noise2, local = np.empty((5, size))
    for i in range(size):
        own[i] = np.float64(above[i]) - np.float64(below[i])
    for i in range(size):
        t[i] = -below[i] / own[i]
    for i in range(size):
        energy[i] = first_ev[i] + t[i] * step[i] if step[i] > 0.0 and own[i] > 0.0 else np.nan
    # What the two frames rise more counts as far as noise does not explain it.
    for i in range(size):
        own[i] = own[i] / step[i] - steepness[i]
    for i in range(size):
        unsure[i] = 9.0 * noise2[i] * (before[i] + behind[i]) / (step[i] * step[i])
    for i in range(size):
        square = own[i] * own[i]
        steepness[i] += own[i] * (1.0 - unsure[i] / square) if square > unsure[i] else 0.0
    # The mean inverse square of a steepness that itself is uncertain, to second order.
    for i in range(size):
        square = steepness[i] * steepness[i]
        per_noise2[i] = noise2[i] * (1.0 + 3.0 * (noise2[i] * covariance[i] / square)) / square
    for i in range(size):
        after = 1.0 - t[i]
        local[i] = (after * after * before[i] + t[i] * t[i] * behind[i]) * per_noise2[i]
    wide = 0
    for i in range(size):
        wide += 1 if local[i] > step[i] * step[i] else 0
    if wide > 0:
        for i in range(size):
            if local[i] > step[i] * step[i] and step[i] > 0.0:
                walk = (per_noise2[i] * before[i] / step[i] ** 2) ** (2.0 / 3.0)
                local[i] = min(local[i], (_LOWEST_OF_WALK * step[i]) ** 2 * walk)
    constant = 0.25 * line.level**2 + 0.25 * line.post_variance
    middle, own_slope = line.centre_ev + 0.5 * (line.reference_ev - line.centre_ev), line.own_slope
    for i in range(size):
        lever = own_slope * (first_ev[i] + t[i] * step[i] - middle)
        local[i] += (constant + lever * lever) * per_noise2[i]
    for i in range(size):
        known = np.sqrt(local[i]) if steepness[i] > 0.0 else np.inf
        sigma[i] = known if not np.isnan(energy[i]) else np.nan


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
