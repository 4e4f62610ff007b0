"""The analysis of one run: documents in, results out. No threads here."""

import time
from collections.abc import Iterable
from typing import Any

from callbacks.documents import (
    FILE_TIMEOUT_S,
    AnyDocument,
    FrameLoss,
    LeftOut,
    Reading,
    RootMap,
    RunReadings,
    Slot,
    energies_text,
)
from callbacks.errors import CallbackError, FrameError
from callbacks.reduce import Item, Reduced, Retraction
from edge_fitting import EdgeFittingError
from scan_contract import RunContract

from ._planned import planned_frames
from ._technique import Estimator, EstimatorOptions, RunState, Technique


class RunPipeline:
    """Everything about one run that is being analysed: documents to readings, reducers, estimator, result.

    Parameters
    ----------
    technique : Technique
        How the run was measured.
    contract : RunContract
        What the start document said.
    estimator : Estimator
        Where its readings go.
    file_timeout_s : float
        How long to wait for a frame that should be in a file.
    roots : RootMap, optional
        Where the folders of the detector's files are on this machine.
    options : EstimatorOptions, optional
        What whoever starts the analysis chose; without them no frame is registered or compared.

    Attributes
    ----------
    raw_uids : tuple of str
        The runs whose readings are in the result.
    final : bool
        Whether the run is over.
    exit_status : str or None
        How it ended.
    """

    def __init__(
        self,
        technique: Technique,
        contract: RunContract,
        estimator: Estimator,
        *,
        file_timeout_s: float = FILE_TIMEOUT_S,
        roots: RootMap | None = None,
        options: EstimatorOptions | None = None,
    ) -> None:
        self.technique = technique
        self.contract = contract
        self.scan = contract.scan
        self.exit_status: str | None = None
        self.final = False
        self.raw_uids: tuple[str, ...] = (contract.raw_uid,)
        self._left_out = LeftOut()
        self._readings = RunReadings(
            contract,
            technique.channels,
            file_timeout_s=file_timeout_s,
            roots=roots,
            left_out=self._left_out,
        )
        reducers = technique.reducers(contract, self._left_out)
        if technique.registration is not None and options is not None and options.register != "off":
            reducers = technique.registration(reducers, contract, options)
        if technique.comparison is not None and options is not None:
            reducers = technique.comparison(reducers, contract, options, self._left_out)
        self._reducers = tuple(reducers)
        self._estimator = estimator
        self._done: set[Slot] = set()
        self._losses_passed_on: set[FrameLoss] = set()
        self._errors: list[CallbackError] = []
        self._changed = False
        self._other_warnings: list[str] = []
        self._last_time_s = float(contract.start.get("time", time.time()))
        self._expected = planned_frames(self.scan)

    def resume(self, interrupted: "RunPipeline") -> None:
        """Go on with the readings of a run that was interrupted and is resumed by this one.

        Call it before the first document. The interrupted analysis must not be used afterwards.

        Parameters
        ----------
        interrupted : RunPipeline
            The analysis of the same edge and energies that ended before its time.
        """
        self.raw_uids = (*interrupted.raw_uids, self.contract.raw_uid)
        for reducer in self._reducers:
            reducer.close()
        # They hold the darks, the flats, and the frames that wait for some.
        self._reducers = interrupted._reducers
        for reducer in self._reducers:
            reducer.reopen()
        self._left_out = self._readings.left_out = interrupted._left_out
        self._estimator.merge(interrupted._estimator)
        self._done = interrupted._done

    @property
    def n_frames(self) -> int:
        """Number of readings of the sample in the result."""
        return len(self._done)

    @property
    def frames_expected(self) -> int:
        """Number of readings of the sample in the whole run."""
        return self._expected

    @property
    def losses(self) -> list[FrameLoss]:
        """Readings that are left out now, of the sample and of what corrects them."""
        return self._left_out.losses()

    @property
    def holds_frames(self) -> bool:
        """Whether there are readings of the sample, in the result or waiting for what corrects them."""
        return bool(self._done or self._waiting())

    @property
    def may_be_resumed(self) -> bool:
        """Whether planned readings were never taken: a plan that was stopped ends in success too."""
        if self.scan.max_frames is not None and self.exit_status == "success":
            return False
        waiting = self._waiting()
        accounted = self._done | waiting
        accounted |= {loss.slot for loss in self._left_out.losses() if loss.slot[0] == "primary"}
        corrections_lack = bool(waiting) or any(reducer.is_provisional for reducer in self._reducers)
        return self.exit_status != "success" or len(accounted) < self._expected or corrections_lack

    def add(self, name: str, doc: AnyDocument) -> bool:
        """Take one document of the run and return whether the result has changed.

        Raises
        ------
        CallbackError
            A document or reading that cannot be used; the analysis goes on without it.
        """
        self._changed = False
        self._errors = []
        if name == "stop":
            if self.final:
                return False
            self.exit_status = doc.get("exit_status")
            self.final = True
            self._feed(self._readings.add(name, doc))
            for number, reducer in enumerate(self._reducers):
                self._feed(reducer.finish(), number + 1)
            return True
        readings: list[Reading] = []
        try:
            readings = self._readings.add(name, doc)
        finally:
            self._pass_on_losses()
        self._feed(readings)
        if self._errors and not self._changed:
            raise self._errors[0]
        return self._changed

    def result(self) -> Any:
        """Return the result of all readings so far; None before the first."""
        return self._estimator.result(
            RunState(
                contract=self.contract,
                raw_uids=self.raw_uids,
                frames_done=self.n_frames,
                frames_expected=self._expected,
                final=self.final,
                exit_status=self.exit_status,
                warnings=tuple(dict.fromkeys(self.warnings())),
                time_s=self._last_time_s,
            )
        )

    def warn(self, warning: str) -> None:
        """Add what a reader of the result should know."""
        self._other_warnings.append(warning)

    def warnings(self) -> list[str]:
        """Return what a reader of the result should know, as things are now."""
        said = self._left_out.sentences(in_map=self._done) + self._readings.warnings
        for reducer in self._reducers:
            said += reducer.warnings
        if not_wanted := (self.scan.model_extra or {}).get("left_out_ev"):
            named = ", ".join(f"{float(energy):.2f}" for energy in not_wanted)
            said.append(f"left out before the analysis: the energies {named} eV")
        return [*said, *self._other_warnings, *(self._missing() if self.final else ())]

    def close(self) -> None:
        """Let go of everything but the last result."""
        for reducer in self._reducers:
            reducer.close()

    def _missing(self) -> list[str]:
        """Say which planned readings nothing has been accounted of."""
        scan, missing = self.scan, self._expected - self.n_frames
        if missing <= 0:
            return []
        if scan.max_frames is not None or scan.axes:
            return [f"{missing} of {self._expected} frames are missing"]
        known = self._done | self._waiting()
        indices = range(len(scan.energies_ev)) if scan.resumes is not None else scan.taken_indices
        energies = sorted(
            {
                scan.energies_ev[index]
                for index in indices
                for repeat in range(scan.repeats)
                if ("primary", index, repeat) not in known
                and ("primary", index, repeat) not in self._left_out
            }
        )
        where = f", at {energies_text(energies)}" if energies else ""
        return [f"{missing} of {self._expected} frames are missing{where}"]

    def _waiting(self) -> set[Slot]:
        return {slot for reducer in self._reducers for slot in reducer.waiting}

    def _pass_on_losses(self) -> None:
        """Tell the reducers of readings that cannot be used, lest others wait for them."""
        for loss in self._left_out.losses():
            if loss not in self._losses_passed_on:
                self._losses_passed_on.add(loss)
                self._feed([loss])

    def _feed(self, items: Iterable[Item], first: int = 0) -> None:
        """Pass items through the reducers from a certain one on, to the estimator."""
        for item in items:
            if isinstance(item, FrameLoss) and item not in self._losses_passed_on:
                self._note_refused(item)
            if first < len(self._reducers):
                self._feed(self._reducers[first].add(item), first + 1)
            elif isinstance(item, Reduced):
                self._push(item)
            elif isinstance(item, Retraction):
                self._retract(item.reduced)

    def _note_refused(self, loss: FrameLoss) -> None:
        """Note a reading that a reducer found unusable."""
        self._losses_passed_on.add(loss)
        self._left_out.add(loss)
        stream = loss.slot[0]
        self._errors.append(
            FrameError(f"the {stream} frame at {loss.energy_ev:.1f} eV is left out: {loss.reason}")
        )

    def _push(self, reduced: Reduced) -> None:
        try:
            self._estimator.push(reduced)
        except EdgeFittingError as error:
            exposure_s = float(reduced.notes.get("exposure_s", 0.0))
            reason = f"the fit refuses it ({error})"
            self._left_out.add(
                FrameLoss(reduced.slot, reduced.label.attempt, reduced.energy_ev, exposure_s, reason)
            )
            return
        self._done.add(reduced.slot)
        self._last_time_s = max(self._last_time_s, reduced.time_s)
        self._changed = True

    def _retract(self, reduced: Reduced) -> None:
        if reduced.slot in self._done:  # the fit may have refused it
            self._estimator.retract(reduced)
            self._done.discard(reduced.slot)
            self._changed = True
