"""Kernels that find the place along the series where the likelihood of each pixel of a block is highest.

Short loops of few arrays each: the compiler makes vector code of those only.
"""

from __future__ import annotations

import numba as nb
import numpy as np


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _slope(tangent, node, v, i):
    """Differentiate the likelihood's root at a node."""
    slope = 0.0
    for k in range(v.shape[0]):
        slope += v[k, i] * tangent[node, k]
    return slope


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _bisect(tangent, v, i, node, stride):
    """Place in the table, next to the best coarse node, where the derivative of the likelihood changes sign."""
    last = tangent.shape[0] - 1
    a = node
    rising = _slope(tangent, a, v, i) > 0.0
    step = stride if rising else -stride
    b = a + step
    while 0 <= b <= last and (_slope(tangent, b, v, i) > 0.0) == rising:
        a, b = b, b + step
    if b < 0 or b > last:
        return -1.0 if b < 0 else last + 1.0
    while abs(b - a) > 1:
        middle = (a + b) // 2
        if (_slope(tangent, middle, v, i) > 0.0) == rising:
            a = middle
        else:
            b = middle
    slope_a, slope_b = _slope(tangent, a, v, i), _slope(tangent, b, v, i)
    return a + (b - a) * slope_a / (slope_a - slope_b)


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def scan_nodes(series, v, scanned):
    """Rank the coarse nodes of the table by the likelihood's root, all pixels of the block abreast.

    Single precision will do for that.
    """
    curve, stride = series.curve, series.stride
    n_nodes, n_modes = curve.shape
    rough, g, best, worst, where = scanned.rough, scanned.g, scanned.best, scanned.worst, scanned.where
    size = where.size
    for k in range(n_modes):
        vk = v[k]
        row = rough[k]
        for i in range(size):
            row[i] = vk[i]
    for i in range(size):
        best[i] = -np.inf
        worst[i] = np.inf
        where[i] = 0
    r0, r1, r2, r3 = rough[0], rough[1], rough[2], rough[3]
    for node in range(0, n_nodes, stride):
        number = np.int32(node)
        c0, c1 = np.float32(curve[node, 0]), np.float32(curve[node, 1])
        c2 = np.float32(curve[node, 2]) if n_modes > 2 else np.float32(0.0)
        c3 = np.float32(curve[node, 3]) if n_modes > 3 else np.float32(0.0)
        for i in range(size):
            g[i] = c0 * r0[i] + c1 * r1[i] + c2 * r2[i] + c3 * r3[i]
        for k in range(4, n_modes - 1):
            c = np.float32(curve[node, k])
            row = rough[k]
            for i in range(size):
                g[i] += c * row[i]
        last = rough[n_modes - 1]
        c = np.float32(curve[node, n_modes - 1]) if n_modes > 4 else np.float32(0.0)
        for i in range(size):
            value = g[i] + c * last[i]
            where[i] = number if value > best[i] else where[i]
            best[i] = value if value > best[i] else best[i]
            worst[i] = value if value < worst[i] else worst[i]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def refine_places(series, v, where, place, peak):
    """Find the places in the table where the likelihood is highest, and its root there.

    The derivative at the best coarse node and its neighbours gives a parabola; its zero is corrected once by the
    derivative at the nearest fine node. What does not behave so is bisected. A place beyond the table means that the
    likelihood still rises at its end.
    """
    curve, tangent, stride = series.curve, series.tangent, series.stride
    n_nodes, n_modes = curve.shape
    size = where.size
    last = n_nodes - 1
    spacing = series.at_nodes[1, 0] - series.at_nodes[0, 0]
    rise, bend, here, step, fall, slope = np.empty((6, size))
    nodes = np.empty(size, np.int64)
    for i in range(size):
        a = min(max(np.int64(where[i]), stride), last - stride)
        low, middle, high = 0.0, 0.0, 0.0
        for k in range(n_modes):
            y = v[k, i]
            low += y * tangent[np.uint64(a - stride), k]
            middle += y * tangent[np.uint64(a), k]
            high += y * tangent[np.uint64(a + stride), k]
        rise[i], bend[i], here[i], nodes[i] = 0.5 * (high - low), 0.5 * (high + low) - middle, middle, a
    for i in range(size):
        p, c, y = rise[i], bend[i], here[i]
        x = -y / (p - c * y / p)
        step[i] = -y / (p + c * x)
    for i in range(size):
        usable = rise[i] < 0.0 and abs(step[i]) <= 1.0
        step[i] = step[i] if usable else 0.0
        fall[i] = rise[i] + 2.0 * bend[i] * step[i] if usable else 0.0
    for i in range(size):
        place[i] = nodes[i] + stride * step[i]
    for i in range(size):
        fine = np.uint64(place[i] + 0.5)
        total, top = 0.0, 0.0
        for k in range(n_modes):
            y = v[k, i]
            total += y * tangent[fine, k]
            top += y * curve[fine, k]
        slope[i], peak[i] = total, top
    for i in range(size):
        step[i] = -stride * slope[i] / fall[i]
    # A place is a number of nodes plus one half at most: the sum below is exact.
    for i in range(size):
        refined = np.floor(place[i] + 0.5) + step[i]
        place[i] = refined if abs(refined - place[i]) < 1.0 else np.nan
    bad = 0
    for i in range(size):
        good = not np.isnan(place[i])
        peak[i] += 0.5 * slope[i] * step[i] * spacing if good else 0.0
        bad += 0 if good else 1
    if bad > 0:
        for i in range(size):
            if np.isnan(place[i]):
                place[i] = _bisect(tangent, v, i, nodes[i], stride)
                nearest = min(max(np.int64(place[i] + 0.5), 0), last)
                peak[i] = 0.0
                for k in range(n_modes):
                    peak[i] += v[k, i] * curve[nearest, k]
