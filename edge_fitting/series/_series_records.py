"""What the kernels of the series fit take, by name."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]
_Single = NDArray[np.float32]


class FitLimits(NamedTuple):
    """What a pixel needs for a value: numbers, or arrays with one of each per history of frames."""

    dof: float | _Array
    """Degrees of freedom."""
    detection: float | _Array
    """Threshold of (jump / sigma of jump)**2."""
    soc_low: float | _Array
    """Lower end of the references' range."""
    soc_high: float | _Array
    """Upper end."""
    widest_sigma: float | _Array
    """Sigma of the state from which on it is no value."""


class SeriesCurve(NamedTuple):
    """The series in the basis, as a table over the state."""

    curve: _Array
    """Coordinates, shape (n_nodes, n_modes)."""
    tangent: _Array
    """Their derivative by the state, shape (n_nodes, n_modes)."""
    nodes: _Array
    """State, edge energy, its derivative by the state, shape (3, n_nodes)."""
    sharpest: float
    """Before a ratio of jump to noise of one over this would give a sigma of one, it is too early for every pixel."""


class FrameHistories(NamedTuple):
    """Pixels with missing frames, those that miss the same ones together."""

    starts: NDArray[np.int64]
    """Where the pixels of each history begin in ``pixels``, shape (n_histories + 1,)."""
    pixels: NDArray[np.int64]
    """Pixels, ordered by history."""
    grams: _Array
    """Gram matrix of the frames that each history has, shape (n_histories, 2 + n_modes, 2 + n_modes)."""
    n_frames: NDArray[np.int64]
    """How many, shape (n_histories,)."""


class ReducedSeries(NamedTuple):
    """The series in the metric of the frames, pre-edge line eliminated."""

    line: _Array
    """What eliminates the pre-edge line from the modes, ``G_ul G_ll^-1``, shape (n_modes, 2)."""
    inverse: _Array
    """``G_ll^-1``, shape (2, 2)."""
    curve: _Array
    """Coordinates at fine nodes, of unit length in the reduced Gram matrix, shape (n_nodes, n_modes)."""
    tangent: _Array
    """Their derivative by the state, shape (n_nodes, n_modes)."""
    at_nodes: _Array
    """What belongs to the nodes, shape (n_nodes, 6): state; length of the unnormalised coordinates; Fisher information
    of the state per unit jump and unit noise; squared reference spectrum; edge energy; its derivative by the state."""
    stride: int
    """Step of the coarse scan over the nodes; n_nodes - 1 is a multiple of it."""


class BlockSpan(NamedTuple):
    """Pixels of the sums, and where their results begin."""

    lo: int
    hi: int
    at: int


class Scanned(NamedTuple):
    """What the coarse scan of a block works in and finds, arrays of shape (size,)."""

    rough: _Single
    """Sums of the modes in single precision, shape (n_modes or 4, size)."""
    g: _Single
    """Root of the likelihood at a node."""
    best: _Single
    """Its highest value."""
    worst: _Single
    """Its lowest value."""
    where: NDArray[np.int32]
    """Node of the highest."""


class Found(NamedTuple):
    """Where the likelihood of the pixels of a block is highest, arrays of shape (size,)."""

    place: _Array
    """Place in the table, in nodes."""
    peak: _Array
    """Root of the likelihood there."""
    rest: _Array
    """Squared data without what the pre-edge line explains; afterwards without what the series explains, too."""
    worst: _Single
    """Lowest root of the likelihood."""
