"""The analysis of one run: frames in, maps out. No threads here."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks._contract import ScanContract
from callbacks._errors import FrameError
from callbacks._flat_field import ALL_ENERGIES, FlatFieldBook, ReadyFrame
from callbacks._frames import FILE_TIMEOUT_S, FrameRecord, RunFrames
from callbacks._image_store import HeldFrame
from callbacks._root_map import RootMap
from callbacks._spectra import SampledSpectra, counting_variance, finite_mean, optical_depth
from callbacks._update import FrameSummary, SOCUpdate
from edge_fitting import EdgeFitter, EdgeMaps, ReferenceSeries

_FEW_PIXELS = 4096


class RunAnalysis:
    """Everything about one run that is being analysed.

    Parameters
    ----------
    contract : ScanContract
        What the start document said.
    references : ReferenceSeries or None
        Reference spectra of the fit.
    method : str
        Estimator, see `edge_fitting.EdgeFitter`.
    file_timeout_s : float
        How long to wait for a frame that should be in a file.
    roots : RootMap, optional
        Where the folders of the detector's files are on this machine.
    """

    def __init__(
        self,
        contract: ScanContract,
        references: ReferenceSeries | None,
        method: str,
        file_timeout_s: float = FILE_TIMEOUT_S,
        roots: RootMap | None = None,
    ) -> None:
        self.contract = contract
        self.references = references
        self.method = method
        self.exit_status: str | None = None
        self.final = False
        self._frames = RunFrames(contract, file_timeout_s=file_timeout_s, roots=roots)
        self._book = FlatFieldBook(contract)
        self._fitter: EdgeFitter | None = None
        self._unit_variance: float | None = None
        self._no_dark: npt.NDArray[np.float32] | None = None
        self._spectra: SampledSpectra | None = None
        self._shape: tuple[int, ...] | None = None
        self._kept: dict[tuple[str, int, int], HeldFrame] = {}
        self._last_sample: FrameRecord | None = None
        self._summaries: dict[tuple[str, int, int], FrameSummary] = {}
        self._history: list[tuple[float, float]] = []
        self._warnings: list[str] = []
        self._last_time_s = float(contract.start.get("time", time.time()))
        self._expected = contract.frames_expected
        self.raw_uids: tuple[str, ...] = (contract.raw_uid,)

    def resume(self, interrupted: "RunAnalysis") -> None:
        """Go on with the frames of a run that was interrupted and is resumed by this one.

        Call it before the first document. The interrupted analysis must not be used afterwards.

        Parameters
        ----------
        interrupted : RunAnalysis
            The analysis of the same edge and energies that ended before its time.
        """
        self.raw_uids = (*interrupted.raw_uids, self.contract.raw_uid)
        self._book.close()
        self._book = interrupted._book
        self._fitter, self._spectra = interrupted._fitter, interrupted._spectra
        self._unit_variance = interrupted._unit_variance
        self._shape = interrupted._shape
        self._kept, self._summaries = interrupted._kept, interrupted._summaries
        self._history = interrupted._history
        indices = self.contract.taken_indices
        taken = {("primary", index, repeat) for index in indices for repeat in range(self.contract.repeats)}
        self._expected = len(taken | set(self._kept))

    @property
    def n_frames(self) -> int:
        """Number of sample frames in the maps."""
        return len(self._kept)

    def add(self, name: str, doc: dict[str, Any]) -> bool:
        """Take one document of the run and return whether the maps have changed.

        Raises
        ------
        CallbackError
            A document or frame that cannot be used; the analysis goes on without it.
        """
        if name == "stop":
            if self.final:
                return False
            self.exit_status = doc.get("exit_status")
            self.final = True
            _, errors = self._take(self._frames.add(name, doc))
            for ready in self._book.finish():
                self._push(ready)
            self._warnings += [str(error) for error in errors]
            self._collect_warnings()
            self._last_sample = None
            return True
        changed, errors = self._take(self._frames.add(name, doc))
        if errors and not changed:
            raise errors[0]
        self._warnings += [str(error) for error in errors]
        return changed

    def update(self) -> SOCUpdate | None:
        """Return the state of the analysis; None before the first frame."""
        if self._fitter is None or self._spectra is None:
            return None
        maps = self._fitter.maps()
        energies, depths, _ = self._spectra.mean(maps.has_value)
        self._note_sigma(maps)
        return SOCUpdate(
            raw_uid=self.contract.raw_uid,
            raw_uids=self.raw_uids,
            scan_group=self.contract.scan_group,
            edge=self.contract.edge,
            maps=maps,
            frames_done=self.n_frames,
            frames_expected=self._expected,
            final=self.final,
            exit_status=self.exit_status,
            xanes=self.contract.xanes,
            start=self.contract.start,
            references=self.references,
            mean_energy_ev=energies,
            mean_od=depths,
            history=np.asarray(self._history, float).reshape(-1, 2),
            frames=tuple(self._summaries.values()),
            warnings=tuple(dict.fromkeys(self._warnings)),
            time_s=self._last_time_s,
        )

    def _note_sigma(self, maps: EdgeMaps) -> None:
        """Note the median sigma of the sampled pixels: all of them would take longer than the fit."""
        assert self._spectra is not None
        sigma = maps.edge_energy_sigma_ev if self.references is None else maps.soc_sigma
        sampled = sigma.reshape(-1)[self._spectra.pixels]
        finite = sampled[np.isfinite(sampled)]
        if finite.size and (not self._history or self._history[-1][0] != self.n_frames):
            self._history.append((float(self.n_frames), float(np.median(finite))))

    def _take(self, records: Iterable[FrameRecord]) -> tuple[bool, list[FrameError]]:
        """Take frames; return whether the maps have changed, and what cannot be used."""
        changed, errors = False, []
        for record in records:
            if problem := self._problem(record):
                errors.append(FrameError(f"{problem}; it is left out"))
                continue
            for ready in self._book.add(record):
                changed |= self._push(ready)
            revised = self._book.take_revised()
            if revised and any(revised & {index, ALL_ENERGIES} for _, index, _ in self._kept):
                self._fit_again()
                changed = True
        return changed, errors

    def _problem(self, record: FrameRecord) -> str | None:
        """Say why a frame cannot be used; None where it can."""
        if self._shape is None:
            self._shape = record.image.shape
        if record.image.shape != self._shape:
            return f"a frame of shape {record.image.shape} came in a run of frames {self._shape}"
        if record.stream == "dark":
            return None
        dose = record.exposure_s * record.i0
        if not (np.isfinite(dose) and dose > 0 and np.isfinite(record.energy_ev)):
            return (
                f"the {record.stream} frame at {record.energy_ev:.1f} eV was recorded with exposure "
                f"{record.exposure_s:g} s and incident intensity {record.i0:g}"
            )
        if record.stream == "primary":
            last, self._last_sample = self._last_sample, record
            if last is not None and _is_stale(record, last):
                return (
                    f"the frame at {record.energy_ev:.1f} eV is the one of {last.energy_ev:.1f} eV again, "
                    "count for count: the camera did not take a new one"
                )
        return None

    def _push(self, ready: ReadyFrame) -> bool:
        record = ready.record
        before = self._kept.get(record.slot)
        if before is not None and record.attempt <= before.record.attempt:
            return False
        if before is None:
            self._fit(ready)
        self._kept[record.slot] = ready.held
        if before is not None:
            self._fit_again()
        self._last_time_s = max(self._last_time_s, record.time_s)
        return True

    def _fit(self, ready: ReadyFrame) -> None:
        record = ready.record
        if self._fitter is None or self._spectra is None:
            shape = (int(record.image.shape[0]), int(record.image.shape[1]))
            method: Any = self.method  # a name from outside: the fitter refuses those it does not know
            self._fitter = EdgeFitter(
                shape, edge=self.contract.edge, method=method, references=self.references
            )
            self._spectra = SampledSpectra(shape, len(self.contract.energies_ev))
            self._unit_variance = None  # frames as noisy as the first have weight one
        sampled = self._spectra.sample(ready)
        mean_od, bad = finite_mean(sampled)
        variance = counting_variance(ready, mean_od, self.contract.n_flats)
        if self._unit_variance is None:
            self._unit_variance = variance
        weight = self._unit_variance / variance
        if record.image.dtype == np.uint16:
            if self._no_dark is None:
                self._no_dark = np.zeros(
                    record.image.shape, np.float32
                )  # flats have theirs subtracted already
            self._fitter.push_counts(
                record.energy_ev,
                record.image,
                dark=ready.dark,
                flat=ready.flat,
                dark_flat=self._no_dark,
                scale=ready.scale,
                weight=weight,
            )
        else:
            depth = optical_depth(ready).reshape(record.image.shape)
            self._fitter.push(record.energy_ev, depth, weight)
        self._spectra.add(record, sampled)
        self._summaries[record.slot] = FrameSummary(
            energy_index=record.energy_index,
            repeat=record.repeat,
            attempt=record.attempt,
            seq_num=record.seq_num,
            energy_ev=record.energy_ev,
            exposure_s=record.exposure_s,
            i0=record.i0,
            mean_od=mean_od,
            bad_pixels=bad,
            time_s=record.time_s,
        )

    def _fit_again(self) -> None:
        """Fit all frames from the beginning: a sum cannot forget the frame that has been taken again."""
        self._fitter = self._spectra = None
        self._summaries.clear()
        for held in self._kept.values():
            self._fit(self._book.join(held))

    def _collect_warnings(self) -> None:
        self._warnings += self._frames.warnings + self._book.warnings
        missing = self._expected - self.n_frames
        if missing > 0:
            self._warnings.append(f"{missing} of {self._expected} frames are missing")

    def close(self) -> None:
        """Let go of everything but the last maps."""
        self._book.close()


def _is_stale(record: FrameRecord, last: FrameRecord) -> bool:
    """Return whether two frames of different energies are equal, which counting noise never lets happen."""
    if record.energy_index == last.energy_index:
        return False
    step = max(1, record.image.size // _FEW_PIXELS)
    few, same = record.image.reshape(-1)[::step], last.image.reshape(-1)[::step]
    if few.min() == few.max() or not np.array_equal(few, same):
        return False  # a frame without light or all saturated says nothing
    return np.array_equal(record.image, last.image)
