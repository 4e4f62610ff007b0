"""Values that were taken for spikes, judged by the spectra of their pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._spread import spread_pixels

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Standard deviations that noise does not reach, and times the deviation that a share of comparable pixels has at most.
_LEAST_Z = 7.5
_TIMES_OTHERS = 6.0
_SHARE = 0.7
_N_OTHERS = 48
_MOST_ROWS = 4096
_ROUNDS = 4
# The pixels that nothing is suspected of count like so many together: enough to tell what is usual, too few for their
# noise to hide the component of a single other one.
_UNSUSPECTED = 256
# So many values of one pixel are no accident.
_MANY = 3
# Of the variance in other directions: what has more than this is no noise.
_TIMES_NOISE = 3.0
_ROWS_A_COMPONENT = 8
# Least part of the mean variance that is taken for noise: data without any have rounding errors.
_ROUNDING = 1e-8
_DEEPEST = 12.0
# Square of a normal variable that is exceeded in half of all cases.
_MEDIAN_OF_SQUARE = 0.4549364


def confirm_spikes(depth: Array, open_beam: Array, suspected: Mask) -> Mask:
    """Tell values that do not belong to their spectrum from those of a sample that changes from pixel to pixel.

    The spectra of all pixels are mixtures of a few, whatever the sample looks like and in whatever order the energies
    were taken. So each frame is predicted, pixel by pixel, from all the others, by the covariance of the frames over
    the given pixels (conditional mean of a normal distribution; the smallest eigenvalues are replaced by their mean,
    since few pixels do not tell them). A pixel unlike all others is among them and has a component of its own: what it
    shows in one frame it shows in those like it. A spike it shows in one only.

    Parameters
    ----------
    depth : ndarray of float64, shape (n_pixels, n_frames)
        Optical depth of pixels that are suspected in some frame, and of a sample of all pixels. What is not finite is
        missing.
    open_beam : ndarray of float64, shape (n_pixels, n_frames)
        Counts that each would have without sample, up to a common factor.
    suspected : ndarray of bool, shape (n_pixels, n_frames)
        Values to judge.

    Returns
    -------
    ndarray of bool, shape (n_pixels, n_frames)
        The suspected values that are off what the other frames of the pixel let expect by 7.5 standard deviations, and
        by six times what 70 % of the 48 pixels of the likest depth are off; and those that are not finite. Three values
        of one pixel or more are only if all are too bright: else the pixel is one of its own.
    """
    unknown: Mask = ~np.isfinite(depth) | ~(open_beam > 0)
    confirmed = suspected & unknown
    if depth.shape[1] < 2 or np.array_equal(confirmed, suspected):
        return suspected.copy()
    rows = _rows_to_learn_from(suspected, unknown)
    if rows.size < 2:
        return suspected.copy()
    is_usual = np.logical_not(np.any(suspected[rows], axis=1))
    share = np.where(is_usual, min(1.0, _UNSUSPECTED / max(int(is_usual.sum()), 1)), 1.0)[:, None]
    usual = np.nanmedian(np.where(unknown[rows], np.nan, depth[rows]), axis=0)
    filled = np.where(unknown, np.nan_to_num(usual), depth)
    missing = unknown
    for _ in range(_ROUNDS):
        deviation = np.sqrt(_variance(filled, open_beam))
        expected = _expected(filled, deviation, rows, share)
        before = confirmed
        confirmed = (suspected & unknown) | _judged(depth, expected, open_beam, suspected & ~unknown, rows)
        confirmed[_is_of_its_own(confirmed & ~unknown, depth, expected)] = False
        missing = unknown | confirmed
        filled = np.where(missing, expected, depth)
        if np.array_equal(before, confirmed):
            break
    return confirmed


def _rows_to_learn_from(suspected: Mask, unknown: Mask) -> NDArray[np.intp]:
    is_suspected = suspected.any(axis=1)
    is_known = 2 * unknown.sum(axis=1) < unknown.shape[1]
    few = np.flatnonzero(is_suspected & is_known)
    few = few[spread_pixels(few.size, _MOST_ROWS)]
    return np.union1d(few, np.flatnonzero(~is_suspected & is_known))


def _variance(depth: Array, open_beam: Array) -> Array:
    """Variance by counting statistics, of frame and flat field."""
    light = np.where(open_beam > 0, open_beam, np.inf)
    variance = (np.exp(np.clip(depth, -_DEEPEST, _DEEPEST)) + 1.0) / light
    return np.where(variance > 0, variance, np.inf)


def _expected(depth: Array, deviation: Array, rows: NDArray[np.intp], share: Array) -> Array:
    """Predict each column from all the others."""
    finite = np.isfinite(deviation)
    of_row = np.sqrt(np.mean(np.where(finite, deviation, 0.0) ** 2, axis=1, keepdims=True))
    of_row[~(of_row > 0)] = np.inf
    known = deviation[rows] / of_row[rows]
    of_column = np.sqrt(np.nanmean(np.where(np.isfinite(known), known, np.nan) ** 2, axis=0))
    of_column[~(of_column > 0)] = 1.0
    weight = share / of_row[rows] ** 2
    mean = (weight * depth[rows]).sum(axis=0) / weight.sum()
    scaled = (depth[rows] - mean) / (of_row[rows] * of_column)
    values, vectors = np.linalg.eigh((share * scaled).T @ scaled / share.sum())
    noise = max(float(np.mean(values[: max(values.size // 2, 1)])), _ROUNDING * float(values.mean()), 1e-300)
    is_signal = values > _TIMES_NOISE * noise
    is_signal[: max(values.size - max(rows.size // _ROWS_A_COMPONENT, 1), 0)] = False
    if not is_signal.all():
        values[~is_signal] = max(float(np.mean(values[~is_signal])), noise)
    precision = (vectors / values) @ vectors.T
    diagonal = np.diag(precision).copy()
    predictor = -precision / diagonal
    np.fill_diagonal(predictor, 0.0)
    return np.asarray(mean + ((depth - mean) / of_column) @ predictor * of_column)


def _is_of_its_own(confirmed: Mask, depth: Array, expected: Array) -> NDArray[np.bool_]:
    """Whether so many values of a pixel are off, to both sides, that it is no accident."""
    with np.errstate(invalid="ignore"):
        is_dark = confirmed & (depth > expected)
    return np.asarray((confirmed.sum(axis=1) >= _MANY) & is_dark.any(axis=1))


def _judged(depth: Array, expected: Array, open_beam: Array, suspected: Mask, rows: NDArray[np.intp]) -> Mask:
    confirmed = np.zeros_like(suspected)
    for column in np.flatnonzero(suspected.any(axis=0)):
        awaited = expected[:, column]
        with np.errstate(invalid="ignore"):
            off = np.abs(depth[:, column] - awaited) / np.sqrt(_variance(awaited, open_beam[:, column]))
        learnt = rows[np.isfinite(off[rows])]
        learnt = learnt[np.argsort(awaited[learnt], kind="stable")]
        gain = float(np.median(off[learnt] ** 2)) / _MEDIAN_OF_SQUARE
        candidates = np.flatnonzero(suspected[:, column])
        candidates = candidates[off[candidates] > _LEAST_Z * np.sqrt(gain)]
        if not candidates.size:
            continue
        n_others = min(_N_OTHERS + 1, learnt.size)
        first = np.searchsorted(awaited[learnt], awaited[candidates]) - n_others // 2
        first = np.clip(first, 0, learnt.size - n_others)
        others = off[learnt[first[:, None] + np.arange(n_others)]]
        share = min(int(_SHARE * n_others), n_others - 1)
        usual = np.partition(others, share, axis=1)[:, share]
        confirmed[candidates, column] = off[candidates] > _TIMES_OTHERS * usual
    return confirmed
