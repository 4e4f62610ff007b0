"""Pixels that stand for an image."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

_GOLDEN = 0.6180339887498949
_FRAMES_OF_SIDE = 6
_BELOW_EV, _ABOVE_EV = -10.0, 15.0
_STRONG = 0.3


def spread_pixels(n_pixels: int, n_wanted: int) -> NDArray[np.intp]:
    """Spread some pixels over an image so that they favour no row and no column.

    Every n-th pixel would lie in a few columns only where the width is a multiple of n; multiples of the golden ratio
    do not.

    Parameters
    ----------
    n_pixels : int
        Pixels of the image.
    n_wanted : int
        Pixels to choose, at most.

    Returns
    -------
    ndarray of intp, shape (n,)
        Flat indices, increasing, each once.
    """
    if n_pixels <= n_wanted:
        return np.arange(n_pixels)
    return np.unique(((np.arange(n_wanted) * _GOLDEN) % 1.0 * n_pixels).astype(np.intp))


def pixels_with_edge(from_edge_ev: Array, stack: Frame, n_wanted: int) -> NDArray[np.intp]:
    """Choose pixels that absorb more above the edge than below, by some frames of each side.

    Parameters
    ----------
    from_edge_ev : ndarray, shape (n_frames,)
        Energies from the edge.
    stack : ndarray of float32, shape (n_frames, n_pixels)
        Optical depth.
    n_wanted : int
        Pixels to choose, at most.

    Returns
    -------
    ndarray of intp, shape (n,)
        Indices, increasing; all pixels where there are not more than wanted.
    """
    n_pixels = stack.shape[1]
    if n_pixels <= n_wanted:
        return np.arange(n_pixels)
    below, above = (
        np.flatnonzero(side)[:_FRAMES_OF_SIDE]
        for side in (from_edge_ev < _BELOW_EV, from_edge_ev > _ABOVE_EV)
    )
    if not below.size or not above.size:
        return spread_pixels(n_pixels, n_wanted)
    rise = stack[above].mean(axis=0) - stack[below].mean(axis=0)
    finite = np.isfinite(rise)
    if not finite.any():
        return spread_pixels(n_pixels, n_wanted)
    rise[~finite] = -np.inf
    strong = np.flatnonzero(rise > _STRONG * np.percentile(rise[finite], 95))
    return strong[spread_pixels(strong.size, n_wanted)]
