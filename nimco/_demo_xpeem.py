"""`nimco demo --technique xpeem`: the surface of grains by their electrons, live, against the truth."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from bluesky import RunEngine
from rich.table import Table

from beamline_plans import EnergyGrid, xpeem_scan
from edge_fitting import soft_edge
from nimco._demo_points import run_point_demo
from nimco._demo_stxm import demo_grid, stxm_components
from nimco._session import Session
from nimco.errors import NimcoError
from sim_devices import SOFT_COMPONENTS, STXM_ENDS, SimXpeemBeamline, StxmTruth

_EXPOSURE_S = 1.0
# Pixels that are grain in all but a tenth.
_GRAIN = 0.9


def demo(
    *, data_dir: Path, seed: int, port: int, hold: bool, edges: str, soc_range: str | None, **_: Any
) -> None:
    """Measure a surface at one L3 edge; compare its map with the truth of the twin."""
    edge = soft_edge(edges).name
    if edge not in STXM_ENDS:
        raise NimcoError(f"the twin of XPEEM has the edges {', '.join(STXM_ENDS)}, not {edge}")

    def measure(
        run_engine: RunEngine, session: Session, beamline: SimXpeemBeamline, name: str
    ) -> tuple[xr.Dataset, StxmTruth]:
        run_engine(demo_plan(beamline, name))
        session.live.wait()
        return session.live.latest(), beamline.truth()

    run_point_demo(
        [edge], lambda: SimXpeemBeamline(seed=seed), measure, _table, data_dir=data_dir, port=port, hold=hold,
        shown="valence",
    )  # fmt: skip


def demo_plan(beamline: SimXpeemBeamline, edge: str) -> Any:
    """Return the plan of the demonstration."""
    energies = demo_grid(edge).energies_ev
    return xpeem_scan(
        beamline.camera,
        beamline.energy,
        beamline.shutter,
        edge=edge,
        grid=EnergyGrid(energies, tuple(_EXPOSURE_S for _ in energies)),
        sample=beamline.sample,
        i0=beamline.mesh,
        components=stxm_components(edge),
        pixel_size_nm=beamline.pixel_size_nm,
        probing_nm=5.0,
        md={"sample": {"name": "simulated surface"}},
    )


def _table(found: list[tuple[xr.Dataset, StxmTruth]]) -> Table:
    """Return what was found beside what is true."""
    table = Table(title="a surface by XPEEM", title_justify="left")
    for head in ("", "found", "sigma", "truth", "error"):
        table.add_column(head, justify="right" if head else "left")
    for result, truth in found:
        edge = str(result.attrs["edge"])
        if "valence" not in result:
            table.add_row(f"{edge}: no map", *[""] * 4)
            continue
        low, high = (SOFT_COMPONENTS[edge][name].valence for name in STXM_ENDS[edge])
        value, sigma = result["valence"].values, result["valence_sigma"].values
        inside = (truth.thickness_nm > _GRAIN) & np.isfinite(value)
        known = (low + (high - low) * truth.state)[inside]
        error = value[inside] - known
        table.add_row(
            f"{edge}: mean valence, {int(inside.sum())} pixels",
            f"{value[inside].mean():.3f}",
            f"{np.median(sigma[inside]):.3f}",
            f"{known.mean():.3f}",
            f"{error.mean():+.3f} (RMS {np.sqrt((error**2).mean()):.3f})",
        )
        if "shift_row_px" in result:
            shifts = np.hypot(result["shift_row_px"].values, result["shift_column_px"].values)
            table.add_row(f"{edge}: largest drift taken out (px)", f"{np.nanmax(shifts):.2f}", "", "", "")
    return table
