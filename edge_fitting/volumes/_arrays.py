"""What the steps of a volume's analysis share: checks, types, balls by distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

Volume = NDArray[np.float32]
Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]
Array = NDArray[np.float64]
Box = tuple[slice, ...]

_FEWEST_VOXELS = 4


def check_volume(values: ArrayLike, what: str, shape: tuple[int, ...] | None = None) -> Volume:
    """Return a volume as float32, (planes, rows, columns)."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise EdgeFittingError(f"{what} must hold real numbers, not {array.dtype}.")
    if array.ndim != 3 or min(array.shape) < _FEWEST_VOXELS:
        raise EdgeFittingError(
            f"{what} must be (planes, rows, columns) of {_FEWEST_VOXELS} or more each, not of shape {array.shape}."
        )
    if shape is not None and array.shape != shape:
        raise EdgeFittingError(f"{what} has shape {array.shape} but the density has {shape}.")
    return array.astype(np.float32, copy=False)


def check_volume_mask(mask: ArrayLike | None, what: str, shape: tuple[int, ...]) -> Mask:
    """Return a mask of a volume; all of it where there is none."""
    if mask is None:
        return np.ones(shape, dtype=bool)
    return np.asarray(check_volume(mask, what, shape) > 0)


def around(box: Box, margin: int, shape: tuple[int, ...]) -> Box:
    """Return a box with a margin, within the volume."""
    return tuple(
        slice(max(side.start - margin, 0), min(side.stop + margin, size))
        for side, size in zip(box, shape, strict=True)
    )


def depth_inside(mask: Mask) -> NDArray[np.float32]:
    """Distance in voxels of the centre of each voxel of a mask to its surface; where the array ends there is none."""
    from scipy import ndimage

    padded = np.pad(mask, 1, mode="edge")
    if padded.all():
        return np.full(mask.shape, np.inf, np.float32)
    depth = ndimage.distance_transform_edt(padded)[1:-1, 1:-1, 1:-1] - 0.5
    return np.where(mask, depth, 0.0).astype(np.float32)


def closed_by_ball(mask: Mask, radius: float) -> Mask:
    """Close gaps up to twice a radius wide, and fill what is closed in."""
    from scipy import ndimage

    if not mask.any():
        return mask
    reach = int(np.ceil(radius)) + 1
    padded = np.pad(mask, reach, mode="edge")
    grown = ndimage.distance_transform_edt(~padded) <= radius
    if not grown.all():
        grown = ndimage.distance_transform_edt(grown) > radius
    inner = (slice(reach, -reach),) * 3
    return np.asarray(ndimage.binary_fill_holes(grown[inner] | mask))


def grown(mask: Mask, reach: float) -> Mask:
    """Return a mask with all voxels within a reach of it."""
    from scipy import ndimage

    return np.asarray(ndimage.distance_transform_edt(~mask) <= reach) if mask.any() else mask
