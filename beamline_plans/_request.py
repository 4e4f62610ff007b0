"""What one run of a scan is to measure, checked before anything moves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Optional

import numpy as np

from edge_fitting import EdgeFittingError, ReferenceSeries

from ._documents import SCHEMA_VERSION
from ._errors import PlanError
from ._grid import EnergyGrid
from ._instrument import Instrument
from ._regions import edge_named

__all__ = ["FlatOrder", "ScanRequest", "grid_from"]

FlatOrder = Literal["per_energy", "every_n", "after_all", "none"]
_FLAT_ORDERS = ("per_energy", "every_n", "after_all", "none")


def grid_from(grid: Any, edge: str) -> EnergyGrid:
    """Make a grid from whatever a user gave.

    Parameters
    ----------
    grid : EnergyGrid, mapping, str or None
        A grid, its dictionary form, the name of a preset for `edge`, or None for the default of `edge`.
    edge : str
        For example "Ni_K".

    Raises
    ------
    GridError
        If it is none of these or does not fit the edge.
    """
    if grid is None:
        made = EnergyGrid.preset("default", edge)
    elif isinstance(grid, str):
        made = EnergyGrid.preset(grid, edge)
    elif isinstance(grid, Mapping):
        made = EnergyGrid.from_dict(grid if "preset" not in grid else {"edge": edge, **grid})
    elif isinstance(grid, EnergyGrid):
        made = grid
    else:
        made = EnergyGrid(grid)
    made.check_edge(edge_named(edge))
    return made


@dataclass(frozen=True)
class ScanRequest:
    """One run: an edge, its grid, and how flats, darks and repeats go with it.

    Raises
    ------
    PlanError
        If a number is out of range or the references do not cover the grid.
    """

    edge: str
    grid: EnergyGrid
    flat_order: FlatOrder = "per_energy"
    flat_every: int = 10
    n_flats: int = 1
    n_darks: int = 5
    repeats: int = 1
    references: Optional[Mapping[str, Any]] = None
    pixel_size_nm: Optional[float] = None
    filter_position: Any = None

    def __post_init__(self) -> None:
        if self.flat_order not in _FLAT_ORDERS:
            raise PlanError(
                f"There is no flat order {self.flat_order!r}; choose one of {', '.join(_FLAT_ORDERS)}."
            )
        if self.n_flats < 1 and self.flat_order != "none":
            raise PlanError(
                f"A transmission scan needs at least one flat per energy, not {self.n_flats}; "
                "say flat_order='none' if only images are wanted."
            )
        for name, value in (
            ("flat_every", self.flat_every),
            ("n_darks", self.n_darks),
            ("repeats", self.repeats),
        ):
            if value < 1:
                raise PlanError(f"{name} must be at least 1, not {value}.")
        if self.pixel_size_nm is not None and not (
            math.isfinite(self.pixel_size_nm) and self.pixel_size_nm > 0
        ):
            raise PlanError(
                f"pixel_size_nm must be a positive number of nanometres, not {self.pixel_size_nm}."
            )
        if self.references is not None:
            self._check_references(self.references)

    def _check_references(self, references: Mapping[str, Any]) -> None:
        try:
            ReferenceSeries.from_dict(references).check_covers(np.asarray(self.grid.energies_ev))
        except (EdgeFittingError, KeyError, TypeError) as error:
            raise PlanError(f"The references do not suit this scan: {str(error).rstrip('.')}.") from error

    @property
    def n_events(self) -> int:
        """Number of events of the primary stream when nothing is taken twice."""
        return len(self.grid) * self.repeats

    def metadata(self, instrument: Instrument) -> dict[str, Any]:
        """Return the `xanes` block of the start document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "edge": self.edge,
            **self.grid.to_dict(),
            "repeats": self.repeats,
            "technique": "txm_transmission",
            "flat_order": self.flat_order,
            "flat_every": self.flat_every,
            "n_flats": 0 if self.flat_order == "none" else self.n_flats,
            "n_darks": self.n_darks,
            "pixel_size_nm": self.pixel_size_nm,
            "references": None if self.references is None else dict(self.references),
            "filter_position": self.filter_position,
            "devices": instrument.names,
        }
