"""From optical depth of projections to a volume of the state of charge: sums against energy by energy, CPU seconds."""

import argparse
import time

import numpy as np

from edge_fitting import FilteredBackProjection, ProjectionSums, SumFunctions, fit_stack, reconstruct, warm_up
from nimco.testing import ScanDocuments

SIGMA = 3e-3
OVER_FIELD = 0.35


def projections_of(size, n_angles, mu):
    """Optical depth of a cylinder of one state, shape (n_angles, size, size), for a certain absorption per voxel."""
    rng = np.random.default_rng(1)
    x = np.arange(size) - 0.5 * (size - 1)
    chord = 2.0 * np.sqrt(np.clip((OVER_FIELD * size) ** 2 - x**2, 0.0, None))
    noise = SIGMA * rng.standard_normal((n_angles, size, size), np.float32)
    return (mu * chord).astype(np.float32) + noise


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--energies", type=int, default=68)
    parser.add_argument("--angles", type=int, default=180)
    given = parser.parse_args()
    warm_up()
    documents = ScanDocuments((8, 8), n_energies=given.energies)
    energies_ev, references = documents.energies_ev, documents.references
    given.energies = len(energies_ev)
    angles = np.arange(given.angles) * 180.0 / given.angles
    functions = SumFunctions(references, energies_ev, np.ones(given.energies))
    spectrum = 0.01 * (0.3 + references.evaluate(energies_ev, 0.5).reshape(-1))
    sums = ProjectionSums(functions, tuple(angles), (given.size, given.size))
    summing = 0.0
    kept = np.empty((given.angles, given.energies, given.size, given.size), np.float32)
    volumes = np.empty((given.energies, given.size, given.size, given.size), np.float32)
    projector = FilteredBackProjection(angles, given.size, 0.5 * (given.size - 1))
    for k, energy_ev in enumerate(energies_ev):
        depth = projections_of(given.size, given.angles, spectrum[k])
        began = time.process_time()
        for place in range(given.angles):
            sums.push(place, k, float(energy_ev), depth[place], 1.0)
        summing += time.process_time() - began
        kept[:, k] = depth
    # All energies of a slice at once, as the sums: the same kernel, and the best it can do.
    began = time.process_time()
    for row in range(given.size):
        volumes[:, row] = projector.slice(np.ascontiguousarray(kept[:, :, row]))
    each_s = time.process_time() - began
    began = time.process_time()
    found = reconstruct(sums.even(), functions)
    reconstructing = time.process_time() - began
    began = time.process_time()
    flat = volumes.reshape(given.energies, given.size, -1)
    fit = fit_stack(energies_ev, flat, edge="Ni_K", references=references)
    fit_s = time.process_time() - began
    soc = fit.soc.reshape(given.size, given.size, given.size)
    both = np.isfinite(soc) & np.isfinite(found.values["soc"])
    print(
        f"{given.size}-cube, {given.energies} energies, {given.angles} angles, {functions.size} volumes of sums"
    )
    print(f"sums: adding {summing:.1f} s, reconstruction and fit {reconstructing:.1f} s")
    print(f"energy by energy: reconstruction {each_s:.1f} s, fit {fit_s:.1f} s")
    print(f"reconstruction and fit {(each_s + fit_s) / reconstructing:.1f} times faster from sums")
    print(f"with the adding {(each_s + fit_s) / (reconstructing + summing):.1f} times")
    print(
        f"largest difference of SOC {np.abs(soc - found.values['soc'])[both].max():.1e} in {both.sum()} voxels"
    )


if __name__ == "__main__":
    main()
