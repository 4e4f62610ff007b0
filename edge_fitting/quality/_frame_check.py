"""Frames that do not belong to the others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._check_kernels import frame_moments, variances
from ._noise_model import NoiseModel, estimate_noise, linear_fit

Array = NDArray[np.float64]

#: At most this part of the frames is left out: more is no matter of frames.
MOST_LEFT_OUT = 0.1
# Modes of the references that are free here: smaller ones could take up the error of a frame.
_FUNCTIONS = 6
_FEWEST_FREE = 6
_FEWEST_PIXELS = 64
_STRONG = 0.3
# A frame is off where its residual is this part of the jump at least, this many times its standard deviation from
# counting noise, and this many times what is usual in the other frames, or larger than that of its neighbours.
_LEAST_OFF = 0.03
_LEAST_Z = 8.0
_TIMES_USUAL = 5.0
_TIMES_NEIGHBOURS = 3.0
_NEIGHBOURS = 3
_USUAL_PERCENTILE = 80.0
# A residual that counts with more than this weight in its own fit cannot be told.
_HIGHEST_LEVERAGE = 0.6
# Frames (eV from the edge) below and above it that have to be there: before, the end of a scan stands alone.
_BELOW_EV, _ABOVE_EV = -10.0, 15.0
_FEWEST_AROUND = 3
# Wrong references spoil neighbouring energies alike only where these are as near (eV) as features are wide, at the edge
# and beyond it.
_NEAR_AT_EDGE_EV, _NEAR_EV = 2.5, 12.0
_EDGE_BELOW_EV, _EDGE_ABOVE_EV = -15.0, 25.0
# Repeats that differ by this part of the jump, at this part of the repeated energies, are a state that moves.
_LEAST_MOVED = 0.02
_MANY_MOVED = 0.25


@dataclass(frozen=True, slots=True)
class FrameDoubt:
    """One frame that does not belong.

    Attributes
    ----------
    index : int
        Which frame.
    energy_ev : float
        Its energy.
    residual_od : float
        How far it is off the others, root mean square over the field, in optical depth.
    sigmas : float
        How often that is the standard deviation of counting noise.
    """

    index: int
    energy_ev: float
    residual_od: float
    sigmas: float

    @property
    def reason(self) -> str:
        """What is wrong with it."""
        return (
            f"{self.residual_od:.3f} of optical depth off what the others say of it ({self.sigmas:.0f} times the "
            "counting noise of its mean)"
        )

    def __str__(self) -> str:
        return f"the frame at {self.energy_ev:.2f} eV is {self.reason}"


@dataclass(frozen=True, slots=True, eq=False)
class FrameCheck:
    """What a look at some pixels of every frame found.

    Attributes
    ----------
    noise : NoiseModel or None
        Noise of one pixel in one frame.
    doubts : tuple of FrameDoubt
        Frames that do not belong.
    warnings : tuple of str
        What else is wrong with the frames as a whole.
    """

    noise: NoiseModel | None = None
    doubts: tuple[FrameDoubt, ...] = ()
    warnings: tuple[str, ...] = field(default=())


def check_frames(
    energy_ev: Array, functions: Array, stack: NDArray[np.float32], weights: Array | None = None
) -> FrameCheck:
    """Compare each frame with what all others say of it.

    Every pixel is fitted by a line and the leading functions of the references, linearly, so that no frame can spoil
    the fit beyond its own weight in it; the residual of a frame is that against the fit without it. A frame does not
    belong if its residual is large against counting noise and

    - has a pattern over the field that a spectrum of this sample cannot have (not proportional to the jump), more than
      five times as strong as is usual in the other frames; or
    - is proportional to the jump, five times what is usual, and three times that of any of its neighbours in energy:
      wrong references spoil neighbouring energies alike. Where the next energy is too far off for that, it cannot be
      told.

    The worst is set aside and the rest looked at again. Where more than a tenth would go, none does: what many frames
    have in common is a misfit of the model. Nor do frames at energies that were taken again and read otherwise, where
    that is so at several energies: the sample changed.

    Parameters
    ----------
    energy_ev : ndarray, shape (n_frames,)
        Energies.
    functions : ndarray, shape (n_frames, n_functions)
        Offset, slope, mean reference spectrum and its modes at these energies.
    stack : ndarray of float32, shape (n_frames, n_pixels)
        Optical depth of some pixels of the image; those with missing values do not count.
    weights : ndarray, shape (n_frames,), optional
        Weights of the fit, where they are known.

    Returns
    -------
    FrameCheck
    """
    design = np.ascontiguousarray(functions[:, :_FUNCTIONS])
    n_frames = energy_ev.size
    if n_frames - design.shape[1] < _FEWEST_FREE:
        return FrameCheck()
    depth = np.ascontiguousarray(stack[:, np.isfinite(stack).all(axis=0)])
    if depth.shape[1] < _FEWEST_PIXELS:
        return FrameCheck()
    coefficients, residual = linear_fit(design, depth)
    # Single values that stick out, of which a zinger is one, are no matter of frames.
    size = np.sqrt(np.einsum("fp,fp->p", residual, residual) / n_frames)
    jump = coefficients[2]
    chosen = np.flatnonzero(
        (size < 3.0 * np.median(size) + 1e-12) & (jump > _STRONG * np.percentile(jump, 95))
    )
    if chosen.size < _FEWEST_PIXELS:
        return FrameCheck()
    if chosen.size < depth.shape[1]:
        depth, residual = (np.ascontiguousarray(rows[:, chosen]) for rows in (depth, residual))
        coefficients = coefficients[:, chosen]
    noise = estimate_noise(design, depth, weights, residual)
    if noise is None:
        return FrameCheck()
    strong = np.flatnonzero(coefficients[2] > 3.0 * np.sqrt(noise.variance(depth.max(axis=0))))
    if strong.size < _FEWEST_PIXELS:
        return FrameCheck(noise)
    from_edge_ev = 100.0 * functions[:, 1]
    around = (from_edge_ev < _BELOW_EV).sum(), (from_edge_ev > _ABOVE_EV).sum()
    if min(around) < _FEWEST_AROUND:
        return FrameCheck(noise)
    if strong.size < depth.shape[1]:
        depth, residual = (np.ascontiguousarray(rows[:, strong]) for rows in (depth, residual))
        coefficients = coefficients[:, strong]
    variance = np.empty_like(depth)
    variances(depth, noise.growth, variance)
    used = np.ones(n_frames, bool)
    moved, said_of_state = _moving_state(energy_ev, coefficients[2], depth, noise)
    fixed = np.isin(energy_ev, moved)
    doubts: list[FrameDoubt] = []
    most = max(1, int(MOST_LEFT_OUT * n_frames))
    while True:
        index = np.flatnonzero(used)
        if doubts:
            coefficients, residual = linear_fit(design[index], depth[index])
        parts = _Parts(energy_ev[index], design[index], noise.level[index], coefficients, residual)
        doubt = _worst(parts, noise.gain, variance if not doubts else variance[index], fixed[index])
        if doubt is None:
            break
        doubt = replace(doubt, index=int(index[doubt.index]))
        if len(doubts) == most or used.sum() - 1 - design.shape[1] < _FEWEST_FREE:
            said = (
                f"more than {most} of {n_frames} frames do not agree with the others, the worst at "
                f"{doubts[0].energy_ev:.2f} eV: none is left out, since what many frames share is no matter of "
                "frames; look at drift, flat fields and references."
            )
            return FrameCheck(noise, (), (*said_of_state, said))
        doubts.append(doubt)
        used[doubt.index] = False
    return FrameCheck(noise, tuple(doubts), said_of_state)


class _Parts(NamedTuple):
    """Frames that are in a linear fit, and what it gives."""

    energy_ev: Array
    design: Array
    level: Array
    coefficients: Array
    residual: NDArray[np.float32]


def _worst(
    parts: _Parts, gain: float, variance: NDArray[np.float32], fixed: NDArray[np.bool_]
) -> FrameDoubt | None:
    """Find the frame that is off most, of those not fixed; None where none is."""
    orthonormal, _ = np.linalg.qr(parts.design)
    leverage = np.sum(orthonormal**2, axis=1)
    told = (leverage < _HIGHEST_LEVERAGE) & ~fixed
    share = 1.0 / (1.0 - np.minimum(leverage, _HIGHEST_LEVERAGE))
    jump = np.ascontiguousarray(parts.coefficients[2])
    # All patterns that spectra of this sample have.
    patterns = _orthonormal(np.vstack([parts.coefficients[2:], parts.coefficients[0]]))
    n, n_patterns = jump.size, patterns.shape[0]
    moments = np.empty((parts.energy_ev.size, 4 + n_patterns))
    frame_moments(parts.residual, variance, jump, patterns, moments)
    square, with_jump = moments[:, 0] * share**2, moments[:, 1] * share
    mean_variance = gain * parts.level * share * moments[:, 2] / n
    scale = float(np.median(jump))
    # Part of the residual that is proportional to the jump, and what is left beyond all patterns.
    power = float(np.sum(jump**2))
    along = with_jump / power
    along_sigma = np.sqrt(gain * parts.level * share * moments[:, 3]) / power
    beyond = (square - np.sum((moments[:, 4:] * share[:, None]) ** 2, axis=1)) / n
    excess = beyond - mean_variance * (1.0 - n_patterns / n)
    beyond_rms = np.sqrt(np.maximum(excess, 0.0)) / scale
    beyond_z = excess / (mean_variance * np.sqrt(2.0 / n))
    z = np.abs(along) / along_sigma
    usual_beyond = _usual(beyond_rms)
    candidates = told & _has_near(parts.energy_ev, 100.0 * parts.design[:, 1]) & (z > _LEAST_Z)
    off_along = _is_alone(parts.energy_ev, orthonormal, moments[:, 1] / power, candidates)
    off_beyond = (
        told & (beyond_z > _LEAST_Z) & (beyond_rms > np.maximum(_LEAST_OFF, _TIMES_USUAL * usual_beyond))
    )
    off = off_along | off_beyond
    if not off.any():
        return None
    k = int(np.argmax(np.where(off, np.hypot(along, beyond_rms), -1.0)))
    return FrameDoubt(
        index=k,
        energy_ev=float(parts.energy_ev[k]),
        residual_od=float(np.sqrt(square[k] / n)),
        sigmas=float(max(z[k] if off_along[k] else 0.0, beyond_z[k] if off_beyond[k] else 0.0)),
    )


def _orthonormal(rows: Array) -> Array:
    """Orthonormal rows that span the same, by way of the small matrix of their products."""
    scaled = rows / np.sqrt(np.maximum(np.einsum("ij,ij->i", rows, rows), 1e-300))[:, None]
    values, vectors = np.linalg.eigh(np.einsum("ip,jp->ij", scaled, scaled))
    held = values > 1e-9 * values[-1]
    return np.ascontiguousarray(np.einsum("ik,ip->kp", vectors[:, held] / np.sqrt(values[held]), scaled))


def _is_alone(
    energy_ev: Array, orthonormal: Array, along: Array, candidates: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Mark the candidate without which the others agree best, if it is off by itself.

    In a fit with a frame that is off, its neighbours are off, too: the frame is compared with what they are without it.

    Parameters
    ----------
    energy_ev : ndarray, shape (n_frames,)
        Energies.
    orthonormal : ndarray, shape (n_frames, n_functions)
        Functions of the fit.
    along : ndarray, shape (n_frames,)
        Residual in a fit of all frames, as part of the jump.
    candidates : ndarray of bool, shape (n_frames,)
        Frames beyond counting noise.
    """
    alone = np.zeros(along.size, bool)
    leverage = np.sum(orthonormal**2, axis=1)
    gained = np.where(candidates, along**2 / np.maximum(1.0 - leverage, 1e-9), 0.0)
    k = int(np.argmax(gained))
    if not gained[k] > 0.0:
        return alone
    shared = orthonormal @ orthonormal[k]
    left = 1.0 - leverage[k]
    own = along[k] / left
    others = np.abs(along + shared * own) / np.maximum(
        1.0 - leverage - shared**2 / left, 1.0 - _HIGHEST_LEVERAGE
    )
    others[k] = 0.0
    alone[k] = abs(own) > max(
        _LEAST_OFF,
        _TIMES_USUAL * _usual(np.delete(others, k)),
        _TIMES_NEIGHBOURS * _around(energy_ev, others)[k],
    )
    return alone


