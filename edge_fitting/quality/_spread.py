"""Pixels that stand for an image."""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0.6180339887498949


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
