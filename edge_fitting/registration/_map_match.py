"""Where one map lies on another: masked cross-correlation over all whole-pixel offsets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

Array = NDArray[np.float64]
#: Pixels known in both maps that a correlation needs to be worth its name.
_FEWEST_PIXELS = 64
_LEAST_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class MapMatch:
    """Where a map lies on another one.

    Parameters
    ----------
    offset_px : tuple of float
        Row and column of the other map at which its first pixel lies.
    correlation : float
        Pearson's correlation of both where they overlap, at the nearest whole pixel.
    n_pixels : int
        Pixels there that both know.
    """

    offset_px: tuple[float, float]
    correlation: float
    n_pixels: int


def match_maps(
    fixed: ArrayLike,
    moved: ArrayLike,
    *,
    expected_px: tuple[float, float] = (0.0, 0.0),
    reach_px: float | None = None,
) -> MapMatch | None:
    """Find where a map of the same scene lies on another one.

    Parameters
    ----------
    fixed, moved : array_like, shape (rows, cols)
        Maps, such as of the edge jump, NaN where they know nothing.
    expected_px : tuple of float
        Offset of the moved map to look around.
    reach_px : float, optional
        How far to look around it along rows and columns; by default a quarter of the smaller side.

    Returns
    -------
    MapMatch or None
        None where the maps have too few pixels in common, or no structure.

    Raises
    ------
    EdgeFittingError
        If a map has not two dimensions.

    Notes
    -----
    D. Padfield, Masked object registration in the Fourier domain, IEEE Trans. Image Process. 21, 2706 (2012): of the
    offsets at which at least a quarter of the most common pixels remain, the one with the highest correlation; between
    pixels by one step of least squares on the slopes of the fixed map there.
    """
    from scipy import fft

    a, b = (np.asarray(values, dtype=np.float64) for values in (fixed, moved))
    if a.ndim != 2 or b.ndim != 2:
        raise EdgeFittingError(f"maps must be (rows, cols), not of shapes {a.shape} and {b.shape}.")
    reach = min(a.shape) / 4.0 if reach_px is None else float(reach_px)
    masks = [np.isfinite(values) for values in (a, b)]
    if not all(mask.any() for mask in masks):
        return None
    # Without the means, the sums below lose no digits.
    a, b = (
        np.where(mask, values - values[mask].mean(), 0.0) for values, mask in zip((a, b), masks, strict=True)
    )
    size = [fft.next_fast_len(n + m, real=True) for n, m in zip(a.shape, b.shape, strict=True)]
    places = [np.arange(-m + 1, n) for n, m in zip(a.shape, b.shape, strict=True)]
    near = [
        line[np.abs(line - middle) <= reach + 1.0] for line, middle in zip(places, expected_px, strict=True)
    ]
    if not all(line.size for line in near):
        return None
    window = np.ix_(near[0] % size[0], near[1] % size[1])
    first = [fft.rfft2(values, size) for values in (masks[0].astype(float), a, a * a)]
    second = [np.conj(fft.rfft2(values, size)) for values in (masks[1].astype(float), b, b * b)]

    def summed(p: int, q: int) -> Array:
        return np.asarray(fft.irfft2(first[p] * second[q], size))[window]

    n = np.round(summed(0, 0))
    enough = n >= max(_FEWEST_PIXELS, _LEAST_SHARE * float(n.max()))
    if not enough.any():
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_a, mean_b = summed(1, 0) / n, summed(0, 1) / n
        variance = (summed(2, 0) / n - mean_a**2) * (summed(0, 2) / n - mean_b**2)
        scale = 1e-9 * float(np.var(a)) * float(np.var(b))
        score = np.where(
            enough & (variance > scale),
            (summed(1, 1) / n - mean_a * mean_b) / np.sqrt(np.maximum(variance, scale or 1.0)),
            -np.inf,
        )
    k, m = (int(place) for place in np.unravel_index(int(np.argmax(score)), score.shape))
    if not np.isfinite(score[k, m]):
        return None
    whole = int(near[0][k]), int(near[1][m])
    beyond = _between(np.where(masks[0], a, np.nan), np.where(masks[1], b, np.nan), whole)
    return MapMatch(
        offset_px=(whole[0] + beyond[0], whole[1] + beyond[1]),
        correlation=float(score[k, m]),
        n_pixels=int(n[k, m]),
    )


def _between(fixed: Array, moved: Array, offset: tuple[int, int]) -> tuple[float, float]:
    """Return by how much of a pixel the moved map lies beyond a whole-pixel offset."""
    here, there = [], []
    for size, other, shift in zip(fixed.shape, moved.shape, offset, strict=True):
        low, high = max(shift, 0), min(size, other + shift)
        if high - low < 3:
            return 0.0, 0.0
        here.append(slice(low, high))
        there.append(slice(low - shift, high - shift))
    one, other_map = fixed[tuple(here)], moved[tuple(there)]
    slopes = np.gradient(one)
    good = np.isfinite(other_map) & np.isfinite(one) & np.isfinite(slopes[0]) & np.isfinite(slopes[1])
    if good.sum() < _FEWEST_PIXELS:
        return 0.0, 0.0
    terms = np.column_stack([np.ones(int(good.sum())), one[good], slopes[0][good], slopes[1][good]])
    _, gain, *steps = np.linalg.lstsq(terms, other_map[good], rcond=None)[0]
    if not gain > 0:
        return 0.0, 0.0
    row, column = (float(np.clip(step / gain, -1.0, 1.0)) for step in steps)
    return row, column
