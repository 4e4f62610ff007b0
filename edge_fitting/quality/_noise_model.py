"""Noise of a frame's pixels from what the frames have in common with nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._check_kernels import (
    mean_size,
    noise_by_depth,
    noise_by_frame,
    products,
    project,
    subtract,
    take_leading,
    variances,
)

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

_FEWEST_PIXELS = 64
_FEWEST_DOF = 6
_N_BINS = 16
_FEWEST_IN_BIN = 200
# Mean absolute value of a normal variable: less given to values that stick out than its mean square.
_MEAN_SIZE = float(np.sqrt(2.0 / np.pi))
# Beyond the largest eigenvalue that noise alone has (Marchenko and Pastur), with room for noise that is not uniform.
_ABOVE_NOISE = 1.25
_MOST_COMPONENTS = 12
_ROUNDS = 40
# Pixels that the noise is estimated from: its uncertainty is a two-hundredth then.
_MOST_PIXELS = 512
# Noise that grows with optical depth at least this part as fast as counting noise does is taken for that.
_COUNTING = 0.5
# Least range of optical depth (between the bins) over which a growth can be told.
_LEAST_RANGE = 0.15
# Noise of the camera's electronics, which counts in dark pixels only, grows twice as fast as that of counting.
_MOST_GROWTH = 2.0
# Levels of frames that spread (standard deviation of the logarithm) by less are alike.
_LEAST_SPREAD = 0.2
# Below this the residuals are rounding of single precision.
_ROUNDING = 3e-6


@dataclass(frozen=True, slots=True, eq=False)
class NoiseModel:
    """Variance of the optical depth of one pixel in one frame, ``gain * level * exp(growth * optical_depth)``.

    Attributes
    ----------
    gain : float
        Variance at optical depth zero: one over the counts that the flat gives, for counting noise.
    growth : float
        1 for counting noise, 0 for noise that is the same everywhere.
    level : ndarray, shape (n_frames,)
        What else tells the noise of one frame from that of another, such as its exposure; 1 where nothing shows.
    """

    gain: float
    growth: float
    level: Array

    @property
    def is_counting(self) -> bool:
        """Whether it grows with optical depth as counting noise does."""
        return self.growth > _COUNTING

    def variance(self, optical_depth: Array) -> Array:
        """Variance at some optical depths, of frames of level 1."""
        return np.asarray(self.gain * np.exp(self.growth * optical_depth))

    def weights(self, optical_depth: Frame) -> Array | None:
        """Weights of frames, one on average; None where noise is not that of counting, and frames count alike.

        Parameters
        ----------
        optical_depth : ndarray of float32, shape (n_frames, n_pixels)
            Finite values.
        """
        if not self.is_counting:
            return None
        relative = np.empty_like(optical_depth)
        variances(optical_depth, 1.0, relative)
        weights = 1.0 / relative.mean(axis=1, dtype=np.float64)
        return np.asarray(weights / weights.mean())


def linear_fit(functions: Array, optical_depth: Frame) -> tuple[Array, Frame]:
    """Fit every pixel by functions of energy: coefficients (n_functions, n_pixels), and what is left."""
    orthonormal, triangle = np.linalg.qr(functions)
    orthonormal = np.ascontiguousarray(orthonormal)
    coefficients = np.empty((functions.shape[1], optical_depth.shape[1]))
    project(optical_depth, orthonormal, coefficients)
    residual = np.empty_like(optical_depth)
    subtract(optical_depth, orthonormal, coefficients, residual)
    return np.einsum("kj,jp->kp", np.linalg.inv(triangle), coefficients), residual


def estimate_noise(
    design: Array, optical_depth: Frame, weights: Array | None = None, residual: Frame | None = None
) -> NoiseModel | None:
    """Estimate the noise of a stack whatever the model leaves out.

    What a linear model leaves over is cleared of the patterns that many pixels share, which are misfit and not noise;
    the rest is noise. Its mean size in bins of optical depth gives gain and growth.

    Parameters
    ----------
    design : ndarray, shape (n_frames, n_functions)
        Functions of energy.
    optical_depth : ndarray of float32, shape (n_frames, n_pixels)
        Optical depth of some pixels, finite.
    weights : ndarray, shape (n_frames,), optional
        What is known of the noise of the frames already, as weights of a fit.
    residual : ndarray of float32, shape (n_frames, n_pixels), optional
        What a fit without weights leaves, where that is known.

    Returns
    -------
    NoiseModel or None
        None for too few pixels or frames, or data without noise.
    """
    n_frames, n_pixels = optical_depth.shape
    free = n_frames - design.shape[1]
    if free < _FEWEST_DOF or n_pixels < max(_FEWEST_PIXELS, 2 * n_frames):
        return None
    step = max(1, n_pixels // max(_MOST_PIXELS, 4 * n_frames))
    depth = np.ascontiguousarray(optical_depth[:, ::step])
    root = np.ones(n_frames) if weights is None else np.sqrt(weights / weights.mean())
    weighted_design = design * root[:, None]
    if weights is None and residual is not None:
        left = residual[:, ::step].copy()
    else:
        _, left = linear_fit(weighted_design, depth * root[:, None].astype(np.float32))
    orthonormal, _ = np.linalg.qr(weighted_design)
    # Thick pixels are noisier: on one scale, noise has a largest eigenvalue that is known.
    size = np.empty(depth.shape[1])
    mean_size(left, size)
    size += 1e-15
    shared = _shared_patterns(left, size, free)
    if shared.shape[1]:
        coefficients = np.empty((shared.shape[1], depth.shape[1]))
        project(left, shared, coefficients)
        subtract(left, shared, coefficients, left)
        mean_size(left, size)
        size += 1e-15
    lost = np.sum(orthonormal**2, axis=1) + np.sum(shared**2, axis=1)
    kept = lost < 0.9
    if kept.sum() < _FEWEST_DOF:
        return None
    factor = np.where(kept, 1.0 / (root * np.sqrt(np.maximum(1.0 - lost, 0.1))), 0.0)
    growth = _growth(left, depth, factor, size)
    by_frame = np.empty(n_frames)
    noise_by_frame(left, depth, factor, growth, by_frame)
    own = (by_frame[kept] / _MEAN_SIZE) ** 2
    gain = float(np.mean(by_frame[kept]) / _MEAN_SIZE) ** 2
    if not gain > _ROUNDING**2:
        return None
    level = np.ones(n_frames)
    if np.log((own / gain).clip(1e-6)).std() > _LEAST_SPREAD:
        level[kept] = own / gain
    return NoiseModel(gain, growth, level)


def _shared_patterns(residual: Frame, size: Array, free: int) -> Array:
    """Patterns over the frames that more pixels share than noise does, shape (n_frames, n), orthonormal."""
    n_frames, n_pixels = residual.shape
    gram = np.empty((n_frames, n_frames))
    products(residual, size, gram)
    edge = _ABOVE_NOISE * (1.0 + np.sqrt(n_frames / n_pixels)) ** 2
    left = float(np.trace(gram))
    found: list[Array] = []
    while len(found) < min(_MOST_COMPONENTS, free - _FEWEST_DOF):
        # The row of the frame that is off most: with what is to be found in it.
        vector = gram[int(np.argmax(np.diag(gram)))].copy()
        value = take_leading(gram, vector, _ROUNDS)
        if value < edge * left / (free - len(found)):
            break
        gram -= value * np.outer(vector, vector)
        left -= value
        found.append(vector)
    return np.stack(found, axis=1) if found else np.empty((n_frames, 0))


def _growth(rest: Frame, depth: Frame, factor: Array, size: Array) -> float:
    """Slope of the logarithm of the variance over optical depth, from what one pixel has at different energies.

    Pixels differ in their light, too, so that they are not compared with each other.
    """
    used = depth[factor > 0.0]
    away = float(np.abs(used - used.mean(axis=0)).max())
    if not away > 0.5 * _LEAST_RANGE:
        return 0.0
    sums = np.zeros((3, _N_BINS))
    noise_by_depth(rest, depth, factor, size, _N_BINS, -away, away, sums)
    full = sums[0] > _FEWEST_IN_BIN
    if full.sum() < 2:
        return 0.0
    count, distance, total = sums[:, full]
    distance, level = distance / count, total / count
    if np.ptp(distance) < _LEAST_RANGE or not level.min() > 0.0:
        return 0.0
    slope = np.polyfit(distance, 2.0 * np.log(level), 1, w=np.sqrt(count))[0]
    return float(np.clip(slope, 0.0, _MOST_GROWTH))
