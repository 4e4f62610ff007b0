"""Kernels that compare frames with a linear model at some pixels, and all pixels with the noise of these.

No BLAS here: its threads would go on to spin for tens of milliseconds in the way of the other kernels.
"""

from __future__ import annotations

import numba as nb
import numpy as np

_BLOCK = 1024
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOG2E = np.float32(1.44269504)
# Square of a normal variable that is exceeded in half of all cases.
_MEDIAN_OF_SQUARE = 0.4549364


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _as_float(word):
    """Float32 of some bits."""
    return np.int32(word).view(np.float32)


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _exponentiate(x, out):
    """Exponential of a row, written out (split by powers of two, polynomial) so that the loop is vectorised."""
    for i in range(x.size):
        value = x[i] if x[i] < np.float32(80.0) else np.float32(80.0)
        value = value if value > np.float32(-80.0) else np.float32(-80.0)
        k = np.floor(value * _LOG2E + np.float32(0.5))
        r = value - k * _LN2_HIGH - k * _LN2_LOW
        y = np.float32(1.0 / 720.0)
        y = y * r + np.float32(1.0 / 120.0)
        y = y * r + np.float32(1.0 / 24.0)
        y = y * r + np.float32(1.0 / 6.0)
        y = y * r + np.float32(0.5)
        y = y * r + np.float32(1.0)
        y = y * r + np.float32(1.0)
        out[i] = y * _as_float(np.int32((np.int32(k) + np.int32(127)) << np.int32(23)))


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def project(stack, functions, coefficients):
    """Add up frames times the functions; float32 (n_frames, n_pixels), float64 (n_frames, n), float64 (n, n_pixels)."""
    coefficients[:] = 0.0
    for f in range(stack.shape[0]):
        for k in range(functions.shape[1]):
            factor = functions[f, k]
            for i in range(stack.shape[1]):
                coefficients[k, i] += factor * stack[f, i]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def subtract(stack, functions, coefficients, out):
    """Take a linear model from the frames; ``out`` is float32 (n_frames, n_pixels)."""
    row = np.empty(stack.shape[1])
    for f in range(stack.shape[0]):
        for i in range(row.size):
            row[i] = stack[f, i]
        for k in range(functions.shape[1]):
            factor = functions[f, k]
            for i in range(row.size):
                row[i] -= factor * coefficients[k, i]
        for i in range(row.size):
            out[f, i] = row[i]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def mean_size(residual, size):
    """Mean absolute value of each pixel, float64 (n_pixels,)."""
    size[:] = 0.0
    for f in range(residual.shape[0]):
        for i in range(size.size):
            size[i] += abs(residual[f, i])
    for i in range(size.size):
        size[i] /= residual.shape[0]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def products(residual, size, gram):
    """Products of all pairs of frames, each pixel divided by its size; float64 (n_frames, n_frames)."""
    n_frames, n_pixels = residual.shape
    scaled = np.empty((n_frames, n_pixels), np.float32)
    for f in range(n_frames):
        for i in range(n_pixels):
            scaled[f, i] = residual[f, i] / np.float32(size[i])
    for f in range(n_frames):
        for g in range(f + 1):
            total = np.float32(0.0)
            for i in range(n_pixels):
                total += scaled[f, i] * scaled[g, i]
            gram[f, g] = gram[g, f] = total


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def take_leading(gram, vector, n_rounds):
    """Find the largest eigenvalue by power iteration and take it out of the matrix if it is as large as it looks.

    ``vector`` begins as a guess and ends as the eigenvector. The value is a lower bound.
    """
    n = vector.size
    following = np.empty(n)
    value = 0.0
    for _ in range(n_rounds):
        square = 0.0
        for f in range(n):
            total = 0.0
            for g in range(n):
                total += gram[f, g] * vector[g]
            following[f] = total
            square += total * total
        value = np.sqrt(square)
        if not value > 0.0:
            return 0.0
        for f in range(n):
            vector[f] = following[f] / value
    return value


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def noise_by_depth(rest, stack, factor, size, n_bins, lowest, highest, sums):
    """Collect the size of the noise by how far the optical depth of a value is from the mean of its pixel.

    Parameters
    ----------
    rest, stack : float32 (n_frames, n_pixels)
        Residuals and optical depth.
    factor : float64 (n_frames,)
        What makes the residuals of a frame noise of weight 1; 0 leaves the frame out.
    size : float64 (n_pixels,)
        Mean size of each pixel.
    n_bins : int
        Bins.
    lowest, highest : float
        Their range.
    sums : float64 (3, n_bins)
        Count, sum of the distances, sum of the sizes; added to.
    """
    n_frames, n_pixels = rest.shape
    middle = np.zeros(n_pixels)
    n_used = 0
    for f in range(n_frames):
        if factor[f] > 0.0:
            n_used += 1
            for i in range(n_pixels):
                middle[i] += stack[f, i]
    for i in range(n_pixels):
        middle[i] /= max(n_used, 1)
    per_ev = n_bins / (highest - lowest)
    for f in range(n_frames):
        if factor[f] > 0.0:
            for i in range(n_pixels):
                away = stack[f, i] - middle[i]
                k = int(min(max((away - lowest) * per_ev, 0.0), n_bins - 1.0))
                sums[0, k] += 1.0
                sums[1, k] += away
                sums[2, k] += factor[f] * abs(rest[f, i]) / size[i]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def noise_by_frame(rest, stack, factor, growth, by_frame):
    """Mean size of the noise of each frame, brought to optical depth zero; float64 (n_frames,)."""
    n_frames, n_pixels = rest.shape
    x, e = np.empty(n_pixels, np.float32), np.empty(n_pixels, np.float32)
    half = np.float32(-0.5 * growth)
    for f in range(n_frames):
        for i in range(n_pixels):
            x[i] = half * stack[f, i]
        _exponentiate(x, e)
        total = 0.0
        for i in range(n_pixels):
            total += abs(rest[f, i]) * e[i]
        by_frame[f] = factor[f] * total / n_pixels


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def variances(stack, growth, out):
    """Variance of each value over that at optical depth zero, float32 (n_frames, n_pixels)."""
    x = np.empty(stack.shape[1], np.float32)
    steep = np.float32(growth)
    for f in range(stack.shape[0]):
        for i in range(x.size):
            x[i] = steep * min(max(stack[f, i], np.float32(-1.0)), np.float32(8.0))
        _exponentiate(x, out[f])


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def frame_moments(residual, variance, jump, patterns, out):
    """Sum over the pixels of each frame.

    Parameters
    ----------
    residual, variance : float32 (n_frames, n_pixels)
        Residual, and variance but for a factor of the frame.
    jump : float64 (n_pixels,)
        Edge jump.
    patterns : float64 (n_patterns, n_pixels)
        Orthonormal patterns over the pixels.
    out : float64 (n_frames, 4 + n_patterns)
        Of the squared residual, residual times jump, variance, variance times squared jump, residual times patterns.
    """
    for f in range(residual.shape[0]):
        square, along, total, strong = 0.0, 0.0, 0.0, 0.0
        for i in range(jump.size):
            r, v = np.float64(residual[f, i]), np.float64(variance[f, i])
            square += r * r
            along += r * jump[i]
            total += v
            strong += v * jump[i] * jump[i]
        out[f, 0], out[f, 1], out[f, 2], out[f, 3] = square, along, total, strong
        for p in range(patterns.shape[0]):
            total = 0.0
            for i in range(jump.size):
                total += residual[f, i] * patterns[p, i]
            out[f, 4 + p] = total


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def chi2_sums(stack, residual, growth, weight, by_frame, by_pixel):
    """Add up squared residuals over their variance by frame, and weighted variances by pixel.

    Parameters
    ----------
    stack, residual : float32 (n_frames, n_pixels)
        Optical depth, and what the fit leaves of it.
    growth : float
        Growth of the variance with optical depth.
    weight : float64 (n_frames,)
        What the variances are summed with.
    by_frame, by_pixel : float64 (n_frames,), (n_pixels,)
        Mean of the quotient; sum of the variances.
    """
    n_frames, n_pixels = stack.shape
    x, e = np.empty(n_pixels, np.float32), np.empty(n_pixels, np.float32)
    steep = np.float32(growth)
    by_pixel[:] = 0.0
    for f in range(n_frames):
        for i in range(n_pixels):
            depth = min(max(stack[f, i] - residual[f, i], np.float32(-1.0)), np.float32(8.0))
            x[i] = steep * depth
        _exponentiate(x, e)
        total = 0.0
        for i in range(n_pixels):
            by_pixel[i] += weight[f] * e[i]
            total += residual[f, i] * residual[f, i] / e[i]
        by_frame[f] = total / n_pixels


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _judge_block(values, span, expected, scale, limits, rows, out, suspects):
    """Judge the pixels of one block; see :func:`judge_pixels`."""
    lo, hi = span
    x, e = rows
    sigma, center, half, most_jump = scale
    zero, one = np.float32(0.0), np.float32(1.0)
    size = hi - lo
    a, b, c, lowest, highest = expected[0], expected[1], expected[2], expected[3], expected[4]
    for i in range(size):
        log = a + b * values[7, lo + i] + c * values[4, lo + i]
        log = log if log > lowest else lowest
        x[i] = -log if log < highest else -highest
    _exponentiate(x[:size], e[:size])
    limit, background, growth = limits[0], limits[1], limits[2]
    beyond = zero
    for i in range(size):
        noise, jump = values[6, lo + i], values[4, lo + i]
        # Not a number where the jump is not.
        chi2 = noise * noise * e[i] + (jump - jump)
        out[lo + i] = chi2
        beyond += zero if chi2 <= limit else one
    for i in range(size):
        suspects[lo + i] = 0
    count = 0
    if beyond > zero:
        for i in range(size):
            x[i] = growth * values[7, lo + i]
        _exponentiate(x[:size], e[:size])
        for i in range(size):
            chi2, noise = out[lo + i], values[6, lo + i]
            unknown = chi2 != chi2
            if chi2 > limit or (unknown and noise * noise > background * e[i]):
                suspects[lo + i] = 1
                count += 1
    s0, s1, s2, s3, s4 = sigma[0], sigma[1], sigma[2], sigma[3], sigma[4]
    per_state = one / half
    third = np.float32(1.0 / 3.0)
    for i in range(size):
        jump = values[4, lo + i]
        jump = jump if jump > zero else zero
        jump = jump if jump < most_jump else most_jump
        state = (values[0, lo + i] - center) * per_state
        # Small: a few terms of the exponential are enough.
        t = third * (s0 + s3 * state + jump * (s1 + s2 * jump + s4 * state))
        t = t if t < third else third
        t = t if t > -third else -third
        factor = one + t * (one + np.float32(0.5) * t * (one + third * t))
        factor = factor * factor * factor
        values[1, lo + i] *= factor
        values[3, lo + i] *= factor
    return count


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def judge_pixels(values, expected, scale, limits, out, suspects, counts):
    """Give every pixel its chi2, correct its sigmas, and mark those whose chi2 noise does not allow.

    Parameters
    ----------
    values : float32 (8, n_pixels)
        Values of the fit in the order of EdgeMaps; both sigmas are changed.
    expected : float32 (5,)
        Logarithm of the expected squared noise: constant, per optical depth, per jump, and its limits.
    scale : SigmaScale
        What sigmas are multiplied with.
    limits : float32 (3,)
        Highest chi2; highest squared noise of a pixel without edge at optical depth zero, and its growth.
    out : float32 (n_pixels,)
        Reduced chi2; NaN without a fit.
    suspects : uint8 (n_pixels,)
        1 for pixels beyond the limits.
    counts : int64 (n_blocks,)
        How many of them are in each block of 1024.
    """
    n_pixels = out.size
    for block in nb.prange(counts.size):
        lo = block * _BLOCK
        hi = min(lo + _BLOCK, n_pixels)
        rows = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
        counts[block] = _judge_block(values, (lo, hi), expected, scale, limits, rows, out, suspects)


