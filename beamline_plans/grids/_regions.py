"""Pieces of an energy grid: evenly spaced in energy or in photo-electron wavenumber."""

import math
from dataclasses import dataclass
from typing import Any

from beamline_plans.errors import GridError
from edge_fitting import EDGES, Edge, EdgeFittingError, edge_name

__all__ = ["DEFAULT_EXPOSURE_S", "EnergyRegion", "KRegion", "edge_named", "finite_number"]

DEFAULT_EXPOSURE_S = 0.5

# hbar^2 / (2 m_e) in eV Angstrom^2 (CODATA 2018): E = E0 + 3.81 k^2
_EV_PER_INVERSE_ANGSTROM_SQUARED = 3.8099821
_MAX_POINTS = 20_000
# No monochromator at these edges has steps as fine, so a step below this is one in keV.
_FINEST_STEP_EV = 0.01


def edge_named(name: str) -> Edge:
    """Return the edge called `name`.

    Parameters
    ----------
    name : str
        For example "Ni_K", "Ni" or "Mn L3", see `edge_fitting.edge_name`.

    Raises
    ------
    GridError
        If there is no such edge; the message lists those there are.
    """
    try:
        return EDGES[edge_name(name)]
    except EdgeFittingError:
        raise GridError(
            f"There is no edge {name!r}; choose Ni, Co or Mn for a K edge, or one of {', '.join(EDGES)}."
        ) from None


def finite_number(value: Any, what: str) -> float:
    """Return `value` as a float; `what` names it in the GridError raised when it is none or not finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise GridError(f"{what} must be a number, not {value!r}.") from None
    if not math.isfinite(number):
        raise GridError(f"{what} must be finite, not {number}.")
    return number


def _points(start: float, stop: float, step: float, what: str) -> list[float]:
    """Points from `start` towards `stop`, which is included when it lies on the step."""
    if step <= 0:
        raise GridError(
            f"The step of {what} must be positive, not {step:g}; the direction follows from start and stop."
        )
    span = abs(stop - start)
    if span / step > _MAX_POINTS:
        raise GridError(f"{what} has more than {_MAX_POINTS} points; use a larger step than {step:g}.")
    count = math.floor(span / step + 1e-6) + 1
    sign = 1.0 if stop >= start else -1.0
    # Rounding removes the 8329.999999 that repeated binary fractions give.
    return [round(start + sign * i * step, 9) for i in range(count)]


@dataclass(frozen=True)
class EnergyRegion:
    """Evenly spaced energies.

    Parameters
    ----------
    start_ev, stop_ev : float
        Ends of the region in eV; `stop_ev` is taken when it lies on the step. A stop below the start runs
        downwards.
    step_ev : float
        Distance of neighbouring energies in eV, positive.
    exposure_s : float
        Exposure of each frame in seconds.
    """

    start_ev: float
    stop_ev: float
    step_ev: float
    exposure_s: float = DEFAULT_EXPOSURE_S

    def exposures_s(self) -> list[float]:
        """Return the exposure at each energy of this region, s."""
        return [self.exposure_s] * len(self.energies_ev())

    def energies_ev(self) -> list[float]:
        """Return the energies of this region in eV."""
        start, stop, step = (
            finite_number(v, f"The {n} of an energy region")
            for v, n in ((self.start_ev, "start"), (self.stop_ev, "stop"), (self.step_ev, "step"))
        )
        what = f"the energy region {start:g}-{stop:g} eV"
        if 0 < step < _FINEST_STEP_EV:
            raise GridError(
                f"The step of {what} is {step:g} eV, which looks like keV; give it in eV ({step * 1000:g} eV?)."
            )
        if step > abs(stop - start) > 0:
            raise GridError(
                f"The step of {what} is {step:g} eV, longer than the region; give a smaller step, in eV."
            )
        return _points(start, stop, step, what)


@dataclass(frozen=True)
class KRegion:
    """Energies evenly spaced in photo-electron wavenumber, for the far post-edge.

    ``E = E0 + hbar^2 k^2 / (2 m_e)``, E0 being the tabulated edge energy.

    Parameters
    ----------
    edge : str
        The edge whose energy is k = 0.
    start_k, stop_k, step_k : float
        Wavenumbers in inverse Angstrom.
    exposure_s : float
        Exposure of each frame in seconds, at the lower end of the region where they grow.
    exposure_power : float
        Exposures grow as (k / k of the lower end) to this power: counting time for what falls off with k.
    """

    edge: str
    start_k: float
    stop_k: float
    step_k: float
    exposure_s: float = DEFAULT_EXPOSURE_S
    exposure_power: float = 0.0

    def exposures_s(self) -> list[float]:
        """Return the exposure at each energy of this region, s."""
        power = finite_number(self.exposure_power, "The exposure_power of a k region")
        ks = self._wavenumbers()
        if power and not min(ks) > 0:
            raise GridError(
                "Exposures that grow with k need a k region that begins above the edge, not at k = 0; give start_k."
            )
        return [self.exposure_s * (k / min(ks)) ** power if power else self.exposure_s for k in ks]

    def energies_ev(self) -> list[float]:
        """Return the energies of this region in eV."""
        e0 = edge_named(self.edge).energy_ev
        return [round(e0 + _EV_PER_INVERSE_ANGSTROM_SQUARED * k * k, 3) for k in self._wavenumbers()]

    def _wavenumbers(self) -> list[float]:
        start, stop, step = (
            finite_number(v, f"The {n} of a k region")
            for v, n in ((self.start_k, "start"), (self.stop_k, "stop"), (self.step_k, "step"))
        )
        if min(start, stop) < 0:
            raise GridError(
                f"A k region lies above the edge: its ends must not be negative, not {start:g}-{stop:g}."
            )
        return _points(start, stop, step, f"the k region {start:g}-{stop:g}/A")
