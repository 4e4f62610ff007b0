"""The same edges again and again, at one or several places: operando work."""

import math
import uuid
from typing import Any, Literal, Optional, Union

import bluesky.plan_stubs as bps
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_plans.errors import PlanError
from beamline_plans.running import (
    Clock,
    Instrument,
    check_roles,
    check_value,
    now_s,
    one_run,
    requests_for_edges,
    restore_wrapper,
    safe_state_wrapper,
    wait_until,
)

__all__ = ["xanes_series"]


def xanes_series(
    camera: Readable,
    energy: Movable,
    shutter: Movable,
    stage: Movable,
    *,
    edges: Union[list[str], tuple[str, ...]] = ("Ni_K",),
    n_cycles: int = 1,
    interval_s: float = 0.0,
    positioner: Optional[Movable] = None,
    positions: Optional[list] = None,
    grids: Optional[dict] = None,
    order: Optional[Literal["ascending", "descending", "interleaved", "informative"]] = None,
    i0: Optional[Readable] = None,
    flat_order: Literal["per_energy", "every_n", "after_all", "before_all", "none"] = "per_energy",
    flat_every: int = 10,
    n_flats: int = 1,
    n_darks: int = 5,
    repeats: int = 1,
    references: Optional[dict] = None,
    pixel_size_nm: Optional[float] = None,
    i0_min: Optional[float] = None,
    md: Optional[dict] = None,
) -> MsgGenerator[list[str]]:
    """Repeat XANES stacks over time and over places on the sample.

    Each cycle visits every place and there takes one run per edge. The runs of one place in one cycle share a
    `scan_group`; all runs of the series share a `series_group`, and `series` in their start documents says
    which cycle and place they are. See `multi_edge_xanes` for the parameters not described here.

    Parameters
    ----------
    camera, energy, shutter, stage, i0
        The devices, as for `xanes_scan`.
    edges : list of str
        The edges in the order they are measured.
    n_cycles : int
        How often the places are visited.
    interval_s : float
        Time between the starts of two cycles in seconds. A cycle that takes longer is followed at once by the
        next. The shutter is closed while waiting.
    positioner : Movable
        Moves the sample to the places.
    positions : list
        The places, as values of `positioner`.
    grids, references : dict
        Per edge.
    order, flat_order, flat_every, n_flats, n_darks, repeats, pixel_size_nm, i0_min
        As for `xanes_scan`, for every edge.
    md : dict
        Metadata of every run.

    Returns
    -------
    list of str
        The uids of the runs in the order they were taken.

    Raises
    ------
    PlanError
        Before anything moves, if the request makes no sense or a device would refuse a move.
    """
    instrument = Instrument(camera, energy, shutter, stage, i0)  # type: ignore[arg-type]
    requests = requests_for_edges(
        instrument,
        edges,
        grids=grids,
        references=references,
        order=order,
        flat_order=flat_order,
        flat_every=flat_every,
        n_flats=n_flats,
        n_darks=n_darks,
        repeats=repeats,
        pixel_size_nm=pixel_size_nm,
        i0_min=i0_min,
        md=md,
    )
    if n_cycles < 1:
        raise PlanError(f"n_cycles must be at least 1, not {n_cycles}.")
    if not (math.isfinite(interval_s) and interval_s >= 0):
        raise PlanError(f"interval_s must be a number of seconds that is not negative, not {interval_s}.")
    if (positioner is None) != (positions is None) or positions == []:
        raise PlanError("Give positioner and positions together, with at least one position.")
    places: list[Any] = [None] if positions is None else list(positions)
    if positions is not None:
        check_roles(
            (
                ("camera", camera, ()),
                ("energy", energy, ()),
                ("shutter", shutter, ()),
                ("stage", stage, ()),
                ("i0", i0, ()),
                ("positioner", positioner, ("name", "read", "set")),
            )
        )
        for place in places:
            check_value(positioner, place)
    series_group = str(uuid.uuid4())
    clock = Clock()

    def one_place(cycle: int, number: int, place: Any) -> MsgGenerator[list[str]]:
        if positioner is not None:
            yield from bps.checkpoint()
            yield from bps.mv(positioner, place)
        series = {"cycle": cycle, "n_cycles": n_cycles, "place": number, "position": place}
        run_md = {
            "plan_name": "xanes_series",
            "scan_group": str(uuid.uuid4()),
            "series_group": series_group,
            "series": series,
            **(md or {}),
        }
        uids = []
        for request in requests:
            uids.append((yield from one_run(instrument, request, run_md)))
        return uids

    def all_cycles() -> MsgGenerator[list[str]]:
        uids: list[str] = []
        began = yield from now_s(clock)
        for cycle in range(n_cycles):
            if cycle:
                yield from bps.mv(shutter, "closed")
                yield from wait_until(clock, began + cycle * interval_s)
            for number, place in enumerate(places):
                uids += yield from one_place(cycle, number, place)
        return uids

    plan = all_cycles() if positioner is None else restore_wrapper(positioner, all_cycles())
    return (yield from safe_state_wrapper(instrument, plan))
