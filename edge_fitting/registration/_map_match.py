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
    pixels by a parabola along each axis.
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
    return MapMatch(
        offset_px=(near[0][k] + _between(score[:, m], k), near[1][m] + _between(score[k, :], m)),
        correlation=float(score[k, m]),
        n_pixels=int(n[k, m]),
    )


def _between(line: Array, k: int) -> float:
    """Return by how much of a pixel the top of a parabola through three values is beside the middle one."""
    if not 0 < k < line.size - 1 or not np.isfinite(line[k - 1 : k + 2]).all():
        return 0.0
    bend = line[k - 1] - 2.0 * line[k] + line[k + 1]
    return float(0.5 * (line[k - 1] - line[k + 1]) / bend) if bend < 0 else 0.0
