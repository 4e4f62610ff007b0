"""Kernel that finds the most likely state along the series from the sufficient statistics."""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from edge_fitting.base import FitStatus
from edge_fitting.sums import BLOCK as _FOLDED
from edge_fitting.sums import PixelSums, fold_block

from ._series_records import FitLimits, ReducedSeries

_BLOCK = 256

_OK = int(FitStatus.OK)
_BELOW = int(FitStatus.BELOW_RANGE)
_ABOVE = int(FitStatus.ABOVE_RANGE)
_NO_DATA = int(FitStatus.NO_DATA)
_TOO_FEW = int(FitStatus.TOO_FEW_FRAMES)
_FLAT = int(FitStatus.FLAT)
_NO_EDGE = int(FitStatus.NO_EDGE)
_INVERTED = int(FitStatus.INVERTED)
_SATURATED = int(FitStatus.SATURATED)
_UNCERTAIN = int(FitStatus.UNCERTAIN)


class _Span(NamedTuple):
    """Pixels of the sums, and where their results begin."""

    lo: int
    hi: int
    at: int


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
def _refine(curve, tangent, v, i, node, stride, spacing):
    """Find the place in the table where the likelihood is highest, and its root there.

    The derivative at the best coarse node and its neighbours gives a parabola; its zero is corrected once by the
    derivative at the nearest fine node. What does not behave so is bisected. A place beyond the table means that the
    likelihood still rises at its end.
    """
    last = tangent.shape[0] - 1
    a = min(max(node, stride), last - stride)
    below = 0.0
    here = 0.0
    above = 0.0
    for k in range(v.shape[0]):
        y = v[k, i]
        below += y * tangent[a - stride, k]
        here += y * tangent[a, k]
        above += y * tangent[a + stride, k]
    p = 0.5 * (above - below)
    c = 0.5 * (above + below) - here
    x = -here / (p - c * here / p)
    x = -here / (p + c * x)
    place = a + stride * x
    fine = np.int64(place + 0.5) if p < 0.0 and abs(x) <= 1.0 else -1
    if fine >= 0:
        slope = 0.0
        peak = 0.0
        for k in range(v.shape[0]):
            y = v[k, i]
            slope += y * tangent[fine, k]
            peak += y * curve[fine, k]
        change = -stride * slope / (p + 2.0 * c * x)
        if abs(fine + change - place) < 1.0:
            return fine + change, peak + 0.5 * slope * change * spacing
    place = _bisect(tangent, v, i, node, stride)
    peak = 0.0
    nearest = min(max(np.int64(place + 0.5), 0), last)
    for k in range(v.shape[0]):
        peak += v[k, i] * curve[nearest, k]
    return place, peak


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _solve_block(pixels, series, n_frames, limits, pooled, span, out, status):
    """Solve some of the pixels. See :func:`solve_series`."""
    lo, hi, at = span
    stride = series.stride
    sums, highest, at_highest, saturated = pixels.sums, pixels.highest, pixels.at_highest, pixels.saturated
    line, inverse, curve, tangent = series.line, series.inverse, series.curve, series.tangent
    n_nodes, n_modes = curve.shape
    size = hi - lo
    soc_nodes, norm, fisher, power = series.soc, series.length, series.fisher, series.power
    energy_nodes, energy_slopes = series.edge_energy_ev, series.edge_energy_slope
    dof, detect, widest = limits.dof, limits.detection, limits.widest_sigma
    soc_low, soc_high = limits.soc_low, limits.soc_high
    spacing = soc_nodes[1] - soc_nodes[0]
    v = np.empty((n_modes, size))
    power_left = np.empty(size)
    # The coarse scan only ranks nodes: single precision will do.
    rough = np.empty((n_modes, size), np.float32)
    best = np.full(size, np.float32(-np.inf))
    worst = np.full(size, np.float32(np.inf))
    where = np.zeros(size, np.int32)
    g = np.empty(size, np.float32)
    s0 = sums[0, lo:hi]
    s1 = sums[1, lo:hi]
    q = sums[2 + n_modes, lo:hi]
    for k in range(n_modes):
        a0, a1 = line[k, 0], line[k, 1]
        row = sums[2 + k, lo:hi]
        vk = v[k]
        for i in range(size):
            vk[i] = row[i] - a0 * s0[i] - a1 * s1[i]
            rough[k, i] = vk[i]
    for i in range(size):
        power_left[i] = q[i] - (
            inverse[0, 0] * s0[i] * s0[i]
            + 2.0 * inverse[0, 1] * s0[i] * s1[i]
            + inverse[1, 1] * s1[i] * s1[i]
        )
    # Coarse scan of the likelihood, all pixels of the block abreast.
    for node in range(0, n_nodes, stride):
        number = np.int32(node)
        c = np.float32(curve[node, 0])
        vk = rough[0]
        for i in range(size):
            g[i] = c * vk[i]
        for k in range(1, n_modes):
            c = np.float32(curve[node, k])
            vk = rough[k]
            for i in range(size):
                g[i] += c * vk[i]
        for i in range(size):
            where[i] = number if g[i] > best[i] else where[i]
            best[i] = g[i] if g[i] > best[i] else best[i]
            worst[i] = g[i] if g[i] < worst[i] else worst[i]
    for i in range(size):
        pixel = at + i
        for m in range(7):
            out[m, pixel] = np.nan
        if highest[lo + i] == -np.inf:
            status[pixel] = _SATURATED if saturated[lo + i] > 0 else _NO_DATA
            continue
        if saturated[lo + i] > 1 and saturated[lo + i] > 0.05 * n_frames:
            status[pixel] = _SATURATED
            continue
        if at_highest[lo + i] >= n_frames:
            status[pixel] = _FLAT
            continue
        place, peak = _refine(curve, tangent, v, i, np.int64(where[i]), stride, spacing)
        outside = not (place >= 0.0 and place <= n_nodes - 1)
        a = min(max(np.int64(place), 0), n_nodes - 2)
        b = a + 1
        t = min(max(place - a, 0.0), 1.0)
        # Rounding of float32 data and float64 sums sets the smallest residual that means anything.
        floor = 1e-14 * q[i]
        chi2 = max(power_left[i] - peak * peak, floor)
        noise2 = pooled[lo + i] if pooled.size > 1 else chi2 / dof
        out[6, pixel] = np.sqrt(chi2 / dof)
        if -worst[i] > peak:
            chi2_down = max(power_left[i] - worst[i] * worst[i], floor)
            noise2_down = pooled[lo + i] if pooled.size > 1 else chi2_down / dof
            status[pixel] = _INVERTED if worst[i] * worst[i] > detect * noise2_down else _NO_EDGE
            continue
        if not peak * peak > detect * noise2:
            status[pixel] = _NO_EDGE
            continue
        jump = peak / ((1.0 - t) * norm[a] + t * norm[b])
        in_step = jump * jump * ((1.0 - t) * power[a] + t * power[b])
        goodness = chi2 / (in_step + chi2)
        if at_highest[lo + i] >= 4 and at_highest[lo + i] >= 0.1 * n_frames and goodness > 1e-6:
            status[pixel] = _SATURATED
            continue
        sigma = np.sqrt(noise2 / ((1.0 - t) * fisher[a] + t * fisher[b])) / jump
        soc = (1.0 - t) * soc_nodes[a] + t * soc_nodes[b]
        out[4, pixel] = jump
        out[5, pixel] = goodness
        if outside:
            status[pixel] = _BELOW if a == 0 else _ABOVE
            continue
        if not sigma < widest:
            status[pixel] = _UNCERTAIN
            continue
        slope = (1.0 - t) * energy_slopes[a] + t * energy_slopes[b]
        out[0, pixel] = soc
        out[1, pixel] = sigma
        out[2, pixel] = (1.0 - t) * energy_nodes[a] + t * energy_nodes[b]
        out[3, pixel] = abs(slope) * sigma
        status[pixel] = _BELOW if soc < soc_low else (_ABOVE if soc > soc_high else _OK)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def reduce_series(gram, table, series):
    """Write the series in the metric of the frames measured so far, pre-edge line eliminated (Schur complement).

    Parameters
    ----------
    gram : float64 (2 + n_modes, 2 + n_modes)
        Weighted Gram matrix of the basis over the measured energies.
    table : SeriesCurve
        The series in the basis.
    series : ReducedSeries
        Filled.

    Returns
    -------
    bool
        Whether the frames determine the unknowns.
    """
    basis_curve, basis_tangent, nodes, sharpest = table.curve, table.tangent, table.nodes, table.sharpest
    n_nodes, n_modes = basis_curve.shape
    line, inverse, curve, tangent = series.line, series.inverse, series.curve, series.tangent
    g00, g01, g11 = gram[0, 0], gram[0, 1], gram[1, 1]
    det = g00 * g11 - g01 * g01
    if not det > 1e-12 * g00 * max(g00, g11):
        return False
    inverse[0, 0], inverse[0, 1], inverse[1, 0], inverse[1, 1] = g11 / det, -g01 / det, -g01 / det, g00 / det
    metric = np.empty((n_modes, n_modes))
    for k in range(n_modes):
        u0, u1 = gram[2 + k, 0], gram[2 + k, 1]
        line[k, 0] = u0 * inverse[0, 0] + u1 * inverse[1, 0]
        line[k, 1] = u0 * inverse[0, 1] + u1 * inverse[1, 1]
        for j in range(n_modes):
            metric[k, j] = gram[2 + k, 2 + j] - line[k, 0] * gram[0, 2 + j] - line[k, 1] * gram[1, 2 + j]
    tiny = 1e-12 * g00
    informative = False
    for node in range(n_nodes):
        square = 0.0
        mixed = 0.0
        slope = 0.0
        whole = 0.0
        for k in range(n_modes):
            bent = 0.0
            bent_tangent = 0.0
            full = 0.0
            for j in range(n_modes):
                bent += metric[k, j] * basis_curve[node, j]
                bent_tangent += metric[k, j] * basis_tangent[node, j]
                full += gram[2 + k, 2 + j] * basis_curve[node, j]
            square += bent * basis_curve[node, k]
            mixed += bent_tangent * basis_curve[node, k]
            slope += bent_tangent * basis_tangent[node, k]
            whole += full * basis_curve[node, k]
        if not square > tiny:
            return False
        norm = np.sqrt(square)
        fisher = max(slope - mixed * mixed / square, 0.0)
        informative = informative or fisher * sharpest * sharpest > 1.0
        for k in range(n_modes):
            curve[node, k] = basis_curve[node, k] / norm
            tangent[node, k] = (basis_tangent[node, k] - basis_curve[node, k] * mixed / square) / norm
        series.soc[node] = nodes[0, node]
        series.length[node] = norm
        series.fisher[node] = fisher
        series.power[node] = whole
        series.edge_energy_ev[node] = nodes[1, node]
        series.edge_energy_slope[node] = nodes[2, node]
    return informative


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def solve_gaps(histories, table, stride, sums_of, limits, pooled, out, status):
    """Maximise the likelihood for pixels with missing frames, each history with a Gram matrix of its own.

    Parameters
    ----------
    histories : FrameHistories
        The pixels, and which frames they have.
    table : SeriesCurve
        As in :func:`reduce_series`.
    sums_of : PixelSums
        Sums of all pixels of the image.
    limits : FitLimits of float64 (n_histories,)
        As in :func:`solve_series`, for each history.
    stride : int
        Step of the coarse scan.
    pooled, out, status
        As in :func:`solve_series`.
    """
    starts, pixels = histories.starts, histories.pixels
    n_nodes, n_modes = table.curve.shape
    for h in nb.prange(starts.size - 1):
        first, last = starts[h], starts[h + 1]
        size = last - first
        series = ReducedSeries(
            np.empty((n_modes, 2)), np.empty((2, 2)), np.empty((n_nodes, n_modes)), np.empty((n_nodes, n_modes)),
            np.empty(n_nodes), np.empty(n_nodes), np.empty(n_nodes), np.empty(n_nodes), np.empty(n_nodes),
            np.empty(n_nodes), stride,
        )  # fmt: skip
        own_limits = FitLimits(
            limits.dof[h], limits.detection[h], limits.soc_low[h], limits.soc_high[h], limits.widest_sigma[h]
        )
        ready = own_limits.dof > 0.0 and reduce_series(histories.grams[h], table, series)
        # Filled before they are put together: numba takes what is written into a member of a tuple here for unused.
        own_sums = np.empty((sums_of.sums.shape[0], size))
        own_highest = np.empty(size, np.float32)
        own_at_highest = np.empty(size, np.uint16)
        own_saturated = np.empty(size, np.uint16)
        own_pooled = np.empty(size if pooled.size > 1 else 1)
        own_out = np.full((out.shape[0], size), np.float32(np.nan))
        own_status = np.full(size, np.uint8(_TOO_FEW))
        for i in range(size):
            pixel = pixels[first + i]
            for k in range(own_sums.shape[0]):
                own_sums[k, i] = sums_of.sums[k, pixel]
            own_highest[i] = sums_of.highest[pixel]
            own_at_highest[i] = sums_of.at_highest[pixel]
            own_saturated[i] = sums_of.saturated[pixel]
            if pooled.size > 1:
                own_pooled[i] = pooled[pixel]
            if own_highest[i] == -np.inf:
                own_status[i] = _SATURATED if own_saturated[i] > 0 else _NO_DATA
        if ready:
            own = PixelSums(own_sums, own_highest, own_at_highest, own_saturated)
            for lo in range(0, size, _BLOCK):
                _solve_block(
                    own, series, histories.n_frames[h], own_limits, own_pooled,
                    _Span(lo, min(lo + _BLOCK, size), lo), own_out, own_status,
                )  # fmt: skip
        for i in range(size):
            pixel = pixels[first + i]
            status[pixel] = own_status[i]
            for m in range(7):
                out[m, pixel] = own_out[m, i]


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def solve_series(pixels, series, n_frames, limits, pooled, out, status):
    """Maximise the likelihood along the series for every pixel.

    Parameters
    ----------
    pixels : PixelSums
        Sufficient statistics: offset, slope, modes, squared data; as filled by ``fold``.
    series : ReducedSeries
        As filled by :func:`reduce_series`.
    n_frames : int
        Frames per pixel.
    limits : FitLimits
        What a pixel needs for a value.
    pooled : float64 (n_pixels,) or (1,)
        Noise variance at weight 1; with one element each pixel's own residual is used.
    out : float32 (7, n_pixels)
        soc, its sigma, edge energy, its sigma, jump, R-factor, noise.
    status : uint8 (n_pixels,)
        Status codes.
    """
    n_pixels = pixels.sums.shape[1]
    blocks = (n_pixels + _BLOCK - 1) // _BLOCK
    for block in nb.prange(blocks):
        lo = block * _BLOCK
        hi = min(lo + _BLOCK, n_pixels)
        _solve_block(pixels, series, n_frames, limits, pooled, _Span(lo, hi, lo), out, status)


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def fit_complete(frames, series, limits, out, status, incomplete):
    """Fit a stack without missing values at once: the sums of a block of pixels never leave the cache.

    Parameters
    ----------
    frames : WeightedFrames
        The stack.
    series, limits, out, status
        As in :func:`solve_series`.
    incomplete : bool (1,)
        Set, and the fit given up, where a value is missing.
    """
    n_pixels = frames.stack.shape[1]
    n_frames, n_basis = frames.projector.shape
    n_blocks = (n_pixels + _FOLDED - 1) // _FOLDED
    pooled = np.zeros(1)
    begin = np.int64(0)  # a literal would be a type of its own, for which all is compiled again
    for block in nb.prange(n_blocks):
        if not incomplete[0]:
            lo = block * _FOLDED
            hi = min(lo + _FOLDED, n_pixels)
            size = hi - lo
            pixels = PixelSums(
                np.zeros((n_basis + 1, size)), np.full(size, np.float32(-np.inf)), np.zeros(size, np.uint16),
                np.zeros(size, np.uint16),
            )  # fmt: skip
            missing = np.zeros(n_frames, np.int64)
            fold_block(frames, lo, hi, begin, pixels, missing)
            if missing.sum() > 0:
                incomplete[0] = True
            else:
                for part in range(0, size, _BLOCK):
                    span = _Span(part, min(part + _BLOCK, size), lo + part)
                    _solve_block(pixels, series, n_frames, limits, pooled, span, out, status)
                for i in range(size):
                    out[7, lo + i] = pixels.highest[i]
