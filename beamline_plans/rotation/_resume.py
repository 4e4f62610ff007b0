"""Going on with a rotation series that was aborted."""

from typing import Any, Optional, cast

from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_plans.errors import PlanError
from beamline_plans.grids import EnergyGrid
from beamline_plans.running import (
    FrameTaker,
    Instrument,
    entries_to_keep,
    metadata_to_keep,
    one_run,
    restore_wrapper,
    safe_state_wrapper,
)
from scan_contract import ANGLE_AXIS, TomographyContract

from ._request import ProjectionTaker, TomographyRequest, take_projections

__all__ = ["resume_tomography"]


def resume_tomography(
    camera: Readable,
    energy: Movable,
    shutter: Movable,
    stage: Movable,
    rotation: Movable,
    *,
    uid: str,
    archive: Any,
    i0: Optional[Readable] = None,
    md: Optional[dict] = None,
) -> MsgGenerator[Optional[str]]:
    """Take the projections that an aborted rotation series lacks, and none twice.

    The new run has the energies and angles of the old one and the same `scan_group`; its contract names the run that it
    resumes, and says which projections it takes. Energies that lack projections get their flats anew.

    Parameters
    ----------
    camera, energy, shutter, stage, i0
        The devices, as for `xanes_scan`.
    rotation : RotationAxis
        Turns the sample, in degrees.
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
        Before anything moves, if there is no such run, it was no rotation series, it was taken with other devices, or a
        device would refuse a move.
    """
    instrument = Instrument(camera, energy, shutter, stage, i0, rotation=rotation)  # type: ignore[arg-type]
    taken = archive.taken(uid)
    start, scan = taken.start, taken.scan
    if not isinstance(scan, TomographyContract):
        raise PlanError(f"Run {uid} is no rotation series; go on with it by resume_scan.")
    if instrument.names != scan.devices:
        raise PlanError(f"Run {uid} was taken with the devices {scan.devices}; resume it with the same.")
    missing = missing_projections(scan, taken.frames["primary"])
    if not missing:
        return None
    request = TomographyRequest(
        scan.edge,
        EnergyGrid(scan.energies_ev, scan.exposure_s),
        flat_order=scan.flat_order,
        flat_every=scan.flat_every,
        n_flats=max(scan.n_flats, 1),
        n_darks=scan.n_darks,
        repeats=scan.repeats,
        references=scan.references,
        pixel_size_nm=scan.pixel_size_nm,
        i0_min=scan.i0_min,
        angles_deg=scan.angles_deg,
        angles_of=scan.angles_of,
        order=scan.order,
        range_deg=scan.range_deg,
        safe_angle_deg=scan.safe_angle_deg,
    )
    entries = {
        **entries_to_keep(scan, (taken.uids or [start["uid"]])[-1], md),
        "take": {"primary": list(missing), "flat": list(missing)},
        "angles_taken": list(missing.values()),
    }
    request.contract(instrument, **entries)
    instrument.check(request.grid.energies_ev)
    request.check_angles(instrument)
    run_md = {
        **metadata_to_keep(start),
        "plan_name": "resume_tomography",
        "num_points": scan.repeats * sum(len(row) for row in missing.values()),
        **(md or {}),
    }

    def take(taker: FrameTaker, _uid: str) -> MsgGenerator[None]:
        yield from take_projections(cast(ProjectionTaker, taker), request, missing)

    run = one_run(instrument, request, run_md, entries=entries, take=take, taker=ProjectionTaker)
    return (yield from restore_wrapper(rotation, safe_state_wrapper(instrument, run), shutter))


def missing_projections(scan: TomographyContract, frames: set[tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """Return for each energy that lacks some the places of its angles that have no frame, or not all repeats."""
    assert ANGLE_AXIS in scan.axes
    found = {}
    for index in range(len(scan.energies_ev)):
        lacking = tuple(
            place
            for place in scan.places_of(index)
            if any((index, repeat, place) not in frames for repeat in range(scan.repeats))
        )
        if lacking:
            found[index] = lacking
    return found
