"""Zone plate and order-sorting aperture at the places of an energy, without ever touching."""

from collections.abc import Sequence
from typing import Any, Optional

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.utils import MsgGenerator

from beamline_plans.errors import PlanError
from beamline_plans.running import check_value, first_value
from scan_contract import FocusTable

__all__ = ["Focus"]


class Focus:
    """What follows the energy so that the spot stays small.

    Parameters
    ----------
    zone_plate, aperture : movable
        Their positions are the distances from the sample in um.
    table : mapping
        energy_ev, zone_plate_um and aperture_um.
    clearance_um : float
        Least distance between sample, aperture and zone plate.

    Raises
    ------
    PlanError
        The table is none, or brings them together.
    """

    def __init__(self, zone_plate: Any, aperture: Any, table: Any, clearance_um: float) -> None:
        if zone_plate is None or aperture is None:
            raise PlanError("A focus table moves zone plate and aperture: give zone_plate and aperture.")
        try:
            self.table = FocusTable.model_validate(table)
        except ValueError as error:
            raise PlanError(f"The focus table cannot be used: {_first(error)}.") from error
        if not clearance_um > 0:
            raise PlanError(f"clearance_um must be positive, not {clearance_um:g}.")
        self.zone_plate, self.aperture, self.clearance_um = zone_plate, aperture, clearance_um

    def at(self, energy_ev: float) -> tuple[float, float]:
        """Return the distances of zone plate and aperture at an energy.

        Raises
        ------
        PlanError
            The table ends before it, or they come together there.
        """
        energies = self.table.energy_ev
        if not energies[0] <= energy_ev <= energies[-1]:
            raise PlanError(
                f"The focus table covers {energies[0]:g} to {energies[-1]:g} eV, not {energy_ev:g} eV: measure it "
                "further."
            )
        zone_plate, aperture = (
            float(np.interp(energy_ev, energies, places))
            for places in (self.table.zone_plate_um, self.table.aperture_um)
        )
        least = self.clearance_um
        if aperture < least or zone_plate - aperture < least:
            raise PlanError(
                f"At {energy_ev:g} eV the focus table brings aperture ({aperture:g} um) and zone plate "
                f"({zone_plate:g} um) nearer than {least:g} um to the sample or to each other."
            )
        return zone_plate, aperture

    def check(self, energies_ev: Sequence[float]) -> None:
        """Refuse energies that the table, or a device, does not reach.

        Raises
        ------
        PlanError
            With the reason; nothing has moved.
        """
        for energy_ev in energies_ev:
            zone_plate, aperture = self.at(energy_ev)
            check_value(self.zone_plate, zone_plate)
            check_value(self.aperture, aperture)

    def move(self, energy_ev: float) -> MsgGenerator[None]:
        """Go to the places of an energy: what makes room goes first."""
        yield from self.go(*self.at(energy_ev))

    def go(self, zone_plate: float, aperture: float) -> MsgGenerator[None]:
        """Go to distances, the aperture first where it goes to the sample."""
        moves = [(self.zone_plate, zone_plate), (self.aperture, aperture)]
        here = yield from self.places()
        if here is None or aperture < here[1]:
            moves.reverse()
        for device, place in moves:
            yield from bps.mv(device, place)

    def places(self) -> MsgGenerator[Optional[tuple[float, float]]]:
        """Return where they are; None where that cannot be read."""
        found = []
        for device in (self.zone_plate, self.aperture):
            found.append(first_value(device, (yield from bps.read(device))))
        return None if None in found else (float(found[0]), float(found[1]))


def _first(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    found = errors()[0]
    place = ".".join(str(part) for part in found["loc"])
    return f"{place + ': ' if place else ''}{found['msg'].removeprefix('Value error, ')}"
