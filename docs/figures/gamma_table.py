"""Draw the figure of docs/how-to/soft-xas.md: the published table of gamma measured again on the twin.

Usage: ``python docs/figures/gamma_table.py [--to FILE]``
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from bluesky import RunEngine

from beamline_plans import soft_xas_scan
from callbacks import LiveSOC
from sim_devices import PUBLISHED_GAMMA, SimSoftBeamline, SoftSettings

# Per point of 1 s, relative: 1 % in each current.
NOISE = 0.01
COLOURS = {"tey": "#0072b2", "fy": "#d55e00"}
WORDS = {"tey": "electron yield", "fy": "fluorescence yield"}


def measure(name: str, seed: int) -> xr.Dataset:
    beamline = SimSoftBeamline(seed=seed, settings=SoftSettings(noise=NOISE))
    beamline.load(name)
    engine = RunEngine()
    with LiveSOC(subscribers=[], update_period_s=60.0) as live:
        engine.subscribe(live)
        engine(
            soft_xas_scan(
                beamline.energy,
                edges=["Ni_L3"],
                i0=beamline.mesh,
                tey=beamline.tey,
                fy=beamline.fy,
                iref=beamline.reference,
                shutter=beamline.shutter,
                n_darks=3,
                lines={"Ni_L3": {"energy_ev": 853.0, "sigma_ev": 0.02, "name": "NiO L3"}},
            )
        )
        live.wait()
        return live.latest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("gamma_table.png"))
    found = {name: measure(name, seed) for seed, name in enumerate(PUBLISHED_GAMMA, 1)}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for row, (name, result) in enumerate(found.items()):
        for key, colour in COLOURS.items():
            x = result["energy_ev"]
            left.plot(x, result[f"{key}_normalized"] + 9 * row, ".", ms=2.5, color=colour)
            left.plot(x, result[f"{key}_curve"] + 9 * row, lw=0.9, color=colour)
        left.text(861.5, 9 * row + 3.0, name, fontsize=8)
    left.set(xlim=(848, 876), xlabel="photon energy (eV)", ylabel="normalised yield, shifted")
    names = list(found)
    for number, (key, colour) in enumerate(COLOURS.items()):
        at = np.arange(len(names)) + 0.16 * (number - 0.5)
        published = [PUBLISHED_GAMMA[name][number] for name in names]
        gamma = [float(found[name][f"{key}_gamma"]) for name in names]
        sigma = [
            np.hypot(float(found[name][f"{key}_gamma_sigma"]), float(found[name][f"{key}_gamma_systematic"]))
            for name in names
        ]
        right.errorbar(at, gamma, sigma, fmt="o", ms=5, capsize=3, color=colour, label=f"twin, {WORDS[key]}")
        right.plot(at, published, "_", ms=22, color="black", label="published" if number else None)
    right.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names], fontsize=8)
    right.set(ylabel="gamma = I(L3 high) / I(L3 low)", ylim=(0, 2))
    right.legend(frameon=False, fontsize=8)
    figure.savefig(parser.parse_args().to, dpi=110)
    for name, result in found.items():
        delta, spread = float(result["delta_gamma"]), float(result["delta_gamma_sigma"])
        print(
            f"{name}: {float(result['tey_gamma']):.3f} {float(result['fy_gamma']):.3f} {delta:.3f} ± {spread:.3f}"
        )


if __name__ == "__main__":
    main()
