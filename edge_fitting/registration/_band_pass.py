"""Frames reduced to the structure that a shift can be read from."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter1d

from edge_fitting.base import read_only

from ._registration_kernels import LANCZOS, band_pass
from ._run import run

Frame = NDArray[np.float32]
Mask = NDArray[np.uint8]
Array = NDArray[np.float64]

#: Widths (standard deviations in pixels) before the data have shown which are best.
FIRST_WIDTHS = (1.0, 4.0)
_NARROW = (0.5, 0.7, 1.0, 1.4, 2.0)
_WIDE = (2.0, 3.0, 4.0, 6.0, 9.0)


class BandPass:
    """Difference of Gaussians of frames of one shape.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    widths : tuple of float
        Standard deviations of the narrow and the wide Gaussian in pixels.
    """

    def __init__(self, shape: tuple[int, int], widths: tuple[float, float] = FIRST_WIDTHS) -> None:
        self.shape = shape
        self.widths = widths
        self._kernels = [_half_gaussian(width) for width in widths]
        self._buffers = [np.empty(shape, np.float32) for _ in range(2)]
        reach = min(math.ceil(widths[1]) + LANCZOS, max(min(shape) // 6, 1))
        self._complete: Mask = np.zeros(shape, np.uint8)
        self._complete[reach : shape[0] - reach, reach : shape[1] - reach] = 1

    def __call__(self, frame: Frame) -> tuple[Frame, Mask]:
        """Return the band-passed frame, and where it is to be trusted.

        Values that are not finite are replaced by the last finite one of their row, and what they reach is masked, as
        are the borders.
        """
        usable = self._complete
        with np.errstate(over="ignore", invalid="ignore"):
            complete = bool(np.isfinite(frame.sum()))
        if not complete:
            finite = np.isfinite(frame)
            frame = _filled(frame, finite)
            reach = 2 * (math.ceil(self.widths[1]) + LANCZOS) + 1
            grown = finite.astype(np.uint8)
            for axis in (0, 1):
                grown = minimum_filter1d(grown, reach, axis=axis, mode="nearest")
            usable = usable & grown
        out = np.empty(self.shape, np.float32)
        run(band_pass, out.size, read_only(frame), *self._kernels, *self._buffers, out)
        return out, usable

    def transfer(self, frequency: Array) -> Array:
        """Transfer function at frequencies in 1/px."""
        return _transfer(self.widths, frequency)


def _half_gaussian(width: float) -> Frame:
    half = np.exp(-0.5 * (np.arange(math.ceil(3.0 * width) + 1) / width) ** 2)
    normalised: Frame = (half / (2.0 * half.sum() - half[0])).astype(np.float32)
    return normalised


def _transfer(widths: tuple[float, float], frequency: Array) -> Array:
    narrow, wide = (np.exp(-2.0 * (math.pi * width * frequency) ** 2) for width in widths)
    return narrow - wide


def _filled(frame: Frame, finite: NDArray[np.bool_]) -> Frame:
    """Replace values that are not finite by neighbours: along the rows, then along the columns."""
    out = np.where(finite, frame, np.float32(0.0))
    known = finite
    for axis in (1, 0):
        if known.all():
            break
        out, known = _carried(out, known, axis)
        back, known_back = _carried(np.flip(out, axis), np.flip(known, axis), axis)
        out, known = np.flip(back, axis), np.flip(known_back, axis)
    return np.ascontiguousarray(out)


def _carried(values: Frame, known: NDArray[np.bool_], axis: int) -> tuple[Frame, NDArray[np.bool_]]:
    shape = [1, 1]
    shape[axis] = -1
    places = np.arange(values.shape[axis]).reshape(shape)
    last = np.maximum.accumulate(np.where(known, places, 0), axis=axis)
    return np.take_along_axis(values, last, axis), np.take_along_axis(known, last, axis)


class SpectrumRings:
    """Power of an image by frequency, averaged over directions.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._window = np.outer(np.hanning(shape[0] + 2)[1:-1], np.hanning(shape[1] + 2)[1:-1]).astype(
            np.float32
        )
        distance = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
        n_rings = max(min(min(shape) // 4, 48), 4)
        self._ring = np.minimum((distance * 2.0 * n_rings).astype(np.int64), n_rings).ravel()
        self._members = np.bincount(self._ring, minlength=n_rings + 1)[:n_rings]
        self.frequency: Array = ((np.arange(n_rings) + 0.5) / (2.0 * n_rings)).astype(np.float64)

    def __call__(self, image: Frame) -> Array:
        """Mean power in each ring."""
        power = np.abs(np.fft.rfft2(image * self._window)).ravel() ** 2
        n = self._members.size
        return np.bincount(self._ring, weights=power, minlength=n + 1)[:n] / np.maximum(self._members, 1)


def choose_widths(
    frequency: Array, signal: Array, residual: Array, present: tuple[float, float]
) -> tuple[float, float]:
    """Widths with the least variance of a shift, for the spectra of a stack.

    A shift read from frames filtered by h has the variance ``sum f^3 h^4 s n / (sum f^3 h^2 s)^2``, with s the power of
    the structure and n that of what differs from it, noise and misfit alike (one power of f from the ring's area).

    Parameters
    ----------
    frequency, signal, residual : ndarray, shape (n,)
        Frequencies in 1/px; power of the template and of the frames' residuals, both seen through ``present``.
    present : tuple of float
        Widths of the filter that both were seen through.

    Returns
    -------
    tuple of float
    """
    seen = _transfer(present, frequency) ** 2
    use = seen > 0.02 * seen.max()
    if not use.any() or not signal[use].sum() > 0:
        return present
    f, s, n = frequency[use], signal[use] / seen[use], residual[use] / seen[use]
    # What the residuals hold is in part in the template, too: less of it is structure.
    best, least = present, math.inf
    for narrow, wide in product(_NARROW, _WIDE):
        if wide < 2.0 * narrow:
            continue
        h2 = _transfer((narrow, wide), f) ** 2
        variance = float((f**3 * h2**2 * s * n).sum() / (f**3 * h2 * s).sum() ** 2)
        if variance < least:
            best, least = (narrow, wide), variance
    return best
