"""Regions of a field: a point, a rectangle, a polygon, or the particle under a point."""

import json
import math
import secrets
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from nimco.errors import NimcoError

Kind = Literal["point", "rectangle", "polygon", "particle"]
Mask = npt.NDArray[np.bool_]

_FEWEST = {"point": 1, "rectangle": 2, "polygon": 3, "particle": 1}
_MOST_POINTS = 500
_LONGEST_NAME = 60


class RegionError(NimcoError):
    """A region that cannot be used."""


@dataclass(frozen=True)
class Region:
    """A region, in pixels of the map.

    Attributes
    ----------
    id : str
        What tells it from the others.
    name : str
        What the viewer calls it.
    kind : {"point", "rectangle", "polygon", "particle"}
        What ``points`` are: a pixel; two opposite corners; the corners; a pixel of the particle.
    points : tuple of (float, float)
        Row and column of each; pixel ``n`` is from ``n`` to ``n + 1``.
    changed_s : float
        When it was set last (seconds since the epoch): of two states of a region the later one counts.
    deleted : bool
        Whether it was removed.
    """

    id: str
    name: str
    kind: Kind
    points: tuple[tuple[float, float], ...]
    changed_s: float = 0.0
    deleted: bool = False

    @classmethod
    def read(cls, told: Any) -> "Region":
        """Read a region from plain data.

        Raises
        ------
        RegionError
            It is none.
        """
        if not isinstance(told, dict) or told.get("kind") not in get_args(Kind):
            raise RegionError(f"A region is one of {', '.join(get_args(Kind))}.")
        kind: Kind = told["kind"]
        try:
            points = tuple((float(row), float(column)) for row, column in told.get("points", ()))
        except (TypeError, ValueError):
            points = ()
        if not _FEWEST[kind] <= len(points) <= _MOST_POINTS:
            raise RegionError(
                f"A {kind} has {_FEWEST[kind]} to {_MOST_POINTS} places of row and column, not {len(points)}."
            )
        if not all(math.isfinite(value) and abs(value) < 1e6 for place in points for value in place):
            raise RegionError(f"A {kind} has a place that is no row and column.")
        given = str(told.get("id") or "")
        return cls(
            id=given if given.isalnum() and len(given) <= 32 else secrets.token_hex(6),
            name=" ".join(str(told.get("name") or "").split())[:_LONGEST_NAME] or kind,
            kind=kind,
            points=points,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as `read` takes it."""
        return {"id": self.id, "name": self.name, "kind": self.kind, "points": [list(p) for p in self.points]}

    def to_row(self) -> dict[str, Any]:
        """Return it as a line of a table."""
        return {
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "points": json.dumps([list(place) for place in self.points]),
            "changed_s": self.changed_s,
            "deleted": int(self.deleted),
        }

    @classmethod
    def from_row(cls, row: Any) -> "Region":
        """Read a line of a table.

        Raises
        ------
        RegionError
            It is none.
        """
        try:
            told = {key: row[key] for key in ("id", "name", "kind")} | {"points": json.loads(row["points"])}
            changed_s, deleted = float(row["changed_s"]), bool(int(row["deleted"]))
        except (KeyError, TypeError, ValueError) as error:
            raise RegionError(f"A line of the table of regions cannot be read ({error}).") from error
        return replace(cls.read(told), changed_s=changed_s, deleted=deleted)

    def mask(self, shape: tuple[int, int], labels: npt.NDArray[np.integer] | None = None) -> Mask:
        """Return its pixels.

        Parameters
        ----------
        shape : (int, int)
            Rows and columns of the field.
        labels : ndarray of int, (rows, cols), optional
            Number of the particle of each pixel, 0 for none; for particles.

        Raises
        ------
        RegionError
            None of it is in the field, or there is no particle.
        """
        mask = np.zeros(shape, bool)
        (row, column), rows, columns = self.points[0], *zip(*self.points, strict=True)
        if self.kind in ("point", "particle"):
            place = math.floor(row), math.floor(column)
            if not (0 <= place[0] < shape[0] and 0 <= place[1] < shape[1]):
                raise RegionError(
                    f"{self.name}: row {place[0]}, column {place[1]} is outside the field of {shape[0]} x {shape[1]}."
                )
            if self.kind == "point":
                mask[place] = True
                return mask
            if labels is None:
                raise RegionError(f"{self.name}: there is no map of particles yet.")
            if not labels[place]:
                raise RegionError(
                    f"{self.name}: there is no particle at row {place[0]}, column {place[1]}: no pixels with values."
                )
            return np.asarray(labels == labels[place])
        top, left = (max(math.floor(min(values)), 0) for values in (rows, columns))
        # A corner belongs to the pixel it is in.
        bottom, right = (math.floor(max(values)) + 1 for values in (rows, columns))
        box = mask[top : max(bottom, 0), left : max(right, 0)]
        if self.kind == "rectangle":
            box[...] = True
        elif box.size:
            from matplotlib.path import Path

            down, along = np.indices(box.shape)
            places = np.column_stack([(down + top).ravel() + 0.5, (along + left).ravel() + 0.5])
            box[...] = Path(self.points).contains_points(places).reshape(box.shape)
        if not mask.any():
            raise RegionError(
                f"{self.name}: no pixel of the {self.kind} is inside the field of {shape[0]} x {shape[1]}."
            )
        return mask
