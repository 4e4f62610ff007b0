"""Kernels of the estimators that work in windows: half-jump, inflection, white line.

Each goes once over the stack, frame-major, a block of pixels at a time.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from ._maps import FitStatus

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


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _survey_four(a, b, c, d, copy, highest, at_highest, gap):  # type: ignore[no-untyped-def]
    """Copy four frames of a block; keep each pixel's highest value, how often it occurs, and NaN for missing ones."""
    one, zero = np.float32(1.0), np.float32(0.0)
    ca, cb, cc, cd = copy
    for i in range(a.size):
        ca[i] = a[i]
        cb[i] = b[i]
        cc[i] = c[i]
        cd[i] = d[i]
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
def _recount(spectra, i, highest, at_highest):  # type: ignore[no-untyped-def]
    """Survey one pixel that has missing values; return how many."""
    missing = np.float32(0.0)
    highest[i] = np.float32(-np.inf)
    at_highest[i] = np.float32(0.0)
    for f in range(spectra.shape[0]):
        y = spectra[f, i]
        if (y - y) != 0.0:
            missing += np.float32(1.0)
        elif y >= highest[i]:
            at_highest[i] = at_highest[i] + np.float32(1.0) if y == highest[i] else np.float32(1.0)
            highest[i] = y
    return missing


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _survey(stack, lo, hi, spectra, highest, at_highest, missing):  # type: ignore[no-untyped-def]
    """Copy a block; find each pixel's highest value, how often it occurs, and how many values are missing."""
    n_frames = stack.shape[0]
    size = hi - lo
    gap = np.zeros(size, np.float32)
    for f in range(0, n_frames - 3, 4):
        copy = (spectra[f, :size], spectra[f + 1, :size], spectra[f + 2, :size], spectra[f + 3, :size])
        _survey_four(
            stack[f, lo:hi], stack[f + 1, lo:hi], stack[f + 2, lo:hi], stack[f + 3, lo:hi],
            copy, highest, at_highest, gap,
        )  # fmt: skip
    for f in range(n_frames - n_frames % 4, n_frames):
        frame = stack[f, lo:hi]
        row = spectra[f, :size]
        for i in range(size):
            y = frame[i]
            row[i] = y
            gap[i] += y - y
            count = np.float32(0.0) if y > highest[i] else at_highest[i]
            highest[i] = y if y > highest[i] else highest[i]
            at_highest[i] = count + (np.float32(1.0) if y == highest[i] else np.float32(0.0))
    for i in range(size):
        if gap[i] != 0.0:
            missing[i] = _recount(spectra, i, highest, at_highest)


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _add_four(row, y0, y1, y2, y3, w0, w1, w2, w3):  # type: ignore[no-untyped-def]
    for i in range(row.size):
        row[i] += w0 * y0[i] + w1 * y1[i] + w2 * y2[i] + w3 * y3[i]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _square_four(row, y0, y1, y2, y3, w0, w1, w2, w3):  # type: ignore[no-untyped-def]
    for i in range(row.size):
        row[i] += w0 * y0[i] * y0[i] + w1 * y1[i] * y1[i] + w2 * y2[i] * y2[i] + w3 * y3[i] * y3[i]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _project(spectra, frames, rules, weights, rows, chi2):  # type: ignore[no-untyped-def]
    """Project the frames of a window on orthonormal polynomials; add the squared residual.

    The first frame of the window is subtracted from all, so that single precision is enough: what is left is of the
    size of the noise, not of the optical depth. The constant polynomial takes it up.
    """
    size = chi2.size
    n = frames.size
    y = np.zeros((4, size + 24), np.float32)
    y0, y1, y2, y3 = y[0, :size], y[1, :size], y[2, :size], y[3, :size]
    base = spectra[frames[0], :size]
    rows[:, :] = np.float32(0.0)
    square = np.zeros(size, np.float32)
    zero = np.float32(0.0)
    for j in range(0, n, 4):
        for m in range(4):
            if j + m < n:
                source = spectra[frames[j + m], :size]
                target = y[m, :size]
                for i in range(size):
                    target[i] = source[i] - base[i]
        # Past the last frame the weights are zero.
        j1, j2, j3 = min(j + 1, n - 1), min(j + 2, n - 1), min(j + 3, n - 1)
        u1, u2, u3 = j + 1 < n, j + 2 < n, j + 3 < n
        for k in range(rules.shape[0]):
            _add_four(
                rows[k, :size], y0, y1, y2, y3, np.float32(rules[k, j]), np.float32(rules[k, j1]) if u1 else zero,
                np.float32(rules[k, j2]) if u2 else zero, np.float32(rules[k, j3]) if u3 else zero,
            )  # fmt: skip
        _square_four(
            square, y0, y1, y2, y3, np.float32(weights[j]), np.float32(weights[j1]) if u1 else zero,
            np.float32(weights[j2]) if u2 else zero, np.float32(weights[j3]) if u3 else zero,
        )  # fmt: skip
    for k in range(rules.shape[0]):
        row = rows[k, :size]
        for i in range(size):
            square[i] -= row[i] * row[i]
    for i in range(size):
        chi2[i] += square[i] if square[i] > zero else zero


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _find_half_jump(spectra, size, lo, inside, search, line, level, slope, out):  # type: ignore[no-untyped-def]
    """Energy of the half-jump crossing and its sigma per unit noise, into rows 0 and 1.

    Of several crossings in noise the one is taken that splits the window best into a part below and a part above
    one half: where the running sum of the differences is smallest.
    """
    energies, weights, widths = search[0], search[1], search[2]
    n = inside.size
    running = np.zeros(size, np.float32)
    lowest = np.zeros(size, np.float32)
    at = np.full(size, -1, np.int32)
    below = np.zeros(size, np.float32)
    above = np.zeros(size, np.float32)
    for j in range(n):
        row = spectra[inside[j], :size]
        here, before = np.int32(j), np.int32(j - 1)
        e, width = np.float32(energies[j] - line[3]), np.float32(widths[j])
        for i in range(size):
            d = row[i] - (level[i] + e * slope[i])
            above[i] = d if at[i] == before else above[i]
            total = running[i] + d * width
            running[i] = total
            new = total < lowest[i]
            lowest[i] = total if new else lowest[i]
            at[i] = here if new else at[i]
            below[i] = d if new else below[i]
    for i in range(size):
        j = at[i]
        rise = above[i] - below[i]
        if j < 0 or j == n - 1 or not rise > 0.0:
            out[0, lo + i] = np.nan
            out[1, lo + i] = np.nan
            continue
        t = -below[i] / rise
        step = energies[j + 1] - energies[j]
        e = energies[j] + t * step
        lever = line[1] * (e - line[0]) - 0.5 * line[1] * (line[3] - line[0])
        variance = (1.0 - t) ** 2 / weights[j] + t**2 / weights[j + 1]
        variance += 0.25 * line[2] ** 2 + lever**2 + 0.25 * line[4]
        out[0, lo + i] = e
        out[1, lo + i] = np.sqrt(variance) * step / rise


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _find_inflection(spectra, size, lo, inside, search, local, covariance, out):  # type: ignore[no-untyped-def]
    """Energy of the steepest rise and its sigma per unit noise, into rows 0 and 1."""
    energies = search[0]
    start, count, slope_rule = local
    n = inside.size
    slopes = np.zeros((n, size))
    for j in range(n):
        target = slopes[j]
        for m in range(count[j]):
            row = spectra[inside[start[j] + m], :size]
            c = slope_rule[j, m]
            for i in range(size):
                target[i] += c * row[i]
    f = np.empty(3)
    for i in range(size):
        j = 1
        for k in range(1, n - 1):
            if slopes[k, i] > slopes[j, i]:
                j = k
        out[0, lo + i] = np.nan
        out[1, lo + i] = np.nan
        d0, d1, d2 = slopes[j - 1, i], slopes[j, i], slopes[j + 1, i]
        if not (d1 >= d0 and d1 >= d2 and d1 > 0.0):
            continue
        h0, h1 = energies[j] - energies[j - 1], energies[j + 1] - energies[j]
        # Parabola through three slopes: d1 + p x + c x^2, x = E - E_j.
        c = ((d2 - d1) / h1 - (d1 - d0) / h0) / (h0 + h1)
        p = ((d2 - d1) / h1 * h0 + (d1 - d0) / h0 * h1) / (h0 + h1)
        if not c < 0.0:
            continue
        x = -0.5 * p / c
        # How the slope of that parabola at x depends on the three values.
        f[0] = (2.0 * x - h1) / (h0 * (h0 + h1))
        f[1] = (h1 - h0 - 2.0 * x) / (h0 * h1)
        f[2] = (2.0 * x + h0) / (h1 * (h0 + h1))
        variance = 0.0
        for a in range(3):
            for b in range(3):
                variance += f[a] * f[b] * covariance[j - 1 + a, j - 1 + b]
        out[0, lo + i] = energies[j] + x
        out[1, lo + i] = np.sqrt(max(variance, 0.0)) / (-2.0 * c)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _local_vertex(y, energies, weights, slope, centre, reach):  # type: ignore[no-untyped-def]
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
def _find_white_line(spectra, size, lo, inside, search, reach, line, slope, out):  # type: ignore[no-untyped-def]
    """Top of the white line and its sigma per unit noise, into rows 0 and 1.

    The parabola is moved until its vertex is its centre: frames enter and leave it gradually, so that the result
    follows the spectrum without steps.
    """
    energies, weights = search[0], search[1]
    n = inside.size
    y = np.empty(n)
    for i in range(size):
        out[0, lo + i] = np.nan
        out[1, lo + i] = np.nan
        j = 0
        for k in range(n):
            y[k] = spectra[inside[k], i]
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
        out[0, lo + i] = centre
        out[1, lo + i] = np.sqrt(variance + line[1] ** 2) / (-2.0 * c) / gain if gain > 0.0 else np.nan


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def judge_windows(raw, limits, pooled, out, status):  # type: ignore[no-untyped-def]
    """Give every pixel its status, and values to those that deserve them.

    Parameters
    ----------
    raw : float32 (7, n_pixels)
        As filled by :func:`fit_half_jump` and its fellows.
    limits : float64 (7,)
        Degrees of freedom, detection threshold, variance of the step for unit noise, weight above the edge, ends of
        the search window, number of frames.
    pooled : float64 (n_pixels,) or (1,)
        Noise variance at weight 1; with one element each pixel's own.
    out : float32 (8, n_pixels)
        soc and its sigma (left NaN), edge energy, its sigma, jump, R-factor, noise, highest optical depth.
    status : uint8 (n_pixels,)
        Status codes; ``INCOMPLETE`` where frames are missing.
    """
    dof, detect, step_variance, weight_above = limits[0], limits[1], limits[2], limits[3]
    first, last, n_frames = limits[4], limits[5], limits[6]
    for pixel in nb.prange(raw.shape[1]):
        energy, factor, step, chi2 = raw[0, pixel], raw[1, pixel], raw[2, pixel], raw[3, pixel]
        highest, at_highest, missing = raw[4, pixel], raw[5, pixel], raw[6, pixel]
        for m in range(7):
            out[m, pixel] = np.nan
        out[7, pixel] = highest if missing < n_frames else np.nan
        if missing > 0:
            status[pixel] = INCOMPLETE
            continue
        if at_highest >= n_frames:
            status[pixel] = _FLAT
            continue
        residual = max(chi2, 1e-14 * weight_above * highest * highest)
        noise2 = pooled[pixel] if pooled.size > 1 else residual / dof
        out[6, pixel] = np.sqrt(residual / dof)
        if not step * step > detect * step_variance * noise2:
            status[pixel] = _NO_EDGE
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
        sigma = factor * np.sqrt(noise2)
        if not (energy >= first and energy <= last):
            status[pixel] = _NOT_FOUND
        elif not sigma < 0.5 * (last - first):
            status[pixel] = _UNCERTAIN
        else:
            out[2, pixel] = energy
            out[3, pixel] = sigma
            status[pixel] = _OK


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _prepare(stack, lo, hi, spectra, plan, line, level, slope, out):  # type: ignore[no-untyped-def]
    """Copy a block and normalise it: rows 2 to 6 of ``out``, and the pre-edge line.

    ``level`` becomes the pre-edge line at the reference energy plus half of the step, ``slope`` its slope per eV.
    Several passes follow over these spectra. They are put next to each other, with padding, because rows of an image
    with a power of two of pixels would push each other out of the cache.
    """
    pre, post, pre_rule, post_rule, pre_weight, post_weight, post_level = plan
    size = hi - lo
    highest = np.full(size, np.float32(-np.inf))
    at_highest = np.zeros(size, np.float32)
    missing = np.zeros(size, np.float32)
    _survey(stack, lo, hi, spectra, highest, at_highest, missing)
    chi2 = np.zeros(size, np.float32)
    rows = np.empty((2, size + 24), np.float32)
    _project(spectra, pre, pre_rule, pre_weight, rows, chi2)
    low = spectra[pre[0], :size]
    lever, per_ev, constant = np.float32(line[3] - line[0]), np.float32(line[1]), np.float32(line[2])
    for i in range(size):
        slope[i] = per_ev * rows[1, i]
        level[i] = low[i] + constant * rows[0, i] + lever * slope[i]
    rows = np.empty((post_rule.shape[0], size + 24), np.float32)
    _project(spectra, post, post_rule, post_weight, rows, chi2)
    step = out[2, lo:hi]
    base = spectra[post[0], :size]
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
        out[3, lo + i] = chi2[i]
        out[4, lo + i] = highest[i]
        out[5, lo + i] = at_highest[i]
        out[6, lo + i] = missing[i]


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def fit_half_jump(stack, plan, line, inside, search, out):  # type: ignore[no-untyped-def]
    """Find the half-jump crossing of every pixel.

    Parameters
    ----------
    stack : float32 (n_frames, n_pixels)
        Optical depth, frames of different energies in any order.
    plan : tuple
        Frames of the two windows, their rules and weights, post-edge levels (see ``WindowPlan``).
    line : float64 (5,)
        Centre of the pre-edge line, its slope per eV and its level per unit coefficient, reference energy, variance of
        the post-edge level.
    inside : int64 (n_inside,)
        Frames of the search window by energy.
    search : float64 (3, n_inside)
        Their energies, weights and widths.
    out : float32 (7, n_pixels)
        Edge energy, its sigma for unit noise, step, squared residual of the windows, highest value, how often it
        occurs, missing values.
    """
    n_pixels = stack.shape[1]
    for block in nb.prange((n_pixels + _BLOCK - 1) // _BLOCK):
        lo = block * _BLOCK
        hi = min(lo + _BLOCK, n_pixels)
        spectra = np.empty((stack.shape[0], hi - lo + 24), np.float32)
        level = np.empty(hi - lo, np.float32)
        slope = np.empty(hi - lo, np.float32)
        _prepare(stack, lo, hi, spectra, plan, line, level, slope, out)
        _find_half_jump(spectra, hi - lo, lo, inside, search, line, level, slope, out)


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def fit_inflection(stack, plan, line, inside, search, local, covariance, out):  # type: ignore[no-untyped-def]
    """Find the steepest rise of every pixel.

    Parameters
    ----------
    stack, plan, line, inside, search, out
        As in :func:`fit_half_jump`.
    local : tuple
        Start and length of the supports, slope rules (see ``LocalRules``).
    covariance : float64 (n_inside, n_inside)
        Of the slopes.
    """
    n_pixels = stack.shape[1]
    for block in nb.prange((n_pixels + _BLOCK - 1) // _BLOCK):
        lo = block * _BLOCK
        hi = min(lo + _BLOCK, n_pixels)
        spectra = np.empty((stack.shape[0], hi - lo + 24), np.float32)
        level = np.empty(hi - lo, np.float32)
        slope = np.empty(hi - lo, np.float32)
        _prepare(stack, lo, hi, spectra, plan, line, level, slope, out)
        _find_inflection(spectra, hi - lo, lo, inside, search, local, covariance, out)


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def fit_white_line(stack, plan, line, inside, search, reach, out):  # type: ignore[no-untyped-def]
    """Find the top of the white line of every pixel.

    Parameters
    ----------
    stack, plan, line, inside, search, out
        As in :func:`fit_half_jump`.
    reach : float64 (n_inside,)
        Half-width of the parabola in eV around each frame.
    """
    n_pixels = stack.shape[1]
    for block in nb.prange((n_pixels + _BLOCK - 1) // _BLOCK):
        lo = block * _BLOCK
        hi = min(lo + _BLOCK, n_pixels)
        spectra = np.empty((stack.shape[0], hi - lo + 24), np.float32)
        level = np.empty(hi - lo, np.float32)
        slope = np.empty(hi - lo, np.float32)
        _prepare(stack, lo, hi, spectra, plan, line, level, slope, out)
        _find_white_line(spectra, hi - lo, lo, inside, search, reach, line, slope, out)
