"""A volume seen from a corner, with the octant towards the viewer cut out: shaded surfaces, no graphics card."""

from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

_LONGEST = 130
_LARGEST = 230.0
_UP_DEGREES, _TURN_DEGREES = 30.0, 35.0
_LIGHT = np.array([-0.75, -0.35, -0.55])
_CRACK = np.array([0.10, 0.02, 0.02])


def render_volume(
    labels: npt.NDArray[np.int32],
    cracks: npt.NDArray[np.uint8],
    inside: npt.NDArray[np.float32],
    colours: npt.NDArray[np.float64],
    limits: tuple[float, float],
) -> npt.NDArray[np.float64]:
    """Draw particles from outside in the colour of each, and where they are cut in the colour of a quantity.

    Parameters
    ----------
    labels, cracks : ndarray, shape (planes, rows, columns)
        Particle of each voxel, and where it is crack.
    inside : ndarray of float32
        What the cut shows; NaN is gray.
    colours : ndarray, shape (n_particles + 1, 3)
        Colour of each particle by its label.
    limits : (float, float)
        Range of the colours of the cut.

    Returns
    -------
    ndarray, shape (height, width, 4)
        Red, green, blue and opacity.
    """
    from scipy import ndimage

    step = max(1, -(-max(labels.shape) // _LONGEST))
    coarse = (slice(None, None, step),) * 3
    labels, cracks, inside = labels[coarse], cracks[coarse], inside[coarse]
    solid = (labels > 0) & (cracks != 1)
    outer = ndimage.binary_erosion(labels > 0, iterations=2)
    solid[_front(labels.shape)] = False
    turned, to_source = _turned(solid)
    hit = turned > 0.5
    first = hit.argmax(axis=0)
    seen = hit.any(axis=0)
    rows, columns = np.nonzero(seen)
    depth = first[rows, columns]
    normal = np.stack(
        [axis[depth, rows, columns] for axis in np.gradient(ndimage.gaussian_filter(turned, 1.0))]
    )
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-6)
    # The gradient points into the material, and so does the light.
    light = 0.45 + 0.55 * np.clip(-(_LIGHT / np.linalg.norm(_LIGHT)) @ normal, 0.0, 1.0)
    # A little below the surface, where the nearest voxel is one of the material.
    below = np.stack([depth + 1.0 * _finer(labels.shape), rows, columns])
    nearest = np.rint(to_source(below)).astype(int)
    place = tuple(np.clip(axis, 0, size - 1) for axis, size in zip(nearest, labels.shape, strict=True))
    colour = colours[labels[place]]
    cut = outer[place]
    value = inside[place]
    shown = (value - limits[0]) / max(limits[1] - limits[0], 1e-12)
    of_value = np.where(
        np.isfinite(value)[:, None], mpl.colormaps["viridis"](np.clip(shown, 0, 1))[:, :3], 0.6
    )
    colour = np.where(cut[:, None], of_value, colour)
    colour = np.where((cracks[place] == 2)[:, None], _CRACK, colour)
    picture = np.zeros((*seen.shape, 4))
    picture[rows, columns, :3] = np.clip(colour * light[:, None], 0.0, 1.0)
    picture[rows, columns, 3] = 1.0
    return _trimmed(picture)


def _finer(shape: tuple[int, ...]) -> float:
    """Return pixels of the picture a voxel."""
    return float(np.clip(_LARGEST / np.linalg.norm(shape), 1.0, 3.0))


def _front(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the octant towards the viewer: first planes, last rows, first columns."""
    planes, rows, columns = (size // 2 for size in shape)
    return slice(0, planes), slice(rows, None), slice(0, columns)


def _turned(solid: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float32], Any]:
    """Turn a mask to the viewer, who looks along its first axis; returns also where a place of it is from."""
    from scipy import ndimage

    up, turn = np.deg2rad(_UP_DEGREES), np.deg2rad(_TURN_DEGREES)
    # Axes of the picture (away from the viewer, down, right) in those of the volume (plane, row, column): planes lie
    # on each other from the top down.
    away = np.array([np.sin(up), -np.cos(up) * np.cos(turn), np.cos(up) * np.sin(turn)])
    right = np.array([0.0, np.sin(turn), np.cos(turn)])
    down = np.cross(right, away)
    down *= np.sign(down[0]) or 1.0
    matrix = np.stack([away, down, right], axis=1)
    finer = _finer(solid.shape)
    size = int(np.ceil(np.linalg.norm(solid.shape) * finer))
    matrix /= finer
    middle = (np.array(solid.shape) - 1) / 2
    offset = middle - matrix @ np.full(3, (size - 1) / 2)
    turned = ndimage.affine_transform(
        solid.astype(np.float32), matrix, offset, output_shape=(size,) * 3, order=1
    )
    return turned, lambda place: matrix @ place + offset[:, None]


def _trimmed(picture: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    seen = picture[..., 3] > 0
    if not seen.any():
        return picture
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
