"""Live state-of-charge maps from the documents of a scan."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from callbacks.documents import (
    FILE_TIMEOUT_S,
    AnyDocument,
    DocumentWorker,
    ForeignLayout,
    ForeignRuns,
    RootMap,
    RunRouting,
    Throttle,
    read_run,
)
from callbacks.errors import CallbackError, DocumentError
from callbacks.reduce import RegisterChoice, check_register
from callbacks.results import CalledSink, DeferredResult, Sink, result_key
from edge_fitting import OffsetChoice, ReferenceSeries, check_offset, keyed_by_edge
from scan_contract import CONTRACTS, RunContract, is_energy_scan

from ._common_grid import CommonGrid
from ._full_field_result import result_of
from ._known import KNOWN_TECHNIQUES
from ._pipeline import RunPipeline
from ._planned import with_references
from ._provenance import provenance_of
from ._technique import EstimatorOptions, Technique
from ._update import SOCUpdate

Subscriber = Callable[[xr.Dataset], object]

_KEPT_MAP_BYTES = 2**30
_SUBSCRIBER_TIMEOUT_S = 10.0
_KEPT_INTERRUPTED = 1  # of a large camera each takes as much memory as the scan itself


class LiveSOC(DocumentWorker):
    """Fits every pixel while the frames arrive, and tells its subscribers.

    Subscribe it to a RunEngine. Calling it with a document costs microseconds and never raises: the frames
    are corrected and fitted on a thread of its own, and each subscriber is called on another. When frames
    come faster than maps can be made, maps are made less often; no frame is left out. Several runs may be
    open at once.

    Parameters
    ----------
    references : ReferenceSeries or mapping of edge name to ReferenceSeries, optional
        Spectra of known state of charge. By default those in the start document of each run.
    method : str
        Estimator of `edge_fitting.EdgeFitter`. A run without references gets the edge energy and no state of charge;
        ``series`` then moves the run's own mean spectrum, and keeps the frames.
    axis_offset : {"report", "fit"} or float
        What to do about an offset between the energy axes of scan and references: tell it with the bias it means, take
        it out, or take out so many eV (see `edge_fitting.fit_stack`).
    register : {"auto", "on", "off"}
        Whether frames are moved back by the drift of the sample before they are fitted: from when it is found to
        drift, always, never. Shifts and their standard deviations are in the table of frames.
    subscribers : sequence of callables
        Called with a result: an xarray.Dataset of their own, whose arrays are read-only (see
        docs/reference/nimco-soc.md).
    update_period_s : float
        Least time between two updates of one run. There is always a final one after the stop document.
    update_frames : int, optional
        Also an update whenever so many sample frames are new, however fast they come: a rehearsal at full speed
        shows the map grow as a scan does.
    file_timeout_s : float
        How long to wait for a frame that the detector should have written into a file. A file that lets one
        frame wait in vain is not waited for again before the end of the run.
    root_map : mapping of str to str or Path, optional
        Folders of the detector's files as documents name them, and where they are mounted on this machine.
    layouts : sequence of ForeignLayout
        How to understand the runs of other plans.
    techniques : sequence of Technique
        What to analyse, and how; runs of other techniques are passed over.
    """

    def __init__(
        self,
        references: ReferenceSeries | Mapping[str, ReferenceSeries] | None = None,
        *,
        method: str = "series",
        axis_offset: OffsetChoice = "report",
        register: RegisterChoice = "auto",
        subscribers: Sequence[Subscriber] = (),
        update_period_s: float = 0.5,
        update_frames: int | None = None,
        file_timeout_s: float = FILE_TIMEOUT_S,
        root_map: Mapping[str, str | Path] | None = None,
        layouts: Sequence[ForeignLayout] = (),
        techniques: Sequence[Technique] = KNOWN_TECHNIQUES,
    ) -> None:
        if references is not None and not isinstance(references, ReferenceSeries):
            references = keyed_by_edge(references)
        self._options = EstimatorOptions(
            references,
            method,
            check_offset(axis_offset),
            check_register(register),
            {old: str(new) for old, new in (root_map or {}).items()},
        )
        self._techniques = {technique.name: technique for technique in techniques}
        self._contracts = {**CONTRACTS, **{technique.name: technique.contract for technique in techniques}}
        if update_frames is not None and update_frames < 1:
            raise CallbackError(f"update_frames must be at least 1, not {update_frames}")
        self._update_period_s = update_period_s
        self._update_frames = update_frames
        self._frames_in_result: dict[str, int] = {}
        self._file_timeout_s = file_timeout_s
        self._roots = RootMap(root_map)
        self._foreign = ForeignRuns(layouts)
        self._routing = RunRouting()
        self._runs: dict[str, RunPipeline] = {}
        self._provenance: dict[str, dict[str, Any]] = {}
        self._throttles: dict[str, Throttle] = {}
        self._interrupted: deque[RunPipeline] = deque()
        self._changed: set[str] = set()
        self._latest: OrderedDict[str, tuple[DeferredResult, int]] = OrderedDict()  # with their sizes
        self._grids = CommonGrid()
        self._sinks: list[Sink] = []
        for subscriber in subscribers:
            self.subscribe(subscriber)
        super().__init__("live SOC analysis")

    def subscribe(self, subscriber: Subscriber) -> None:
        """Hand every result on from now on; a function is called on a thread of its own, and a slow one gets fewer.

        A `Sink` has its thread already, and is closed by whoever made it.
        """
        self._sinks.append(subscriber if isinstance(subscriber, Sink) else CalledSink(subscriber))

    def latest(self, uid: str | None = None) -> xr.Dataset:
        """Return the last result of a run, by default of the run that was updated last.

        Raises
        ------
        CallbackError
            No such run has been analysed here (or so long ago that its maps are only in Tiled).
        """
        held = dict(self._latest)
        if uid is None and held:
            return next(reversed(held.values()))[0].get()
        if uid is None or uid not in held:
            raise CallbackError(
                f"no maps of {'any run' if uid is None else f'run {uid[:8]}'} are held here; "
                "read them back from Tiled with open_soc"
            )
        return held[uid][0].get()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until everything received is fitted and every function that was subscribed has had the outcome.

        Raises
        ------
        CallbackError
            When that takes longer than ``timeout_s``.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        super().wait(timeout_s)
        for sink in self._called:
            sink.wait(None if deadline is None else max(deadline - time.monotonic(), 0.0))

    def close(self) -> None:
        """Fit what has been received, tell the subscribers, and stop.

        Subscribers that do not return within ten seconds are named and left behind.
        """
        super().close()
        while self._interrupted:
            self._interrupted.popleft().close()
        deadline = time.monotonic() + _SUBSCRIBER_TIMEOUT_S
        for sink in self._called:
            sink.end()
        for sink in self._called:
            if not sink.join(max(deadline - time.monotonic(), 0.0)):
                self._record_error(
                    CallbackError(
                        f"{sink.name} has not returned within {_SUBSCRIBER_TIMEOUT_S:g} s; it is left behind, "
                        "and may not have seen the last map"
                    )
                )

    @property
    def _called(self) -> list[CalledSink]:
        return [sink for sink in self._sinks if isinstance(sink, CalledSink)]

    def _handle(self, name: str, doc: AnyDocument) -> None:
        if not isinstance(doc, Mapping):
            raise DocumentError(
                f"a document {name!r} is a {type(doc).__name__} instead of a mapping; it is left out"
            )
        for told_name, told in self._foreign.translate(name, doc):
            self._guarded(self._handle_ours, told_name, told)

    def _handle_ours(self, name: str, doc: AnyDocument) -> None:
        uid = self._routing.run_of(name, doc)
        if name == "start":
            if is_energy_scan(doc) and uid not in self._runs:
                self._open(read_run(doc, self._contracts))
            return
        run = self._runs.get(uid or "")
        if run is None:
            return
        try:
            if run.add(name, doc):
                self._changed.add(run.contract.raw_uid)
                told = self._frames_in_result.get(run.contract.raw_uid, 0)
                if self._update_frames and name != "stop" and run.n_frames - told >= self._update_frames:
                    self._update_result(run)
        finally:
            if name == "stop":
                try:
                    self._update_result(run)
                finally:
                    self._end(run)

    def _open(self, contract: RunContract) -> None:
        scan = contract.scan
        technique = self._techniques.get(scan.technique)
        if technique is None:
            if scan.technique not in CONTRACTS:
                raise DocumentError(
                    f"run {contract.raw_uid[:8]} was measured with the technique {scan.technique!r}, which this "
                    "analysis does not know; the run is stored and not analysed"
                )
            return
        options = self._options if technique.comparison is None else with_references(contract, self._options)
        estimator = technique.estimator(contract, options)
        if estimator is None:
            return
        run = RunPipeline(
            technique,
            contract,
            estimator,
            file_timeout_s=self._file_timeout_s,
            roots=self._roots,
            options=options,
        )
        self._provenance[contract.raw_uid] = provenance_of(contract, self._options)
        self._runs[contract.raw_uid] = run
        self._throttles[contract.raw_uid] = Throttle(self._update_period_s)
        if scan.resumes is not None:
            self._resume(run, scan.resumes)

    def _resume(self, run: RunPipeline, uid: str) -> None:
        """Let a run go on with the frames of the interrupted one that it resumes."""
        edge = run.scan.edge
        found = next(
            (held for held in self._interrupted if uid in held.raw_uids and held.scan.edge == edge), None
        )
        if found is not None:
            self._interrupted.remove(found)
            run.resume(found)
            return
        problem = (
            f"run {run.contract.raw_uid[:8]} resumes run {uid[:8]}, whose frames are not held here: its map"
            " shows the new frames only; join both afterwards with: nimco reanalyse "
            f"{run.contract.raw_uid[:8]}"
        )
        run.warn(problem)
        self._record_error(CallbackError(problem))

    def _end(self, run: RunPipeline) -> None:
        """Let a run go that is over; one that was interrupted may be resumed."""
        uid = run.contract.raw_uid
        self._runs.pop(uid, None)
        self._provenance.pop(uid, None)
        self._throttles.pop(uid, None)
        self._frames_in_result.pop(uid, None)
        self._routing.forget(uid)
        if not run.may_be_resumed or not run.holds_frames:
            run.close()
            return
        self._interrupted.append(run)
        if len(self._interrupted) > _KEPT_INTERRUPTED:
            self._interrupted.popleft().close()

    def _idle(self) -> float | None:
        """Make the maps that are due; say when the next ones are."""
        delay: float | None = None
        for uid in tuple(self._changed):
            due_in = self._throttles[uid].due_in(busy=self.backlog > 0)
            if due_in <= 0:
                self._update_result(self._runs[uid])
            else:
                delay = due_in if delay is None else min(delay, due_in)
        return delay

    def _before_barrier(self) -> None:
        for uid in tuple(self._changed):
            self._update_result(self._runs[uid])

    def _update_result(self, run: RunPipeline) -> None:
        uid = run.contract.raw_uid
        self._changed.discard(uid)
        began = time.monotonic()
        update = run.result()
        self._throttles[uid].did(time.monotonic() - began)
        if update is None:
            flat_order = getattr(run.scan, "flat_order", None)
            if run.final and flat_order != "none":
                lacking = "" if flat_order is None else " with a flat field that can be used"
                raise CallbackError(
                    f"run {uid[:8]} ended ({run.exit_status}) without a frame that could be fitted; its documents"
                    f" hold no sample frame{lacking}: {'; '.join(run.warnings())}"
                )
            return
        self._frames_in_result[uid] = run.n_frames
        key = result_key(uid, getattr(run.scan, "edge", None))
        provenance = self._provenance[uid]
        if isinstance(update, SOCUpdate):
            soc = self._on_grid(run, update)
            result = DeferredResult(
                lambda: _with_provenance(result_of(soc), provenance), key=key, final=run.final
            )
            nbytes = 8 * soc.maps.soc.nbytes
        else:
            made = _with_provenance(update, provenance)
            result = DeferredResult(lambda: made, key=key, final=run.final)
            nbytes = update.nbytes
        self._keep(uid, result, int(nbytes))
        for sink in self._sinks:
            sink.offer(result)

    def _on_grid(self, run: RunPipeline, update: SOCUpdate) -> SOCUpdate:
        """Say where the maps of a run that is over lie against those of the first run of its measurement."""
        if not run.final or self._options.register == "off":
            return update
        grid = self._grids.place(run.contract, update.maps)
        if grid is None:
            return update
        return replace(update, grid=grid, warnings=(*update.warnings, *grid.warnings))

    def _keep(self, uid: str, result: DeferredResult, nbytes: int) -> None:
        self._latest[uid] = result, nbytes
        self._latest.move_to_end(uid)
        held = sum(kept for _, kept in self._latest.values())
        while held > _KEPT_MAP_BYTES and len(self._latest) > 1:
            _, (_, dropped) = self._latest.popitem(last=False)
            held -= dropped


def _with_provenance(result: xr.Dataset, provenance: Mapping[str, Any]) -> xr.Dataset:
    """Add who, what and which analysis; what the technique says itself stays."""
    return result.assign_attrs({**provenance, **result.attrs})
