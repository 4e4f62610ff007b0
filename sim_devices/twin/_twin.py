"""The twin: state of the simulated beamline and the physics that turns it into counts.

Knows nothing of ophyd or EPICS; the simulated devices and the simulated IOC both act on it.
"""

import math
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from beamline_devices import DeviceError
from scan_contract import optional_import

from ._absorption import NMC622, OxideAbsorption, PureAbsorption, broadened, edge_truth
from ._compounds import COMPOUNDS, EDGE_ELEMENT
from ._diffraction import focal_length_mm, wavelength_nm
from ._faults import Fault, Faults
from ._render import RowBlocks, expose, normal_thirds, resample_columns, resample_rows, transmit
from ._sample import SampleMaps, electrode, uniform
from ._settings import CameraSettings, TwinSettings

with optional_import("sim", "simulated beamlines"):
    import xraydb

__all__ = ["Exposure", "Truth", "Twin"]

_PELLET_UM = 15.0
_CM_PER_UM = 1e-4
_SHARP_PX = 0.1
_FILM_EV = 8000.0
_I0_NA = 50.0
_GLITCH_RANGE_EV = (6300.0, 9000.0)
_GLITCH_EVERY_EV = 45.0
_GLITCH_WIDTH_EV = 0.5
_COMPOUND_OD_JUMP = 0.8


@dataclass(frozen=True)
class Truth:
    """What a perfect analysis of one edge would find.

    Attributes
    ----------
    soc : ndarray float32 (rows, cols)
        State of charge, the mean along the ray; NaN without material.
    edge_energy_ev : ndarray float32 (rows, cols)
        Half-jump energy at that state of the spectrum as the monochromator records it, eV on the axis of the
        readback; NaN without material.
    jump : ndarray float32 (rows, cols)
        Edge jump in optical depth.
    mask : ndarray bool (rows, cols)
        Where there is material (jump above 0.01).
    """

    soc: NDArray[np.float32]
    edge_energy_ev: NDArray[np.float32]
    jump: NDArray[np.float32]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Exposure:
    """Everything that decides a frame, fixed when the exposure begins.

    Attributes
    ----------
    number : int
        Frames begun so far, this one included.
    exposure_s : float
        Duration.
    true_ev : float
        Photon energy of the beam.
    intensity : float
        Beam relative to nominal; 0 during a trip.
    shutter_open, sample_in : bool
        What is in the beam.
    shift_px : tuple of float
        Displacement (rows, columns) of the image of the sample.
    magnification : float
        Magnification relative to nominal.
    defocus_um : float
        Distance of the zone plate from where the image is sharp.
    """

    number: int
    exposure_s: float
    true_ev: float
    intensity: float
    shutter_open: bool
    sample_in: bool
    shift_px: tuple[float, float]
    magnification: float
    defocus_um: float


