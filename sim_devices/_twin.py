"""The twin: state of the simulated beamline and the physics that turns it into counts. Knows nothing of ophyd or EPICS."""

import threading
from dataclasses import dataclass

import numpy as np
import xraydb
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import ndtri

from beamline_devices import DeviceError
from sim_devices._absorption import OxideAbsorption, edge_truth
from sim_devices._compounds import EDGE_ELEMENT, METALS
from sim_devices._render import RowBlocks, expose, transmit
from sim_devices._sample import SampleMaps, electrode, pellet
from sim_devices._settings import TwinSettings

__all__ = ["Truth", "Twin"]

_PELLET_UM = 15.0
_FILM_EV = 8000.0


@dataclass(frozen=True)
class Truth:
    """What a perfect analysis of one edge would find.

    Attributes
    ----------
    soc : ndarray float32 (rows, cols)
        State of charge; NaN without material.
    edge_energy_ev : ndarray float32 (rows, cols)
        Half-jump energy of the spectrum as the monochromator sees it, eV on the axis of the readback; NaN without material.
    jump : ndarray float32 (rows, cols)
        Edge jump in optical depth.
    mask : ndarray bool (rows, cols)
        Where there is material (jump above 0.01).
    """

    soc: NDArray[np.float32]
    edge_energy_ev: NDArray[np.float32]
    jump: NDArray[np.float32]
    mask: NDArray[np.bool_]


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
    """

    def __init__(
        self, shape: tuple[int, int], *, pixel_size_nm: float, seed: int, settings: TwinSettings
    ) -> None:
        rows, cols = shape
        if rows < 8 or cols < 8:
            raise DeviceError(f"a camera of {rows} x {cols} pixels is too small, use at least 8 x 8")
        self.shape = (rows, cols)
        self.pixel_size_nm = pixel_size_nm
        self.settings = settings
        self._seed = seed
        self._lock = threading.Lock()
        self._absorption = OxideAbsorption(settings.mono.resolution)
        self._electrode: SampleMaps | None = None
        self._sample = self._grow_electrode()
        self._blocks = RowBlocks(rows, cols)
        rng = np.random.default_rng([seed, 2])
        self._sensitivity, self._tilt = _flat_field(self.shape, settings.camera.structure, rng)
        self._fixed_pattern = rng.normal(0.0, 1.0, self.shape).astype(np.float32)
        self._normal = ndtri((np.arange(65536) + 0.5) / 65536).astype(np.float32)
        self._frames = 0
        self._readings = 0
        self._transmission: tuple[float, SampleMaps, NDArray[np.float32]] | None = None
        self.clock_s = 0.0
        self.energy_ev = 8333.0
        self.shutter_open = False
        self.sample_in = True

    # -- sample -----------------------------------------------------------------------------------------------------------

    def load_electrode(self) -> None:
        """Put the electrode on the stage."""
        with self._lock:
            self._sample = self._grow_electrode()

    def load_pellet(self, soc: float) -> None:
        """Put a uniform pellet of known state of charge on the stage."""
        if not 0.0 <= soc <= 1.0:
            raise DeviceError(f"a standard has a state of charge between 0 and 1, not {soc:g}")
        with self._lock:
            self._sample = pellet(self.shape, _PELLET_UM, soc)

    def _grow_electrode(self) -> SampleMaps:
        if self._electrode is None:
            rng = np.random.default_rng([self._seed, 1])
            self._electrode = electrode(self.shape, self.pixel_size_nm, self.settings.sample, rng)
        return self._electrode

    def truth(self, edge: str) -> Truth:
        """Maps of what is really in the beam, for one of the edges Ni_K, Mn_K, Co_K."""
        if edge not in EDGE_ELEMENT:
            raise DeviceError(f"the twin has no edge {edge!r}, choose one of {', '.join(EDGE_ELEMENT)}")
        sample = self._sample
        metal = METALS.index(EDGE_ELEMENT[edge])
        jump = sample.areal[metal] * np.float32(self._absorption.jump_per_um(edge))
        mask = jump > 0.01
        table = edge_truth(edge, self.settings.mono.resolution)
        energy = np.interp(sample.soc, table.soc, table.half_jump_ev) + self.settings.mono.offset_ev
        nan = np.float32(np.nan)
        return Truth(
            soc=np.where(mask, sample.soc, nan),
            edge_energy_ev=np.where(mask, energy, nan).astype(np.float32),
            jump=jump,
            mask=mask,
        )

    # -- beam -------------------------------------------------------------------------------------------------------------

    def _intensity(self) -> float:
        """Relative intensity of the source now."""
        source = self.settings.source
        return 1.0 + source.drift * float(np.sin(2 * np.pi * self.clock_s / source.drift_period_s))

    def read_i0(self) -> float:
        """Incident intensity in nA, as an ion chamber upstream of the sample gives it."""
        with self._lock:
            self._readings += 1
            rng = np.random.default_rng([self._seed, 3, self._readings])
            return float(50.0 * self._intensity() * (1.0 + 1e-4 * rng.standard_normal()))

    def wait(self, seconds: float) -> None:
        """Let simulated time pass."""
        with self._lock:
            self.clock_s += seconds

    # -- camera -----------------------------------------------------------------------------------------------------------

    def expose(self, exposure_s: float) -> NDArray[np.uint16]:
        """Take one frame, counts (rows, cols)."""
        with self._lock:
            camera = self.settings.camera
            photons = camera.counts_per_s * exposure_s * self._intensity() if self.shutter_open else 0.0
            true_ev = self.energy_ev - self.settings.mono.offset_ev
            empty = np.empty((0, 0), dtype=np.float32)
            through = self._transmit(true_ev) if self.sample_in and self.shutter_open else empty
            # The illumination changes a little with energy: flats belong to their energy.
            beam = self._sensitivity + np.float32((true_ev - 8000.0) / 8000.0) * self._tilt
            dark = np.float32(camera.offset + camera.dark_per_s * exposure_s) + self._fixed_pattern
            self._frames += 1
            seed = np.random.SeedSequence([self._seed, 4, self._frames]).generate_state(1, np.uint64)[0]
            out = np.empty(self.shape, dtype=np.uint16)
            self._blocks.run(
                expose,
                beam,
                through,
                photons,
                dark,
                self._normal,
                camera.read_noise,
                seed,
                camera.saturation,
                out,
            )
            self.clock_s += exposure_s
            return out

    def _transmit(self, true_ev: float) -> NDArray[np.float32]:
        """Transmission of the sample; kept while neither energy nor sample change."""
        sample = self._sample
        kept = self._transmission
        if kept is None or kept[0] != true_ev or kept[1] is not sample:
            film = sample.film_depth * float(xraydb.mu_elam("C", true_ev) / xraydb.mu_elam("C", _FILM_EV))
            out = np.empty(self.shape, dtype=np.float32)
            table = self._absorption.table(true_ev)
            self._blocks.run(transmit, sample.areal, sample.soc, table, np.float32(film), out)
            self._transmission = (true_ev, sample, out)
            return out
        return kept[2]


def _flat_field(
    shape: tuple[int, int], structure: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Open beam relative to its mean, and how it tilts with energy."""
    rows, cols = shape
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, cols), indexing="ij")
    small = max(min(rows, cols) / 40.0, 1.0)
    blotches = gaussian_filter(rng.standard_normal(shape), small, mode="wrap")
    blotches /= blotches.std()
    fine = rng.standard_normal(shape)
    shade = 1.0 - 0.25 * (x * x + y * y) / 2.0
    flat = shade * (1.0 + structure * (0.6 * blotches + 0.2 * fine)) if structure > 0 else np.ones(shape)
    tilt = 0.5 * structure * (0.7 * x - 0.4 * y)
    return (flat / flat.mean()).astype(np.float32), tilt.astype(np.float32)
