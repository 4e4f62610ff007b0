"""Regions of a raster: where their lines and points are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamline_plans.errors import PlanError

__all__ = ["Region", "regions_from"]

_MOST_POINTS = 4_000_000


@dataclass(frozen=True)
class Region:
    """A rectangle of points.

    Attributes
    ----------
    name : str
        What it is called.
    rows_um, columns_um : tuple of float
        Places of the lines, and of the points along each.
    step_um : float
        Distance of the points.
    """

    name: str
    rows_um: tuple[float, ...]
    columns_um: tuple[float, ...]
    step_um: float


def regions_from(given: Any) -> list[Region]:
    """Return regions from their descriptions: centre_um [x, y], size_um [width, height], step_um, and a name.

    Raises
    ------
    PlanError
        One of them cannot be.
    """
    if isinstance(given, Mapping):
        given = [given]
    if not isinstance(given, (list, tuple)) or not given:
        raise PlanError(
            "regions must be a list of centre_um [x, y], size_um [width, height] and step_um each, all in um."
        )
    found = [_region(one, number) for number, one in enumerate(given, start=1)]
    names = [one.name for one in found]
    if len(set(names)) != len(names):
        raise PlanError(f"Two regions have one name among {', '.join(names)}: name each differently.")
    return found


def _region(one: Any, number: int) -> Region:
    if not isinstance(one, Mapping):
        raise PlanError(f"Region {number} must name centre_um, size_um and step_um, not be {one!r}.")
    unknown = set(one) - {"name", "centre_um", "size_um", "step_um"}
    if unknown:
        raise PlanError(
            f"Region {number} has {', '.join(sorted(map(str, unknown)))}, which means nothing here."
        )
    try:
        x, y = (float(value) for value in one.get("centre_um", (0.0, 0.0)))
        width, height = (float(value) for value in one["size_um"])
        step = float(one["step_um"])
    except (KeyError, TypeError, ValueError):
        raise PlanError(
            f"Region {number} needs size_um [width, height], step_um, and centre_um [x, y] where it is not the middle."
        ) from None
    if not (np.isfinite([x, y, width, height, step]).all() and step > 0 and min(width, height) >= step):
        raise PlanError(
            f"Region {number} of {width:g} x {height:g} um in steps of {step:g} um has no two lines of two points."
        )
    n_columns, n_rows = (round(side / step) + 1 for side in (width, height))
    if n_columns * n_rows > _MOST_POINTS:
        raise PlanError(
            f"Region {number} has {n_columns * n_rows} points, more than {_MOST_POINTS}: larger steps, please."
        )
    return Region(
        str(one.get("name", f"region {number}")),
        tuple((y + (np.arange(n_rows) - 0.5 * (n_rows - 1)) * step).tolist()),
        tuple((x + (np.arange(n_columns) - 0.5 * (n_columns - 1)) * step).tolist()),
        step,
    )
