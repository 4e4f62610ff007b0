"""Print the table of docs/reference/simulated-spectra.md: the twin's spectra beside measured references.

Usage: ``python docs/figures/spectra_table.py FOLDER``, the folder holding ``Ni/``, ``Co/`` and ``Mn/``.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sim_devices import Twin

FOIL_EV = {"Ni": 8333.0, "Co": 7709.0, "Mn": 6539.0}
NEAR_EV = {"Ni": 8343.0, "Co": 7720.0, "Mn": 6549.0}
SI_111 = 1.3e-4
Columns = tuple[np.ndarray, np.ndarray, np.ndarray]


def absorption_with_foil(path: Path) -> Columns:
    energy, mu, foil = np.loadtxt(path).T[:3]
    return energy, mu, foil


def intensities(path: Path) -> Columns:
    energy, incident, through, behind = np.loadtxt(path).T[:4]
    return energy, np.log(incident / through), np.log(through / behind)


def operando(path: Path) -> Columns:
    energy, mu = np.loadtxt(path, usecols=(0, 1)).T
    return energy, mu, np.empty(0)


REFERENCES: list[tuple[str, str, str, Callable[[Path], Columns]]] = [
    ("NiO", "Ni", "Ni/ceric_NiO_111.xdi", absorption_with_foil),
    ("LiNiO2", "Ni", "Ni/perex_norm_op2_cell4_pos1_dq1_0001_av240_00001.txt", operando),
    ("NiO2", "Ni", "Ni/perex_norm_op2_cell4_pos1_dq1_0058_av240_00001.txt", operando),
    ("CoO", "Co", "Co/ceric_CoO_111_80K.xdi", absorption_with_foil),
    ("Co3O4", "Co", "Co/ceric_Co3O4_111_80K.xdi", absorption_with_foil),
    ("LiCoO2", "Co", "Co/ceric_LiCoO2_80K_111.xdi", absorption_with_foil),
    ("MnO", "Mn", "Mn/ceric_MnO.xdi", absorption_with_foil),
    ("Mn2O3", "Mn", "Mn/xaslib_Mn2O3_rt_01.xdi", intensities),
    ("MnO2", "Mn", "Mn/ceric_MnO2.xdi", absorption_with_foil),
]


def first_inflection(energy: np.ndarray, mu: np.ndarray, near: float) -> float:
    """First local maximum of the slope above 40 % of its largest value."""
    slope = np.convolve(np.gradient(mu, energy), np.ones(3) / 3, mode="same")
    window = np.flatnonzero(np.abs(energy - near) < 12)
    threshold = 0.4 * slope[window].max()
    return next(
        float(energy[i])
        for i in window
        if slope[i] > threshold and slope[i] >= slope[i - 1] and slope[i] > slope[i + 1]
    )


def normalised(energy: np.ndarray, mu: np.ndarray, e0: float) -> np.ndarray:
    """Pre-edge line taken off, post-edge curve divided out; a constant where the range is short."""
    before = energy < max(e0 - 30, energy[0] + 8)
    y = mu - np.polyval(np.polyfit(energy[before], mu[before], 1), energy)
    after = energy > e0 + 80
    if after.sum() < 12:
        return y / y[energy > energy[-1] - 12].mean()
    curve = np.polyfit(energy[after] - e0, y[after], 2)
    return np.where(energy > e0, y - np.polyval(curve, energy - e0) + curve[-1], y) / curve[-1]


def half_jump(energy: np.ndarray, mu: np.ndarray, near: float) -> float:
    window = (energy > near - 12) & (energy < near + 25)
    energy, mu = energy[window], mu[window]
    last = int(np.flatnonzero(mu[: np.argmax(mu)] < 0.5)[-1])
    step = energy[last + 1] - energy[last]
    return float(energy[last] + step * (0.5 - mu[last]) / (mu[last + 1] - mu[last]))


def white_line(energy: np.ndarray, mu: np.ndarray, near: float) -> float:
    window = (energy > near) & (energy < near + 20)
    return float(energy[window][np.argmax(mu[window])])


def main() -> None:
    folder = Path(sys.argv[1])
    print(
        "| compound | foil shift | half-jump measured | twin | white line measured | twin | rms difference |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, metal, path, read in REFERENCES:
        energy, mu, foil = read(folder / path)
        shift = FOIL_EV[metal] - first_inflection(energy, foil, FOIL_EV[metal]) if foil.size else 0.0
        energy = energy + shift
        near = NEAR_EV[metal]
        if foil.size:
            mu = normalised(energy, mu, near)
        fine = np.arange(near - 20, near + 35, 0.05)
        ours = Twin.true_spectrum(name, fine, SI_111)
        window = (energy > near - 20) & (energy < near + 35)
        rms = float(np.std(np.interp(energy[window], fine, ours) - mu[window]))
        print(
            f"| {name} | {shift:+.2f} | {half_jump(energy, mu, near):.2f} | {half_jump(fine, ours, near):.2f} "
            f"| {white_line(energy, mu, near):.2f} | {white_line(fine, ours, near):.2f} | {rms:.3f} |"
        )


if __name__ == "__main__":
    main()
