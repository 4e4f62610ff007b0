"""From linear sums to states of charge: the series fit where the sum of squares is known by its noise only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from edge_fitting.base import FitStatus
from edge_fitting.series import fit_series
from edge_fitting.sums import SufficientStatistics

from ._sum_functions import SumFunctions

__all__ = ["SumsFit", "fit_sums"]

Array = NDArray[np.float64]
Image = NDArray[np.float32]

# Noise changes slowly over a slice: that of a place is taken over so many pixels.
_NOISE_WINDOW = 7
# Noise functions that the energies so far see by less than this part tell nothing yet.
_LEAST_NOISE = 1e-3


@dataclass(frozen=True)
class SumsFit:
    """What the fit gives, arrays of the shape of the pixels.

    Attributes
    ----------
    values : ndarray of float32, shape (7, ...)
        State of charge, its sigma, edge energy, its sigma, edge jump, R-factor, noise of a frame.
    status : ndarray of uint8
        `FitStatus`.
    """

    values: Image
    status: NDArray[np.uint8]


def fit_sums(
    sums: Image,
    gram: Array,
    n_frames: int,
    functions: SumFunctions,
    mask: NDArray[np.bool_] | None = None,
) -> SumsFit | None:
    """Fit every pixel of projections or slices.

    Parameters
    ----------
    sums : ndarray of float32, shape (n_functions, rows, cols)
        Sums with `functions`.
    gram : ndarray, shape (n_functions, n_functions)
        Of the functions over the frames in the sums.
    n_frames : int
        How many these are.
    functions : SumFunctions
        The functions.
    mask : ndarray of bool, shape (rows, cols), optional
        Pixels to fit; by default all.

    Returns
    -------
    SumsFit or None
        None while the frames do not tell basis and noise apart.
    """
    shape = sums.shape[1:]
    variance = noise_variance(sums, gram, functions)
    if variance is None:
        return None
    wanted = np.ones(shape, np.bool_) if mask is None else mask
    values = np.full((7, *shape), np.nan, np.float32)
    status = np.full(shape, FitStatus.NO_DATA, np.uint8)
    picked = np.ascontiguousarray(sums[:, wanted], np.float64)
    nb = functions.n_basis
    if picked.shape[1]:
        known = np.linalg.solve(gram[:nb, :nb], picked[:nb])
        square = (picked[:nb] * known).sum(axis=0) + (n_frames - nb) * variance[wanted]
        statistics = SufficientStatistics(picked.shape[1], nb)
        statistics.sums[:nb] = functions.to_basis(picked)
        statistics.sums[nb] = square
        statistics.gram[...] = functions.gram_of_basis(gram)
        statistics.n_frames = n_frames
        statistics.highest[:] = 0.0
        found, outcome = fit_series(statistics, functions.basis, (1, picked.shape[1]))
        values[:, wanted] = found[:7]
        status[wanted] = outcome
    return SumsFit(values, status)


def noise_variance(sums: Image, gram: Array, functions: SumFunctions) -> Array | None:
    """Return the variance of a frame of weight 1 at each pixel, from the sums that no spectrum contributes to.

    Over the energies so far the noise functions may not be orthogonal to the basis; what they see of it is taken out.
    """
    nb = functions.n_basis
    inner, cross = gram[:nb, :nb], gram[:nb, nb:]
    if np.linalg.cond(inner) > 1e10:
        return None
    back = np.linalg.solve(inner, cross)
    left = gram[nb:, nb:] - cross.T @ back
    power, directions = np.linalg.eigh(left)
    seen = power > _LEAST_NOISE
    if not seen.any():
        return None
    turn = (directions[:, seen] / np.sqrt(power[seen])).T
    mixed = turn @ np.concatenate([-back.T, np.eye(functions.n_noise)], axis=1)
    squares = np.zeros(sums.shape[1:], np.float64)
    for row in mixed:
        squares += np.tensordot(row.astype(np.float32), sums, axes=1).astype(np.float64) ** 2
    squares /= int(seen.sum())
    window = [min(_NOISE_WINDOW, size) for size in sums.shape[1:]]
    return np.asarray(uniform_filter(squares, window, mode="nearest"))
