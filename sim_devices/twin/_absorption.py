"""Absorption of the sample: tabulated cross-sections carrying the analytic near-edge lineshapes."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scan_contract import optional_import

from ._compounds import COMPOUNDS, EDGE_ELEMENT, LAYERED_OXIDE, METALS
from ._constants import FWHM_PER_SIGMA
from ._lineshape import Lineshape

with optional_import("sim", "simulated beamlines"):
    import xraydb

__all__ = [
    "NMC622",
    "SOC_NODES",
    "Absorber",
    "EdgeTruth",
    "OxideAbsorption",
    "PureAbsorption",
    "broadened",
    "edge_truth",
]

NMC622 = (0.6, 0.2, 0.2)
"""Metal fractions (Ni, Mn, Co) of LiNi0.6Mn0.2Co0.2O2."""

_NMC622_DENSITY_G_CM3 = 4.75
_CM_PER_UM = 1e-4

SOC_NODES: NDArray[np.float64] = np.linspace(0.0, 1.0, 65)
"""States of charge at which absorption is tabulated; between them it is interpolated linearly."""

# Normal density on a fine, even grid: spectra are smooth on its spacing, so averaging leaves no ripple.
_SPREAD_X = np.linspace(-4.0, 4.0, 33)
_SPREAD_W = np.exp(-0.5 * _SPREAD_X**2) / np.exp(-0.5 * _SPREAD_X**2).sum()


def _spread(energy_ev: float, resolution: float) -> NDArray[np.float64]:
    """Energies a monochromator of relative width (FWHM) `resolution` passes, weighted with _SPREAD_W."""
    return np.asarray(energy_ev + energy_ev * resolution / FWHM_PER_SIGMA * _SPREAD_X)


def broadened(shape: Lineshape, energy_ev: NDArray[np.float64], resolution: float) -> NDArray[np.float64]:
    """Return a lineshape as a monochromator of finite resolution records it, same shape as the energies."""
    spread = resolution * float(np.mean(energy_ev)) / FWHM_PER_SIGMA * _SPREAD_X
    return np.asarray(shape(np.asarray(energy_ev)[..., None] + spread) @ _SPREAD_W)


@lru_cache(maxsize=8)
def _jump_fit(element: str) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Edge energy and log-log lines of the mass attenuation below and above a K edge (cm2/g)."""
    edge = float(xraydb.xray_edge(element, "K").energy)
    lines = []
    for low, high in ((-400.0, -20.0), (20.0, 800.0)):
        energy = np.linspace(edge + low, edge + high, 60)
        lines.append(np.polyfit(np.log(energy / edge), np.log(xraydb.mu_elam(element, energy)), 1))
    return edge, lines[0], lines[1]


