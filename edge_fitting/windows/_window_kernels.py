"""Kernels of the estimators that work in windows: half-jump, inflection, white line.

Each goes once over the stack, frame-major, a block of pixels at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import FitStatus
from edge_fitting.sums import add_rows

_BLOCK = 1024

#: Status set on pixels with missing frames: the caller fits those again with the frames they have.
INCOMPLETE = 255

_OK = int(FitStatus.OK)
_FLAT = int(FitStatus.FLAT)
_NO_EDGE = int(FitStatus.NO_EDGE)
_INVERTED = int(FitStatus.INVERTED)
_SATURATED = int(FitStatus.SATURATED)
_UNCERTAIN = int(FitStatus.UNCERTAIN)
_NOT_FOUND = int(FitStatus.NOT_FOUND)

# A step known to less than this many standard deviations gives no half of it.
_LEAST_STEP = 5.0
# Where a random walk with a rise of 1/2 x**2 is lowest scatters by this (Chernoff's distribution, standard deviation
# 0.5134) times 2**(2/3).
_LOWEST_OF_WALK = 0.815

_Array = NDArray[np.float64]
_Index = NDArray[np.int64]


class WindowFrames(NamedTuple):
    """Which frames are in the two windows, and what is made of them; see ``WindowPlan``."""

    pre: _Index
    """Frames below the edge."""
    post: _Index
    """Frames above it."""
    others: _Index
    """All the rest."""
    slots: _Index
    """Place of each frame in the search window, or -1."""
    pre_rule: _Array
    """Coefficients of the pre-edge polynomials, shape (2, n_pre)."""
    post_rule: _Array
    """Those of the post-edge polynomials, shape (m, n_post)."""
    pre_weight: _Array
    """Weights of the frames below."""
    post_weight: _Array
    """Weights of those above."""
    post_level: _Array
    """Values of the post-edge polynomials at the reference energy, shape (m,)."""


class PreEdgeLine(NamedTuple):
    """The line below the edge, per unit noise."""

    centre_ev: float
    """Where its slope adds nothing."""
    own_slope: float
    """What a slope of each pixel's own adds per eV; 0 where they share theirs."""
    level: float
    """Value of the constant polynomial."""
    slope: float
    """Value of the linear polynomial, per eV."""
    shared: float
    """Slope relative to the level that all pixels share; NaN where each has its own."""
    reference_ev: float
    """Where the step is taken."""
    post_variance: float
    """Variance of the post-edge level there."""


class SearchFrames(NamedTuple):
    """Frames of the search window in order of energy."""

    energy_ev: _Array
    """Energies."""
    weight: _Array
    """Weights."""
    width_ev: _Array
    """Energy that each stands for."""
    top: int
    """First of those in the upper part of the window, whose mean shows whether there is an edge."""
    top_ev: float
    """Mean energy of these."""


class SlopeRules(NamedTuple):
    """Slopes of polynomials fitted by least squares around each frame of the search window."""

    start: _Index
    """First frame of each support within the search window, shape (n_inside,)."""
    n_frames: _Index
    """How many frames each has."""
    slope: _Array
    """Give the slope, shape (n_inside, most), filled up with zeros."""
    covariance: _Array
    """Covariance of the slopes for unit noise at unit weight, shape (n_inside, n_inside)."""