def _has_near(energy_ev: Array, from_edge_ev: Array) -> NDArray[np.bool_]:
    """Mark the frames with another one as near as features of a spectrum are wide there."""
    order = np.argsort(energy_ev, kind="stable")
    gaps = np.concatenate([[np.inf], np.diff(energy_ev[order]), [np.inf]])
    nearest = np.empty(energy_ev.size)
    nearest[order] = np.minimum(gaps[:-1], gaps[1:])
    at_edge = (from_edge_ev > _EDGE_BELOW_EV) & (from_edge_ev < _EDGE_ABOVE_EV)
    return nearest <= np.where(at_edge, _NEAR_AT_EDGE_EV, _NEAR_EV)


def _usual(values: Array) -> float:
    return float(np.percentile(values, _USUAL_PERCENTILE))


def _around(energy_ev: Array, size: Array) -> Array:
    """Largest value of the neighbours in energy on either side."""
    order = np.argsort(energy_ev, kind="stable")
    sorted_size = size[order]
    n = energy_ev.size
    largest = np.zeros(n)
    for step in range(1, _NEIGHBOURS + 1):
        largest[step:] = np.maximum(largest[step:], sorted_size[:-step])
        largest[:-step] = np.maximum(largest[:-step], sorted_size[step:])
    result = np.empty(n)
    result[order] = largest
    return result


