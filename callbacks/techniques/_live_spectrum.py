"""Mean spectra of runs, for example of bulk standards that become reference spectra."""

from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks.documents import (
    FILE_TIMEOUT_S,
    DocumentWorker,
    RunReadings,
    RunRouting,
    Slot,
    read_run,
)
from callbacks.errors import CallbackError
from callbacks.reduce import FlatFieldBook, ReadyFrame, Spectrum, optical_depth
from scan_contract import FullFieldContract, RunContract, is_energy_scan


class LiveSpectrum(DocumentWorker):
    """Mean optical depth against energy of each run, over the whole frame or a mask.

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
        self._runs: dict[str, _RunSpectrum] = {}
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
        if run is None or not run.frames:
            raise CallbackError(
                f"no frame of run {uid[:8]} has been seen here; subscribe the spectrum before the run starts "
                "and call wait() after it"
            )
        return run.spectrum()

    def _handle(self, name: str, doc: dict[str, Any]) -> None:
        uid = self._routing.run_of(name, doc)
        if name == "start":
            if is_energy_scan(doc) and uid is not None and uid not in self._runs:
                contract = read_run(doc)
                if isinstance(contract.scan, FullFieldContract):
                    self._runs[uid] = _RunSpectrum(contract, contract.scan, self._mask, self._file_timeout_s)
        elif uid in self._runs:
            self._runs[uid].add(name, doc)
            if name == "stop":
                self._routing.forget(uid)


class _RunSpectrum:
    def __init__(
        self,
        contract: RunContract,
        scan: FullFieldContract,
        mask: npt.NDArray[np.bool_] | None,
        file_timeout_s: float,
    ) -> None:
        self._reader = RunReadings(contract, file_timeout_s=file_timeout_s)
        self._book = FlatFieldBook(scan)
        self._mask = mask
        # Per frame: attempt, energy, mean and standard error.
        self.frames: dict[Slot, tuple[int, float, float, float]] = {}

    def add(self, name: str, doc: dict[str, Any]) -> None:
        for reading in self._reader.add(name, doc):
            for ready in self._book.add(reading):
                self._average(ready)
        if name == "stop":
            for ready in self._book.finish():
                self._average(ready)
            self._book.close()

    def spectrum(self) -> Spectrum:
        by_energy: dict[int, list[tuple[float, float, float]]] = {}
        for (_, index, *_), (_, energy, mean, error) in self.frames.items():
            by_energy.setdefault(index, []).append((energy, mean, error))
        rows = []
        for values in by_energy.values():
            energy, mean, error = np.asarray(values).T
            rows.append((energy.mean(), mean.mean(), np.sqrt((error**2).sum()) / error.size))
        energy_ev, depth, sigma = np.asarray(sorted(rows)).T
        return energy_ev, depth, sigma

    def _average(self, ready: ReadyFrame) -> None:
        reading = ready.reading
        kept = self.frames.get(reading.slot)
        if kept is not None and kept[0] >= reading.attempt:
            return
        if not ready.transmission > 0:
            return  # a frame without light says nothing
        depth = optical_depth(ready, slice(None) if self._mask is None else self._mask.reshape(-1))
        good = depth[np.isfinite(depth)]
        if good.size:
            mean, error = good.mean(dtype=np.float64), good.std(dtype=np.float64) / np.sqrt(good.size)
            self.frames[reading.slot] = (reading.attempt, reading.energy_ev, float(mean), float(error))