def count_blocks(n_pixels: int) -> int:
    """Entries that :func:`judge_pixels` needs in ``counts``."""
    return -(-n_pixels // _BLOCK)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _find_in_spectrum(y, orthonormal, own, least_z, most, off, residual, squares):
    """Mark single values of one spectrum; return whether there are not too many."""
    n_frames, n_functions = orthonormal.shape
    for count in range(most + 1):
        for turn in range(13 if count else 1):
            for f in range(n_frames):
                residual[f] = y[f]
            for k in range(n_functions):
                total = 0.0
                for f in range(n_frames):
                    total += orthonormal[f, k] * y[f]
                for f in range(n_frames):
                    residual[f] -= total * orthonormal[f, k]
            # Values set aside take what the fit of the others says, which a few rounds reach.
            if turn < 12 and count:
                for f in range(n_frames):
                    y[f] -= residual[f] if off[f] else 0.0
        n_left = 0
        for f in range(n_frames):
            if not off[f]:
                squares[n_left] = residual[f] * residual[f] / own[f]
                n_left += 1
        # A pixel may have less light than the others, and more noise.
        noisier = max(np.median(squares[:n_left]) / _MEDIAN_OF_SQUARE, 1.0)
        worst, highest = -1, least_z * least_z * noisier
        for f in range(n_frames):
            square = residual[f] * residual[f] / own[f]
            if not off[f] and square > highest:
                worst, highest = f, square
        if worst < 0:
            return True
        if count == most:
            return False
        off[worst] = True
    return True


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def find_zingers(spectra, orthonormal, variance, least_z, most, out):
    """Find single values that the rest of their spectrum does not bear out.

    Parameters
    ----------
    spectra : float32 (n_pixels, n_frames)
        Optical depth, finite.
    orthonormal : float64 (n_frames, n_functions)
        Orthonormal functions of energy.
    variance : float32 (n_pixels, n_frames)
        Of noise alone, but for what the fit takes of it.
    least_z : float
        Standard deviations from the rest.
    most : int
        A spectrum with more of them keeps all.
    out : bool (n_pixels, n_frames)
        Marks of these values.
    """
    n_pixels, n_frames = spectra.shape
    for p in nb.prange(n_pixels):
        y, own = np.empty(n_frames), np.empty(n_frames)
        residual, squares = np.empty(n_frames), np.empty(n_frames)
        off = np.zeros(n_frames, np.bool_)
        for f in range(n_frames):
            y[f], own[f] = spectra[p, f], variance[p, f]
        if _find_in_spectrum(y, orthonormal, own, least_z, most, off, residual, squares):
            for f in range(n_frames):
                out[p, f] = off[f]
