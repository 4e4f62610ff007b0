"""What the noise of a scan's own mean spectrum adds to edge energies that are measured against it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import Edge, FitStatus, noise_of_differences
from edge_fitting.errors import EdgeFittingError
from edge_fitting.references import half_jump_of_spectra
from edge_fitting.stack import mean_spectrum

# The mean of more pixels than this adds less than a hundredth to the sigma of each.
_NEGLIGIBLE_PIXELS = 2000

_Array = NDArray[np.float64]
_Frame = NDArray[np.float32]


def add_own_error(
    edge: Edge, energy_ev: _Array, weights: _Array, stack: _Frame, values: _Frame, status: NDArray[np.uint8]
) -> None:
    """Add the error of the half-jump of the scan's own mean spectrum, which all pixels share, to their sigmas.

    Parameters
    ----------
    edge : Edge
        Edge that was scanned.
    energy_ev, weights : ndarray, shape (n_frames,)
        Energies in eV and weights of the frames.
    stack : ndarray of float32, shape (n_frames, n_pixels)
        Optical depth.
    values : ndarray of float32, shape (8, n_pixels)
        Values of the fit in the order of EdgeMaps; sigmas of the edge energy are changed.
    status : ndarray of uint8, shape (n_pixels,)
        Status codes; ``UNCERTAIN`` where no error can be given.
    """
    n_complete = int(np.isfinite(stack.sum(axis=0)).sum())
    if n_complete > _NEGLIGIBLE_PIXELS:
        return
    mean = mean_spectrum(stack)
    found = status <= FitStatus.ABOVE_RANGE
    if n_complete > 1:
        noise2 = float(np.nanmean(values[6].astype(np.float64) ** 2)) / (n_complete - 1)
    else:
        # A pixel that is its own mean has no residuals.
        alone, _ = noise_of_differences(energy_ev, weights, mean[:, None].astype(np.float32))
        if alone is None:
            _refuse(values, status, found)
            return
        noise2 = float(alone[0])
        values[6, found] = np.sqrt(noise2)
    # The mean, and the same with each of its values moved by one standard deviation.
    moved = np.concatenate([[mean], mean + np.diag(np.sqrt(noise2 / weights))])
    try:
        half_jump_ev = half_jump_of_spectra(energy_ev, moved, by_white_line=edge.is_by_white_line)
    except EdgeFittingError:  # noise of one frame hides the edge
        _refuse(values, status, found)
        return
    changes = half_jump_ev[1:] - half_jump_ev[0]
    values[3, found] = np.hypot(values[3, found], np.sqrt(np.nansum(np.square(changes))))


def _refuse(values: _Frame, status: NDArray[np.uint8], found: NDArray[np.bool_]) -> None:
    values[:4, found] = np.nan
    status[found] = FitStatus.UNCERTAIN
