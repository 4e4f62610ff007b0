"""Rotation series at the energies of an edge."""

import uuid
from typing import Any, Literal, Optional, cast

from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_plans.grids import edge_named
from beamline_plans.running import (
    FrameTaker,
    Instrument,
    check_provenance,
    grid_from,
    one_run,
    restore_wrapper,
    safe_state_wrapper,
)

from ._angles import interleaved_angles, spread_angles
from ._request import ProjectionTaker, TomographyRequest, take_projections

__all__ = ["tomography_scan"]


def tomography_scan(
    camera: Readable,
    energy: Movable,
    shutter: Movable,
    stage: Movable,
    rotation: Movable,
    *,
    edge: str,
    grid: Any = None,
    n_angles: int = 181,
    range_deg: float = 180.0,
    start_deg: float = 0.0,
    interleaved: bool = False,
    nesting: Literal["energy_outer", "angle_outer"] = "energy_outer",
    safe_angle_deg: float = 0.0,
    order: Optional[Literal["ascending", "descending", "interleaved", "informative"]] = None,
    i0: Optional[Readable] = None,
    flat_order: Literal["per_energy", "every_n", "before_all", "none"] = "per_energy",
    flat_every: int = 10,
    n_flats: int = 5,
    n_darks: int = 5,
    repeats: int = 1,
    references: Optional[dict] = None,
    pixel_size_nm: Optional[float] = None,
    i0_min: Optional[float] = None,
    md: Optional[dict] = None,
) -> MsgGenerator[str]:
    """Take rotation series at the energies of an edge, or at a single energy.

    Darks come first, with the shutter closed. Each projection begins at a checkpoint. The sample is moved in and out at
    `safe_angle_deg` only. However the scan ends, the shutter is closed, the sample brought back in, the energy and the
    angle restored. See `xanes_scan` for the parameters not described here.

    Parameters
    ----------
    camera, energy, shutter, stage, i0
        The devices, as for `xanes_scan`.
    rotation : RotationAxis
        Turns the sample, in degrees.
    edge : str
        For example "Ni_K".
    grid : EnergyGrid, dict, str or None
        Energies and exposures, their dictionary form, the name of a preset, or None for the preset of the edge. A
        single energy gives the morphology.
    n_angles : int
        Angles at each energy.
    range_deg : float
        Over which they are spread: 180 or 360.
    start_deg : float
        The first one.
    interleaved : bool
        Whether each energy gets angles of its own, by the golden ratio, so that few suffice at each.
    nesting : str
        "energy_outer": a rotation series at each energy, back and forth. "angle_outer": all energies at each angle,
        whose state of charge in projection is known at once.
    safe_angle_deg : float
        Where the sample is moved out and in.
    order : str
        Order of the energies: "ascending", "descending", "interleaved" or "informative".
    flat_order : str
        "per_energy": flats of an energy before its projections. "every_n": before those of every `flat_every` energies,
        or, with the angles outside, flats of all energies before every `flat_every` angles. "before_all": `n_flats`
        flats in all, at the first energy. "none": images only.
    flat_every : int
        Energies, or angles, between two series of flats with "every_n".
    n_flats : int
        Flats per energy, or in all with "before_all".
    n_darks : int
        Darks per distinct exposure.
    repeats : int
        Frames per energy and angle.
    references : dict
        `ReferenceSeries.to_dict()`, for the live analysis.
    pixel_size_nm : float
        Pixel size at the sample in nm, which is the edge of a voxel.
    i0_min : float
        A frame during which I0 was lower is marked and taken again, a few times at most.
    md : dict
        Metadata of the run, as for `xanes_scan`.

    Returns
    -------
    str
        The uid of the run.

    Raises
    ------
    PlanError
        Before anything moves, if the request makes no sense or a device would refuse a move.
    """
    instrument = Instrument(camera, energy, shutter, stage, i0, rotation=rotation)  # type: ignore[arg-type]
    name = edge_named(edge).name
    energies = grid_from(grid, name, order=order, references=references)
    angles_deg, angles_of = (
        interleaved_angles(len(energies), n_angles, range_deg, start_deg)
        if interleaved
        else (spread_angles(n_angles, range_deg, start_deg), None)
    )
    request = TomographyRequest(
        name,
        energies,
        flat_order=flat_order,
        flat_every=flat_every,
        n_flats=n_flats,
        n_darks=n_darks,
        repeats=repeats,
        references=references,
        pixel_size_nm=pixel_size_nm,
        i0_min=i0_min,
        angles_deg=angles_deg,
        angles_of=angles_of,
        order=nesting,
        range_deg=range_deg,
        safe_angle_deg=safe_angle_deg,
    )
    request.contract(instrument, **check_provenance(md))
    instrument.check(request.grid.energies_ev)
    request.check_angles(instrument)
    run_md = {"plan_name": "tomography_scan", "scan_group": str(uuid.uuid4()), **(md or {})}

    def take(taker: FrameTaker, _uid: str) -> MsgGenerator[None]:
        yield from take_projections(cast(ProjectionTaker, taker), request)

    run = one_run(instrument, request, run_md, take=take, taker=ProjectionTaker)
    # The angle last: a sample that is out comes in at the safe angle, where it went out.
    return (yield from restore_wrapper(rotation, safe_state_wrapper(instrument, run), shutter))
