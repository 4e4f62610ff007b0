"""Energy grids in use at beamlines, written relative to the edge so that Ni, Co and Mn share them."""

from beamline_plans.errors import GridError
from edge_fitting import EDGES, Edge

from ._regions import EnergyRegion

__all__ = ["preset_names", "preset_regions"]

# Every K grid was published for nickel; the others are moved by the difference of the edge energies.
_NI_K_EV = EDGES["Ni_K"].energy_ev

_NI_K_REGIONS: dict[str, tuple[tuple[float, float, float], ...]] = {
    # SSRL 6-2C full-field TXM, 62 points
    "ssrl_62": (
        (8250, 8310, 15),
        (8324, 8360, 1),
        (8360, 8400, 4),
        (8400, 8440, 8),
        (8440, 8690, 50),
    ),
    # NMC622 full-field TXM at SSRL 6-2C: 1 eV on the edge, 10 eV around it, 8200-8630 eV
    "nmc622_62": ((8200, 8320, 10), (8330, 8355, 1), (8365, 8575, 10), (8630, 8630, 1)),
    # NSLS-II FXI: 8212-8777 eV, 1 eV on the edge where the number of points allows
    "fxi_21": ((8212, 8312, 50), (8335, 8361, 2), (8417, 8777, 120)),
    "fxi_41": ((8212, 8312, 25), (8332, 8360, 1), (8417, 8777, 60)),
    "fxi_63": ((8212, 8312, 20), (8328, 8374, 1), (8417, 8777, 40)),
    "fxi_83": ((8212, 8312, 20), (8322, 8388, 1), (8417, 8777, 40)),
    "fxi_101": ((8212, 8312, 10), (8312, 8392, 1), (8417, 8777, 40)),
}

# Published for manganese itself.
_MN_K_REGIONS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "mn_47": ((6450, 6510, 20), (6524, 6542, 2), (6544, 6564, 1), (6572, 6600, 4), (6700, 6850, 50)),
}

_L_REGIONS: dict[str, tuple[float, float, float]] = {
    "Ni_L3": (844, 862, 0.25),
    "Mn_L3": (636, 660, 0.25),
    "Co_L3": (770, 790, 0.25),
}


def preset_names(edge: Edge) -> list[str]:
    """Return the names of the grids there are for `edge`, the default one first."""
    if edge.level == "K":
        return [*_NI_K_REGIONS, *(_MN_K_REGIONS if edge.element == "Mn" else ())]
    return ["l_edge"]


def preset_regions(name: str, edge: Edge) -> list[EnergyRegion]:
    """Return the regions of the grid called `name` for `edge`.

    Raises
    ------
    GridError
        If there is no such grid; the message lists those there are.
    """
    names = preset_names(edge)
    if name == "default":
        name = names[0]
    if name not in names:
        raise GridError(
            f"There is no grid {name!r} for {edge.name}; choose one of default, {', '.join(names)}."
        )
    if name == "l_edge":
        # L2 lines are 10-20 eV above L3 and narrower than 10 eV: the L3 style around them
        start, stop, step = _L_REGIONS.get(
            edge.name, (round(edge.energy_ev) - 8, round(edge.energy_ev) + 10, 0.25)
        )
        return [EnergyRegion(start, stop, step)]
    if name in _MN_K_REGIONS:
        return [EnergyRegion(*region) for region in _MN_K_REGIONS[name]]
    shift = edge.energy_ev - _NI_K_EV
    return [EnergyRegion(start + shift, stop + shift, step) for start, stop, step in _NI_K_REGIONS[name]]
