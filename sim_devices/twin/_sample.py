"""The sample: maps of what the beam passes through."""

from dataclasses import dataclass, fields
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ._absorption import NMC622, Absorber
from ._constants import FWHM_PER_SIGMA
from ._settings import SampleSettings

__all__ = ["SampleMaps", "electrode", "uniform"]


@dataclass(frozen=True)
class SampleMaps:
    """What the twin needs to know of a sample.

    Attributes
    ----------
    absorber : Absorber
        Absorption of what the maps describe.
    areal : ndarray float32 (maps, rows, cols)
        Thickness in um, for an oxide times the fraction of each metal.
    soc : ndarray float32 (rows, cols)
        State of charge along the ray, weighted with thickness.
    soc_variance : ndarray float32 (rows, cols)
        Its variance along the ray.
    particle : ndarray int32 (rows, cols)
        Number of the secondary particle that is thickest along the ray, 0 beside them all.
    crack : ndarray float32 (rows, cols)
        Share of that particle's thickness that its cracks take away.
    film_depth : float
        Optical depth at 8 keV of what carries the particles.
    """

    absorber: Absorber
    areal: NDArray[np.float32]
    soc: NDArray[np.float32]
    soc_variance: NDArray[np.float32]
    particle: NDArray[np.int32]
    crack: NDArray[np.float32]
    film_depth: float


def uniform(
    shape: tuple[int, int], absorber: Absorber, areal_um: tuple[float, ...], soc: float
) -> SampleMaps:
    """Return a pellet or foil without structure; `areal_um` is the value of each of its maps."""
    areal = np.empty((len(areal_um), *shape), dtype=np.float32)
    areal[:] = np.asarray(areal_um, dtype=np.float32)[:, None, None]
    return SampleMaps(
        absorber=absorber,
        areal=areal,
        soc=np.full(shape, soc, dtype=np.float32),
        soc_variance=np.zeros(shape, dtype=np.float32),
        particle=np.ones(shape, dtype=np.int32),
        crack=np.zeros(shape, dtype=np.float32),
        film_depth=0.0,
    )


@dataclass
class _Sums:
    """What has been laid along each ray so far."""

    thickness: NDArray[np.float32]
    charge: NDArray[np.float32]
    charge2: NDArray[np.float32]
    nickel: NDArray[np.float32]
    thickest: NDArray[np.float32]
    crack: NDArray[np.float32]
    particle: NDArray[np.int32]

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> "_Sums":
        layers: dict[str, Any] = {field.name: np.zeros(shape, np.float32) for field in fields(cls)}
        return cls(**{**layers, "particle": np.zeros(shape, np.int32)})


def electrode(
    shape: tuple[int, int],
    pixel_size_nm: float,
    blur_nm: float,
    settings: SampleSettings,
    absorber: Absorber,
    rng: np.random.Generator,
) -> SampleMaps:
    """Return an electrode of secondary particles made of primary grains.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    pixel_size_nm : float
        Pixel size at the sample.
    blur_nm : float
        Width (FWHM) of the point spread function, applied to the maps.
    settings : SampleSettings
        What the electrode is like.
    absorber : Absorber
        Its material.
    rng : numpy.random.Generator
        Random generator for its particles, grains and cracks.
    """
    pixel_um = pixel_size_nm * 1e-3
    height, width = shape[0] * pixel_um, shape[1] * pixel_um
    sums = _Sums.empty(shape)
    for number, (centre, radius) in enumerate(_place(height, width, settings, rng), start=1):
        _add_particle(sums, number, centre, radius, pixel_um, settings, rng)

    grain_of, n_grains = _grains(shape, settings.grain_nm / pixel_size_nm, rng)
    rough = np.clip(rng.normal(1.0, settings.grain_roughness, n_grains), 0.5, 1.5).astype(np.float32)
    uneven = rng.normal(0.0, settings.grain_spread, n_grains).astype(np.float32)
    safe = np.maximum(sums.thickness, np.float32(1e-6))
    soc = sums.charge / safe
    variance = np.maximum(sums.charge2 / safe - soc * soc, 0.0)
    soc = np.clip(soc + uneven[grain_of], 0.0, 1.0)
    thickness = sums.thickness * rough[grain_of]
    nickel = sums.nickel / safe
    base = np.asarray(NMC622, dtype=np.float32)[:, None, None]
    # Ni goes, Mn comes; Co stays.
    exchange = np.array([1.0, -1.0, 0.0], dtype=np.float32)[:, None, None]
    areal = thickness * (base + exchange * nickel)

    sigma_px = blur_nm / FWHM_PER_SIGMA / pixel_size_nm
    if sigma_px > 0.05:
        weight = gaussian_filter(thickness, sigma_px)
        scale = np.maximum(weight, np.float32(1e-6))
        soc = gaussian_filter(thickness * soc, sigma_px) / scale
        variance = gaussian_filter(thickness * variance, sigma_px) / scale
        areal = np.stack([gaussian_filter(layer, sigma_px) for layer in areal])
        thickness = weight
    empty = thickness < 1e-3
    soc = np.where(empty, settings.mean_soc, np.clip(soc, 0.0, 1.0))
    areal = np.where(empty, 0.0, areal)
    return SampleMaps(
        absorber=absorber,
        areal=np.ascontiguousarray(areal, dtype=np.float32),
        soc=np.ascontiguousarray(soc, dtype=np.float32),
        soc_variance=np.ascontiguousarray(np.where(empty, 0.0, variance), dtype=np.float32),
        particle=sums.particle,
        crack=sums.crack,
        film_depth=settings.film_depth,
    )


