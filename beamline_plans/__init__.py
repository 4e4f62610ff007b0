"""Energy grids and bluesky plans for scans across absorption edges."""

from ._documents import SCHEMA_VERSION, validate_run_documents
from ._errors import DocumentError, FrameError, GridError, PlanError
from ._grid import EnergyGrid
from ._regions import EnergyRegion, KRegion
from ._scan import multi_edge_xanes, xanes_scan

__all__ = [
    "SCHEMA_VERSION",
    "DocumentError",
    "EnergyGrid",
    "EnergyRegion",
    "FrameError",
    "GridError",
    "KRegion",
    "PlanError",
    "multi_edge_xanes",
    "validate_run_documents",
    "xanes_scan",
]
