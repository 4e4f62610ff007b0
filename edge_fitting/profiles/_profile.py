"""A measured profile, the particle it belongs to, and how deep the light sees into it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

__all__ = ["ParticleShape", "Profile"]

Array = NDArray[np.float64]

_KINDS = ("slab", "cylinder", "sphere")
_SEEN = ("point", "section", "projection")
# A distance may lie outside the particle by rounding, in parts of its size.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class ParticleShape:
    """Shape of a particle, and what part of its depth a pixel averages.

    Attributes
    ----------
    kind : {"slab", "cylinder", "sphere"}
        What the diffusion goes through: from both faces, from the mantle, from the surface.
    size_nm : float
        Half the thickness of the slab, or the radius.
    seen : {"point", "section", "projection"}
        "point": a pixel shows the concentration at its distance from the surface (a slab, or a cylinder seen along its
        axis). "section": it shows the mean over the depth of a section through a sphere, or along a cylinder that
        lies in the plane. "projection": the mean over the whole particle.
    section_nm : float
        Thickness of the section.
    centre_nm : float
        Distance of the middle of the section from the middle of the particle.
    """

    kind: Literal["slab", "cylinder", "sphere"]
    size_nm: float
    seen: Literal["point", "section", "projection"] = "point"
    section_nm: float = math.inf
    centre_nm: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise EdgeFittingError(f"a particle is a {', '.join(_KINDS)}, not {self.kind!r}.")
        if self.seen not in _SEEN:
            raise EdgeFittingError(f"a particle is seen as {', '.join(_SEEN)}, not {self.seen!r}.")
        if not (math.isfinite(self.size_nm) and self.size_nm > 0):
            raise EdgeFittingError(f"the size of a particle has to be above 0 nm, not {self.size_nm:g}.")
        if self.kind == "slab" and self.seen != "point":
            raise EdgeFittingError('a slab stands on its edge: its depth has no gradient, give seen="point".')
        if self.seen == "section":
            if not (math.isfinite(self.section_nm) and self.section_nm > 0):
                raise EdgeFittingError(f"a section needs its thickness in nm, not {self.section_nm:g}.")
            if abs(self.centre_nm) - 0.5 * self.section_nm >= self.size_nm:
                raise EdgeFittingError(
                    f"a section of {self.section_nm:g} nm at {self.centre_nm:g} nm from the middle does not cut a "
                    f"particle of {self.size_nm:g} nm."
                )

    @property
    def edge_nm(self) -> float:
        """Radius of the outline that the image shows: less than the size where the section is off the middle."""
        return math.sqrt(self.size_nm**2 - min(self._nearest_nm(), self.size_nm) ** 2)

    def _nearest_nm(self) -> float:
        if self.seen != "section":
            return 0.0
        return max(abs(self.centre_nm) - 0.5 * self.section_nm, 0.0)

    def depths_nm(self, distance_nm: Array) -> tuple[Array, Array, Array]:
        """Return radius in the image plane and the lowest and highest depth that each point averages, nm."""
        radius = np.clip(self.edge_nm - distance_nm, 0.0, None)
        if self.seen == "point":
            zero = np.zeros_like(radius)
            return radius, zero, zero
        chord = np.sqrt(np.clip(self.size_nm**2 - radius**2, 0.0, None))
        if self.seen == "projection":
            return radius, -chord, chord
        low = np.maximum(self.centre_nm - 0.5 * self.section_nm, -chord)
        high = np.minimum(self.centre_nm + 0.5 * self.section_nm, chord)
        return radius, low, np.maximum(high, low)


@dataclass(frozen=True, eq=False)
class Profile:
    """Concentration, or any state that moves with it, against the distance from the edge of a particle.

    Attributes
    ----------
    distance_nm : array_like, shape (n,)
        Distance from the outline in the image, inward.
    value : array_like, shape (n,)
        Concentration, fraction or valence; points that are not finite are left out.
    sigma : array_like, shape (n,)
        Standard deviation of each point.
    shape : ParticleShape
        The particle.
    elapsed_s, elapsed_sigma_s : float
        How long the diffusion went on, and the standard deviation of that.
    """

    distance_nm: ArrayLike
    value: ArrayLike
    sigma: ArrayLike
    shape: ParticleShape
    elapsed_s: float = math.nan
    elapsed_sigma_s: float = 0.0
    points: tuple[Array, Array, Array] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            distance, value = (np.asarray(x, dtype=np.float64) for x in (self.distance_nm, self.value))
            sigma = np.broadcast_to(np.asarray(self.sigma, dtype=np.float64), value.shape)
        except (TypeError, ValueError):
            raise EdgeFittingError(
                "a profile needs numbers: distances in nm, values and their sigmas."
            ) from None
        if distance.ndim != 1 or distance.shape != value.shape:
            raise EdgeFittingError(
                f"a profile needs one value for each distance, not {value.shape} for {distance.shape}."
            )
        good = np.isfinite(distance) & np.isfinite(value) & np.isfinite(sigma)
        distance, value, sigma = distance[good], value[good], sigma[good]
        if (sigma <= 0).any():
            raise EdgeFittingError("the sigma of each point of a profile has to be above 0.")
        edge = self.shape.edge_nm
        outside = (distance < -_ROUNDING * edge) | (distance > edge * (1.0 + _ROUNDING))
        if outside.any():
            raise EdgeFittingError(
                f"a point of the profile lies {distance[outside][0]:g} nm from the edge of a particle that reaches "
                f"0 to {edge:g} nm: check the size, and that both are in nm."
            )
        object.__setattr__(self, "points", (distance, value, sigma))
