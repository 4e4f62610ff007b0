"""Figure of docs/how-to/stxm.md: maps of a section on the twin, and the profile of a grain with both fits."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from bluesky import RunEngine
from matplotlib.figure import Figure

from callbacks import LiveSOC
from edge_fitting.profiles import compare_profiles
from nimco._demo_stxm import demo_plan, grain_profiles
from sim_devices import SimStxmBeamline

OUT = Path(__file__).with_name("stxm.png")


def main() -> None:
    """Measure and draw."""
    mpl.use("Agg")
    beamline = SimStxmBeamline(seed=1)
    run_engine = RunEngine()
    with LiveSOC() as live:
        run_engine.subscribe(live)
        run_engine(demo_plan(beamline, "Ni_L3", step_um=0.04))
        live.wait()
        result = live.latest()
    truth = beamline.truth(result["row_um"].values, result["column_um"].values)
    profiles = grain_profiles(result, truth, beamline.station.settings)
    compared = compare_profiles(profiles)
    figure = Figure(figsize=(13.0, 3.9), layout="constrained")
    axes = figure.subplots(1, 4)
    side = [float(result[name].values[at]) for name in ("column_um", "row_um") for at in (0, -1)]
    extent = (side[0], side[1], side[3], side[2])
    for at, (name, label, low, high) in enumerate(
        (
            ("valence", "mean Ni valence", 2.0, 3.0),
            ("valence_sigma", "its standard deviation", 0.0, 0.06),
            ("thickness_nm", "thickness (nm)", 0.0, 100.0),
        )
    ):
        shown = axes[at].imshow(result[name].values, vmin=low, vmax=high, extent=extent)
        axes[at].set(title=label, xlabel="um")
        figure.colorbar(shown, ax=axes[at], location="bottom", pad=0.02)
    chosen = int(np.argmax([profile.points[0].size for profile in profiles]))
    distance, value, sigma = profiles[chosen].points
    axes[3].errorbar(distance, value, sigma, fmt="o", ms=4, color="#333333", label="weighted means")
    fit = compared.diffusion
    axes[3].plot(
        distance, fit.curves[chosen], color="#0072b2", label=f"diffusion, D {fit.diffusivity_cm2_s:.2g} cm²/s"
    )
    axes[3].plot(distance, compared.core_shell[chosen].curve, color="#d55e00", label="core and shell")
    axes[3].set(
        title=f"one of {len(profiles)} grains, fitted together",
        xlabel="distance from the outline (nm)",
        ylabel="share of Ni³⁺",
    )
    axes[3].legend(frameon=False, fontsize=8)
    figure.savefig(OUT, dpi=90)
    print(OUT, fit.ln_d - np.log(1e-17), fit.ln_d_sigma, compared.aic_difference)


if __name__ == "__main__":
    main()
