"""From sufficient statistics to maps: the maximum-likelihood fit along a reference series."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import (
    FitStatus,
    detection_threshold,
    launch,
    needs_neighbours,
    pool_variance,
    read_only,
)
from edge_fitting.sums import SufficientStatistics, WeightedFrames

from ._series_basis import RANGE_TOLERANCE, STRIDE, SeriesBasis
from ._series_kernels import fit_complete, reduce_series, solve_gaps, solve_series
from ._series_records import FitLimits, FrameHistories, ReducedSeries, SeriesCurve

Array = NDArray[np.float64]

#: Unknowns per pixel: offset, slope, jump, state.
N_UNKNOWNS = 4
#: A state known to no better than this fraction of the range is no value.
WIDEST = 0.5
# Before even a pixel with this ratio of jump to noise would get a value, it is too early for all of them.
_BEST_JUMP_TO_NOISE = 100.0


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
    seen = statistics.highest > -np.inf
    values[7] = np.where(seen, statistics.highest, np.nan)
    if statistics.n_frames == 0:
        return values, status
    status[~seen] = np.where(statistics.saturated[~seen] > 0, FitStatus.SATURATED, FitStatus.NO_DATA)
    dof = statistics.n_frames - N_UNKNOWNS
    reduced = None if dof < 1 else _reduce(basis, statistics.gram)
    if reduced is None:
        return values, status
    gaps, history, grams, missed = statistics.missing.histories()

    def solve_all(noise_dof: float, pooled: Array) -> None:
        launch(
            solve_series, statistics.pixels, reduced, statistics.n_frames,
            _limits(basis, dof, noise_dof), pooled, values, status,
        )  # fmt: skip

    pooled = np.zeros(1)
    solve_all(dof, pooled)
    noise_dof = float(dof)
    noise = values[6]
    noise[gaps] = np.nan
    shared, shared_dof = pool_variance(noise, dof, shape)
    if shared is not None:
        pooled, noise_dof = shared, shared_dof
        solve_all(noise_dof, pooled)
    if gaps.size:
        rows, where = np.unique(history, return_inverse=True)
        starts = np.append(np.flatnonzero(np.diff(where, prepend=-1)), gaps.size)
        frames = statistics.n_frames - missed[rows]
        of_each = [
            _limits(basis, int(n) - N_UNKNOWNS, max(noise_dof if shared is not None else n - N_UNKNOWNS, 1.0))
            for n in frames
        ]
        limits = FitLimits(*(np.array(values_of) for values_of in zip(*of_each, strict=True)))
        histories = FrameHistories(starts, gaps, statistics.gram - grams[rows], frames)
        launch(
            solve_gaps, histories, _curve(basis), STRIDE, statistics.pixels, limits, pooled, values, status
        )
    return values, status


def fit_whole_stack(
    projector: Array, stack: NDArray[np.float32], weight: Array, basis: SeriesBasis
) -> tuple[NDArray[np.float32], NDArray[np.uint8]] | None:
    """Fit a stack that is all there is, without sums of the whole image in between.

    Parameters
    ----------
    projector : ndarray, shape (n_frames, n_functions)
        The basis at the energies of the frames.
    stack : ndarray of float32, shape (n_frames, n_pixels)
        Optical depth.
    weight : ndarray, shape (n_frames,)
        Weights of the frames.
    basis : SeriesBasis
        The basis.

    Returns
    -------
    values, status
        As :func:`fit_series`; None where values are missing or frames too few, which needs the sums.
    """
    n_frames, n_pixels = stack.shape
    dof = n_frames - N_UNKNOWNS
    if dof < 1 or needs_neighbours(dof):
        return None
    reduced = _reduce(basis, (projector * weight[:, None]).T @ projector)
    if reduced is None:
        return None
    values, status = np.empty((8, n_pixels), np.float32), np.empty(n_pixels, np.uint8)
    incomplete = np.zeros(1, np.bool_)
    launch(
        fit_complete, WeightedFrames(read_only(stack), projector, read_only(weight)), reduced,
        _limits(basis, dof, float(dof)), values, status, incomplete,
    )  # fmt: skip
    return None if incomplete[0] else (values, status)


def _reduce(basis: SeriesBasis, gram: Array) -> ReducedSeries | None:
    """Write the series in the metric of the frames; None while they do not determine the unknowns."""
    n_nodes, n_modes = basis.curve.shape
    reduced = ReducedSeries(
        line=np.empty((n_modes, 2)),
        inverse=np.empty((2, 2)),
        curve=np.empty((n_nodes, n_modes)),
        tangent=np.empty((n_nodes, n_modes)),
        at_nodes=np.empty((n_nodes, 6)),
        stride=STRIDE,
    )
    ready = reduce_series(gram, _curve(basis), reduced)
    return reduced if ready else None


def _curve(basis: SeriesBasis) -> SeriesCurve:
    sharpest = _BEST_JUMP_TO_NOISE * WIDEST * float(basis.series.soc[-1] - basis.series.soc[0])
    return SeriesCurve(basis.curve, basis.tangent, basis.nodes, sharpest)


def _limits(basis: SeriesBasis, dof: int, noise_dof: float) -> FitLimits:
    low, high = float(basis.series.soc[0]), float(basis.series.soc[-1])
    span = high - low
    tolerance = RANGE_TOLERANCE * span
    return FitLimits(
        dof=float(dof),
        detection=float(detection_threshold(noise_dof)),
        soc_low=low - tolerance,
        soc_high=high + tolerance,
        widest_sigma=WIDEST * span,
    )
