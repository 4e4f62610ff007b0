"""Reduced chi2 against counting noise, of pixels and of frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._noise_model import NoiseModel

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

# Values of the fit by row: state, jump, noise, highest optical depth.
_STATE, _JUMP, _NOISE, _HIGHEST = 0, 4, 6, 7
_FEWEST_PIXELS = 16


def frame_chi2(
    functions: Array, curve: Array, noise: NoiseModel, level: Array, stack: Frame, weights: Array
) -> tuple[Array, Array]:
    """Compare the frames with the fit at some pixels.

    Parameters
    ----------
    functions : ndarray, shape (n_frames, 2 + n_modes)
        Offset, slope and the modes of the series at the energies of the frames.
    curve : ndarray, shape (n_modes, n_pixels)
        Coordinates of the fitted spectra, times the jump.
    noise : NoiseModel
        Noise of one pixel in one frame.
    level : ndarray, shape (n_frames,)
        Its level in these frames.
    stack : ndarray of float32, shape (n_frames, n_pixels)
        Optical depth, finite.
    weights : ndarray, shape (n_frames,)
        Weights of the fit.

    Returns
    -------
    by_frame : ndarray, shape (n_frames,)
        Mean squared residual over the variance that noise and the fit leave.
    variance : ndarray, shape (n_pixels,)
        Expected square of the map of the noise, for weight 1.
    """
    without_line = stack.astype(np.float64) - functions[:, 2:] @ curve
    line = functions[:, :2] * np.sqrt(weights)[:, None]
    coefficients = np.linalg.lstsq(line, without_line * np.sqrt(weights)[:, None], rcond=None)[0]
    residual = without_line - functions[:, :2] @ coefficients
    variance = noise.variance(np.clip(stack - residual, -1.0, 8.0)) * level[:, None]
    leverage = _leverage(functions, curve, weights)
    by_frame = np.mean(residual**2 / variance, axis=1) / (1.0 - leverage)
    n = weights.size
    expected = ((weights * (1.0 - leverage)) @ variance) / max(n - 4, 1)
    return by_frame, expected


def _leverage(functions: Array, curve: Array, weights: Array) -> Array:
    """Weight that each frame has in its own fit: offset, slope, jump and state of the mean pixel."""
    mean = curve.mean(axis=1)
    spread = curve - np.outer(mean, curve[0] / max(mean[0], 1e-12))
    direction = np.linalg.svd(spread, full_matrices=False)[0][:, 0]
    design = np.column_stack([functions[:, :2], functions[:, 2:] @ mean, functions[:, 2:] @ direction])
    orthonormal, _ = np.linalg.qr(design * np.sqrt(weights)[:, None])
    return np.asarray(np.minimum(np.sum(orthonormal**2, axis=1), 0.95))


def pixel_chi2(values: Frame, pixels: NDArray[np.intp], expected: Array) -> Frame:
    """Reduced chi2 of every pixel, from the expected noise of some.

    The logarithm of the expected noise is a smooth function of the highest optical depth and the jump.

    Parameters
    ----------
    values : ndarray of float32, shape (8, n_pixels)
        What the fit gave.
    pixels : ndarray of intp, shape (n,)
        Pixels with values of which the expected noise is known.
    expected : ndarray, shape (n,)
        Their expected squared noise, at weight 1.

    Returns
    -------
    ndarray of float32, shape (n_pixels,)
        About 1 where noise is all there is; NaN without a fit.
    """
    highest, jump = values[_HIGHEST], values[_JUMP]
    top, step = highest[pixels].astype(np.float64), jump[pixels].astype(np.float64)
    design = np.column_stack([np.ones(pixels.size), top, step])
    log_expected = np.log(expected)
    coefficients = np.linalg.lstsq(design, log_expected, rcond=None)[0].astype(np.float32)
    low, high = np.float32(log_expected.min() - 1.0), np.float32(log_expected.max() + 1.0)
    predicted: Frame = coefficients[1] * highest
    predicted += coefficients[2] * jump
    predicted += coefficients[0]
    np.clip(predicted, low, high, out=predicted)
    np.negative(predicted, out=predicted)
    np.exp(predicted, out=predicted)
    predicted *= values[_NOISE]
    predicted *= values[_NOISE]
    return predicted
