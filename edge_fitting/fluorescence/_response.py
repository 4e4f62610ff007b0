"""What an energy-dispersive detector makes of a line."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from edge_fitting.errors import EdgeFittingError

from ._tables import mass_attenuation, tables

__all__ = ["ESCAPE_EV", "DetectorResponse"]

ESCAPE_EV = 1739.9
"""Energy that a photon of silicon takes out of the detector."""

_EV_PER_PAIR = 3.65
_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DetectorResponse:
    """Energy scale and resolution of a silicon drift detector.

    Attributes
    ----------
    gain_ev : float
        Width of a channel.
    offset_ev : float
        Energy at the middle of channel 0.
    noise_ev : float
        Full width at half maximum that electronics add.
    fano : float
        Fano factor; with 3.65 eV a pair it gives the width that grows with the square root of the energy.
    escape : float
        Escape peaks in parts of what an infinite detector that is hit at a right angle has.
    """

    gain_ev: float = 10.0
    offset_ev: float = 0.0
    noise_ev: float = 60.0
    fano: float = 0.115
    escape: float = 1.0

    def __post_init__(self) -> None:
        numbers = (self.gain_ev, self.offset_ev, self.noise_ev, self.fano)
        if not (np.isfinite(numbers).all() and self.gain_ev > 0 and self.noise_ev >= 0 and self.fano > 0):
            raise EdgeFittingError(
                f"A detector needs a gain above 0 eV a channel, an offset, noise and a Fano factor, not {numbers}."
            )

    def energy_ev(self, channel: ArrayLike) -> Array:
        """Return the energy at the middle of channels."""
        return self.offset_ev + self.gain_ev * np.asarray(channel, np.float64)

    def fwhm_ev(self, energy_ev: ArrayLike) -> Array:
        """Return the full width at half maximum of a line."""
        e = np.maximum(np.asarray(energy_ev, np.float64), 1.0)
        return np.asarray(np.sqrt(self.noise_ev**2 + _FWHM**2 * self.fano * _EV_PER_PAIR * e))

    def peaks(self, channels: Array, energy_ev: Array, share: Array, extra_ev: float = 0.0) -> Array:
        """Return the share of photons of some lines that falls into each channel, escape peaks among them.

        Parameters
        ----------
        channels : ndarray, shape (n,)
            Consecutive numbers of channels.
        energy_ev, share : ndarray, shape (n_lines,)
            Lines, and their shares.
        extra_ev : float
            Full width at half maximum that the line has itself.
        """
        escaped = np.asarray([escape_share(float(e)) for e in energy_ev]) * self.escape
        energies = np.concatenate([energy_ev, energy_ev - ESCAPE_EV])
        shares = np.concatenate([share * (1.0 - escaped), share * escaped])
        bounds = self.energy_ev(np.concatenate([channels - 0.5, channels[-1:] + 0.5]))
        sigma = np.sqrt(self.fwhm_ev(energies) ** 2 + extra_ev**2) / _FWHM
        below = ndtr((bounds[:, None] - energies) / sigma)
        return np.asarray(np.diff(below, axis=0) @ shares)


@cache
def escape_share(energy_ev: float) -> float:
    """Return the share of photons whose silicon photon leaves through the front.

    Formula of Reed and Ware, J. Phys. E 5 (1972).
    """
    edge = tables().xray_edge("Si", "K")
    if energy_ev <= edge.energy:
        return 0.0
    ratio = mass_attenuation("Si", ESCAPE_EV) / mass_attenuation("Si", energy_ev)
    left = 0.5 * (1.0 - ratio * np.log1p(1.0 / ratio))
    share = edge.fyield * (1.0 - 1.0 / edge.jump_ratio) * left
    return float(share / (1.0 + share))
