"""Tiles of a sample larger than the field of view, put together into one map."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from callbacks.errors import ReadingError
from callbacks.results import Field, ResultSchema, software_versions
from callbacks.techniques import has_value
from edge_fitting import match_maps, split_particles

from ._series import jump_scene

Array = npt.NDArray[np.float64]
Map = npt.NDArray[np.float32]

_MAP, _TILE = ("row", "column"), ("tile",)
_QUANTITIES = (("soc", "soc_sigma"), ("edge_energy_ev", "edge_energy_sigma_ev"))
_KEPT = ("sample", "proposal", "mosaic_group", "definition", "references", "pixel_size_nm")
_LEAST_CORRELATION = 0.5
# Of the area of a tile: less in common, such as a corner, is not matched.
_LEAST_OVERLAP = 0.08
# Standard deviations of what says where tiles lie: a match, and the motors where nothing else does.
_MATCH_PX, _MOTOR_PX = 0.3, 30.0
_WORST_PX = 2.0
_SMALLEST_DIAMETER_PX = 4.5
_LARGEST_PULL = 3.0
_MOST_PIXELS = 2**28


def _of_tile(name: str, dtype: str, unit: str, meaning: str) -> Field:
    return Field(f"tile_{name}", _TILE, dtype, unit, meaning, "quality", path=f"tiles/{name}")


MOSAIC_SCHEMA = ResultSchema(
    "NimcoMosaic",
    "1",
    (
        Field("soc", _MAP, "float32", "", "state of charge, mean of the tiles by their inverse variance"),
        Field("soc_sigma", _MAP, "float32", "", "its standard deviation by the noise", "sigma", "soc"),
        Field(
            "edge_energy_ev",
            _MAP,
            "float32",
            "eV",
            "edge energy, mean of the tiles by their inverse variance",
        ),
        Field(
            "edge_energy_sigma_ev", _MAP, "float32", "eV", "its sigma by the noise", "sigma", "edge_energy_ev"
        ),
        Field("edge_jump", _MAP, "float32", "optical depth", "edge jump, mean of the tiles"),
        Field("n_tiles", _MAP, "uint8", "", "tiles that the pixel has a value from", "quality"),
        Field("particle_label_map", _MAP, "int32", "", "particles of the whole, 0 for none", "quality"),
        Field("row", ("row",), "float64", "um", "position along the rows", "coordinate", storage="array"),
        Field(
            "column", ("column",), "float64", "um", "position along columns", "coordinate", storage="array"
        ),
        _of_tile("row_px", "float64", "pixel", "row of its first pixel in the mosaic, as found"),
        _of_tile("column_px", "float64", "pixel", "column of its first pixel"),
        _of_tile("moved_row_px", "float64", "pixel", "found less planned place"),
        _of_tile("moved_column_px", "float64", "pixel", "the same along the columns"),
        _of_tile("neighbours", "int64", "", "neighbours that it was found to lie on"),
        _of_tile(
            "residual_px", "float64", "pixel", "largest distance between its place and what a neighbour says"
        ),
        _of_tile(
            "step",
            "float64",
            "",
            "how far it lies above the middle tile, by all overlaps, in the unit of the signal",
        ),
        _of_tile("step_sigma", "float64", "", "its standard deviation by the noise"),
    ),
)
"""A map of many tiles at one edge, and where each was found to lie."""


@dataclass
class _Tile:
    """What is kept of one result."""

    uid: str
    edge: str
    place: tuple[float, float]
    maps: dict[str, Map]
    jump: Map
    scene: Map
    about: dict[str, Any]
    planned: Mapping[str, Any]
    final: bool
    pixel_um: float


@dataclass
class _Pair:
    """Two neighbours: by how much the second lies beyond the first, and which share of a tile says so."""

    first: int
    second: int
    offset: tuple[float, float]
    share: float


def stitch_mosaic(results: Iterable[xr.Dataset], *, reach_um: float | None = None) -> xr.Dataset:
    """Put tiles on each other where they overlap, and join their maps.

    Parameters
    ----------
    results : iterable of xarray.Dataset
        Of the runs of `beamline_plans.xanes_mosaic` at one edge, as from `stored_fields`; of a tile that was taken
        twice the last counts.
    reach_um : float, optional
        How far a tile may lie from where the motors put it; by default an eighth of the field.

    Returns
    -------
    xarray.Dataset
        Follows `MOSAIC_SCHEMA`.

    Raises
    ------
    ReadingError
        No tiles, results of other plans, of several edges or sizes, or tiles too far apart.

    Notes
    -----
    Neighbours are matched by their edge jump (`edge_fitting.match_maps`); the places of all tiles follow by least
    squares from all matches, and from the motors where nothing matches. Pairs that the others contradict by more than
    two pixels are left out. Tiles are moved by whole pixels, so that values and sigmas stay as they were fitted. What a
    tile shares (energy axis) is no noise: how far tiles lie above the others where they overlap is told
    (``tile_step``).
    """
    of_tile: dict[tuple[Any, ...], _Tile] = {}
    for result in results:
        one = _tile_of(result)
        of_tile[one.place] = one
    tiles = list(of_tile.values())
    if not tiles:
        raise ReadingError("there are no tiles to put together")
    _check_alike(tiles)
    shape, pixel_um = tiles[0].jump.shape, tiles[0].pixel_um
    reach_px = min(shape) / 8.0 if reach_um is None else reach_um / pixel_um
    planned = np.array([tile.place for tile in tiles]) / pixel_um
    pairs, warnings = _matched(tiles, planned, shape, reach_px)
    warnings = [*_missing(tiles), *warnings]
    places = _solved(planned, pairs)
    while pairs and (worst := max(pairs, key=lambda pair: _distance(places, pair))) is not None:
        if _distance(places, worst) <= _WORST_PX:
            break
        pairs.remove(worst)
        warnings.append(
            f"The overlap of {_name(tiles[worst.first])} and {_name(tiles[worst.second])} contradicts the others by "
            f"{_distance(places, worst):.1f} px and is left out."
        )
        places = _solved(planned, pairs)
    found = [sum(k in (pair.first, pair.second) for pair in pairs) for k in range(len(tiles))]
    if len(tiles) > 1 and (lone := [_name(tile) for tile, n in zip(tiles, found, strict=True) if not n]):
        warnings.append(
            f"{', '.join(lone)}: no neighbour was found in the overlap, so the place is that of the motors; more "
            "overlap, or --reach for motors that go farther astray."
        )
    return _joined(tiles, places, planned, pairs, found, warnings)


def _missing(tiles: Sequence[_Tile]) -> list[str]:
    """Say which tiles of the plan are not there."""
    asked = [n for tile in tiles if isinstance(n := tile.planned.get("n_tiles"), int)]
    there = {number for tile in tiles if isinstance(number := tile.planned.get("number"), int)}
    if len(asked) < len(tiles) or not there or len(there) >= max(asked):
        return []
    lacking = [str(number) for number in range(max(asked)) if number not in there]
    shown = ", ".join(lacking[:8]) + (f" and {len(lacking) - 8} more" if len(lacking) > 8 else "")
    return [
        f"Only {len(tiles)} of {max(asked)} tiles are here (not those numbered {shown} from 0): their places are empty."
    ]


def _tile_of(result: xr.Dataset) -> _Tile:
    about = result.attrs
    uid = str(about.get("raw_uid"))
    mosaic = about.get("mosaic")
    view = about.get("field_of_view")
    place = mosaic.get("centre_um") if isinstance(mosaic, Mapping) else None
    if (
        place is None
        and isinstance(view, Mapping)
        and None not in (view.get("row_um"), view.get("column_um"))
    ):
        place = view["row_um"], view["column_um"]
    if place is None or not about.get("pixel_size_nm"):
        raise ReadingError(
            f"run {uid[:8]} does not say where its field lies (mosaic, or row_um and column_um of field_of_view) or "
            "its pixel size; take tiles with xanes_mosaic(pixel_size_nm=...)"
        )
    if "status" not in result or "edge_jump" not in result:
        raise ReadingError(f"the result of run {uid[:8]} has no maps to put together")
    carries = has_value(result)
    maps = {
        part: np.where(carries, result[part].values, np.float32(np.nan))
        for pair in _QUANTITIES
        if all(part in result for part in pair)
        for part in pair
    }
    return _Tile(
        uid=uid,
        edge=str(about.get("edge")),
        place=(float(place[0]), float(place[1])),
        maps=maps,
        jump=np.where(carries, result["edge_jump"].values, np.float32(np.nan)),
        scene=jump_scene(result),
        about={name: about[name] for name in _KEPT if about.get(name)},
        planned=mosaic if isinstance(mosaic, Mapping) else {},
        final=bool(about.get("final")),
        pixel_um=float(about["pixel_size_nm"]) / 1000.0,
    )


def _check_alike(tiles: Sequence[_Tile]) -> None:
    for what, values in (
        ("edges", {tile.edge for tile in tiles}),
        ("sizes", {tile.jump.shape for tile in tiles}),
        ("pixel sizes", {tile.pixel_um for tile in tiles}),
    ):
        if len(values) > 1:
            raise ReadingError(
                f"tiles of several {what} ({', '.join(map(str, values))}) are no mosaic; choose those of one"
            )


def _matched(
    tiles: Sequence[_Tile], planned: Array, shape: tuple[int, ...], reach_px: float
) -> tuple[list[_Pair], list[str]]:
    pairs, n_neighbours = [], 0
    for first in range(len(tiles)):
        for second in range(first + 1, len(tiles)):
            expected = planned[second] - planned[first]
            common = np.maximum(np.array(shape) - np.abs(expected), 0.0)
            if common.prod() < _LEAST_OVERLAP * np.prod(shape):
                continue
            n_neighbours += 1
            match = match_maps(
                tiles[first].scene,
                tiles[second].scene,
                expected_px=(float(expected[0]), float(expected[1])),
                reach_px=reach_px,
            )
            if match is not None and match.correlation >= _LEAST_CORRELATION:
                pairs.append(_Pair(first, second, match.offset_px, match.n_pixels / (shape[0] * shape[1])))
    if len(tiles) > 1 and not n_neighbours:
        return pairs, ["No tiles overlap: each lies where the motors put it."]
    return pairs, []


def _solved(planned: Array, pairs: Sequence[_Pair]) -> Array:
    """Return the places of all tiles by least squares; the first stays where it was planned."""
    n = len(planned)
    rows, goals, weights = [], [], []
    for pair in pairs:
        row = np.zeros(n)
        row[pair.first], row[pair.second] = -1.0, 1.0
        rows.append(row)
        goals.append(np.array(pair.offset))
        weights.append(np.sqrt(pair.share) / _MATCH_PX)
    for k in range(n):
        rows.append(np.eye(n)[k])
        goals.append(planned[k])
        weights.append(1.0 / (1e-3 if k == 0 else _MOTOR_PX))
    matrix = np.array(rows) * np.array(weights)[:, None]
    return np.asarray(np.linalg.lstsq(matrix, np.array(goals) * np.array(weights)[:, None], rcond=None)[0])


def _distance(places: Array, pair: _Pair) -> float:
    return float(np.hypot(*(places[pair.second] - places[pair.first] - np.array(pair.offset))))


def _name(tile: _Tile) -> str:
    return f"the tile at {tile.place[0]:g}, {tile.place[1]:g} um (run {tile.uid[:8]})"


def _joined(
    tiles: Sequence[_Tile],
    places: Array,
    planned: Array,
    pairs: Sequence[_Pair],
    found: Sequence[int],
    warnings: list[str],
) -> xr.Dataset:
    shape = tiles[0].jump.shape
    corners = np.round(places - places.min(axis=0)).astype(int)
    size = tuple(int(part) for part in corners.max(axis=0) + np.array(shape))
    if size[0] * size[1] > _MOST_PIXELS:
        raise ReadingError(
            f"a mosaic of {size[0]} x {size[1]} pixels is too large; leave out the tiles that lie far away"
        )
    known = [
        name
        for name, _ in _QUANTITIES
        if all(np.isfinite(tile.maps.get(name, np.nan)).any() for tile in tiles)
    ]
    known = known or [
        name for name, _ in _QUANTITIES if any(np.isfinite(t.maps.get(name, np.nan)).any() for t in tiles)
    ]
    if not known:
        raise ReadingError("no tile has a state of charge or an edge energy")
    windows = [np.s_[r : r + shape[0], c : c + shape[1]] for r, c in corners]
    values: dict[str, Any] = {}
    for name, sigma in _QUANTITIES:
        if name in known:
            values[name], values[sigma] = _mean_map(
                [(tile.maps[name], tile.maps[sigma]) for tile in tiles if name in tile.maps],
                [window for tile, window in zip(tiles, windows, strict=True) if name in tile.maps],
                size,
            )
    ones = np.ones(shape, np.float32)
    values["edge_jump"], _ = _mean_map([(tile.jump, ones) for tile in tiles], windows, size)
    count = np.zeros(size, np.uint8)
    for tile, window in zip(tiles, windows, strict=True):
        count[window] += np.isfinite(tile.jump)
    values["n_tiles"] = count
    values["particle_label_map"] = split_particles(count > 0, min_diameter=_SMALLEST_DIAMETER_PX)
    for dim, (k, length) in zip(_MAP, enumerate(size), strict=True):
        values[dim] = (np.arange(length) + places[:, k].min() - (shape[k] - 1) / 2) * tiles[0].pixel_um
    steps = _steps(tiles, corners, known[0], shape)
    values |= {
        "tile_row_px": places[:, 0] - places[:, 0].min(),
        "tile_column_px": places[:, 1] - places[:, 1].min(),
        "tile_moved_row_px": (places - planned)[:, 0],
        "tile_moved_column_px": (places - planned)[:, 1],
        "tile_neighbours": list(found),
        "tile_residual_px": [
            max(
                (_distance(places, pair) for pair in pairs if k in (pair.first, pair.second)),
                default=float("nan"),
            )
            for k in range(len(tiles))
        ],
        "tile_step": [step for step, _ in steps],
        "tile_step_sigma": [error for _, error in steps],
    }
    warnings += _step_warnings(tiles, steps, known[0])
    first = tiles[0]
    uids = [tile.uid for tile in tiles]
    said = {
        **first.about,
        "technique": "mosaic",
        "raw_uid": str(first.about.get("mosaic_group") or uuid.uuid5(uuid.NAMESPACE_OID, " ".join(uids))),
        "raw_uids": uids,
        "edge": first.edge,
        "tile_shape": list(shape),
        "final": all(tile.final for tile in tiles),
        "warnings": warnings,
        "versions": software_versions(),
        "analysis": {"id": uuid.uuid4().hex, "options": {}},
    }
    return MOSAIC_SCHEMA.make(values, said, signal=known[0])


def _mean_map(
    maps: Sequence[tuple[Map, Map]], windows: Sequence[Any], size: tuple[int, ...]
) -> tuple[Map, Map]:
    """Return the mean by inverse variance, and its standard deviation."""
    total, weight = np.zeros(size), np.zeros(size)
    for (values, sigma), window in zip(maps, windows, strict=True):
        good = np.isfinite(values) & np.isfinite(sigma) & (sigma > 0)
        share = np.where(good, 1.0 / np.where(good, sigma, 1.0).astype(float) ** 2, 0.0)
        total[window] += share * np.where(good, values, 0.0)
        weight[window] += share
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total / weight).astype(np.float32), np.where(weight > 0, weight**-0.5, np.nan).astype(
            np.float32
        )


def _steps(
    tiles: Sequence[_Tile], corners: npt.NDArray[np.intp], name: str, shape: tuple[int, ...]
) -> list[tuple[float, float]]:
    """Return by how much each tile lies above the middle one, from all overlaps, and the error of that by the noise."""
    sigma_name = dict(_QUANTITIES)[name]
    n = len(tiles)
    normal, right, touched = np.zeros((n, n)), np.zeros(n), np.zeros(n, bool)
    for first in range(n):
        for second in range(first + 1, n):
            shift = corners[second] - corners[first]
            if (np.abs(shift) >= shape).any():
                continue
            here = tuple(np.s_[max(s, 0) : m + min(s, 0)] for s, m in zip(shift, shape, strict=True))
            there = tuple(np.s_[max(-s, 0) : m + min(-s, 0)] for s, m in zip(shift, shape, strict=True))
            one, other = tiles[first].maps, tiles[second].maps
            if name not in one or name not in other:
                continue
            difference = one[name][here].astype(float) - other[name][there]
            variance = one[sigma_name][here].astype(float) ** 2 + other[sigma_name][there].astype(float) ** 2
            good = np.isfinite(difference) & np.isfinite(variance) & (variance > 0)
            if not good.any():
                continue
            weight = float(np.sum(1.0 / variance[good]))
            summed = float(np.sum(difference[good] / variance[good]))
            pair = [first, second]
            normal[np.ix_(pair, pair)] += weight * np.array([[1.0, -1.0], [-1.0, 1.0]])
            right[pair] += summed, -summed
            touched[pair] = True
    # Only differences are told: the middle tile is the zero.
    inverse = np.linalg.pinv(normal)
    levels = inverse @ right
    if touched.any():
        levels -= np.median(levels[touched])
    errors = np.sqrt(np.maximum(np.diag(inverse), 0.0))
    return [
        (float(level), float(error)) if is_touched else (float("nan"),) * 2
        for level, error, is_touched in zip(levels, errors, touched, strict=True)
    ]


def _step_warnings(tiles: Sequence[_Tile], steps: Sequence[tuple[float, float]], name: str) -> list[str]:
    said = []
    digits, least = (3, 0.02) if name == "soc" else (2, 0.05)
    for tile, (step, error) in zip(tiles, steps, strict=True):
        if abs(step) > max(_LARGEST_PULL * error, least):
            said.append(
                f"{_name(tile)} lies {step:+.{digits}f} above the others where they overlap: the energy axis, the "
                "beam or the sample changed between tiles; the mosaic shows a step there."
            )
    key = "references" if name == "soc" else "definition"
    if len({repr(tile.about.get(key)) for tile in tiles}) > 1:
        said.append(f"The tiles differ in their {key}: their values are on different scales.")
    if running := [tile.uid[:8] for tile in tiles if not tile.final]:
        said.append(f"Not final yet: {', '.join(running)}.")
    return said
