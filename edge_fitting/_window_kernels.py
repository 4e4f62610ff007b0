"""Kernels of the estimators that work in windows: half-jump, inflection, white line.

Each goes once over the stack, frame-major, a block of pixels at a time.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from ._maps import FitStatus

_BLOCK = 256

#: Status set on pixels with missing frames: the caller fits those again with the frames they have.
INCOMPLETE = 255

_OK = int(FitStatus.OK)
_FLAT = int(FitStatus.FLAT)
_NO_EDGE = int(FitStatus.NO_EDGE)
_INVERTED = int(FitStatus.INVERTED)
_SATURATED = int(FitStatus.SATURATED)
_UNCERTAIN = int(FitStatus.UNCERTAIN)
_NOT_FOUND = int(FitStatus.NOT_FOUND)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _survey(stack, lo, hi, highest, at_highest, missing):  # type: ignore[no-untyped-def]
    """Find each pixel's highest value, how often it occurs, and how many values are missing."""
    for f in range(stack.shape[0]):
        row = stack[f, lo:hi]
        for i in range(row.size):
            y = row[i]
            top = highest[i]
            gap = 0 if (y - y) == 0.0 else 1
            missing[i] += gap
            above = y > top and gap == 0
            at_highest[i] = 1 if above else at_highest[i] + (1 if y == top else 0)
            highest[i] = y if above else top


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _normalise(stack, lo, hi, plan, pre0, pre1, top, chi2):  # type: ignore[no-untyped-def]
    """Coefficients of the pre-edge line, level of the post-edge line, squared residual of both windows."""
    pre, post, pre_rule, post_rule, pre_weight, post_weight, post_level = plan
    size = hi - lo
    for j in range(pre.size):
        row = stack[pre[j], lo:hi]
        a, b, w = pre_rule[0, j], pre_rule[1, j], pre_weight[j]
        for i in range(size):
            v = np.float64(row[i])
            pre0[i] += a * v
            pre1[i] += b * v
            chi2[i] += w * v * v
    for i in range(size):
        chi2[i] -= pre0[i] * pre0[i] + pre1[i] * pre1[i]
    for j in range(post.size):
        row = stack[post[j], lo:hi]
        w = post_weight[j]
        for i in range(size):
            v = np.float64(row[i])
            chi2[i] += w * v * v
    coefficient = np.empty(size)
    for k in range(post_rule.shape[0]):
        coefficient[:] = 0.0
        for j in range(post.size):
            row = stack[post[j], lo:hi]
            c = post_rule[k, j]
            for i in range(size):
                coefficient[i] += c * row[i]
        level = post_level[k]
        for i in range(size):
            top[i] += level * coefficient[i]
            chi2[i] -= coefficient[i] * coefficient[i]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _find_half_jump(stack, lo, hi, inside, search, line, base, slope, half, out):  # type: ignore[no-untyped-def]
    """Energy of the half-jump crossing and its sigma per unit noise, into rows 2 and 3.

    Of several crossings in noise the one is taken that splits the window best into a part below and a part above
    one half: where the running sum of the differences is smallest.
    """
    energies, weights, widths = search[0], search[1], search[2]
    size = hi - lo
    n = inside.size
    running = np.zeros(size)
    lowest = np.zeros(size)
    at = np.full(size, -1, np.int32)
    below = np.zeros(size)
    above = np.zeros(size)
    for j in range(n):
        row = stack[inside[j], lo:hi]
        e, width = energies[j] - line[0], widths[j]
        for i in range(size):
            d = row[i] - (base[i] + e * slope[i] + half[i])
            above[i] = d if at[i] == j - 1 else above[i]
            running[i] += d * width
            new = running[i] < lowest[i]
            lowest[i] = running[i] if new else lowest[i]
            at[i] = j if new else at[i]
            below[i] = d if new else below[i]
    for i in range(size):
        j = at[i]
        rise = above[i] - below[i]
        if j < 0 or j == n - 1 or not rise > 0.0:
            out[2, lo + i] = np.nan
            out[3, lo + i] = np.nan
            continue
        t = -below[i] / rise
        step = energies[j + 1] - energies[j]
        e = energies[j] + t * step
        lever = line[1] * (e - line[0]) - 0.5 * line[1] * (line[3] - line[0])
        variance = (1.0 - t) ** 2 / weights[j] + t**2 / weights[j + 1]
        variance += 0.25 * line[2] ** 2 + lever**2 + 0.25 * line[4]
        out[2, lo + i] = e
        out[3, lo + i] = np.sqrt(variance) * step / rise


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _find_inflection(stack, lo, hi, inside, search, local, covariance, out):  # type: ignore[no-untyped-def]
    """Energy of the steepest rise and its sigma per unit noise, into rows 2 and 3."""
    energies = search[0]
    start, count, slope_rule = local
    size = hi - lo
    n = inside.size
    slopes = np.zeros((n, size))
    for j in range(n):
        target = slopes[j]
        for m in range(count[j]):
            row = stack[inside[start[j] + m], lo:hi]
            c = slope_rule[j, m]
            for i in range(size):
                target[i] += c * row[i]
    f = np.empty(3)
    for i in range(size):
        j = 1
        for k in range(1, n - 1):
            if slopes[k, i] > slopes[j, i]:
                j = k
        out[2, lo + i] = np.nan
        out[3, lo + i] = np.nan
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
        out[2, lo + i] = energies[j] + x
        out[3, lo + i] = np.sqrt(max(variance, 0.0)) / (-2.0 * c)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _find_white_line(  # type: ignore[no-untyped-def]
    stack, lo, hi, inside, search, local, bend_rule, variances, line, slope, out
):
    """Vertex of the parabola around the highest frame and its sigma per unit noise, into rows 2 and 3."""
    energies = search[0]
    start, count, slope_rule = local
    size = hi - lo
    n = inside.size
    highest = np.full(size, -np.inf)
    at = np.zeros(size, np.int32)
    for j in range(1, n - 1):
        row = stack[inside[j], lo:hi]
        e = energies[j] - line[0]
        for i in range(size):
            y = row[i] - e * slope[i]
            at[i] = j if y > highest[i] else at[i]
            highest[i] = max(y, highest[i])
    for i in range(size):
        out[2, lo + i] = np.nan
        out[3, lo + i] = np.nan
        j = at[i]
        # Centre on the frame nearest to the vertex, so that one noisy frame does not choose the support.
        for attempt in range(3):
            p = -slope[i]
            c = 0.0
            for m in range(count[j]):
                y = np.float64(stack[inside[start[j] + m], lo + i])
                p += slope_rule[j, m] * y
                c += bend_rule[j, m] * y
            if not c < 0.0:
                break
            x = -0.5 * p / c
            first, last = start[j], start[j] + count[j] - 1
            if energies[j] + x < energies[first] or energies[j] + x > energies[last]:
                break
            k = j
            while k > 1 and energies[j] + x < 0.5 * (energies[k] + energies[k - 1]):
                k -= 1
            while k < n - 2 and energies[j] + x > 0.5 * (energies[k] + energies[k + 1]):
                k += 1
            variance = (
                variances[0, j] + line[1] ** 2 + 4.0 * x * variances[1, j] + 4.0 * x * x * variances[2, j]
            )
            out[2, lo + i] = energies[j] + x
            out[3, lo + i] = np.sqrt(max(variance, 0.0)) / (-2.0 * c)
            if k == j:
                break
            j = k


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _judge(  # type: ignore[no-untyped-def]
    lo, hi, n_frames, highest, at_highest, missing, step, chi2, limits, pooled, out, status
):
    """Turn sigma per unit noise into sigma, fill jump, R-factor, noise and the highest value, set the status."""
    dof, detect, step_variance, weight_above, first, last = limits
    for i in range(hi - lo):
        pixel = lo + i
        energy, factor = out[2, pixel], out[3, pixel]
        for m in range(7):
            out[m, pixel] = np.nan
        out[7, pixel] = highest[i] if missing[i] < n_frames else np.nan
        if missing[i] > 0:
            status[pixel] = INCOMPLETE
            continue
        if at_highest[i] >= n_frames:
            status[pixel] = _FLAT
            continue
        residual = max(chi2[i], 1e-14 * weight_above * highest[i] * highest[i])
        noise2 = pooled[pixel] if pooled.size > 1 else residual / dof
        out[6, pixel] = np.sqrt(residual / dof)
        if not step[i] * step[i] > detect * step_variance * noise2:
            status[pixel] = _NO_EDGE
            continue
        if step[i] < 0.0:
            status[pixel] = _INVERTED
            continue
        goodness = residual / (weight_above * step[i] * step[i] + residual)
        if at_highest[i] >= 4 and at_highest[i] >= 0.1 * n_frames and goodness > 1e-6:
            status[pixel] = _SATURATED
            continue
        out[4, pixel] = step[i]
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
def _fit_block(  # type: ignore[no-untyped-def]
    stack, lo, hi, method, plan, inside, search, line, local, bend_rule, variances, covariance, limits, pooled,
    out, status,
):  # fmt: skip
    size = hi - lo
    n_frames = stack.shape[0]
    highest = np.full(size, np.float32(-np.inf))
    at_highest = np.zeros(size, np.int32)
    missing = np.zeros(size, np.int32)
    _survey(stack, lo, hi, highest, at_highest, missing)
    pre0 = np.zeros(size)
    pre1 = np.zeros(size)
    top = np.zeros(size)
    chi2 = np.zeros(size)
    _normalise(stack, lo, hi, plan, pre0, pre1, top, chi2)
    # Line: value at its centre, slope per eV; the step is taken at the reference energy line[3].
    for i in range(size):
        pre0[i] *= line[2]
        pre1[i] *= line[1]
        top[i] -= pre0[i] + (line[3] - line[0]) * pre1[i]
    if method == 0:
        half = 0.5 * top
        _find_half_jump(stack, lo, hi, inside, search, line, pre0, pre1, half, out)
    elif method == 1:
        _find_inflection(stack, lo, hi, inside, search, local, covariance, out)
    else:
        _find_white_line(stack, lo, hi, inside, search, local, bend_rule, variances, line, pre1, out)
    _judge(lo, hi, n_frames, highest, at_highest, missing, top, chi2, limits, pooled, out, status)


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def fit_windows(  # type: ignore[no-untyped-def]
    stack,
    method,
    plan,
    inside,
    search,
    line,
    local,
    bend_rule,
    variances,
    covariance,
    limits,
    pooled,
    out,
    status,
):
    """Estimate the edge energy of every pixel.

    Parameters
    ----------
    stack : float32 (n_frames, n_pixels)
        Optical depth, frames of different energies in any order.
    method : int
        0 half-jump, 1 inflection, 2 white line.
    plan : tuple
        Frames of the two windows, their rules and weights, post-edge levels (see ``WindowPlan``).
    inside : int64 (n_inside,)
        Frames of the search window by energy.
    search : float64 (3, n_inside)
        Their energies, weights and widths.
    line : float64 (5,)
        Centre of the pre-edge line, its slope per eV and its level per unit coefficient, reference energy, variance of
        the post-edge level.
    local : tuple
        Start and length of the supports, slope rules (see ``LocalRules``).
    bend_rule : float64 (n_inside, most)
        Half-curvature rules.
    variances : float64 (3, n_inside)
        Of slope, slope and bend, bend.
    covariance : float64 (n_inside, n_inside)
        Of the slopes.
    limits : tuple of float
        Degrees of freedom, detection threshold, variance of the step for unit noise, weight above the edge, ends of
        the search window.
    pooled : float64 (n_pixels,) or (1,)
        Noise variance at weight 1; with one element each pixel's own.
    out : float32 (8, n_pixels)
        soc and its sigma (left NaN), edge energy, its sigma, jump, R-factor, noise, highest optical depth.
    status : uint8 (n_pixels,)
        Status codes; ``INCOMPLETE`` where frames are missing.
    """
    n_pixels = stack.shape[1]
    for block in nb.prange((n_pixels + _BLOCK - 1) // _BLOCK):
        lo = block * _BLOCK
        hi = min(lo + _BLOCK, n_pixels)
        _fit_block(
            stack, lo, hi, method, plan, inside, search, line, local, bend_rule, variances, covariance, limits,
            pooled, out, status,
        )  # fmt: skip
