"""Draw what the analysis of a volume finds in a simulated electrode: docs/figures/volume.png."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from callbacks import analyse_volume, draw_volume
from sim_devices import SimBeamline, VolumeSettings

OUT = Path(__file__).with_suffix(".png")
SETTINGS = VolumeSettings(n_particles=9, n_other=0, wide_voxels=4.0, fine_voxels=0.8)


def main() -> None:
    beamline = SimBeamline((112, 160), seed=3)
    beamline.load_volume(SETTINGS)
    truth = beamline.volume_truth("Ni_K")
    random = np.random.default_rng(1)
    shape = truth.density.shape
    # What a reconstruction leaves: resolution and noise.
    density = ndimage.gaussian_filter(truth.density, 0.8) + 0.04 * random.standard_normal(shape)
    sigma = np.where(truth.density > 0.3, 0.05, np.nan)
    soc = truth.soc + sigma * random.standard_normal(shape)
    found = analyse_volume(
        density, voxel_size_nm=truth.voxel_size_nm, soc=soc, soc_sigma=sigma, source="simulated electrode"
    )
    draw_volume(found, OUT)
    picture = Image.open(OUT).convert("RGB")
    picture.quantize(128).save(OUT, optimize=True)
    print(f"{OUT.name}: {OUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
