"""Source and monochromator: how much light there is at an energy and a time."""

import math

import numpy as np
from numpy.typing import NDArray

from scan_contract import optional_import

from ._settings import SourceSettings

with optional_import("sim", "simulated beamlines"):
    import xraydb

__all__ = ["Beam"]

_CM_PER_UM = 1e-4
_GLITCH_RANGE_EV = (6300.0, 9000.0)
_GLITCH_EVERY_EV = 45.0
_GLITCH_WIDTH_EV = 0.5


class Beam:
    """Intensity of the beam, relative to nominal.

    Parameters
    ----------
    source : SourceSettings
        Ring current, its decay and the drift of the beam.
    glitch_depth : float
        Deepest glitch of the monochromator; 0 for none.
    rng : numpy.random.Generator
        Where the glitches are follows from it.
    """

    def __init__(self, source: SourceSettings, glitch_depth: float, rng: np.random.Generator) -> None:
        self._source = source
        self._glitches = _glitches(glitch_depth, rng)

    def ring_current_ma(self, clock_s: float) -> float:
        """Return the current in the storage ring, mA."""
        return self._source.current_ma * self._decay(clock_s)

    def _decay(self, clock_s: float) -> float:
        if self._source.lifetime_h <= 0:
            return 1.0
        return math.exp(-(clock_s % self._source.top_up_s) / (3600.0 * self._source.lifetime_h))

    def intensity(self, clock_s: float, true_ev: float, filter_um: float) -> float:
        """Beam behind an aluminium filter, without regard to trips."""
        source = self._source
        wander = 1.0 + source.drift * math.sin(2 * math.pi * clock_s / source.drift_period_s)
        relative = self._decay(clock_s) * wander * (1.0 - self.glitch(true_ev))
        if filter_um > 0:
            relative *= math.exp(-filter_um * _CM_PER_UM * float(xraydb.material_mu("Al", true_ev)))
        return relative

    def glitch(self, true_ev: float) -> float:
        """Share of the beam that a glitch takes."""
        if not self._glitches.size:
            return 0.0
        place, depth = self._glitches
        return float(np.max(depth * np.exp(-0.5 * ((true_ev - place) / _GLITCH_WIDTH_EV) ** 2)))


def _glitches(depth: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Energies and depths (2, n) of the glitches; empty without any."""
    if depth <= 0:
        return np.empty((2, 0))
    low, high = _GLITCH_RANGE_EV
    count = int((high - low) / _GLITCH_EVERY_EV)
    return np.stack([np.sort(rng.uniform(low, high, count)), depth * rng.uniform(0.2, 1.0, count)])
