"""What one run of a scan is to measure, checked before anything moves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Optional, get_args

import numpy as np

from beamline_plans.errors import PlanError
from beamline_plans.grids import EnergyGrid, Order, edge_named
from edge_fitting import EdgeFittingError, ReferenceSeries, edge_names, keyed_by_edge
from scan_contract import (
    ContractError,
    FlatOrder,
    FullFieldContract,
    make_contract,
    pixel_size_slip,
    read_provenance,
)

from ._instrument import Instrument

__all__ = ["ScanRequest", "check_provenance", "grid_from", "requests_for_edges"]

_FLAT_ORDERS: tuple[str, ...] = get_args(FlatOrder)


def grid_from(
    grid: Any,
    edge: str,
    *,
    order: Optional[Order] = None,
    references: Optional[Mapping[str, Any]] = None,
) -> EnergyGrid:
    """Make a grid from whatever a user gave.

    Parameters
    ----------
    grid : EnergyGrid, mapping, str or None
        A grid, its dictionary form, the name of a preset for `edge`, or None for the default of `edge`.
    edge : str
        For example "Ni_K".
    order : str, optional
        Order to put it in, see `EnergyGrid.ordered`; by default as given.
    references : mapping, optional
        `ReferenceSeries.to_dict()`, for the order "informative".

    Raises
    ------
    GridError
        If it is none of these, does not fit the edge or cannot be put in that order.
    PlanError
        If the references that the order needs are none.
    """
    informative = "informative" in (order, grid.get("order") if isinstance(grid, Mapping) else None)
    series = _series(references) if informative and references is not None else None
    if grid is None:
        made = EnergyGrid.preset("default", edge)
    elif isinstance(grid, str):
        made = EnergyGrid.preset(grid, edge)
    elif isinstance(grid, Mapping):
        made = EnergyGrid.from_dict(
            grid if "preset" not in grid else {"edge": edge, **grid}, references=series
        )
    elif isinstance(grid, EnergyGrid):
        made = grid
    else:
        made = EnergyGrid(grid)
    made.check_edge(edge_named(edge))
    return made if order is None else made.ordered(order, series)


def _series(references: Mapping[str, Any]) -> ReferenceSeries:
    try:
        return ReferenceSeries.from_dict(references)
    except (EdgeFittingError, KeyError, TypeError) as error:
        raise PlanError(f"The references do not suit this scan: {str(error).rstrip('.')}.") from error


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
    i0_min: Optional[float] = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "edge", edge_named(self.edge).name)
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
        if self.pixel_size_nm is not None and (slip := pixel_size_slip(self.pixel_size_nm)):
            raise PlanError(f"pixel_size_nm is {slip}.")
        if self.i0_min is not None and not (math.isfinite(self.i0_min) and self.i0_min >= 0):
            raise PlanError(
                f"i0_min must be a finite number and not below 0, not {self.i0_min}; where I0 is negative throughout, "
                "its magnitude is compared."
            )
        if self.references is not None:
            self._check_references(self.references)

    def _check_references(self, references: Mapping[str, Any]) -> None:
        try:
            _series(references).check_covers(np.asarray(self.grid.energies_ev))
        except EdgeFittingError as error:
            raise PlanError(f"The references do not suit this scan: {str(error).rstrip('.')}.") from error

    model: ClassVar[type[FullFieldContract]] = FullFieldContract
    """Contract that the start document keeps."""

    def own_entries(self) -> dict[str, Any]:
        """Return the entries of the contract that a technique has beside those of a scan with a camera."""
        return {}

    @property
    def n_events(self) -> int:
        """Number of events of the primary stream when nothing is taken twice."""
        return len(self.grid) * self.repeats

    def contract(self, instrument: Instrument, **entries: Any) -> FullFieldContract:
        """Return what the start document says of the scan.

        Parameters
        ----------
        instrument : Instrument
            The devices.
        **entries
            Further entries.

        Raises
        ------
        PlanError
            Where one of them cannot be what its name says.
        """
        references = None if self.references is None else dict(self.references)
        said: dict[str, Any] = {
            "edge": self.edge,
            **self.grid.to_dict(),
            "repeats": self.repeats,
            "flat_order": self.flat_order,
            "flat_every": self.flat_every,
            "n_flats": 0 if self.flat_order == "none" else self.n_flats,
            "n_darks": self.n_darks,
            "pixel_size_nm": self.pixel_size_nm,
            "references": references,
            "reference_sources": (references or {}).get("sources") or (),
            "i0_min": self.i0_min,
            "saturation_counts": instrument.saturation_counts,
            "filter_position": _plain(self.filter_position),
            "devices": instrument.names,
            **self.own_entries(),
            **entries,
        }
        try:
            return make_contract(self.model, **said)
        except ContractError as error:
            raise PlanError(f"The scan cannot be described: {error}.") from error


def _plain(value: Any) -> Any:
    """Return a number of numpy as one of Python."""
    return value.item() if isinstance(value, np.generic) else value


def check_provenance(md: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """Read who and what from the metadata given to a plan.

    Parameters
    ----------
    md : mapping, optional
        May hold ``sample``, ``field_of_view`` and ``proposal``.

    Returns
    -------
    dict
        Entries of a contract.

    Raises
    ------
    PlanError
        For a value that cannot be what its key says.
    """
    try:
        return read_provenance(md or {})
    except ContractError as error:
        text = str(error)
        raise PlanError(f"{text[:1].upper()}{text[1:]}.") from error


def requests_for_edges(
    instrument: Instrument,
    edges: str | Sequence[str],
    *,
    grids: Optional[Mapping[str, Any]] = None,
    references: Optional[Mapping[str, Any]] = None,
    filter_per_edge: Optional[Mapping[str, Any]] = None,
    order: Optional[Order] = None,
    md: Optional[Mapping[str, Any]] = None,
    **common: Any,
) -> list[ScanRequest]:
    """Make and check one request per edge, before anything moves for the first.

    Parameters
    ----------
    instrument : Instrument
        The devices, which are asked whether they accept every move.
    edges : str or sequence of str
        The edges in the order they are measured, by any name that `edge_fitting.edge_name` knows.
    grids, references, filter_per_edge : mapping, optional
        What differs between edges, by edge.
    order : str, optional
        Order of the energies of every grid, see `EnergyGrid.ordered`.
    md : mapping, optional
        Metadata of every run, of which who and what is checked.
    **common
        What does not, see `ScanRequest`.

    Raises
    ------
    PlanError
        If the edges or what belongs to them make no sense, or a device would refuse a move.
    """
    try:
        names = edge_names(edges)
        per_edge = [keyed_by_edge(given or {}) for given in (grids, references, filter_per_edge)]
    except EdgeFittingError as error:
        raise PlanError(f"The edges cannot be scanned: {error}") from error
    for what, given in zip(("grids", "references", "filter_per_edge"), per_edge, strict=True):
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise PlanError(f"{what} names {unknown[0]!r}, which is not among the edges {', '.join(names)}.")
    grid_of, references_of, positions = per_edge
    if positions and instrument.filters is None:
        raise PlanError("filter_per_edge is given but no filters; pass the device that moves them.")
    requests = [
        ScanRequest(
            edge,
            grid_from(grid_of.get(edge), edge, order=order, references=references_of.get(edge)),
            references=references_of.get(edge),
            filter_position=positions.get(edge),
            **common,
        )
        for edge in names
    ]
    provenance = check_provenance(md)
    for request in requests:
        request.contract(instrument, **provenance)
    instrument.check((e for request in requests for e in request.grid.energies_ev), positions.values())
    return requests
