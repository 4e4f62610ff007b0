"""Draw particles, cracks, and what they say of a map: docs/figures/particles.png."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from edge_fitting import edge_distance, particle_statistics, particle_zones, segment_cracks, split_particles
from sim_devices import SampleSettings, SimBeamline, TwinSettings

OUT = Path(__file__).with_suffix(".png")
JUMP_NOISE = 0.02
SOC_NOISE = 0.06  # at a jump of 1


def main() -> None:
    settings = TwinSettings(sample=SampleSettings(coverage=0.8, cracks=3.0))
    beamline = SimBeamline((384, 384), seed=3, settings=settings)
    truth = beamline.truth("Ni_K")
    random = np.random.default_rng(3)
    jump = truth.jump + JUMP_NOISE * random.standard_normal(truth.jump.shape)
    sigma = SOC_NOISE / np.maximum(jump, 0.1)
    soc = np.where(jump > 0.06, truth.soc + sigma * random.standard_normal(jump.shape), np.nan)
    labels = split_particles(jump > 0.06, min_diameter=9)
    cracks = segment_cracks(jump, labels)
    table = particle_statistics(soc, labels, sigma=sigma)
    zones = particle_zones(soc, labels, cracks=cracks, sigma=sigma)

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), dpi=72, layout="constrained")
    outline = (edge_distance(labels) < 1.0).astype(float)
    axes[0].imshow(jump, cmap="gray", interpolation="nearest")
    axes[0].imshow(np.where(outline > 0, 1.0, np.nan), cmap="cool", interpolation="nearest")
    for k in range(len(table)):
        axes[0].text(table.column[k], table.row[k], str(table.label[k]), color="yellow", ha="center")
    axes[0].set_title("edge jump, particles told apart", fontsize=10)
    axes[1].imshow(jump, cmap="gray", interpolation="nearest")
    axes[1].imshow(np.where(cracks, 1.0, np.nan), cmap="autumn", interpolation="nearest")
    axes[1].set_title("cracks", fontsize=10)
    for axis in axes[:2]:
        axis.set_xticks([])
        axis.set_yticks([])
    for values, errors, offset, name in (
        (zones.rim_minus_bulk, zones.rim_minus_bulk_sigma, -0.1, "rim - bulk"),
        (zones.crack_minus_bulk, zones.crack_minus_bulk_sigma, 0.1, "cracks - bulk"),
    ):
        axes[2].errorbar(zones.label + offset, values, errors, fmt="o", markersize=4, label=name)
    axes[2].axhline(0.0, linewidth=0.8, color="black")
    axes[2].set_xlabel("particle")
    axes[2].set_title("state of charge, with standard errors", fontsize=10)
    axes[2].legend(fontsize=8)
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    picture.quantize(128).save(OUT, optimize=True)
    print(f"{OUT.name}: {OUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
