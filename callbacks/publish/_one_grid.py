"""The maps of several runs of one measurement, read together and laid on one grid."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.ndimage import distance_transform_edt
from tiled.queries import Key

from callbacks.errors import ReadingError
from edge_fitting import FitStatus, ImagePlace, register_image, resample_frame

from ._containers import VERSION_MARK
from ._reading import open_soc

_MAP = ("row", "column")
# Pictures of the sample, the best first: results of before 0.3 hold no optical depth.
_PICTURES = ("optical_depth", "edge_jump")
# What an interpolation reaches to each side.
_KERNEL_PX = 4


def open_soc_group(client: Any, name: str | Sequence[str], *, register: bool = True) -> xr.Dataset:
    """Read the maps of all runs of a measurement, laid on one grid.

    Between two edges, or two cycles of a series, the sample drifts: each run's maps lie on the pixels of its own first
    frame. Where they lie against those of the first run is found from the optical depth they show, and they are moved
    there.

    Parameters
    ----------
    client : tiled client
        The root of the server.
    name : str or sequence of str
        The ``scan_group`` of a measurement or a run of it, the ``series_group`` of a series, or uids of certain runs
        (their beginnings will do).
    register : bool
        False leaves all maps on their own grids.

    Returns
    -------
    xarray.Dataset
        The maps with dimensions ``run``, ``row`` and ``column``, in the order the runs were taken; ``edge`` and
        ``raw_uid`` along ``run``. ``grid_shift_px`` and ``grid_sigma_px`` (run, axis: rows, columns),
        ``magnification`` and ``rotation_deg`` say how each was displaced against the first; ``on_grid`` whether that
        was found. Values are interpolated, standard deviations and statuses those of the nearest pixel; what lies
        outside of a run's field is NaN with the status NO_DATA.

    Raises
    ------
    ReadingError
        There are no such runs or maps, or their frames differ in shape.
    """
    results = _results(client, name)
    first = results[0]
    for result in results:
        if result["status"].shape != first["status"].shape:
            raise ReadingError(
                f"the maps of run {result.attrs['raw_uid'][:8]} have the shape {result['status'].shape} and those of "
                f"{first.attrs['raw_uid'][:8]} {first['status'].shape}: they have no common grid"
            )
    places = [_own_grid() if not register or result is first else _place(result, first) for result in results]
    moved = [_moved(result, place) for result, place in zip(results, places, strict=True)]
    variables: dict[str, Any] = {}
    for variable in dict.fromkeys(variable for maps in moved for variable in maps):
        known = next(result[variable] for result in results if variable in result)
        missing = _missing(variable, known.shape, known.dtype)
        stack = np.stack([maps.get(variable, missing) for maps in moved])
        variables[variable] = (("run", *_MAP), stack, dict(known.attrs))
    variables |= {
        "grid_shift_px": (("run", "axis"), np.array([place.shift_px for place in places])),
        "grid_sigma_px": (("run", "axis"), np.array([place.sigma_px for place in places])),
        "magnification": ("run", np.array([place.magnification for place in places])),
        "rotation_deg": ("run", np.array([place.rotation_deg for place in places])),
        "on_grid": ("run", np.array([place.found for place in places])),
    }
    coordinates: dict[str, Any] = {
        dim: (dim, first[dim].values, dict(first[dim].attrs)) for dim in _MAP if dim in first.coords
    }
    coordinates |= {
        "edge": ("run", [str(result.attrs.get("edge")) for result in results]),
        "raw_uid": ("run", [str(result.attrs["raw_uid"]) for result in results]),
        "axis": ("axis", list(_MAP)),
    }
    said = [
        f"{result.attrs.get('edge')} (run {result.attrs['raw_uid'][:8]}): {warning}"
        for result, place in zip(results, places, strict=True)
        for warning in (*(result.attrs.get("warnings") or ()), *place.warnings)
    ]
    about = {"scan_group": first.attrs.get("scan_group"), "grid_of": first.attrs["raw_uid"], "warnings": said}
    return xr.Dataset(variables, coordinates, attrs=about)


def _own_grid() -> ImagePlace:
    return ImagePlace(sigma_px=(0.0, 0.0), quality=1.0, found=True)


def _place(result: xr.Dataset, first: xr.Dataset) -> ImagePlace:
    """Return where the maps of a result lie against those of the first one."""
    field, of_first = _field(result), _field(first)
    if field and of_first and field != of_first:
        said = f"left on its own grid: its field of view is {field!r} and that of the first maps {of_first!r}"
        return ImagePlace(warnings=(said,))
    name = next((name for name in _PICTURES if name in result and name in first), None)
    if name is None:
        return ImagePlace(warnings=("left on its own grid: its maps hold no picture of the sample",))
    place = register_image(result[name].values, first[name].values)
    if place.found:
        return place
    return replace(place, warnings=(f"left on its own grid: {place.warnings[0]}",))


def _field(result: xr.Dataset) -> str:
    """Return the name of the field of view; empty where it has none."""
    field = result.attrs.get("field_of_view")
    return str((field.get("name") if isinstance(field, Mapping) else field) or "")


def _missing(name: str, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """Return an array without values."""
    if np.issubdtype(dtype, np.floating):
        return np.full(shape, np.nan, dtype)
    return np.full(shape, FitStatus.NO_DATA if name == "status" else 0, dtype)


def _moved(result: xr.Dataset, place: ImagePlace) -> dict[str, npt.NDArray[Any]]:
    """Return the maps of a result, put back by its place."""
    maps = {str(name): result[name] for name in result.data_vars if result[name].dims == _MAP}
    if not place.found or place.shift_px == (0.0, 0.0):
        return {name: np.asarray(values.values) for name, values in maps.items()}
    shape = result["status"].shape
    moved = {}
    for name, variable in maps.items():
        values = np.asarray(variable.values)
        nearest = nearest_on_grid(values, place, _missing(name, shape, values.dtype))
        # A standard deviation or a code is that of a pixel; only values are interpolated.
        is_value = variable.attrs.get("role") == "value" and np.issubdtype(values.dtype, np.floating)
        moved[name] = _interpolated(values, nearest, place) if is_value else nearest
    return moved


def nearest_on_grid(
    values: npt.NDArray[Any], place: ImagePlace, missing: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Return a map on the grid of another one, each pixel the nearest as it was fitted.

    Parameters
    ----------
    values : ndarray, (rows, cols)
        The map.
    place : ImagePlace
        Where it lies against the other.
    missing : ndarray, (rows, cols)
        What stands where it does not reach; not changed.
    """
    row, column = _sources(values.shape, place)
    inside = (row >= 0) & (row < values.shape[0]) & (column >= 0) & (column < values.shape[1])
    moved = missing.copy()
    moved[inside] = values[row[inside], column[inside]]
    return moved


