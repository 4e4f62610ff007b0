"""The twin: state of the simulated beamline and the physics that turns it into counts.

Knows nothing of ophyd or EPICS; the simulated devices and the simulated IOC both act on it.
"""

import math
import threading

import numpy as np
from numpy.typing import NDArray

from beamline_devices import DeviceError

from ._absorption import NMC622, OxideAbsorption, PureAbsorption, broadened
from ._beam import Beam
from ._camera import Camera
from ._compounds import COMPOUNDS, EDGE_ELEMENT, edge_of_twin
from ._constants import NI_K_EV
from ._exposure import Exposure
from ._faults import Fault, Faults
from ._optics import focus_mm, image_shift_px, margin_px, rotation_deg
from ._projection import Projection
from ._render import RowBlocks
from ._sample import SampleMaps, electrode, uniform
from ._settings import TwinSettings
from ._truth import Truth, truth_in_view
from ._volume import SampleVolume, VolumeTruth
from ._volume_settings import VolumeSettings

__all__ = ["Twin"]

_PELLET_UM = 15.0
_I0_NA = 50.0
_COMPOUND_OD_JUMP = 0.8


class Twin:
    """Simulated source, monochromator, sample, optics and camera.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the camera.
    pixel_size_nm : float
        Pixel size at the sample.
    seed : int
        Sample, fixed patterns of the camera and noise are random and follow from it.
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
    stage_um, fine_um : tuple of float
        Displacement (rows, columns) of the sample by its stage, and by the fine axes on top of it.
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
        self.energy_ev = NI_K_EV
        self.calibration_ev = 0.0
        self.shutter_open = False
        self.sample_in = True
        self.stage_um = (0.0, 0.0)
        self.fine_um = (0.0, 0.0)
        self.zone_plate_mm: float | None = None
        self.filter_um = 0.0
        self.clock_s = 0.0
        self._seed = seed
        self._lock = threading.Lock()
        self._render_lock = threading.Lock()
        beyond = 0.5 * (max(settings.sample.extent, 1.0) - 1.0) * max(self.shape)
        self._margin = margin_px(settings.optics, self.shape, self.pixel_size_nm) + math.ceil(beyond)
        self._electrode: SampleMaps | None = None
        self._volume: SampleVolume | None = None
        self._angle_deg = 0.0
        self._sample = self._make_electrode()
        blocks = RowBlocks(rows * cols)
        self._projection = Projection(self.shape, self._margin, self.pixel_size_nm, settings.optics, blocks)
        self._camera = Camera(self.shape, settings.camera, settings.optics.stray_light, seed, blocks)
        self._beam = Beam(settings.source, settings.mono.glitch_depth, np.random.default_rng([seed, 5]))
        self._begun = 0
        self._i0_readings = 0
        self._unread: Exposure | None = None
        self._last_exposure: Exposure | None = None

    # -- sample --------------------------------------------------------------------------------------------

    def load_electrode(self) -> None:
        """Put the electrode on the stage."""
        with self._lock:
            self._volume = None
            self._sample = self._make_electrode()

    def load_volume(self, settings: VolumeSettings | None = None) -> None:
        """Put particles on the stage that differ with the angle under which they are seen."""
        volume = SampleVolume(
            self.shape,
            self._margin,
            self.pixel_size_nm,
            settings or VolumeSettings(),
            self.settings.mono.resolution,
            self._seed,
        )
        with self._lock:
            self._volume = volume
            self._sample = volume.projected(self._angle_deg)

    def rotate(self, angle_deg: float) -> None:
        """Turn the sample about the vertical axis; only a volume looks different then."""
        with self._lock:
            self._angle_deg = float(angle_deg)
            if self._volume is not None:
                self._sample = self._volume.projected(self._angle_deg)

    @property
    def angle_deg(self) -> float:
        """Angle of the axis of rotation."""
        return self._angle_deg

    def volume_truth(self, edge: str) -> VolumeTruth:
        """Return what is really in each voxel, for one of the edges Ni_K, Mn_K, Co_K.

        Raises
        ------
        DeviceError
            There is no volume on the stage.
        """
        if self._volume is None:
            raise DeviceError("there is no sample with three dimensions on the stage, load one: load_volume")
        return self._volume.truth(edge_of_twin(edge))

    def load_pellet(self, soc: float) -> None:
        """Put a uniform pellet of electrode material of known state of charge on the stage."""
        if not 0.0 <= soc <= 1.0:
            raise DeviceError(f"a standard has a state of charge between 0 and 1, not {soc:g}")
        oxide = OxideAbsorption(self.settings.mono.resolution)
        maps = tuple(_PELLET_UM * fraction for fraction in NMC622)
        with self._lock:
            self._volume = None
            self._sample = uniform(self._map_shape, oxide, maps, soc)

    def load_compound(self, name: str) -> None:
        """Put a foil or pellet of one of the reference compounds on the stage."""
        if name not in COMPOUNDS:
            raise DeviceError(f"the twin has no compound {name!r}, choose one of {', '.join(COMPOUNDS)}")
        pure = PureAbsorption(name, self.settings.mono.resolution)
        edge = next(e for e, metal in EDGE_ELEMENT.items() if metal == COMPOUNDS[name].element)
        thickness_um = _COMPOUND_OD_JUMP / float(pure.jump_per_um(edge)[0])
        with self._lock:
            self._volume = None
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

    def _make_electrode(self) -> SampleMaps:
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

    def truth(self, edge: str, *, whole: bool = False) -> Truth:
        """Return what is really in the beam, for one of the edges Ni_K, Mn_K, Co_K; or in the whole of the sample."""
        return truth_in_view(
            self._sample,
            (slice(None), slice(None)) if whole else self.view,
            edge_of_twin(edge),
            self.settings.mono.resolution,
            self.axis_offset_ev + self.calibration_ev,
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
    def axis_offset_ev(self) -> float:
        """Energy as the monochromator gives it minus true energy, now."""
        mono = self.settings.mono
        return mono.offset_ev + mono.drift_ev_per_h * self.clock_s / 3600.0

    @property
    def true_ev(self) -> float:
        """Energy of the photons."""
        return self.energy_ev - self.axis_offset_ev

    def glitch(self) -> float:
        """Share of the beam that a glitch of the monochromator takes at the present energy."""
        return self._beam.glitch(self.true_ev)

    @property
    def ring_current_ma(self) -> float:
        """Current in the storage ring, mA; nothing during a beam trip."""
        if self.faults.occurs_next(Fault.BEAM_TRIP):
            return 0.0
        return self._beam.ring_current_ma(self.clock_s)

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
                intensity = self._beam.intensity(self.clock_s, self.true_ev, self.filter_um)
            self._i0_readings += 1
            noise = np.random.default_rng([self._seed, 3, self._i0_readings]).standard_normal()
            return float(_I0_NA * intensity * (1.0 + 1e-4 * noise))

    def focus_mm(self, true_ev: float) -> float:
        """Return where the zone plate has to be for a sharp image."""
        return focus_mm(self.settings.optics, true_ev)

    def _defocus_um(self, true_ev: float) -> float:
        if self.zone_plate_mm is None:
            return 0.0
        return (self.zone_plate_mm - self.focus_mm(true_ev)) * 1e3

    # -- camera --------------------------------------------------------------------------------------------

    def begin(self, exposure_s: float) -> Exposure:
        """Begin an exposure: fix what the frame will show and let its time pass."""
        with self._lock:
            true_ev = self.true_ev
            optics = self.settings.optics
            displaced_um = (self.stage_um[0] + self.fine_um[0], self.stage_um[1] + self.fine_um[1])
            intensity = self._beam.intensity(self.clock_s, true_ev, self.filter_um)
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
                shift_px=self._shift_px(true_ev, displaced_um),
                magnification=1.0 + optics.magnification_per_ev * (true_ev - optics.focus_ev),
                rotation_deg=rotation_deg(optics, self.clock_s),
                defocus_um=self._defocus_um(true_ev),
            )
            self._unread = self._last_exposure = exposure
            self.clock_s += exposure_s + self.settings.camera.dead_time_s
            return exposure

    def _shift_px(self, true_ev: float, displaced_um: tuple[float, float]) -> tuple[float, float]:
        """Displacement of the image by optics and stage, and by the axis of rotation where a volume is turned."""
        y, x = image_shift_px(self.settings.optics, self.pixel_size_nm, self.clock_s, true_ev, displaced_um)
        if self._volume is None:
            return y, x
        runout = self._volume.runout_px(self._angle_deg)
        return y + runout[0], x + runout[1]

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
            through = (
                self._projection.transmission(self._sample, exposure)
                if lit and exposure.sample_in
                else _NO_IMAGE
            )
            # The illumination tilts a little with energy, and with what a glitch takes: flats belong to their energy.
            tilt_factor = (exposure.true_ev - 8000.0) / 8000.0 + 0.5 * self._beam.glitch(exposure.true_ev)
            return self._camera.frame(exposure.number, exposure.exposure_s, photons, tilt_factor, through)

    def expose(self, exposure_s: float) -> NDArray[np.uint16]:
        """Take one frame, counts (rows, cols)."""
        return self.render(self.begin(exposure_s))


_NO_IMAGE: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)
