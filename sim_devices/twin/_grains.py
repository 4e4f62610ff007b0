"""Primary grains in a field: where they are, how thick, and what state they are in at which depth."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from beamline_devices import DeviceError

__all__ = ["GrainField", "GrainSettings", "grain_field"]

Array = NDArray[np.float64]

_CM2_PER_NM2 = 1e-14
_N_TERMS = 200
_N_DEPTHS = 64
_N_RADII = 240
_PIXEL_NM = 10.0
_TRIES = 4000
_GAP_NM = 60.0


@dataclass(frozen=True)
class GrainSettings:
    """Grains of one field.

    Attributes
    ----------
    seed : int
        Of sizes and places.
    n_grains : int
        How many are tried.
    radius_nm : tuple of float
        Smallest and largest radius.
    field_um : float
        Side of the field; its border has no grain.
    section_nm : float or None
        Thickness of the section through the middles of the grains; None for whole grains.
    profile : {"diffusion", "core_shell"}
        What the state does below the surface.
    diffusivity_cm2_s, elapsed_s : float
        Diffusivity of the vacancies and how long they diffused.
    shell_nm : float
        Thickness of the shell.
    start, surface : float
        State of the inside and at the surface, 0 reduced to 1 oxidised.
    """

    seed: int = 1
    n_grains: int = 9
    radius_nm: tuple[float, float] = (220.0, 380.0)
    field_um: float = 3.2
    section_nm: float | None = 80.0
    profile: Literal["diffusion", "core_shell"] = "diffusion"
    diffusivity_cm2_s: float = 1e-17
    elapsed_s: float = 2.4e6
    shell_nm: float = 60.0
    start: float = 0.95
    surface: float = 0.15

    def __post_init__(self) -> None:
        low, high = self.radius_nm
        if not (0 < low <= high and 2e-3 * high < self.field_um):
            raise DeviceError(
                f"grains of {low:g} to {high:g} nm do not fit into a field of {self.field_um:g} um"
            )
        if self.section_nm is not None and not self.section_nm > 0:
            raise DeviceError(f"a section has a thickness above 0 nm, not {self.section_nm:g}")
        if self.profile not in ("diffusion", "core_shell"):
            raise DeviceError(f"a profile is 'diffusion' or 'core_shell', not {self.profile!r}")


@dataclass(frozen=True, eq=False)
class GrainField:
    """What is in the field, on a fine raster.

    Attributes
    ----------
    pixel_nm : float
        Distance of the points; row and column 0 are at -field/2.
    state : ndarray, shape (rows, cols)
        Mean state over the depth, 0 to 1; NaN where there is nothing.
    thickness_nm : ndarray, shape (rows, cols)
        Thickness.
    labels : ndarray of int, shape (rows, cols)
        Number of the grain from 1.
    radius_nm : ndarray, shape (n_grains,)
        Their radii.
    """

    pixel_nm: float
    state: Array
    thickness_nm: Array
    labels: NDArray[np.int64]
    radius_nm: Array


def state_below_surface(settings: GrainSettings, radius_nm: float, r_nm: Array) -> Array:
    """Return the state at distances from the middle of a grain."""
    if settings.profile == "core_shell":
        return np.where(r_nm > radius_nm - settings.shell_nm, settings.surface, settings.start)
    tau = settings.diffusivity_cm2_s * settings.elapsed_s / (radius_nm**2 * _CM2_PER_NM2)
    x = np.clip(r_nm / radius_nm, 1e-9, 1.0)
    gone = np.ones_like(x)
    for n in range(1, _N_TERMS):
        decay = (n * math.pi) ** 2 * tau
        if decay > 50.0:
            break
        gone += 2.0 * (-1) ** n / (n * math.pi * x) * np.sin(n * math.pi * x) * math.exp(-decay)
    return settings.start + (settings.surface - settings.start) * gone


def _seen(settings: GrainSettings, radius_nm: float) -> tuple[Array, Array, Array]:
    """Radii in the image, and thickness and mean state there."""
    r = np.linspace(0.0, radius_nm, _N_RADII)
    half = np.sqrt(radius_nm**2 - r**2)
    if settings.section_nm is not None:
        half = np.minimum(half, 0.5 * settings.section_nm)
    depths = (np.arange(_N_DEPTHS) + 0.5) / _N_DEPTHS * half[:, None]
    below = state_below_surface(settings, radius_nm, np.hypot(r[:, None], depths))
    return r, 2.0 * half, below.mean(axis=1)


def grain_field(settings: GrainSettings) -> GrainField:
    """Return grains that do not overlap."""
    rng = np.random.default_rng([settings.seed, 21])
    size = round(settings.field_um * 1e3 / _PIXEL_NM)
    at = (np.arange(size) + 0.5) * _PIXEL_NM - 0.5 * settings.field_um * 1e3
    state = np.full((size, size), np.nan)
    thickness, labels = np.zeros((size, size)), np.zeros((size, size), np.int64)
    placed: list[tuple[float, float, float]] = []
    edge = 0.5 * settings.field_um * 1e3
    for _ in range(_TRIES):
        if len(placed) == settings.n_grains:
            break
        radius = float(rng.uniform(*settings.radius_nm))
        y, x = rng.uniform(-edge + radius + 2 * _GAP_NM, edge - radius - 2 * _GAP_NM, 2)
        if all(math.hypot(y - b, x - a) > radius + r + _GAP_NM for b, a, r in placed):
            placed.append((float(y), float(x), radius))
    for number, (y, x, radius) in enumerate(placed, start=1):
        r, thick, mean = _seen(settings, radius)
        distance = np.hypot(at[:, None] - y, at[None, :] - x)
        inside = distance < radius
        state[inside] = np.interp(distance[inside], r, mean)
        thickness[inside] = np.interp(distance[inside], r, thick)
        labels[inside] = number
    return GrainField(_PIXEL_NM, state, thickness, labels, np.array([radius for *_, radius in placed]))