def _sources(shape: tuple[int, ...], place: ImagePlace) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the nearest pixel that shows what belongs to each one of the grid."""
    angle = math.radians(place.rotation_deg)
    cos, sin = math.cos(angle), math.sin(angle)
    down, right = (axis - 0.5 * (size - 1) for axis, size in zip(np.indices(shape), shape, strict=True))
    row = place.magnification * (cos * down - sin * right) + 0.5 * (shape[0] - 1) + place.shift_px[0]
    column = place.magnification * (sin * down + cos * right) + 0.5 * (shape[1] - 1) + place.shift_px[1]
    return np.rint(row).astype(np.intp), np.rint(column).astype(np.intp)


def _interpolated(values: npt.NDArray[Any], nearest: npt.NDArray[Any], place: ImagePlace) -> npt.NDArray[Any]:
    """Interpolate a map with gaps: they are bridged first, and are there again where the nearest pixel is one."""
    finite = np.isfinite(values)
    if not finite.any():
        return nearest
    if not finite.all():
        down, right = distance_transform_edt(~finite, return_distances=False, return_indices=True)
        values = values[down, right]
    rim = 2 * _KERNEL_PX
    padded = np.pad(values, rim, mode="edge")
    moved = resample_frame(
        padded, place.shift_px, magnification=place.magnification, rotation_deg=place.rotation_deg
    )[rim:-rim, rim:-rim]
    known = np.isfinite(nearest)
    return np.where(known & np.isfinite(moved), moved, nearest).astype(nearest.dtype)


def _results(client: Any, name: str | Sequence[str]) -> list[xr.Dataset]:
    """Return the current results of the runs asked for, in the order they were taken."""
    maps = client.get("maps", client)
    results = []
    for name_of_run in _uids(client, name) if isinstance(name, str) else name:
        uid = _whole_uid(maps, str(name_of_run))
        edges = [] if uid is None else [key for key in maps[uid] if VERSION_MARK not in key]
        results += [found for edge in edges if "status" in (found := open_soc(client, str(uid), edge))]
    if not results:
        raise ReadingError(
            f"there are no maps of {name!r}: give the scan_group of a measurement, the series_group of a series, or "
            "uids of runs that were analysed"
        )
    return sorted(results, key=lambda result: float(result.attrs.get("time") or 0.0))


def _uids(client: Any, group: str) -> list[str]:
    """Return the uids of the runs of a measurement, of a series, or of the measurement of a run."""
    maps = client.get("maps", client)
    raw = client.get("raw") if maps is not client else None
    if raw is not None:
        series = raw.search(Key("start.series_group") == group)
        if found := [run.metadata["start"]["uid"] for run in series.values()]:
            return found
    if found := list(maps.search(Key("scan_group") == group)):
        return found
    whole = _whole_uid(maps, group)
    of_run = None if whole is None else maps[whole].metadata.get("scan_group")
    return list(maps.search(Key("scan_group") == of_run)) if of_run else [group]


def _whole_uid(maps: Any, uid: str) -> str | None:
    """Return the one uid that begins like this."""
    found = [uid] if uid in maps else [key for key in maps if uid and key.startswith(uid)]
    return found[0] if len(found) == 1 else None
