"""Kernels that find the most likely state along the series from the sufficient statistics."""

from __future__ import annotations

import numba as nb
import numpy as np

from edge_fitting.base import FitStatus
from edge_fitting.sums import BLOCK as _FOLDED
from edge_fitting.sums import PixelSums, fold_block, make_coefficients

from ._search_kernels import refine_places, scan_nodes
from ._series_records import BlockSpan, FitLimits, Found, ReducedSeries, Scanned
from ._value_kernels import write_values

_BLOCK = 256

_NO_DATA = int(FitStatus.NO_DATA)
_TOO_FEW = int(FitStatus.TOO_FEW_FRAMES)
_SATURATED = int(FitStatus.SATURATED)


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _solve_block(pixels, series, n_frames, limits, pooled, span, out, status):
    """Solve some of the pixels. See :func:`solve_series`."""
    lo, hi, _ = span
    sums = pixels.sums
    line, inverse = series.line, series.inverse
    n_modes = series.curve.shape[1]
    size = hi - lo
    v = np.empty((n_modes, size))
    rest = np.empty(size)
    scanned = Scanned(
        np.zeros((max(n_modes, 4), size), np.float32), np.empty(size, np.float32), np.empty(size, np.float32),
        np.empty(size, np.float32), np.empty(size, np.int32),
    )  # fmt: skip
    s0 = sums[0, lo:hi]
    s1 = sums[1, lo:hi]
    q = sums[2 + n_modes, lo:hi]
    for k in range(n_modes):
        a0, a1 = line[k, 0], line[k, 1]
        row = sums[2 + k, lo:hi]
        vk = v[k]
        for i in range(size):
            vk[i] = row[i] - a0 * s0[i] - a1 * s1[i]
    i00, i01, i11 = inverse[0, 0], 2.0 * inverse[0, 1], inverse[1, 1]
    for i in range(size):
        rest[i] = q[i] - (i00 * s0[i] * s0[i] + i01 * s0[i] * s1[i] + i11 * s1[i] * s1[i])
    scan_nodes(series, v, scanned)
    place, peak = np.empty(size), np.empty(size)
    refine_places(series, v, scanned.where, place, peak)
    write_values(
        pixels, series, n_frames, limits, pooled, span, Found(place, peak, rest, scanned.worst), out, status
    )


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
    at_nodes = series.at_nodes
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
        at_nodes[node, 0] = nodes[0, node]
        at_nodes[node, 1] = norm
        at_nodes[node, 2] = fisher
        at_nodes[node, 3] = whole
        at_nodes[node, 4] = nodes[1, node]
        at_nodes[node, 5] = nodes[2, node]
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
            np.empty((n_nodes, 6)), stride,
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
                    BlockSpan(lo, min(lo + _BLOCK, size), lo), own_out, own_status,
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
        _solve_block(pixels, series, n_frames, limits, pooled, BlockSpan(lo, hi, lo), out, status)


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
    coefficients = make_coefficients(frames)
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
            fold_block(frames, coefficients, lo, hi, begin, pixels, missing)
            if missing.sum() > 0:
                incomplete[0] = True
            else:
                for part in range(0, size, _BLOCK):
                    span = BlockSpan(part, min(part + _BLOCK, size), lo + part)
                    _solve_block(pixels, series, n_frames, limits, pooled, span, out, status)
                for i in range(size):
                    out[7, lo + i] = pixels.highest[i]
