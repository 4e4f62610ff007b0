"""Inflection: where the absorption rises most steeply."""

import numba as nb
import numpy as np

from ._window_pass import BLOCK, go_over_frames
from ._window_records import WindowScan
from ._window_status import set_status


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


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def fit_inflection(stack, frames, line, search, limits, rules, pooled, out, status):
    """Find the steepest rise of every pixel.

    Parameters
    ----------
    stack, frames, line, search, limits, pooled, out, status
        As in ``fit_half_jump``.
    rules : SlopeRules
        Slopes of parabolas at each frame.
    """
    n_pixels = stack.shape[1]
    for block in nb.prange((n_pixels + BLOCK - 1) // BLOCK):
        lo = block * BLOCK
        hi = min(lo + BLOCK, n_pixels)
        size = hi - lo
        # Made here: numba takes no tuples of tuples of arrays into a parallel kernel.
        scan = WindowScan(frames, line, search, limits)
        spectra, raw, seen, _, _ = go_over_frames(stack, lo, hi, scan, pooled)
        _find_inflection(spectra, size, scan.search, rules, raw)
        set_status(raw, seen, lo, hi, scan.limits, out, status)