class Twin:
    """Simulated source, monochromator, sample, optics and camera.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the camera.
    pixel_size_nm : float
        Pixel size at the sample.
    seed : int
        All accidents of the sample, the camera and the noise follow from it.
    settings : TwinSettings
        The knobs.

    Attributes
    ----------
    energy_ev : float
        Energy as the monochromator gives it, before the user's calibration.
    shutter_open, sample_in : bool
        What is in the beam.
    calibration_ev : float
        What the user's calibration adds to the monochromator's readback.
    stage_um : tuple of float
        Displacement (rows, columns) of the sample by its stage.
    zone_plate_mm : float, optional
        Position of the zone plate along the beam; None keeps it in focus at every energy.
    filter_um : float
        Aluminium in the beam upstream of everything.
    clock_s : float
        Simulated time.
    faults : Faults
        What is to go wrong.
    """

    def __init__(
        self, shape: tuple[int, int], *, pixel_size_nm: float, seed: int, settings: TwinSettings
    ) -> None:
        rows, cols = shape
        if rows < 8 or cols < 8:
            raise DeviceError(f"a camera of {rows} x {cols} pixels is too small, use at least 8 x 8")
        if not pixel_size_nm > 0:
            raise DeviceError(f"pixels need a positive size in nm, not {pixel_size_nm:g}")
        self.shape = (int(rows), int(cols))
        self.pixel_size_nm = float(pixel_size_nm)
        self.settings = settings
        self.faults = Faults()
        self.energy_ev = 8333.0
        self.calibration_ev = 0.0
        self.shutter_open = False
        self.sample_in = True
        self.stage_um = (0.0, 0.0)
        self.zone_plate_mm: float | None = None
        self.filter_um = 0.0
        self.clock_s = 0.0
        self._seed = seed
        self._lock = threading.Lock()
        self._render_lock = threading.Lock()
        self._margin = self._margin_px()
        self._electrode: SampleMaps | None = None
        self._sample = self._grow_electrode()
        self._blocks = RowBlocks(rows * cols)
        rng = np.random.default_rng([seed, 2])
        self._sensitivity, self._tilt = _flat_field(self.shape, settings.camera, rng)
        self._offset, self._dark_per_s = _dark_field(self.shape, settings.camera, rng)
        self._glitches = _glitches(settings.mono.glitch_depth, np.random.default_rng([seed, 5]))
        self._normal = normal_thirds()
        self._begun = 0
        self._i0_readings = 0
        self._unread: Exposure | None = None
        self._last_exposure: Exposure | None = None
        self._kept: tuple[tuple[object, ...], SampleMaps, NDArray[np.float32]] | None = None

    # -- sample --------------------------------------------------------------------------------------------

    def load_electrode(self) -> None:
        """Put the electrode on the stage."""
        with self._lock:
            self._sample = self._grow_electrode()

    def load_pellet(self, soc: float) -> None:
        """Put a uniform pellet of electrode material of known state of charge on the stage."""
        if not 0.0 <= soc <= 1.0:
            raise DeviceError(f"a standard has a state of charge between 0 and 1, not {soc:g}")
        oxide = OxideAbsorption(self.settings.mono.resolution)
        maps = tuple(_PELLET_UM * fraction for fraction in NMC622)
        with self._lock:
            self._sample = uniform(self._map_shape, oxide, maps, soc)

    def load_compound(self, name: str) -> None:
        """Put a foil or pellet of one of the reference compounds on the stage."""
        if name not in COMPOUNDS:
            raise DeviceError(f"the twin has no compound {name!r}, choose one of {', '.join(COMPOUNDS)}")
        pure = PureAbsorption(name, self.settings.mono.resolution)
        edge = next(e for e, metal in EDGE_ELEMENT.items() if metal == COMPOUNDS[name].element)
        thickness_um = _COMPOUND_OD_JUMP / float(pure.jump_per_um(edge)[0])
        with self._lock:
            self._sample = uniform(self._map_shape, pure, (thickness_um,), 0.0)

    @property
    def sample(self) -> SampleMaps:
        """What is on the stage now; its maps reach beyond the frame by the same margin on all sides."""
        return self._sample

    @property
    def view(self) -> tuple[slice, slice]:
        """Rows and columns of the sample's maps that the undisturbed frame shows."""
        m = self._margin
        return slice(m, m + self.shape[0]), slice(m, m + self.shape[1])

    @property
    def _map_shape(self) -> tuple[int, int]:
        return self.shape[0] + 2 * self._margin, self.shape[1] + 2 * self._margin

    def _grow_electrode(self) -> SampleMaps:
        if self._electrode is None:
            self._electrode = electrode(
                self._map_shape,
                self.pixel_size_nm,
                self.settings.optics.blur_nm,
                self.settings.sample,
                OxideAbsorption(self.settings.mono.resolution),
                np.random.default_rng([self._seed, 1]),
            )
        return self._electrode

    def _margin_px(self) -> int:
        """Sample beyond the field of view, for drift and magnification to bring in.

        The same for all but the wildest knobs, so that turning one leaves the sample as it was.
        """
        optics = self.settings.optics
        reach = 1.5 * (optics.drift_nm + optics.runout_nm) / self.pixel_size_nm
        reach += abs(optics.magnification_per_ev) * 800.0 * max(self.shape) / 2
        return max(math.ceil(reach) + 4, max(self.shape) // 16, 8)

    def truth(self, edge: str) -> Truth:
        """Return what is really in the beam, for one of the edges Ni_K, Mn_K, Co_K."""
        if edge not in EDGE_ELEMENT:
            raise DeviceError(f"the twin has no edge {edge!r}, choose one of {', '.join(EDGE_ELEMENT)}")
        sample = self._sample
        window = self.view
        per_um = sample.absorber.jump_per_um(edge).astype(np.float32)
        jump = np.tensordot(per_um, sample.areal[(slice(None), *window)], axes=1).astype(np.float32)
        mask = jump > 0.01
        if isinstance(sample.absorber, PureAbsorption):
            soc = np.full(self.shape, np.nan, dtype=np.float32)
            energy = np.full(self.shape, np.nan)
        else:
            table = edge_truth(edge, self.settings.mono.resolution)
            soc = sample.soc[window]
            axis = self.settings.mono.offset_ev + self.calibration_ev
            energy = np.interp(soc, table.soc, table.half_jump_ev) + axis
        nan = np.float32(np.nan)
        return Truth(
            soc=np.where(mask, soc, nan),
            edge_energy_ev=np.where(mask, energy, nan).astype(np.float32),
            jump=jump,
            mask=mask,
        )

    @staticmethod
    def true_spectrum(
        name: str, energy_ev: NDArray[np.float64], resolution: float = 0.0
    ) -> NDArray[np.float64]:
        """Return the normalised absorption of a reference compound at true energies in eV, same shape."""
        if name not in COMPOUNDS:
            raise DeviceError(f"the twin has no compound {name!r}, choose one of {', '.join(COMPOUNDS)}")
        return broadened(COMPOUNDS[name].lineshape, np.asarray(energy_ev, dtype=np.float64), resolution)

    # -- beam ----------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Let simulated time pass."""
        with self._lock:
            self.clock_s += seconds

    @property
    def ring_current_ma(self) -> float:
        """Current in the storage ring, mA; nothing during a beam trip."""
        if self.faults.occurs_next(Fault.BEAM_TRIP):
            return 0.0
        return self.settings.source.current_ma * self._decay()

    def _decay(self) -> float:
        source = self.settings.source
        if source.lifetime_h <= 0:
            return 1.0
        return math.exp(-(self.clock_s % source.top_up_s) / (3600.0 * source.lifetime_h))

    def _intensity(self, true_ev: float) -> float:
        """Beam relative to nominal, without regard to trips."""
        source = self.settings.source
        wander = 1.0 + source.drift * math.sin(2 * math.pi * self.clock_s / source.drift_period_s)
        relative = self._decay() * wander * (1.0 - self._glitch(true_ev))
        if self.filter_um > 0:
            relative *= math.exp(-self.filter_um * _CM_PER_UM * float(xraydb.material_mu("Al", true_ev)))
        return relative

    def _glitch(self, true_ev: float) -> float:
        """Share of the beam that a glitch takes."""
        if not self._glitches.size:
            return 0.0
        place, depth = self._glitches
        return float(np.max(depth * np.exp(-0.5 * ((true_ev - place) / _GLITCH_WIDTH_EV) ** 2)))

    def read_i0(self) -> float:
        """Incident intensity in nA, from an ion chamber upstream of the shutter.

        Belongs to the exposure begun since the last reading, or else to the next one.
        """
        with self._lock:
            if self._unread is not None:
                intensity = self._unread.intensity
                self._unread = None
            elif self.faults.occurs_next(Fault.BEAM_TRIP):
                intensity = 0.0
            else:
                intensity = self._intensity(self.energy_ev - self.settings.mono.offset_ev)
            self._i0_readings += 1
            noise = np.random.default_rng([self._seed, 3, self._i0_readings]).standard_normal()
            return float(_I0_NA * intensity * (1.0 + 1e-4 * noise))

    def _shift_px(self, true_ev: float) -> tuple[float, float]:
        """Displacement of the image: wandering with time, runout with energy, and the stage."""
        optics = self.settings.optics
        turn = 2 * math.pi * self.clock_s / optics.drift_period_s
        wander = (
            math.sin(turn) + 0.4 * math.sin(2.7 * turn),
            math.sin(0.8 * turn) - 0.3 * math.sin(3.1 * turn),
        )
        phase = 2 * math.pi * (true_ev - optics.focus_ev) / 60.0
        runout = (math.sin(phase), 1.0 - math.cos(phase))
        y, x = (
            (optics.drift_nm * w + optics.runout_nm * r + 1e3 * s) / self.pixel_size_nm
            for w, r, s in zip(wander, runout, self.stage_um, strict=True)
        )
        return y, x

    def focus_mm(self, true_ev: float) -> float:
        """Return where the zone plate has to be for a sharp image."""
        optics = self.settings.optics
        here, there = (
            focal_length_mm(e, optics.zone_plate_um, optics.outermost_zone_nm)
            for e in (true_ev, optics.focus_ev)
        )
        return optics.focus_mm + (here - there) * (1.0 + 1.0 / optics.magnification)

    def _defocus_um(self, true_ev: float) -> float:
        if self.zone_plate_mm is None:
            return 0.0
        return (self.zone_plate_mm - self.focus_mm(true_ev)) * 1e3

    def _defocus_px(self, exposure: Exposure) -> float:
        """Return the standard deviation of the disc into which a point is spread out of focus."""
        aperture = wavelength_nm(exposure.true_ev) / (2.0 * self.settings.optics.outermost_zone_nm)
        return 0.5 * abs(exposure.defocus_um) * aperture * 1e3 / self.pixel_size_nm

    # -- camera --------------------------------------------------------------------------------------------

    def begin(self, exposure_s: float) -> Exposure:
        """Begin an exposure: fix what the frame will show and let its time pass."""
        with self._lock:
            true_ev = self.energy_ev - self.settings.mono.offset_ev
            optics = self.settings.optics
            intensity = self._intensity(true_ev)
            if self.faults.occurs(Fault.BEAM_TRIP):
                intensity = 0.0
            self._begun += 1
            exposure = Exposure(
                number=self._begun,
                exposure_s=exposure_s,
                true_ev=true_ev,
                intensity=intensity,
                shutter_open=self.shutter_open,
                sample_in=self.sample_in,
                shift_px=self._shift_px(true_ev),
                magnification=1.0 + optics.magnification_per_ev * (true_ev - optics.focus_ev),
                defocus_um=self._defocus_um(true_ev),
            )
            self._unread = self._last_exposure = exposure
            self.clock_s += exposure_s + self.settings.camera.dead_time_s
            return exposure

    @property
    def last_exposure(self) -> Exposure | None:
        """The exposure begun last, for example to know how far the image was displaced."""
        return self._last_exposure

    def render(self, exposure: Exposure) -> NDArray[np.uint16]:
        """Return the frame of an exposure, counts (rows, cols)."""
        camera = self.settings.camera
        with self._render_lock:
            lit = exposure.shutter_open and exposure.intensity > 0
            photons = camera.photons_per_s * exposure.exposure_s * exposure.intensity if lit else 0.0
            through = self._transmission(exposure) if lit and exposure.sample_in else _NOTHING
            # The illumination tilts a little with energy, and with what a glitch takes: flats belong to their energy.
            lean = (exposure.true_ev - 8000.0) / 8000.0 + 0.5 * self._glitch(exposure.true_ev)
            seed = np.random.SeedSequence([self._seed, 4, exposure.number]).generate_state(1, np.uint64)[0]
            out = np.empty(self.shape, dtype=np.uint16)
            self._blocks.run(
                expose,
                self.shape[0],
                self._sensitivity,
                (lean * self._tilt[0], lean * self._tilt[1]),
                through,
                photons,
                self.settings.optics.stray_light,
                (self._offset, self._dark_per_s, exposure.exposure_s),
                (camera.gain, float(camera.full_well)),
                (camera.shot_noise, camera.read_noise),
                self._normal,
                seed,
                out,
            )
            return out

    def expose(self, exposure_s: float) -> NDArray[np.uint16]:
        """Take one frame, counts (rows, cols)."""
        return self.render(self.begin(exposure_s))

    def _transmission(self, exposure: Exposure) -> NDArray[np.float32]:
        """Transmission of the sample as the camera sees it; kept while nothing changes."""
        key = (exposure.true_ev, exposure.shift_px, exposure.magnification, exposure.defocus_um)
        sample = self._sample
        if self._kept is not None and self._kept[0] == key and self._kept[1] is sample:
            return self._kept[2]
        carbon = xraydb.mu_elam("C", exposure.true_ev) / xraydb.mu_elam("C", _FILM_EV)
        film = np.float32(sample.film_depth * float(carbon))
        table = sample.absorber.table(exposure.true_ev)
        if exposure.shift_px == (0.0, 0.0) and exposure.magnification == 1.0:
            seen = self._without_displacement(sample, table, film, (self._margin, self._margin), self.shape)
        else:
            seen = self._with_displacement(sample, table, film, exposure)
        spread_px = min(self._defocus_px(exposure), max(self.shape))
        if spread_px > _SHARP_PX:
            seen = gaussian_filter(seen, spread_px, mode="nearest", truncate=3.0)
        self._kept = (key, sample, seen)
        return seen

    def _without_displacement(
        self,
        sample: SampleMaps,
        table: NDArray[np.float32],
        film: np.float32,
        origin: tuple[int, int],
        shape: tuple[int, int],
    ) -> NDArray[np.float32]:
        """Transmission of a window of the sample's maps, which repeat themselves beyond their border."""
        out = np.empty(shape, dtype=np.float32)
        self._blocks.run(
            transmit, shape[0], origin, sample.areal, sample.soc, sample.soc_variance, table, film, out
        )
        return out

    def _with_displacement(
        self, sample: SampleMaps, table: NDArray[np.float32], film: np.float32, exposure: Exposure
    ) -> NDArray[np.float32]:
        """Shifted and magnified transmission: the window that is needed, interpolated along both axes."""
        (rows, row_weight), (cols, col_weight) = (
            _neighbours(size, self._margin, shift, exposure.magnification)
            for size, shift in zip(self.shape, exposure.shift_px, strict=True)
        )
        origin = (int(rows.min()), int(cols.min()))
        extent = (int(rows.max()) + 4 - origin[0], int(cols.max()) + 4 - origin[1])
        window = self._without_displacement(sample, table, film, origin, extent)
        half = np.empty((extent[0], self.shape[1]), dtype=np.float32)
        self._blocks.run(resample_columns, extent[0], window, cols - origin[1], col_weight, half)
        out = np.empty(self.shape, dtype=np.float32)
        self._blocks.run(resample_rows, self.shape[0], half, rows - origin[0], row_weight, out)
        return out


_NOTHING: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)


