"""Magnification and rotation of frames, from what the blocks of a field move beside the common shift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._band_pass import Array
from ._matching import Match

_FEWEST_BLOCKS = 12
# A change counts from this displacement on (pixels, root mean square over the field), and these standard deviations.
_LEAST_PX = 0.05
_SIGMAS = 5.0
#: More of a change than an optic makes: parts that move on their own look like it.
MOST_MAGNIFICATION = 0.04
MOST_ROTATION_DEG = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """Magnification and rotation of each frame.

    Parameters
    ----------
    change : ndarray, shape (n, 2)
        Relative change of the magnification, and rotation in radians, smoothed over frames.
    sigma : ndarray, shape (n, 2)
        Standard deviations.
    is_significant : bool
        Whether they are more than their uncertainty, and worth the trouble.
    """

    change: Array
    sigma: Array
    is_significant: bool


def find_similarity(
    matches: dict[int, Match], energies: Array, shape: tuple[int, int], block_px: int
) -> Similarity:
    """Fit magnification and rotation to the blocks' own shifts.

    Those of weak frames are known badly: they follow energy and order (lines), and depart from these as far as all
    frames together show that they do.

    Parameters
    ----------
    matches : dict of int to Match
        Match of each frame that was found.
    energies : ndarray, shape (n,)
        Energies of all frames.
    shape : tuple of int
        Rows and columns of a frame.
    block_px : int
        Rows and columns of a block.
    """
    n = energies.size
    nothing = Similarity(np.zeros((n, 2)), np.full((n, 2), np.inf), False)
    found = np.array(sorted(matches), dtype=np.int64)
    measured, variance = np.zeros((found.size, 2)), np.full((found.size, 2), np.inf)
    places = block_places(shape, block_px)
    for number, k in enumerate(found):
        blocks = matches[k].block_shifts
        if len(blocks) == len(places):
            measured[number], variance[number] = of_frame(places, blocks)
    good = np.isfinite(variance).all(axis=1)
    if good.sum() < 4:
        return nothing
    x = np.stack([np.ones(n), _scaled(energies), _scaled(np.arange(n, dtype=np.float64))], axis=1)
    change, sigma = np.zeros((n, 2)), np.zeros((n, 2))
    significant = False
    radius = float(np.sqrt(np.mean(np.sum(places**2, axis=1))))
    for axis in (0, 1):
        y, s2 = measured[good, axis], variance[good, axis]
        trend, covariance, extra = _trend(x[found[good]], y, s2)
        line = x @ trend
        change[:, axis] = line
        change[found[good], axis] += extra / (extra + s2) * (y - line[found[good]])
        change[:, axis] -= change[0, axis]
        sigma[:, axis] = np.sqrt(np.einsum("ij,jk,ik->i", x, covariance, x) + extra)
        spread = float(np.std(change[:, axis]))
        chi2 = float(np.mean((y - np.average(y, weights=1.0 / s2)) ** 2 / s2))
        slopes = np.abs(trend[1:]) / np.sqrt(np.maximum(np.diag(covariance)[1:], 1e-30))
        is_clear = bool(slopes.max() > _SIGMAS) or chi2 > 1.0 + _SIGMAS * np.sqrt(2.0 / good.sum()) + 1.0
        if is_clear and spread * radius > _LEAST_PX:
            significant = True
        else:
            change[:, axis] = 0.0
    too_much = (
        np.ptp(change[:, 0]) > MOST_MAGNIFICATION or np.degrees(np.ptp(change[:, 1])) > MOST_ROTATION_DEG
    )
    return nothing if too_much or not significant else Similarity(change, sigma, True)


def block_places(shape: tuple[int, int], block_px: int) -> Array:
    """Middles of the blocks of a frame about its own (rows, columns)."""
    rows, cols = -(-shape[0] // block_px), -(-shape[1] // block_px)
    down, right = (
        (block_px * (np.arange(count) + 0.5)) - 0.5 * size
        for count, size in zip((rows, cols), shape, strict=True)
    )
    return np.stack([np.repeat(down, cols), np.tile(right, rows)], axis=1)


def of_frame(places: Array, blocks: Array) -> tuple[Array, Array]:
    """Magnification and rotation of one frame, with their variances from the scatter of the blocks."""
    nothing = np.zeros(2), np.full(2, np.inf)
    information = blocks[:, 2]
    use = information > 0.02 * information.max(initial=0.0)
    if np.count_nonzero(use) < _FEWEST_BLOCKS:
        return nothing
    r, c = places[use].T
    one, zero = np.ones(r.size), np.zeros(r.size)
    # Displacements along rows, then columns; a common rest of the shift beside magnification and rotation.
    design = np.concatenate(
        [np.stack([r, -c, one, zero], axis=1), np.stack([c, r, zero, one], axis=1)], axis=0
    )
    y = np.concatenate([blocks[use, 0], blocks[use, 1]])
    weight = np.tile(information[use], 2)
    inverse = np.linalg.pinv(design.T @ (weight[:, None] * design))
    beta = inverse @ (design.T @ (weight * y))
    scores = design * (weight * (y - design @ beta))[:, None]
    # Both displacements of a block belong together.
    half = r.size
    paired = scores[:half] + scores[half:]
    covariance = inverse @ (paired.T @ paired) @ inverse * half / max(half - 4.0, 1.0)
    return beta[:2], np.maximum(np.diag(covariance)[:2], 1e-16)


def _trend(x: Array, y: Array, variance: Array) -> tuple[Array, Array, float]:
    """Weighted line, its covariance, and the variance about it that the measured ones do not explain."""
    extra = 0.0
    for _ in range(20):
        weight = 1.0 / (variance + extra)
        covariance = np.linalg.pinv(x.T @ (weight[:, None] * x), rcond=1e-8)
        trend = covariance @ (x.T @ (weight * y))
        left = (y - x @ trend) ** 2 - variance
        dof = max(1.0 - x.shape[1] / y.size, 0.1)
        new = max(float(np.sum(weight**2 * left) / np.sum(weight**2)) / dof, 0.0)
        if abs(new - extra) <= 1e-3 * extra:
            break
        extra = new
    return np.asarray(trend), np.asarray(covariance), extra


def _scaled(values: Array) -> Array:
    return np.asarray((values - values.mean()) / max(float(np.std(values)), 1e-12))
