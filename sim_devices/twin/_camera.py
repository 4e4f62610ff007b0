"""The camera: its open beam and dark, and counts of what falls on it."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from ._render import CameraResponse, Illumination, RowBlocks, expose, normal_thirds
from ._settings import CameraSettings

__all__ = ["Camera"]


class Camera:
    """Turns photons into counts.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    settings : CameraSettings
        The knobs.
    stray_light : float
        Share of the open beam that reaches every pixel.
    seed : int
        Flaws of the chip and noise follow from it.
    blocks : RowBlocks
        Runs the kernel.

    Attributes
    ----------
    sensitivity, offset : ndarray of float32, shape (rows, cols)
        Open beam relative to its mean, and offset in counts.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        settings: CameraSettings,
        stray_light: float,
        seed: int,
        blocks: RowBlocks,
    ) -> None:
        rng = np.random.default_rng([seed, 2])
        self._shape = shape
        self._settings = settings
        self._stray_light = stray_light
        self._seed = seed
        self._blocks = blocks
        self.sensitivity, self._tilt = _flat_field(shape, settings, rng)
        self.offset, self._dark_per_s = _dark_field(shape, settings, rng)
        self._normal = normal_thirds()

    def frame(
        self, number: int, exposure_s: float, photons: float, tilt_factor: float, through: NDArray[np.float32]
    ) -> NDArray[np.uint16]:
        """Return the counts of a frame, shape (rows, cols).

        Parameters
        ----------
        number : int
            The frame's number, from which its noise follows.
        exposure_s : float
            Its exposure.
        photons : float
            Mean photons per pixel of the open beam during it.
        tilt_factor : float
            Strength of the tilt of the illumination across the field.
        through : ndarray of float32
            Transmission of what is in the beam; empty for nothing.
        """
        camera = self._settings
        seed = np.random.SeedSequence([self._seed, 4, number]).generate_state(1, np.uint64)[0]
        out = np.empty(self._shape, dtype=np.uint16)
        tilt = (tilt_factor * self._tilt[0], tilt_factor * self._tilt[1])
        light = Illumination(photons, tilt, self._stray_light, camera.shot_noise, exposure_s)
        response = CameraResponse(
            self.sensitivity,
            self.offset,
            self._dark_per_s,
            float(camera.gain),
            float(camera.full_well),
            float(camera.read_noise),
        )
        self._blocks.run(expose, self._shape[0], light, response, through, self._normal, seed, out)
        return out


def _flat_field(
    shape: tuple[int, int], camera: CameraSettings, rng: np.random.Generator
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Open beam relative to its mean, and the size of its tilt with energy along rows and columns."""
    rows, cols = shape
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, cols), indexing="ij")
    # Broad blotches, drawn coarsely: smoothing a full frame over their width would take seconds.
    coarse = max(min(shape) // 256, 1)
    blotches = rng.standard_normal((-(-rows // coarse), -(-cols // coarse)))
    blotches = gaussian_filter(blotches, max(min(blotches.shape) / 40.0, 1.0), mode="wrap")
    blotches = zoom(blotches, (rows / blotches.shape[0], cols / blotches.shape[1]), order=1)
    blotches /= max(float(blotches.std()), 1e-9)
    fine = rng.standard_normal(shape)
    shade = 1.0 - 1.5 * camera.structure * (x * x + y * y)
    flat = np.clip(shade * (1.0 + camera.structure * (0.6 * blotches + 0.2 * fine)), 0.05, None)
    flat /= flat.mean()
    flat[rng.random(shape) < camera.dead_pixels] = 0.0
    return flat.astype(np.float32), (-0.2 * camera.structure, 0.35 * camera.structure)


def _dark_field(
    shape: tuple[int, int], camera: CameraSettings, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Offset in counts and dark charge in photon equivalents per second of each pixel."""
    offset = camera.offset + camera.pattern_noise * rng.standard_normal(shape)
    charge = np.full(shape, camera.dark_per_s)
    charge[rng.random(shape) < camera.hot_pixels] = 1000.0 * max(camera.dark_per_s, 1.0)
    return offset.astype(np.float32), charge.astype(np.float32)
