"""Going on with a measurement that was aborted."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol

from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_plans.errors import PlanError
from beamline_plans.grids import EnergyGrid
from beamline_plans.running import (
    STREAMS,
    FrameTaker,
    Instrument,
    ScanRequest,
    one_run,
    safe_state_wrapper,
    take_frames,
)

__all__ = ["RunArchive", "RunLedger", "TakenFrames", "resume_scan"]

_RUNS_KEPT = 100


@dataclass
class TakenFrames:
    """What a run has recorded so far.

    Parameters
    ----------
    start : mapping
        Its start document.
    frames : mapping
        Per stream, the (energy index, repeat) of the frames that were saved.
    uids : list of str
        The run, and those that resumed it, in order.
    """

    start: Mapping[str, Any]
    frames: dict[str, set[tuple[int, int]]] = field(default_factory=lambda: defaultdict(set))
    uids: list[str] = field(default_factory=list)

    def missing(self) -> dict[str, list[int]]:
        """Return per stream, flat and primary, the energy indices that lack a frame, in acquisition order."""
        xanes = self.start["xanes"]
        wanted = xanes.get("take") or {}
        n_energies = len(xanes["energies_ev"])
        missing = {}
        for stream, count in (("primary", xanes["repeats"]), ("flat", xanes["n_flats"])):
            missing[stream] = [
                index
                for index in wanted.get(stream, range(n_energies))
                if any((index, repeat) not in self.frames[stream] for repeat in range(count))
            ]
        return missing


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


class RunLedger:
    """Keeps, from the documents of runs, which frames were saved.

    Subscribe it to the RunEngine, or give it the documents of a stored run. It holds no images.
    """

    def __init__(self) -> None:
        self._runs: OrderedDict[str, TakenFrames] = OrderedDict()
        self._streams: dict[str, tuple[str, str]] = {}

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take one document."""
        if name == "start":
            self._open(doc)
        elif name == "descriptor" and doc["run_start"] in self._runs:
            self._streams[doc["uid"]] = (doc["run_start"], doc.get("name", "primary"))
        elif name == "event":
            self._save(doc["descriptor"], [doc["data"]])
        elif name == "event_page":
            rows = range(len(doc["seq_num"]))
            self._save(doc["descriptor"], ({k: v[row] for k, v in doc["data"].items()} for row in rows))
        elif name == "stop":
            for uid in [d for d, (run, _) in self._streams.items() if run == doc["run_start"]]:
                del self._streams[uid]

    def add_documents(self, documents: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Take the documents of a stored run."""
        for name, doc in documents:
            self(name, doc)

    def taken(self, uid: str) -> TakenFrames:
        """Return what run `uid` has recorded, with that of the runs that resumed it.

        Raises
        ------
        PlanError
            If no run, or more than one, begins with `uid`.
        """
        found = [run for run in self._runs if uid and run.startswith(uid)]
        if len(found) != 1:
            raise PlanError(
                f"{'No run' if not found else 'More than one run'} of this session begins with {uid!r}; "
                "give the uid that the scan printed, or read the run into the ledger first."
            )
        return self._runs[found[0]]

    def _open(self, doc: Mapping[str, Any]) -> None:
        xanes = doc.get("xanes")
        if not isinstance(xanes, Mapping):
            return
        resumed = self._runs.get(str(xanes.get("resumes")))
        # A run that resumes another adds to the same account, which both uids then lead to.
        account = TakenFrames(doc) if resumed is None else resumed
        account.uids.append(doc["uid"])
        self._runs[doc["uid"]] = account
        while len(self._runs) > _RUNS_KEPT:
            self._runs.popitem(last=False)

    def _save(self, descriptor: str, rows: Iterable[Mapping[str, Any]]) -> None:
        run, stream = self._streams.get(descriptor, ("", ""))
        if run not in self._runs or stream not in STREAMS:
            return
        for data in rows:
            frame = (int(data["xanes_energy_index"]), int(data["xanes_repeat"]))
            self._runs[run].frames[stream].add(frame)


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

    The new run has the grid of the old one, the same energy indices and the same `scan_group`; `resumes` in its `xanes`
    block names the old run (the last of them, where it has been resumed before) and `take` the indices that were
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
    start, xanes = taken.start, taken.start["xanes"]
    if "adaptive" in xanes:
        raise PlanError(
            f"Run {uid} chose its energies itself; start adaptive_xanes again instead of resuming it."
        )
    if instrument.names != dict(xanes["devices"]):
        raise PlanError(
            f"Run {uid} was taken with the devices {dict(xanes['devices'])}; resume it with the same."
        )
    if xanes.get("filter_position") is not None and filters is None:
        raise PlanError(f"Run {uid} was taken with filters; pass the device that moves them.")
    missing = taken.missing()
    if not any(missing.values()):
        return None
    request = ScanRequest(
        xanes["edge"],
        EnergyGrid(xanes["energies_ev"], xanes["exposure_s"]),
        flat_order=xanes["flat_order"],
        flat_every=xanes.get("flat_every", 10),
        n_flats=xanes["n_flats"],
        n_darks=xanes["n_darks"],
        repeats=xanes["repeats"],
        references=xanes["references"],
        pixel_size_nm=xanes["pixel_size_nm"],
        filter_position=xanes.get("filter_position"),
        i0_min=xanes.get("i0_min"),
    )
    instrument.check(request.grid.energies_ev)
    made_by_the_run_engine = {"uid", "time", "scan_id", "versions", "plan_type", "xanes", "num_points"}
    kept = {key: value for key, value in start.items() if key not in made_by_the_run_engine}
    run_md = {
        **kept,
        "plan_name": "resume_scan",
        "num_points": len(missing["primary"]) * request.repeats,
        **(md or {}),
    }

    def take(taker: FrameTaker, _uid: str) -> MsgGenerator[None]:
        yield from take_frames(taker, request, missing)

    extra = {"resumes": (taken.uids or [start["uid"]])[-1], "take": missing}
    run = one_run(instrument, request, run_md, xanes=extra, take=take)
    return (yield from safe_state_wrapper(instrument, run))
