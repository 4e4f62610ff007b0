"""The scanning microscope: zone plate, order-sorting aperture, sample stage, photon counter."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from beamline_devices import DeviceError
from scan_contract import HC_EV_ANGSTROM, optional_import

from ._faults import Faults
from ._grains import GrainField, GrainSettings, grain_field
from ._soft_spectra import SOFT_EDGES_EV, soft_spectrum

with optional_import("sim", "simulated beamlines"):
    import xraydb

__all__ = ["STXM_ENDS", "StxmSettings", "StxmStation", "StxmTruth"]

Array = NDArray[np.float64]

STXM_ENDS = {
    "Ni_L3": ("Ni2+", "Ni3+"),
    "Co_L3": ("Co2+", "Co3+"),
    "Mn_L3": ("Mn3+", "Mn4+"),
    "O_K": ("O reduced", "O oxidised"),
}
"""Components of the reduced and of the oxidised state of each edge."""

_BEFORE_EV = 45.0
_CM_PER_NM = 1e-7
# Gaussian width of the spot per micrometre of defocus, in parts of the opening angle.
_DEFOCUS_SHARE = 0.25
_SPOT_SHARE = 0.5
# So far from an edge tables are not smeared by it; absorption falls with this power of the energy.
_CLEAR_EV, _FALLS = (100.0, 50.0), 2.8
_LEAST_NM = 1.0


@dataclass(frozen=True)
class StxmSettings:
    """Knobs of the microscope.

    Attributes
    ----------
    grains : GrainSettings
        What lies in the field.
    formula, density_g_cm3 : str, float
        Of the grains.
    diameter_um, outermost_zone_nm : float
        Of the zone plate.
    focus_offset_um, focus_slope_um_per_ev : float
        How far the true focus is from what the zone plate's numbers say, and how that grows with energy above 850 eV.
    resolving_power, offset_ev : float
        Of the monochromator, and energy as read back minus the true one.
    flux_hz : float
        Photons per second without sample at 850 eV.
    flux_noise : float
        Relative standard deviation of the beam from line to line.
    dead_time_s, dark_hz, stray_share : float
        Of the counter: dead time of a count, counts without beam, and share of the open beam that reaches it beside
        the sample (other orders of the zone plate).
    jitter_nm, hysteresis_nm : float
        Of the stage: from point to point, and between lines to the right and to the left.
    drift_nm_per_h : tuple of float
        Of the sample, along rows and columns.
    clearance_um : float
        Least distance between zone plate, aperture and sample.
    low_ev, high_ev : float
        Range of the monochromator.
    """

    grains: GrainSettings = field(default_factory=GrainSettings)
    formula: str = "LiNi0.6Mn0.2Co0.2O2"
    density_g_cm3: float = 4.75
    diameter_um: float = 240.0
    outermost_zone_nm: float = 35.0
    focus_offset_um: float = 0.0
    focus_slope_um_per_ev: float = 0.0
    resolving_power: float = 3000.0
    offset_ev: float = 0.0
    flux_hz: float = 8e6
    flux_noise: float = 0.003
    dead_time_s: float = 2e-8
    dark_hz: float = 200.0
    stray_share: float = 0.002
    jitter_nm: float = 4.0
    hysteresis_nm: float = 0.0
    drift_nm_per_h: tuple[float, float] = (0.0, 0.0)
    clearance_um: float = 100.0
    low_ev: float = 250.0
    high_ev: float = 1500.0

    def __post_init__(self) -> None:
        if not (self.diameter_um > 0 and self.outermost_zone_nm > 0 and self.flux_hz > 0):
            raise DeviceError("the microscope needs a zone plate with a diameter and zones, and photons")


@dataclass(frozen=True, eq=False)
class StxmTruth:
    """What a perfect analysis would find at the points of a raster.

    Attributes
    ----------
    state : ndarray, shape (rows, cols)
        Share of the oxidised component, mean over the depth; NaN without material.
    thickness_nm : ndarray, shape (rows, cols)
        Thickness.
    labels : ndarray of int, shape (rows, cols)
        Number of the grain from 1.
    radius_nm : ndarray, shape (n_grains,)
        Radius of each.
    """

    state: Array
    thickness_nm: Array
    labels: NDArray[np.int64]
    radius_nm: Array


class StxmStation:
    """A scanning transmission X-ray microscope with a field of grains in it.

    Parameters
    ----------
    settings : StxmSettings, optional
        Its knobs.
    seed : int
        Of the noise.

    Attributes
    ----------
    setpoint_ev, gap_ev : float
        Energy as read back, and that of the undulator.
    shutter_open : bool
        Whether there is beam.
    zone_plate_um, aperture_um : float
        Their distances from the sample.
    faults : Faults
        What is to go wrong.
    clock_s : float
        Time since it was made.
    field : GrainField
        What lies in the field.
    """

    def __init__(self, settings: StxmSettings | None = None, *, seed: int = 1) -> None:
        self.settings = settings or StxmSettings()
        self.setpoint_ev = self.gap_ev = 850.0
        self.polarisation = "horizontal"
        self.shutter_open = False
        self.faults = Faults()
        self.clock_s = 0.0
        self.field: GrainField = grain_field(self.settings.grains)
        self.zone_plate_um = self.focal_length_um(850.0)
        self.aperture_um = 400.0
        self._rng = np.random.default_rng([seed, 23])
        self._beam = 1.0
        self._image: tuple[tuple[float, float], Array] | None = None

    @property
    def true_ev(self) -> float:
        """Energy of the photons."""
        return self.setpoint_ev - self.settings.offset_ev

    def wait(self, duration_s: float) -> None:
        """Let time pass."""
        self.clock_s += duration_s

    def focal_length_um(self, energy_ev: float) -> float:
        """Distance of the zone plate from the sample that makes the smallest spot."""
        settings = self.settings
        nominal = settings.diameter_um * settings.outermost_zone_nm / (0.1 * HC_EV_ANGSTROM / energy_ev)
        return nominal + settings.focus_offset_um + settings.focus_slope_um_per_ev * (energy_ev - 850.0)

    def check_distances(self, zone_plate_um: float, aperture_um: float) -> None:
        """Refuse distances at which zone plate, aperture and sample touch.

        Raises
        ------
        DeviceError
            With the reason.
        """
        least = self.settings.clearance_um
        if aperture_um < least or zone_plate_um - aperture_um < least:
            raise DeviceError(
                f"aperture {aperture_um:g} um and zone plate {zone_plate_um:g} um from the sample come together: each "
                f"needs {least:g} um to the next"
            )

    @property
    def sharpest_nm(self) -> float:
        """Gaussian width of the spot in focus."""
        return _SPOT_SHARE * self.settings.outermost_zone_nm

    def spot_nm(self) -> float:
        """Gaussian width of the spot."""
        settings = self.settings
        focal = self.focal_length_um(self.true_ev)
        defocus = 1e3 * abs(self.zone_plate_um - focal)
        return math.hypot(self.sharpest_nm, _DEFOCUS_SHARE * defocus * settings.diameter_um / focal)

    def take(self, y_um: Array, x_um: Array, dwell_s: float) -> NDArray[np.int64]:
        """Count at points of a line that lasts one dwell time at each."""
        settings = self.settings
        lasts = dwell_s * x_um.size
        self._beam = 1.0 + settings.flux_noise * float(self._rng.standard_normal())
        beam = self._flux() * self._beam
        backward = x_um.size > 1 and x_um[-1] < x_um[0]
        drift = [1e-3 * rate * self.clock_s / 3600.0 for rate in settings.drift_nm_per_h]
        jitter = 1e-3 * settings.jitter_nm * self._rng.standard_normal((2, x_um.size))
        y = y_um + jitter[0] - drift[0]
        x = x_um + jitter[1] - drift[1] + 1e-3 * settings.hysteresis_nm * backward
        passed = self._passed(y, x)
        rate = beam * (passed + settings.stray_share) + settings.dark_hz
        self.wait(lasts)
        # A counter that is dead for a fixed time after each count; its counts are fewer, and a little less scattered.
        return self._rng.poisson(rate * dwell_s / (1.0 + rate * settings.dead_time_s))

    def take_mesh(self) -> float:
        """Return the current of a mesh before the zone plate, relative, during the line counted last."""
        noise = 1.0 + 1e-3 * float(self._rng.standard_normal())
        return self._flux() * self._beam / self.settings.flux_hz * noise

    def spectrum(self, edge: str, state: Array, energy_ev: float) -> Array:
        """Return the linear absorption of the material, 1/nm, at one energy for each state."""
        low, high = (
            float(soft_spectrum(edge, name, [energy_ev], self.settings.resolving_power)[0])
            for name in STXM_ENDS[edge]
        )
        return self.below_per_nm(edge, energy_ev) + self.step_per_nm(edge) * (low + (high - low) * state)

    def step_per_nm(self, edge: str) -> float:
        """Absorption that the edge adds, far above it."""
        element = edge.partition("_")[0]
        first, last = self._around(element)
        share = self._mass_shares()[element] * self.settings.density_g_cm3
        below, above = first - _CLEAR_EV[0], last + _CLEAR_EV[1]
        rest = xraydb.mu_elam(element, below) * (below / above) ** _FALLS
        return float(share * (xraydb.mu_elam(element, above) - rest) * _CM_PER_NM)

    def below_per_nm(self, edge: str, energy_ev: float) -> float:
        """Absorption of all but the edge."""
        clear = self._around(edge.partition("_")[0])[0] - _CLEAR_EV[0]
        total = sum(share * xraydb.mu_elam(name, clear) for name, share in self._mass_shares().items())
        return float(self.settings.density_g_cm3 * total * (clear / energy_ev) ** _FALLS * _CM_PER_NM)

    def truth(self, y_um: Array, x_um: Array, *, spot_nm: float = 0.0) -> StxmTruth:
        """Return what is true at the points of a raster, rows at y and columns at x.

        With a spot the state is the mean over what it sees, weighted by thickness.
        """
        places = np.stack(np.meshgrid(self._place(y_um), self._place(x_um), indexing="ij"))
        width = spot_nm / self.field.pixel_nm

        def at(image: Array) -> Array:
            seen = ndimage.gaussian_filter(image, width) if width > 0 else image
            return np.asarray(ndimage.map_coordinates(seen, places, order=1, mode="constant"))

        thickness = at(self.field.thickness_nm)
        amount = at(np.nan_to_num(self.field.state) * self.field.thickness_nm)
        labels = ndimage.map_coordinates(self.field.labels, places, order=0, mode="constant")
        return StxmTruth(
            np.where(thickness > _LEAST_NM, amount / np.maximum(thickness, _LEAST_NM), np.nan),
            thickness,
            np.asarray(labels, np.int64),
            self.field.radius_nm,
        )

    def _place(self, at_um: Array) -> Array:
        field = self.settings.grains.field_um
        return (1e3 * np.asarray(at_um, np.float64) + 0.5e3 * field) / self.field.pixel_nm - 0.5

    def _passed(self, y_um: Array, x_um: Array) -> Array:
        key = self.true_ev, round(self.spot_nm(), 3)
        if self._image is None or self._image[0] != key:
            self._image = key, self._transmission(*key)
        places = np.stack(np.broadcast_arrays(self._place(y_um), self._place(x_um)))
        return np.asarray(ndimage.map_coordinates(self._image[1], places, order=1, mode="constant", cval=1.0))

    def _transmission(self, energy_ev: float, spot_nm: float) -> Array:
        reached = [name for name, at_ev in SOFT_EDGES_EV.items() if energy_ev > at_ev - _BEFORE_EV]
        edge = max(reached, key=lambda name: SOFT_EDGES_EV[name]) if reached else "O_K"
        state = np.nan_to_num(self.field.state)
        passed = np.exp(-self.field.thickness_nm * self.spectrum(edge, state, energy_ev))
        return np.asarray(ndimage.gaussian_filter(passed, spot_nm / self.field.pixel_nm, mode="nearest"))

    def _flux(self) -> float:
        energy_ev = self.true_ev
        ripple = 1.0 + 0.04 * (math.sin(energy_ev / 3.1) + math.sin(energy_ev / 7.7))
        return float(self.shutter_open * self.settings.flux_hz * ripple * (energy_ev / 850.0) ** -0.5)

    def _around(self, element: str) -> tuple[float, float]:
        """Energies of the first and of the last edge of a scan."""
        first, last = ("K", "K") if element == "O" else ("L3", "L2")
        return float(xraydb.xray_edge(element, first).energy), float(xraydb.xray_edge(element, last).energy)

    def _mass_shares(self) -> dict[str, float]:
        atoms = xraydb.chemparse(self.settings.formula)
        masses = {name: count * float(xraydb.atomic_mass(name)) for name, count in atoms.items()}
        total = sum(masses.values())
        return {name: float(mass / total) for name, mass in masses.items()}
