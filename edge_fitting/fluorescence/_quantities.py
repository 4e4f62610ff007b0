"""From counts to areal densities, and how much of the fluorescence the sample itself takes away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

from ._lines import line_groups
from ._tables import mass_attenuation, split_group, tables

__all__ = [
    "LINE_EV",
    "Sensitivity",
    "ThinFilmStandard",
    "atoms_sensitivity",
    "escape_factor",
    "self_absorption",
    "without_saturation",
]

LINE_EV = 100.0
"""Lines within this of the strongest are one for attenuation."""

_G_PER_UG = 1e-6
_SATURATION_ROUNDS = 4

Array = NDArray[np.float64]


def atoms_sensitivity(elements: Sequence[str], excitation_ev: float) -> dict[str, float]:
    """Return the photons of each element's lines per atom, relative: absorption by the shell times its yield.

    Parameters
    ----------
    elements : sequence of str
        Names of groups of lines.
    excitation_ev : float
        Energy of the beam.

    Returns
    -------
    dict of str to float
        The largest is 1. From Elam's tables; the detector counts all lines alike.
    """
    found = {}
    for group in line_groups(elements, excitation_ev):
        element, family = split_group(group.name)
        shells = [
            edge
            for shell, edge in tables().xray_edges(element).items()
            if shell.startswith(family) and edge.energy < excitation_ev
        ]
        below = excitation_ev
        total = float(tables().mu_elam(element, below, kind="photo"))
        share, above = 0.0, 1.0
        if family != "K":  # what shells further in absorb
            for shell, edge in tables().xray_edges(element).items():
                if shell[0] < family and edge.energy < excitation_ev:
                    above /= edge.jump_ratio
        for edge in sorted(shells, key=lambda one: -one.energy):
            share += above * (1.0 - 1.0 / edge.jump_ratio) * edge.fyield
            above /= edge.jump_ratio
        found[group.name] = total * share * float(tables().atomic_mass(element))
    largest = max(found.values())
    return {name: value / largest for name, value in found.items()}


@dataclass(frozen=True)
class Sensitivity:
    """Counts of each element for one ug/cm2 and one unit of the incident intensity.

    Attributes
    ----------
    counts : dict of str to float
        By element.
    from_tables : tuple of str
        Elements that the standard does not have, scaled from those it has by tables.
    sigma : float
        Relative spread of the standard's elements about the tables; NaN for one element.
    """

    counts: dict[str, float]
    from_tables: tuple[str, ...]
    sigma: float

    def areal_density(self, element: str, counts: ArrayLike, i0: ArrayLike = 1.0) -> Array:
        """Return the areal density in ug/cm2 of counts, not corrected for absorption in the sample."""
        if element not in self.counts:
            raise EdgeFittingError(
                f"There is no sensitivity for {element}; calibrate with the standard for it."
            )
        return np.asarray(np.asarray(counts, np.float64) / np.asarray(i0, np.float64) / self.counts[element])


@dataclass(frozen=True)
class ThinFilmStandard:
    """A film of known areal densities, measured as the sample is.

    Attributes
    ----------
    areal_density_ug_cm2 : mapping of str to float
        Of each element.
    counts : mapping of str to float
        Counts of each element's lines per unit of the incident intensity.
    """

    areal_density_ug_cm2: Mapping[str, float]
    counts: Mapping[str, float]

    def sensitivity(self, elements: Sequence[str], excitation_ev: float) -> Sensitivity:
        """Return what a ug/cm2 of each element counts.

        Raises
        ------
        EdgeFittingError
            The standard has no element with both a density and counts.
        """
        known = {
            name: self.counts[name] / density
            for name, density in self.areal_density_ug_cm2.items()
            if density > 0 and self.counts.get(name, 0.0) > 0
        }
        if not known:
            raise EdgeFittingError(
                "The standard has no element with both an areal density and counts; give both for one at least."
            )
        every = list(dict.fromkeys([*elements, *known]))
        table = atoms_sensitivity(every, excitation_ev)
        per_mass = {name: table[name] / float(tables().atomic_mass(split_group(name)[0])) for name in every}
        scales = np.array([known[name] / per_mass[name] for name in known])
        counts = {name: known.get(name, per_mass[name] * float(scales.mean())) for name in elements}
        spread = float(scales.std(ddof=1) / scales.mean()) if scales.size > 1 else np.nan
        return Sensitivity(counts, tuple(name for name in elements if name not in known), spread)


def escape_factor(optical_depth: ArrayLike) -> Array:
    """Return ``(1 - exp(-x)) / x``: what is left of the fluorescence of an even layer of optical depth x."""
    x = np.asarray(optical_depth, np.float64)
    small = np.abs(x) < 1e-6
    return np.where(small, 1.0 - x / 2.0, -np.expm1(-x) / np.where(small, 1.0, x))


def self_absorption(
    areal_density_ug_cm2: Mapping[str, ArrayLike],
    excitation_ev: float,
    *,
    mass_ratio: float = 1.0,
    angles_deg: tuple[float, float] = (90.0, 45.0),
) -> dict[str, Array]:
    """Estimate what is left of each element's lines after absorption in the sample, taken as an even layer.

    Parameters
    ----------
    areal_density_ug_cm2 : mapping of str to array_like
        Of each measured element.
    excitation_ev : float
        Energy of the beam.
    mass_ratio : float
        Mass of everything over that of the measured elements: 1.7 for a layered oxide whose transition metals are
        measured. What is not measured absorbs as oxygen.
    angles_deg : tuple of float
        Of the beam and of the way to the detector with the surface.

    Returns
    -------
    dict of str to ndarray
        1 where nothing is absorbed. A particle is no layer: take it as how far counts can be trusted.
    """
    names = list(areal_density_ug_cm2)
    mass = {name: np.asarray(areal_density_ug_cm2[name], np.float64) * _G_PER_UG for name in names}
    total = sum(mass.values())
    light = np.asarray(total) * (mass_ratio - 1.0)
    into, out = (1.0 / np.sin(np.radians(angle)) for angle in angles_deg)

    def depth(energy_ev: float) -> Array:
        heavy = sum(mass[name] * mass_attenuation(split_group(name)[0], energy_ev) for name in names)
        return np.asarray(heavy + light * mass_attenuation("O", energy_ev))

    found = {}
    for group in line_groups(names, excitation_ev):
        found[group.name] = escape_factor(into * depth(excitation_ev) + out * depth(group.main_ev))
    return found


def without_saturation(
    energy_ev: ArrayLike,
    series: ArrayLike,
    areal_density_ug_cm2: Mapping[str, ArrayLike],
    element: str,
    *,
    mass_ratio: float = 1.0,
    angles_deg: tuple[float, float] = (90.0, 45.0),
) -> Array:
    """Return the fluorescence of an element over its K edge as a thin sample of it would give it.

    The sample absorbs the beam the more the higher the edge's absorption is, which flattens the white line. The
    absorption that is measured itself says how much, round by round.

    Parameters
    ----------
    energy_ev : array_like, shape (n_energy,)
        Energies.
    series : array_like, shape (n_energy, ...)
        Fluorescence over the incident intensity, zero below the edge; at the two highest energies the absorption is
        that of the tables.
    areal_density_ug_cm2 : mapping of str to array_like, shape (...)
        Of all measured elements.
    element : str
        Whose edge it is.
    mass_ratio, angles_deg
        As for :func:`self_absorption`.

    Returns
    -------
    ndarray, shape (n_energy, ...)
        On the scale of the highest energies.
    """
    energies, values = np.asarray(energy_ev, np.float64), np.asarray(series, np.float64)
    mass = {
        name: np.maximum(np.asarray(one, np.float64), 0.0) * _G_PER_UG
        for name, one in areal_density_ug_cm2.items()
    }
    light = np.asarray(sum(mass.values())) * (mass_ratio - 1.0)
    into, out = (1.0 / np.sin(np.radians(angle)) for angle in angles_deg)
    (group,) = line_groups([element], float(energies.max()))
    edge_ev = float(tables().xray_edge(element, "K").energy)

    def others(energy: float) -> Array:
        heavy = sum(
            mass[name] * mass_attenuation(split_group(name)[0], energy) for name in mass if name != element
        )
        return np.asarray(heavy + light * mass_attenuation("O", energy))

    under = mass_attenuation(element, edge_ev - 5.0) * (energies / edge_ev) ** -2.8
    above = np.maximum(energies, edge_ev + 5.0)
    jump = np.array([mass_attenuation(element, float(one)) for one in above]) - under
    fixed = np.stack([others(float(one)) for one in energies]) + np.multiply.outer(under, mass[element])
    leaving = others(group.main_ev) + mass[element] * mass_attenuation(element, group.main_ev)
    top = np.argsort(energies)[-2:]
    corrected = values
    for _ in range(_SATURATION_ROUNDS):
        shape = corrected / corrected[top].mean(axis=0)
        depth = fixed + jump.reshape(-1, *(1,) * (values.ndim - 1)) * mass[element] * shape
        left = escape_factor(into * depth + out * leaving)
        corrected = values / left * left[top].mean(axis=0)
    return np.asarray(corrected)