def _below_and_jump(
    element: str, energy_ev: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mass attenuation (cm2/g) without the K shell, and what the K shell adds above its edge."""
    edge, below, above = _jump_fit(element)
    x = np.log(energy_ev / edge)
    under = np.exp(np.polyval(below, x))
    return under, np.exp(np.polyval(above, x)) - under


def _mass(element: str) -> float:
    return float(xraydb.atomic_mass(element))


class Absorber(Protocol):
    """What the twin asks of a material."""

    def table(self, energy_ev: float) -> NDArray[np.float32]:
        """Return absorption per um, shape (maps of the sample, len(SOC_NODES)), at one energy."""
        ...

    def jump_per_um(self, edge: str) -> NDArray[np.float64]:
        """Return the edge jump in optical depth per um for each map of the sample."""
        ...


class OxideAbsorption:
    """Layered oxide LiMO2; a map is the thickness in um times the fraction of one metal, in the order METALS.

    Each metal brings its share of lithium and oxygen. The oxide keeps the molar density of NMC622 when metals
    exchange, and the extraction of lithium changes its absorption by less than a part in a thousand.

    Parameters
    ----------
    resolution : float
        Relative energy width (FWHM) of the monochromator; the absorption is averaged over it.
    """

    def __init__(self, resolution: float) -> None:
        self._resolution = resolution
        light = _mass("Li") + 2 * _mass("O")
        formula = light + sum(f * _mass(m) for f, m in zip(NMC622, METALS, strict=True))
        self._mol_per_cm2_um = _NMC622_DENSITY_G_CM3 * _CM_PER_UM / formula

    def table(self, energy_ev: float) -> NDArray[np.float32]:
        """Return absorption per um and unit metal fraction, shape (metals, len(SOC_NODES))."""
        energies = _spread(energy_ev, self._resolution)
        light = 2 * _mass("O") * xraydb.mu_elam("O", energies) + _mass("Li") * xraydb.mu_elam("Li", energies)
        table = np.empty((len(METALS), SOC_NODES.size), dtype=np.float32)
        for row, metal in enumerate(METALS):
            under, jump = _below_and_jump(metal, energies)
            shapes = LAYERED_OXIDE[metal].at(SOC_NODES[:, None])(energies)
            per_mol = light + _mass(metal) * (under + jump * shapes)
            table[row] = self._mol_per_cm2_um * (per_mol @ _SPREAD_W)
        return table

    def jump_per_um(self, edge: str) -> NDArray[np.float64]:
        """Return the edge jump in optical depth per um and unit metal fraction, zero for other metals."""
        metal = EDGE_ELEMENT[edge]
        _, jump = _below_and_jump(metal, np.array([_jump_fit(metal)[0]]))
        out = np.zeros(len(METALS))
        out[METALS.index(metal)] = self._mol_per_cm2_um * _mass(metal) * jump[0]
        return out


class PureAbsorption:
    """One of the reference compounds; the only map is its thickness in um.

    Parameters
    ----------
    name : str
        Key in COMPOUNDS.
    resolution : float
        Relative energy width (FWHM) of the monochromator.
    """

    def __init__(self, name: str, resolution: float) -> None:
        self._compound = COMPOUNDS[name]
        self._resolution = resolution
        mass = {e: n * _mass(e) for e, n in self._compound.formula.items()}
        total = sum(mass.values())
        per_um = self._compound.density_g_cm3 * _CM_PER_UM
        self._g_per_cm2_um = {e: per_um * m / total for e, m in mass.items()}

    def table(self, energy_ev: float) -> NDArray[np.float32]:
        """Return absorption per um, shape (1, len(SOC_NODES)), the same for every node."""
        energies = _spread(energy_ev, self._resolution)
        mu = np.zeros(energies.size)
        for element, share in self._g_per_cm2_um.items():
            if element == self._compound.element:
                under, jump = _below_and_jump(element, energies)
                mu += share * (under + jump * self._compound.lineshape(energies))
            else:
                mu += share * xraydb.mu_elam(element, energies)
        return np.full((1, SOC_NODES.size), mu @ _SPREAD_W, dtype=np.float32)

    def jump_per_um(self, edge: str) -> NDArray[np.float64]:
        """Return the edge jump in optical depth per um, zero at the edge of another element."""
        metal = EDGE_ELEMENT[edge]
        if metal != self._compound.element:
            return np.zeros(1)
        _, jump = _below_and_jump(metal, np.array([_jump_fit(metal)[0]]))
        return np.asarray(self._g_per_cm2_um[metal] * jump)


@dataclass(frozen=True)
class EdgeTruth:
    """How the recorded spectrum of an edge depends on the state of charge.

    Attributes
    ----------
    soc : ndarray (n,)
        States of charge.
    half_jump_ev, white_line_ev : ndarray (n,)
        Half-jump energy and maximum of the white line of the spectrum as the monochromator records it.
    """

    soc: NDArray[np.float64]
    half_jump_ev: NDArray[np.float64]
    white_line_ev: NDArray[np.float64]


@lru_cache(maxsize=16)
def edge_truth(edge: str, resolution: float) -> EdgeTruth:
    """Return edge positions over the state of charge, from the lineshapes the monochromator has broadened."""
    series = LAYERED_OXIDE[EDGE_ELEMENT[edge]]
    soc = SOC_NODES[::4]
    half = np.empty(soc.size)
    white = np.empty(soc.size)
    step = 0.02
    for i, s in enumerate(soc):
        shape = series.at(float(s))
        top = float(shape.peaks[0].energy_ev)
        energy = np.arange(top - 20.0, top + 8.0, step)
        mu = broadened(shape, energy, resolution)
        last = int(np.flatnonzero((mu < 0.5) & (energy < top))[-1])
        half[i] = energy[last] + step * (0.5 - mu[last]) / (mu[last + 1] - mu[last])
        peak = int(np.argmax(mu))
        left, centre, right = mu[peak - 1 : peak + 2]
        white[i] = energy[peak] + 0.5 * step * (left - right) / (left - 2 * centre + right)
    return EdgeTruth(soc=soc, half_jump_ev=half, white_line_ev=white)
