"""Full-field transmission: a camera's frames, corrected with darks and flats, to maps of the state of charge."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from callbacks.documents import LeftOut, Slot
from callbacks.reduce import (
    CorrectedFrame,
    FlatFieldCorrector,
    FrameComparison,
    FrameRegistration,
    FrameScreen,
    Reduced,
    Reducer,
    SampledSpectra,
    optical_depth,
)
from edge_fitting import (
    EdgeFitter,
    EdgeMaps,
    FrameJudge,
    OffsetChoice,
    ReferenceSeries,
    StrayLight,
    add_shift_sigma,
)
from scan_contract import CONTRACT_KEY, FullFieldContract, RunContract

from ._planned import is_jump_map, references_of
from ._technique import EstimatorOptions, RunState, Technique
from ._update import FrameSummary, SOCUpdate

FloatImage = npt.NDArray[np.float32]
# The offset of the axis takes 12 to 20 ms: it is looked for again once there are so many times the frames.
_OFFSET_GROWTH = 1.1


class FullFieldEstimator:
    """Maps, mean spectrum, history of the uncertainty and table of frames of a full-field scan.

    Parameters
    ----------
    contract : RunContract
        What the start document said.
    references : ReferenceSeries or None
        Reference spectra of the fit.
    method : str
        Estimator, see `edge_fitting.EdgeFitter`.
    axis_offset : {"report", "fit"} or float
        What to do about an offset between the axes of scan and references, see `edge_fitting.fit_stack`. It is looked
        for again once there are a tenth more frames, and at the end. Where it cannot be fitted it is reported.
    """

    def __init__(
        self,
        contract: RunContract,
        references: ReferenceSeries | None,
        method: str,
        axis_offset: OffsetChoice = "report",
    ) -> None:
        self._contract = contract
        self._references = references
        self._method: Any = method  # a name from outside: the fitter refuses those it does not know
        self._axis_offset, self._own_warnings = _followed(axis_offset, references, method)
        self._offset_of = 0
        self._fitter: EdgeFitter | None = None
        self._spectra: SampledSpectra | None = None
        self._no_dark: FloatImage | None = None
        self._summaries: dict[Slot, FrameSummary] = {}
        self._retracted: set[Slot] = set()
        self._stray_light: dict[Slot, StrayLight | None] = {}
        self._history: list[tuple[float, float]] = []

    def push(self, reduced: Reduced) -> None:
        """Add one frame.

        Raises
        ------
        EdgeFittingError
            The fit refuses it.
        """
        fitter, spectra = self._made_for(_shape(reduced))
        values = reduced.values
        if _is_fused(values):
            fitter.push_counts(reduced.energy_ev, weight=reduced.weight, **self._counts(values))
        else:
            fitter.push(reduced.energy_ev, _depth(values), reduced.weight)
        self._note(reduced, spectra)

    def fitter_of(self, shape: tuple[int, int]) -> EdgeFitter:
        """Return a fitter without frames, as this estimator uses it for frames of a certain shape."""
        return EdgeFitter(
            shape,
            edge=self._contract.scan.edge,
            method=self._method,
            references=self._references,
            axis_offset=self._axis_offset,
        )

    def take_over(self, fitter: EdgeFitter, frames: Iterable[Reduced]) -> None:
        """Go on with a fitter that holds all frames of a scan already; of these the values are not looked at."""
        self._fitter = fitter
        self._spectra = SampledSpectra(fitter.shape, len(self._contract.scan.energies_ev))
        for reduced in frames:
            self._note(reduced, self._spectra)

    def _note(self, reduced: Reduced, spectra: SampledSpectra) -> None:
        """Keep what belongs to a frame beside its values."""
        notes = reduced.notes
        spectra.add(reduced.label.energy_index, reduced.energy_ev, notes["sample"])
        self._retracted.discard(reduced.slot)
        self._stray_light[reduced.slot] = notes.get("stray_light")
        self._summaries[reduced.slot] = FrameSummary(
            energy_index=reduced.label.energy_index,
            repeat=reduced.label.repeat,
            attempt=reduced.label.attempt,
            seq_num=notes["seq_num"],
            energy_ev=reduced.energy_ev,
            exposure_s=notes["exposure_s"],
            i0=notes["i0"],
            mean_od=notes["mean_od"],
            bad_pixels=notes["bad_pixels"],
            time_s=reduced.time_s,
            shift_px=notes.get("shift_px", (math.nan, math.nan)),
            shift_sigma_px=notes.get("shift_sigma_px", (math.nan, math.nan)),
            magnification=notes.get("magnification", math.nan),
            rotation_deg=notes.get("rotation_deg", math.nan),
        )

    def retract(self, reduced: Reduced) -> None:
        """Take one frame out again; the maps are those of the others to rounding, see `EdgeFitter.retract`."""
        fitter, spectra = self._made_for(_shape(reduced))
        values = reduced.values
        if _is_fused(values):
            fitter.retract_counts(reduced.energy_ev, weight=reduced.weight, **self._counts(values))
        else:
            fitter.retract(reduced.energy_ev, _depth(values), reduced.weight)
        spectra.retract(reduced.label.energy_index, reduced.energy_ev, reduced.notes["sample"])
        self._retracted.add(reduced.slot)
        self._stray_light.pop(reduced.slot, None)

    def merge(self, other: "FullFieldEstimator") -> None:
        """Add the frames of another part of the scan."""
        self._history = [*other._history, *self._history]
        self._summaries = {**other._summaries, **self._summaries}
        self._retracted |= other._retracted
        self._stray_light = {**other._stray_light, **self._stray_light}
        if other._fitter is not None and other._spectra is not None:
            fitter, spectra = self._made_for(other._fitter.shape)
            fitter.merge(other._fitter)
            spectra.merge(other._spectra)

    def result(self, state: RunState) -> SOCUpdate | None:
        """Return the maps with all that belongs to them; None before the first frame."""
        if self._fitter is None or self._spectra is None:
            return None
        n_frames = self._fitter.n_frames
        is_due = state.final or n_frames >= _OFFSET_GROWTH * self._offset_of
        if is_due:
            self._offset_of = n_frames
        taken_out = set(self._stray_light.values())
        self._fitter.note_taken_out(taken_out.pop() if len(taken_out) == 1 else None)
        maps = self._fitter.maps(find_offset=is_due, final=state.final)
        if (sigma_px := self._shift_sigma_px()) is not None:
            maps = add_shift_sigma(maps, sigma_px)
        energies, depths, _ = self._spectra.mean(maps.has_value)
        self._note_sigma(maps, state.frames_done)
        contract = self._contract
        return SOCUpdate(
            raw_uid=contract.raw_uid,
            raw_uids=state.raw_uids,
            scan_group=contract.scan_group,
            edge=contract.scan.edge,
            maps=maps,
            frames_done=state.frames_done,
            frames_expected=state.frames_expected,
            final=state.final,
            exit_status=state.exit_status,
            xanes=contract.start[CONTRACT_KEY],
            start=contract.start,
            references=self._references,
            mean_energy_ev=energies,
            mean_od=depths,
            history=np.asarray(self._history, float).reshape(-1, 2),
            frames=_with_agreement(
                [row for slot, row in self._summaries.items() if slot not in self._retracted], maps
            ),
            warnings=(*state.warnings, *self._own_warnings, *self._said_of(maps)),
            time_s=state.time_s,
            axis_offset=self._axis_offset,
        )

    def _made_for(self, shape: tuple[int, int]) -> tuple[EdgeFitter, SampledSpectra]:
        if self._fitter is None or self._spectra is None:
            self._fitter = self.fitter_of(shape)
            self._spectra = SampledSpectra(shape, len(self._contract.scan.energies_ev))
        return self._fitter, self._spectra

    def _shift_sigma_px(self) -> tuple[float, float] | None:
        """Return the root mean square of the sigma of the shifts that are known; None where nothing was registered."""
        sigma = np.array(
            [row.shift_sigma_px for slot, row in self._summaries.items() if slot not in self._retracted]
        )
        known = sigma[np.isfinite(sigma).all(axis=1)] if sigma.size else sigma
        if not known.size:
            return None
        down, right = np.sqrt(np.mean(known**2, axis=0))
        return float(down), float(right)

    def _said_of(self, maps: EdgeMaps) -> tuple[str, ...]:
        """Return the warnings of the fit; that references tell no offset is one where it was to be fitted."""
        if self._axis_offset == "fit":
            return maps.warnings
        return tuple(said for said in maps.warnings if said != maps.axis_offset_reason)

    def _counts(self, frame: CorrectedFrame) -> dict[str, Any]:
        """Return what the fused kernel takes of a frame."""
        image = frame.reading.image
        if self._no_dark is None:
            # Flats have theirs subtracted already.
            self._no_dark = np.zeros(image.shape, np.float32)
        limit = int(min(np.ceil(frame.limit), np.iinfo(np.uint16).max))
        if frame.saturated_flat is not None:
            image = np.where(frame.saturated_flat, np.uint16(limit), image)
        flat = frame.flat
        if frame.spikes.size:
            # A pixel without open beam is one without a value.
            flat = flat.copy()
            flat.reshape(-1)[frame.spikes] = 0.0
        return {
            "counts": image,
            "dark": frame.dark,
            "flat": flat,
            "dark_flat": self._no_dark,
            "scale": frame.scale,
            "saturation": limit,
        }

    def _note_sigma(self, maps: EdgeMaps, frames_done: int) -> None:
        """Note the median sigma of the sampled pixels: all of them would take longer than the fit."""
        assert self._spectra is not None
        sigma = maps.edge_energy_sigma_ev if self._references is None else maps.soc_sigma
        if maps.edge_jump_sigma is not None:
            sigma = maps.edge_jump_sigma
        sampled = sigma.reshape(-1)[self._spectra.pixels]
        finite = sampled[np.isfinite(sampled)]
        if finite.size and (not self._history or self._history[-1][0] != frames_done):
            self._history.append((float(frames_done), float(np.median(finite))))


def _followed(
    choice: OffsetChoice, references: ReferenceSeries | None, method: str
) -> tuple[OffsetChoice, tuple[str, ...]]:
    """Return what can be done about an offset of the axes in this fit, and what to say where that is less."""
    if choice != "fit" or (method == "series" and references is not None and references.coordinate == "soc"):
        return choice, ()
    return "report", (
        "an offset of the energy axis was to be fitted, which takes method 'series' and references of known state of "
        "charge: nothing is taken out",
    )


def _with_agreement(rows: list[FrameSummary], maps: EdgeMaps) -> tuple[FrameSummary, ...]:
    """Add to the table of frames how well each agrees with the fit; both have the frames, by rising energy alike."""
    chi2, residual, energies = maps.frame_chi2, maps.frame_residual, maps.frame_energy_ev
    if chi2 is None or residual is None or energies is None or len(rows) != chi2.size:
        return tuple(rows)
    mine = np.argsort([row.energy_ev for row in rows], kind="stable")
    for k, found in zip(mine, np.argsort(energies, kind="stable"), strict=True):
        rows[k] = replace(rows[k], chi2=float(chi2[found]), residual_od=float(residual[found]))
    return tuple(rows)


def _is_fused(values: Any) -> bool:
    """Whether values are counts that the fused kernel takes."""
    return isinstance(values, CorrectedFrame) and values.reading.image.dtype == np.uint16


def _depth(values: CorrectedFrame | FloatImage) -> FloatImage:
    if isinstance(values, CorrectedFrame):
        return optical_depth(values).reshape(values.reading.image.shape)
    return values


def _shape(reduced: Reduced) -> tuple[int, int]:
    values = reduced.values
    rows, cols = (values.reading.image if isinstance(values, CorrectedFrame) else values).shape
    return int(rows), int(cols)


def flat_field_reducers(contract: RunContract, left_out: LeftOut) -> Sequence[Reducer]:
    """Make the reducers of a full-field scan; the fit comes next, so counts go to its fused kernel."""
    scan = cast(FullFieldContract, contract.scan)
    return FrameScreen(), FlatFieldCorrector(scan, left_out=left_out)


def register_frames(
    reducers: Sequence[Reducer], contract: RunContract, options: EstimatorOptions
) -> Sequence[Reducer]:
    """Put the registration of frames behind their flat field."""
    scan = contract.scan
    corrector = next(reducer for reducer in reducers if isinstance(reducer, FlatFieldCorrector))
    references = options.references_for(scan.edge) or references_of(contract)
    registration = FrameRegistration(
        options.register,
        corrector.correct,
        edge=scan.edge,
        n_energies=len(scan.energies_ev),
        references=None if references is None or references.coordinate != "soc" else references,
    )
    return *reducers, registration


def compare_frames(
    reducers: Sequence[Reducer], contract: RunContract, options: EstimatorOptions, left_out: LeftOut
) -> Sequence[Reducer]:
    """Put the comparison of frames with each other behind all else, where there are references to do it by."""
    references = options.references_for(contract.scan.edge) or references_of(contract)
    if not is_compared(contract, options, references):
        return reducers
    assert references is not None
    corrector = next(reducer for reducer in reducers if isinstance(reducer, FlatFieldCorrector))
    moved = next((reducer for reducer in reducers if isinstance(reducer, FrameRegistration)), None)

    def again(slot: Slot) -> Reduced | None:
        placed = None if moved is None else moved.again(slot)
        return placed or corrector.again(slot)

    return *reducers, FrameComparison(FrameJudge(references, options.axis_offset), again, left_out)


def is_compared(contract: RunContract, options: EstimatorOptions, references: ReferenceSeries | None) -> bool:
    """Whether the frames of a run are compared with each other, which takes the series fit and known states."""
    return (
        references is not None
        and references.coordinate == "soc"
        and options.method == "series"
        and not is_jump_map(contract.scan)
    )


def _estimator(contract: RunContract, options: EstimatorOptions) -> FullFieldEstimator | None:
    jump_only = is_jump_map(contract.scan)
    references = None
    if not jump_only:
        references = options.references_for(contract.scan.edge) or references_of(contract)
    if references is None and contract.is_standard:
        return None  # its mean spectrum is what is wanted of it, see LiveSpectrum
    method = "edge_jump" if jump_only else options.method
    return FullFieldEstimator(contract, references, method, options.axis_offset)


FULL_FIELD = Technique(
    name="full_field",
    contract=FullFieldContract,
    reducers=flat_field_reducers,
    estimator=_estimator,
    registration=register_frames,
    comparison=compare_frames,
)
"""Full-field transmission with a camera."""
