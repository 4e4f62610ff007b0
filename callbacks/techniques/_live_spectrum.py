"""Mean spectra of runs, for example of bulk standards that become reference spectra."""

import numpy as np
import numpy.typing as npt

from callbacks.documents import FILE_TIMEOUT_S, AnyDocument, DocumentWorker, RunRouting, Slot, read_run
from callbacks.errors import CallbackError
from callbacks.reduce import CorrectedFrame, Reduced, Spectrum, optical_depth
from scan_contract import is_energy_scan

from ._full_field import FULL_FIELD
from ._pipeline import RunPipeline
from ._technique import RunState


class LiveSpectrum(DocumentWorker):
    """Mean optical depth against energy of each run, over the whole frame or a mask.

    Frames are read, checked and corrected as those of `LiveSOC` are.

    Parameters
    ----------
    mask : ndarray of bool, (rows, cols), optional
        Pixels to average; by default all.
    file_timeout_s : float
        How long to wait for a frame that should be in a file.
    """

    def __init__(
        self, mask: npt.NDArray[np.bool_] | None = None, *, file_timeout_s: float = FILE_TIMEOUT_S
    ) -> None:
        self._mask = None if mask is None else np.asarray(mask, bool)
        self._file_timeout_s = file_timeout_s
        self._routing = RunRouting()
        self._runs: dict[str, RunPipeline] = {}
        super().__init__("live spectrum")

    def spectrum(self, uid: str) -> Spectrum:
        """Return the spectrum of a run by rising energy.

        Returns
        -------
        energy_ev, optical_depth, sigma : ndarray, (n,)
            Mean readback of each energy, mean optical depth, and its standard error from the scatter of the
            pixels.

        Raises
        ------
        CallbackError
            The run is not known here or none of its frames could be used.
        """
        run = self._runs.get(uid)
        spectrum: Spectrum | None = None if run is None else run.result()
        if spectrum is None:
            raise CallbackError(
                f"no frame of run {uid[:8]} has been seen here; subscribe the spectrum before the run starts "
                "and call wait() after it"
            )
        return spectrum

    def _handle(self, name: str, doc: AnyDocument) -> None:
        uid = self._routing.run_of(name, doc)
        if name == "start":
            if is_energy_scan(doc) and uid is not None and uid not in self._runs:
                contract = read_run(doc)
                if contract.scan.technique == "full_field":
                    self._runs[uid] = RunPipeline(
                        FULL_FIELD, contract, _MeanSpectrum(self._mask), file_timeout_s=self._file_timeout_s
                    )
        elif uid in self._runs:
            try:
                self._runs[uid].add(name, doc)
            finally:
                if name == "stop":
                    self._runs[uid].close()
                    self._routing.forget(uid)


class _MeanSpectrum:
    """Estimator: the mean over the pixels of every frame."""

    def __init__(self, mask: npt.NDArray[np.bool_] | None) -> None:
        self._pixels = slice(None) if mask is None else mask.reshape(-1)
        # Per frame: energy index, energy, mean and standard error.
        self._frames: dict[Slot, tuple[int, float, float, float]] = {}

    def push(self, reduced: Reduced) -> None:
        """Average a frame."""
        values = reduced.values
        if isinstance(values, CorrectedFrame):
            depth = optical_depth(values, self._pixels)
        else:
            depth = values.reshape(-1)[self._pixels]
        good = depth[np.isfinite(depth)]
        if good.size:
            mean, error = good.mean(dtype=np.float64), good.std(dtype=np.float64) / np.sqrt(good.size)
            self._frames[reduced.slot] = (
                reduced.label.energy_index,
                reduced.energy_ev,
                float(mean),
                float(error),
            )

    def retract(self, reduced: Reduced) -> None:
        """Forget a frame."""
        self._frames.pop(reduced.slot, None)

    def merge(self, other: "_MeanSpectrum") -> None:
        """Add the frames of another part of the scan."""
        self._frames = {**other._frames, **self._frames}

    def result(self, state: RunState) -> Spectrum | None:
        """Return the spectrum; None before the first frame."""
        by_energy: dict[int, list[tuple[float, float, float]]] = {}
        for index, energy, mean, error in list(self._frames.values()):
            by_energy.setdefault(index, []).append((energy, mean, error))
        rows = []
        for values in by_energy.values():
            energy, mean, error = np.asarray(values).T
            rows.append((energy.mean(), mean.mean(), np.sqrt((error**2).sum()) / error.size))
        if not rows:
            return None
        energy_ev, depth, sigma = np.asarray(sorted(rows)).T
        return energy_ev, depth, sigma
