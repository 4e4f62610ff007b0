"""Kernels of registration: band-pass, resampling, and the normal equations of a shift.

All of them run over rows in parallel; inner loops run along a row. The frames that are compared are band-passed and
hold no missing values: where a value is not known, a mask says so.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

#: Reach of the Lanczos-4 kernel: taps on each side.
LANCZOS = 4


@nb.njit(cache=True, nogil=True, parallel=True, error_model="numpy", fastmath={"contract", "reassoc"})
def band_pass(frame, narrow, wide, rows_narrow, rows_wide, out):
    """Difference of two Gaussians of a frame without missing values, mirrored at its borders.

    Parameters
    ----------
    frame : ndarray of float32, shape (rows, cols)
        The frame.
    narrow, wide : ndarray of float32, shape (1 + reach,)
        Halves of the kernels, the middle first.
    rows_narrow, rows_wide, out : ndarray of float32, shape (rows, cols)
        Room for the frame smoothed along columns; the result.
    """
    n_rows, n_cols = frame.shape
    reach_narrow, reach_wide = narrow.size - 1, wide.size - 1
    for i in nb.prange(n_rows):
        a, b, line = rows_narrow[i], rows_wide[i], frame[i]
        for j in range(n_cols):
            a[j] = narrow[0] * line[j]
            b[j] = wide[0] * line[j]
        for t in range(1, reach_wide + 1):
            up, down = frame[_mirror(i - t, n_rows)], frame[_mirror(i + t, n_rows)]
            w = wide[t]
            for j in range(n_cols):
                b[j] += w * (up[j] + down[j])
            if t <= reach_narrow:
                w = narrow[t]
                for j in range(n_cols):
                    a[j] += w * (up[j] + down[j])
    for i in nb.prange(n_rows):
        padded_a = _padded(rows_narrow[i], reach_narrow)
        padded_b = _padded(rows_wide[i], reach_wide)
        result = out[i]
        for j in range(n_cols):
            result[j] = narrow[0] * padded_a[j + reach_narrow] - wide[0] * padded_b[j + reach_wide]
        for t in range(1, reach_narrow + 1):
            left, right, w = padded_a[reach_narrow - t :], padded_a[reach_narrow + t :], narrow[t]
            for j in range(n_cols):
                result[j] += w * (left[j] + right[j])
        for t in range(1, reach_wide + 1):
            left, right, w = padded_b[reach_wide - t :], padded_b[reach_wide + t :], wide[t]
            for j in range(n_cols):
                result[j] -= w * (left[j] + right[j])


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _mirror(i, n):
    """Index inside of an axis for one beyond its ends, however short the axis."""
    if n == 1:
        return 0
    period = 2 * n
    i = i % period
    return i if i < n else period - 1 - i


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _padded(line, reach):
    out = np.empty(line.size + 2 * reach, np.float32)
    out[reach : reach + line.size] = line
    for t in range(1, reach + 1):
        out[reach - t] = line[_mirror(-t, line.size)]
        out[reach + line.size - 1 + t] = line[_mirror(line.size - 1 + t, line.size)]
    return out


@nb.njit(cache=True, nogil=True, error_model="numpy")
def lanczos_taps(fraction):
    """Weights of the values at -3 ... 4 for a point at ``fraction`` (0 to 1) behind value 0; they sum to 1."""
    taps = np.zeros(2 * LANCZOS, np.float32)
    if fraction < 1e-6:
        taps[LANCZOS - 1] = 1.0
        return taps
    exact = np.empty(2 * LANCZOS)
    for t in range(2 * LANCZOS):
        x = math.pi * (fraction - (t - LANCZOS + 1))
        exact[t] = LANCZOS * math.sin(x) * math.sin(x / LANCZOS) / (x * x) if abs(x) > 1e-12 else 1.0
    exact /= exact.sum()
    taps[:] = exact
    return taps


@nb.njit(cache=True, nogil=True, parallel=True, error_model="numpy", fastmath={"contract"})
def resample(frame, row_shift, col_shift, outside, half, out):
    """Read a frame at points moved by a shift, by a Lanczos-4 kernel along both axes.

    Parameters
    ----------
    frame : ndarray of float32, shape (rows, cols)
        The frame.
    row_shift, col_shift : float
        ``out[i, j]`` is the frame at ``(i + row_shift, j + col_shift)``.
    outside : float
        What stands where the kernel reaches beyond the frame. A missing value makes all that it would enter missing.
    half, out : ndarray of float32, shape (rows, cols)
        Room for the frame moved along columns; the result.
    """
    n_rows, n_cols = frame.shape
    down, right = math.floor(row_shift), math.floor(col_shift)
    row_taps, col_taps = lanczos_taps(row_shift - down), lanczos_taps(col_shift - right)
    first_row, last_row = _used(row_taps)
    first_col, last_col = _used(col_taps)
    low = max(0, -(right + first_col - LANCZOS + 1))
    high = min(n_cols, n_cols - (right + last_col - LANCZOS + 1))
    for i in nb.prange(n_rows):
        result = out[i]
        top = i + int(down) - LANCZOS + 1
        if top + first_row < 0 or top + last_row >= n_rows or low >= high:
            for j in range(n_cols):
                result[j] = outside
            continue
        line = half[i]
        for j in range(n_cols):
            line[j] = row_taps[first_row] * frame[top + first_row, j]
        for t in range(first_row + 1, last_row + 1):
            source, w = frame[top + t], row_taps[t]
            for j in range(n_cols):
                line[j] += w * source[j]
        for j in range(low):
            result[j] = outside
        for j in range(high, n_cols):
            result[j] = outside
        start = low + int(right) - LANCZOS + 1
        width = high - low
        inner = result[low:high]
        source = line[start + first_col : start + first_col + width]
        w = col_taps[first_col]
        for j in range(width):
            inner[j] = w * source[j]
        for t in range(first_col + 1, last_col + 1):
            source, w = line[start + t : start + t + width], col_taps[t]
            for j in range(width):
                inner[j] += w * source[j]


@nb.njit(cache=True, nogil=True, parallel=True, error_model="numpy", fastmath={"contract"})
def resample_linear(frame, matrix, place, table, outside, out):
    """Read a frame at points of a turned and magnified grid, by a Lanczos-4 kernel along both axes.

    Parameters
    ----------
    frame : ndarray of float32, shape (rows, cols)
        The frame.
    matrix : ndarray, shape (2, 2)
        ``out[i, j]`` is the frame at ``place + matrix @ (i, j)``.
    place : tuple of float
        Where the first pixel is.
    table : ndarray of float32, shape (n + 1, 8)
        Weights of the kernel for fractions of a pixel from 0 to 1 in equal steps.
    outside : float
        What stands where the kernel reaches beyond the frame. A missing value makes all that it would enter missing.
    out : ndarray of float32, shape (rows, cols)
        The result.
    """
    n_rows, n_cols = frame.shape
    n_steps = table.shape[0] - 1
    for i in nb.prange(out.shape[0]):
        for j in range(out.shape[1]):
            row = place[0] + matrix[0, 0] * i + matrix[0, 1] * j
            col = place[1] + matrix[1, 0] * i + matrix[1, 1] * j
            down, right = math.floor(row), math.floor(col)
            top, left = int(down) - LANCZOS + 1, int(right) - LANCZOS + 1
            if top < 0 or left < 0 or top + 2 * LANCZOS > n_rows or left + 2 * LANCZOS > n_cols:
                out[i, j] = outside
                continue
            across = table[int((col - right) * n_steps + 0.5)]
            along = table[int((row - down) * n_steps + 0.5)]
            total = np.float32(0.0)
            for t in range(2 * LANCZOS):
                line = frame[top + t, left : left + 2 * LANCZOS]
                part = np.float32(0.0)
                for u in range(2 * LANCZOS):
                    part += across[u] * line[u]
                total += along[t] * part
            out[i, j] = total


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _used(taps):
    """First and last tap that is not 0."""
    first, last = 0, taps.size - 1
    while taps[first] == 0.0:
        first += 1
    while taps[last] == 0.0:
        last -= 1
    return first, last


@nb.njit(cache=True, nogil=True, parallel=True, error_model="numpy", fastmath={"contract", "reassoc"})
def block_sums(frame, predicted, mean, known, share, mask, size, sums):
    """Sum products for the normal equations of amplitudes and shift, block by block.

    Parameters
    ----------
    frame, predicted, mean : ndarray of float32, shape (rows, cols)
        Band-passed frame at the present shift, and the two images it is compared with.
    known : ndarray of uint8, shape (rows, cols)
        Where the frame at the present shift has a value.
    share : tuple of float
        Amplitudes of the two images, for the gradient.
    mask : ndarray of uint8, shape (rows, cols)
        Where to compare.
    size : int
        Rows and columns of a block.
    sums : ndarray of float64, shape (block_rows, block_cols, 22)
        Upper triangle of the products of 1, predicted, mean, the two gradients and the frame; last the squared
        gradient that the mask holds, known or not.
    """
    n_rows, n_cols = frame.shape
    n_down, n_across = sums.shape[0], sums.shape[1]
    a, b = np.float32(0.5 * share[0]), np.float32(0.5 * share[1])
    for block_row in nb.prange(n_down):
        gradient_y, gradient_x = np.zeros(n_cols, np.float32), np.zeros(n_cols, np.float32)
        weight = np.zeros(n_cols, np.float32)
        for i in range(max(1, block_row * size), min(n_rows - 1, (block_row + 1) * size)):
            p, m, f = predicted[i], mean[i], frame[i]
            above_p, below_p, above_m, below_m = predicted[i - 1], predicted[i + 1], mean[i - 1], mean[i + 1]
            for j in range(1, n_cols - 1):
                gradient_y[j] = a * (below_p[j] - above_p[j]) + b * (below_m[j] - above_m[j])
                gradient_x[j] = a * (p[j + 1] - p[j - 1]) + b * (m[j + 1] - m[j - 1])
                weight[j] = mask[i, j] * known[i, j]
            for block_col in range(n_across):
                start, stop = max(1, block_col * size), min(n_cols - 1, (block_col + 1) * size)
                if stop <= start:
                    continue
                s11 = s1p = s1m = s1y = s1x = s1f = np.float32(0.0)
                spp = spm = spy = spx = spf = np.float32(0.0)
                smm = smy = smx = smf = np.float32(0.0)
                syy = syx = syf = sxx = sxf = sff = sall = np.float32(0.0)
                for j in range(start, stop):
                    w, vp, vm, vf, vy, vx = weight[j], p[j], m[j], f[j], gradient_y[j], gradient_x[j]
                    sall += mask[i, j] * (vy * vy + vx * vx)
                    s11 += w
                    s1p += w * vp
                    s1m += w * vm
                    s1y += w * vy
                    s1x += w * vx
                    s1f += w * vf
                    wp, wm = w * vp, w * vm
                    spp += wp * vp
                    spm += wp * vm
                    spy += wp * vy
                    spx += wp * vx
                    spf += wp * vf
                    smm += wm * vm
                    smy += wm * vy
                    smx += wm * vx
                    smf += wm * vf
                    wy, wx = w * vy, w * vx
                    syy += wy * vy
                    syx += wy * vx
                    syf += wy * vf
                    sxx += wx * vx
                    sxf += wx * vf
                    sff += w * vf * vf
                own = sums[block_row, block_col]
                own[0] += s11
                own[1] += s1p
                own[2] += s1m
                own[3] += s1y
                own[4] += s1x
                own[5] += s1f
                own[6] += spp
                own[7] += spm
                own[8] += spy
                own[9] += spx
                own[10] += spf
                own[11] += smm
                own[12] += smy
                own[13] += smx
                own[14] += smf
                own[15] += syy
                own[16] += syx
                own[17] += syf
                own[18] += sxx
                own[19] += sxf
                own[20] += sff
                own[21] += sall


@nb.njit(cache=True, nogil=True, parallel=True, error_model="numpy", fastmath={"contract"})
def add_registered(frame, known, predicted, functions, images, seen):
    """Add a registered frame to the running sums; where it is not known, what was predicted stands for it."""
    n = images.shape[0]
    for i in nb.prange(frame.shape[0]):
        for j in range(frame.shape[1]):
            value = frame[i, j] if known[i, j] else predicted[i, j]
            for k in range(n):
                images[k, i, j] += functions[k] * value
            seen[i, j] += known[i, j]
