"""Which pixels of a map tell most of what all of them have in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEWEST_PIXELS = 4
# Pixels with this part of the highest jumps count, and this many of them at most.
_LEAST_JUMP = 0.3
_MOST_PIXELS = 1024


def strong_pixels(
    jump: NDArray[np.floating], usable: NDArray[np.bool_], among: NDArray[np.bool_] | None = None
) -> NDArray[np.intp]:
    """Choose pixels with a high edge jump, evenly over the field.

    Parameters
    ----------
    jump : ndarray, shape (n_pixels,)
        Edge jump.
    usable : ndarray of bool, shape (n_pixels,)
        Pixels that have one.
    among : ndarray of bool, shape (n_pixels,), optional
        Of those with a high jump, the ones to choose from.

    Returns
    -------
    ndarray of int, shape (n,)
        Their places; none where fewer than ``FEWEST_PIXELS`` are left.
    """
    if usable.sum() < FEWEST_PIXELS:
        return np.empty(0, np.intp)
    strong = usable & (jump > _LEAST_JUMP * np.percentile(jump[usable], 95))
    places = np.flatnonzero(strong if among is None else strong & among)
    places = places[:: max(1, -(-places.size // _MOST_PIXELS))]
    return places if places.size >= FEWEST_PIXELS else np.empty(0, np.intp)
