"""Absorption of the electrode: tabulated cross-sections carrying the analytic near-edge lineshapes."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xraydb
from numpy.typing import NDArray

from sim_devices._compounds import EDGE_ELEMENT, LAYERED_OXIDE, METALS

__all__ = ["SOC_NODES", "EdgeTruth", "NMC622", "OxideAbsorption", "edge_truth", "energy_spread_ev"]

NMC622 = (0.6, 0.2, 0.2)
"""Metal fractions (Ni, Mn, Co) of LiNi0.6Mn0.2Co0.2O2."""

_DENSITY_G_CM3 = 4.75
_CM_PER_UM = 1e-4
_MASS = {"Li": 6.94, "O": 15.999, "Ni": 58.693, "Mn": 54.938, "Co": 58.933}

SOC_NODES: NDArray[np.float64] = np.linspace(0.0, 1.0, 65)
"""States of charge at which spectra are tabulated; between them they are interpolated linearly."""


def energy_spread_ev(energy_ev: float, resolution: float) -> float:
    """Standard deviation in eV of the energies a monochromator passes, from its relative width (FWHM)."""
    return energy_ev * resolution / 2.354820045


@lru_cache(maxsize=8)
def _jump_fit(element: str) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Edge energy and log-log lines of the mass attenuation below and above a K edge (cm2/g)."""
    edge = float(xraydb.xray_edge(element, "K").energy)
    lines = []
    for low, high in ((-400.0, -20.0), (20.0, 800.0)):
        energy = np.linspace(edge + low, edge + high, 60)
        lines.append(np.polyfit(np.log(energy / edge), np.log(xraydb.mu_elam(element, energy)), 1))
    return edge, lines[0], lines[1]


def _below_and_jump(element: str, energy_ev: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    edge, below, above = _jump_fit(element)
    x = np.log(energy_ev / edge)
    under = np.exp(np.polyval(below, x))
    return under, np.exp(np.polyval(above, x)) - under


_HERMITE_X, _HERMITE_W = np.polynomial.hermite_e.hermegauss(9)
_HERMITE_W = _HERMITE_W / _HERMITE_W.sum()


class OxideAbsorption:
    """Linear absorption of a layered oxide, per micrometre and per unit of metal fraction.

    The optical depth of a ray is the sum over the metals of (thickness in um x fraction of the metal) x the coefficient given here.
    Each metal brings its share of lithium and oxygen.

    Parameters
    ----------
    resolution : float
        Relative energy width (FWHM) of the monochromator; the absorption is averaged over it.
    """

    def __init__(self, resolution: float) -> None:
        self._resolution = resolution
        mass = {m: _MASS["Li"] + _MASS[m] + 2 * _MASS["O"] for m in METALS}
        # The oxide keeps its molar density when metals exchange: that of NMC622.
        formula_mass = sum(f * mass[m] for f, m in zip(NMC622, METALS, strict=True))
        self._mol_per_cm2_um = _DENSITY_G_CM3 * _CM_PER_UM / formula_mass

    def table(self, energy_ev: float) -> NDArray[np.float32]:
        """Coefficients (metals, len(SOC_NODES)) at one photon energy, 1/um per unit metal fraction."""
        spread = energy_spread_ev(energy_ev, self._resolution)
        energies = energy_ev + spread * _HERMITE_X
        light = 2 * _MASS["O"] * xraydb.mu_elam("O", energies) + _MASS["Li"] * xraydb.mu_elam("Li", energies)
        table = np.empty((len(METALS), SOC_NODES.size), dtype=np.float32)
        for row, metal in enumerate(METALS):
            under, jump = _below_and_jump(metal, energies)
            shapes = np.array([LAYERED_OXIDE[metal].at(s)(energies) for s in SOC_NODES])
            per_mol = light + _MASS[metal] * (under + jump * shapes)
            table[row] = self._mol_per_cm2_um * (per_mol @ _HERMITE_W)
        return table

    def jump_per_um(self, edge: str) -> float:
        """Edge jump in optical depth per um of oxide and per unit metal fraction."""
        metal = EDGE_ELEMENT[edge]
        centre = np.array([_jump_fit(metal)[0]])
        _, jump = _below_and_jump(metal, centre)
        return float(self._mol_per_cm2_um * _MASS[metal] * jump[0])


@dataclass(frozen=True)
class EdgeTruth:
    """How the recorded spectrum of an edge depends on the state of charge.

    Attributes
    ----------
    soc : ndarray (n,)
        States of charge.
    half_jump_ev, white_line_ev : ndarray (n,)
        Half-jump energy and position of the white line of the spectrum as the monochromator sees it.
    """

    soc: NDArray[np.float64]
    half_jump_ev: NDArray[np.float64]
    white_line_ev: NDArray[np.float64]


@lru_cache(maxsize=16)
def edge_truth(edge: str, resolution: float) -> EdgeTruth:
    """Edge positions over the state of charge, from the lineshapes broadened by the monochromator."""
    series = LAYERED_OXIDE[EDGE_ELEMENT[edge]]
    soc = SOC_NODES[::4]
    half = np.empty(soc.size)
    white = np.empty(soc.size)
    for i, s in enumerate(soc):
        shape = series.at(float(s))
        energy = np.arange(shape.step_ev - 12.0, shape.white_ev + 8.0, 0.02)
        spread = energy_spread_ev(shape.step_ev, resolution)
        mu = shape(energy[:, None] + spread * _HERMITE_X) @ _HERMITE_W
        rise = energy < shape.white_ev
        last = int(np.flatnonzero(mu[rise] < 0.5)[-1])
        half[i] = energy[last] + 0.02 * (0.5 - mu[last]) / (mu[last + 1] - mu[last])
        white[i] = energy[np.argmax(mu)]
    return EdgeTruth(soc=soc, half_jump_ev=half, white_line_ev=white)
