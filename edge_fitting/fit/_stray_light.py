"""Light beside the sample taken out of the frames, and what its uncertainty does to each pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import FitStatus
from edge_fitting.quality import StrayLight, linear_fit
from edge_fitting.series import SeriesBasis
from edge_fitting.stack import Values

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

_SOC, _SIGMA, _ENERGY, _ENERGY_SIGMA, _JUMP = range(5)
_HIGHEST = 7
# More than this of the open beam is no light beside the sample.
_MOST = 0.2
# A state that the uncertainty of the light leaves open by more than this part of the range is no value.
_WIDEST = 0.1
_N_STATES, _N_JUMPS = 7, 24
_DESIGN = 6
# Optical depths above it count as it: next to nothing of their light came through the sample.
_MOST_OD = 12.0


def can_be_taken_out(background: StrayLight) -> bool:
    """Whether the light beside the sample is known well enough to subtract it."""
    return background.is_significant and background.share < _MOST


def without_stray_light(optical_depth: Frame, share: float) -> Frame:
    """Optical depth of the sample alone: ``-ln((T - b) / (1 - b))``; infinite where no more than b comes through.

    Parameters
    ----------
    optical_depth : ndarray of float32
        As it was measured, any shape.
    share : float
        Light beside the sample as part of the open beam.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        through = (np.exp(-optical_depth) - np.float32(share)) / np.float32(1.0 - share)
        depth: Frame = -np.log(np.maximum(through, np.float32(0.0)))
    return depth


def add_share_sigma(
    basis: SeriesBasis,
    functions: Array,
    weight: Array,
    sample: Frame,
    fitted: Values,
    background: StrayLight,
) -> None:
    """Add what the uncertainty of the light does to the sigmas of a fit of frames it was taken out of.

    Pixels whose state it leaves open by more than a tenth of the range get ``STRAY_LIGHT`` and no value. Arrays are
    changed in place.

    Parameters
    ----------
    basis : SeriesBasis
        References.
    functions, weight : ndarray, shape (n_frames, n_functions), (n_frames,)
        Of the frames in the fit.
    sample : ndarray of float32, shape (n_frames, n)
        Optical depth of some pixels with an edge, corrected.
    fitted : values and status
        Of all pixels.
    background : StrayLight
        What was taken out.
    """
    values, status = fitted
    # Frames with no light of the sample left count as saturated in the sums.
    dark = (status == FitStatus.SATURATED) & (values[_HIGHEST] > -np.log(background.share))
    status[dark] = FitStatus.STRAY_LIGHT
    found = np.flatnonzero((status <= FitStatus.ABOVE_RANGE) & np.isfinite(values[_SOC]))
    if not found.size:
        return
    state, jump = (values[row, found].astype(np.float64) for row in (_SOC, _JUMP))
    states = np.linspace(basis.soc[0], basis.soc[-1], _N_STATES)
    jumps = np.linspace(0.0, max(float(jump.max()), 0.1), _N_JUMPS)
    table = np.stack(
        [_per_share(basis, functions, weight, _line(functions, sample), s, jumps) for s in states]
    )
    wide = background.share_sigma * np.abs(_interpolated(table, states, jumps, state, jump))
    values[_SIGMA, found] = np.hypot(values[_SIGMA, found], wide)
    slope = np.interp(state, basis.soc, np.nan_to_num(basis.edge_energy_slope))
    values[_ENERGY_SIGMA, found] = np.hypot(values[_ENERGY_SIGMA, found], wide * np.abs(slope))
    span = float(basis.series.soc[-1] - basis.series.soc[0])
    open_ = found[~(wide < _WIDEST * span)]
    values[:_JUMP, open_] = np.nan
    status[open_] = FitStatus.STRAY_LIGHT


def _line(functions: Array, sample: Frame) -> Array:
    """Offset and slope of the absorption that has no edge, over the jump: those typical of pixels with an edge."""
    complete = np.isfinite(sample).all(axis=0)
    if not complete.any():
        return np.zeros(2)
    design = np.ascontiguousarray(functions[:, :_DESIGN])
    coefficients = linear_fit(design, np.ascontiguousarray(sample[:, complete]))[0]
    jump = coefficients[2]
    strong = jump > 0.5 * np.median(jump)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.median(coefficients[:2, strong] / jump[strong], axis=1) if strong.any() else np.zeros(2)
    return np.nan_to_num(ratio)


def _per_share(
    basis: SeriesBasis, functions: Array, weight: Array, line: Array, state: float, jumps: Array
) -> Array:
    """Change of the state with the share, for spectra of one state and some jumps."""
    curve, tangent = (
        np.array([np.interp(state, basis.soc, row) for row in part.T])
        for part in (basis.curve, basis.tangent)
    )
    absorption = functions[:, 2:] @ curve
    direction = functions[:, 2:] @ tangent
    design = np.column_stack([functions[:, :2], absorption, direction])
    root = np.sqrt(weight)[:, None]
    solve = np.linalg.pinv(design * root)
    depth = np.clip(jumps * (absorption + functions[:, :2] @ line)[:, None], -1.0, _MOST_OD)
    change = solve[3] @ (np.expm1(depth) * root)
    # The tangent moves a spectrum of jump 1 by one state.
    with np.errstate(invalid="ignore", divide="ignore"):
        per_share = np.where(jumps > 0.0, change / jumps, 0.0)
    return np.asarray(per_share)


def _interpolated(table: Array, states: Array, jumps: Array, state: Array, jump: Array) -> Array:
    """Bilinear interpolation of a regular table."""
    place = []
    for grid, at in ((states, state), (jumps, jump)):
        index = np.clip((at - grid[0]) / (grid[1] - grid[0]), 0.0, grid.size - 1 - 1e-9)
        place.append((index.astype(np.intp), index - np.floor(index)))
    (i, s), (j, t) = place
    return np.asarray(
        (1 - s) * ((1 - t) * table[i, j] + t * table[i, j + 1])
        + s * ((1 - t) * table[i + 1, j] + t * table[i + 1, j + 1])
    )


def stray_light_warning(status: NDArray[np.uint8], background: StrayLight) -> tuple[str, ...]:
    """Say that light was taken out, and how many pixels it leaves without a value."""
    lost = int(np.count_nonzero(status == FitStatus.STRAY_LIGHT))
    known = int(np.count_nonzero(status <= FitStatus.ABOVE_RANGE)) + lost
    left = (
        f"; {100 * lost / max(known, 1):.3g} % of the pixels are so thick that their state stays open by more than a "
        "tenth: they have no value"
        if lost
        else ""
    )
    return (
        f"{100 * background.share:.3g} +- {100 * background.share_sigma:.2g} % of the open beam reached the camera "
        "beside the sample (stray light, harmonics, a dark that is too low), told from how thick pixels are "
        "compressed: it is taken out of the frames, as the same everywhere, and its uncertainty is in "
        f"soc_sigma{left}.",
    )
