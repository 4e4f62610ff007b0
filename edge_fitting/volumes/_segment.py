"""Particles of a volume: where material is, and those that touch told apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

from ._arrays import Box, Labels, Mask, Volume, around, check_volume, check_volume_mask, closed_by_ball
from ._levels import MaterialLevels, material_levels

# Particles are told apart on a grid of so many voxels at most: necks and cores are wide.
_SPLIT_VOXELS = 2**22
_SEED_VOXELS = 2**18
_SMOOTHING_PX = 1.0
# A ball sags into the mouth of a crack: its radius over the width of the widest crack.
_MOUTH = 0.75


@dataclass(frozen=True, slots=True, eq=False)
class VolumeSegmentation:
    """Particles of a volume.

    Parameters
    ----------
    labels : ndarray of int32, shape (planes, rows, columns)
        Particle of each voxel with its cracks and pores, 0 outside; numbered by the first plane, row and column.
    solid : ndarray of bool
        Where there is material.
    density : ndarray of float32
        The density as it was compared with the threshold: smoothed as its noise needs; NaN where unknown.
    levels : MaterialLevels
        Threshold, and what it is from.
    voxel_size : float
        Edge of a voxel.
    """

    labels: Labels
    solid: Mask
    density: Volume
    levels: MaterialLevels
    voxel_size: float

    def boxes(self) -> list[tuple[int, Box]]:
        """Return label and bounding box of each particle."""
        from scipy import ndimage

        found = ndimage.find_objects(self.labels)
        return [(label, box) for label, box in enumerate(found, start=1) if box is not None]


def split_volume(
    density: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    threshold: float | None = None,
    neck: float = 0.8,
    min_diameter: float = 8.0,
    widest_crack: float = 8.0,
    voxel_size: float = 1.0,
) -> VolumeSegmentation:
    """Label the particles of a volume, those that touch apart (watershed of the distance to the surface).

    Parameters
    ----------
    density : array_like, shape (planes, rows, columns)
        Density, absorption or edge jump: material is above, void below; NaN where it is not known.
    mask : array_like of bool, optional
        Where the density can be used, such as the reconstructed cylinder; all by default.
    threshold : float, optional
        Density from which on there is material; by default halfway between the medians of the two classes of Otsu.
    neck : float
        Width of the neck over the diameter of the smaller part's inscribed ball, below which they are two.
    min_diameter : float
        Diameter of the ball of the same volume, in the unit of ``voxel_size``: what is smaller counts to the particle
        that it hangs on, or is left out where it stands alone.
    widest_crack : float
        Cracks and gaps up to this wide do not part a particle and belong to it where they open to its surface; what is
        closed in belongs to it whatever its width.
    voxel_size : float
        Edge of a voxel.

    Returns
    -------
    VolumeSegmentation

    Raises
    ------
    EdgeFittingError
        The volume has no material, nothing but material, or too much noise to tell; or the limits make no sense.

    Notes
    -----
    Seeds are the maxima of the logarithm of the distance that stand at least ``-ln(neck)`` above the saddle to a higher
    one (P. Soille, Morphological Image Analysis, 2nd ed., Springer 2004, sections 6.3 and 9.2), as in
    :func:`edge_fitting.split_particles`. Otsu's threshold: N. Otsu, IEEE Trans. Syst. Man Cybern. 9, 62 (1979).
    """
    values = check_volume(density, "the density")
    known = check_volume_mask(mask, "the mask", values.shape) & np.isfinite(values)
    if not 0 < neck < 1 or not min(min_diameter, voxel_size, widest_crack) > 0:
        raise EdgeFittingError(
            "neck must be between 0 and 1; min_diameter, widest_crack and voxel_size above 0."
        )
    levels, smooth = material_levels(values, known, threshold)
    solid = np.asarray(smooth > levels.threshold)  # what is not known is none
    radius_px = 0.5 * widest_crack / voxel_size
    rough = _parted(solid, neck, min_diameter / voxel_size, radius_px)
    labels = _with_cracks(rough, solid, _MOUTH * 2.0 * radius_px, min_diameter / voxel_size)
    labels[~known] = 0
    if not labels.any():
        raise EdgeFittingError(
            f"no particle of {min_diameter:g} or more in diameter is above the threshold {levels.threshold:.4g}."
        )
    return VolumeSegmentation(labels, solid & (labels > 0), smooth, levels, float(voxel_size))


def _parted(solid: Mask, neck: float, least_px: float, radius_px: float) -> Labels:
    """Label each voxel of the solid, parts that touch apart."""
    from skimage.segmentation import expand_labels

    step = max(1, int(np.ceil((solid.size / _SPLIT_VOXELS) ** (1 / 3))))
    coarse = _binned(solid, step)
    if not coarse.any():
        return np.zeros(solid.shape, np.int32)
    found = _watershed(closed_by_ball(coarse, radius_px / step), neck, least_px / step)
    found = expand_labels(found, 2.0)
    for axis in range(3):
        found = np.repeat(found, step, axis=axis)
    return np.where(solid, found[tuple(slice(size) for size in solid.shape)], 0).astype(np.int32)


def _binned(solid: Mask, step: int) -> Mask:
    """Return where at least half of a block of voxels is solid."""
    if step == 1:
        return solid
    padded = np.pad(solid, [(0, -size % step) for size in solid.shape], mode="edge")
    blocks = padded.reshape([n for size in padded.shape for n in (size // step, step)])
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32) >= 0.5)


def _watershed(whole: Mask, neck: float, least_px: float) -> Labels:
    from scipy import ndimage
    from skimage.segmentation import watershed

    # Where the volume cuts a particle there is no surface.
    depth = ndimage.distance_transform_edt(np.pad(whole, 1, mode="edge"))[1:-1, 1:-1, 1:-1]
    if whole.all():
        return whole.astype(np.int32)
    depth = ndimage.gaussian_filter(depth.astype(np.float32), _SMOOTHING_PX)
    return np.asarray(watershed(-depth, _seeds(depth, whole, neck, 0.5 * least_px), mask=whole), np.int32)


def _seeds(depth: Volume, whole: Mask, neck: float, least_px: float) -> Labels:
    """Mark the cores of the particles."""
    from scipy import ndimage
    from skimage.morphology import local_maxima, reconstruction

    step = max(1, int(np.ceil((depth.size / _SEED_VOXELS) ** (1 / 3))))
    sparse = (slice(None, None, step),) * 3
    least = np.float32(_SMOOTHING_PX / 4)
    height = np.log(np.where(whole, np.maximum(depth, least), least))[sparse]
    lowered = reconstruction(height + np.log(neck), height, method="dilation")
    cores = local_maxima(lowered, connectivity=3) & whole[sparse]
    found, n_found = ndimage.label(cores, np.ones((3, 3, 3)))
    marks = np.zeros(depth.shape, np.int32)
    marks[sparse] = found
    # A part that is too small to be a particle seeds none, unless it stands alone.
    deep = np.zeros(n_found + 1)
    np.maximum.at(deep, found.ravel(), depth[sparse].ravel())
    deep[0] = 0.0
    marks = np.where((deep >= least_px)[marks], marks, 0)
    parts, n_parts = ndimage.label(whole, np.ones((3, 3, 3)))
    seeded = np.zeros(n_parts + 1, dtype=bool)
    seeded[parts[marks > 0]] = True
    return np.where(whole & ~seeded[parts], n_found + parts, marks).astype(np.int32)


def _with_cracks(rough: Labels, solid: Mask, radius_px: float, least_px: float) -> Labels:
    """Give each particle what is closed in and the cracks that open to its surface; leave out the small."""
    from scipy import ndimage

    out = np.zeros(rough.shape, np.int32)
    smallest = np.pi / 6.0 * least_px**3
    number = 0
    boxes = [(label, box) for label, box in enumerate(ndimage.find_objects(rough), start=1) if box]
    for label, box in sorted(boxes, key=lambda one: tuple(side.start for side in one[1])):
        wide = around(box, int(radius_px) + 2, rough.shape)
        own = rough[wide] == label
        whole = closed_by_ball(own, radius_px) & (own | ~solid[wide])
        if np.count_nonzero(whole) < smallest:
            continue
        number += 1
        target: NDArray[np.int32] = out[wide]
        target[whole & (target == 0)] = number
    return out
