"""Grids of soft edges: fine over the lines of L3 and L2, coarse beside them."""

from types import MappingProxyType

from beamline_plans.errors import GridError
from edge_fitting import EdgeFittingError, SoftEdge, soft_edge

from ._grid import EnergyGrid
from ._regions import EnergyRegion

__all__ = ["soft_edge_named", "soft_grid"]

_EXPOSURE_S = 1.0

# From, to, step in eV: relative to L3 for the metals, with L2 so much higher.
_BESIDE_EV = (
    (-20.0, -6.0, 1.0),
    (-6.0, -1.8, 0.5),
    (-1.8, 6.0, 0.15),
    (6.0, None, 0.5),
)
_OVER_L2_EV = ((-2.0, 7.0, 0.2), (7.0, 30.0, 1.0))
_OXYGEN_EV = ((515.0, 526.0, 0.5), (526.0, 545.0, 0.15), (545.0, 552.0, 0.5), (552.0, 575.0, 1.0))
_LAST_EV = MappingProxyType({"Mn": 33.0})  # before the K edge of fluorine


def soft_edge_named(name: str) -> SoftEdge:
    """Return the soft edge called `name`.

    Raises
    ------
    GridError
        If there is none; the message lists those there are.
    """
    try:
        return soft_edge(name)
    except EdgeFittingError as error:
        text = str(error)
        raise GridError(text[0].upper() + text[1:]) from None


def soft_grid(edge: SoftEdge) -> EnergyGrid:
    """Return the usual grid of a soft edge."""
    regions: tuple[tuple[float, float, float], ...] = _OXYGEN_EV
    if edge.l2_ev is not None:
        split = edge.l2_ev - edge.energy_ev
        last = _LAST_EV.get(edge.element, _OVER_L2_EV[1][1])
        regions = (
            *(
                (edge.energy_ev + a, edge.energy_ev + (split - 2.0 if b is None else b), c)
                for a, b, c in _BESIDE_EV
            ),
            *((edge.l2_ev + a, edge.l2_ev + min(b, last), c) for a, b, c in _OVER_L2_EV),
        )
    return EnergyGrid.from_regions([EnergyRegion(a, b, c, _EXPOSURE_S) for a, b, c in regions])