class WindowLimits(NamedTuple):
    """What a pixel needs for a value."""

    dof: float
    """Degrees of freedom of its own noise."""
    detection: float
    """Threshold of (step / sigma of step)**2."""
    step_variance: float
    """Variance of the step for unit noise."""
    rise_variance: float
    """Variance of the mean height above the pre-edge line in the upper part of the search window."""
    weight_above: float
    """Summed weight of the frames above the edge."""
    first_ev: float
    """Lower end of the search window."""
    last_ev: float
    """Upper end."""
    n_frames: int
    """Frames."""


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
def _shift_four(y0, y1, y2, y3, a, b, c, d, base, square, w0, w1, w2, w3):
    """Subtract a frame from four, and add up the squares of what is left."""
    for i in range(base.size):
        y0[i] = a[i] - base[i]
        y1[i] = b[i] - base[i]
        y2[i] = c[i] - base[i]
        y3[i] = d[i] - base[i]
        square[i] += w0 * y0[i] * y0[i] + w1 * y1[i] * y1[i] + w2 * y2[i] * y2[i] + w3 * y3[i] * y3[i]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _add_frames(stack, lo, hi, frames, slots, spectra, seen):
    """Survey up to four frames while they are in the cache, and copy those of the search window."""
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
def _project(stack, lo, hi, frames, slots, rules, weights, rows, chi2, spectra, seen):
    """Project the frames of a window on orthonormal polynomials; add the squared residual.

    The first frame of the window is subtracted from all, so that single precision is enough: what is left is of the
    size of the noise, not of the optical depth. The constant polynomial takes it up.
    """
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
        _add_frames(stack, lo, hi, frames[j : j + left], slots, spectra, seen)
        # Past the last frame it is repeated, with no weight.
        j1, j2, j3 = min(j + 1, n - 1), min(j + 2, n - 1), min(j + 3, n - 1)
        _shift_four(
            y0, y1, y2, y3,
            stack[frames[j], lo:hi], stack[frames[j1], lo:hi], stack[frames[j2], lo:hi], stack[frames[j3], lo:hi],
            base, square, np.float32(weights[j]), np.float32(weights[j1]) if left > 1 else zero,
            np.float32(weights[j2]) if left > 2 else zero, np.float32(weights[j3]) if left > 3 else zero,
        )  # fmt: skip
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


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _follow_two(first, second, number, offsets, steps, level, slope, running, lowest, at, below, above):
    """Take two frames of the search window, one behind the other; see :func:`_find_half_jump`."""
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
def _follow_one(row, number, offset, step, level, slope, running, lowest, at, below, above):
    """Take one frame."""
    for i in range(level.size):
        d = row[i] - (level[i] + offset * slope[i])
        above[i] = d if at[i] == number - np.float32(1.0) else above[i]
        running[i] += d * step
        new = running[i] < lowest[i]
        lowest[i] = running[i] if new else lowest[i]
        at[i] = number if new else at[i]
        below[i] = d if new else below[i]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _find_half_jump(spectra, size, search, line, level, slope, rises, raw):
    """Energy of the half-jump crossing and its sigma, into rows 0 and 1.

    Of several crossings in noise the one is taken that splits the window best into a part below and a part above
    one half: where the running sum of the differences is smallest. The steepness that turns noise into energy is that
    of a line through the frames around, because noise chooses the two frames between which the crossing is found, and
    they rise too much. Where noise exceeds the rise from frame to frame, the sum is a random walk on a parabola.
    """
    energies, weights, widths = search.energy_ev, search.weight, search.width_ev
    n = energies.size
    running = np.zeros(size, np.float32)
    lowest = np.zeros(size, np.float32)
    at = np.full(size, np.float32(-1.0))
    below = np.zeros(size, np.float32)
    above = np.zeros(size, np.float32)
    reference = line.reference_ev
    for j in range(0, n - 1, 2):
        offsets = (np.float32(energies[j] - reference), np.float32(energies[j + 1] - reference))
        steps = (np.float32(widths[j]), np.float32(widths[j + 1]))
        _follow_two(
            spectra[j, :size], spectra[j + 1, :size], np.float32(j), offsets, steps, level, slope,
            running, lowest, at, below, above,
        )  # fmt: skip
    if n % 2:
        _follow_one(
            spectra[n - 1, :size], np.float32(n - 1), np.float32(energies[n - 1] - reference),
            np.float32(widths[n - 1]), level, slope, running, lowest, at, below, above,
        )  # fmt: skip
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


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _vertex_of_slopes(energies, slopes, j, i):
    """Vertex of the parabola through three slopes: offset from the middle one, half its curvature, its height."""
    d0, d1, d2 = slopes[j - 1, i], slopes[j, i], slopes[j + 1, i]
    h0, h1 = energies[j] - energies[j - 1], energies[j + 1] - energies[j]
    # d1 + p x + c x^2, x = E - E_j.
    c = ((d2 - d1) / h1 - (d1 - d0) / h0) / (h0 + h1)
    p = ((d2 - d1) / h1 * h0 + (d1 - d0) / h0 * h1) / (h0 + h1)
    if not c < 0.0:
        return 0.0, c, d1
    x = -0.5 * p / c
    return x, c, d1 + 0.5 * p * x


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _find_inflection(spectra, size, search, rules, raw):
    """Energy of the steepest rise and its sigma, into rows 0 and 1.

    Where another rise is as steep within the noise, it may be the steepest one: the squared distance, times the chance
    of that, is part of the variance.
    """
    energies = search.energy_ev
    start, count, slope_rule, covariance = rules.start, rules.n_frames, rules.slope, rules.covariance
    n = energies.size
    slopes = np.zeros((n, size))
    for j in range(n):
        target = slopes[j]
        for m in range(count[j]):
            row = spectra[start[j] + m, :size]
            c = slope_rule[j, m]
            for i in range(size):
                target[i] += c * row[i]
    f = np.empty(3)
    for i in range(size):
        j = 1
        for k in range(1, n - 1):
            if slopes[k, i] > slopes[j, i]:
                j = k
        raw[0, i] = np.nan
        raw[1, i] = np.nan
        d0, d1, d2 = slopes[j - 1, i], slopes[j, i], slopes[j + 1, i]
        if not (d1 >= d0 and d1 >= d2 and d1 > 0.0):
            continue
        h0, h1 = energies[j] - energies[j - 1], energies[j + 1] - energies[j]
        x, c, height = _vertex_of_slopes(energies, slopes, j, i)
        if not c < 0.0:
            continue
        # How the slope of that parabola at x depends on the three values.
        f[0] = (2.0 * x - h1) / (h0 * (h0 + h1))
        f[1] = (h1 - h0 - 2.0 * x) / (h0 * h1)
        f[2] = (2.0 * x + h0) / (h1 * (h0 + h1))
        variance = 0.0
        for a in range(3):
            for b in range(3):
                variance += f[a] * f[b] * covariance[j - 1 + a, j - 1 + b]
        noise2 = np.float64(raw[4, i])
        variance = max(variance, 0.0) * noise2 / (4.0 * c * c)
        energy = energies[j] + x
        total, moment = 1.0, 0.0
        for k in range(1, n - 1):
            s = slopes[k, i]
            if k == j or not (s >= slopes[k - 1, i] and s > slopes[k + 1, i] and s > 0.0):
                continue
            spread = noise2 * (covariance[j, j] + covariance[k, k] - 2.0 * covariance[j, k])
            u, bend, other = _vertex_of_slopes(energies, slopes, k, i)
            if not (spread > 0.0 and bend < 0.0):
                continue
            z2 = (height - other) ** 2 / spread
            if z2 < 40.0:
                # Likelihood of the slopes if the two were in the other order, relative to this one.
                odds = np.exp(-0.5 * z2)
                total += odds
                moment += odds * (energies[k] + u - energy) ** 2
        raw[0, i] = energy
        raw[1, i] = np.sqrt(variance + moment / total)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _local_vertex(y, energies, weights, slope, centre, reach):
    """Vertex of a parabola fitted around a centre with weights that fall to zero at the reach (biweight).

    Returns the vertex relative to the centre, half the curvature, and the variance of slope + 2 * vertex * curvature
    for unit noise; NaN where the parabola does not open downwards.
    """
    s0 = s1 = s2 = s3 = s4 = 0.0
    t0 = t1 = t2 = 0.0
    q0 = q1 = q2 = q3 = q4 = 0.0
    for n in range(y.size):
        x = energies[n] - centre
        u = x / reach
        if abs(u) >= 1.0:
            continue
        kernel = (1.0 - u * u) ** 2
        k = kernel * weights[n]
        value = y[n] - slope * x
        s0 += k
        s1 += k * x
        s2 += k * x * x
        s3 += k * x**3
        s4 += k * x**4
        t0 += k * value
        t1 += k * value * x
        t2 += k * value * x * x
        k *= kernel
        q0 += k
        q1 += k * x
        q2 += k * x * x
        q3 += k * x**3
        q4 += k * x**4
    # Rows of the inverse normal matrix for slope and half curvature.
    det = s0 * (s2 * s4 - s3 * s3) - s1 * (s1 * s4 - s2 * s3) + s2 * (s1 * s3 - s2 * s2)
    p0, p1, p2 = (s2 * s3 - s1 * s4) / det, (s0 * s4 - s2 * s2) / det, (s1 * s2 - s0 * s3) / det
    c0, c1, c2 = (s1 * s3 - s2 * s2) / det, p2, (s0 * s2 - s1 * s1) / det
    p = p0 * t0 + p1 * t1 + p2 * t2
    c = c0 * t0 + c1 * t1 + c2 * t2
    if not c < 0.0:
        return np.nan, np.nan, np.nan
    x = -0.5 * p / c
    d0, d1, d2 = p0 + 2.0 * x * c0, p1 + 2.0 * x * c1, p2 + 2.0 * x * c2
    variance = d0 * (d0 * q0 + 2.0 * d1 * q1 + 2.0 * d2 * q2) + d1 * (d1 * q2 + 2.0 * d2 * q3) + d2 * d2 * q4
    return x, c, variance


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _find_white_line(spectra, size, search, reach, line, slope, raw):
    """Top of the white line and its sigma, into rows 0 and 1.

    The parabola is moved until its vertex is its centre: frames enter and leave it gradually, so that the result
    follows the spectrum without steps.
    """
    energies, weights = search.energy_ev, search.weight
    n = energies.size
    y = np.empty(n)
    for i in range(size):
        raw[0, i] = np.nan
        raw[1, i] = np.nan
        j = 0
        for k in range(n):
            y[k] = spectra[k, i]
            if y[k] - energies[k] * slope[i] > y[j] - energies[j] * slope[i]:
                j = k
        centre = energies[j]
        found = False
        for _ in range(40):
            x, c, variance = _local_vertex(y, energies, weights, slope[i], centre, reach[j])
            if not (abs(x) < reach[j] and centre + x >= energies[0] and centre + x <= energies[n - 1]):
                break
            centre += x
            if abs(x) < 1e-5 * reach[j]:
                found = True
                break
        if not found:
            continue
        # The vertex also moves with its centre, which moves with the noise: a fixed point.
        step = 1e-3 * reach[j]
        up, _, _ = _local_vertex(y, energies, weights, slope[i], centre + step, reach[j])
        down, _, _ = _local_vertex(y, energies, weights, slope[i], centre - step, reach[j])
        gain = -(up - down) / (2.0 * step)
        raw[0, i] = centre
        sigma = np.sqrt((variance + line.own_slope**2) * raw[4, i]) / (-2.0 * c)
        raw[1, i] = sigma / gain if gain > 0.0 else np.nan


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _set_status(raw, seen, lo, hi, limits, out, status):
    """Give every pixel of a block its status, and values to those that deserve them; see :func:`fit_half_jump`."""
    first, last, n_frames = limits.first_ev, limits.last_ev, limits.n_frames
    weight_above = limits.weight_above
    for i in range(hi - lo):
        pixel = lo + i
        energy, sigma, step, chi2 = raw[0, i], raw[1, i], raw[2, i], raw[3, i]
        noise2, rise = np.float64(raw[4, i]), raw[5, i]
        highest, at_highest, missing = seen[0, i], seen[1, i], seen[2, i]
        for m in range(7):
            out[m, pixel] = np.nan
        out[7, pixel] = highest if missing < n_frames else np.nan
        if missing > 0:
            status[pixel] = INCOMPLETE
            continue
        if at_highest >= n_frames:
            status[pixel] = _FLAT
            continue
        residual = _residual(chi2, weight_above, highest)
        out[6, pixel] = np.sqrt(residual / limits.dof)
        stands_out = step * step > limits.detection * limits.step_variance * noise2
        if not stands_out:
            if not (rise > 0.0 and rise * rise > limits.detection * limits.rise_variance * noise2):
                status[pixel] = _NO_EDGE
                continue
            if not (step > 0.0 and step * step > _LEAST_STEP**2 * limits.step_variance * noise2):
                status[pixel] = _UNCERTAIN
                continue
        if step < 0.0:
            status[pixel] = _INVERTED
            continue
        goodness = residual / (weight_above * step * step + residual)
        if at_highest >= 4 and at_highest >= 0.1 * n_frames and goodness > 1e-6:
            status[pixel] = _SATURATED
            continue
        out[4, pixel] = step
        out[5, pixel] = goodness
        if not (energy >= first and energy <= last):
            status[pixel] = _NOT_FOUND
        elif not sigma < 0.5 * (last - first):
            status[pixel] = _UNCERTAIN
        else:
            out[2, pixel] = energy
            out[3, pixel] = sigma
            status[pixel] = _OK


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _residual(chi2, weight_above, highest):
    """Squared residual, at least what single precision leaves."""
    return max(chi2, 1e-14 * weight_above * highest * highest)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _prepare(stack, lo, hi, frames, line, search, limits, pooled):
    """Go once over the frames of a block: the search window, rows 2 to 5 of ``raw``, ``seen``, the pre-edge line.

    Rows of ``raw`` are energy, its sigma, step, squared residual, noise variance, mean height above the pre-edge line
    in the upper part of the search window.
    ``level`` becomes the pre-edge line at the reference energy plus half of the step, ``slope`` its slope per eV.
    The frames of the search window are copied, because several passes over them follow: rows of an image with a power
    of two of pixels would push each other out of the cache.
    """
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
    rows = np.empty((2, size + 24), np.float32)
    _project(stack, lo, hi, pre, slots, frames.pre_rule, frames.pre_weight, rows, chi2, spectra, seen)
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
    _project(stack, lo, hi, post, slots, post_rule, frames.post_weight, rows, chi2, spectra, seen)
    step = raw[2, :size]
    base = stack[post[0], lo:hi]
    for i in range(size):
        step[i] = base[i] - level[i]
    for k in range(post_level.size):
        value = np.float32(post_level[k])
        row = rows[k, :size]
        for i in range(size):
            step[i] += value * row[i]
    half = np.float32(0.5)
    for i in range(size):
        level[i] += half * step[i]
    for j in range(0, others.size, 4):
        _add_frames(stack, lo, hi, others[j : min(j + 4, others.size)], slots, spectra, seen)
    for i in range(size):
        if seen[2, i] != 0.0:
            seen[2, i] = _recount(stack, lo + i, i, seen)
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
        own = _residual(chi2[i], limits.weight_above, seen[0, i]) / limits.dof
        noise2[i] = pooled[lo + i] if pooled.size else own
    return spectra, raw, seen, level, slope


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def fit_half_jump(stack, frames, line, search, rises, limits, pooled, out, status):
    """Find the half-jump crossing of every pixel.

    Parameters
    ----------
    stack : float32 (n_frames, n_pixels)
        Optical depth, frames of different energies in any order.
    frames : WindowFrames
        Frames of the two windows.
    line : PreEdgeLine
        The line below the edge.
    search : SearchFrames
        Frames of the search window.
    rises : SlopeRules
        Slopes of lines through the frames around the middle between each frame and the next.
    limits : WindowLimits
        What a pixel needs.
    pooled : float64 (n_pixels,) or (0,)
        Noise variance at weight 1; with no element each pixel's own.
    out : float32 (8, n_pixels)
        soc and its sigma (left NaN), edge energy, its sigma, jump, R-factor, noise, highest optical depth.
    status : uint8 (n_pixels,)
        Status codes; ``INCOMPLETE`` where frames are missing.
    """
    n_pixels = stack.shape[1]
    for block in nb.prange((n_pixels + _BLOCK - 1) // _BLOCK):
        lo = block * _BLOCK
        hi = min(lo + _BLOCK, n_pixels)
        size = hi - lo
        spectra, raw, seen, level, slope = _prepare(stack, lo, hi, frames, line, search, limits, pooled)
        _find_half_jump(spectra, size, search, line, level, slope, rises, raw)
        _set_status(raw, seen, lo, hi, limits, out, status)


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def fit_inflection(stack, frames, line, search, rules, limits, pooled, out, status):
    """Find the steepest rise of every pixel.

    Parameters
    ----------
    stack, frames, line, search, limits, pooled, out, status
        As in :func:`fit_half_jump`.
    rules : SlopeRules
        Slopes of parabolas at each frame.
    """
    n_pixels = stack.shape[1]
    for block in nb.prange((n_pixels + _BLOCK - 1) // _BLOCK):
        lo = block * _BLOCK
        hi = min(lo + _BLOCK, n_pixels)
        size = hi - lo
        spectra, raw, seen, _, _ = _prepare(stack, lo, hi, frames, line, search, limits, pooled)
        _find_inflection(spectra, size, search, rules, raw)
        _set_status(raw, seen, lo, hi, limits, out, status)


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def fit_white_line(stack, frames, line, search, reach, limits, pooled, out, status):
    """Find the top of the white line of every pixel.

    Parameters
    ----------
    stack, frames, line, search, limits, pooled, out, status
        As in :func:`fit_half_jump`.
    reach : float64 (n_inside,)
        Half-width of the parabola in eV around each frame.
    """
    n_pixels = stack.shape[1]
    for block in nb.prange((n_pixels + _BLOCK - 1) // _BLOCK):
        lo = block * _BLOCK
        hi = min(lo + _BLOCK, n_pixels)
        size = hi - lo
        spectra, raw, seen, _, slope = _prepare(stack, lo, hi, frames, line, search, limits, pooled)
        _find_white_line(spectra, size, search, reach, line, slope, raw)
        _set_status(raw, seen, lo, hi, limits, out, status)
