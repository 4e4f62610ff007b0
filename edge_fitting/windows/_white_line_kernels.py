"""White line: its top, by a parabola that is moved until its vertex is its centre."""

import numba as nb
import numpy as np

from ._window_pass import BLOCK, go_over_frames
from ._window_records import WindowScan
from ._window_status import set_status


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


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def fit_white_line(stack, frames, line, search, limits, reach, pooled, out, status):
    """Find the top of the white line of every pixel.

    Parameters
    ----------
    stack, frames, line, search, limits, pooled, out, status
        As in ``fit_half_jump``.
    reach : float64 (n_inside,)
        Half-width of the parabola in eV around each frame.
    """
    n_pixels = stack.shape[1]
    for block in nb.prange((n_pixels + BLOCK - 1) // BLOCK):
        lo = block * BLOCK
        hi = min(lo + BLOCK, n_pixels)
        size = hi - lo
        # Made here: numba takes no tuples of tuples of arrays into a parallel kernel.
        scan = WindowScan(frames, line, search, limits)
        spectra, raw, seen, _, slope = go_over_frames(stack, lo, hi, scan, pooled)
        _find_white_line(spectra, size, scan.search, reach, scan.line, slope, raw)
        set_status(raw, seen, lo, hi, scan.limits, out, status)
