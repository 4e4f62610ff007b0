"""The shift of one frame against what is expected of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from edge_fitting.base import read_only

from ._band_pass import Array, Frame, Mask
from ._registration_kernels import block_sums, resample
from ._run import run

_ROW, _COLUMN = np.triu_indices(6)
_N_SUMS = 22
_MOST_STEPS = 12
_LONGEST_STEP_PX = 1.5
_CONVERGED_PX = 0.005
# Steps that are this small, in pixels or standard deviations, make a shift good enough.
_AT_REST_PX = 0.05
_AT_REST_SIGMA = 0.3
# Amplitude of the expected structure over its standard deviation: less of it is no match.
_LEAST_SIGNIFICANCE = 5.0
_WORST_SIGMA_PX = 1.0
# A frame with less than this of the mean frame shows rounding, or what was taken out of all frames.
_LEAST_AMPLITUDE = 0.02
# A texture whose correlation with itself rises again to this gives more than one shift.
_REPEATS = 0.85


@dataclass(frozen=True, slots=True)
class Match:
    """Shift of a frame.

    Attributes
    ----------
    shift_px : tuple of float
        Displacement of its content (rows, columns) in pixels.
    sigma_px : tuple of float
        Standard deviations.
    quality : float
        Correlation of the band-passed frame with the structure expected, 0 to 1.
    significance : float
        Amplitude of that structure over its standard deviation.
    amplitude : float
        Amplitude of that structure over that of the mean frame.
    held : float
        Share of the structure (by squared gradient) that lies inside of the frame.
    converged : bool
        Whether the steps came to rest.
    block_shifts : ndarray, shape (n_blocks, 3)
        What each block of the frame would add to the shift, rows and columns, and its information (1/px**2).
    """

    shift_px: tuple[float, float]
    sigma_px: tuple[float, float]
    quality: float
    significance: float
    amplitude: float
    held: float
    converged: bool
    block_shifts: Array

    @property
    def found(self) -> bool:
        """Whether the frame shows the structure and the shift is known."""
        return (
            self.converged
            and self.significance > _LEAST_SIGNIFICANCE
            and self.amplitude > _LEAST_AMPLITUDE
            and max(self.sigma_px) < _WORST_SIGMA_PX
        )


class Matcher:
    """Gauss-Newton search of shifts for frames of one shape, and a coarse search where that has lost its way.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        size = max(6, min(32, min(shape) // 10))
        self._size = size
        self._sums = np.zeros((-(-shape[0] // size), -(-shape[1] // size), _N_SUMS))
        self._half = np.empty(shape, np.float32)
        self.moved = np.empty(shape, np.float32)
        self.known = np.empty(shape, np.uint8)

    @property
    def block_px(self) -> int:
        """Rows and columns of the blocks that `Match.block_shifts` speaks of."""
        return self._size

    def match(
        self,
        frame: Frame,
        usable: Mask,
        predicted: Frame,
        mean: Frame,
        mask: Mask,
        start_px: tuple[float, float],
    ) -> Match:
        """Find the shift from a start nearby.

        Afterwards ``moved`` and ``known`` hold the frame at that shift and where it has values.

        Parameters
        ----------
        frame, usable : ndarray, shape (rows, cols)
            Band-passed frame, and where it is to be trusted.
        predicted, mean : ndarray, shape (rows, cols)
            Band-passed: what is expected at this energy, and the mean of the registered frames.
        mask : ndarray of uint8, shape (rows, cols)
            Where both are known.
        start_px : tuple of float
            Where the search begins.

        Returns
        -------
        Match
        """
        shift = np.array(start_px, dtype=np.float64)
        share = (1.0, 0.0)
        limit = np.array(self.shape) - 2.0
        fit = None
        step, last, damping = np.full(2, np.inf), np.zeros(2), 1.0
        for k in range(_MOST_STEPS):
            if (np.abs(shift) > limit).any():
                break
            self.move(frame, usable, shift)
            self._sums[...] = 0.0
            run(
                block_sums, self.moved.size, read_only(self.moved), read_only(predicted), read_only(mean),
                read_only(self.known), share, read_only(mask), self._size, self._sums,
            )  # fmt: skip
            fit = _NormalEquations(self._sums.reshape(-1, _N_SUMS))
            if not fit.solved:
                break
            step = fit.step_px
            share = fit.share
            length = float(np.hypot(*step))
            if length < _CONVERGED_PX and k:
                break
            # Amplitudes and shift are found in turns: where they swing, smaller steps come to rest.
            damping = (
                0.5 * damping if float(step @ last) < -0.1 * length * float(np.hypot(*last)) else damping
            )
            last = step
            shift = shift + step * min(damping, _LONGEST_STEP_PX / length)
        if fit is None or not fit.solved:
            return _no_match(start_px)
        return Match(
            shift_px=(float(shift[0]), float(shift[1])),
            sigma_px=fit.sigma_px,
            quality=fit.quality,
            significance=fit.significance,
            amplitude=fit.amplitude,
            held=fit.held,
            converged=bool(np.hypot(*step) < max(_AT_REST_PX, _AT_REST_SIGMA * max(fit.sigma_px))),
            block_shifts=fit.block_shifts(),
        )

    def move(self, frame: Frame, usable: Mask, shift_px: Array) -> None:
        """Read a frame at a shift into ``moved``, and where it is known into ``known``."""
        row, col = float(shift_px[0]), float(shift_px[1])
        run(resample, self.moved.size, read_only(frame), row, col, 0.0, self._half, self.moved)
        _shift_mask(usable, (round(row), round(col)), self.known)

    def coarse(self, frame: Frame, usable: Mask, expected: Frame, mask: Mask) -> tuple[float, float]:
        """Whole-pixel shift with the highest cross correlation, found without a start."""
        size = [fft.next_fast_len(2 * n, real=True) for n in self.shape]
        here = fft.rfft2(expected * mask, size)
        there = fft.rfft2(frame * usable, size)
        score = fft.irfft2(there * np.conj(here), size)
        return _peak(score, self.shape)


def repeats_at(expected: Frame, mask: Mask) -> tuple[int, int] | None:
    """Shift at which a structure looks like itself again, or None.

    Parameters
    ----------
    expected : ndarray of float32, shape (rows, cols)
        Band-passed structure.
    mask : ndarray of uint8, shape (rows, cols)
        Where it is known.
    """
    shape = expected.shape
    size = [fft.next_fast_len(2 * n, real=True) for n in shape]
    inside = mask.astype(np.float32)
    image = fft.rfft2(expected * inside, size)
    power = fft.rfft2((expected * inside) ** 2, size)
    where = fft.rfft2(inside, size)
    product = fft.irfft2(image * np.conj(image), size)
    energy = fft.irfft2(power * np.conj(where), size)
    other = np.roll(np.flip(energy), 1, axis=(0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = product / np.sqrt(np.maximum(energy * other, 0.0))
    total = float((expected * inside).astype(np.float64).ravel() @ (expected * inside).ravel())
    if not total > 0:
        return None
    # Only where half of the structure overlaps is a correlation worth its name.
    correlation = np.where(np.minimum(energy, other) > 0.5 * total, correlation, 0.0)
    reach = [
        min(n, 1 + int(np.argmax(line < 0.3))) for n, line in zip(shape, _axes(correlation), strict=True)
    ]
    rows = _signed(size[0])[:, None]
    cols = _signed(size[1])[None, :]
    outside = (rows / (2.0 * reach[0])) ** 2 + (cols / (2.0 * reach[1])) ** 2 > 1.0
    correlation = np.where(outside, correlation, 0.0)
    place = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
    if correlation[place] < _REPEATS:
        return None
    return int(rows[place[0], 0]), int(cols[0, place[1]])


def _shift_mask(mask: Mask, shift: tuple[int, int], out: Mask) -> None:
    """Read a mask at points moved by whole pixels; 0 outside."""
    out[...] = 0
    there, here = [], []
    for n, s in zip(mask.shape, shift, strict=True):
        low, high = max(0, -s), min(n, n - s)
        if low >= high:
            return
        here.append(slice(low, high))
        there.append(slice(low + s, high + s))
    out[here[0], here[1]] = mask[there[0], there[1]]


def _axes(correlation: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    return correlation[:, 0], correlation[0, :]


def _signed(n: int) -> NDArray[np.int64]:
    return np.fft.fftfreq(n, 1.0 / n).round().astype(np.int64)


def _peak(score: NDArray[np.floating], shape: tuple[int, int]) -> tuple[float, float]:
    place = np.unravel_index(int(np.argmax(score)), score.shape)
    row, col = (
        int(p) if p < n else int(p) - size for p, n, size in zip(place, shape, score.shape, strict=True)
    )
    return float(row), float(col)


def _no_match(start_px: tuple[float, float]) -> Match:
    return Match(start_px, (math.inf, math.inf), 0.0, 0.0, 0.0, 0.0, False, np.zeros((0, 3)))


class _NormalEquations:
    """Least squares on {1, predicted, mean, gradient along rows, gradient along columns}, from sums of blocks."""

    def __init__(self, sums: Array) -> None:
        self.blocks = np.zeros((sums.shape[0], 6, 6))
        self.blocks[:, _ROW, _COLUMN] = sums[:, :21]
        self.blocks[:, _COLUMN, _ROW] = sums[:, :21]
        total = self.blocks.sum(axis=0)
        self.solved = bool(
            np.isfinite(total).all() and total[0, 0] > 50.0 and min(total[3, 3], total[4, 4]) > 0
        )
        if not self.solved:
            return
        scale = np.sqrt(np.maximum(np.diag(total)[:5], 1e-30))
        matrix = total[:5, :5] / np.outer(scale, scale)
        # Predicted and mean may be all but the same: the eigenvalues left out say nothing on either.
        values, vectors = np.linalg.eigh(matrix)
        keep = values > 1e-5
        inverse = (vectors[:, keep] / values[keep]) @ vectors[:, keep].T
        self._inverse = inverse / np.outer(scale, scale)
        self.beta = self._inverse @ total[:5, 5]
        self.share = (float(self.beta[1]), float(self.beta[2]))
        self.step_px: Array = -self.beta[3:5]
        self._total = total
        self.held = float(total[3, 3] + total[4, 4]) / max(float(sums[:, 21].sum()), 1e-30)
        # Scores of blocks: what each pulls the fit by. Their scatter is the uncertainty, whatever the noise is like.
        self._scores = self.blocks[:, :5, 5] - self.blocks[:, :5, :5] @ self.beta
        used = int((self.blocks[:, 0, 0] > 0).sum())
        inflation = used / max(used - 5.0, 1.0)
        covariance = self._inverse @ (self._scores.T @ self._scores) @ self._inverse * inflation
        sigma = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        self.sigma_px = (float(sigma[3]), float(sigma[4]))
        self._judge(covariance)

    def _judge(self, covariance: Array) -> None:
        total, beta = self._total, self.beta
        n = total[0, 0]
        centred = total[1:3, 1:3] - np.outer(total[0, 1:3], total[0, 1:3]) / n
        structure = float(beta[1:3] @ centred @ beta[1:3])
        self.amplitude = math.sqrt(max(structure, 0.0) / max(float(centred[1, 1]), 1e-30))
        data = float(total[5, 5] - total[0, 5] ** 2 / n)
        self.quality = math.sqrt(min(max(structure / data, 0.0), 1.0)) if data > 0 else 0.0
        # Amplitude along the structure found: linear in the two amplitudes.
        along = centred @ beta[1:3] / max(structure, 1e-30)
        variance = float(along @ covariance[1:3, 1:3] @ along)
        self.significance = 1.0 / math.sqrt(variance) if variance > 0 and structure > 0 else 0.0

    def block_shifts(self) -> Array:
        own = self.blocks[:, 3:5, 3:5]
        information = own[:, 0, 0] + own[:, 1, 1]
        scores = self._scores[:, 3:5]
        with np.errstate(invalid="ignore", divide="ignore"):
            shifts = -scores / np.stack([own[:, 0, 0], own[:, 1, 1]], axis=1)
        shifts = np.where(np.isfinite(shifts), np.clip(shifts, -3.0, 3.0), 0.0)
        return np.concatenate([shifts, information[:, None]], axis=1)
