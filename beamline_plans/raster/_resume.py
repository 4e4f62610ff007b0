"""Going on with a raster that was aborted, at the line where it stopped."""

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator
from event_model import DocumentRouter, Event, EventDescriptor, RunStart, RunStop

from beamline_plans.errors import PlanError
from beamline_plans.running import check_provenance, metadata_to_keep, run_that_begins_with
from scan_contract import (
    COLUMN_AXIS,
    PROVENANCE_KEYS,
    ROW_AXIS,
    ContractError,
    XRFContract,
    is_energy_scan,
    read_contract,
    read_label,
)

from ._request import RasterDevices, RasterRequest
from ._xrf import raster_run

__all__ = ["RasterLedger", "TakenLines", "resume_xrf_map"]

_RUNS_KEPT = 100
_LOG = logging.getLogger("beamline_plans")


@dataclass
class TakenLines:
    """What a raster has recorded so far.

    Parameters
    ----------
    start : mapping
        Its start document.
    points : mapping
        Columns that were saved, by energy index and row; a line that was flown is all of them.
    uids : list of str
        The run, and those that resumed it, in order.
    """

    start: Mapping[str, Any]
    points: dict[tuple[int, int], set[int]] = field(default_factory=lambda: defaultdict(set))
    uids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        scan = read_contract(self.start).scan
        if not isinstance(scan, XRFContract):
            raise ContractError(f"run {self.start.get('uid')} is no raster with a fluorescence detector")
        self.scan: XRFContract = scan

    def first_missing(self) -> Optional[tuple[int, int]]:
        """Return energy index and row of the first line that is not complete; None if there is none."""
        n_columns = len(self.scan.axes[COLUMN_AXIS])
        for index in range(len(self.scan.energies_ev)):
            for row in range(len(self.scan.axes[ROW_AXIS])):
                if len(self.points.get((index, row), ())) < n_columns:
                    return index, row
        return None


class RasterLedger(DocumentRouter):
    """Keeps, from the documents of runs, which lines were saved. Subscribe it to the RunEngine; it holds no spectra."""

    def __init__(self) -> None:
        super().__init__()
        self._runs: OrderedDict[str, TakenLines] = OrderedDict()
        self._streams: dict[str, str] = {}

    def start(self, doc: RunStart) -> None:
        """Open an account where the run is a raster."""
        if not is_energy_scan(doc):
            return
        try:
            account = TakenLines(doc)
        except ContractError as error:
            _LOG.debug("a run cannot be resumed as a raster: %s", error)
            return
        account = self._runs.get(str(account.scan.resumes), account)
        account.uids.append(doc["uid"])
        self._runs[doc["uid"]] = account
        while len(self._runs) > _RUNS_KEPT:
            self._runs.popitem(last=False)

    def descriptor(self, doc: EventDescriptor) -> None:
        """Remember which run it is of."""
        if doc["run_start"] in self._runs and doc.get("name") == "primary":
            self._streams[doc["uid"]] = doc["run_start"]

    def event(self, doc: Event) -> Event:
        """Note which point or line was saved."""
        account = self._runs.get(self._streams.get(doc["descriptor"], ""))
        if account is None:
            return doc
        try:
            label = read_label("primary", doc["data"])
        except ContractError as error:
            _LOG.warning("a point cannot be told and will be taken again: %s", error)
            return doc
        row, column = label.axes.get(ROW_AXIS), label.axes.get(COLUMN_AXIS)
        if row is not None:
            columns = range(len(account.scan.axes[COLUMN_AXIS])) if column is None else (column,)
            account.points[label.energy_index, row].update(columns)
        return doc

    def stop(self, doc: RunStop) -> None:
        """Forget the streams of the run."""
        for uid in [d for d, run in self._streams.items() if run == doc["run_start"]]:
            del self._streams[uid]

    def taken(self, uid: str) -> TakenLines:
        """Return what run `uid` has recorded, with that of the runs that resumed it.

        Raises
        ------
        PlanError
            If no raster, or more than one, begins with `uid`.
        """
        return run_that_begins_with(uid, self._runs, "raster", "give the uid that the scan printed")


def resume_xrf_map(
    mca: Readable,
    energy: Movable,
    row_axis: Movable,
    column_axis: Movable,
    *,
    uid: str,
    archive: Any,
    i0: Optional[Readable] = None,
    shutter: Optional[Movable] = None,
    md: Optional[dict] = None,
) -> MsgGenerator[Optional[str]]:
    """Go on with a raster that was aborted, from the line that it did not finish.

    The new run has the raster of the old one and its `scan_group`; `resumes` in its contract names the old run, and
    `take` the energies and the first row that it takes. The line that was under way is taken from its beginning.

    Parameters
    ----------
    mca, energy, row_axis, column_axis, i0, shutter
        The devices of the old run.
    uid : str
        Uid of the run to go on with, or its beginning.
    archive : RasterLedger
        Tells which lines the run has.
    md : dict
        More metadata; that of the old run is kept.

    Returns
    -------
    str or None
        The uid of the new run; None if nothing was missing.

    Raises
    ------
    PlanError
        Before anything moves, if there is no such run, it was taken with other devices, or a device refuses a move.
    """
    taken: TakenLines = archive.taken(uid)
    scan, start = taken.scan, taken.start
    devices = RasterDevices(mca, energy, row_axis, column_axis, i0, shutter)
    if devices.names(scan.line) != scan.devices:
        raise PlanError(f"Run {uid} was taken with the devices {scan.devices}; resume it with the same.")
    missing = taken.first_missing()
    if missing is None:
        return None
    index, row = missing
    kept = (
        "elements",
        "calibration",
        "angle_deg",
        "focus_um",
        "standard",
        "references",
        "composition_references",
    )
    said = scan.model_dump(mode="json")
    request = RasterRequest(
        scan.axes[ROW_AXIS],
        scan.axes[COLUMN_AXIS],
        scan.energies_ev,
        scan.exposure_s[0],
        scan.line,
        scan.edge,
        {name: said[name] for name in kept if said.get(name) is not None},
    )
    request.check(devices)
    provenance = {name: value for name in PROVENANCE_KEYS if (value := said.get(name)) is not None}
    run_md = {
        **metadata_to_keep(start),
        **provenance,
        "plan_name": "resume_xrf_map",
        **(md or {}),
    }
    check_provenance(run_md)
    take = {
        "resumes": taken.uids[-1],
        "take": {"primary": list(range(index, len(scan.energies_ev))), "first_row": row},
    }
    return (yield from raster_run(devices, request, run_md, take=take))
