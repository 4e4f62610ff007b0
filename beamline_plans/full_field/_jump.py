"""Where the metals are: two energies per edge."""

import uuid
from typing import Optional, Union

from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_plans.errors import PlanError
from beamline_plans.grids import EnergyGrid, edge_named
from beamline_plans.running import Instrument, one_run, requests_for_edges, safe_state_wrapper
from edge_fitting import EdgeFittingError, edge_names

# Nearer to an edge than this is the edge.
_NEAREST_EV = 0.5

__all__ = ["edge_jump_map"]


def edge_jump_map(
    camera: Readable,
    energy: Movable,
    shutter: Movable,
    stage: Movable,
    *,
    edges: Union[list[str], tuple[str, ...]] = ("Ni_K", "Mn_K", "Co_K"),
    below_ev: Optional[float] = None,
    above_ev: Optional[float] = None,
    exposure_s: float = 0.5,
    i0: Optional[Readable] = None,
    n_flats: int = 1,
    n_darks: int = 5,
    repeats: int = 1,
    pixel_size_nm: Optional[float] = None,
    i0_min: Optional[float] = None,
    md: Optional[dict] = None,
) -> MsgGenerator[list[str]]:
    """Take one energy below and one above each edge: the jump between them is the amount of the metal.

    The live analysis knows such a run by its energies and makes a map of the edge jump with its standard deviation, one
    for each edge.

    Parameters
    ----------
    camera, energy, shutter, stage, i0
        The devices, as for `xanes_scan`.
    edges : list of str
        The edges in the order they are measured.
    below_ev, above_ev : float
        Distances from the edge in eV; by default the nearest energies that the edge table counts as pre-edge
        and post-edge.
    exposure_s : float
        Exposure of each frame in seconds.
    n_flats, n_darks, repeats, pixel_size_nm, i0_min
        As for `xanes_scan`.
    md : dict
        Metadata of every run.

    Returns
    -------
    list of str
        The uids of the runs, one per edge.

    Raises
    ------
    PlanError
        Before anything moves, if the request makes no sense or a device would refuse a move.
    """
    instrument = Instrument(camera, energy, shutter, stage, i0)  # type: ignore[arg-type]
    for name, distance in (("below_ev", below_ev), ("above_ev", above_ev)):
        if distance is not None and not distance > 0:
            raise PlanError(f"{name} is a distance from the edge and must be positive, not {distance}.")
        if distance is not None and distance < _NEAREST_EV:
            raise PlanError(
                f"{name} is {distance:g} eV, which is on the edge itself; give eV ({distance * 1000:g} eV?)."
            )
    try:
        names = edge_names(edges)
    except EdgeFittingError as error:
        raise PlanError(f"The edges cannot be scanned: {error}") from error
    grids = {}
    for name in names:
        edge = edge_named(name)
        below = edge.pre_edge_ev[1] if below_ev is None else edge.energy_ev - below_ev
        above = edge.post_edge_ev[0] if above_ev is None else edge.energy_ev + above_ev
        grids[name] = EnergyGrid((below, above), exposure_s)
    requests = requests_for_edges(
        instrument,
        names,
        grids=grids,
        n_flats=n_flats,
        n_darks=n_darks,
        repeats=repeats,
        pixel_size_nm=pixel_size_nm,
        i0_min=i0_min,
        md=md,
    )
    run_md = {"plan_name": "edge_jump_map", "scan_group": str(uuid.uuid4()), **(md or {})}

    def all_edges() -> MsgGenerator[list[str]]:
        uids = []
        for request in requests:
            uids.append((yield from one_run(instrument, request, run_md)))
        return uids

    return (yield from safe_state_wrapper(instrument, all_edges()))
