"""Energy grids and bluesky plans for scans across absorption edges."""

from ._adaptive import AdaptiveResult, LiveMaps, MapUpdate, adaptive_xanes
from ._calibrate import calibrate_energy
from ._documents import SCHEMA_VERSION, validate_run_documents
from ._dry_run import DryRun, dry_run
from ._errors import DocumentError, FrameError, GridError, NotSafeError, PlanError
from ._grid import EnergyGrid, Order
from ._jump import edge_jump_map
from ._presets import preset_names
from ._regions import EnergyRegion, KRegion
from ._resume import RunArchive, RunLedger, TakenFrames, resume_scan
from ._scan import multi_edge_xanes, xanes_scan
from ._series import xanes_series
from ._suspend import beam_suspenders
from ._times import TimeModel, learn_times
from ._xas import xas_scan

__all__ = [
    "SCHEMA_VERSION",
    "AdaptiveResult",
    "DocumentError",
    "DryRun",
    "EnergyGrid",
    "EnergyRegion",
    "FrameError",
    "GridError",
    "KRegion",
    "LiveMaps",
    "MapUpdate",
    "NotSafeError",
    "Order",
    "PlanError",
    "RunArchive",
    "RunLedger",
    "TakenFrames",
    "TimeModel",
    "adaptive_xanes",
    "beam_suspenders",
    "calibrate_energy",
    "dry_run",
    "edge_jump_map",
    "learn_times",
    "multi_edge_xanes",
    "preset_names",
    "resume_scan",
    "validate_run_documents",
    "xanes_scan",
    "xanes_series",
    "xas_scan",
]
