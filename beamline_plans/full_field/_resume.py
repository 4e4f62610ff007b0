"""Going on with a measurement that was aborted."""

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol

from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator
from event_model import DocumentRouter, Event, EventDescriptor, RunStart, RunStop

from beamline_plans.errors import PlanError
from beamline_plans.grids import EnergyGrid
from beamline_plans.running import (
    FrameTaker,
    Instrument,
    ScanRequest,
    entries_to_keep,
    metadata_to_keep,
    one_run,
    run_that_begins_with,
    safe_state_wrapper,
    take_frames,
)
from scan_contract import (
    STREAMS,
    ContractError,
    FullFieldContract,
    is_energy_scan,
    read_contract,
    read_label,
)

__all__ = ["RunArchive", "RunLedger", "TakenFrames", "resume_scan"]

_RUNS_KEPT = 100
_LOG = logging.getLogger("beamline_plans")


@dataclass
class TakenFrames:
    """What a run has recorded so far.

    Parameters
    ----------
    start : mapping
        Its start document.
    frames : mapping
        Per stream, the (energy index, repeat) of the frames that were saved, followed by the places on further axes.
    uids : list of str
        The run, and those that resumed it, in order.

    Raises
    ------
    ContractError
        The start document keeps no contract of a scan with a camera.
    """

    start: Mapping[str, Any]
    frames: dict[str, set[tuple[int, ...]]] = field(default_factory=lambda: defaultdict(set))
    uids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        scan = read_contract(self.start).scan
        if not isinstance(scan, FullFieldContract):
            raise ContractError(f"run {self.start.get('uid')} was not taken with a camera")
        self.scan: FullFieldContract = scan

    def missing(self) -> dict[str, list[int]]:
        """Return per stream, flat and primary, the energy indices that lack a frame, in acquisition order.

        Flats that serve all energies are not among them: like darks, the run that goes on takes its own.
        """
        scan = self.scan
        every = range(len(scan.energies_ev))
        flats = () if scan.flat_order in ("before_all", "none") else scan.take.flat
        wanted = (
            ("primary", scan.taken_indices, scan.repeats),
            ("flat", every if flats is None else flats, scan.n_flats),
        )
        return {
            stream: [
                index
                for index in indices
                if any((index, repeat) not in self.frames[stream] for repeat in range(count))
            ]
            for stream, indices, count in wanted
        }


class RunArchive(Protocol):
    """Where `resume_scan` looks up what a run has recorded."""

    def taken(self, uid: str) -> TakenFrames:
        """Return what run `uid` has recorded, with that of the runs that resumed it.

        Raises
        ------
        PlanError
            If there is no such run.
        """
        ...


