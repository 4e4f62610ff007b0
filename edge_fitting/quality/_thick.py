"""Pixels so thick that light which passed beside the sample counts in them."""

import numpy as np
from numpy.typing import NDArray

#: Optical depth above which stray light of 1 % of the open beam is a fifth of the light that is measured.
THICK_OD = 3.0
_LEAST_SHARE = 0.01


def thick_warning(optical_depth: NDArray[np.float32], found: NDArray[np.bool_]) -> tuple[str, ...]:
    """Warn where fitted pixels are beyond the limit.

    Parameters
    ----------
    optical_depth : ndarray of float32
        Highest optical depth of each pixel.
    found : ndarray of bool
        Pixels with a value.

    Returns
    -------
    tuple of str
        One sentence, or none.
    """
    n_found = int(np.count_nonzero(found))
    thick = int(np.count_nonzero(found & (optical_depth > np.float32(THICK_OD))))
    if not n_found or thick < max(_LEAST_SHARE * n_found, 4):
        return ()
    return (
        f"{100 * thick / n_found:.2g} % of the pixels with a value reach an optical depth above {THICK_OD:g}: stray "
        "light, harmonics or a dark that is off by 1 % of the open beam are a fifth of their light there and push "
        "soc towards the reduced side; measure them thinner or set them aside (mask by optical_depth).",
    )
