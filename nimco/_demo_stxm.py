"""`nimco demo --technique stxm`: a section of primary grains by a scanning focus, live, against the truth."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from bluesky import RunEngine
from rich.table import Table

from beamline_plans import EnergyGrid, stxm_scan
from edge_fitting import edge_distance, soft_edge
from edge_fitting.profiles import ParticleShape, Profile, compare_profiles, distance_profile
from nimco._demo_points import run_point_demo
from nimco._session import Session
from nimco.errors import NimcoError
from sim_devices import (
    SOFT_COMPONENTS,
    STXM_ENDS,
    SimStxmBeamline,
    StxmSettings,
    StxmTruth,
    soft_spectrum,
)

_STEP_UM, _DWELL_S = 0.06, 0.003
_AROUND_EV = (-60.0, 80.0)
# Below this thickness the counting noise of one pixel is a large part of the edge.
_TRUTH_NM = 60.0
# Pixels nearer to the outline see the neighbour's space through the spot.
_NEAREST_NM = 25.0
_FEWEST = 6


def demo(
    *, data_dir: Path, seed: int, port: int, hold: bool, edges: str, soc_range: str | None, **_: Any
) -> None:
    """Measure a section at one L3 edge; compare maps and diffusivity with the truth of the twin."""
    edge = soft_edge(edges).name
    if edge not in STXM_ENDS:
        raise NimcoError(f"the twin of STXM has the edges {', '.join(STXM_ENDS)}, not {edge}")

    def measure(
        run_engine: RunEngine, session: Session, beamline: SimStxmBeamline, name: str
    ) -> tuple[xr.Dataset, tuple[StxmTruth, StxmSettings]]:
        run_engine(demo_plan(beamline, name))
        session.live.wait()
        result = session.live.latest()
        truth = beamline.truth(result["row_um"].values, result["column_um"].values)
        return result, (truth, beamline.station.settings)

    run_point_demo(
        [edge], lambda: SimStxmBeamline(seed=seed), measure, _table, data_dir=data_dir, port=port, hold=hold,
        shown="valence",
    )  # fmt: skip


def demo_plan(beamline: SimStxmBeamline, edge: str, *, step_um: float = _STEP_UM) -> Any:
    """Return the plan of the demonstration: one region, lines in motion, an image at each energy."""
    settings = beamline.station.settings
    side_um = settings.grains.field_um - 0.2
    grid = demo_grid(edge)
    return stxm_scan(
        beamline.energy,
        edge=edge,
        grid=grid,
        regions=[{"name": "section", "size_um": [side_um, side_um], "step_um": step_um}],
        line=beamline.line_counter,
        i0=beamline.mesh,
        zone_plate=beamline.zone_plate,
        aperture=beamline.aperture,
        shutter=beamline.shutter,
        focus=beamline.focus_table([grid.energies_ev[0] - 5.0, grid.energies_ev[-1] + 5.0]),
        dead_time_s=settings.dead_time_s,
        dark_hz=settings.dark_hz,
        stray_share=settings.stray_share,
        components=stxm_components(edge),
        material={"formula": settings.formula, "density_g_cm3": settings.density_g_cm3},
        md={"sample": {"name": "simulated grains"}},
    )


def demo_grid(edge: str) -> EnergyGrid:
    """Return the energies of the demonstration: dense at the white line, a few below and above."""
    around = soft_edge(edge)
    low, high = around.white_line_ev
    below, above = low - np.array([12.0, 9.0, 6.0, 4.0, 2.5]), high + np.array([2.0, 4.0, 7.0, 11.0])
    energies = np.concatenate([np.sort(below), np.arange(low - 1.0, high + 1.0, 0.4), above])
    return EnergyGrid(tuple(energies.round(3).tolist()), tuple(_DWELL_S for _ in energies))


def stxm_components(edge: str) -> list[dict[str, Any]]:
    """Return the spectra of the reduced and of the oxidised state, as references of the linear combination."""
    at_ev = soft_edge(edge).energy_ev if edge != "O_K" else 531.0
    energy_ev = np.arange(at_ev + _AROUND_EV[0], at_ev + _AROUND_EV[1], 0.1)
    power = StxmSettings().resolving_power
    return [
        {
            "name": name,
            "energy_ev": energy_ev.tolist(),
            "normalized_mu": soft_spectrum(edge, name, energy_ev, power).tolist(),
            "valence": SOFT_COMPONENTS[edge][name].valence,
        }
        for name in STXM_ENDS[edge]
    ]


def grain_profiles(result: xr.Dataset, truth: StxmTruth, settings: StxmSettings) -> list[Profile]:
    """Return the profile of each grain: state against the distance from its outline, with weighted errors."""
    grains, pixel_nm = settings.grains, float(result.attrs["pixel_size_nm"])
    low, high = (SOFT_COMPONENTS[result.attrs["edge"]][n].valence for n in STXM_ENDS[result.attrs["edge"]])
    state = (result["valence"].values - low) / (high - low)
    sigma = result["valence_sigma"].values / (high - low)
    distance = edge_distance(truth.labels, pixel_size=pixel_nm, frame_is_rim=True)
    profiles = []
    for number, radius in enumerate(truth.radius_nm, start=1):
        edges = np.arange(_NEAREST_NM, radius, 0.6 * pixel_nm)
        found = distance_profile(state, sigma, distance, edges=edges, mask=truth.labels == number)
        if found.distance.size < _FEWEST:
            continue
        seen: Any = "projection" if grains.section_nm is None else "section"
        shape = ParticleShape("sphere", float(radius), seen, section_nm=grains.section_nm or np.inf)
        inside = found.distance <= shape.edge_nm
        profiles.append(
            Profile(
                found.distance[inside],
                found.mean[inside],
                found.standard_error[inside],
                shape,
                grains.elapsed_s,
            )
        )
    return profiles


def _table(found: list[tuple[xr.Dataset, tuple[StxmTruth, StxmSettings]]]) -> Table:
    """Return what was found beside what is true."""
    table = Table(title="a section by STXM", title_justify="left")
    for head in ("", "found", "sigma", "truth", "error"):
        table.add_column(head, justify="right" if head else "left")
    for result, (truth, settings) in found:
        edge = str(result.attrs["edge"])
        if "valence" not in result:
            table.add_row(f"{edge}: no map", *[""] * 4)
            continue
        low, high = (SOFT_COMPONENTS[edge][name].valence for name in STXM_ENDS[edge])
        inside = (truth.thickness_nm > _TRUTH_NM) & np.isfinite(result["valence"].values)
        for label, key, known in (
            ("mean valence", "valence", low + (high - low) * truth.state),
            ("thickness (nm)", "thickness_nm", truth.thickness_nm),
        ):
            if key not in result:
                continue
            value, sigma = result[key].values[inside], result[f"{key}_sigma"].values[inside]
            error = value - known[inside]
            table.add_row(
                f"{edge}: {label}, {int(inside.sum())} pixels",
                f"{value.mean():.3f}",
                f"{np.median(sigma):.3f}",
                f"{known[inside].mean():.3f}",
                f"{error.mean():+.3f} (RMS {np.sqrt((error**2).mean()):.3f})",
            )
        _add_profiles(table, result, truth, settings)
    return table


def _add_profiles(table: Table, result: xr.Dataset, truth: StxmTruth, settings: StxmSettings) -> None:
    profiles = grain_profiles(result, truth, settings)
    if not profiles:
        return
    compared = compare_profiles(profiles)
    fit, known = compared.diffusion, settings.grains.diffusivity_cm2_s
    if fit.reason:
        table.add_row(f"D: refused, {fit.reason}", *[""] * 4)
    else:
        table.add_row(
            f"ln D (cm2/s), {len(profiles)} grains",
            f"{fit.ln_d:.2f}",
            f"{fit.ln_d_sigma:.2f}",
            f"{np.log(known):.2f}",
            f"{fit.ln_d - np.log(known):+.2f}",
        )
    names = {"diffusion": "diffusion", "core_shell": "core and shell", "": "not told apart"}
    table.add_row(
        "profiles (AIC difference)", f"{names[compared.better]} ({compared.aic_difference:+.0f})", "",
        settings.grains.profile.replace("_", " "), "",
    )  # fmt: skip
