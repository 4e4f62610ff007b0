"""The soft X-ray end station: undulator, grating monochromator, gold mesh, and a sample seen by two yields."""

import math
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from beamline_devices import DeviceError

from ._faults import Faults
from ._soft_sample import SOFT_SAMPLES, LayeredSample, SoftTruth, YieldDepth
from ._soft_spectra import SOFT_COMPONENTS, SOFT_EDGES_EV, soft_spectrum

__all__ = ["SOFT_CHANNELS", "SoftSettings", "SoftStation"]

SOFT_CHANNELS = ("mesh", "tey", "fy", "reference")
"""Currents of the station: gold mesh, drain current, fluorescence diode, and a reference sample upstream."""

_MESH_NA = 2.0
_FY_NA, _TEY_NA, _REFERENCE_NA = 0.02, 0.4, 0.2
_GAP_WIDTH = 0.012
# Signal of all that is not the edge, in steps of it, and how fast it falls.
_BACKGROUND = {"tey": 0.6, "fy": 0.9}
_SLOPE_PER_EV = -4e-4
_BEFORE_EV = 45.0
_POLARISATIONS = ("horizontal", "vertical", "circular")


@dataclass(frozen=True)
class SoftSettings:
    """Knobs of the station.

    Attributes
    ----------
    resolving_power : float
        Energy over the width (FWHM) of the grating monochromator.
    offset_ev : float
        Energy as read back minus the true one.
    noise : float
        Relative standard deviation of each current that is averaged for 1 s.
    dark_na : mapping of str to float
        Currents without beam by channel.
    mesh_structure : float
        Depth of the structure that oxygen on the mesh and mirrors makes in its current but not in the beam.
    flux_structure : float
        Depth of the structures of the mirrors in the beam itself, which the mesh sees too.
    tey, fy : YieldDepth
        Depth and saturation of the two yields.
    lifetime_h, top_up_s : float
        Decay of the ring current between top-ups.
    low_ev, high_ev : float
        Range of the monochromator.
    """

    resolving_power: float = 3000.0
    offset_ev: float = 0.4
    noise: float = 2e-3
    dark_na: MappingProxyType[str, float] = field(
        default_factory=lambda: MappingProxyType(
            {"mesh": 0.05, "tey": 0.012, "fy": 0.0006, "reference": 0.004}
        )
    )
    mesh_structure: float = 0.0
    flux_structure: float = 0.08
    tey: YieldDepth = field(default_factory=lambda: YieldDepth(7.5, 0.008))
    fy: YieldDepth = field(default_factory=lambda: YieldDepth(75.0, 0.02))
    lifetime_h: float = 9.0
    top_up_s: float = 300.0
    low_ev: float = 250.0
    high_ev: float = 1500.0

    def __post_init__(self) -> None:
        if not (self.resolving_power > 0 and self.noise >= 0 and 0 < self.tey.depth_nm < self.fy.depth_nm):
            raise DeviceError(
                "the station needs a resolving power above 0, noise that is not negative, and an electron yield that "
                "sees less deep than the fluorescence yield"
            )


