"""What noise that grows with optical depth does to the sigma of thick and thin pixels."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from ._noise_model import NoiseModel

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

_N_STATES = 4
_JUMPS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
# Smaller corrections are left out.
_LEAST = 0.005


def scale_sigma(
    functions: Array,
    soc: Array,
    curve: Array,
    tangent: Array,
    noise: NoiseModel,
    level: Array,
    weights: Array,
    values: Frame,
) -> None:
    """Correct the sigmas of a fit for the noise that each frame has in a pixel of its jump.

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
    values : ndarray of float32, shape (8, n_pixels)
        Values of the fit; both sigmas are changed.
    """
    nodes = np.linspace(0.2, 0.8, _N_STATES) * (soc.size - 1)
    found = [
        (float(soc[k]), jump, _ratio(functions, curve[k], tangent[k], jump, noise.growth, level, weights))
        for k, jump in product(nodes.astype(int), _JUMPS)
    ]
    state, step, ratio = np.array(found).T
    if not np.isfinite(ratio).all() or np.abs(ratio - 1.0).max() < _LEAST:
        return
    center, half = float(soc.mean()), float(np.ptp(soc)) / 2.0
    s = (state - center) / half
    design = np.column_stack([np.ones(s.size), step, step**2, s, s * step])
    c = np.linalg.lstsq(design, np.log(ratio), rcond=None)[0].astype(np.float32)
    jumps = np.clip(values[4], np.float32(0.0), np.float32(_JUMPS[-1]))
    states = (values[0] - np.float32(center)) / np.float32(half)
    factor = jumps * (c[1] + c[2] * jumps + c[4] * states)
    factor += c[0] + c[3] * states
    np.exp(factor, out=factor)
    values[1] *= factor
    values[3] *= factor


def _ratio(
    functions: Array,
    spectrum: Array,
    direction: Array,
    jump: float,
    growth: float,
    level: Array,
    weights: Array,
) -> float:
    """Sigma of the state over that which the fit states."""
    absorption = functions[:, 2:] @ spectrum
    design = np.column_stack([functions[:, :2], absorption, functions[:, 2:] @ direction])
    variance = level * np.exp(growth * jump * absorption)
    inverse = np.linalg.pinv((design * weights[:, None]).T @ design)
    half = inverse @ (design * weights[:, None]).T
    true = float((half**2 @ variance)[3])
    leverage = np.einsum("fk,kf->f", design, half)
    # Expected square of the residual, of which the fit makes its noise.
    stated = float(inverse[3, 3] * np.sum(weights * variance * (1.0 - leverage)) / (weights.size - 4))
    return float(np.sqrt(true / stated)) if stated > 0.0 else float("nan")
