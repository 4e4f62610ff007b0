"""Particles whose composition changes from surface to core, and what fluorescence of them leaves towards a detector."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamline_devices import DeviceError
from scan_contract import optional_import

from ._compounds import LAYERED_OXIDE

with optional_import("sim", "simulated beamlines"):
    import xraydb

__all__ = [
    "NANO_SAMPLES",
    "NMC442",
    "NMC701515",
    "GradientParticle",
    "NanoSample",
    "nickel_place",
    "nickel_spectrum",
]

Array = NDArray[np.float64]

NMC442: Mapping[str, float] = MappingProxyType({"Mn": 0.4, "Co": 0.2, "Ni": 0.4})
NMC701515: Mapping[str, float] = MappingProxyType({"Mn": 0.15, "Co": 0.15, "Ni": 0.7})

_DENSITY_G_CM3 = 4.7
_CM_PER_UM = 1e-4
_LIGHT = {"Li": 1.0, "O": 2.0}
_METALS = ("Mn", "Co", "Ni")
_NI_K_EV = 8333.0
_N_DEPTH, _N_WAY = 36, 14
# Nickel of a discharged oxide is the more oxidised the more nickel there is: place in the series of the twin.
_START_PER_NI, _NI_OF_START = 0.35 / 0.3, 0.4
_SERIES_NODES = np.linspace(0.0, 1.0, 17)


def nickel_place(ni_fraction: Any, soc: Any) -> Any:
    """Return the place in the twin's series of nickel for a composition and a state of charge."""
    start = np.clip(_START_PER_NI * (np.asarray(ni_fraction) - _NI_OF_START), 0.0, 0.6)
    return start + (1.0 - start) * np.asarray(soc)


@dataclass(frozen=True)
class GradientParticle:
    """A sphere of a layered oxide.

    Attributes
    ----------
    row_um, column_um : float
        Its middle.
    radius_um : float
        Its radius.
    core, surface : mapping of str to float
        Atomic fractions of Mn, Co and Ni.
    width_um : float
        Depth at which the composition has become that of the core.
    soc : float
        State of charge, the same everywhere.
    """

    row_um: float
    column_um: float
    radius_um: float
    core: Mapping[str, float] = field(default_factory=lambda: NMC701515)
    surface: Mapping[str, float] = field(default_factory=lambda: NMC442)
    width_um: float = 1.0
    soc: float = 0.0

    def __post_init__(self) -> None:
        if not (self.radius_um > 0 and self.width_um > 0):
            raise DeviceError("a particle needs a radius and a width of its gradient above 0")

    def fraction(self, element: str, depth_um: Any) -> Any:
        """Return the atomic fraction of a metal at a depth below the surface."""
        share = np.clip(1.0 - np.asarray(depth_um) / self.width_um, 0.0, 1.0)
        return self.core[element] + (self.surface[element] - self.core[element]) * share


@dataclass(frozen=True)
class _Rays:
    """A particle cut into columns along the beam, and those into pieces."""

    inside: NDArray[np.bool_]
    depth: Array
    dz: Array
    way_in: Array
    shell_in: Array
    way_out: Array
    shell_out: Array


