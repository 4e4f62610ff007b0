"""`nimco demo --technique xrf`: a particle whose composition changes towards its surface, against the truth."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from bluesky import RunEngine
from rich.table import Table

from beamline_plans import xrf_map
from edge_fitting import CoreShell, atoms_sensitivity, fit_core_shell
from nimco._demo_points import run_point_demo
from nimco._session import Session
from nimco.errors import NimcoError
from sim_devices import GradientParticle, NanoTruth, SimNanoBeamline

_ELEMENTS = ("Mn", "Co", "Ni")
_STEP_UM, _MARGIN_UM = 0.2, 0.6
_POINT_S, _STANDARD_S = 0.02, 0.5
_FOCUS_UM = 0.2
# Below this part of the most photons a point is at the rim.
_BRIGHT = 0.15


class Measured(NamedTuple):
    """What is true of a measured sample, and what the fit of the whole particle says."""

    truth: NanoTruth
    particle: GradientParticle
    fit: CoreShell


def demo(
    *, data_dir: Path, seed: int, port: int, hold: bool, edges: str, soc_range: str | None, **_: Any
) -> None:
    """Measure a film of known densities and a particle, and compare what is found with the truth of the twin."""
    if edges not in ("Ni", "Ni_K"):
        raise NimcoError(
            f"the demonstration of fluorescence measures Mn, Co and Ni at one energy above their edges, not {edges}: "
            "leave --edges out"
        )
    run_point_demo(
        ["gradient"],
        lambda: SimNanoBeamline(seed=seed),
        _measure,
        _table,
        data_dir=data_dir,
        port=port,
        hold=hold,
        shown="ni_fraction",
    )


def _measure(
    run_engine: RunEngine, session: Session, beamline: SimNanoBeamline, name: str
) -> tuple[xr.Dataset, Measured]:
    """Measure the standard, then the particle; its result, and what is true."""
    beamline.load("standard")
    film = dict(beamline.station.sample.film_ug_cm2)
    run_engine(_scan(beamline, [0.0, 1.0], [0.0, 1.0, 2.0], _STANDARD_S, sample="film"))
    session.live.wait()
    counts = standard_counts(session.live.latest(), _STANDARD_S, _POINT_S)
    standard = {"areal_density_ug_cm2": film, "counts": counts, "source": "film of the twin"}
    beamline.load(name)
    (particle,) = beamline.station.sample.particles
    half = particle.radius_um + _MARGIN_UM
    places = {"start": -half, "stop": half, "step": _STEP_UM}
    run_engine(_scan(beamline, places, places, _POINT_S, sample=name, standard=standard))
    session.live.wait()
    result = session.live.latest()
    truth = beamline.truth(result["row_um"], result["column_um"])
    return result, Measured(truth, particle, fitted_particle(result))


def _scan(
    beamline: SimNanoBeamline, rows: Any, columns: Any, exposure_s: float, *, sample: str, **more: Any
) -> Any:
    return xrf_map(
        beamline.line_mca,
        beamline.energy,
        beamline.row_axis,
        beamline.column_axis,
        rows_um=rows,
        columns_um=columns,
        exposure_s=exposure_s,
        elements=list(_ELEMENTS),
        calibration=beamline.calibration,
        fly=True,
        shutter=beamline.shutter,
        focus_um=_FOCUS_UM,
        md={"sample": {"name": sample}},
        **more,
    )


def standard_counts(result: xr.Dataset, exposure_s: float, point_s: float) -> dict[str, float]:
    """Return the counts of each element per unit of I0 that a point of another exposure has."""
    per_i0 = (result["element_counts_free"] / result["i0"]).mean(("row", "column")).values
    return {
        name: float(value) * point_s / exposure_s
        for name, value in zip(result.attrs["elements"], per_i0, strict=True)
    }


def fitted_particle(result: xr.Dataset) -> CoreShell:
    """Fit the maps of a result by one particle."""
    elements = list(result.attrs["elements"])
    counts = dict(zip(elements, result["element_counts_free"].values, strict=True))
    sigma = dict(zip(elements, result["element_counts_sigma"].values, strict=True))
    excitation_ev = float(result.attrs["excitation_ev"])
    return fit_core_shell(
        {name: counts[name] for name in _ELEMENTS},
        {name: sigma[name] for name in _ELEMENTS},
        atoms_sensitivity(_ELEMENTS, excitation_ev),
        pixel_size_um=float(result.attrs["pixel_size_nm"]) / 1000.0,
        excitation_ev=excitation_ev,
        focus_um=float(result.attrs["focus_um"] or 0.0),
    )


def _table(found: list[tuple[xr.Dataset, Measured]]) -> Table:
    """Return what was found beside what is true."""
    table = Table(title="fluorescence of a gradient particle", title_justify="left")
    for head in ("", "found", "sigma", "truth", "error"):
        table.add_column(head, justify="right" if head else "left")
    for result, about in found:
        total = result["element_counts"].sum("element").values
        inside = total > _BRIGHT * np.nanmax(total)
        inside &= np.isfinite(about.truth.fractions["Ni"]) & np.isfinite(result["ni_fraction"].values)
        true = {"ni_fraction": about.truth.fractions["Ni"]}
        for key, top in (("mn_ni", "Mn"), ("co_ni", "Co")):
            true[key] = about.truth.fractions[top] / about.truth.fractions["Ni"]
        for key, map_ in true.items():
            error = result[key].values[inside] - map_[inside]
            _row(
                table, f"{key}, {int(inside.sum())} points, mean", result[key].values[inside].mean(),
                result[f"{key}_sigma"].values[inside].mean(), map_[inside].mean(),
            )  # fmt: skip
            table.add_row("  its error in a point (RMS)", f"{np.sqrt((error**2).mean()):.4f}", "", "", "")
        fit = about.fit
        for where, values, sigma, truth in (
            ("core", fit.core, fit.core_sigma, about.particle.core),
            ("surface", fit.surface, fit.surface_sigma, about.particle.surface),
        ):
            for name in _ELEMENTS:
                _row(table, f"{where}, share of {name}", values[name], sigma[name], truth[name])
        _row(table, "radius (um)", fit.radius_um, fit.radius_sigma_um, about.particle.radius_um)
        _row(table, "width of the gradient (um)", fit.width_um, fit.width_sigma_um, about.particle.width_um)
    return table


def _row(table: Table, label: str, found: float, sigma: float, truth: float) -> None:
    table.add_row(label, f"{found:.4f}", f"{sigma:.4f}", f"{truth:.4f}", f"{found - truth:+.4f}")
