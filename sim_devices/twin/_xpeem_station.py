"""The electron microscope: the surface of grains by the electrons that X-rays set free, through a channel plate."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from beamline_devices import DeviceError

from ._faults import Faults
from ._grains import GrainSettings, grain_field
from ._soft_spectra import SOFT_EDGES_EV, soft_spectrum
from ._stxm_station import STXM_ENDS, StxmTruth

__all__ = ["XpeemSettings", "XpeemStation"]

Array = NDArray[np.float64]

_BEFORE_EV = 45.0
_BELOW = 0.5


@dataclass(frozen=True)
class XpeemSettings:
    """Knobs of the electron microscope.

    Attributes
    ----------
    grains : GrainSettings
        What lies in the field; the surface shows the state of a section.
    shape : tuple of int
        Rows and columns of the camera.
    counts : float
        Counts of a pixel and second on the grains, far above the edge.
    background : float
        Yield beside the grains, in parts of that on them.
    plate_pattern : float
        Relative standard deviation of the channel plate's pattern.
    blur_nm : float
        Gaussian width of the optics.
    drift_nm_per_frame : tuple of float
        Of the sample, along rows and columns.
    flux_noise : float
        Relative standard deviation of the beam from frame to frame.
    dark_counts : float
        Per pixel and frame.
    resolving_power, offset_ev, low_ev, high_ev : float
        Of the monochromator.
    """

    grains: GrainSettings = field(default_factory=GrainSettings)
    shape: tuple[int, int] = (80, 80)
    counts: float = 1500.0
    background: float = 0.15
    plate_pattern: float = 0.08
    blur_nm: float = 25.0
    drift_nm_per_frame: tuple[float, float] = (1.5, -1.0)
    flux_noise: float = 0.03
    dark_counts: float = 20.0
    resolving_power: float = 3000.0
    offset_ev: float = 0.0
    low_ev: float = 250.0
    high_ev: float = 1500.0

    def __post_init__(self) -> None:
        if not (min(self.shape) > 1 and self.counts > 0):
            raise DeviceError("the electron microscope needs a camera with pixels, and electrons")


class XpeemStation:
    """An electron microscope with a field of grains in it.

    Parameters
    ----------
    settings : XpeemSettings, optional
        Its knobs.
    seed : int
        Of noise and pattern.

    Attributes
    ----------
    setpoint_ev, gap_ev : float
        Energy as read back, and that of the undulator.
    shutter_open, sample_in : bool
        Whether there is beam, and whether the grains or a plain surface are looked at.
    faults : Faults
        What is to go wrong.
    clock_s : float
        Time since it was made.
    """

    def __init__(self, settings: XpeemSettings | None = None, *, seed: int = 1) -> None:
        self.settings = settings or XpeemSettings()
        self.setpoint_ev = self.gap_ev = 850.0
        self.polarisation = "horizontal"
        self.shutter_open, self.sample_in = False, True
        self.faults = Faults()
        self.clock_s = 0.0
        self.field = grain_field(self.settings.grains)
        self._rng = np.random.default_rng([seed, 29])
        smooth = ndimage.gaussian_filter(self._rng.standard_normal(self.settings.shape), 1.0)
        self._plate = 1.0 + self.settings.plate_pattern * smooth / smooth.std()
        self._n_frames = 0
        self._beam = 1.0

    @property
    def true_ev(self) -> float:
        """Energy of the photons."""
        return self.setpoint_ev - self.settings.offset_ev

    @property
    def pixel_nm(self) -> float:
        """Size of a pixel at the sample."""
        return 1e3 * self.settings.grains.field_um / self.settings.shape[1]

    def wait(self, duration_s: float) -> None:
        """Let time pass."""
        self.clock_s += duration_s

    def take(self, exposure_s: float) -> NDArray[np.uint16]:
        """Return one frame."""
        settings = self.settings
        self.wait(exposure_s)
        self._beam = 1.0 + settings.flux_noise * float(self._rng.standard_normal())
        seen = self._yield() if self.sample_in else np.full(settings.shape, 1.0)
        light = self.shutter_open * self._beam * settings.counts * exposure_s * self._plate * seen
        if self.sample_in and self.shutter_open:
            self._n_frames += 1
        counts = self._rng.poisson(light + settings.dark_counts)
        return np.asarray(np.clip(counts, 0, 65535), np.uint16)

    def take_mesh(self) -> float:
        """Return the current of a mesh during the last frame, relative."""
        return float(self.shutter_open * self._beam * (1.0 + 1e-3 * self._rng.standard_normal()))

    def truth(self) -> StxmTruth:
        """Return what is true at the pixels of a frame without drift."""
        places = self._places(0.0, 0.0)
        width = self.settings.blur_nm / self.field.pixel_nm

        def at(image: Array) -> Array:
            seen = ndimage.gaussian_filter(image, width)
            return np.asarray(ndimage.map_coordinates(seen, places, order=1, mode="nearest"))

        there = (self.field.labels > 0).astype(float)
        amount, cover = at(np.nan_to_num(self.field.state) * there), at(there)
        labels = ndimage.map_coordinates(self.field.labels, places, order=0, mode="nearest")
        return StxmTruth(
            np.where(cover > 0.01, amount / np.maximum(cover, 0.01), np.nan),
            cover,
            np.asarray(labels, np.int64),
            self.field.radius_nm,
        )

    def _places(self, rows_nm: float, columns_nm: float) -> Array:
        rows, columns = self.settings.shape
        scale = self.pixel_nm / self.field.pixel_nm
        at = [
            (np.arange(n) + 0.5) * scale - 0.5 - moved / self.field.pixel_nm
            for n, moved in ((rows, rows_nm), (columns, columns_nm))
        ]
        return np.stack(np.meshgrid(*at, indexing="ij"))

    def _yield(self) -> Array:
        settings, at_ev = self.settings, self.true_ev
        reached = [name for name, edge_ev in SOFT_EDGES_EV.items() if at_ev > edge_ev - _BEFORE_EV]
        edge = max(reached, key=lambda name: SOFT_EDGES_EV[name]) if reached else "O_K"
        low, high = (
            float(soft_spectrum(edge, name, [at_ev], settings.resolving_power)[0]) for name in STXM_ENDS[edge]
        )
        state = np.nan_to_num(self.field.state)
        there = self.field.labels > 0
        emitted = np.where(there, _BELOW + low + (high - low) * state, settings.background)
        blurred = ndimage.gaussian_filter(emitted, settings.blur_nm / self.field.pixel_nm)
        drift = [rate * self._n_frames for rate in settings.drift_nm_per_frame]
        return np.asarray(ndimage.map_coordinates(blurred, self._places(*drift), order=1, mode="nearest"))
