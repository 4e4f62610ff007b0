"""How well the sweeps so far tell the edge energy."""

import numpy as np

from edge_fitting import EdgeFittingError, Sweep, describe_spectrum, merge_sweeps

__all__ = ["SweepWatch"]


class SweepWatch:
    """Absorption of the sweeps so far, and whether its half-jump energy is known well enough.

    Parameters
    ----------
    edge : str
        Name of the edge.
    target_sigma_ev : float
        Standard deviation that is enough, eV.
    """

    def __init__(self, edge: str, target_sigma_ev: float) -> None:
        self._edge = edge
        self._target_sigma_ev = target_sigma_ev
        self._points: list[tuple[float, dict[str, float]]] = []
        self._sweeps: list[Sweep] = []

    def add(self, energy_ev: float, values: dict[str, float]) -> None:
        """Take one reading."""
        self._points.append((energy_ev, values))

    def is_enough(self) -> bool:
        """Close a sweep and say whether another one is needed; it is where nothing can be told."""
        points, self._points = self._points, []
        usable = [(ev, held) for ev, held in points if held["i0"] > 0 and held["it"] > 0]
        if len(usable) >= 2:
            energies, where = np.unique([ev for ev, _ in usable], return_inverse=True)
            sums = [
                np.bincount(where, weights=[held.get(role, np.nan) for _, held in usable])
                for role in ("i0", "it", "iref")
            ]
            with np.errstate(invalid="ignore", divide="ignore"):
                foil = np.log(sums[1] / sums[2])
                sweep = Sweep(energies, np.log(sums[0] / sums[1]), foil if np.isfinite(foil).any() else None)
            self._sweeps.append(sweep)
        try:
            merged = merge_sweeps(self._sweeps, edge=self._edge)
            found = describe_spectrum(merged.energy_ev, merged.mu, edge=self._edge, sigma=merged.sigma)
        except EdgeFittingError:
            return False
        return found.positions["half_jump"].sigma_ev <= self._target_sigma_ev
