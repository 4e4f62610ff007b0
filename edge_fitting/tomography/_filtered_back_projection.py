"""Filtered back projection of many functions at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from edge_fitting.base import launch
from edge_fitting.errors import EdgeFittingError

from ._backprojection_kernels import back_project
from ._voxel_noise import FILTERS

__all__ = ["FilteredBackProjection", "angle_weights"]

Array = NDArray[np.float64]
Image = NDArray[np.float32]

# A gap in the angles does not make its neighbours count more than so many times the usual.
_MOST_WEIGHT = 1.5


def angle_weights(angles_deg: ArrayLike) -> Array:
    """Return what each angle stands for in radians: half the way to its neighbours, over half a turn.

    Parameters
    ----------
    angles_deg : array_like, shape (n,)
        Angles in any order; those that lie half a turn apart show the same.
    """
    turned = np.mod(np.asarray(angles_deg, np.float64), 180.0)
    order = np.argsort(turned, kind="stable")
    ahead = np.diff(turned[order], append=turned[order[0]] + 180.0)
    weights = np.empty(turned.size)
    weights[order] = np.radians(0.5 * (ahead + np.roll(ahead, 1)))
    return np.minimum(weights, _MOST_WEIGHT * max(float(np.median(weights)), 1e-12))


class FilteredBackProjection:
    """Filtered back projection for certain angles and a certain axis.

    Parameters
    ----------
    angles_deg : array_like, shape (n_angles,)
        Angles.
    n_cols : int
        Columns of the detector; slices have as many voxels along both sides.
    centre_px : float
        Column of the axis of rotation, counted from 0 at the middle of the first.
    filter_name : {"hann", "ramp"}
        Window on the ramp filter.

    Raises
    ------
    EdgeFittingError
        The axis is outside of the field, or there is no such filter.
    """

    def __init__(
        self, angles_deg: ArrayLike, n_cols: int, centre_px: float, *, filter_name: str = "hann"
    ) -> None:
        if filter_name not in FILTERS:
            raise EdgeFittingError(f"there is no filter {filter_name!r}; choose one of {', '.join(FILTERS)}")
        if not 0.0 <= centre_px <= n_cols - 1:
            raise EdgeFittingError(
                f"the axis of rotation at column {centre_px:g} is outside of the field of {n_cols} columns"
            )
        turn = np.radians(np.asarray(angles_deg, np.float64))
        self._cosines, self._sines = np.cos(turn).astype(np.float32), np.sin(turn).astype(np.float32)
        self._weights = angle_weights(angles_deg)
        self._centre = float(centre_px)
        self._n_cols = n_cols
        self._length = fft.next_fast_len(2 * n_cols, real=True)
        self._window = _ramp(self._length, filter_name)

    def slice(self, sinogram: Image) -> Image:
        """Reconstruct one slice.

        Parameters
        ----------
        sinogram : ndarray of float32, shape (n_angles, n_functions, cols)
            Projections of one row of the detector.

        Returns
        -------
        ndarray of float32, shape (n_functions, cols, cols)
            Per voxel; 0 outside of the circle that the field sees at every angle.
        """
        n_functions = sinogram.shape[1]
        spectrum = fft.rfft(sinogram, self._length, axis=2)
        spectrum *= self._window
        filtered = fft.irfft(spectrum, self._length, axis=2)[:, :, : self._n_cols]
        filtered *= self._weights.astype(np.float32)[:, None, None]
        # A round number of functions lies evenly in the registers.
        padded = np.zeros((filtered.shape[0], self._n_cols, -(-n_functions // 4) * 4), np.float32)
        padded[:, :, :n_functions] = filtered.transpose(0, 2, 1)
        out = np.empty((self._n_cols, self._n_cols, padded.shape[2]), np.float32)
        launch(back_project, padded, self._cosines, self._sines, self._centre, out)
        slices: Image = np.ascontiguousarray(out[:, :, :n_functions].transpose(2, 0, 1))
        return slices


def _ramp(length: int, filter_name: str) -> Image:
    """Return the Fourier transform of the band-limited ramp, which keeps the mean of what is padded, and its window."""
    n = np.minimum(np.arange(length), length - np.arange(length))
    kernel = np.where(n % 2 == 1, -1.0 / (np.pi * np.maximum(n, 1)) ** 2, 0.0)
    kernel[0] = 0.25
    window = np.real(fft.rfft(kernel))
    if filter_name == "hann":
        window *= 0.5 * (1.0 + np.cos(np.pi * np.arange(window.size) / (window.size - 1)))
    return np.asarray(window, np.float32)
