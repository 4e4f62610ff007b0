"""Spectra of regions with their fits, from the frames that are read so far."""

import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks import CallbackError, ReadingError, RegionSpectrum
from edge_fitting import label_particles

from ._frame_watch import FrameWatch
from ._plain import plain
from ._region_fit import RegionFit, RegionFitter
from ._regions import Region, RegionError
from ._versions import stored_version

_KEPT = 256
_LOOK_S = 5.0
_SMALLEST_PARTICLE_PX = 16


@dataclass(frozen=True)
class RegionResult:
    """Spectrum and fit of a region; without them the note says why."""

    region: Region
    spectrum: RegionSpectrum | None
    fit: RegionFit | None
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        told: dict[str, Any] = {**self.region.to_dict(), "note": self.note}
        if self.spectrum is not None and self.fit is not None:
            told |= {
                "energy_ev": plain(self.spectrum.energy_ev),
                "optical_depth": plain(self.spectrum.optical_depth),
                "n_pixels": self.spectrum.n_pixels,
                "curve": plain(self.fit.curve),
                "noise": plain(self.fit.noise),
                "values": plain(self.fit.values),
            }
        return told


class RegionSpectra:
    """Gives the spectra of regions of one result; what was asked for is kept until there are other frames.

    Parameters
    ----------
    client : tiled client
        The root of the server.
    uid, name : str
        Uid of the run, and name of its result.
    watch : FrameWatch
        Its frames.
    """

    def __init__(self, client: Any, uid: str, name: str, watch: FrameWatch) -> None:
        self._client, self._uid, self._name, self.watch = client, uid, name, watch
        self._lock = threading.Lock()
        self._kept: OrderedDict[Any, RegionResult] = OrderedDict()
        self._fitter: RegionFitter | None = None
        self._fitter_of: Any = None
        self._look_s = 0.0
        self._labels: npt.NDArray[np.integer] | None = None
        self._labels_of: Any = None

    def of(self, region: Region) -> RegionResult:
        """Return spectrum and fit of a region."""
        frames = self.watch.frames
        key = region.kind, region.points, id(frames), self.watch.version, self.watch.is_read
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._made(region)
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            held = self._kept[key]
        return RegionResult(region, held.spectrum, held.fit, held.note)

    def _made(self, region: Region) -> RegionResult:
        frames = self.watch.frames
        if frames.shape is None:
            return RegionResult(region, None, None, self.watch.problem or "The first frames are being read.")
        try:
            labels = self._particles() if region.kind == "particle" else None
            spectrum = frames.spectrum(region.mask(frames.shape, labels))
        except (CallbackError, RegionError) as error:
            return RegionResult(region, None, None, str(error))
        fit = self._fitter_now().fit(spectrum)
        return RegionResult(region, spectrum, fit, fit.note)

    def prepare(self) -> None:
        """Make the fit ready, so that the first click does not wait for it."""
        with self._lock, suppress(CallbackError):
            self._fitter_now()

    def _fitter_now(self) -> RegionFitter:
        now = time.monotonic()
        if self._fitter is not None and now < self._look_s:
            return self._fitter
        self._look_s = now + _LOOK_S
        stored = stored_version(self._client, self._uid, self._name)
        has_references = bool(stored.attrs.get("references"))
        of = stored.written_by, None if has_references else stored.attrs.get("n_frames")
        if self._fitter is None or of != self._fitter_of:
            self._fitter = RegionFitter(
                stored.attrs, stored.read("energy_ev"), stored.read("mean_optical_depth")
            )
            self._fitter_of = of
        return self._fitter

    def _particles(self) -> npt.NDArray[np.integer] | None:
        """Return which particle each pixel of the map belongs to: connected pixels that have a value."""
        stored = stored_version(self._client, self._uid, self._name)
        of = stored.written_by, stored.attrs.get("n_frames")
        if self._labels is None or of != self._labels_of:
            try:
                signal = stored.read(str(stored.attrs.get("signal")))
            except ReadingError:
                return None
            if signal.ndim != 2 or not signal.size:
                return None
            self._labels = label_particles(np.isfinite(signal), min_pixels=_SMALLEST_PARTICLE_PX)
            self._labels_of = of
        return self._labels
