"""Positions of an axis over energy, measured or computed, with interpolation and nothing beyond."""

from collections.abc import Sequence

import numpy as np

from beamline_devices.errors import OutOfLimitsError

__all__ = ["CalibrationTable"]


class CalibrationTable:
    """Where an axis has to be at which energy.

    Between the entries the position is interpolated linearly; outside them it is refused.

    Parameters
    ----------
    energy_ev : sequence of float (n,)
        Two or more different energies, in any order.
    position : sequence of float (n,)
        Position of the axis at each, in its own units.

    Raises
    ------
    OutOfLimitsError
        When the table cannot be interpolated.
    """

    def __init__(self, energy_ev: Sequence[float], position: Sequence[float]) -> None:
        energy = np.asarray(energy_ev, dtype=float)
        where = np.asarray(position, dtype=float)
        if energy.ndim != 1 or energy.shape != where.shape or energy.size < 2:
            raise OutOfLimitsError(
                "a calibration table needs two or more energies and as many positions, not "
                f"{energy.size} and {where.size}"
            )
        if not (np.isfinite(energy).all() and np.isfinite(where).all()):
            raise OutOfLimitsError("a calibration table holds finite numbers only; remove the others")
        order = np.argsort(energy)
        self._energy_ev, self._position = energy[order], where[order]
        if (np.diff(self._energy_ev) <= 0).any():
            raise OutOfLimitsError("a calibration table has one entry per energy; remove the repeated ones")

    @property
    def limits_ev(self) -> tuple[float, float]:
        """Lowest and highest energy of the table."""
        return float(self._energy_ev[0]), float(self._energy_ev[-1])

    @property
    def energy_ev(self) -> tuple[float, ...]:
        """Energies, increasing."""
        return tuple(self._energy_ev.tolist())

    @property
    def position(self) -> tuple[float, ...]:
        """Position at each energy."""
        return tuple(self._position.tolist())

    def at(self, energy_ev: float) -> float:
        """Position at an energy.

        Raises
        ------
        OutOfLimitsError
            Outside the table.
        """
        low, high = self.limits_ev
        if not low <= energy_ev <= high:
            raise OutOfLimitsError(
                f"the calibration table covers {low:g} to {high:g} eV, not {energy_ev:g} eV; measure it "
                "further"
            )
        return float(np.interp(energy_ev, self._energy_ev, self._position))