@dataclass(frozen=True)
class NanoSample:
    """What the focus is scanned over.

    Attributes
    ----------
    particles : tuple of GradientParticle
        Particles; they do not touch.
    film_ug_cm2 : mapping of str to float
        Areal densities of an even film: a standard, or a contamination.
    extent_um : float
        Side of the field in which particles are.
    step_um : float
        Step of the grid on which the physics is calculated.
    angle_deg : float
        Angle between beam and detector, which lies towards greater columns.
    """

    particles: tuple[GradientParticle, ...] = ()
    film_ug_cm2: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({"Fe": 0.05}))
    extent_um: float = 16.0
    step_um: float = 0.125
    angle_deg: float = 90.0

    @property
    def elements(self) -> tuple[str, ...]:
        """Everything that gives lines."""
        metals = _METALS if self.particles else ()
        return tuple(dict.fromkeys((*metals, *self.film_ug_cm2)))

    @cached_property
    def axis_um(self) -> Array:
        """Positions of the grid along rows and columns."""
        half = self.extent_um / 2
        return np.arange(-half, half + self.step_um / 2, self.step_um)

    def emission(self, energy_ev: float) -> dict[str, Array]:
        """Return the photons of each element's K lines that leave towards the detector, per photon of the beam.

        Returns
        -------
        dict of str to ndarray, shape (n, n)
            Into the whole solid angle; ``scatter`` is mass per area times the cross-section of scattering.
        """
        shape = (self.axis_um.size,) * 2
        out = {name: np.zeros(shape) for name in (*self.elements, "scatter")}
        for name, density in self.film_ug_cm2.items():
            out[name] += density * 1e-6 * _emitted_per_g(name, energy_ev)
        for particle, rays in zip(self.particles, self._rays, strict=True):
            self._add(out, particle, rays, energy_ev)
        # The membrane of silicon nitride, 0.5 um.
        out["scatter"] += 1.6e-4 * _scattered_per_g("Si", energy_ev)
        return out

    def column_atoms(self) -> dict[str, Array]:
        """Return the number of atoms of each metal along the beam, mol/cm2."""
        out = {name: np.zeros((self.axis_um.size,) * 2) for name in _METALS}
        for particle, rays in zip(self.particles, self._rays, strict=True):
            for name in _METALS:
                per_um = _mol_per_cm3(particle.core) * _CM_PER_UM * particle.fraction(name, rays.depth)
                out[name][rays.inside] += (per_um * rays.dz).sum(axis=1)
        return out

    @cached_property
    def _rays(self) -> tuple[_Rays, ...]:
        return tuple(_rays(self.axis_um, particle, self.angle_deg) for particle in self.particles)

    def _add(self, out: dict[str, Array], particle: GradientParticle, rays: _Rays, energy_ev: float) -> None:
        into = _attenuation(particle, energy_ev)
        reach = np.exp(-into[0] * rays.way_in - (into[1] - into[0]) * rays.shell_in)
        moles = _mol_per_cm3(particle.core) * _CM_PER_UM * rays.dz
        for name in _METALS:
            per_mol = float(xraydb.atomic_mass(name)) * _emitted_per_g(name, energy_ev)
            fraction = particle.fraction(name, rays.depth)
            made = moles * fraction * per_mol * reach
            if name == "Ni" and abs(energy_ev - _NI_K_EV) < 400.0:
                place = nickel_place(particle.fraction("Ni", rays.depth), particle.soc)
                made = made * np.interp(place, _SERIES_NODES, _nickel_nodes(energy_ev))
            lines = _lines(name)
            for line_ev, share in lines:
                leave = _attenuation(particle, line_ev)
                left = np.exp(-leave[0] * rays.way_out - (leave[1] - leave[0]) * rays.shell_out)
                out[name][rays.inside] += share * (made * left).sum(axis=1)
        out["scatter"][rays.inside] += (
            rays.dz.sum(axis=1) * _CM_PER_UM * _DENSITY_G_CM3 * _scattered_per_g("Ni", energy_ev)
        )


def _rays(axis_um: Array, particle: GradientParticle, angle_deg: float) -> _Rays:
    v, u = axis_um[:, None] - particle.row_um, axis_um[None, :] - particle.column_um
    square = v**2 + u**2
    inside = square < particle.radius_um**2
    square, along_column = square[inside], np.broadcast_to(u, inside.shape)[inside]
    half = np.sqrt(particle.radius_um**2 - square)
    nodes, weights = np.polynomial.legendre.leggauss(_N_DEPTH)
    z, dz = half[:, None] * nodes, half[:, None] * weights
    r2 = square[:, None] + z**2
    radius = particle.radius_um
    angle = np.radians(angle_deg)

    def way(along: Array) -> tuple[Array, Array]:
        """Length of the way out along a direction, and how much of it is shell."""
        length = -along + np.sqrt(np.maximum(along**2 + radius**2 - r2, 0.0))
        shell = np.zeros_like(length)
        for node, weight in zip(*np.polynomial.legendre.leggauss(_N_WAY), strict=True):
            s = 0.5 * (node + 1.0) * length
            depth = radius - np.sqrt(np.maximum(r2 + 2.0 * along * s + s**2, 0.0))
            shell += 0.5 * weight * np.clip(1.0 - depth / particle.width_um, 0.0, 1.0)
        return length, shell * length

    way_in, shell_in = way(-z)
    way_out, shell_out = way(along_column[:, None] * np.sin(angle) + z * np.cos(angle))
    return _Rays(inside, radius - np.sqrt(r2), dz, way_in, shell_in, way_out, shell_out)


