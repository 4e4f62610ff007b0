"""Energy grids: regions, presets, orders."""

from ._grid import EnergyGrid, Order
from ._presets import preset_names
from ._regions import DEFAULT_EXPOSURE_S, EnergyRegion, KRegion, edge_named
from ._soft import soft_edge_named, soft_grid

__all__ = [
    "DEFAULT_EXPOSURE_S",
    "EnergyGrid",
    "EnergyRegion",
    "KRegion",
    "Order",
    "edge_named",
    "preset_names",
    "soft_edge_named",
    "soft_grid",
]
