"""How sure an edge is, and the noise of pixels with few frames."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ._constants import MAD_TO_SIGMA
from ._launch import launch
from ._pool_kernel import mean_square_around

# Chance that a pixel of noise alone passes for an edge: none in a frame of 4 million pixels.
_FALSE_ALARM = 1e-7
# With this many degrees of freedom a pixel's own residuals give its noise to about 15 %.
_ENOUGH = 12
# Neighbours are added until this many degrees of freedom are together.
_POOL = 40
# Fewer differences than this have no median worth the name.
_FEWEST_DIFFERENCES = 12
# Degrees of freedom per difference: the median of absolute values has 0.37, and neighbours share frames (Monte Carlo).
_DIFFERENCES_EFFICIENCY = 0.25


def detection_threshold(dof: float) -> float:
    """Least (jump / sigma of the jump)**2 of a significant edge.

    The best of a family of edges picks the most favourable direction of about a plane in the space of spectra.
    Noise alone then gives twice an F-distributed ratio with 2 and ``dof`` degrees of freedom, which exceeds x
    with probability ``(1 + x / dof) ** (-dof / 2)``.

    Parameters
    ----------
    dof : float
        Degrees of freedom of the noise estimate.

    Returns
    -------
    float
    """
    return dof * math.expm1(-2.0 / dof * math.log(_FALSE_ALARM))


def needs_neighbours(dof: int) -> bool:
    """Whether the residuals of a single pixel are too few to give its noise."""
    return dof < _ENOUGH


def pool_variance(
    noise: NDArray[np.float32], dof: int, shape: tuple[int, int]
) -> tuple[NDArray[np.float64] | None, float]:
    """Noise variance averaged over neighbours, where pixels have too few frames for an estimate of their own.

    Parameters
    ----------
    noise : ndarray, shape (n_pixels,)
        Residual standard deviation of each pixel; NaN is left out.
    dof : int
        Degrees of freedom of each.
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    variance : ndarray of float64, shape (n_pixels,), or None
        None when pixels need no neighbours.
    dof : float
        Degrees of freedom of the estimate.
    """
    if not needs_neighbours(dof) or min(shape) == 0 or shape[0] * shape[1] == 1:
        return None, float(dof)
    reach = math.ceil((math.sqrt(_POOL / dof) - 1.0) / 2.0)
    mean = np.empty(shape)
    launch(mean_square_around, np.ascontiguousarray(noise).reshape(shape), reach, mean)
    # The smallest pool counts, at the corner of the map, so that the threshold is never too low.
    members = min(reach + 1, shape[0]) * min(reach + 1, shape[1])
    return mean.ravel(), float(dof * members)


def noise_of_differences(
    energy_ev: NDArray[np.float64], weights: NDArray[np.float64], stack: NDArray[np.float32]
) -> tuple[NDArray[np.float64] | None, float]:
    """Noise variance from what changes from frame to frame, whatever the fine structure.

    Each frame is compared with the cubic through its two neighbours on either side. The median of the differences
    counts, so that the few frames where the edge itself bends as sharply do not.

    Parameters
    ----------
    energy_ev, weights : ndarray, shape (n_energy,)
        Different energies in any order, and the weights of their frames.
    stack : ndarray of float32, shape (n_energy, n_pixels)
        Optical depth.

    Returns
    -------
    variance : ndarray of float64, shape (n_pixels,), or None
        At weight 1; None for too few frames.
    dof : float
        Degrees of freedom of the estimate.
    """
    n = energy_ev.size - 4
    if n < _FEWEST_DIFFERENCES:
        return None, 0.0
    order = np.argsort(energy_ev)
    energies, frames = energy_ev[order], stack[order].astype(np.float64)
    sets = np.arange(n)[:, None] + np.arange(5)
    around = energies[sets]
    # Coefficients of the fourth divided difference: zero on every cubic.
    gaps = around[:, :, None] - around[:, None, :]
    gaps[:, np.arange(5), np.arange(5)] = 1.0
    rule = 1.0 / gaps.prod(axis=2)
    rule /= np.sqrt((rule**2 / weights[order][sets]).sum(axis=1))[:, None]
    differences = np.einsum("jm,jmp->jp", rule, frames[sets])
    sigma = MAD_TO_SIGMA * np.median(np.abs(differences), axis=0)
    # What single precision leaves of a spectrum without noise.
    least = 1e-7 * np.abs(frames).max(axis=0)
    return np.maximum(sigma, least) ** 2, _DIFFERENCES_EFFICIENCY * n
