"""Draw one example of each warning of a map: docs/figures/warning_*.png, and print what is said."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from callbacks import LiveSOC
from edge_fitting import EdgeFitter, EdgeMaps, ReferenceSeries, fit_stack, register_stack
from nimco.testing import ScanDocuments
from sim_devices import SimBeamline

FOLDER = Path(__file__).parent
SIZE = 128
COUNTS = 8000.0
STATES = np.linspace(0.0, 1.0, 9)
ENERGY_EV = np.r_[8220:8330:12.0, 8330:8366:1.0, 8370:8520:12.0]
BAD = int(np.argmin(np.abs(ENERGY_EV - 8345.0)))
Array = np.ndarray


def spectrum(energy_ev: Array, soc: Array) -> Array:
    """Step and white line that move by 2 eV over the range of states; shape (..., n_energies)."""
    centre = 8343.0 + 2.0 * np.asarray(soc)[..., None]
    line = np.exp(-(((energy_ev - centre - 7.0) / 3.5) ** 2))
    return (
        0.5 + np.arctan((energy_ev - centre) / 1.6) / np.pi + (0.5 + 0.1 * np.asarray(soc)[..., None]) * line
    )


def references(offset_ev: float = 0.0) -> ReferenceSeries:
    """Spectra of nine states on an axis that may be off."""
    fine = np.arange(8190.0, 8560.0, 0.5)
    return ReferenceSeries(fine, spectrum(fine + offset_ev, STATES), STATES)


class Sample:
    """State and jump of the particles of the twin, and frames with counting noise."""

    def __init__(self, scale: float = 1.0) -> None:
        truth = SimBeamline((SIZE, SIZE), seed=4).truth("Ni_K")
        self.random = np.random.default_rng(5)
        self.soc, self.jump = np.clip(truth.soc, 0.0, 1.0), scale * truth.jump
        self.known = np.nan_to_num(self.soc, nan=0.5)

    def depth(self, energy_ev: Array = ENERGY_EV, soc: Array | None = None) -> Array:
        """Optical depth without noise, shape (n_energies, rows, columns)."""
        mu = np.moveaxis(spectrum(energy_ev, self.known if soc is None else soc), -1, 0)
        return self.jump * (0.3 + mu)

    def counted(self, through: Array) -> Array:
        """Optical depth from counts of a transmission."""
        counts = self.random.poisson(COUNTS * through).clip(1)
        return -np.log(counts / COUNTS).astype(np.float32)


def draw(name: str, sample: Any, maps: Any, energy_ev: Array) -> None:
    """Draw map, error, and what the frames have beyond the fit."""
    figure, axes = plt.subplots(1, 3, figsize=(9.0, 2.7), dpi=80, layout="constrained")
    axes[0].imshow(maps.soc, vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
    axes[0].set_title("state of charge", fontsize=9)
    error = axes[1].imshow(maps.soc - sample.soc, vmin=-0.3, vmax=0.3, cmap="RdBu_r", interpolation="nearest")
    difference = maps.soc - sample.soc
    mean = f": mean {np.nanmean(difference):+.3f}" if np.isfinite(difference).any() else ""
    axes[1].set_title(f"minus truth{mean}", fontsize=9)
    figure.colorbar(error, ax=axes[1])
    for axis in axes[:2]:
        axis.set_xticks([])
        axis.set_yticks([])
    if maps.frame_energy_ev is not None and maps.frame_residual is not None:
        axes[2].plot(maps.frame_energy_ev, maps.frame_residual, ".-", markersize=3, linewidth=0.8)
    for left_out in maps.left_out_ev:
        axes[2].axvline(left_out, color="firebrick", linewidth=0.8, linestyle="--")
    axes[2].set_xlim(energy_ev.min(), energy_ev.max())
    axes[2].set_title("residual of the frames (optical depth)", fontsize=9)
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    out = FOLDER / f"warning_{name}.png"
    picture.quantize(128).save(out, optimize=True)
    plt.close(figure)
    print(f"{out.name}: {out.stat().st_size / 1e3:.0f} kB, chi2 {maps.chi2}")
    for said in maps.warnings:
        print("   ", said)


def frame_that_is_off() -> tuple[Sample, EdgeMaps, Array]:
    """One frame has 0.2 of optical depth too much."""
    sample = Sample()
    stack = sample.counted(np.exp(-sample.depth()))
    stack[BAD] += np.float32(0.2)
    return sample, fit_stack(ENERGY_EV, stack, references=references()), ENERGY_EV


def sample_that_changes() -> tuple[Sample, EdgeMaps, Array]:
    """Energies are taken again after the sample has changed."""
    sample = Sample()
    again = ENERGY_EV[14:40:4]
    through = np.exp(-np.concatenate([sample.depth(), sample.depth(again, sample.known + 0.25)]))
    energy = np.r_[ENERGY_EV, again]
    return sample, fit_stack(energy, sample.counted(through), references=references()), energy


def veiled() -> tuple[Sample, Array]:
    """Two per cent of the open beam reach the camera beside a thick sample."""
    sample = Sample(4.0)
    return sample, sample.counted(0.98 * np.exp(-sample.depth()) + 0.02)


def light_left_in() -> tuple[Sample, EdgeMaps, Array]:
    """Fit the frames as they come, one by one."""
    sample, stack = veiled()
    fitter = EdgeFitter((SIZE, SIZE), references=references())
    fitter.push(ENERGY_EV, stack)
    return sample, fitter.maps(final=True), ENERGY_EV


def light_taken_out() -> tuple[Sample, EdgeMaps, Array]:
    """Fit the stack, whose thick pixels tell how much light it is."""
    sample, stack = veiled()
    return sample, fit_stack(ENERGY_EV, stack, references=references()), ENERGY_EV


def thick_pixels() -> tuple[Sample, EdgeMaps, Array]:
    """Take particles three times as thick, with a tenth of a per cent of the open beam: too little to be found."""
    sample = Sample(3.0)
    stack = sample.counted(0.999 * np.exp(-sample.depth()) + 0.001)
    return sample, fit_stack(ENERGY_EV, stack, references=references()), ENERGY_EV


def no_sample() -> tuple[Sample, EdgeMaps, Array]:
    """Look beside the sample."""
    sample = Sample()
    stack = sample.counted(np.ones((ENERGY_EV.size, SIZE, SIZE)))
    return sample, fit_stack(ENERGY_EV, stack, references=references()), ENERGY_EV


def hit_pixels() -> tuple[Any, Any, Array]:
    """Let cosmic rays hit a thousandth of the pixels of each frame of a live scan."""
    scan = ScanDocuments((SIZE, SIZE), noise=True, counts=COUNTS)
    random = np.random.default_rng(7)
    steps = []
    for stream, index, image, *changes in scan.steps():
        hit = (random.random(image.shape) < 0.001) & (stream == "primary")
        counts = np.where(hit, np.minimum(image + random.uniform(500, 5000, image.shape), 65535), image)
        steps.append((stream, index, counts.astype(np.uint16), *changes))
    with LiveSOC(update_period_s=1e9) as live:
        for document in scan.run(steps):
            live(*document)
        live.wait()
        result = live.latest()
    maps = SimpleNamespace(
        soc=result["soc"].values,
        frame_energy_ev=result["frame_energy_ev"].values,
        frame_residual=result["frame_residual_od"].values,
        left_out_ev=(),
        chi2=result.attrs["chi2"],
        warnings=result.attrs["warnings"],
    )
    return scan, maps, scan.energies_ev


def axis_that_is_off() -> tuple[Sample, EdgeMaps, Array]:
    """Take references that are half an eV off."""
    sample = Sample()
    stack = sample.counted(np.exp(-sample.depth()))
    return sample, fit_stack(ENERGY_EV, stack, references=references(0.5)), ENERGY_EV


def foreign_phase() -> tuple[Sample, EdgeMaps, Array]:
    """Put three tenths of the metal into a phase that is not in the series."""
    sample = Sample()
    centre = 8344.0
    other = 0.5 + np.arctan((ENERGY_EV - centre) / 0.8) / np.pi
    other += 0.9 * np.exp(-(((ENERGY_EV - centre - 5.0) / 2.0) ** 2))
    depth = 0.7 * sample.depth() + 0.3 * sample.jump * (0.3 + other[:, None, None])
    return sample, fit_stack(ENERGY_EV, sample.counted(np.exp(-depth)), references=references()), ENERGY_EV


def drifting() -> tuple[Sample, Array]:
    """Let the sample move by nine pixels during the scan."""
    sample = Sample()
    depth = sample.depth()
    for k in range(ENERGY_EV.size):
        depth[k] = np.roll(depth[k], round(9.0 * k / ENERGY_EV.size), axis=1)
    return sample, sample.counted(np.exp(-depth))


def sample_that_drifts() -> tuple[Sample, EdgeMaps, Array]:
    """Fit a sample that moves as it comes."""
    sample, stack = drifting()
    return sample, fit_stack(ENERGY_EV, stack, references=references()), ENERGY_EV


def sample_put_back() -> tuple[Sample, EdgeMaps, Array]:
    """Register it first."""
    sample, stack = drifting()
    found = register_stack(ENERGY_EV, stack, references=references())
    return sample, fit_stack(ENERGY_EV, found.optical_depth, references=references()), ENERGY_EV


EXAMPLES: dict[str, Callable[[], tuple[Any, Any, Array]]] = {
    "frame": frame_that_is_off,
    "changed": sample_that_changes,
    "stray_light": light_left_in,
    "stray_light_taken_out": light_taken_out,
    "thick": thick_pixels,
    "no_value": no_sample,
    "hit": hit_pixels,
    "axis": axis_that_is_off,
    "foreign": foreign_phase,
    "drift": sample_that_drifts,
    "drift_put_back": sample_put_back,
}


if __name__ == "__main__":
    for example, make in EXAMPLES.items():
        draw(example, *make())
