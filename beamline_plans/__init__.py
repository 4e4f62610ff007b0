"""Energy grids and bluesky plans for scans across absorption edges."""

from beamline_plans.errors import FrameError, GridError, NotSafeError, PlanError
from beamline_plans.full_field import (
    AdaptiveResult,
    LiveMaps,
    MapUpdate,
    RunArchive,
    RunLedger,
    TakenFrames,
    adaptive_xanes,
    edge_jump_map,
    multi_edge_xanes,
    resume_scan,
    tile_centres,
    xanes_mosaic,
    xanes_scan,
    xanes_series,
)
from beamline_plans.grids import EnergyGrid, EnergyRegion, KRegion, Order, preset_names
from beamline_plans.planning import DryRun, dry_run
from beamline_plans.point import calibrate_energy, soft_xas_scan, stxm_scan, xas_fly, xas_scan, xpeem_scan
from beamline_plans.raster import RasterLedger, TakenLines, resume_xrf_map, xrf_coarse_fine, xrf_map
from beamline_plans.rotation import (
    interleaved_angles,
    resume_tomography,
    spread_angles,
    tomography_scan,
)
from beamline_plans.running import TimeModel, beam_suspenders, learn_times
from scan_contract import SCHEMA_VERSION, validate_run_documents
from scan_contract import ContractError as DocumentError

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
    "RasterLedger",
    "RunArchive",
    "RunLedger",
    "TakenFrames",
    "TakenLines",
    "TimeModel",
    "adaptive_xanes",
    "beam_suspenders",
    "calibrate_energy",
    "dry_run",
    "edge_jump_map",
    "interleaved_angles",
    "learn_times",
    "multi_edge_xanes",
    "preset_names",
    "resume_scan",
    "resume_tomography",
    "resume_xrf_map",
    "soft_xas_scan",
    "spread_angles",
    "stxm_scan",
    "tile_centres",
    "tomography_scan",
    "validate_run_documents",
    "xanes_mosaic",
    "xanes_scan",
    "xanes_series",
    "xas_fly",
    "xas_scan",
    "xpeem_scan",
    "xrf_coarse_fine",
    "xrf_map",
]