class RunLedger(DocumentRouter):
    """Keeps, from the documents of runs, which frames were saved.

    Subscribe it to the RunEngine, or give it the documents of a stored run. It holds no images.
    """

    def __init__(self) -> None:
        super().__init__()
        self._runs: OrderedDict[str, TakenFrames] = OrderedDict()
        self._streams: dict[str, tuple[str, str]] = {}

    def start(self, doc: RunStart) -> None:
        """Open an account where the run is an energy scan."""
        if is_energy_scan(doc):
            self._open(doc)

    def descriptor(self, doc: EventDescriptor) -> None:
        """Remember which stream it is of."""
        if doc["run_start"] in self._runs:
            self._streams[doc["uid"]] = (doc["run_start"], doc.get("name", "primary"))

    def event(self, doc: Event) -> Event:
        """Note which frame was saved; pages of events come here one by one."""
        self._save(doc["descriptor"], doc["data"])
        return doc

    def stop(self, doc: RunStop) -> None:
        """Forget the streams of the run."""
        for uid in [d for d, (run, _) in self._streams.items() if run == doc["run_start"]]:
            del self._streams[uid]

    def add_documents(self, documents: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Take the documents of a stored run."""
        for name, doc in documents:
            self(name, dict(doc))

    def taken(self, uid: str) -> TakenFrames:
        """Return what run `uid` has recorded, with that of the runs that resumed it.

        Raises
        ------
        PlanError
            If no run, or more than one, begins with `uid`.
        """
        advice = "give the uid that the scan printed, or read the run into the ledger first"
        return run_that_begins_with(uid, self._runs, "run", advice)

    def _open(self, doc: Mapping[str, Any]) -> None:
        try:
            account = TakenFrames(doc)
        except ContractError as error:
            _LOG.debug("a run cannot be resumed: %s", error)
            return
        # A run that resumes another adds to the same account, which both uids then lead to.
        account = self._runs.get(str(account.scan.resumes), account)
        account.uids.append(doc["uid"])
        self._runs[doc["uid"]] = account
        while len(self._runs) > _RUNS_KEPT:
            self._runs.popitem(last=False)

    def _save(self, descriptor: str, data: Mapping[str, Any]) -> None:
        run, stream = self._streams.get(descriptor, ("", ""))
        if run not in self._runs or stream not in STREAMS:
            return
        try:
            label = read_label(stream, data)
        except ContractError as error:
            # What cannot be told is taken again.
            _LOG.warning("run %s: %s", run[:8], error)
            return
        places = (place for _, place in sorted(label.axes.items()))
        self._runs[run].frames[stream].add((label.energy_index, label.repeat, *places))


def resume_scan(
    camera: Readable,
    energy: Movable,
    shutter: Movable,
    stage: Movable,
    *,
    uid: str,
    archive: Any,
    i0: Optional[Readable] = None,
    filters: Optional[Movable] = None,
    md: Optional[dict] = None,
) -> MsgGenerator[Optional[str]]:
    """Take the energies that an aborted run lacks.

    The new run has the grid of the old one, the same energy indices and the same `scan_group`; `resumes` in its
    contract names the old run (the last of them, where it has been resumed before) and `take` the indices that were
    missing, so that the frames of both fit together. An energy that lacks one of its repeats is taken again with all
    of them.

    Parameters
    ----------
    camera, energy, shutter, stage, i0, filters
        The devices of the old run.
    uid : str
        Uid of the run to go on with, or its beginning.
    archive : RunArchive
        Tells which frames the run has, such as a `RunLedger`.
    md : dict
        More metadata; that of the old run is kept.

    Returns
    -------
    str or None
        The uid of the new run; None if nothing was missing.

    Raises
    ------
    PlanError
        Before anything moves, if there is no such run, it was taken with other devices, or a device would
        refuse a move.
    """
    instrument = Instrument(camera, energy, shutter, stage, i0, filters)  # type: ignore[arg-type]
    taken: TakenFrames = archive.taken(uid)
    start, scan = taken.start, taken.scan
    if scan.technique != "full_field":
        raise PlanError(f"Run {uid} is a rotation series; go on with it by resume_tomography.")
    if (scan.model_extra or {}).get("adaptive") is not None:
        raise PlanError(
            f"Run {uid} chose its energies itself; start adaptive_xanes again instead of resuming it."
        )
    if instrument.names != scan.devices:
        raise PlanError(f"Run {uid} was taken with the devices {scan.devices}; resume it with the same.")
    if scan.filter_position is not None and filters is None:
        raise PlanError(f"Run {uid} was taken with filters; pass the device that moves them.")
    missing = taken.missing()
    if not any(missing.values()):
        return None
    request = ScanRequest(
        scan.edge,
        EnergyGrid(scan.energies_ev, scan.exposure_s),
        flat_order=scan.flat_order,
        flat_every=scan.flat_every,
        n_flats=scan.n_flats,
        n_darks=scan.n_darks,
        repeats=scan.repeats,
        references=scan.references,
        pixel_size_nm=scan.pixel_size_nm,
        filter_position=scan.filter_position,
        i0_min=scan.i0_min,
    )
    entries = {
        **entries_to_keep(scan, (taken.uids or [start["uid"]])[-1], md),
        "take": missing,
    }
    request.contract(instrument, **entries)
    instrument.check(request.grid.energies_ev)
    run_md = {
        **metadata_to_keep(start),
        "plan_name": "resume_scan",
        "num_points": len(missing["primary"]) * request.repeats,
        **(md or {}),
    }

    def take(taker: FrameTaker, _uid: str) -> MsgGenerator[None]:
        yield from take_frames(taker, request, missing)

    run = one_run(instrument, request, run_md, entries=entries, take=take)
    return (yield from safe_state_wrapper(instrument, run))