def _add_particle(
    sums: _Sums,
    number: int,
    centre: tuple[float, float],
    radius: float,
    pixel_um: float,
    settings: SampleSettings,
    rng: np.random.Generator,
) -> None:
    """Lay one particle, a dented sphere with a radial profile, on the sums."""
    rows, cols = sums.thickness.shape
    y, x = centre
    mean = float(np.clip(rng.normal(settings.mean_soc, settings.particle_spread), 0.08, 0.92))
    lobes = [(n, rng.normal(0.0, 0.03), rng.uniform(0.0, 2 * np.pi)) for n in range(2, 6)]
    n_cracks = int(rng.poisson(settings.cracks))
    cracks = [
        (rng.uniform(0.0, 2 * np.pi), rng.uniform(0.0, 0.4), rng.uniform(0.0, 2 * np.pi))
        for _ in range(n_cracks)
    ]
    reach = 1.25 * radius
    i0, i1 = max(int((y - reach) / pixel_um), 0), min(int((y + reach) / pixel_um) + 2, rows)
    j0, j1 = max(int((x - reach) / pixel_um), 0), min(int((x + reach) / pixel_um) + 2, cols)
    if i0 >= i1 or j0 >= j1:
        return
    dy = ((np.arange(i0, i1) + 0.5) * pixel_um - y)[:, None]
    dx = ((np.arange(j0, j1) + 0.5) * pixel_um - x)[None, :]
    angle = np.arctan2(dy, dx)
    outline = np.full(angle.shape, radius)
    for order, size, phase in lobes:
        outline *= 1.0 + size * np.cos(order * angle + phase)
    inside = np.clip(1.0 - (dy * dy + dx * dx) / (outline * outline), 0.0, None)
    whole = 2.0 * settings.density * radius * np.sqrt(inside)
    path = whole.copy()
    for direction, start, phase in cracks:
        along = (dx * np.cos(direction) + dy * np.sin(direction)) / radius
        across = dy * np.cos(direction) - dx * np.sin(direction) + 0.03 * radius * np.sin(9 * along + phase)
        gap = np.exp(-0.5 * (across / (0.5e-3 * settings.crack_nm + 0.3 * pixel_um)) ** 2)
        path *= 1.0 - 0.6 * gap * (along > start)
    # Along a chord at relative distance rho the profile a + b (r/R)^2 has mean a + b (1 + 2 rho^2) / 3 and variance
    # b^2 (1 - rho^2)^2 4/45; over the volume (r/R)^2 has mean 3/5.
    square = (3.0 - 2.0 * inside) / 3.0
    charge = np.clip(mean + settings.shell_excess * (square - 0.6), 0.0, 1.0)
    spread2 = settings.shell_excess**2 * inside**2 * (4.0 / 45.0)
    nickel = -settings.nickel_excess * (square - 0.6)
    window = np.s_[i0:i1, j0:j1]
    thicker = whole > sums.thickest[window]
    sums.thickest[window][thicker] = whole[thicker]
    sums.particle[window][thicker] = number
    sums.crack[window][thicker] = 1.0 - path[thicker] / whole[thicker]
    sums.thickness[window] += path
    sums.charge[window] += path * charge
    sums.charge2[window] += path * (charge * charge + spread2)
    sums.nickel[window] += path * nickel


def _place(
    height: float, width: float, settings: SampleSettings, rng: np.random.Generator
) -> list[tuple[tuple[float, float], float]]:
    """Return centres and radii in um of particles that hardly overlap, largest first."""
    low = settings.diameter_um[0] / 2
    high = max(min(settings.diameter_um[1] / 2, 0.2 * min(height, width)), low)
    wanted = settings.coverage * height * width
    radii: list[float] = []
    while sum(np.pi * r * r for r in radii) < wanted and len(radii) < 4000:
        radii.append(float(np.clip(rng.lognormal(np.log(0.55 * (low + high)), 0.35), low, high)))
    placed: list[tuple[tuple[float, float], float]] = []
    for radius in sorted(radii, reverse=True):
        for _ in range(200):
            y, x = float(rng.uniform(0.0, height)), float(rng.uniform(0.0, width))
            if all(np.hypot(y - a, x - b) > 0.92 * (radius + r) for (a, b), r in placed):
                placed.append(((y, x), radius))
                break
    return placed


def _grains(
    shape: tuple[int, int], size_px: float, rng: np.random.Generator
) -> tuple[NDArray[np.int32], int]:
    """Return the index of the primary grain of each pixel (a Voronoi pattern) and the number of grains.

    One grain grows from a random place in each cell of a square grid.
    """
    cell = max(size_px, 1.0)
    grid = (int(shape[0] / cell) + 1, int(shape[1] / cell) + 1)
    seeds = rng.random((*grid, 2))
    index = np.empty(shape, dtype=np.int32)
    _nearest_seed(seeds, cell, index)
    return index, grid[0] * grid[1]


@numba.njit(nogil=True, cache=True)
def _nearest_seed(seeds, cell, index):
    """Write the number of the nearest seed; seeds (rows, cols, 2) are places inside cells of width `cell`."""
    rows, cols = seeds.shape[:2]
    for i in range(index.shape[0]):
        y = (i + 0.5) / cell
        for j in range(index.shape[1]):
            x = (j + 0.5) / cell
            best = np.inf
            # A seed two cells away can be nearest; three cells away it cannot.
            for a in range(max(int(y) - 2, 0), min(int(y) + 3, rows)):
                for b in range(max(int(x) - 2, 0), min(int(x) + 3, cols)):
                    distance = (a + seeds[a, b, 0] - y) ** 2 + (b + seeds[a, b, 1] - x) ** 2
                    if distance < best:
                        best = distance
                        index[i, j] = a * cols + b
