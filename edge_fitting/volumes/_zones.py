"""A quantity such as state of charge at cracks and at the surface of particles against their bulk, and by depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError
from edge_fitting.maps import intrinsic_variance, mean_over_particles, neighbour_correlation

from ._arrays import Array, Box, Mask, Volume, around, check_volume, depth_inside, grown
from ._correlated_sums import CorrelatedSums
from ._cracks import CrackKind, VolumeCracks
from ._segment import VolumeSegmentation

Counts = NDArray[np.int64]

# Fewer voxels make no mean.
_FEWEST = 10
# A fine crack is narrower than a voxel or two, and is marked about three wide.
_FINE_HALF_PX = 1.0
_MOST_FOR_SPREAD = 100_000
_BULK, _SURFACE, _ALONG, _MOUTH = 1, 2, 3, 4  # the last: at the surface and at a crack


@dataclass(frozen=True, slots=True, eq=False)
class VolumeZones:
    """A quantity in the zones of each particle; NaN where a zone has fewer than ten values.

    Parameters
    ----------
    label : ndarray of int, shape (n_particles,)
        Labels.
    n_values, n_bulk, n_surface, n_crack : ndarray of int
        Voxels with a value in the particle and in each zone.
    mean, mean_sigma : ndarray
        Weighted mean of the particle, and its standard error.
    bulk, bulk_sigma : ndarray
        The same away from surface and cracks.
    surface_minus_bulk, surface_minus_bulk_sigma : ndarray
        Mean near the surface, away from cracks, less that of the bulk.
    crack_minus_bulk, crack_minus_bulk_sigma : ndarray
        Mean along cracks less what voxels away from them have at the same depth.
    depth_edges : ndarray, shape (n_depths + 1,)
        Limits of the depth below the surface.
    profile, profile_sigma : ndarray, shape (n_particles, n_depths)
        Weighted mean by depth away from cracks, and its standard error.
    pooled, pooled_sigma : ndarray, shape (n_depths,)
        The profile of each particle less its bulk, as the mean of the particles by depth: each counts by its own error
        and how much they differ.
    """

    label: Counts
    n_values: Counts
    n_bulk: Counts
    n_surface: Counts
    n_crack: Counts
    mean: Array
    mean_sigma: Array
    bulk: Array
    bulk_sigma: Array
    surface_minus_bulk: Array
    surface_minus_bulk_sigma: Array
    crack_minus_bulk: Array
    crack_minus_bulk_sigma: Array
    depth_edges: Array
    profile: Array
    profile_sigma: Array
    pooled: Array
    pooled_sigma: Array


def volume_zones(
    values: ArrayLike,
    particles: VolumeSegmentation,
    cracks: VolumeCracks | None = None,
    *,
    sigma: ArrayLike | None = None,
    surface_width: float = 3.0,
    crack_width: float = 2.0,
    depth_step: float = 2.0,
) -> VolumeZones:
    """Compare a quantity at cracks and at the surface of each particle with its bulk, and average it by depth.

    Parameters
    ----------
    values : array_like, shape (planes, rows, columns)
        Such as state of charge; what is not finite, and what is no material, is left out.
    particles : VolumeSegmentation
        From :func:`split_volume`.
    cracks : VolumeCracks, optional
        From :func:`segment_volume_cracks`; none by default.
    sigma : array_like, optional
        Standard deviation of each voxel: its weight.
    surface_width, crack_width : float
        How far surface and cracks reach, in the unit of the voxel size.
    depth_step : float
        Width of the bins of depth, in the same unit.

    Returns
    -------
    VolumeZones

    Raises
    ------
    EdgeFittingError
        Shapes differ, a width is not positive, or no voxel of a particle has a value.

    Notes
    -----
    Depth is the distance to the outer surface; cracks are no surface of their own, and neither is the border of the
    volume. Errors hold noise and the unevenness of the material with the correlation of neighbouring voxels, pooled
    over all particles, what follows the depth taken out; a correlation below 0 counts as 0.
    """
    array = check_volume(values, "the quantity", particles.labels.shape)
    noise = None if sigma is None else check_volume(sigma, "its sigma", particles.labels.shape)
    if not min(surface_width, crack_width, depth_step) > 0:
        raise EdgeFittingError("surface_width, crack_width and depth_step must be positive.")
    widths = tuple(width / particles.voxel_size for width in (surface_width, crack_width, depth_step))
    residual = np.full(array.shape, np.nan, np.float32)
    held = [
        _Zones(label, box, array, noise, particles, cracks, widths, residual)
        for label, box in particles.boxes()
    ]
    if not any(zones.n_values for zones in held):
        raise EdgeFittingError("no voxel of a particle has a finite value and sigma.")
    sums = CorrelatedSums(neighbour_correlation(residual, particles.labels))
    n_depths = max(zones.n_depths for zones in held)
    rows = [zones.row(sums, n_depths) for zones in held]
    profile, profile_sigma = (np.array([row[k] for row in rows]) for k in (1, 2))
    means = np.array([row[0] for row in rows], np.float64)
    # Particles differ in their level, and only large ones are deep.
    over_bulk = profile - means[:, 2:3]
    over_bulk_sigma = np.hypot(profile_sigma, means[:, 3:4])
    pooled = [
        mean_over_particles(mean[good], error[good])
        for mean, error in zip(over_bulk.T, over_bulk_sigma.T, strict=True)
        for good in [np.isfinite(mean) & np.isfinite(error)]
    ]
    counts = np.array([zones.counts for zones in held], np.int64)
    return VolumeZones(
        label=np.array([zones.label for zones in held], np.int64),
        n_values=counts[:, 0],
        n_bulk=counts[:, 1],
        n_surface=counts[:, 2],
        n_crack=counts[:, 3],
        mean=means[:, 0],
        mean_sigma=means[:, 1],
        bulk=means[:, 2],
        bulk_sigma=means[:, 3],
        surface_minus_bulk=means[:, 4],
        surface_minus_bulk_sigma=means[:, 5],
        crack_minus_bulk=means[:, 6],
        crack_minus_bulk_sigma=means[:, 7],
        depth_edges=np.arange(n_depths + 1, dtype=np.float64) * depth_step,
        profile=profile,
        profile_sigma=profile_sigma,
        pooled=np.array([mean for mean, _ in pooled]),
        pooled_sigma=np.array([error for _, error in pooled]),
    )


class _Zones:
    """One particle: which zone a voxel is in, and how far its value scatters."""

    def __init__(
        self,
        label: int,
        box: Box,
        values: Volume,
        noise: Volume | None,
        particles: VolumeSegmentation,
        cracks: VolumeCracks | None,
        widths: tuple[float, ...],
        residual: Volume,
    ) -> None:
        surface_px, crack_px, step_px = widths
        wide = around(box, 1, values.shape)
        inside = particles.labels[wide] == label
        depth = depth_inside(inside)
        self.label = label
        self._values = values[wide]
        own = np.zeros(inside.shape, np.float32) if noise is None else noise[wide]
        known = inside & particles.solid[wide] & np.isfinite(self._values) & np.isfinite(own) & (own >= 0)
        near = np.zeros_like(inside)
        if cracks is not None:
            kind = np.where(inside, cracks.kind[wide], np.uint8(0))
            near = grown(kind == CrackKind.WIDE, crack_px + 0.5) | grown(
                kind == CrackKind.FINE, crack_px + 0.5 - _FINE_HALF_PX
            )
        # 0 where there is no value.
        self._zone = np.where(near, np.uint8(_ALONG), np.uint8(_BULK))
        shallow = depth < surface_px
        self._zone[shallow] = np.where(near[shallow], np.uint8(_MOUTH), np.uint8(_SURFACE))
        self._zone[~known] = 0
        # Without a surface in the volume there is no depth.
        self._bin = np.where(known & np.isfinite(depth), depth / step_px, -1.0).astype(np.int32)
        self.n_depths = int(self._bin.max(initial=0)) + 1
        self.counts = [
            np.count_nonzero(known),
            *(np.count_nonzero(self._zone == z) for z in (_BULK, _SURFACE, _ALONG)),
        ]
        self.n_values = self.counts[0]
        self._left, self._deviation = self._scatter(own)
        with np.errstate(invalid="ignore", divide="ignore"):
            residual[wide][known] = (self._left / self._deviation)[known]

    def _scatter(self, noise: Volume) -> tuple[Volume, Volume]:
        """Return what is left where the mean by depth away from cracks is taken out, and its standard deviation."""
        known = self._zone > 0
        left = np.zeros(known.shape, np.float32)
        if not known.any():
            return left, left
        free = known & (self._zone < _ALONG)
        use = free if free.any() else known
        slot = np.maximum(self._bin, 0)
        weight = np.bincount(slot[use], minlength=self.n_depths)
        total = np.bincount(slot[use], self._values[use], minlength=self.n_depths)
        filled = np.flatnonzero(weight)
        mean = np.interp(np.arange(self.n_depths), filled, total[filled] / weight[filled])
        left[known] = self._values[known] - mean[slot[known]]
        sample = left[use], noise[use]
        step = max(1, sample[0].size // _MOST_FOR_SPREAD)
        uneven = intrinsic_variance(*(part[::step].astype(np.float64) for part in sample))
        uneven = max(uneven, 0.0) if np.isfinite(uneven) else 0.0
        return left, np.where(known, np.sqrt(noise**2 + np.float32(uneven)), np.float32(0.0))

    def row(self, sums: CorrelatedSums, n_depths: int) -> tuple[tuple[float, ...], Array, Array]:
        """Return means and differences with their errors, and the profile with its errors."""
        bulk, surface, along = (self._weights(self._zone == zone) for zone in (_BULK, _SURFACE, _ALONG))
        found = (
            *self._mean(sums, self._values, self._weights(self._zone > 0)),
            *self._mean(sums, self._values, bulk),
            *self._mean(sums, self._values, surface, bulk),
            *self._mean(sums, self._left, along, bulk),
        )
        return (found, *self._profile(sums, n_depths))

    def _weights(self, use: Mask) -> Array | None:
        """Weights of a mean: by the inverse variance, together 1; None for too few voxels."""
        if np.count_nonzero(use) < _FEWEST:
            return None
        with np.errstate(divide="ignore"):
            weight = np.where(use, 1.0 / np.where(use, self._deviation, 1.0).astype(np.float64) ** 2, 0.0)
        if not np.isfinite(weight).all():
            weight = use.astype(np.float64)  # values without any scatter
        return np.asarray(weight / weight.sum())

    def _mean(self, sums: CorrelatedSums, image: Volume, *weights: Array | None) -> tuple[float, float]:
        """Return the mean by the first weights, less that by the second where there are two, and its error."""
        parts = [weight for weight in weights if weight is not None]
        if len(parts) < len(weights):
            return float("nan"), float("nan")
        weight = parts[0] if len(parts) == 1 else parts[0] - parts[1]
        value = float(np.sum(weight * np.where(self._zone > 0, image, 0.0)))
        return value, float(np.sqrt(sums.variance(weight * self._deviation)))

    def _profile(self, sums: CorrelatedSums, n_depths: int) -> tuple[Array, Array]:
        mean, error = np.full(n_depths, np.nan), np.full(n_depths, np.nan)
        # What cracks do does not belong to the surface.
        away = np.where(self._zone < _ALONG, self._bin, -1)
        use = away >= 0
        slot = away[use]
        enough = np.flatnonzero(np.bincount(slot, minlength=n_depths) >= _FEWEST)
        if not enough.size:
            return mean, error
        deviation = self._deviation.astype(np.float64)
        weight = np.where(use & (deviation > 0), 1.0 / np.where(deviation > 0, deviation, 1.0) ** 2, 0.0)
        if not weight.any():
            weight = use.astype(np.float64)
        total = np.bincount(slot, weight[use], minlength=n_depths)
        value = np.bincount(slot, (weight * np.where(use, self._values, 0.0))[use], minlength=n_depths)
        variance = sums.variances(weight * deviation, away, n_depths)
        mean[enough] = value[enough] / total[enough]
        error[enough] = np.sqrt(variance[enough]) / total[enough]
        return mean, error
