"""Noise of a frame's pixels from what the frames have in common with nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_FEWEST_PIXELS = 64
_FEWEST_DOF = 6
_N_BINS = 10
# Square of a normal variable that is exceeded in half of all cases.
_MEDIAN_OF_SQUARE = 0.4549364
# Beyond the largest eigenvalue that noise alone has (Marchenko and Pastur), with room for noise that is not uniform.
_ABOVE_NOISE = 1.25
_MOST_COMPONENTS = 12
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

    def weights(self, optical_depth: Array) -> Array | None:
        """Weights of frames, one on average; None where noise is not that of counting, and frames count alike.

        Parameters
        ----------
        optical_depth : ndarray, shape (n_frames, n_pixels)
            Finite values.
        """
        if not self.is_counting:
            return None
        weights = 1.0 / np.exp(np.clip(optical_depth, -1.0, 6.0)).mean(axis=1)
        return np.asarray(weights / weights.mean())


def estimate_noise(design: Array, optical_depth: Array, weights: Array | None = None) -> NoiseModel | None:
    """Estimate the noise of a stack whatever the model leaves out.

    What a linear model leaves over is cleared of the patterns that many pixels share, which are misfit and not noise;
    the rest is noise. Its medians in bins of optical depth give gain and growth.

    Parameters
    ----------
    design : ndarray, shape (n_frames, n_functions)
        Functions of energy.
    optical_depth : ndarray, shape (n_frames, n_pixels)
        Optical depth of some pixels, finite.
    weights : ndarray, shape (n_frames,), optional
        What is known of the noise of the frames already, as weights of a fit.

    Returns
    -------
    NoiseModel or None
        None for too few pixels or frames, or data without noise.
    """
    n_frames, n_pixels = optical_depth.shape
    free = n_frames - design.shape[1]
    if free < _FEWEST_DOF or n_pixels < max(_FEWEST_PIXELS, 2 * n_frames):
        return None
    root = np.ones((n_frames, 1)) if weights is None else np.sqrt(weights)[:, None]
    orthonormal, _ = np.linalg.qr(design * root)
    weighted = optical_depth * root
    residual = weighted - orthonormal @ (orthonormal.T @ weighted)
    # Thick pixels are noisier: on one scale, noise has a largest eigenvalue that is known.
    size = np.sqrt(np.median(residual**2, axis=0) + 1e-30)
    scaled = residual / size
    values, vectors = np.linalg.eigh(scaled @ scaled.T)
    values, vectors = values[::-1], vectors[:, ::-1]
    edge = _ABOVE_NOISE * (1.0 + np.sqrt(n_frames / n_pixels)) ** 2
    removed = 0
    while removed < min(_MOST_COMPONENTS, free - _FEWEST_DOF):
        level = values[removed:free].sum() / (free - removed)
        if values[removed] < edge * level:
            break
        removed += 1
    shared = vectors[:, :removed]
    rest = residual - shared @ (shared.T @ residual)
    lost = np.sum(orthonormal**2, axis=1) + np.sum(shared**2, axis=1)
    kept = lost < 0.9
    if kept.sum() < _FEWEST_DOF:
        return None
    squares = (rest[kept] / root[kept]) ** 2 / (1.0 - lost[kept])[:, None]
    depths = optical_depth[kept]
    # Growth from what one pixel has at different energies: pixels differ in their light, too.
    growth = _growth(depths - depths.mean(axis=0), squares / np.median(squares, axis=0))
    gain = float(np.median(squares * np.exp(-growth * depths))) / _MEDIAN_OF_SQUARE
    if not gain > _ROUNDING**2:
        return None
    level = np.ones(n_frames)
    own = np.median(squares * np.exp(-growth * depths), axis=1) / (_MEDIAN_OF_SQUARE * gain)
    if np.log(own.clip(1e-6)).std() > _LEAST_SPREAD:
        level[kept] = own
    return NoiseModel(gain, growth, level)


def _growth(depths: Array, squares: Array) -> float:
    """Slope of the logarithm of the squares over optical depth, from their medians in bins."""
    flat_depths, flat_squares = depths.ravel(), squares.ravel()
    order = np.argsort(flat_depths)
    bins = [part for part in np.array_split(order, _N_BINS) if part.size]
    depth = np.array([flat_depths[part].mean() for part in bins])
    level = np.array([np.median(flat_squares[part]) for part in bins])
    if depth[-1] - depth[0] < _LEAST_RANGE or not level.min() > 0.0:
        return 0.0
    return float(np.clip(np.polyfit(depth, np.log(level), 1)[0], 0.0, _MOST_GROWTH))
