"""Where material ends: levels of solid and void, the threshold between them, and how much smoothing the noise needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import MAD_TO_SIGMA
from edge_fitting.errors import EdgeFittingError

from ._arrays import Mask, Volume

# Widths of the smoothing, tried in turn until the noise is this share of the contrast; where it stays above the second
# share, no surface is believed.
_SMOOTHING_PX = (0.0, 0.7, 1.0, 1.5, 2.0)
_ENOUGH, _TOO_MUCH = 0.1, 0.3
_LAG_PX = 4
_SAMPLED = 2**21


@dataclass(frozen=True, slots=True)
class MaterialLevels:
    """Levels of a density.

    Parameters
    ----------
    void, solid : float
        Median density of what is no material, and of what is.
    threshold : float
        Between material and void, halfway between the two unless given.
    noise : float
        Standard deviation of a voxel after the smoothing.
    smoothing_px : float
        Standard deviation of the Gaussian smoothing, in voxels.
    """

    void: float
    solid: float
    threshold: float
    noise: float
    smoothing_px: float

    @property
    def contrast(self) -> float:
        """Solid less void."""
        return self.solid - self.void


def material_levels(density: Volume, known: Mask, threshold: float | None) -> tuple[MaterialLevels, Volume]:
    """Find the levels of a density, smoothed as its noise needs; returns them and the smoothed density.

    Raises
    ------
    EdgeFittingError
        Nothing tells material from void.
    """
    if not known.any():
        raise EdgeFittingError("the density has no finite value inside of the mask.")
    levels, smooth = None, density
    for width in _SMOOTHING_PX:
        smooth = _smoothed(density, known, width)
        levels = _levels(smooth, known, threshold, width)
        if levels.noise <= _ENOUGH * levels.contrast:
            return levels, smooth
    if levels is None or not levels.noise <= _TOO_MUCH * levels.contrast:
        raise EdgeFittingError(
            "material and void are not told apart: the noise of the density is "
            f"{levels.noise / levels.contrast if levels and levels.contrast > 0 else np.inf:.2g} of their difference "
            "after smoothing; give a density with less noise, or a mask of where the sample is."
        )
    return levels, smooth


def _smoothed(density: Volume, known: Mask, width_px: float) -> Volume:
    from scipy import ndimage

    if width_px == 0.0:
        return np.where(known, density, np.float32(np.nan))
    flat = ndimage.gaussian_filter(np.where(known, density, np.float32(0.0)), width_px)
    if not known.all():
        weight = ndimage.gaussian_filter(known.astype(np.float32), width_px)
        flat = flat / np.maximum(weight, np.float32(1e-6))
    return np.where(known, flat, np.float32(np.nan))


def _levels(smooth: Volume, known: Mask, threshold: float | None, width_px: float) -> MaterialLevels:
    from skimage.filters import threshold_otsu

    values = smooth[known]
    values = values[:: max(1, values.size // _SAMPLED)]
    if not np.ptp(values) > 0:
        raise EdgeFittingError("the density has the same value everywhere: nothing tells material from void.")
    parted = float(threshold_otsu(values)) if threshold is None else float(threshold)
    below, above = values[values <= parted], values[values > parted]
    if not below.size or not above.size:
        raise EdgeFittingError(
            f"the threshold {parted:g} is outside of the density ({values.min():.4g} to {values.max():.4g}): "
            "nothing tells material from void."
        )
    void, solid = float(np.median(below)), float(np.median(above))
    if threshold is None:
        parted = 0.5 * (void + solid)
    return MaterialLevels(void, solid, parted, _noise(smooth, parted, width_px), width_px)


def _noise(smooth: Volume, threshold: float, width_px: float) -> float:
    """Scatter between voxels so far apart that smoothing leaves them nearly independent, of the noisier class."""
    step = max(1, int((smooth.size / _SAMPLED) ** (1 / 3)))
    first, second = smooth[:-_LAG_PX:step, ::step, ::step], smooth[_LAG_PX::step, ::step, ::step]
    alike = np.exp(-(_LAG_PX**2) / (4.0 * width_px**2)) if width_px else 0.0
    found = [
        _spread((second - first)[both]) / np.sqrt(2.0 * (1.0 - alike))
        for both in ((first > threshold) & (second > threshold), (first <= threshold) & (second <= threshold))
        if np.count_nonzero(both) > 100
    ]
    return float(max(found, default=0.0))


def _spread(differences: NDArray[np.float32]) -> float:
    return MAD_TO_SIGMA * float(np.median(np.abs(differences - np.median(differences))))
