"""Pixels so thick that light which passed beside the sample counts in them."""

import math

import numpy as np
from numpy.typing import NDArray

from ._stray_light import StrayLight

#: Optical depth above which stray light of 1 % of the open beam is a fifth of the light that is measured.
THICK_OD = 3.0
_LEAST_SHARE = 0.002
# StrayLight as part of a pixel's light from which on it misleads, by about 0.03 of the range of states.
_MOST_OF_LIGHT = 0.1


def thick_warning(
    optical_depth: NDArray[np.float32], found: NDArray[np.bool_], background: StrayLight
) -> tuple[str, ...]:
    """Warn where fitted pixels are beyond the limit.

    Parameters
    ----------
    optical_depth : ndarray of float32
        Highest optical depth of each pixel.
    found : ndarray of bool
        Pixels with a value.
    background : StrayLight
        Light beside the sample, as far as it could be estimated.

    Returns
    -------
    tuple of str
        One sentence, or none.
    """
    thick_pixels = optical_depth > np.float32(THICK_OD)
    if not (background.is_significant or thick_pixels.any()):
        return ()
    n_found = int(np.count_nonzero(found))
    if n_found and background.is_significant:
        limit = math.log(_MOST_OF_LIGHT / background.share) if background.share < _MOST_OF_LIGHT else 0.0
        beyond = int(np.count_nonzero(found & (optical_depth > np.float32(limit))))
        return (
            f"{100 * background.share:.3g} +- {100 * background.sigma:.2g} % of the open beam reach the camera beside "
            "the sample (stray light, harmonics, a dark that is too low), told from how thick pixels are compressed; "
            f"above an optical depth of {limit:.1f}, in {100 * beyond / n_found:.3g} % of the pixels with a value, it "
            "is more than a tenth of the light and pushes soc towards the reduced side; take it from frames and flats "
            "alike, measure thinner, or set these pixels aside (mask by optical_depth). An offset of the axis that is "
            "found along with it is not to be believed.",
        )
    thick = int(np.count_nonzero(found & thick_pixels))
    if not n_found or thick < max(_LEAST_SHARE * n_found, 4):
        return ()
    return (
        f"{100 * thick / n_found:.3g} % of the pixels with a value reach an optical depth above {THICK_OD:g}: stray "
        "light, harmonics or a dark that is off by 1 % of the open beam are a fifth of their light there and push "
        "soc towards the reduced side; measure them thinner or set them aside (mask by optical_depth).",
    )
