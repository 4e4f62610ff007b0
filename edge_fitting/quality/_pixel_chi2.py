"""Reduced chi2 against counting noise, of pixels and of frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._check_kernels import chi2_sums, project, subtract
from ._noise_model import NoiseModel

Array = NDArray[np.float64]
Frame = NDArray[np.float32]


def frame_chi2(
    functions: Array, curve: Array, noise: NoiseModel, level: Array, stack: Frame, weights: Array
) -> tuple[Array, Array, Array]:
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
    mean : ndarray, shape (n_frames,)
        Mean residual.
    """
    without_line, residual = np.empty_like(stack), np.empty_like(stack)
    subtract(stack, np.ascontiguousarray(functions[:, 2:]), curve, without_line)
    line = np.ascontiguousarray(functions[:, :2])
    weighted = line * weights[:, None]
    sums = np.empty((2, stack.shape[1]))
    project(without_line, weighted, sums)
    lines = np.einsum("kj,jp->kp", np.linalg.inv(weighted.T @ line), sums)
    subtract(without_line, line, lines, residual)
    leverage = _leverage(functions, curve, weights)
    by_frame, by_pixel = np.empty(weights.size), np.empty(stack.shape[1])
    left = weights * level * (1.0 - leverage)
    chi2_sums(stack, residual, noise.growth, left, by_frame, by_pixel)
    by_pixel *= noise.gain / max(weights.size - 4, 1)
    return (
        by_frame / (noise.gain * level * (1.0 - leverage)),
        by_pixel,
        residual.mean(axis=1, dtype=np.float64),
    )


def _leverage(functions: Array, curve: Array, weights: Array) -> Array:
    """Weight that each frame has in its own fit: offset, slope, jump and state of the mean pixel."""
    mean = curve.mean(axis=1)
    spread = curve - np.outer(mean, curve[0] / max(mean[0], 1e-12))
    direction = np.linalg.eigh(np.einsum("ip,jp->ij", spread, spread))[1][:, -1]
    design = np.column_stack([functions[:, :2], functions[:, 2:] @ mean, functions[:, 2:] @ direction])
    orthonormal, _ = np.linalg.qr(design * np.sqrt(weights)[:, None])
    return np.asarray(np.minimum(np.sum(orthonormal**2, axis=1), 0.95))


def expected_noise(highest: Array, jump: Array, expected: Array) -> Frame:
    """Describe the expected noise as a smooth function of the highest optical depth and the jump.

    Parameters
    ----------
    highest, jump : ndarray, shape (n,)
        Of some pixels.
    expected : ndarray, shape (n,)
        Their expected squared noise, at weight 1.

    Returns
    -------
    ndarray of float32, shape (5,)
        Its logarithm: constant, per optical depth, per jump, and the limits within which that holds.
    """
    log_expected = np.log(expected)
    design = np.column_stack([np.ones(expected.size), highest, jump])
    products = np.einsum("pi,pj->ij", design, design)
    products += 1e-9 * np.trace(products) * np.eye(3)
    coefficients = np.linalg.solve(products, np.einsum("pi,p->i", design, log_expected))
    return np.array([*coefficients, log_expected.min() - 1.0, log_expected.max() + 1.0], np.float32)