class SoftStation:
    """A station with one sample in it.

    Parameters
    ----------
    settings : SoftSettings, optional
        Its knobs.
    seed : int
        Of the noise.

    Attributes
    ----------
    sample : LayeredSample
        What is in the beam.
    setpoint_ev : float
        Energy as read back.
    gap_ev : float
        Energy that the gap of the undulator is set for.
    polarisation : str
        Of the light.
    shutter_open : bool
        Whether there is beam on the station.
    faults : Faults
        What is to go wrong.
    clock_s : float
        Time since it was made.
    """

    def __init__(self, settings: SoftSettings | None = None, *, seed: int = 1) -> None:
        self.settings = settings or SoftSettings()
        self.sample: LayeredSample = SOFT_SAMPLES["pristine"]
        self.setpoint_ev = 840.0
        self.gap_ev = 840.0
        self.polarisation = _POLARISATIONS[0]
        self.shutter_open = False
        self.faults = Faults()
        self.clock_s = 0.0
        self._rng = np.random.default_rng([seed, 11])
        self._state: tuple[float, bool] | None = None
        self._left: dict[str, float] = {}

    @property
    def true_ev(self) -> float:
        """Energy of the photons."""
        return self.setpoint_ev - self.settings.offset_ev

    def wait(self, duration_s: float) -> None:
        """Let time pass."""
        self.clock_s += duration_s

    def take(self, channel: str, exposure_s: float) -> float:
        """Return the mean current of a channel over an exposure, nA; all channels share a shot of the beam."""
        state = self.setpoint_ev, self.shutter_open
        if state != self._state or channel not in self._left:
            self._left = self._shot(exposure_s)
            self._state = state
        return self._left.pop(channel)

    def mesh_response(self, energy_ev: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what the mesh shows per photon, 1 without structure; energies of the photons, eV."""
        oxide = soft_spectrum("O_K", "O reduced", energy_ev, self.settings.resolving_power)
        return 1.0 + self.settings.mesh_structure * oxide

    def truth(self) -> SoftTruth:
        """Return what a perfect analysis would find of the sample."""
        depths = {"tey": self.settings.tey, "fy": self.settings.fy}
        power = self.settings.resolving_power
        return SoftTruth(
            gamma={name: self.sample.gamma(depth, power) for name, depth in depths.items()},
            fractions={
                f"{edge} {name}": self.sample.seen_fractions(edge, depth)
                for edge in SOFT_COMPONENTS
                for name, depth in depths.items()
            },
            layer_nm=self.sample.layer_nm,
            reduced_fraction=self.sample.reduced_fraction,
            ni_valence=self.sample.ni_valence,
            axis_offset_ev=self.settings.offset_ev,
        )

    def _flux(self) -> float:
        """Photons, relative: ring current, undulator harmonic, mirrors."""
        energy_ev = self.true_ev
        ring = math.exp(-(self.clock_s % self.settings.top_up_s) / (3600.0 * self.settings.lifetime_h))
        harmonic = math.exp(-0.5 * ((self.gap_ev - self.setpoint_ev) / (_GAP_WIDTH * energy_ev)) ** 2)
        ripple = 1.0 + self.settings.flux_structure * (
            0.5 * math.sin(energy_ev / 3.1) + 0.5 * math.sin(energy_ev / 7.7)
        )
        return float(ring * harmonic * ripple * (energy_ev / 800.0) ** -0.5)

    def _shot(self, exposure_s: float) -> dict[str, float]:
        settings, at = self.settings, np.array([self.true_ev])
        flux = self._flux() * float(self.shutter_open)
        # The edge that the light has reached, or is about to: those below are part of the background.
        reached = [name for name, at_ev in SOFT_EDGES_EV.items() if self.true_ev > at_ev - _BEFORE_EV]
        edge = max(reached, key=lambda name: SOFT_EDGES_EV[name]) if reached else "O_K"
        below = 1.0 + _SLOPE_PER_EV * (self.true_ev - SOFT_EDGES_EV[edge])
        power = settings.resolving_power
        yields = {
            "mesh": _MESH_NA * float(self.mesh_response(at)[0]),
            "tey": _TEY_NA
            * (_BACKGROUND["tey"] * below + float(self.sample.seen(edge, at, settings.tey, power)[0])),
            "fy": _FY_NA
            * (_BACKGROUND["fy"] * below + float(self.sample.seen(edge, at, settings.fy, power)[0])),
            "reference": _REFERENCE_NA
            * (0.5 + float(soft_spectrum(edge, next(iter(SOFT_COMPONENTS[edge])), at, power)[0])),
        }
        self.wait(exposure_s)
        out = {}
        for name in SOFT_CHANNELS:
            current = flux * yields[name]
            noise = settings.noise * abs(current) / math.sqrt(exposure_s) + 1e-5 * yields[name]
            out[name] = current + settings.dark_na.get(name, 0.0) + noise * float(self._rng.standard_normal())
        return out
