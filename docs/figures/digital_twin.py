"""Draw the twin's sample, a frame of it, and the truth behind it: docs/figures/digital_twin.png."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from sim_devices import SimBeamline

OUT = Path(__file__).with_suffix(".png")
ENERGIES_EV = np.concatenate([np.arange(8320.0, 8336.0, 2.0), np.arange(8336.0, 8372.0, 0.5)])


def main() -> None:
    beamline = SimBeamline((512, 512), seed=7)
    twin = beamline.twin
    twin.shutter_open = True
    truth = beamline.truth("Ni_K")
    twin.energy_ev = 8353.0
    frame = twin.expose(0.5)

    figure, axes = plt.subplots(2, 3, figsize=(12, 7.2), dpi=72, layout="constrained")
    size_um = 512 * beamline.pixel_size_nm * 1e-3
    panels = (
        (axes[0, 0], frame, "gray", "frame at 8353 eV, 0.5 s (counts)"),
        (axes[0, 1], truth.jump, "magma", "truth: Ni K edge jump (optical depth)"),
        (axes[0, 2], truth.soc, "viridis", "truth: state of charge"),
        (axes[1, 0], truth.edge_energy_ev - 8345.0, "viridis", "truth: half-jump energy (eV above 8345)"),
    )
    for axis, image, colours, title in panels:
        shown = axis.imshow(image, cmap=colours, extent=(0, size_um, size_um, 0), interpolation="nearest")
        figure.colorbar(shown, ax=axis, shrink=0.8)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("µm")

    spectra = axes[1, 1]
    for soc in (0.0, 0.5, 1.0):
        beamline.load_standard("Ni_K", soc)
        depth = []
        for energy in ENERGIES_EV:
            twin.energy_ev = float(energy)
            twin.sample_in = True
            sample = twin.expose(0.5).mean(dtype=float)
            twin.sample_in = False
            flat = twin.expose(0.5).mean(dtype=float)
            depth.append(-np.log((sample - 102.0) / (flat - 102.0)))
        spectra.plot(ENERGIES_EV, depth, label=f"standard, SOC {soc:g}")
    spectra.set_title("mean optical depth of three standards", fontsize=10)
    spectra.set_xlabel("energy (eV)")
    spectra.legend(fontsize=8)

    twin.sample_in = True
    beamline.load_electrode()
    pixel = np.unravel_index(np.nanargmax(np.where(truth.jump > 0.3, truth.soc, np.nan)), truth.jump.shape)
    single = axes[1, 2]
    depth = []
    for energy in ENERGIES_EV:
        twin.energy_ev = float(energy)
        twin.sample_in = True
        sample = float(twin.expose(0.5)[pixel])
        twin.sample_in = False
        flat = float(twin.expose(0.5)[pixel])
        depth.append(-np.log((sample - 102.0) / (flat - 102.0)))
    single.plot(ENERGIES_EV, depth, ".", markersize=4)
    single.axvline(truth.edge_energy_ev[pixel], linewidth=1, color="tab:red")
    single.set_title(
        f"one pixel: SOC {truth.soc[pixel]:.2f}, half-jump {truth.edge_energy_ev[pixel]:.2f} eV", fontsize=10
    )
    single.set_xlabel("energy (eV)")
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    picture.quantize(128).save(OUT, optimize=True)
    print(f"{OUT.name}: {OUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
