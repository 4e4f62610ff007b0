"""What is left of a sample's spectra that no state of the references holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.references import ReferenceSeries

from ._strong_pixels import strong_pixels

Array = NDArray[np.float64]

# A common residual above this part of the jump (rms) is of spectra that the references do not have.
_LEAST_RMS = 0.015
_N_UNKNOWNS = 4


def foreign_warnings(
    series: ReferenceSeries,
    energy_ev: Array,
    stack: NDArray[np.float32],
    weight: Array,
    soc: Array,
    jump: Array,
) -> tuple[str, ...]:
    """Say whether the pixels have a residual spectrum in common, as another phase or material leaves.

    Parameters
    ----------
    series : ReferenceSeries
        The references.
    energy_ev, weight : ndarray, shape (n_frames,)
        Energies on the references' axis, and weights.
    stack : ndarray of float32, shape (n_frames, n_pixels)
        Optical depth.
    soc, jump : ndarray, shape (n_pixels,)
        What was fitted; NaN where nothing was.

    Returns
    -------
    tuple of str
        One sentence, or none.
    """
    usable = np.isfinite(soc) & np.isfinite(jump) & np.isfinite(stack).all(axis=0)
    if energy_ev.size <= 2 * _N_UNKNOWNS:
        return ()
    strong = strong_pixels(jump, usable)
    if not strong.size:
        return ()
    root = np.sqrt(weight / weight.mean())
    line = np.linalg.qr(np.stack([root, root * (energy_ev - energy_ev.mean())], axis=1))[0]
    data = root * stack[:, strong].T.astype(np.float64)
    held = root * series.evaluate(energy_ev, soc[strong])
    data -= (data @ line) @ line.T
    held -= (held @ line) @ line.T
    height = (held * data).sum(axis=1) / (held * held).sum(axis=1)
    residual = data - height[:, None] * held
    noise2 = (residual**2).sum(axis=1) / (energy_ev.size - _N_UNKNOWNS)
    total = float((height**2).sum())
    common = (height @ residual) / total
    left = float(np.mean(common**2)) - float((height**2 * noise2).sum()) / total**2
    if not left > _LEAST_RMS**2:
        return ()
    largest = int(np.argmax(np.abs(common)))
    return (
        f"the spectra of the sample are not those of the references at any state: a residual of {np.sqrt(left):.3f} "
        f"of the jump (rms) is common to the pixels, the most, {common[largest]:+.3f}, at {energy_ev[largest]:.1f} eV; "
        "another phase or material, stray light or a wrong normalisation of the references does so, and soc is biased.",
    )
