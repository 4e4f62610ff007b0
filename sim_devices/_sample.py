"""The sample: maps of what the beam passes through."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from sim_devices._absorption import NMC622
from sim_devices._settings import SampleSettings

__all__ = ["SampleMaps", "electrode", "pellet"]


@dataclass(frozen=True)
class SampleMaps:
    """What the twin needs to know of a sample.

    Attributes
    ----------
    areal : ndarray float32 (metals, rows, cols)
        Thickness of oxide in um times the fraction of each metal.
    soc : ndarray float32 (rows, cols)
        State of charge along the ray, weighted with thickness.
    film_depth : float
        Optical depth at 8 keV of what carries the particles.
    """

    areal: NDArray[np.float32]
    soc: NDArray[np.float32]
    film_depth: float


def pellet(shape: tuple[int, int], thickness_um: float, soc: float) -> SampleMaps:
    """Uniform pellet of the electrode material at one state of charge."""
    areal = np.empty((len(NMC622), *shape), dtype=np.float32)
    areal[:] = (thickness_um * np.asarray(NMC622, dtype=np.float32))[:, None, None]
    return SampleMaps(areal=areal, soc=np.full(shape, soc, dtype=np.float32), film_depth=0.0)


def electrode(
    shape: tuple[int, int], pixel_size_nm: float, settings: SampleSettings, rng: np.random.Generator
) -> SampleMaps:
    """Electrode of secondary particles made of primary grains.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    pixel_size_nm : float
        Pixel size at the sample.
    settings : SampleSettings
        What the electrode is like.
    rng : numpy.random.Generator
        Source of its accidents.
    """
    rows, cols = shape
    pixel_um = pixel_size_nm * 1e-3
    centres, radii = _place(rows * pixel_um, cols * pixel_um, settings, rng)
    grain_of, n_grains = _grains(shape, settings.grain_nm / pixel_size_nm, rng)
    grain_thickness = rng.normal(1.0, 0.05, n_grains).astype(np.float32)
    grain_soc = rng.normal(0.0, settings.grain_spread, n_grains).astype(np.float32)

    thickness = np.zeros(shape, dtype=np.float32)
    charge = np.zeros(shape, dtype=np.float32)
    for (y, x), radius in zip(centres, radii, strict=True):
        reach = 1.2 * radius
        i0, i1 = max(int((y - reach) / pixel_um), 0), min(int((y + reach) / pixel_um) + 2, rows)
        j0, j1 = max(int((x - reach) / pixel_um), 0), min(int((x + reach) / pixel_um) + 2, cols)
        if i0 >= i1 or j0 >= j1:
            continue
        dy = ((np.arange(i0, i1) + 0.5) * pixel_um - y)[:, None]
        dx = ((np.arange(j0, j1) + 0.5) * pixel_um - x)[None, :]
        angle = np.arctan2(dy, dx)
        outline = radius * np.ones_like(angle)
        for order in range(2, 6):
            size = rng.normal(0.0, 0.03)
            outline = outline * (1.0 + size * np.cos(order * angle + rng.uniform(0.0, 2 * np.pi)))
        inside2 = np.clip(1.0 - (dy * dy + dx * dx) / (outline * outline), 0.0, None)
        path = (2.0 * settings.density * radius * np.sqrt(inside2)).astype(np.float32)
        mean = np.clip(rng.normal(settings.mean_soc, settings.particle_spread), 0.08, 0.92)
        # A radial profile c + shell (r/R)^2 averaged along the chord at relative distance rho: c + shell (1 + 2 rho^2) / 3;
        # 0.6 is its mean over the volume.
        radial = settings.shell_excess * ((3.0 - 2.0 * inside2) / 3.0 - 0.6)
        thickness[i0:i1, j0:j1] += path
        charge[i0:i1, j0:j1] += path * (mean + radial).astype(np.float32)

    soc = np.where(thickness > 0, charge / np.maximum(thickness, 1e-6), settings.mean_soc)
    soc = np.clip(soc + grain_soc[grain_of], 0.0, 1.0).astype(np.float32)
    thickness = thickness * grain_thickness[grain_of]
    # No edge of a particle is sharper than a pixel.
    weight = gaussian_filter(thickness, 0.5)
    soc = np.where(
        weight > 1e-4, gaussian_filter(thickness * soc, 0.5) / np.maximum(weight, 1e-6), settings.mean_soc
    )
    areal = np.asarray(NMC622, dtype=np.float32)[:, None, None] * weight
    return SampleMaps(
        areal=areal.astype(np.float32), soc=soc.astype(np.float32), film_depth=settings.film_depth
    )


def _place(
    height: float, width: float, settings: SampleSettings, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres (n, 2) and radii (n,) in um of particles that hardly overlap, largest first."""
    low = settings.diameter_um[0] / 2
    high = max(min(settings.diameter_um[1] / 2, 0.2 * min(height, width)), low)
    wanted = settings.coverage * height * width
    radii: list[float] = []
    while sum(np.pi * r * r for r in radii) < wanted and len(radii) < 4000:
        radii.append(float(np.clip(rng.lognormal(np.log(0.55 * (low + high)), 0.35), low, high)))
    placed: list[tuple[float, float]] = []
    kept: list[float] = []
    for radius in sorted(radii, reverse=True):
        for _ in range(200):
            y, x = rng.uniform(0.0, height), rng.uniform(0.0, width)
            gaps = [
                np.hypot(y - a, x - b) - 0.92 * (radius + r) for (a, b), r in zip(placed, kept, strict=True)
            ]
            if not gaps or min(gaps) > 0.0:
                placed.append((y, x))
                kept.append(radius)
                break
    return np.array(placed), np.array(kept)


def _grains(shape: tuple[int, int], size_px: float, rng: np.random.Generator) -> tuple[NDArray[np.intp], int]:
    """Index of the primary grain of each pixel (a Voronoi pattern) and the number of grains."""
    rows, cols = shape
    count = max(int(rows * cols / max(size_px, 1.0) ** 2), 1)
    seeds = rng.uniform((0.0, 0.0), (rows, cols), size=(count, 2))
    grid = np.indices(shape).reshape(2, -1).T + 0.5
    _, nearest = cKDTree(seeds).query(grid, workers=-1)
    return nearest.reshape(shape), count
