"""Light that did not pass through the sample, told from pixels so thick that little else is left in them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._noise_model import NoiseModel, linear_fit

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

# It can be told once a twentieth of the pixels lets less than this part of the beam through.
_THICK_OD = 1.6
_THICK_SHARE = 0.05
_FEWEST_PIXELS = 64
_MOST_PIXELS = 256
_ROUNDS = 12
_AT_REST = 1e-5
_GROUPS = 16
_LEAST_Z = 5.0
_LEAST = 0.001
# Single values that stick out count no more than this many standard deviations.
_MOST_Z = 6.0
# The estimate is off by up to this many of its sigmas where counts are few, and by this part of it where many.
_MISFIT_SIGMAS, _MISFIT_SHARE = 3.0, 0.03


@dataclass(frozen=True, slots=True)
class StrayLight:
    """Light beside the sample as part of the open beam: stray light, harmonics, or a dark that is too low.

    Attributes
    ----------
    share, sigma : float
        Part of the open beam, and its standard deviation; NaN where nothing is thick enough to tell.
    """

    share: float = np.nan
    sigma: float = np.nan

    @property
    def share_sigma(self) -> float:
        """Standard deviation with what the groups of pixels do not show: a model that is not quite right for all."""
        return math.hypot(_MISFIT_SIGMAS * self.sigma, _MISFIT_SHARE * self.share)

    @property
    def is_significant(self) -> bool:
        """Whether there is some."""
        return self.share > max(_LEAST, _LEAST_Z * self.sigma)


def estimate_background(design: Array, optical_depth: Frame, noise: NoiseModel, weights: Array) -> StrayLight:
    """Estimate a constant background from how the spectra of thick pixels are compressed.

    Parameters
    ----------
    design : ndarray, shape (n_frames, n_functions)
        Functions of energy that hold the spectra of this sample.
    optical_depth : ndarray of float32, shape (n_frames, n_pixels)
        Finite values of some pixels.
    noise : NoiseModel
        Noise of one pixel in one frame.
    weights : ndarray, shape (n_frames,)
        Weights of the frames.

    Returns
    -------
    StrayLight

    Notes
    -----
    Every pixel is fitted by ``T = (1 - b) exp(-od) + b`` with an optical depth that is linear in the functions and one
    b for all, by Gauss-Newton steps in transmission, where counts have no bias. What the residuals have in common with
    the edge jump of their pixels is taken out at each energy, since that is how references misfit. The standard
    deviation is from groups of pixels.
    """
    if optical_depth.shape[1] > _MOST_PIXELS:
        # The thick ones tell, the thin ones show how the references misfit.
        order = np.argsort(optical_depth.max(axis=0), kind="stable")
        steps = np.linspace(0, order.size - 1, _MOST_PIXELS).astype(np.intp)
        optical_depth = np.ascontiguousarray(optical_depth[:, np.sort(order[steps])])
    n_frames, n_pixels = optical_depth.shape
    typical = np.percentile(optical_depth, 90, axis=0)
    if (
        n_pixels < _FEWEST_PIXELS
        or n_frames <= design.shape[1] + 4
        or np.mean(typical > _THICK_OD) < _THICK_SHARE
    ):
        return StrayLight()
    transmission = np.exp(-optical_depth.astype(np.float64)).T
    coefficients = linear_fit(design, optical_depth)[0].T
    relative = np.sqrt(noise.gain * weights.mean() / weights)
    share, total, parts = 0.0, 0.0, np.zeros(_GROUPS)
    for _ in range(_ROUNDS):
        depth = np.clip(coefficients @ design.T, -0.5, 30.0)
        through = np.exp(-depth)
        expected = (1.0 - share) * through + share
        size = relative * expected ** (1.0 - 0.5 * noise.growth)
        residual = np.clip((transmission - expected) / size, -_MOST_Z, _MOST_Z)
        by_share = (1.0 - through) / size
        orthonormal, triangle = np.linalg.qr(-((1.0 - share) * through / size)[:, :, None] * design)
        own = np.einsum("pfk,pf->pk", orthonormal, residual)
        of_share = np.einsum("pfk,pf->pk", orthonormal, by_share)
        y = residual - np.einsum("pfk,pk->pf", orthonormal, own)
        x = by_share - np.einsum("pfk,pk->pf", orthonormal, of_share)
        misfit = through * coefficients[:, 2:3] / size
        power = np.maximum(np.sum(misfit**2, axis=0), 1e-300)
        for rows in (y, x):
            rows -= misfit * (np.sum(misfit * rows, axis=0) / power)
        products, squares = np.sum(x * y, axis=1), np.sum(x**2, axis=1)
        total = float(squares.sum())
        if not total > 0.0:
            return StrayLight()
        step = float(np.clip(products.sum() / total, -share, 0.5 * transmission.max() - share))
        share += step
        ridge = triangle + 1e-9 * np.eye(design.shape[1])
        coefficients = coefficients + np.linalg.solve(ridge, (own - step * of_share)[:, :, None])[:, :, 0]
        parts = np.array([np.sum(products[k::_GROUPS] - step * squares[k::_GROUPS]) for k in range(_GROUPS)])
        if abs(step) < _AT_REST:
            break
    return StrayLight(share, float(np.sqrt(np.sum(parts**2))) / total)
