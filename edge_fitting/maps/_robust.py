"""Checks of masks and labels, and the robust spread, that the statistics of maps share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import MAD_TO_SIGMA
from edge_fitting.errors import EdgeFittingError

Array = NDArray[np.float64]


def median_and_spread(finite: Array) -> tuple[float, float]:
    median = float(np.median(finite))
    return median, MAD_TO_SIGMA * float(np.median(np.abs(finite - median)))


def check_mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(shape, dtype=bool)
    array = np.asarray(mask, dtype=bool)
    if array.shape != shape:
        raise EdgeFittingError(f"mask has shape {array.shape} but the map has {shape}.")
    return array


def check_labels(labels: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.intp]:
    array = np.asarray(labels)
    if array.dtype.kind not in "biu" or (array.size and array.min() < 0):
        raise EdgeFittingError("labels must be whole numbers, 0 for no particle.")
    if array.ndim != 2 or array.shape != shape:
        raise EdgeFittingError(
            f"labels must be (rows, cols) like the map {shape}, not of shape {array.shape}."
        )
    return array.astype(np.intp)
