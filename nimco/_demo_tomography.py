"""`nimco demo --technique tomography`: particles turned in the beam, live into Tiled, against the truth of the twin."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from bluesky import RunEngine
from rich.table import Table
from scipy.ndimage import binary_erosion

from beamline_plans import EnergyGrid, tomography_scan
from edge_fitting import EDGES, edge_names
from nimco._demo_points import run_point_demo
from nimco._session import Session
from nimco._standards import measure_standards
from sim_devices import SimBeamline, VolumeSettings, VolumeTruth

_STANDARD_SOCS = (0.0, 0.25, 0.5, 0.75, 1.0)
_REGIONS_EV = ((-80.0, -20.0, 20.0), (-5.0, 30.0, 2.0), (40.0, 160.0, 40.0))
_EXPOSURE_S = 2.0
_N_FLATS = 10
_LARGEST = 64
# Columns by which the axis lies beside the middle of the field.
_AXIS_OFFSET_PX = 1.3
# The rim of a particle, where a voxel is filled in part, has the resolution's error and not that of noise.
_SOLID = 0.85
_RIM = 2


def demo(
    *,
    edges: str,
    data_dir: Path,
    size: int,
    seed: int,
    port: int,
    hold: bool,
    soc_range: str | None,
    **_: Any,
) -> None:
    """Turn a sample at a few energies of each edge, and compare the volume with the truth of the twin."""
    n_pixels = min(size, _LARGEST)
    run_point_demo(
        edge_names(edges),
        lambda: SimBeamline((n_pixels, n_pixels), seed=seed),
        _measure,
        _table,
        data_dir=data_dir,
        port=port,
        hold=hold,
        shown="soc",
    )


def _grid(edge: str) -> EnergyGrid:
    edge_ev = EDGES[edge].energy_ev
    regions = [(edge_ev + low, edge_ev + high, step, _EXPOSURE_S) for low, high, step in _REGIONS_EV]
    return EnergyGrid.from_regions(regions)


def _measure(
    run_engine: RunEngine, session: Session, beamline: SimBeamline, edge: str
) -> tuple[xr.Dataset, VolumeTruth]:
    """Measure the standards, then the volume; its result, and what is true."""
    grid = _grid(edge)
    # Between the few energies of the scan the references would be interpolated, which costs a hundredth of SOC.
    fine = EnergyGrid.preset("default", edge)
    references = measure_standards(run_engine, beamline, edge, socs=_STANDARD_SOCS, grid=fine)
    beamline.load_volume(VolumeSettings(axis_offset_px=_AXIS_OFFSET_PX))
    run_engine(
        tomography_scan(
            beamline.camera,
            beamline.energy,
            beamline.shutter,
            beamline.stage,
            beamline.stage.rotation,
            edge=edge,
            grid=grid,
            n_angles=beamline.twin.shape[1],
            i0=beamline.i0,
            n_flats=_N_FLATS,
            references=references.to_dict(),
            pixel_size_nm=beamline.pixel_size_nm,
            md={"sample": {"name": "simulated particles of NMC622"}},
        )
    )
    session.live.wait()
    return session.live.latest(), beamline.volume_truth(edge)


def bulk_of(truth: VolumeTruth) -> np.ndarray[Any, Any]:
    """Return the voxels that are full of oxide, away from surfaces and cracks."""
    solid = (truth.density > _SOLID) & np.isfinite(truth.soc)
    return np.asarray(binary_erosion(solid, iterations=_RIM))


def _table(found: list[tuple[xr.Dataset, VolumeTruth]]) -> Table:
    """Return what was found beside what is true."""
    table = Table(title="volume of the state of charge", title_justify="left")
    table.add_column("")
    for result, _ in found:
        table.add_column(str(result.attrs["edge"]).replace("_", " "), justify="right")
    rows: dict[str, list[str]] = {}
    for result, truth in found:
        for label, value in _compared(result, truth).items():
            rows.setdefault(label, []).append(value)
    for label, values in rows.items():
        table.add_row(label, *values)
    return table


def _compared(result: xr.Dataset, truth: VolumeTruth) -> dict[str, str]:
    soc, sigma = result["soc"].values, result["soc_sigma"].values
    bulk = bulk_of(truth) & np.isfinite(soc)
    error = (soc - truth.soc)[bulk]
    there = np.isfinite(truth.soc)
    everywhere = (soc - truth.soc)[there & np.isfinite(soc)]
    middle = 0.5 * (soc.shape[2] - 1)
    return {
        "projections": f"{result.attrs['n_frames']}",
        "voxels with a value": f"{int(np.isfinite(soc).sum())}",
        "axis of rotation found (px from the middle)": f"{result.attrs['centre_px'] - middle:+.3f}",
        "axis of rotation, truth": f"{_AXIS_OFFSET_PX:+.3f}",
        "SOC error (RMS), bulk": f"{np.sqrt(np.mean(error**2)):.4f}",
        "SOC error (mean), bulk": f"{error.mean():+.4f}",
        "sigma (median), bulk": f"{np.median(sigma[bulk]):.4f}",
        "error over sigma (standard deviation), bulk": f"{np.std(error / sigma[bulk]):.2f}",
        "SOC error (RMS), with surfaces and cracks": f"{np.sqrt(np.mean(everywhere**2)):.4f}",
    }