def _moving_state(
    energy_ev: Array, jump: Array, depth: NDArray[np.float32], noise: NoiseModel
) -> tuple[list[float], tuple[str, ...]]:
    """Compare frames of one energy with each other: energies at which they differ, if many do, and a sentence."""
    if np.unique(energy_ev).size == energy_ev.size:
        return [], ()
    power = float(np.sum(jump**2))
    differences: list[tuple[float, float]] = []
    repeated = 0
    for energy in np.unique(energy_ev):
        same = np.flatnonzero(energy_ev == energy)
        if same.size < 2:
            continue
        repeated += 1
        change = depth[same[-1]] - depth[same[0]]
        moved = float(change @ jump) / power
        sigma = float(np.sqrt(2.0 * noise.variance(depth[same[0]]) @ jump**2)) / power
        if abs(moved) > max(_LEAST_MOVED, _LEAST_Z * sigma):
            differences.append((float(energy), moved))
    # A single one is a matter of its frames.
    if len(differences) < max(2.0, _MANY_MOVED * repeated):
        return [], ()
    energy, moved = max(differences, key=lambda found: abs(found[1]))
    said = (
        f"the sample changed during the scan: of {repeated} energies taken more than once {len(differences)} differ, "
        f"most at {energy:.2f} eV, by {100 * moved:+.1f} % of the edge jump from the first to the last; the map mixes "
        "what was before with what came after."
    )
    return [energy for energy, _ in differences], (said,)
