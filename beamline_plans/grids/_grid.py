"""Energy grids: which energies a scan takes, in which order, and how long it exposes each."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

from beamline_plans.errors import GridError
from edge_fitting import Edge, EdgeFittingError, ReferenceSeries, choose_energies, informative_order
from scan_contract import exposure_slip

from ._grid_file import read_grid_file
from ._presets import preset_regions
from ._regions import DEFAULT_EXPOSURE_S, EnergyRegion, KRegion, edge_named, finite_number

__all__ = ["EnergyGrid", "Order"]

Order = Literal["ascending", "descending", "interleaved", "informative"]
# No edge of this project lies below 600 eV and none above 10 keV, so a number below this one is a keV value.
_LOWEST_PLAUSIBLE_EV = 100.0
# Two energies closer than this are the same energy: no monochromator tells them apart.
_SAME_ENERGY_EV = 1e-6


@dataclass(frozen=True, init=False)
class EnergyGrid:
    """The energies of a scan in the order they are taken, each with its exposure.

    Any order and repeated energies are legal: the position in the grid, the energy index, tells two visits
    to the same energy apart.

    Parameters
    ----------
    energies_ev : sequence of float
        Energies in eV.
    exposure_s : float or sequence of float
        Exposure in seconds, one for all or one per energy.

    Raises
    ------
    GridError
        If the grid is empty, a number is not finite or not positive, the lengths differ, or keV or
        milliseconds were given.
    """

    energies_ev: tuple[float, ...]
    exposure_s: tuple[float, ...]

    def __init__(
        self, energies_ev: Iterable[float], exposure_s: float | Iterable[float] = DEFAULT_EXPOSURE_S
    ) -> None:
        energies = tuple(
            finite_number(e, "An energy of the grid") for e in _sequence(energies_ev, "energies")
        )
        if not energies:
            raise GridError("The energy grid is empty; give at least one energy in eV.")
        if min(energies) <= 0:
            raise GridError(f"The energy grid holds {min(energies):g} eV; energies must be positive.")
        if min(energies) < _LOWEST_PLAUSIBLE_EV:
            raise GridError(
                f"The energy grid holds {min(energies):g}, which looks like keV; give energies in eV "
                f"({min(energies) * 1000:g} eV?)."
            )
        given = [exposure_s] if isinstance(exposure_s, (int, float)) else _sequence(exposure_s, "exposures")
        exposures = tuple(finite_number(t, "An exposure of the grid") for t in given)
        if len(exposures) == 1:
            exposures *= len(energies)
        if len(exposures) != len(energies):
            raise GridError(
                f"The grid has {len(energies)} energies but {len(exposures)} exposures; give one per energy."
            )
        if min(exposures) <= 0:
            raise GridError(f"An exposure of the grid is {min(exposures):g} s; exposures must be positive.")
        if slip := exposure_slip(max(exposures)):
            raise GridError(f"exposure_s of the grid is {slip}.")
        object.__setattr__(self, "energies_ev", energies)
        object.__setattr__(self, "exposure_s", exposures)

    def __len__(self) -> int:
        return len(self.energies_ev)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        """Give (energy_ev, exposure_s) in acquisition order."""
        return iter(zip(self.energies_ev, self.exposure_s, strict=True))

    @classmethod
    def from_regions(
        cls, regions: Iterable[EnergyRegion | KRegion | Sequence[float] | Mapping[str, Any]]
    ) -> "EnergyGrid":
        """Join regions; an energy shared by the end of one and the start of the next is taken once.

        Parameters
        ----------
        regions : iterable
            Each an `EnergyRegion`, a `KRegion`, ``(start_ev, stop_ev, step_ev[, exposure_s])``, or a mapping
            with the names of one of the two classes.

        Raises
        ------
        GridError
            If a region is malformed or nothing is left.
        """
        energies: list[float] = []
        exposures: list[float] = []
        for region in regions:
            parsed = _region(region)
            new, times = parsed.energies_ev(), parsed.exposures_s()
            if energies and new and abs(new[0] - energies[-1]) < _SAME_ENERGY_EV:
                new, times = new[1:], times[1:]
            energies += new
            exposures += times
        if not energies:
            raise GridError("The energy grid is empty; give at least one region.")
        return cls(tuple(energies), tuple(exposures))

    @classmethod
    def preset(cls, name: str, edge: str, *, exposure_s: float = DEFAULT_EXPOSURE_S) -> "EnergyGrid":
        """Return a grid in use at a beamline, for `edge`.

        Parameters
        ----------
        name : str
            One of `preset_names(edge)`; "default" is the one a scan takes when none is given.
        edge : str
            For example "Ni_K".
        exposure_s : float
            Exposure of each frame in seconds.

        Raises
        ------
        GridError
            If the edge or the preset does not exist; the message lists those there are.
        """
        grid = cls.from_regions(preset_regions(name, edge_named(edge)))
        return cls(grid.energies_ev, exposure_s)

    @classmethod
    def chosen(
        cls,
        references: ReferenceSeries,
        n_frames: int,
        *,
        candidates: "EnergyGrid | None" = None,
        exposure_s: float = DEFAULT_EXPOSURE_S,
        calibration_error_ev: float = 0.5,
    ) -> "EnergyGrid":
        """Return the frames that give the smallest expected variance of the state of charge.

        Parameters
        ----------
        references : ReferenceSeries
            What the frames will be fitted with.
        n_frames : int
            Frames there are to spend; an energy may be chosen more than once and is then a repeat in the grid.
        candidates : EnergyGrid, optional
            Energies to choose from; those of the references by default.
        exposure_s : float
            Exposure of each frame in seconds.
        calibration_error_ev : float
            The choice is good also when the axis is off by this much.

        Raises
        ------
        GridError
            If no choice is possible; the message says why.
        """
        try:
            # Jump and noise scale the expected sigma and leave the choice as it is.
            found = choose_energies(
                references,
                n_frames,
                1.0,
                1.0,
                candidates_ev=None if candidates is None else candidates.energies_ev,
                calibration_error_ev=calibration_error_ev,
            )
        except EdgeFittingError as error:
            raise GridError(f"No energies can be chosen: {str(error).rstrip('.')}.") from error
        return cls(found.energies_ev, exposure_s)

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, references: Optional[ReferenceSeries] = None
    ) -> "EnergyGrid":
        """Build a grid from a plain mapping, as queue items and start documents carry it.

        Parameters
        ----------
        data : mapping
            ``{"energies_ev": [...], "exposure_s": [...] or number}``, ``{"regions": [...]}`` or
            ``{"preset": name, "edge": edge, "exposure_s": number}``; each may have ``"order"``.
        references : ReferenceSeries, optional
            What the order "informative" goes by.

        Raises
        ------
        GridError
            If the mapping has none of these forms.
        """
        if not isinstance(data, Mapping):
            raise GridError(f"A grid must be a mapping, not {type(data).__name__}.")
        kinds = {
            "energies_ev": {"energies_ev", "exposure_s", "order"},
            "regions": {"regions", "order"},
            "preset": {"preset", "edge", "exposure_s", "order"},
        }
        found = [kind for kind in kinds if kind in data]
        if len(found) != 1:
            raise GridError(
                "A grid mapping must have exactly one of the keys energies_ev, regions and preset."
            )
        unknown = set(data) - kinds[found[0]]
        if unknown:
            raise GridError(f"A grid mapping with {found[0]} knows no key {sorted(map(str, unknown))[0]!r}.")
        exposure = data.get("exposure_s", DEFAULT_EXPOSURE_S)
        if found[0] == "energies_ev":
            grid = cls(data["energies_ev"], exposure)
        elif found[0] == "regions":
            grid = cls.from_regions(data["regions"])
        else:
            if "edge" not in data:
                raise GridError(f"The preset {data['preset']!r} needs to know its edge; add the key edge.")
            grid = cls.preset(data["preset"], data["edge"], exposure_s=exposure)
        return grid.ordered(data["order"], references) if "order" in data else grid

    def to_dict(self) -> dict[str, list[float]]:
        """Return ``{"energies_ev": [...], "exposure_s": [...]}``; `from_dict` gives the same grid back."""
        return {"energies_ev": list(self.energies_ev), "exposure_s": list(self.exposure_s)}

    @classmethod
    def from_csv(cls, path: str | Path) -> "EnergyGrid":
        """Read a grid from a CSV or text file.

        The columns are energy (eV, or keV where title or size say so) and, if wanted, exposure (s, or ms by its
        title); or start, stop, step and, if wanted, exposure of regions; titles say which. For separators,
        decimal commas and comments see `edge_fitting.read_text_table`.

        Raises
        ------
        GridError
            If the file cannot be read as such.
        """
        energies_ev, exposures_s, regions = read_grid_file(Path(path))
        try:
            return cls.from_regions(regions) if regions else cls(energies_ev, exposures_s)
        except GridError as error:
            raise GridError(f"The grid file {path} cannot be used: {error}") from error

    def to_csv(self, path: str | Path) -> None:
        """Write the columns energy_ev and exposure_s; `from_csv` gives the same grid back."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["energy_ev", "exposure_s"])
            writer.writerows([repr(e), repr(t)] for e, t in self)

    def ordered(self, order: Order, references: Optional[ReferenceSeries] = None) -> "EnergyGrid":
        """Return the same energies in another order.

        Parameters
        ----------
        order : {"ascending", "descending", "interleaved", "informative"}
            Interleaved goes from coarse to fine: the two ends, the middle, the quarters and so on, so that
            every prefix covers the whole range about evenly. Informative takes first the eight energies that tell
            most about the state of charge by the references, then blocks that complete them: with the eighth
            frame the map has 1.1 to 1.4 times the error of the whole grid around the Ni or Co edge. Both cost the
            monochromator way; `dry_run` says how much.
        references : ReferenceSeries, optional
            What the frames will be fitted with; needed for informative.

        Raises
        ------
        GridError
            If there is no such order, or no references for it or none that suit.
        """
        if order == "informative":
            return self._informative(references)
        ranked = sorted(range(len(self)), key=lambda i: self.energies_ev[i])
        if order == "descending":
            ranked.reverse()
        elif order == "interleaved":
            ranked = [ranked[i] for i in _coarse_to_fine(len(ranked))]
        elif order != "ascending":
            raise GridError(
                f"There is no order {order!r}; choose ascending, descending, interleaved or informative."
            )
        return self._permuted(ranked)

    def _informative(self, references: Optional[ReferenceSeries]) -> "EnergyGrid":
        if references is None:
            raise GridError(
                "The order informative goes by reference spectra and there are none; give references, or take the "
                "order interleaved, which needs none."
            )
        try:
            ranked = informative_order(self.energies_ev, references, weights=self.exposure_s)
        except EdgeFittingError as error:
            raise GridError(
                f"The grid cannot be put in the order informative: {str(error).rstrip('.')}."
            ) from error
        return self._permuted(int(i) for i in ranked)

    def _permuted(self, ranked: Iterable[int]) -> "EnergyGrid":
        order = list(ranked)
        return EnergyGrid([self.energies_ev[i] for i in order], [self.exposure_s[i] for i in order])

    def check_edge(self, edge: Edge) -> None:
        """Refuse energies that cannot belong to a scan of `edge`.

        Raises
        ------
        GridError
            If an energy is out of range of the edge.
        """
        low, high = edge.scan_limits_ev
        for energy in self.energies_ev:
            if not low <= energy <= high:
                raise GridError(
                    f"The energy {energy:g} eV is out of range for {edge.name} ({low:g}-{high:g} eV); "
                    "give energies around the edge."
                )


def _sequence(values: Any, what: str) -> list[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise GridError(f"The {what} of a grid must be a list of numbers, not {values!r}.")
    return list(values)


def _region(region: Any) -> EnergyRegion | KRegion:
    if isinstance(region, (EnergyRegion, KRegion)):
        parsed: EnergyRegion | KRegion = region
    else:
        try:
            if isinstance(region, Mapping):
                parsed = KRegion(**region) if "start_k" in region else EnergyRegion(**region)
            else:
                parsed = EnergyRegion(*region)
        except TypeError:
            raise GridError(
                f"An energy region must be (start_ev, stop_ev, step_ev[, exposure_s]), not {region!r}."
            ) from None
    finite_number(parsed.exposure_s, "The exposure of an energy region")
    return parsed


def _coarse_to_fine(count: int) -> list[int]:
    """Return the indices 0..count-1, both ends first, then ever finer subdivisions of the range."""
    if count <= 2:
        return list(range(count))
    order = [0, count - 1]
    taken = set(order)
    denominator = 2
    while len(order) < count:
        for numerator in range(1, denominator, 2):
            index = round(numerator * (count - 1) / denominator)
            if index not in taken:
                taken.add(index)
                order.append(index)
        denominator *= 2
    return order
