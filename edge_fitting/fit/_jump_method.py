"""Edge jump from a few frames below and above an edge, without a spectrum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import MAD_TO_SIGMA, Edge, FitStatus

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

# Powers of the energy with which absorption falls: of all shells but the one of the edge, and of that one (Elam tables
# around the K edges of Mn, Co and Ni).
_BELOW_POWER = 2.75
_SHELL_POWER = 2.45
# A jump that stands out of the noise by less is none.
_DETECTION = 3.0
# Tiles in which the noise is measured, pixels that one needs, and which of them counts.
_TILE = 16
_FEWEST = 60
_QUIET_PERCENT = 15.0


def fit_jump(
    edge: Edge, energy_ev: Array, stack: Frame, weight: Array, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.uint8], Frame]:
    """Step of the optical depth at the edge, and its standard deviation by counting statistics.

    What absorbs below the edge is carried above it with the power law of absorption, since two energies give no slope.
    The noise goes with the light that a pixel got, ``exp(optical depth) + 1`` for frame and flat; how large it is, the
    camera's gain, is measured between neighbouring pixels of the map itself (second differences, so that slopes of the
    thickness do not count).

    Parameters
    ----------
    edge : Edge
        Edge that was scanned.
    energy_ev, weight : ndarray, shape (n,)
        Energies and weights of the frames.
    stack : ndarray of float32, shape (n, n_pixels)
        Optical depth.
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    values : ndarray of float32, shape (8, n_pixels)
        In the order of EdgeMaps; jump, noise of a frame of weight 1 and highest optical depth, the rest NaN.
    status : ndarray of uint8, shape (n_pixels,)
    jump_sigma : ndarray of float32, shape (n_pixels,)
    """
    n_pixels = stack.shape[1]
    values = np.full((8, n_pixels), np.nan, np.float32)
    sigma = np.full(n_pixels, np.nan, np.float32)
    finite = np.isfinite(stack)
    saturated = np.isinf(stack).any(axis=0)
    seen = finite.any(axis=0)
    values[7] = np.where(seen, np.where(finite, stack, -np.inf).max(axis=0, initial=-np.inf), np.nan)
    status = np.full(n_pixels, FitStatus.TOO_FEW_FRAMES, np.uint8)
    below = energy_ev < edge.energy_ev
    if not below.any() or below.all():
        return values, status, sigma
    relative = energy_ev / edge.energy_ev
    background, background_var, background_ok = _mean(stack, relative**_BELOW_POWER, weight, below)
    flattened = stack - background * (relative**-_BELOW_POWER)[:, None]
    jump, above_var, above_ok = _mean(flattened, relative**_SHELL_POWER, weight, ~below, depth=stack)
    good = background_ok & above_ok & ~saturated
    unit = np.where(good, np.sqrt(background_var + above_var), np.nan)
    jump = np.where(good, jump, np.nan)
    gain = _noise_between_neighbours(jump.reshape(shape), unit.reshape(shape))
    sigma[:] = gain * unit
    values[4] = jump
    values[6] = gain * np.sqrt(1.0 + np.exp(np.clip(values[7], -5.0, 12.0)))
    clear = np.abs(jump) >= _DETECTION * sigma
    status[:] = np.select(
        [saturated, ~good, clear & (jump > 0), clear],
        [FitStatus.SATURATED, FitStatus.NO_DATA, FitStatus.OK, FitStatus.INVERTED],
        FitStatus.NO_EDGE,
    )
    return values, status, sigma


def _mean(
    stack: Frame | Array, scale: Array, weight: Array, which: NDArray[np.bool_], depth: Frame | None = None
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Weighted mean of scaled frames, its variance for a gain of one, and where there is one; (n_pixels,) each."""
    there = np.isfinite(stack[which])
    depths = stack[which] if depth is None else depth[which]
    shares = np.where(there, weight[which][:, None], 0.0)
    total = shares.sum(axis=0)
    ok = total > 0
    total = np.where(ok, total, 1.0)
    mean = (shares * np.where(there, stack[which], 0.0) * scale[which][:, None]).sum(axis=0) / total
    # A frame's weight is the inverse of its variance at its mean depth; what a pixel's own depth changes comes on top.
    own = np.where(there, 1.0 + np.exp(np.clip(depths, -5.0, 12.0)), 0.0)
    variance = (shares * own).sum(axis=0) / total**2
    return mean, variance, ok


def _noise_between_neighbours(jump: Array, unit: Array) -> float:
    """Scale of the noise: second differences of neighbours over what they are expected to be; NaN for too few.

    In tiles, of which the quieter ones count: elsewhere the sample's own structure comes on top.
    """
    second = jump[:, :-2] - 2.0 * jump[:, 1:-1] + jump[:, 2:]
    expected = np.sqrt(unit[:, :-2] ** 2 + 4.0 * unit[:, 1:-1] ** 2 + unit[:, 2:] ** 2)
    ratios = np.abs(second / expected)
    finite = np.isfinite(ratios)
    tiles = [
        np.median(ratios[part][finite[part]])
        for row in range(0, ratios.shape[0], _TILE)
        for col in range(0, ratios.shape[1], _TILE)
        if finite[part := np.s_[row : row + _TILE, col : col + _TILE]].sum() >= _FEWEST
    ]
    if tiles:
        return float(MAD_TO_SIGMA * np.percentile(tiles, _QUIET_PERCENT))
    return float(MAD_TO_SIGMA * np.median(ratios[finite])) if finite.any() else float("nan")
