"""Startup module of a bluesky queue server: the plans of this project and the simulated beamline.

``start-re-manager --startup-module nimco._queueserver_startup``. The worker looks for its RunEngine, devices and plans
among the names of this module, which is why, alone in this project, it makes things when it is imported. Copy it and
replace the simulated devices to use it at a beamline.

With ``NIMCO_DATA_DIR`` in the environment, frames and maps go to a Tiled server over that directory.
"""

import os
from pathlib import Path
from typing import Literal

from bluesky import RunEngine

import beamline_plans
from beamline_plans import RasterLedger, RunLedger
from callbacks import LiveSOC
from nimco._compiling import compile_kernels
from nimco._queueserver_plans import SoftEdgeName, queue_plan
from nimco._server import TiledServer
from nimco._session import Session
from sim_devices import SimBeamline, SimNanoBeamline, SimSoftBeamline, SimStxmBeamline, SimXpeemBeamline

__all__ = [
    "RE",
    "adaptive_xanes",
    "calibrate_energy",
    "camera",
    "edge_jump_map",
    "electrometer",
    "energy",
    "filters",
    "fine_x",
    "fine_y",
    "fluorescence",
    "flyer",
    "foil",
    "i0",
    "i0_chamber",
    "iref_chamber",
    "it_chamber",
    "line_mca",
    "mca",
    "multi_edge_xanes",
    "nano_energy",
    "nano_i0",
    "nano_shutter",
    "nano_x",
    "nano_y",
    "resume_scan",
    "resume_tomography",
    "resume_xrf_map",
    "rotation",
    "shutter",
    "soft_energy",
    "soft_fy",
    "soft_mesh",
    "soft_reference",
    "soft_shutter",
    "soft_tey",
    "soft_xas_scan",
    "stage",
    "stxm_aperture",
    "stxm_counter",
    "stxm_energy",
    "stxm_line",
    "stxm_mesh",
    "stxm_scan",
    "stxm_shutter",
    "stxm_stage",
    "stxm_zone_plate",
    "tomography_scan",
    "xanes_mosaic",
    "xanes_scan",
    "xanes_series",
    "xas_fly",
    "xas_scan",
    "xpeem_camera",
    "xpeem_energy",
    "xpeem_mesh",
    "xpeem_sample",
    "xpeem_scan",
    "xpeem_shutter",
    "xrf_coarse_fine",
    "xrf_map",
]

RE = RunEngine({})

_folder = os.environ.get("NIMCO_DATA_DIR")
# Where flights are recorded, and the server reads them.
_flights = None if _folder is None else Path(_folder) / "flights"

_beamline = SimBeamline(data_dir=_flights)
camera = _beamline.camera
energy = _beamline.energy
shutter = _beamline.shutter
stage = _beamline.stage
rotation = _beamline.stage.rotation
filters = _beamline.filters
fine_x = _beamline.fine_x
fine_y = _beamline.fine_y
i0 = _beamline.i0
foil = _beamline.foil
flyer = _beamline.flyer
i0_chamber = _beamline.i0_chamber
it_chamber = _beamline.it_chamber
iref_chamber = _beamline.iref_chamber
electrometer = _beamline.electrometer
fluorescence = _beamline.fluorescence

_soft = SimSoftBeamline()
soft_energy = _soft.energy
soft_shutter = _soft.shutter
soft_mesh = _soft.mesh
soft_tey = _soft.tey
soft_fy = _soft.fy
soft_reference = _soft.reference

_nano = SimNanoBeamline()
nano_energy = _nano.energy
nano_shutter = _nano.shutter
nano_y = _nano.row_axis
nano_x = _nano.column_axis
nano_i0 = _nano.i0
mca = _nano.mca
line_mca = _nano.line_mca

_rasters = RasterLedger()
RE.subscribe(_rasters)
_stxm = SimStxmBeamline()
stxm_energy = _stxm.energy
stxm_shutter = _stxm.shutter
stxm_line = _stxm.line_counter
stxm_counter = _stxm.counter
stxm_stage = _stxm.stage
stxm_mesh = _stxm.mesh
stxm_zone_plate = _stxm.zone_plate
stxm_aperture = _stxm.aperture

_xpeem = SimXpeemBeamline()
xpeem_energy = _xpeem.energy
xpeem_shutter = _xpeem.shutter
xpeem_sample = _xpeem.sample
xpeem_camera = _xpeem.camera
xpeem_mesh = _xpeem.mesh

_ledger = RunLedger()
RE.subscribe(_ledger)


def _follow(run_engine: RunEngine) -> LiveSOC:
    """Let the live analysis follow the RunEngine, with Tiled behind it if there is a data directory."""
    if _folder is None or _flights is None:
        compile_kernels()
        live = LiveSOC()
        run_engine.subscribe(live)
        return live
    session = Session(TiledServer(Path(_folder), readable=(_flights,)).start()).start()
    run_engine.subscribe(session)
    return session.live


xanes_scan = queue_plan(beamline_plans.xanes_scan)
multi_edge_xanes = queue_plan(beamline_plans.multi_edge_xanes, beamline_plans.xanes_scan)
xanes_mosaic = queue_plan(beamline_plans.xanes_mosaic, beamline_plans.xanes_scan)
xanes_series = queue_plan(beamline_plans.xanes_series, beamline_plans.xanes_scan)
edge_jump_map = queue_plan(beamline_plans.edge_jump_map, beamline_plans.xanes_scan)
xas_scan = queue_plan(beamline_plans.xas_scan, beamline_plans.xanes_scan)
xas_fly = queue_plan(beamline_plans.xas_fly, beamline_plans.xanes_scan)
soft_xas_scan = queue_plan(beamline_plans.soft_xas_scan, beamline_plans.xanes_scan, edges=list[SoftEdgeName])
stxm_scan = queue_plan(beamline_plans.stxm_scan, beamline_plans.xanes_scan, edge=SoftEdgeName)
xpeem_scan = queue_plan(beamline_plans.xpeem_scan, beamline_plans.xanes_scan, edge=SoftEdgeName)
adaptive_xanes = queue_plan(
    beamline_plans.adaptive_xanes, beamline_plans.xanes_scan, given={"live": _follow(RE)}
)
xrf_map = queue_plan(beamline_plans.xrf_map, beamline_plans.xanes_scan)
xrf_coarse_fine = queue_plan(beamline_plans.xrf_coarse_fine, beamline_plans.xrf_map)
resume_xrf_map = queue_plan(
    beamline_plans.resume_xrf_map, beamline_plans.xrf_map, given={"archive": _rasters}
)
resume_scan = queue_plan(beamline_plans.resume_scan, beamline_plans.xanes_scan, given={"archive": _ledger})
tomography_scan = queue_plan(beamline_plans.tomography_scan, beamline_plans.xanes_scan)
resume_tomography = queue_plan(
    beamline_plans.resume_tomography, beamline_plans.xanes_scan, given={"archive": _ledger}
)
# Nobody sits at the terminal of a worker to answer its question.
calibrate_energy = queue_plan(
    beamline_plans.calibrate_energy, beamline_plans.xanes_scan, write=Literal["no", "yes"]
)
