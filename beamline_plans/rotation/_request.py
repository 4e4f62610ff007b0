"""What a rotation series is to measure, and what takes its frames."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Optional

from bluesky.utils import MsgGenerator

from beamline_plans.errors import PlanError
from beamline_plans.running import FrameTaker, Instrument, ScanRequest, check_value, set_and_wait
from scan_contract import ALL_ENERGIES, ANGLE_AXIS, AngleOrder, FullFieldContract, Shot, TomographyContract

__all__ = ["ProjectionTaker", "TomographyRequest", "take_projections"]

Places = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class TomographyRequest(ScanRequest):
    """Rotation series at the energies of one edge.

    Parameters
    ----------
    angles_deg : tuple of float
        All angles.
    angles_of : tuple of tuple of int, optional
        Which of them each energy is taken at; by default all.
    order : str
        "energy_outer" or "angle_outer".
    range_deg, safe_angle_deg : float
        Over which the angles are spread, and where the sample is moved in and out.
    """

    angles_deg: tuple[float, ...] = ()
    angles_of: Optional[Places] = None
    order: AngleOrder = "energy_outer"
    range_deg: float = 180.0
    safe_angle_deg: float = 0.0

    model: ClassVar[type[FullFieldContract]] = TomographyContract

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in ("energy_outer", "angle_outer"):
            raise PlanError(f"order is 'energy_outer' or 'angle_outer', not {self.order!r}.")
        if self.flat_order == "after_all":
            raise PlanError(
                "Flats of a rotation series come before what they correct; give another flat_order."
            )
        if self.order == "angle_outer" and self.angles_of is not None:
            raise PlanError("Interleaved angles are taken energy by energy; give order='energy_outer'.")
        if not math.isfinite(self.safe_angle_deg):
            raise PlanError(f"safe_angle_deg is a number of degrees, not {self.safe_angle_deg}.")

    @property
    def n_events(self) -> int:
        """Number of projections."""
        if self.angles_of is None:
            return super().n_events * len(self.angles_deg)
        return self.repeats * sum(len(row) for row in self.angles_of)

    def own_entries(self) -> dict[str, Any]:
        """Return what the contract says of the angles."""
        return {
            "axes": {ANGLE_AXIS: self.angles_deg},
            "angles_of": self.angles_of,
            "order": self.order,
            "range_deg": self.range_deg,
            "safe_angle_deg": self.safe_angle_deg,
        }

    def check_angles(self, instrument: Instrument) -> None:
        """Refuse angles that the axis would not go to.

        Raises
        ------
        PlanError
            If it refuses one.
        """
        for angle_deg in sorted({self.safe_angle_deg, *self.angles_deg}):
            check_value(instrument.rotation, angle_deg)

    def places_of(self, index: int) -> tuple[int, ...]:
        """Return the places in the list of angles of one energy."""
        return tuple(range(len(self.angles_deg))) if self.angles_of is None else self.angles_of[index]


class ProjectionTaker(FrameTaker):
    """Takes projections: the sample goes in and out at a safe angle only.

    Attributes
    ----------
    request : TomographyRequest
        What is measured; set before the first frame.
    """

    request: TomographyRequest

    def _before_stage(self, shot: Shot) -> MsgGenerator[None]:
        if shot.stream != "primary":
            yield from set_and_wait((self._instrument.rotation, self.request.safe_angle_deg))

    def _after_stage(self, shot: Shot) -> MsgGenerator[None]:
        if shot.stream == "primary":
            place = dict(shot.axes)[ANGLE_AXIS]
            yield from set_and_wait((self._instrument.rotation, self.request.angles_deg[place]))


def take_projections(
    taker: ProjectionTaker,
    request: TomographyRequest,
    wanted: Optional[Mapping[int, tuple[int, ...]]] = None,
) -> MsgGenerator[None]:
    """Take darks, flats and projections in the order the request asks for.

    Parameters
    ----------
    taker : ProjectionTaker
        Takes them.
    request : TomographyRequest
        What to measure.
    wanted : mapping of int to tuple of int, optional
        The angles to take at each energy; by default all. Energies without any get no flats either.
    """
    taker.request = request
    grid = request.grid
    wanted = {index: request.places_of(index) for index in range(len(grid))} if wanted is None else wanted
    for exposure_s in dict.fromkeys(grid.exposure_s):
        yield from taker.take("dark", ALL_ENERGIES, grid.energies_ev[0], exposure_s, request.n_darks)
    if request.flat_order == "before_all":
        yield from taker.take("flat", ALL_ENERGIES, grid.energies_ev[0], grid.exposure_s[0], request.n_flats)
    series = _energies_outer if request.order == "energy_outer" else _angles_outer
    yield from series(taker, request, wanted)


def _energies_outer(
    taker: ProjectionTaker, request: TomographyRequest, wanted: Mapping[int, tuple[int, ...]]
) -> MsgGenerator[None]:
    indices = [index for index in range(len(request.grid)) if wanted.get(index)]
    block = request.flat_every if request.flat_order == "every_n" else 1
    for first in range(0, len(indices), block):
        together = indices[first : first + block]
        yield from _flats(taker, request, together, 0)
        for number, index in enumerate(together):
            # Back and forth: the axis need not return for each energy.
            places = wanted[index] if (first + number) % 2 == 0 else wanted[index][::-1]
            for place in places:
                yield from _projection(taker, request, index, place)


def _angles_outer(
    taker: ProjectionTaker, request: TomographyRequest, wanted: Mapping[int, tuple[int, ...]]
) -> MsgGenerator[None]:
    indices = [index for index in range(len(request.grid)) if wanted.get(index)]
    places = sorted({place for index in indices for place in wanted[index]})
    block = request.flat_every if request.flat_order == "every_n" else max(len(places), 1)
    for first in range(0, len(places), block):
        yield from _flats(taker, request, indices, first // block)
        for number, place in enumerate(places[first : first + block]):
            for index in indices if number % 2 == 0 else indices[::-1]:
                if place in wanted[index]:
                    yield from _projection(taker, request, index, place)


def _flats(
    taker: ProjectionTaker, request: TomographyRequest, indices: list[int], round_number: int
) -> MsgGenerator[None]:
    if request.flat_order in ("none", "before_all"):
        return
    for index in indices:
        energy_ev, exposure_s = request.grid.energies_ev[index], request.grid.exposure_s[index]
        first = round_number * request.n_flats
        yield from taker.take("flat", index, energy_ev, exposure_s, request.n_flats, first_repeat=first)


def _projection(
    taker: ProjectionTaker, request: TomographyRequest, index: int, place: int
) -> MsgGenerator[None]:
    energy_ev, exposure_s = request.grid.energies_ev[index], request.grid.exposure_s[index]
    yield from taker.take(
        "primary", index, energy_ev, exposure_s, request.repeats, axes=((ANGLE_AXIS, place),)
    )
