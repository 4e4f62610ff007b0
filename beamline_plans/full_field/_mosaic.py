"""A sample larger than the field of view: tiles that overlap, one after the other."""

import math
import uuid
from collections.abc import Sequence
from typing import Any, Literal, Optional, Union

import bluesky.plan_stubs as bps
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_plans.errors import PlanError
from beamline_plans.running import (
    Instrument,
    check_roles,
    check_value,
    one_run,
    requests_for_edges,
    restore_wrapper,
    safe_state_wrapper,
)

__all__ = ["tile_centres", "xanes_mosaic"]

_MOST_TILES = 10_000
_Place = tuple[float, float]


def tile_centres(
    extent_um: Sequence[float],
    field_um: Sequence[float],
    *,
    overlap: float = 0.2,
    polygon_um: Optional[Sequence[Sequence[float]]] = None,
) -> list[tuple[int, int, float, float]]:
    """Return the tiles that cover a rectangle, or of these the ones that a polygon touches, in the order of a snake.

    Parameters
    ----------
    extent_um : (float, float)
        Height and width to cover.
    field_um : (float, float)
        Height and width of one field of view.
    overlap : float
        Share of a field that neighbours have in common, at least; tiles are spread evenly.
    polygon_um : sequence of (float, float), optional
        Corners (row, column) about the centre; tiles without a point of it are left out.

    Returns
    -------
    list of (int, int, float, float)
        Row and column of each tile in the raster, and its centre about that of the rectangle, in um.

    Raises
    ------
    PlanError
        Sizes that are not positive, an overlap that is not between 0 and 0.9, a polygon of fewer than three corners or
        outside, or more than ten thousand tiles.
    """
    sizes = [*_pair(extent_um, "the extent"), *_pair(field_um, "the field")]
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        raise PlanError(f"Extent and field of a mosaic are positive numbers of um, not {sizes}.")
    if not 0.0 < overlap <= 0.9:
        raise PlanError(f"Tiles overlap by a share of 0 to 0.9 of a field, such as 0.2, not {overlap}.")
    lines = []
    for extent, size in zip(sizes[:2], sizes[2:], strict=True):
        n = 1 if extent <= size else 1 + math.ceil((extent - size) / (size * (1.0 - overlap)) - 1e-9)
        if n > _MOST_TILES:
            raise PlanError(f"A mosaic of {n} tiles along one side is too much; give the extent in um.")
        step = 0.0 if n == 1 else (extent - size) / (n - 1)
        lines.append([step * (k - 0.5 * (n - 1)) for k in range(n)])
    if len(lines[0]) * len(lines[1]) > _MOST_TILES:
        raise PlanError(
            f"A mosaic of {len(lines[0])} x {len(lines[1])} tiles is too much; give the extent in um."
        )
    corners = None if polygon_um is None else [_pair(corner, "a corner") for corner in polygon_um]
    if corners is not None and len(corners) < 3:
        raise PlanError(f"A polygon has three corners or more, not {len(corners)}.")
    tiles = []
    for row, row_um in enumerate(lines[0]):
        columns = list(enumerate(lines[1]))
        for column, column_um in columns if row % 2 == 0 else columns[::-1]:
            if corners is None or _touches(corners, (row_um, column_um), (sizes[2], sizes[3])):
                tiles.append((row, column, row_um, column_um))
    if not tiles:
        raise PlanError(
            "No tile of the mosaic has a part of the polygon; give its corners in um about the centre."
        )
    return tiles


