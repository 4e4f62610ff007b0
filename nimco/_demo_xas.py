"""`nimco demo --technique xas`: a pellet by ion chambers with a foil, live into Tiled, against the truth."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from bluesky import RunEngine
from rich.table import Table

from beamline_plans import EnergyGrid, EnergyRegion, xas_scan
from edge_fitting import EDGES, ReferenceSeries, edge_names
from nimco._demo_points import run_point_demo
from nimco._session import Session
from sim_devices import MonoSettings, SimBeamline, Twin, TwinSettings

_STANDARD_SOCS = (0.0, 0.5, 1.0)
_SAMPLE_SOC = 0.62
_SWEEPS = 3
_N_DARKS = 3
# What the foil has to find: an axis that is off and drifts.
_MONO = MonoSettings(offset_ev=1.3, drift_ev_per_h=2.0)
_REGIONS = (
    (-150, -20, 10.0),
    (-20, -8, 1.0),
    (-8, 8, 0.25),
    (8, 40, 0.5),
    (40, 160, 3.0),
    (160, 400, 10.0),
)
_EXPOSURE_S = 0.5
# The camera is not looked at.
_SHAPE = (16, 16)


def demo(
    *, edges: str, data_dir: Path, seed: int, port: int, hold: bool, soc_range: str | None, **_: Any
) -> None:
    """Measure standards and a sample with ion chambers, and compare what is found with the truth of the twin."""
    run_point_demo(
        edge_names(edges),
        lambda: SimBeamline(_SHAPE, seed=seed, settings=TwinSettings(mono=_MONO)),
        _measure,
        _table,
        data_dir=data_dir,
        port=port,
        hold=hold,
        shown="mu",
    )


def _measure(
    run_engine: RunEngine, session: Session, beamline: SimBeamline, edge: str
) -> tuple[xr.Dataset, dict[str, float]]:
    """Measure the standards, then the sample; its result, and what is true."""
    e0 = EDGES[edge].energy_ev
    grid = EnergyGrid.from_regions(
        [EnergyRegion(e0 + low, e0 + high, step, _EXPOSURE_S) for low, high, step in _REGIONS]
    )

    def scan(sample: str, soc: float, **options: Any) -> xr.Dataset:
        beamline.load_standard(edge, soc)
        run_engine(
            xas_scan(
                beamline.energy,
                edge=edge,
                grid=grid,
                i0=beamline.i0_chamber,
                it=beamline.it_chamber,
                iref=beamline.iref_chamber,
                shutter=beamline.shutter,
                n_darks=_N_DARKS,
                md={"sample": {"name": sample}},
                **options,
            )
        )
        session.live.wait()
        return session.live.latest()

    standards = [scan(f"standard, SOC {soc:g}", soc) for soc in _STANDARD_SOCS]
    low = max(float(one["energy_ev"][0]) for one in standards)
    high = min(float(one["energy_ev"][-1]) for one in standards)
    common = standards[0]["energy_ev"].values
    common = common[(common >= low) & (common <= high)]
    spectra = [np.interp(common, one["energy_ev"].values, one["normalized_mu"].values) for one in standards]
    first = standards[0]
    began_s = beamline.twin.clock_s
    result = scan(
        "simulated NMC622 pellet",
        _SAMPLE_SOC,
        sweeps=_SWEEPS,
        references=ReferenceSeries(common, spectra, _STANDARD_SOCS).to_dict(),
        compared_with={
            "name": "standard, SOC 0",
            "energy_ev": first["energy_ev"].values.tolist(),
            "normalized_mu": first["normalized_mu"].values.tolist(),
        },
    )
    offset_ev = beamline.twin.axis_offset_ev
    mean_offset_ev = offset_ev - _MONO.drift_ev_per_h * (beamline.twin.clock_s - began_s) / 2 / 3600
    truth = beamline.truth(edge)
    # By convention the foil of the twin has its inflection where that of the table is.
    foil_ev = EDGES[edge].foil_inflection_ev - _foil_inflection_ev(edge)
    return result, {
        "soc": float(np.nanmean(truth.soc)),
        "half_jump_ev": float(np.nanmean(truth.edge_energy_ev)) - offset_ev + foil_ev,
        "edge_step": float(np.nanmean(truth.jump)),
        "axis_offset_ev": foil_ev - mean_offset_ev,
    }


def _foil_inflection_ev(edge: str) -> float:
    """Return where the twin's foil has its first inflection, on the axis of the photons."""
    around = EDGES[edge]
    energy_ev = around.energy_ev + np.arange(-8.0, 8.0, 0.01)
    mu = Twin.true_spectrum(around.element, energy_ev, _MONO.resolution)
    bend = np.gradient(np.gradient(mu, energy_ev), energy_ev)
    return float(energy_ev[np.flatnonzero((bend[:-1] > 0) & (bend[1:] <= 0))[0]])


_ROWS = (
    ("axis offset by the foil (eV)", "axis_offset_ev", "axis_offset_sigma_ev", 3),
    ("edge energy, half-jump (eV)", "half_jump_ev", "half_jump_sigma_ev", 3),
    ("edge energy, inflection (eV)", "inflection_ev", "inflection_sigma_ev", 3),
    ("edge energy, white line (eV)", "white_line_ev", "white_line_sigma_ev", 3),
    ("edge step", "edge_step", "edge_step_sigma", 4),
    ("SOC", "soc", "soc_sigma", 4),
)


def _table(found: list[tuple[xr.Dataset, dict[str, float]]]) -> Table:
    """Return what was found beside what is true."""
    table = Table(title="Point XAS", title_justify="left")
    for head in ("", "found", "sigma", "truth", "error"):
        table.add_column(head, justify="right" if head else "left")
    for result, truth in found:
        used, total = int(result["sweep_used"].sum()), result.sizes["sweep"]
        table.add_row(
            f"{result.attrs['edge'].replace('_', ' ')}: {used} of {total} sweeps, {result.sizes['energy']} energies",
            *[""] * 4,
        )
        for label, name, sigma, digits in _ROWS:
            value = float(result[name])
            known = truth.get(name)
            table.add_row(
                f"  {label}",
                f"{value:.{digits}f}",
                f"{float(result[sigma]):.{digits}f}",
                "" if known is None else f"{known:.{digits}f}",
                "" if known is None else f"{value - known:+.{digits}f}",
            )
    return table
