"""Startup module of a bluesky queue server: the plans of this project and the simulated beamline.

``start-re-manager --startup-module nimco._queueserver_startup``. The worker looks for its RunEngine, devices and plans
among the names of this module, which is why, alone in this project, it makes things when it is imported. Copy it and
replace the simulated devices to use it at a beamline.

With ``NIMCO_DATA_DIR`` in the environment, frames and maps go to a Tiled server over that directory.
"""

import os
from pathlib import Path
from typing import Any

from bluesky import RunEngine
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

import beamline_plans
from beamline_plans import (
    AdaptiveResult,
    RunLedger,
    calibrate_energy,
    edge_jump_map,
    multi_edge_xanes,
    xanes_scan,
    xanes_series,
    xas_scan,
)
from callbacks import LiveSOC
from nimco._compiling import compile_kernels
from nimco._server import TiledServer
from nimco._session import Session
from sim_devices import SimBeamline

__all__ = [
    "RE",
    "adaptive_xanes",
    "calibrate_energy",
    "camera",
    "edge_jump_map",
    "energy",
    "i0",
    "multi_edge_xanes",
    "resume_scan",
    "shutter",
    "stage",
    "xanes_scan",
    "xanes_series",
    "xas_scan",
]

RE = RunEngine({})

_beamline = SimBeamline()
camera = _beamline.camera
energy = _beamline.energy
shutter = _beamline.shutter
stage = _beamline.stage
i0 = _beamline.i0

_ledger = RunLedger()
RE.subscribe(_ledger)


def _follow(run_engine: RunEngine) -> LiveSOC:
    """Let the live analysis follow the RunEngine, with Tiled behind it if there is a data directory."""
    folder = os.environ.get("NIMCO_DATA_DIR")
    if folder is None:
        compile_kernels()
        live = LiveSOC()
        run_engine.subscribe(live)
        return live
    session = Session(TiledServer(Path(folder)).start()).start()
    run_engine.subscribe(session)
    return session.live


_live = _follow(RE)


def adaptive_xanes(
    camera: Readable,
    energy: Movable,
    shutter: Movable,
    stage: Movable,
    *,
    edge: str,
    references: dict,
    target_sigma: float = 0.06,
    max_frames: int = 30,
    max_exposure_s: float | None = None,
    max_time_s: float | None = None,
    grid: Any = None,
    i0: Readable | None = None,
    n_flats: int = 1,
    n_darks: int = 5,
    pixel_size_nm: float | None = None,
    md: dict | None = None,
) -> MsgGenerator[AdaptiveResult]:
    """Take the energies that help most until the map is good enough; see `beamline_plans.adaptive_xanes`."""
    return (
        yield from beamline_plans.adaptive_xanes(
            camera,
            energy,
            shutter,
            stage,
            edge=edge,
            references=references,
            live=_live,
            target_sigma=target_sigma,
            max_frames=max_frames,
            max_exposure_s=max_exposure_s,
            max_time_s=max_time_s,
            grid=grid,
            i0=i0,
            n_flats=n_flats,
            n_darks=n_darks,
            pixel_size_nm=pixel_size_nm,
            md=md,
        )
    )


def resume_scan(
    camera: Readable,
    energy: Movable,
    shutter: Movable,
    stage: Movable,
    *,
    uid: str,
    i0: Readable | None = None,
    filters: Movable | None = None,
    md: dict | None = None,
) -> MsgGenerator[str | None]:
    """Take the energies that a run of this worker lacks; see `beamline_plans.resume_scan`."""
    return (
        yield from beamline_plans.resume_scan(
            camera, energy, shutter, stage, uid=uid, archive=_ledger, i0=i0, filters=filters, md=md
        )
    )
