"""Near-edge lineshapes: the spectral truth of the twin.

Each absorber is described by an analytic, normalised absorption coefficient: an arctangent step (core-hole width), pseudo-Voigt
peaks (1s-3d pre-edge, white line, resonances above it) and two damped sine waves in photoelectron wave number that stand for the
first coordination shells (oxygen, metal). The parameters of a transition metal in a layered oxide move linearly with the state of
charge, so that half-jump and white line move as they do on charge (Ni most, Co less, Mn hardly).
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

__all__ = ["ChargeSeries", "Lineshape"]

_K2_PER_EV = 0.2624682843
"""(photoelectron wave number)^2 per eV, in Angstrom^-2 (2 m_e / hbar^2)."""


@dataclass(frozen=True)
class Lineshape:
    """Normalised absorption across one edge: 0 far below, 1 far above.

    Attributes
    ----------
    step_ev, step_width_ev : float
        Centre and half width of the arctangent step.
    white_ev, white_height, white_width_ev : float
        Centre, height and half width at half maximum of the white line.
    shoulder_ev, shoulder_height, shoulder_width_ev : float
        The same of the resonance above the white line.
    pre_ev, pre_height, pre_width_ev : float
        The same of the 1s-3d pre-edge peak.
    near_amplitude, near_distance_a, near_phase : float
        Amplitude, distance (Angstrom) and phase (rad) of the first shell.
    far_amplitude, far_distance_a, far_phase : float
        The same of the second shell.
    damping_a2 : float
        Mean square displacement of both shells, Angstrom^2.
    """

    step_ev: float
    step_width_ev: float
    white_ev: float
    white_height: float
    white_width_ev: float
    shoulder_ev: float
    shoulder_height: float
    shoulder_width_ev: float
    pre_ev: float
    pre_height: float
    pre_width_ev: float
    near_amplitude: float
    near_distance_a: float
    near_phase: float
    far_amplitude: float
    far_distance_a: float
    far_phase: float
    damping_a2: float

    def __call__(self, energy_ev: NDArray[np.float64]) -> NDArray[np.float64]:
        """Normalised absorption at the energies given, same shape."""
        energy = np.asarray(energy_ev, dtype=np.float64)
        mu = 0.5 + np.arctan((energy - self.step_ev) / self.step_width_ev) / np.pi
        mu += self.white_height * _pseudo_voigt(energy, self.white_ev, self.white_width_ev)
        mu += self.shoulder_height * _pseudo_voigt(energy, self.shoulder_ev, self.shoulder_width_ev)
        mu += self.pre_height * _pseudo_voigt(energy, self.pre_ev, self.pre_width_ev)
        above = np.maximum(energy - self.step_ev, 0.0)
        k = np.sqrt(_K2_PER_EV * above)
        # The oscillations fade in above the white line, whose region the peaks describe.
        onset = 1.0 / (1.0 + np.exp(-(energy - self.step_ev - 22.0) / 5.0))
        decay = onset * np.exp(-2.0 * self.damping_a2 * k * k) / np.maximum(k, 0.5)
        near = self.near_amplitude * np.sin(2.0 * k * self.near_distance_a + self.near_phase)
        far = self.far_amplitude * np.sin(2.0 * k * self.far_distance_a + self.far_phase)
        return np.asarray(mu + decay * (near + far))


@dataclass(frozen=True)
class ChargeSeries:
    """Lineshape of one absorber between the discharged and the charged end.

    Attributes
    ----------
    discharged, charged : Lineshape
        Lineshapes at state of charge 0 and 1.
    """

    discharged: Lineshape
    charged: Lineshape

    def at(self, soc: float) -> Lineshape:
        """Lineshape at one state of charge: every parameter interpolated linearly."""
        low, high = self.discharged, self.charged
        return Lineshape(
            **{
                f.name: (1.0 - soc) * getattr(low, f.name) + soc * getattr(high, f.name)
                for f in fields(Lineshape)
            }
        )


def _pseudo_voigt(energy: NDArray[np.float64], centre: float, half_width: float) -> NDArray[np.float64]:
    x2 = ((energy - centre) / half_width) ** 2
    return 0.5 / (1.0 + x2) + 0.5 * np.exp(-np.log(2.0) * x2)
