"""What noise that grows with optical depth does to the sigma of thick and thin pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._noise_model import NoiseModel

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

_N_STATES = 4
_JUMPS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
# Smaller corrections are left out.
_LEAST = 0.005


class SigmaScale(NamedTuple):
    """Logarithm of the factor of the sigmas, a polynomial.

    Attributes
    ----------
    terms : ndarray of float32, shape (5,)
        Constant, per jump, per squared jump, per state, per state times jump.
    center, half : float32
        Middle and half range of the states, on which they count from -1 to 1.
    most_jump : float32
        Jumps above it count as this one.
    """

    terms: Frame
    center: np.float32
    half: np.float32
    most_jump: np.float32


def sigma_scale(
    functions: Array,
    soc: Array,
    curve: Array,
    tangent: Array,
    noise: NoiseModel,
    level: Array,
    weights: Array,
) -> SigmaScale:
    """Work out how the sigmas of a fit change with the noise that each frame has in a pixel of its jump.

    The fit gives one weight to all pixels of a frame and takes the noise from the residuals. In a thick pixel, frames
    above the edge are noisier than their weight says, in a thin one less so. The covariance of weighted least squares
    with weights W and noise V is (D'WD)^-1 D'WVWD (D'WD)^-1; its ratio to that which the fit states is computed for
    some states and jumps, and is a smooth function of both.

    Parameters
    ----------
    functions : ndarray, shape (n_frames, 2 + n_modes)
        Offset, slope and the modes of the series at the energies of the frames.
    soc : ndarray, shape (n_nodes,)
        States.
    curve, tangent : ndarray, shape (n_nodes, n_modes)
        Coordinates of the normalised spectra at them, and their derivatives.
    noise : NoiseModel
        Noise of one pixel in one frame.
    level : ndarray, shape (n_frames,)
        Its level in these frames.
    weights : ndarray, shape (n_frames,)
        Weights of the fit.
    """
    nodes = (np.linspace(0.2, 0.8, _N_STATES) * (soc.size - 1)).astype(int)
    center, half = float(soc.mean()), float(np.ptp(soc)) / 2.0
    s, step = (grid.ravel() for grid in np.meshgrid((soc[nodes] - center) / half, _JUMPS, indexing="ij"))
    ratio = np.array(
        [
            _ratios(functions, curve[k], tangent[k], np.array(_JUMPS), noise.growth, level, weights)
            for k in nodes
        ]
    ).ravel()
    terms = np.zeros(5, np.float32)
    if np.isfinite(ratio).all() and np.abs(ratio - 1.0).max() >= _LEAST:
        design = np.column_stack([np.ones(s.size), step, step**2, s, s * step])
        terms = np.linalg.lstsq(design, np.log(ratio), rcond=None)[0].astype(np.float32)
    return SigmaScale(terms, np.float32(center), np.float32(half), np.float32(_JUMPS[-1]))


def _ratios(
    functions: Array,
    spectrum: Array,
    direction: Array,
    jumps: Array,
    growth: float,
    level: Array,
    weights: Array,
) -> Array:
    """Sigma of the state over that which the fit states, for some jumps."""
    absorption = functions[:, 2:] @ spectrum
    design = np.column_stack([functions[:, :2], absorption, functions[:, 2:] @ direction])
    variance = level * np.exp(growth * jumps[:, None] * absorption)
    normal = (design * weights[:, None]).T @ design
    if not np.linalg.cond(normal) < 1e14:
        return np.full(jumps.size, np.nan)
    inverse = np.linalg.inv(normal)
    half = inverse @ (design * weights[:, None]).T
    true = variance @ half[3] ** 2
    leverage = np.einsum("fk,kf->f", design, half)
    # Expected square of the residual, of which the fit makes its noise.
    stated = inverse[3, 3] * (variance @ (weights * (1.0 - leverage))) / (weights.size - 4)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(true / stated))