def _formula(fractions: Mapping[str, float]) -> dict[str, float]:
    return {**fractions, **_LIGHT}


def _mol_per_cm3(fractions: Mapping[str, float]) -> float:
    formula = _formula(fractions)
    return _DENSITY_G_CM3 / sum(n * float(xraydb.atomic_mass(name)) for name, n in formula.items())


def _attenuation(particle: GradientParticle, energy_ev: float) -> tuple[float, float]:
    """Attenuation per um of core and surface."""
    found = []
    for fractions in (particle.core, particle.surface):
        formula = _formula(fractions)
        mass = {name: n * float(xraydb.atomic_mass(name)) for name, n in formula.items()}
        mu = 0.0
        for name, share in mass.items():
            one = float(xraydb.mu_elam(name, energy_ev))
            if name == "Ni" and abs(energy_ev - _NI_K_EV) < 400.0:
                below = float(xraydb.mu_elam("Ni", _NI_K_EV - 5.0)) * (energy_ev / _NI_K_EV) ** -2.8
                place = nickel_place(fractions["Ni"], particle.soc)
                one = below + _k_part("Ni", energy_ev) * float(
                    np.interp(place, _SERIES_NODES, _nickel_nodes(energy_ev))
                )
            mu += share * one
        found.append(_DENSITY_G_CM3 * mu / sum(mass.values()) * _CM_PER_UM)
    return found[0], found[1]


def _k_part(name: str, energy_ev: float) -> float:
    """Absorption by the K shell, cm2/g; continued below its edge, where the shape of the edge makes it vanish."""
    edge = xraydb.xray_edge(name, "K")
    above = max(energy_ev, edge.energy + 5.0)
    part = float(xraydb.mu_elam(name, above, kind="photo")) * (1.0 - 1.0 / edge.jump_ratio)
    return float(part * (energy_ev / above) ** -2.8)


def _emitted_per_g(name: str, energy_ev: float) -> float:
    edge = xraydb.xray_edge(name, "K")
    shaped = name == "Ni" and abs(energy_ev - _NI_K_EV) < 400.0
    if energy_ev <= edge.energy and not shaped:
        return 0.0
    return _k_part(name, energy_ev) * float(edge.fyield)


def _scattered_per_g(name: str, energy_ev: float) -> float:
    coherent = float(xraydb.mu_elam(name, energy_ev, kind="coh"))
    return coherent + float(xraydb.mu_elam(name, energy_ev, kind="incoh"))


def _lines(name: str) -> tuple[tuple[float, float], ...]:
    """Ka and Kb of an element with their shares, for how the sample absorbs them."""
    lines = [line for line in xraydb.xray_lines(name, "K").values() if line.initial_level == "K"]
    total = sum(line.intensity for line in lines)
    groups = []
    for alpha in (True, False):
        own = [line for line in lines if line.final_level.startswith("L") == alpha]
        weight = sum(line.intensity for line in own)
        groups.append((sum(line.energy * line.intensity for line in own) / weight, weight / total))
    return tuple(groups)


def _nickel_nodes(energy_ev: float) -> Array:
    """Normalised absorption of nickel at the nodes of the twin's series."""
    series = LAYERED_OXIDE["Ni"].at(_SERIES_NODES[:, None])
    return np.asarray(series(np.array([energy_ev]))).reshape(-1)


def nickel_spectrum(ni_fraction: float, soc: float, energy_ev: Array) -> Array:
    """Return the normalised absorption of nickel in an oxide with so much nickel, at a state of charge."""
    return np.asarray(
        LAYERED_OXIDE["Ni"].at(float(nickel_place(ni_fraction, soc)))(np.asarray(energy_ev, np.float64))
    )


NANO_SAMPLES: Mapping[str, NanoSample] = MappingProxyType(
    {
        "gradient": NanoSample((GradientParticle(0.0, 0.0, 3.0),), extent_um=9.0),
        "pair": NanoSample(
            (GradientParticle(-2.5, -3.0, 3.0), GradientParticle(3.5, 3.5, 2.2, width_um=0.6)), extent_um=14.0
        ),
        "charged": NanoSample((GradientParticle(0.0, 0.0, 3.0, soc=0.6),), extent_um=9.0),
        "standard": NanoSample((), MappingProxyType({"Mn": 40.0, "Co": 45.0, "Ni": 50.0})),
    }
)
"""Samples by name: one gradient particle, two, a charged one, and a film of known areal densities."""
