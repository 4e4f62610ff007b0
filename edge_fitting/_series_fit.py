"""From sufficient statistics to maps: the maximum-likelihood fit along a reference series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._launch import launch
from ._maps import FitStatus
from ._noise import detection_threshold, pool_variance
from ._series_basis import RANGE_TOLERANCE, STRIDE, SeriesBasis
from ._series_kernels import solve_series
from ._sufficient_statistics import SufficientStatistics

Array = NDArray[np.float64]

#: Unknowns per pixel: offset, slope, jump, state.
N_UNKNOWNS = 4
#: A state known to no better than this fraction of the range is no value.
WIDEST = 0.5
# Before even a pixel with this ratio of jump to noise would get a value, it is too early for all of them.
_BEST_JUMP_TO_NOISE = 100.0


@dataclass(frozen=True, slots=True, eq=False)
class ReducedSeries:
    """The series in the metric of the frames measured so far, pre-edge line eliminated (Schur complement)."""

    line: Array
    inverse: Array
    curve: Array
    tangent: Array
    tables: Array
    informative: bool


def reduce_series(basis: SeriesBasis, gram: Array) -> ReducedSeries | None:
    """Write the series in the metric of a Gram matrix.

    Parameters
    ----------
    basis : SeriesBasis
        Tabulated series.
    gram : ndarray, shape (n_functions, n_functions)
        Weighted Gram matrix of the basis over the measured energies.

    Returns
    -------
    ReducedSeries or None
        None when the frames do not even determine a straight line.
    """
    line_gram = gram[:2, :2]
    determinant = line_gram[0, 0] * line_gram[1, 1] - line_gram[0, 1] ** 2
    if not determinant > 1e-12 * line_gram[0, 0] * max(line_gram[1, 1], line_gram[0, 0]):
        return None
    inverse: Array = np.linalg.inv(line_gram).astype(np.float64)
    line = gram[2:, :2] @ inverse
    metric = gram[2:, 2:] - line @ gram[:2, 2:]
    metric = 0.5 * (metric + metric.T)
    bent, tangent_bent = basis.curve @ metric, basis.tangent @ metric
    square = np.einsum("nk,nk->n", bent, basis.curve)
    mixed = np.einsum("nk,nk->n", tangent_bent, basis.curve)
    slope = np.einsum("nk,nk->n", tangent_bent, basis.tangent)
    tiny = 1e-12 * gram[0, 0]
    norm = np.sqrt(np.maximum(square, tiny))
    fisher = np.maximum(slope - mixed**2 / np.maximum(square, tiny), 0.0)
    power = np.einsum("nk,kl,nl->n", basis.curve, gram[2:, 2:], basis.curve)
    curve = basis.curve / norm[:, None]
    tangent = (basis.tangent - basis.curve * (mixed / np.maximum(square, tiny))[:, None]) / norm[:, None]
    width = WIDEST * (basis.series.soc[-1] - basis.series.soc[0])
    informative = bool((fisher * (_BEST_JUMP_TO_NOISE * width) ** 2 > 1.0).any() and (square > tiny).all())
    tables = np.stack([basis.soc, norm, fisher, power, basis.edge_energy_ev, basis.edge_energy_slope])
    return ReducedSeries(line, inverse, curve, tangent, tables, informative)


def fit_series(
    statistics: SufficientStatistics, basis: SeriesBasis, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Fit every pixel.

    Parameters
    ----------
    statistics : SufficientStatistics
        Sums of the frames so far.
    basis : SeriesBasis
        What they were projected on.
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    values : ndarray of float32, shape (8, n_pixels)
        soc, its sigma, edge energy, its sigma, jump, R-factor, noise, highest optical depth.
    status : ndarray of uint8, shape (n_pixels,)
    """
    statistics.flush()
    n_pixels = statistics.n_pixels
    values = np.full((8, n_pixels), np.nan, np.float32)
    status = np.full(n_pixels, FitStatus.TOO_FEW_FRAMES, np.uint8)
    values[7] = np.where(statistics.highest > -np.inf, statistics.highest, np.nan)
    _solve(statistics, statistics.gram, statistics.n_frames, None, basis, shape, values, status)
    if not statistics.missing.any:
        return values, status
    pixels, history, grams, missed = statistics.missing.histories()
    starts = np.flatnonzero(np.diff(history, prepend=-1))
    for start, stop in zip(starts, np.append(starts[1:], pixels.size), strict=True):
        which = history[start]
        gram = statistics.gram - grams[which]
        _solve(
            statistics, gram, statistics.n_frames - int(missed[which]), pixels[start:stop], basis, shape, values, status
        )  # fmt: skip
    return values, status


def _solve(
    statistics: SufficientStatistics,
    gram: Array,
    n_frames: int,
    pixels: NDArray[np.int64] | None,
    basis: SeriesBasis,
    shape: tuple[int, int],
    values: NDArray[np.float32],
    status: NDArray[np.uint8],
) -> None:
    """Solve all pixels (None), or those of one history, in place."""
    dof = n_frames - N_UNKNOWNS
    reduced = reduce_series(basis, gram) if dof > 0 else None
    some = slice(None) if pixels is None else pixels
    highest, at_highest = statistics.highest[some], statistics.at_highest[some]
    saturated = statistics.saturated[some]
    if reduced is None or not reduced.informative:
        early = np.full(highest.size, FitStatus.TOO_FEW_FRAMES, np.uint8)
        if statistics.n_frames:
            early[highest == -np.inf] = FitStatus.NO_DATA
        early[(saturated > 0) & (highest == -np.inf)] = FitStatus.SATURATED
        values[:7, some] = np.nan
        status[some] = early
        return
    sums = statistics.sums if pixels is None else np.ascontiguousarray(statistics.sums[:, pixels])
    out = values if pixels is None else np.empty((8, pixels.size), np.float32)
    codes = status if pixels is None else np.empty(pixels.size, np.uint8)
    span = basis.series.soc[-1] - basis.series.soc[0]
    low, high = basis.series.soc[0] - RANGE_TOLERANCE * span, basis.series.soc[-1] + RANGE_TOLERANCE * span

    def run(noise_dof: float, pooled: Array) -> None:
        limits = np.array([dof, detection_threshold(noise_dof), low, high, WIDEST * span])
        launch(
            solve_series, sums, highest, at_highest, saturated, reduced.line, reduced.inverse, reduced.curve,
            reduced.tangent, reduced.tables, STRIDE, n_frames, limits, pooled, out, codes,
        )  # fmt: skip

    run(dof, np.zeros(1))
    if pixels is None:
        pooled, noise_dof = pool_variance(out[6], dof, shape)
        if pooled is not None:
            run(noise_dof, pooled)
    else:
        values[:7, pixels] = out[:7]
        status[pixels] = codes