def xanes_mosaic(
    camera: Readable,
    energy: Movable,
    shutter: Movable,
    stage: Movable,
    row_motor: Movable,
    column_motor: Movable,
    *,
    extent_um: Union[list[float], tuple[float, ...]],
    field_um: Union[list[float], tuple[float, ...]],
    overlap: float = 0.2,
    polygon_um: Optional[list] = None,
    centre: Union[list[float], tuple[float, ...]] = (0.0, 0.0),
    um_per_unit: Union[list[float], tuple[float, ...]] = (1.0, 1.0),
    edges: Union[list[str], tuple[str, ...]] = ("Ni_K",),
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
    """Take XANES stacks of overlapping tiles, for a sample that is larger than the field of view.

    Tiles are visited in a snake; at each there is one run per edge. All runs share a `mosaic_group`; `mosaic` in their
    start documents says which tile it is, of how many, and where it should lie. The maps are put together by `nimco
    mosaic`. See `xanes_scan` for the parameters not described here.

    Parameters
    ----------
    camera, energy, shutter, stage, i0
        The devices, as for `xanes_scan`.
    row_motor, column_motor : Movable
        Move the sample so that its picture moves along the rows and the columns of the camera. The stage that takes the
        sample out of the beam has to bring it back to the same place whatever they do.
    extent_um : list of float
        Height and width of the sample to cover, in um.
    field_um : list of float
        Height and width of the field of view, in um: pixels times their size.
    overlap : float
        Share of a field that neighbouring tiles have in common, at least.
    polygon_um : list
        Corners (row, column) in um about the centre: only tiles that have a part of it are taken.
    centre : list of float
        Positions of both motors with the centre of the mosaic in the middle of the field.
    um_per_unit : list of float
        By how many um the picture moves (at the sample, to larger rows and columns) for one unit of each motor;
        negative where it moves the other way.
    edges : list of str
        The edges in the order they are measured at each tile.
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
    tiles = tile_centres(extent_um, field_um, overlap=overlap, polygon_um=polygon_um)
    scales, middle = _pair(um_per_unit, "um_per_unit"), _pair(centre, "the centre")
    if not all(math.isfinite(scale) and scale != 0 for scale in scales):
        raise PlanError(f"um_per_unit are two numbers that are not 0, not {scales}.")
    check_roles(
        (
            ("camera", camera, ()),
            ("energy", energy, ()),
            ("shutter", shutter, ()),
            ("stage", stage, ()),
            ("i0", i0, ()),
            ("row_motor", row_motor, ("name", "read", "set")),
            ("column_motor", column_motor, ("name", "read", "set")),
        )
    )
    group = str(uuid.uuid4())
    planned = []
    for number, (row, column, row_um, column_um) in enumerate(tiles):
        # To look at a place that lies at larger rows, the picture moves to smaller ones.
        goal = (middle[0] - row_um / scales[0], middle[1] - column_um / scales[1])
        for motor, value in zip((row_motor, column_motor), goal, strict=True):
            check_value(motor, value)
        view = (md or {}).get("field_of_view")
        tile_md = {
            **(md or {}),
            "field_of_view": {
                **(view if isinstance(view, dict) else {}),
                "name": f"tile {row},{column}",
                "row_um": row_um,
                "column_um": column_um,
            },
        }
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
            md=tile_md,
        )
        mosaic = {
            "number": number,
            "n_tiles": len(tiles),
            "tile": [row, column],
            "centre_um": [row_um, column_um],
            "field_um": list(_pair(field_um, "the field")),
            "overlap": overlap,
        }
        run_md = {"plan_name": "xanes_mosaic", "mosaic_group": group, "mosaic": mosaic, **tile_md}
        planned.append((goal, requests, run_md))

    def all_tiles() -> MsgGenerator[list[str]]:
        uids = []
        for goal, requests, run_md in planned:
            yield from bps.checkpoint()
            yield from bps.mv(shutter, "closed")
            yield from bps.mv(row_motor, goal[0], column_motor, goal[1])
            tile_md = {"scan_group": str(uuid.uuid4()), **run_md}
            for request in requests:
                uids.append((yield from one_run(instrument, request, tile_md)))
        return uids

    plan = restore_wrapper(row_motor, restore_wrapper(column_motor, all_tiles()))
    return (yield from safe_state_wrapper(instrument, plan))


def _pair(values: Any, what: str) -> _Place:
    try:
        first, second = (float(value) for value in values)
    except (TypeError, ValueError):
        raise PlanError(f"For a mosaic, {what} is two numbers (rows, columns), not {values!r}.") from None
    return first, second


def _touches(corners: Sequence[_Place], centre: _Place, size: _Place) -> bool:
    """Whether a rectangle and a polygon have a point in common."""
    low = tuple(middle - 0.5 * side for middle, side in zip(centre, size, strict=True))
    high = tuple(middle + 0.5 * side for middle, side in zip(centre, size, strict=True))
    if any(low[0] <= y <= high[0] and low[1] <= x <= high[1] for y, x in corners):
        return True
    box = [(low[0], low[1]), (low[0], high[1]), (high[0], high[1]), (high[0], low[1])]
    if any(_is_inside(corners, place) for place in box):
        return True
    sides = list(zip(corners, [*corners[1:], corners[0]], strict=True))
    walls = list(zip(box, [*box[1:], box[0]], strict=True))
    return any(_cross(*side, *wall) for side in sides for wall in walls)


def _is_inside(corners: Sequence[_Place], place: _Place) -> bool:
    inside = False
    for (y, x), (v, u) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (y > place[0]) != (v > place[0]) and place[1] < x + (place[0] - y) / (v - y) * (u - x):
            inside = not inside
    return inside


def _cross(a: _Place, b: _Place, c: _Place, d: _Place) -> bool:
    def side(p: _Place, q: _Place, r: _Place) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) <= 0 and side(c, d, a) * side(c, d, b) <= 0