def _neighbours(
    size: int, margin: int, shift_px: float, magnification: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """First of four neighbours in maps with a margin, and their cubic (Catmull-Rom) weights, for `size` pixels.

    The centre of the image stays where it is under magnification.
    """
    centre = (size - 1) / 2
    place = (np.arange(size) - centre - shift_px) / magnification + centre + margin
    first = np.floor(place).astype(np.int64) - 1
    t = place - first - 1
    weight = np.stack(
        [
            0.5 * (-t + 2 * t**2 - t**3),
            0.5 * (2 - 5 * t**2 + 3 * t**3),
            0.5 * (t + 4 * t**2 - 3 * t**3),
            0.5 * (-(t**2) + t**3),
        ],
        axis=1,
    )
    return first, weight.astype(np.float32)


def _flat_field(
    shape: tuple[int, int], camera: CameraSettings, rng: np.random.Generator
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Open beam relative to its mean, and the size of its tilt with energy along rows and columns."""
    rows, cols = shape
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, cols), indexing="ij")
    # Broad blotches, drawn coarsely: smoothing a full frame over their width would take seconds.
    coarse = max(min(shape) // 256, 1)
    blotches = rng.standard_normal((-(-rows // coarse), -(-cols // coarse)))
    blotches = gaussian_filter(blotches, max(min(blotches.shape) / 40.0, 1.0), mode="wrap")
    blotches = zoom(blotches, (rows / blotches.shape[0], cols / blotches.shape[1]), order=1)
    blotches /= max(float(blotches.std()), 1e-9)
    fine = rng.standard_normal(shape)
    shade = 1.0 - 1.5 * camera.structure * (x * x + y * y)
    flat = np.clip(shade * (1.0 + camera.structure * (0.6 * blotches + 0.2 * fine)), 0.05, None)
    flat /= flat.mean()
    flat[rng.random(shape) < camera.dead_pixels] = 0.0
    return flat.astype(np.float32), (-0.2 * camera.structure, 0.35 * camera.structure)


def _dark_field(
    shape: tuple[int, int], camera: CameraSettings, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Offset in counts and dark charge in photon equivalents per second of each pixel."""
    offset = camera.offset + camera.pattern_noise * rng.standard_normal(shape)
    charge = np.full(shape, camera.dark_per_s)
    charge[rng.random(shape) < camera.hot_pixels] = 1000.0 * max(camera.dark_per_s, 1.0)
    return offset.astype(np.float32), charge.astype(np.float32)


def _glitches(depth: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Energies and depths (2, n) of the glitches; empty without any."""
    if depth <= 0:
        return np.empty((2, 0))
    low, high = _GLITCH_RANGE_EV
    count = int((high - low) / _GLITCH_EVERY_EV)
    return np.stack([np.sort(rng.uniform(low, high, count)), depth * rng.uniform(0.2, 1.0, count)])
