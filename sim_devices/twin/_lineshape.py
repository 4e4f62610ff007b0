"""Near-edge lineshapes: the spectral truth of the twin.

Each absorber is described by an analytic, normalised absorption coefficient: an arctangent step, pseudo-Voigt
peaks (1s-3d pre-edge, white line and its neighbours) and damped sine waves in photoelectron wave number that
stand for the first coordination shells.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ChargeSeries", "Lineshape", "Peak", "Shell"]

_K2_PER_EV = 0.2624682843
"""(photoelectron wave number)^2 per eV, in Angstrom^-2 (2 m_e / hbar^2)."""

Value = float | NDArray[np.float64]
"""A parameter, or an array of it that broadcasts against the energies."""
_ONSET_EV = 8.0
_ONSET_WIDTH_EV = 28.0


@dataclass(frozen=True)
class Peak:
    """Pseudo-Voigt peak, half Lorentzian and half Gaussian.

    Attributes
    ----------
    energy_ev, height, half_width_ev : float or ndarray
        Centre, height in units of the edge jump, half width at half maximum.
    """

    energy_ev: Value
    height: Value
    half_width_ev: Value


@dataclass(frozen=True)
class Shell:
    """Oscillation that a shell of neighbours leaves above the edge.

    Attributes
    ----------
    amplitude, distance_a, phase : float or ndarray
        Amplitude (Angstrom^-1), distance in Angstrom without phase correction, phase in rad.
    """

    amplitude: Value
    distance_a: Value
    phase: Value


@dataclass(frozen=True)
class Lineshape:
    """Normalised absorption across one edge: 0 far below, 1 far above.

    Attributes
    ----------
    step_ev, step_half_width_ev : float or ndarray
        Centre and half width of the arctangent step.
    peaks : tuple of Peak
        Peaks on the step; the first is the white line.
    shells : tuple of Shell
        Oscillations above it.
    damping_a2 : float or ndarray
        Mean square displacement of the shells, Angstrom^2.
    """

    step_ev: Value
    step_half_width_ev: Value
    peaks: tuple[Peak, ...]
    shells: tuple[Shell, ...]
    damping_a2: Value

    def __call__(self, energy_ev: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the normalised absorption at the energies given."""
        energy = np.asarray(energy_ev, dtype=np.float64)
        mu = 0.5 + np.arctan((energy - self.step_ev) / self.step_half_width_ev) / np.pi
        for peak in self.peaks:
            x2 = ((energy - peak.energy_ev) / peak.half_width_ev) ** 2
            mu = mu + peak.height * (0.5 / (1.0 + x2) + 0.5 * np.exp(-np.log(2.0) * x2))
        above = energy - self.step_ev
        k = np.sqrt(_K2_PER_EV * np.maximum(above, 0.0))
        # The oscillations fade in above the white line, whose region the peaks describe.
        onset = np.clip((above - _ONSET_EV) / _ONSET_WIDTH_EV, 0.0, 1.0)
        decay = onset**2 * (3.0 - 2.0 * onset) * np.exp(-2.0 * self.damping_a2 * k * k) / np.maximum(k, 0.5)
        for shell in self.shells:
            mu = mu + decay * shell.amplitude * np.sin(2.0 * k * shell.distance_a + shell.phase)
        return np.asarray(mu)


@dataclass(frozen=True)
class ChargeSeries:
    """Lineshape of one absorber between the discharged and the charged end.

    Attributes
    ----------
    discharged, charged : Lineshape
        Lineshapes at state of charge 0 and 1, with peaks and shells in the same order.
    """

    discharged: Lineshape
    charged: Lineshape

    def at(self, soc: Value) -> Lineshape:
        """Return the lineshape at a state of charge: every parameter interpolated linearly.

        An array of shape (n, 1) gives a lineshape that evaluates (m,) energies to (n, m) values.
        """

        def mix(low: Value, high: Value) -> Value:
            return (1.0 - soc) * low + soc * high

        low, high = self.discharged, self.charged
        return Lineshape(
            step_ev=mix(low.step_ev, high.step_ev),
            step_half_width_ev=mix(low.step_half_width_ev, high.step_half_width_ev),
            peaks=tuple(
                Peak(
                    mix(a.energy_ev, b.energy_ev),
                    mix(a.height, b.height),
                    mix(a.half_width_ev, b.half_width_ev),
                )
                for a, b in zip(low.peaks, high.peaks, strict=True)
            ),
            shells=tuple(
                Shell(mix(a.amplitude, b.amplitude), mix(a.distance_a, b.distance_a), mix(a.phase, b.phase))
                for a, b in zip(low.shells, high.shells, strict=True)
            ),
            damping_a2=mix(low.damping_a2, high.damping_a2),
        )
