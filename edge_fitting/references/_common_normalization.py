"""One rule of normalisation for all spectra of a series."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_fitting.errors import EdgeFittingError

from ._edge_step import line_and_step
from ._edge_there import no_edge, sigma_of_step

Array = NDArray[np.float64]

# White lines are looked for so near to the steepest rise, and at energies where there are L edges.
_WHITE_LINE_EV = 6.0
_SOFT_EV = 2000.0
# A white line is higher than the noise of the pre-edge by this.
_STANDS_OUT = 5.0


def merge_repeats(energies: Array, spectra: Array) -> tuple[Array, Array]:
    """Average repeated energies of spectra; return the different ones, increasing, and the spectra there."""
    unique, where, counts = np.unique(energies, return_inverse=True, return_counts=True)
    merged = np.zeros((spectra.shape[0], unique.size))
    np.add.at(merged.T, where, spectra.T)
    return unique, merged / counts


def beside_edge(energies: Array, mean: Array) -> tuple[float, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where a spectrum is steepest, and which energies are beside that: below it and above."""
    # The steepest chord over neighbouring points, wide enough not to be one noisy step.
    slope = (mean[2:] - mean[:-2]) / (energies[2:] - energies[:-2])
    edge_ev = float(energies[1 + int(np.argmax(slope))])
    below = energies <= edge_ev - min(20.0, 0.5 * (edge_ev - energies[0]))
    above = energies >= edge_ev + min(80.0, 0.5 * (energies[-1] - edge_ev))
    return edge_ev, below, above


def _by_white_line(energies: Array, spectra: Array, below: NDArray[np.bool_], edge_ev: float) -> Array | None:
    """Take the pre-edge off and divide by the height of the white line; None where there is no white line."""
    x = energies - edge_ev
    # A line from less than it is carried over would say more of the noise than of the pre-edge.
    order = 1 if below.sum() > 2 and np.ptp(x[below]) > -x[below].max() + _WHITE_LINE_EV else 0
    powers = np.polynomial.polynomial.polyvander(x, order)
    above = spectra - (powers @ np.linalg.lstsq(powers[below], spectra[:, below].T, rcond=None)[0]).T
    near = (x > -_WHITE_LINE_EV) & (x < _WHITE_LINE_EV)
    height = above[:, near].max(axis=1)
    rest = above[:, ~near & ~below].max(axis=1, initial=0.0)
    noise = above[:, below].std(axis=1)
    if not ((height > _STANDS_OUT * noise) & (height > rest)).all():
        return None
    return np.asarray(above / height[:, None])


def normalise_by_white_line(energies: Array, spectra: Array) -> tuple[Array, float]:
    """Take the pre-edge off and divide by the height of the white line; also where the mean is steepest.

    Raises
    ------
    EdgeFittingError
        Where a white line does not stand out of the noise.
    """
    edge_ev, below, _ = beside_edge(energies, spectra.mean(axis=0))
    normalised = _by_white_line(energies, spectra, below, edge_ev)
    if normalised is None:
        raise EdgeFittingError("the spectrum has no white line that stands out of its noise.")
    return normalised, edge_ev


def normalise_together(
    energies: Array, spectra: Array, names: Sequence[str] | None = None
) -> tuple[Array, float]:
    """Pre-edge line and step at the mean spectrum's steepest point, by the same linear rule for all.

    Spectra of soft X-rays whose step is not seen beside their white line are normalised by the height of that.

    Parameters
    ----------
    energies : ndarray, shape (n_energy,)
        Increasing energies.
    spectra : ndarray, shape (n, n_energy)
        Absorption in any unit.
    names : sequence of str, optional
        What they are called, where they are references, which must have an edge; a scan's own spectra need not.
    """
    mean = spectra.mean(axis=0)
    edge_ev, below, above = beside_edge(energies, mean)
    n_ends = max(2, energies.size // 10)
    level, slope, step = line_and_step(energies, spectra, edge_ev, below | above).T[:, :, None]
    first, last = (mean[part].mean() for part in (slice(n_ends), slice(-n_ends, None)))
    least = 1e-3 * max(float(np.abs(last - first)), float(np.ptp(mean)), 1e-12)
    is_soft = edge_ev < _SOFT_EV
    must_have_edge = names is not None and not is_soft
    step_sigma = sigma_of_step(energies, below | above, edge_ev) if must_have_edge else 0.0
    for number, (spectrum, size) in enumerate(zip(spectra, step[:, 0], strict=True)):
        if must_have_edge:
            reason = no_edge(energies, spectrum, float(size), step_sigma, below | above, edge_ev, least)
        else:
            reason = None if size > least else "has no rising edge"
        if reason is None:
            continue
        normalised = _by_white_line(energies, spectra, below, edge_ev) if is_soft else None
        if normalised is not None:
            return normalised, edge_ev
        name = f"reference {number}" if names is None else names[number]
        raise EdgeFittingError(
            f"{name} {reason} from {energies[0]:g} to {energies[-1]:g} eV: give absorption spectra that step up."
        )
    if (np.abs(spectra[:, below].mean(axis=1)) < 0.05).all() and (
        np.abs(spectra[:, above].mean(axis=1) - 1.0) < 0.1
    ).all():
        # Normalised already: respect how.
        return spectra.copy(), edge_ev
    return (spectra - level - slope * (energies - edge_ev)) / step, edge_ev
