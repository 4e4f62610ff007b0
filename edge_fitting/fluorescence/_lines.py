"""Groups of lines whose intensities are in a fixed ratio: one unknown for each."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_fitting.errors import EdgeFittingError

from ._tables import split_group, tables

__all__ = ["LineGroup", "compton_energy_ev", "line_groups"]

_ELECTRON_EV = 510_998.95
# Lines weaker than this share of their group are left out.
_WEAKEST = 1e-4
_SHELLS = {"K": ("K",), "L": ("L1", "L2", "L3"), "M": ("M1", "M2", "M3", "M4", "M5")}


@dataclass(frozen=True)
class LineGroup:
    """Lines of one element that come together.

    Attributes
    ----------
    name : str
        As it was asked for, such as ``Ni`` or ``Pb_L``.
    element : str
        Its symbol.
    energy_ev, share : ndarray, shape (n_lines,)
        Energies of the lines, and their shares of the photons; they add up to 1.
    """

    name: str
    element: str
    energy_ev: NDArray[np.float64]
    share: NDArray[np.float64]

    @property
    def main_ev(self) -> float:
        """Mean energy of the strongest lines: those within 100 eV of the strongest one."""
        near = np.abs(self.energy_ev - self.energy_ev[np.argmax(self.share)]) < 100.0
        return float(np.average(self.energy_ev[near], weights=self.share[near]))


def line_groups(names: Iterable[str], excitation_ev: float) -> tuple[LineGroup, ...]:
    """Return the lines of elements that photons of an energy excite.

    Parameters
    ----------
    names : iterable of str
        Elements for their K lines, or with ``_L`` or ``_M`` for those.
    excitation_ev : float
        Energy of the photons; the highest of a scan over energies.

    Returns
    -------
    tuple of LineGroup
        Shares of the K lines, and of each subshell, from Elam's tables in xraydb. Subshells of L and M weigh by their
        jump in absorption and their yield; Coster-Kronig transitions are left out.

    Raises
    ------
    EdgeFittingError
        For an element that is not excited, a name that means no lines, or one that is given twice.
    """
    given = [names] if isinstance(names, str) else list(names)
    if not given:
        raise EdgeFittingError("There is no element to look for; name at least one.")
    doubled = sorted({name for name in given if given.count(name) > 1})
    if doubled:
        raise EdgeFittingError(f"{doubled[0]} is named twice among the elements; name each once.")
    return tuple(_group(name, excitation_ev) for name in given)


def compton_energy_ev(excitation_ev: float, angle_deg: float = 90.0) -> float:
    """Return the energy of photons scattered by electrons at rest through an angle."""
    return float(excitation_ev / (1.0 + excitation_ev / _ELECTRON_EV * (1.0 - np.cos(np.radians(angle_deg)))))


def _group(name: str, excitation_ev: float) -> LineGroup:
    element, family = split_group(name)
    edges = tables().xray_edges(element)
    energies: list[float] = []
    shares: list[float] = []
    above = 1.0  # what shells above leave of the absorption
    for shell in _SHELLS[family]:
        edge = edges.get(shell)
        if edge is None or edge.energy >= excitation_ev:
            continue
        weight = above * (1.0 - 1.0 / edge.jump_ratio) * edge.fyield
        above /= edge.jump_ratio
        for line in tables().xray_lines(element, shell).values():
            if line.initial_level == shell:
                energies.append(float(line.energy))
                shares.append(weight * float(line.intensity))
    if not energies:
        first = edges.get(_SHELLS[family][-1])
        where = "" if first is None else f" (edge at {first.energy:g} eV)"
        raise EdgeFittingError(
            f"The {family} lines of {element} are not excited at {excitation_ev:g} eV{where}; leave {name} out or "
            "measure above its edge."
        )
    energy, share = np.asarray(energies), np.asarray(shares)
    share = share / share.sum()
    kept = share > _WEAKEST
    return LineGroup(name, element, energy[kept], share[kept] / share[kept].sum())
