"""The analysis of one run: frames in, maps out. No threads here."""

import time
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from callbacks.documents import (
    FILE_TIMEOUT_S,
    FrameLoss,
    LeftOut,
    Reading,
    RootMap,
    RunReadings,
    SaturationWatch,
    Slot,
    energies_text,
)
from callbacks.errors import CallbackError, FrameError
from callbacks.reduce import (
    LEAST_OF_BRIGHTEST,
    FlatFieldBook,
    HeldFrame,
    I0Sign,
    ReadyFrame,
    SampledSpectra,
    counting_variance,
    finite_mean,
    optical_depth,
)
from edge_fitting import EdgeFitter, EdgeFittingError, EdgeMaps, ReferenceSeries
from scan_contract import ALL_ENERGIES, CONTRACT_KEY, FullFieldContract, RunContract

from ._planned import planned_frames
from ._update import FrameSummary, SOCUpdate

_FEW_PIXELS = 4096
# A share of pixels without open beam that is worth a word.
_TOLD_SHARE = 0.01
_WITHOUT_LIGHT = "no light above the dark"


class RunAnalysis:
    """Everything about one run that is being analysed.

    Parameters
    ----------
    contract : RunContract
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
        contract: RunContract,
        references: ReferenceSeries | None,
        method: str,
        file_timeout_s: float = FILE_TIMEOUT_S,
        roots: RootMap | None = None,
    ) -> None:
        self.contract = contract
        self.scan = cast(FullFieldContract, contract.scan)
        self.references = references
        self.method = method
        self.exit_status: str | None = None
        self.final = False
        self.left_out = LeftOut()
        self._saturation = SaturationWatch()
        self._i0_sign = I0Sign()
        self._frames = RunReadings(
            contract, file_timeout_s=file_timeout_s, roots=roots, left_out=self.left_out
        )
        self._book = FlatFieldBook(self.scan, left_out=self.left_out, saturation=self._saturation)
        self._fitter: EdgeFitter | None = None
        self._unit_variance: float | None = None
        self._no_dark: npt.NDArray[np.float32] | None = None
        self._spectra: SampledSpectra | None = None
        self._shape: tuple[int, ...] | None = None
        self._kept: dict[Slot, HeldFrame] = {}
        self._transmission: dict[Slot, float] = {}
        self._beamless_share = 0.0
        self._told_losses: set[FrameLoss] = set()
        self._last_sample: Reading | None = None
        self._summaries: dict[Slot, FrameSummary] = {}
        self._history: list[tuple[float, float]] = []
        self._other_warnings: list[str] = []
        self._last_time_s = float(contract.start.get("time", time.time()))
        self._expected = planned_frames(self.scan)
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
        self._book.reopen()
        self.left_out = interrupted.left_out
        self._frames.left_out = self.left_out
        self._saturation = interrupted._saturation
        self._fitter, self._spectra = interrupted._fitter, interrupted._spectra
        self._unit_variance = interrupted._unit_variance
        self._shape = interrupted._shape
        self._kept, self._summaries = interrupted._kept, interrupted._summaries
        self._transmission = interrupted._transmission
        self._beamless_share = interrupted._beamless_share
        self._history = interrupted._history

    @property
    def n_frames(self) -> int:
        """Number of sample frames in the maps."""
        return len(self._kept)

    @property
    def holds_frames(self) -> bool:
        """Whether there are frames, in the maps or waiting for a flat field."""
        return bool(self._kept) or self._book.n_waiting > 0

    @property
    def may_be_resumed(self) -> bool:
        """Whether planned frames were never taken: a plan that was stopped ends in success too."""
        if self.scan.max_frames is not None and self.exit_status == "success":
            return False
        heard = set(self._kept) | self._book.waiting_slots
        heard |= {loss.slot for loss in self.left_out.losses() if loss.slot[0] == "primary"}
        flats_lack = self._book.n_waiting > 0 or self._book.lacks_flats
        return self.exit_status != "success" or len(heard) < self._expected or flats_lack

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
            self._take(self._frames.add(name, doc))
            self._take_signed(self._i0_sign.decide())
            for ready in self._book.finish():
                self._push(ready)
            self._leave_out_dim()
            if self._book.take_revised():
                self._fit_again()
            self._last_sample = None
            return True
        try:
            readings = self._frames.add(name, doc)
        finally:
            self._saturation.state(self._frames.stated_saturation)
            changed = self._note_losses()
        taken, errors = self._take(readings)
        changed |= taken
        if errors and not changed:
            raise errors[0]
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
            edge=self.scan.edge,
            maps=maps,
            frames_done=self.n_frames,
            frames_expected=self._expected,
            final=self.final,
            exit_status=self.exit_status,
            xanes=self.contract.start[CONTRACT_KEY],
            start=self.contract.start,
            references=self.references,
            mean_energy_ev=energies,
            mean_od=depths,
            history=np.asarray(self._history, float).reshape(-1, 2),
            frames=tuple(self._summaries.values()),
            warnings=tuple(dict.fromkeys(self.warnings())),
            time_s=self._last_time_s,
        )

    def _note_sigma(self, maps: EdgeMaps) -> None:
        """Note the median sigma of the sampled pixels: all of them would take longer than the fit."""
        assert self._spectra is not None
        sigma = maps.edge_energy_sigma_ev if self.references is None else maps.soc_sigma
        if maps.edge_jump_sigma is not None:
            sigma = maps.edge_jump_sigma
        sampled = sigma.reshape(-1)[self._spectra.pixels]
        finite = sampled[np.isfinite(sampled)]
        if finite.size and (not self._history or self._history[-1][0] != self.n_frames):
            self._history.append((float(self.n_frames), float(np.median(finite))))

    def warn(self, warning: str) -> None:
        """Add what a reader of the maps should know."""
        self._other_warnings.append(warning)

    def warnings(self) -> list[str]:
        """Return what a reader of the maps should know, as things are now."""
        said = self.left_out.sentences(in_map=self._kept)
        said += self._frames.warnings + self._book.warnings + self._saturation.warnings()
        if self._beamless_share >= _TOLD_SHARE:
            said.append(
                f"in {100 * self._beamless_share:.3g} % of the pixels the flat field holds no light above the dark "
                "(out of the field of view, or a dark taken with light): they have no value"
            )
        if not_wanted := (self.scan.model_extra or {}).get("left_out_ev"):
            named = ", ".join(f"{float(energy):.2f}" for energy in not_wanted)
            said.append(f"left out before the analysis: the energies {named} eV")
        return [*said, *self._other_warnings, *(self._missing() if self.final else ())]

    def _missing(self) -> list[str]:
        """Say which planned frames nothing has been heard of."""
        missing = self._expected - self.n_frames
        if missing <= 0:
            return []
        scan = self.scan
        known = set(self._kept) | self._book.waiting_slots
        if scan.max_frames is not None:
            return [f"{missing} of {self._expected} frames are missing"]
        resumed = scan.resumes is not None
        indices = range(len(scan.energies_ev)) if resumed else scan.taken_indices
        energies = sorted(
            {
                scan.energies_ev[index]
                for index in indices
                for repeat in range(scan.repeats)
                if ("primary", index, repeat) not in known and ("primary", index, repeat) not in self.left_out
            }
        )
        where = f", at {energies_text(energies)}" if energies else ""
        return [f"{missing} of {self._expected} frames are missing{where}"]

    def _note_losses(self) -> bool:
        """Let frames go on that wait for a dark or flat that cannot be read."""
        changed = False
        for loss in self.left_out.losses():
            if loss not in self._told_losses:
                self._told_losses.add(loss)
                for ready in self._book.refuse(loss):
                    changed |= self._push(ready)
        return changed

    def _take(self, readings: Iterable[Reading]) -> tuple[bool, list[CallbackError]]:
        """Take frames; return whether the maps have changed, and what cannot be used."""
        return self._take_signed([ready for reading in readings for ready in self._i0_sign.take(reading)])

    def _take_signed(self, readings: Iterable[Reading]) -> tuple[bool, list[CallbackError]]:
        changed = False
        errors: list[CallbackError] = []
        for reading in readings:
            if problem := self._problem(reading):
                energy_ev = reading.energy_ev
                errors.append(
                    FrameError(f"the {reading.stream} frame at {energy_ev:.1f} eV is left out: {problem}")
                )
                self._leave_out(reading, problem)
                changed |= self._note_losses()
                continue
            if reading.stream != "dark" and self._saturation.look(reading.image, reading.exposure_s):
                self._book.limit_changed()
                if self._kept:
                    self._fit_again()
                    changed = True
            for ready in self._book.add(reading):
                changed |= self._push(ready)
            revised = self._book.take_revised()
            if revised and any(revised & {slot[1], ALL_ENERGIES} for slot in self._kept):
                self._fit_again()
                changed = True
        return changed, errors

    def _leave_out(self, reading: Reading, reason: str) -> None:
        self.left_out.add(
            FrameLoss(reading.slot, reading.attempt, reading.energy_ev, reading.exposure_s, reason)
        )

    def _problem(self, reading: Reading) -> str | None:
        """Say why a frame cannot be used; None where it can."""
        if self._shape is None:
            self._shape = reading.image.shape
        if reading.image.shape != self._shape:
            return f"a shape of {reading.image.shape} in a run of frames {self._shape}"
        if reading.stream == "dark":
            return None
        if not (np.isfinite(reading.exposure_s) and reading.exposure_s > 0):
            return f"an exposure of {reading.exposure_s:g} s"
        if problem := self._i0_sign.problem(reading):
            return problem
        if reading.stream == "primary":
            last, self._last_sample = self._last_sample, reading
            if last is not None and _is_stale(reading, last):
                return f"the frame at {last.energy_ev:.1f} eV again, count for count: the camera did not take a new one"
        return None

    def _push(self, ready: ReadyFrame) -> bool:
        reading = ready.reading
        before = self._kept.get(reading.slot)
        if before is not None and reading.attempt <= before.reading.attempt:
            return False
        if not self._has_light(ready):
            return False
        if before is None and not self._fit(ready):
            return False
        self._kept[reading.slot] = ready.held
        self._transmission[reading.slot] = ready.transmission
        self.left_out.discard(reading.slot)
        if before is not None:
            self._fit_again()
        self._last_time_s = max(self._last_time_s, reading.time_s)
        return True

    def _has_light(self, ready: ReadyFrame) -> bool:
        if ready.transmission > 0:
            return True
        self._leave_out(ready.reading, _WITHOUT_LIGHT)
        return False

    def _leave_out_dim(self) -> None:
        """Leave out frames with next to no light beside the others, such as through a closed shutter that leaks."""
        if not self._transmission:
            return
        bright = float(np.percentile(list(self._transmission.values()), 90))
        dim = [slot for slot, seen in self._transmission.items() if seen < LEAST_OF_BRIGHTEST * bright]
        for slot in dim:
            self._leave_out(self._kept[slot].reading, _WITHOUT_LIGHT)
            del self._kept[slot], self._transmission[slot]
        if dim:
            self._fit_again()

    def _fit(self, ready: ReadyFrame) -> bool:
        """Add a frame to the fit; False where that refuses it."""
        reading = ready.reading
        if self._fitter is None or self._spectra is None:
            shape = (int(reading.image.shape[0]), int(reading.image.shape[1]))
            method: Any = self.method  # a name from outside: the fitter refuses those it does not know
            self._fitter = EdgeFitter(shape, edge=self.scan.edge, method=method, references=self.references)
            self._spectra = SampledSpectra(shape, len(self.scan.energies_ev))
            self._unit_variance = None  # frames as noisy as the first have weight one
        sampled = self._spectra.sample(ready)
        mean_od, bad = finite_mean(sampled)
        variance = counting_variance(ready, mean_od, self.scan.n_flats)
        if self._unit_variance is None:
            self._unit_variance = variance
        weight = self._unit_variance / variance
        try:
            self._add_to_fit(ready, weight)
        except EdgeFittingError as error:
            self._leave_out(reading, f"the fit refuses it ({error})")
            return False
        flat = ready.flat.reshape(-1)[self._spectra.pixels]
        self._beamless_share = max(self._beamless_share, float(np.mean(~(flat > 0))))

        self._spectra.add(reading, sampled)
        self._summaries[reading.slot] = FrameSummary(
            energy_index=reading.energy_index,
            repeat=reading.repeat,
            attempt=reading.attempt,
            seq_num=reading.seq_num,
            energy_ev=reading.energy_ev,
            exposure_s=reading.exposure_s,
            i0=reading.i0,
            mean_od=mean_od,
            bad_pixels=bad,
            time_s=reading.time_s,
        )
        return True

    def _add_to_fit(self, ready: ReadyFrame, weight: float) -> None:
        assert self._fitter is not None
        reading = ready.reading
        if reading.image.dtype != np.uint16:
            depth = optical_depth(ready).reshape(reading.image.shape)
            self._fitter.push(reading.energy_ev, depth, weight)
            return
        if self._no_dark is None:
            # Flats have theirs subtracted already.
            self._no_dark = np.zeros(reading.image.shape, np.float32)
        limit = int(min(np.ceil(ready.limit), np.iinfo(np.uint16).max))
        image = reading.image
        if ready.saturated_flat is not None:
            image = np.where(ready.saturated_flat, np.uint16(limit), image)
        self._fitter.push_counts(
            reading.energy_ev,
            image,
            dark=ready.dark,
            flat=ready.flat,
            dark_flat=self._no_dark,
            scale=ready.scale,
            saturation=limit,
            weight=weight,
        )

    def _fit_again(self) -> None:
        """Fit all frames from the beginning: a sum cannot forget the frame that has been taken again."""
        self._fitter = self._spectra = None
        self._summaries.clear()
        self._beamless_share = 0.0
        for slot, held in list(self._kept.items()):
            ready = self._book.join(held)
            if ready is not None and self._has_light(ready) and self._fit(ready):
                self._transmission[slot] = ready.transmission
            else:
                del self._kept[slot], self._transmission[slot]

    def close(self) -> None:
        """Let go of everything but the last maps."""
        self._book.close()


def _is_stale(reading: Reading, last: Reading) -> bool:
    """Return whether two frames of different energies are equal, which counting noise never lets happen."""
    if reading.energy_index == last.energy_index:
        return False
    step = max(1, reading.image.size // _FEW_PIXELS)
    few, same = reading.image.reshape(-1)[::step], last.image.reshape(-1)[::step]
    if few.min() == few.max() or not np.array_equal(few, same):
        return False  # a frame without light or all saturated says nothing
    return np.array_equal(reading.image, last.image)
