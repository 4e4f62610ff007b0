"""Single values that stick out of a spectrum: cosmic rays and pixels that were hot for one frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import launch

from ._check_kernels import find_zingers

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

# Standard deviations from the rest of the spectrum: none in 62 frames of 4 million pixels of noise alone.
_LEAST_Z = 6.5
# More values than this part of a spectrum are no single ones.
_MOST = 0.05


def mask_zingers(design: Array, spectra: Frame, variance: Frame) -> NDArray[np.bool_]:
    """Find single values that the rest of their spectrum does not bear out.

    The value that is off most, against the fit without it, is set aside and the rest looked at again.

    Parameters
    ----------
    design : ndarray, shape (n_frames, n_functions)
        Functions of energy of the fit.
    spectra : ndarray of float32, shape (n_frames, n_pixels)
        Optical depth of pixels that do not fit; those with missing values are passed over.
    variance : ndarray of float32, shape (n_frames, n_pixels)
        Of noise alone.

    Returns
    -------
    ndarray of bool, shape (n_frames, n_pixels)
        True for values to leave out; nothing of a spectrum in which too many are off.
    """
    out = np.zeros(spectra.shape, bool)
    complete = np.flatnonzero(np.isfinite(spectra).all(axis=0))
    if not complete.size:
        return out
    orthonormal = np.ascontiguousarray(np.linalg.qr(design)[0])
    left = (1.0 - np.sum(orthonormal**2, axis=1)).clip(0.05).astype(np.float32)
    found = np.zeros((complete.size, spectra.shape[0]), bool)
    launch(
        find_zingers,
        np.ascontiguousarray(spectra[:, complete].T),
        orthonormal,
        np.ascontiguousarray((variance[:, complete] * left[:, None]).T),
        _LEAST_Z,
        max(1, int(_MOST * spectra.shape[0])),
        found,
    )
    out[:, complete] = found.T
    return out
