"""The nanoprobe: a focus scanned over a sample, and a fluorescence detector of several elements."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.special import ndtr

from beamline_devices import DeviceError
from scan_contract import optional_import

from ._faults import Fault, Faults
from ._nano_sample import NANO_SAMPLES, NanoSample

with optional_import("sim", "simulated beamlines"):
    import xraydb

__all__ = ["McaReading", "NanoSettings", "NanoStation", "NanoTruth"]

Array = NDArray[np.float64]

_SILICON_EV, _EV_PER_PAIR = 1739.9, 3.65
_FWHM = 2.3548
_ELECTRON_EV = 510_998.95
_SHELF, _SMOOTH = 0.008, 0.02
_NA_PER_PHOTON = 2e-9


@dataclass(frozen=True)
class NanoSettings:
    """Knobs of the nanoprobe.

    Attributes
    ----------
    photons_per_s : float
        Photons in the focus.
    focus_um : float
        Full width at half maximum of the focus.
    solid_angle : float
        Part of the whole sphere that the detector sees, all its elements together.
    n_elements, n_channels : int
        Elements of the detector, and channels of each.
    gain_ev, gain_spread, offset_spread_ev : float
        Width of a channel, and how far the elements differ from it (relative), and in offset.
    noise_ev, fano : float
        Width that electronics add, and Fano factor.
    dead_time_s : float
        Time for which an element is dead after each photon.
    dead_element : int, optional
        An element that gives nothing.
    drift_um_per_h : tuple of float
        Drift of the sample along rows and columns.
    fly_lag_s : float
        How long after the recorded position a photon of a flown line was made.
    low_ev, high_ev : float
        Range of the monochromator.
    """

    photons_per_s: float = 2e9
    focus_um: float = 0.2
    solid_angle: float = 0.01
    n_elements: int = 4
    n_channels: int = 1100
    gain_ev: float = 10.0
    gain_spread: float = 0.003
    offset_spread_ev: float = 12.0
    noise_ev: float = 70.0
    fano: float = 0.118
    dead_time_s: float = 5e-7
    dead_element: int | None = None
    drift_um_per_h: tuple[float, float] = (0.0, 0.0)
    fly_lag_s: float = 0.0
    low_ev: float = 5000.0
    high_ev: float = 20_000.0

    def __post_init__(self) -> None:
        positive = (self.photons_per_s, self.solid_angle, self.gain_ev, self.fano)
        if not (min(positive) > 0 and self.n_elements >= 1 and self.n_channels >= 64 and self.focus_um >= 0):
            raise DeviceError(
                "a nanoprobe needs photons, a solid angle, a gain and a Fano factor above 0, an element and 64 channels"
            )


@dataclass(frozen=True)
class McaReading:
    """What the detector gives for one point.

    Attributes
    ----------
    spectra : ndarray of uint32, shape (n_elements, n_channels)
        Counts.
    real_s, live_s : ndarray, shape (n_elements,)
        Time, and how much of it each element could count.
    i0 : float
        Incident intensity: current of an ion chamber, nA.
    """

    spectra: NDArray[np.uint32]
    real_s: Array
    live_s: Array
    i0: float


@dataclass(frozen=True)
class NanoTruth:
    """What a perfect analysis would find on a grid of positions.

    Attributes
    ----------
    fractions : dict of str to ndarray
        Atomic fraction of each metal along the beam; NaN where there is none.
    atoms : ndarray
        Atoms of all metals along the beam, mol/cm2.
    """

    fractions: dict[str, Array]
    atoms: Array


class NanoStation:
    """A nanoprobe with one sample in it.

    Parameters
    ----------
    settings : NanoSettings, optional
        Its knobs.
    seed : int
        Of the noise.

    Attributes
    ----------
    setpoint_ev : float
        Energy of the photons.
    row_um, column_um : float
        Where the focus is.
    shutter_open : bool
        Whether there is beam.
    faults : Faults
        What is to go wrong.
    clock_s : float
        Time since it was made.
    last_i0 : float
        Incident intensity of the last point.
    """

    def __init__(self, settings: NanoSettings | None = None, *, seed: int = 1) -> None:
        self.settings = settings or NanoSettings()
        self._sample = NANO_SAMPLES["gradient"]
        self.setpoint_ev = 9600.0
        self.row_um = self.column_um = 0.0
        self.shutter_open = False
        self.faults = Faults()
        self.clock_s = 0.0
        self.last_i0 = 0.0
        self._rng = np.random.default_rng([seed, 16])
        made = np.random.default_rng([seed, 17])
        n = self.settings.n_elements
        self.gains_ev = self.settings.gain_ev * (1.0 + self.settings.gain_spread * made.uniform(-1, 1, n))
        self.offsets_ev = self.settings.offset_spread_ev * made.uniform(-1, 1, n)
        self._shares = made.uniform(0.85, 1.15, n) / n
        self._maps: tuple[float, list[str], Array] | None = None
        self._templates: tuple[float, tuple[str, ...], Array] | None = None

    @property
    def sample(self) -> NanoSample:
        """What is in the beam."""
        return self._sample

    @sample.setter
    def sample(self, sample: NanoSample) -> None:
        self._sample = sample
        self._maps = self._templates = None

    def wait(self, duration_s: float) -> None:
        """Let time pass."""
        self.clock_s += duration_s

    def measure(
        self, exposure_s: float, at_um: tuple[float, float] | None = None, speed_um_s: float = 0.0
    ) -> McaReading:
        """Count at one place.

        Parameters
        ----------
        exposure_s : float
            For how long.
        at_um : tuple of float, optional
            Row and column; where the focus is by default.
        speed_um_s : float
            How fast columns go by in a flight.
        """
        s = self.settings
        row, column = (self.row_um, self.column_um) if at_um is None else at_um
        drift = np.asarray(s.drift_um_per_h) * self.clock_s / 3600.0
        tripped = self.faults.occurs(Fault.BEAM_TRIP)
        beam = float(self.shutter_open and not tripped) * (1.0 + 0.01 * np.sin(self.clock_s / 7.0))
        photons = s.photons_per_s * beam
        rates = self._rates(row - drift[0], column - drift[1] + s.fly_lag_s * speed_um_s)
        per_channel = np.einsum("ecl,l->ec", self._template(), rates) * photons * s.solid_angle
        per_channel *= self._shares[:, None]
        if s.dead_element is not None:
            per_channel[s.dead_element] = 0.0
        live = exposure_s / (1.0 + per_channel.sum(axis=1) * s.dead_time_s)
        spectra = self._rng.poisson(per_channel * live[:, None]).astype(np.uint32)
        self.wait(exposure_s)
        current = photons * _NA_PER_PHOTON
        i0 = current * (1.0 + 1e-3 * float(self._rng.standard_normal()))
        return McaReading(spectra, np.full(s.n_elements, exposure_s), live, float(i0))

    def truth(self, rows_um: Any, columns_um: Any) -> NanoTruth:
        """Return what is true along the beam on a grid of positions, seen with the focus."""
        atoms = {name: self._blurred(one) for name, one in self.sample.column_atoms().items()}
        places = np.meshgrid(np.asarray(rows_um, float), np.asarray(columns_um, float), indexing="ij")
        found = {name: self._at(one, *places) for name, one in atoms.items()}
        total = np.sum(list(found.values()), axis=0)
        there = total > 0.02 * max(float(total.max()), 1e-300)
        with np.errstate(divide="ignore", invalid="ignore"):
            fractions = {name: np.where(there, one / total, np.nan) for name, one in found.items()}
        return NanoTruth(fractions, total)

    def _rates(self, row_um: float, column_um: float) -> Array:
        """Photons of each kind per photon of the beam."""
        if self._maps is None or self._maps[0] != self.setpoint_ev:
            emitted = self.sample.emission(self.setpoint_ev)
            stack = np.stack([self._blurred(one) for one in emitted.values()])
            self._maps = self.setpoint_ev, list(emitted), stack
        axis = self.sample.axis_um
        place = [[(row_um - axis[0]) / self.sample.step_um], [(column_um - axis[0]) / self.sample.step_um]]
        return np.array([map_coordinates(one, place, order=1, mode="nearest")[0] for one in self._maps[2]])

    def _blurred(self, image: Array) -> Array:
        sigma = self.settings.focus_um / _FWHM / self.sample.step_um
        return np.asarray(gaussian_filter(image, sigma, mode="nearest")) if sigma > 0 else image

    def _at(self, image: Array, rows_um: Array, columns_um: Array) -> Array:
        axis, step = self.sample.axis_um, self.sample.step_um
        places = [(rows_um - axis[0]) / step, (columns_um - axis[0]) / step]
        return np.asarray(map_coordinates(image, places, order=1, mode="nearest"))

    def _template(self) -> Array:
        """Return what one photon of each kind gives in each channel of each element."""
        names = (*self.sample.elements, "scatter")
        if self._templates is None or self._templates[:2] != (self.setpoint_ev, names):
            each = [
                np.stack([self._spectrum(name, gain, offset) for name in names], axis=1)
                for gain, offset in zip(self.gains_ev, self.offsets_ev, strict=True)
            ]
            self._templates = self.setpoint_ev, names, np.stack(each)
        return self._templates[2]

    def _spectrum(self, name: str, gain_ev: float, offset_ev: float) -> Array:
        bounds = offset_ev + gain_ev * (np.arange(self.settings.n_channels + 1) - 0.5)

        def peak(energy_ev: float, extra_ev: float = 0.0) -> Array:
            width = np.sqrt(
                self.settings.noise_ev**2
                + _FWHM**2 * self.settings.fano * _EV_PER_PAIR * energy_ev
                + extra_ev**2
            )
            return np.asarray(np.diff(ndtr((bounds - energy_ev) / (width / _FWHM))))

        if name == "scatter":
            compton = self.setpoint_ev / (1.0 + self.setpoint_ev / _ELECTRON_EV)
            lines = [(self.setpoint_ev, 0.35, 0.0), (compton, 0.65, 160.0)]
        else:
            found = [line for line in xraydb.xray_lines(name, "K").values() if line.initial_level == "K"]
            total = sum(line.intensity for line in found)
            lines = [(line.energy, line.intensity / total, 0.0) for line in found]
        out = np.zeros(self.settings.n_channels)
        middle = (bounds[1:] + bounds[:-1]) / 2
        for energy_ev, share, extra_ev in lines:
            escaped = 0.0045 * (5900.0 / energy_ev) ** 2.7
            out += share * (
                (1.0 - escaped) * peak(energy_ev, extra_ev) + escaped * peak(energy_ev - _SILICON_EV)
            )
            below = ndtr((energy_ev - middle) / 80.0)
            out += share * _SHELF * below / max(below.sum(), 1.0)
        smooth = np.exp(-(((middle - 0.8 * self.setpoint_ev) / 3500.0) ** 2)) * (middle < self.setpoint_ev)
        return np.asarray(out + _SMOOTH * smooth / smooth.sum())
