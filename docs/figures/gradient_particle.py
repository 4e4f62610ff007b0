"""Draw the figure of docs/how-to/xrf.md: a gradient cathode particle as a nanoprobe sees it, on the twin.

Usage: ``python docs/figures/gradient_particle.py [--to FILE]``
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from bluesky import RunEngine

from beamline_plans import xrf_map
from callbacks import LiveSOC
from edge_fitting import (
    CompositionProfile,
    atoms_sensitivity,
    edge_distance,
    fit_core_shell,
    line_profile,
    rim_profile,
)
from sim_devices import SimNanoBeamline

ELEMENTS = ["Mn", "Co", "Ni"]
COLOURS = {"Mn": "#7b3294", "Co": "#0072b2", "Ni": "#1b7837"}
STEP_UM, POINT_S = 0.15, 0.03


def measure(
    beamline: SimNanoBeamline, rows: object, columns: object, exposure_s: float, **more: object
) -> xr.Dataset:
    plan = xrf_map(
        beamline.line_mca, beamline.energy, beamline.row_axis, beamline.column_axis, rows_um=rows, columns_um=columns,
        exposure_s=exposure_s, elements=ELEMENTS, calibration=beamline.calibration, fly=True, shutter=beamline.shutter,
        focus_um=0.2, **more,
    )  # fmt: skip
    with LiveSOC(subscribers=[], update_period_s=60.0) as live:
        RunEngine()(plan, live)
        live.wait()
        return live.latest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("gradient_particle.png"))
    beamline = SimNanoBeamline(sample="standard")
    film = measure(beamline, [0.0], [0.0, 1.0, 2.0], 1.0)
    per_i0 = (film["element_counts_free"] / film["i0"]).mean(("row", "column")).values
    standard = {
        "areal_density_ug_cm2": dict(beamline.station.sample.film_ug_cm2),
        "counts": {name: float(POINT_S * one) for name, one in zip(ELEMENTS, per_i0, strict=True)},
    }
    beamline.load("gradient")
    around = {"start": -3.6, "stop": 3.6, "step": STEP_UM}
    result = measure(beamline, around, around, POINT_S, standard=standard)
    figure, panels = plt.subplots(2, 3, figsize=(11, 6.6), layout="constrained")
    extent = (-3.6, 3.6, 3.6, -3.6)
    density = dict(zip(ELEMENTS, result["areal_density"].values, strict=True))
    for axes, name in zip(panels[0], ("Ni", "Co", "Mn"), strict=True):
        shown = axes.imshow(density[name], extent=extent, cmap="inferno", vmin=0)
        figure.colorbar(shown, ax=axes, label=f"{name} (µg/cm²)", shrink=0.8)
        axes.set_title(name, loc="left")
    shown = panels[1, 0].imshow(result["mn_ni"], extent=extent, cmap="viridis", vmin=0.2, vmax=1.05)
    figure.colorbar(shown, ax=panels[1, 0], label="Mn/Ni", shrink=0.8)
    panels[1, 0].set_title("Mn/Ni", loc="left")
    middle = len(result["row_um"]) // 2
    panels[1, 0].plot([-3.4, 3.4], [0, 0], color="white", lw=0.8, ls="--")
    atoms, sigma = _atoms(result)
    across = line_profile(atoms, sigma, (middle, 1), (middle, 47), width=3, step=1, pixel_size=STEP_UM)
    _draw_ratio(panels[1, 1], beamline, result, across)
    _draw_rim(panels[1, 2], result, atoms, sigma)
    for axes in (*panels[0], panels[1, 0]):
        axes.set(xlabel="µm", ylabel="µm")
    figure.savefig(parser.parse_args().to, dpi=110)


def _atoms(result: xr.Dataset) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return atoms of each element, corrected for absorption, and their standard deviation."""
    table = atoms_sensitivity(ELEMENTS, float(result.attrs["excitation_ev"]))
    atoms, sigma = {}, {}
    for k, name in enumerate(ELEMENTS):
        scale = table[name] * result["escape"].values[k]
        atoms[name] = result["element_counts_free"].values[k] / scale
        sigma[name] = result["element_counts_sigma"].values[k] / scale
    return atoms, sigma


def _draw_ratio(
    axes: plt.Axes, beamline: SimNanoBeamline, result: xr.Dataset, across: CompositionProfile
) -> None:
    ratio = across.ratio("Mn", "Ni")
    x = across.position - 3.45
    good = ratio.sigma < 0.1
    axes.errorbar(x[good], ratio.value[good], ratio.sigma[good], fmt=".", color="#0072b2", label="measured")
    truth = beamline.truth([0.0], np.linspace(-3.0, 3.0, 121)).fractions
    axes.plot(
        np.linspace(-3.0, 3.0, 121), (truth["Mn"] / truth["Ni"])[0], color="black", lw=0.9, label="twin"
    )
    axes.set(xlabel="along the dashed line (µm)", ylabel="Mn/Ni")
    axes.legend(frameon=False)
    axes.set_title("line profile", loc="left")


def _draw_rim(axes: plt.Axes, result: xr.Dataset, atoms: dict, sigma: dict) -> None:
    total = result["element_counts"].sum("element").values
    depth = edge_distance(total > 0.15 * np.nanmax(total), pixel_size=STEP_UM)
    profile = rim_profile(atoms, sigma, depth, edges=np.arange(0.0, 3.1, 0.2))
    fit = fit_core_shell(
        dict(zip(ELEMENTS, result["element_counts_free"].values, strict=True)),
        dict(zip(ELEMENTS, result["element_counts_sigma"].values, strict=True)),
        atoms_sensitivity(ELEMENTS, float(result.attrs["excitation_ev"])),
        pixel_size_um=STEP_UM, excitation_ev=float(result.attrs["excitation_ev"]), focus_um=0.2,
    )  # fmt: skip
    for name in ELEMENTS:
        share = profile.fraction(name)
        axes.errorbar(
            profile.position,
            share.value,
            share.sigma,
            fmt=".",
            color=COLOURS[name],
            label=name,
        )
        core, surface = fit.core[name], fit.surface[name]
        axes.plot([0, fit.width_um, 3], [surface, core, core], color=COLOURS[name], lw=1.2)
    axes.set(xlabel="distance from the rim, or depth (µm)", ylabel="atomic fraction", ylim=(0, 0.9))
    axes.legend(frameon=False, ncols=3, fontsize=7, loc="upper left")
    axes.set_title(f"points projected, lines fitted (gradient {fit.width_um:.2f} µm)", loc="left", fontsize=8)


if __name__ == "__main__":
    main()
