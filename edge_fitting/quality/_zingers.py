"""Single values that stick out of a spectrum: cosmic rays and pixels that were hot for one frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

# Standard deviations from the rest of the spectrum: none in 62 frames of 4 million pixels of noise alone.
_LEAST_Z = 6.5
# More values than this part of a spectrum are no single ones.
_MOST = 0.05
_MEDIAN_OF_SQUARE = 0.4549364


def mask_zingers(design: Array, spectra: Frame, variance: Array) -> NDArray[np.bool_]:
    """Find single values that the rest of their spectrum does not bear out.

    The value that is off most, against the fit without it, is set aside and the rest looked at again.

    Parameters
    ----------
    design : ndarray, shape (n_frames, n_functions)
        Functions of energy of the fit.
    spectra : ndarray of float32, shape (n_frames, n_pixels)
        Optical depth of pixels that do not fit; NaN is missing.
    variance : ndarray, shape (n_frames, n_pixels)
        Of noise alone.

    Returns
    -------
    ndarray of bool, shape (n_frames, n_pixels)
        True for values to leave out; nothing of a spectrum in which too many are off.
    """
    out = np.zeros(spectra.shape, bool)
    orthonormal, _ = np.linalg.qr(design)
    hat = orthonormal @ orthonormal.T
    leverage = np.diag(hat)
    finite = np.isfinite(spectra).all(axis=0)
    filled = spectra.astype(np.float64)
    most = max(1, int(_MOST * spectra.shape[0]))
    active = np.flatnonzero(finite)
    columns = np.arange(spectra.shape[1])
    removed: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for _ in range(most):
        if not active.size:
            break
        residual = filled[:, active] - hat @ filled[:, active]
        own = np.sqrt(variance[:, active] * (1.0 - leverage)[:, None])
        # A pixel may have less light than the others, and more noise.
        noisier = np.median(residual**2 / own**2, axis=0) / _MEDIAN_OF_SQUARE
        own *= np.sqrt(np.maximum(noisier, 1.0))
        z = np.where(out[:, active], 0.0, np.abs(residual) / own)
        worst = z.argmax(axis=0)
        off = z[worst, np.arange(active.size)] > _LEAST_Z
        rows, active = worst[off], active[off]
        out[rows, active] = True
        removed.append((rows, columns[active]))
        # Values set aside take what the fit of the others says, which a few rounds of filling in reach.
        for _ in range(12):
            predicted = hat @ filled[:, active]
            filled[:, active] = np.where(out[:, active], predicted, filled[:, active])
    if active.size:
        out[:, active] = False
    return out
