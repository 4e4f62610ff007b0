"""The sample as the camera sees it: its transmission, displaced, magnified and blurred."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter

from scan_contract import optional_import

from ._exposure import Exposure
from ._optics import defocus_px
from ._render import RowBlocks, SampleArrays, resample_columns, resample_rows, transmit
from ._sample import SampleMaps
from ._settings import OpticsSettings
from ._volume import ProjectedVolume

with optional_import("sim", "simulated beamlines"):
    import xraydb

__all__ = ["Projection"]

_SHARP_PX = 0.1
# What a cubic spline takes from beyond its own place fades within so many pixels.
_SPLINE_REACH = 12
_FILM_EV = 8000.0


class Projection:
    """Transmission images of samples.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the camera.
    margin : int
        By how much the sample's maps reach beyond the frame on all sides.
    pixel_size_nm : float
        Pixel size at the sample.
    optics : OpticsSettings
        The optics.
    blocks : RowBlocks
        Runs the kernels.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        margin: int,
        pixel_size_nm: float,
        optics: OpticsSettings,
        blocks: RowBlocks,
    ) -> None:
        self.shape = shape
        self._margin = margin
        self._pixel_size_nm = pixel_size_nm
        self._optics = optics
        self._blocks = blocks
        self._kept: tuple[tuple[object, ...], SampleMaps, NDArray[np.float32]] | None = None

    def transmission(self, sample: SampleMaps, exposure: Exposure) -> NDArray[np.float32]:
        """Transmission of the sample as the camera sees it; kept while nothing changes."""
        placed = (exposure.shift_px, exposure.magnification, exposure.rotation_deg)
        key = (exposure.true_ev, placed, exposure.defocus_um)
        if self._kept is not None and self._kept[0] == key and self._kept[1] is sample:
            return self._kept[2]
        film = np.float32(0.0)
        if sample.film_depth > 0.0:
            carbon = xraydb.mu_elam("C", exposure.true_ev) / xraydb.mu_elam("C", _FILM_EV)
            film = np.float32(sample.film_depth * float(carbon))
        if isinstance(sample, ProjectedVolume):
            table = sample.absorption(exposure.true_ev)
        else:
            table = sample.absorber.table(exposure.true_ev)
        if placed == ((0.0, 0.0), 1.0, 0.0):
            seen = self._without_displacement(sample, table, film, (self._margin, self._margin), self.shape)
        elif exposure.rotation_deg != 0.0:
            seen = self._turned(sample, table, film, exposure)
        else:
            seen = self._with_displacement(sample, table, film, exposure)
        spread_px = min(defocus_px(self._optics, self._pixel_size_nm, exposure), max(self.shape))
        if spread_px > _SHARP_PX:
            seen = gaussian_filter(seen, spread_px, mode="nearest", truncate=3.0)
        self._kept = (key, sample, seen)
        return seen

    def _without_displacement(
        self,
        sample: SampleMaps,
        table: NDArray[np.float32],
        film: np.float32,
        origin: tuple[int, int],
        shape: tuple[int, int],
    ) -> NDArray[np.float32]:
        """Transmission of a window of the sample's maps, which repeat themselves beyond their border."""
        if isinstance(sample, ProjectedVolume):
            return _through_volume(sample, table, film, origin, shape)
        out = np.empty(shape, dtype=np.float32)
        arrays = SampleArrays(sample.areal, sample.soc, sample.soc_variance)
        self._blocks.run(transmit, shape[0], origin, arrays, table, film, out)
        return out

    def _with_displacement(
        self, sample: SampleMaps, table: NDArray[np.float32], film: np.float32, exposure: Exposure
    ) -> NDArray[np.float32]:
        """Shifted and magnified transmission: the window that is needed, interpolated along both axes."""
        (rows, row_weight), (cols, col_weight) = (
            neighbours(size, self._margin, shift, exposure.magnification)
            for size, shift in zip(self.shape, exposure.shift_px, strict=True)
        )
        origin = (int(rows.min()), int(cols.min()))
        extent = (int(rows.max()) + 4 - origin[0], int(cols.max()) + 4 - origin[1])
        window = self._without_displacement(sample, table, film, origin, extent)
        half = np.empty((extent[0], self.shape[1]), dtype=np.float32)
        self._blocks.run(resample_columns, extent[0], window, cols - origin[1], col_weight, half)
        out = np.empty(self.shape, dtype=np.float32)
        self._blocks.run(resample_rows, self.shape[0], half, rows - origin[0], row_weight, out)
        return out

    def _turned(
        self, sample: SampleMaps, table: NDArray[np.float32], film: np.float32, exposure: Exposure
    ) -> NDArray[np.float32]:
        """Transmission turned and magnified about the middle, then shifted: cubic splines in both axes at once."""
        angle = math.radians(exposure.rotation_deg)
        cos, sin = math.cos(angle), math.sin(angle)
        back = np.array([[cos, sin], [-sin, cos]]) / exposure.magnification
        middle = 0.5 * (np.array(self.shape) - 1.0)
        place = middle + self._margin - back @ (middle + np.array(exposure.shift_px))
        corners = np.array(
            [(i * (self.shape[0] - 1), j * (self.shape[1] - 1)) for i in (0, 1) for j in (0, 1)]
        )
        reached = corners @ back.T + place
        origin = np.floor(reached.min(axis=0)).astype(int) - _SPLINE_REACH
        extent = np.ceil(reached.max(axis=0)).astype(int) + _SPLINE_REACH - origin
        window = self._without_displacement(
            sample, table, film, (int(origin[0]), int(origin[1])), (int(extent[0]), int(extent[1]))
        )
        seen: NDArray[np.float32] = affine_transform(
            window, back, place - origin, output_shape=self.shape, order=3, mode="nearest"
        )
        return seen


def _through_volume(
    sample: ProjectedVolume,
    absorption: NDArray[np.float32],
    film: np.float32,
    origin: tuple[int, int],
    shape: tuple[int, int],
) -> NDArray[np.float32]:
    """Transmission of a window of a turned volume, beyond whose border there is nothing."""
    depth = np.full(shape, film, dtype=np.float32)
    _, rows, cols = sample.components.shape
    top, left = max(origin[0], 0), max(origin[1], 0)
    bottom, right = min(origin[0] + shape[0], rows), min(origin[1] + shape[1], cols)
    if bottom > top and right > left:
        inside = sample.components[:, top:bottom, left:right]
        place = (slice(top - origin[0], bottom - origin[0]), slice(left - origin[1], right - origin[1]))
        depth[place] += np.tensordot(absorption, inside, axes=1)
    return np.asarray(np.exp(-depth), np.float32)


def neighbours(
    size: int, margin: int, shift_px: float, magnification: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """First of four neighbours in maps with a margin, and their cubic (Catmull-Rom) weights, for `size` pixels.

    The centre of the image stays where it is under magnification.
    """
    centre = (size - 1) / 2
    place = (np.arange(size) - centre - shift_px) / magnification + centre + margin
    first = np.floor(place).astype(np.int64) - 1
    t = place - first - 1
    weight = np.stack(
        [
            0.5 * (-t + 2 * t**2 - t**3),
            0.5 * (2 - 5 * t**2 + 3 * t**3),
            0.5 * (t + 4 * t**2 - 3 * t**3),
            0.5 * (-(t**2) + t**3),
        ],
        axis=1,
    )
    return first, weight.astype(np.float32)
