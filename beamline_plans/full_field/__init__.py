"""Plans of full-field imaging."""

from ._adaptive import AdaptiveResult, LiveMaps, MapUpdate, adaptive_xanes
from ._jump import edge_jump_map
from ._mosaic import tile_centres, xanes_mosaic
from ._resume import RunArchive, RunLedger, TakenFrames, resume_scan
from ._scan import multi_edge_xanes, xanes_scan
from ._series import xanes_series

__all__ = [
    "AdaptiveResult",
    "LiveMaps",
    "MapUpdate",
    "RunArchive",
    "RunLedger",
    "TakenFrames",
    "adaptive_xanes",
    "edge_jump_map",
    "multi_edge_xanes",
    "resume_scan",
    "tile_centres",
    "xanes_mosaic",
    "xanes_scan",
    "xanes_series",
]
