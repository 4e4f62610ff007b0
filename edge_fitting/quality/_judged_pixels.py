"""Chi2 of all pixels, sigmas that know how noise grows with optical depth, and pixels that are off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import launch

from ._check_kernels import count_blocks, judge_pixels
from ._noise_model import NoiseModel
from ._sigma_scale import SigmaScale

Frame = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class JudgedPixels:
    """What the noise says of all pixels.

    Attributes
    ----------
    reduced_chi2 : ndarray of float32, shape (n_pixels,)
        About 1 where noise is all there is; NaN without a fit.
    suspects : ndarray of intp, shape (n,)
        Pixels beyond what noise allows.
    """

    reduced_chi2: Frame
    suspects: NDArray[np.intp]


def judge_all_pixels(
    values: Frame, expected: Frame, scale: SigmaScale, noise: NoiseModel, most_chi2: float
) -> JudgedPixels:
    """Go once over all pixels.

    Parameters
    ----------
    values : ndarray of float32, shape (8, n_pixels)
        Values of the fit in the order of EdgeMaps; both sigmas are corrected in place.
    expected : ndarray of float32, shape (5,)
        As `expected_noise` gives it.
    scale : SigmaScale
        Correction of the sigmas.
    noise : NoiseModel
        Noise, by which pixels without an edge are judged.
    most_chi2 : float
        Chi2 that noise does not exceed.
    """
    n_pixels = values.shape[1]
    chi2, suspects = np.empty(n_pixels, np.float32), np.empty(n_pixels, np.bool_)
    counts = np.empty(count_blocks(n_pixels), np.int64)
    limits = np.array([most_chi2, most_chi2 * noise.gain, noise.growth], np.float32)
    launch(judge_pixels, values, expected, scale, limits, chi2, suspects.view(np.uint8), counts)
    return JudgedPixels(chi2, np.flatnonzero(suspects) if counts.any() else np.empty(0, np.intp))
