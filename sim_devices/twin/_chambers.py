"""Ion chambers in a row: before the sample, behind it, and behind the reference foil."""

from typing import Literal

import numpy as np

from ._twin import Twin
from ._yields import yields_of

__all__ = ["Chamber", "IonChambers"]

Chamber = Literal["i0", "it", "iref"]

_FULL_NA = 50.0


class IonChambers:
    """Three ion chambers that see the same beam.

    The first that is read begins a shot, which lets its time pass and which the others share; none sees one twice.

    Parameters
    ----------
    twin : Twin
        The simulated beamline.
    seed : int
        Of the noise.
    """

    names: tuple[Chamber, ...] = ("i0", "it", "iref")

    def __init__(self, twin: Twin, *, seed: int) -> None:
        self._twin = twin
        self._rng = np.random.default_rng([seed, 7])
        self._state: tuple[float, bool, bool] | None = None
        self._left: dict[Chamber, float] = {}

    def take(self, chamber: Chamber, exposure_s: float) -> float:
        """Return the mean current of one chamber over an exposure, nA."""
        twin = self._twin
        state = twin.energy_ev, twin.shutter_open, twin.sample_in
        if state != self._state or chamber not in self._left:
            self._left = self.shot(exposure_s)
            self._state = state
        return self._left.pop(chamber)

    def shot(self, exposure_s: float) -> dict[Chamber, float]:
        """Return the mean currents of all chambers over an exposure, nA."""
        twin, settings = self._twin, self._twin.settings.chambers
        # The monitor of the twin stands before the shutter, these chambers behind it.
        incident = twin.read_i0() * float(twin.shutter_open)
        yields = yields_of(twin)
        behind = 1.0 - settings.glitch_mismatch * twin.glitch()
        shares = (1.0, yields.transmitted * behind, yields.behind_foil * behind)
        twin.wait(exposure_s)
        currents = {}
        for name, share, dark in zip(self.names, shares, settings.dark_na, strict=True):
            current = incident * share
            noise = settings.noise * np.sqrt(max(current, 1e-3) * _FULL_NA / exposure_s)
            currents[name] = float(current + dark + noise * self._rng.standard_normal())
        return currents
