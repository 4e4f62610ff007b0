"""Normalisation of a soft edge: linear pre-edge, and a continuum of two steps below the lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._soft_edges import FOREIGN_EDGES_EV, SoftEdge

__all__ = ["NormalizedYield", "normalize_yield", "steps"]

Array = NDArray[np.float64]

#: Statistical weights of the steps of L3 and L2.
L3_SHARE, L2_SHARE = 2.0 / 3.0, 1.0 / 3.0
# The steps lie below the top of the white lines, about so far above the tabulated energies.
_ABOVE_EV = 2.3
_HALF_WIDTH_EV = 0.35
_FEWEST = 3
# Where there are so many points before the wing of the white line begins, the line below the edge ends there.
_ENOUGH = 8
_WING_EV = 5.0
# A foreign edge begins so far below its tabulated energy.
_FOOT_EV = 4.0
# Wings of a Lorentzian that the level above the edge is taken on, in eV from L2.
_NEAR_L2_EV = 4.5


@dataclass(frozen=True, slots=True, eq=False)
class NormalizedYield:
    """A yield, normalised.

    Attributes
    ----------
    energy_ev : ndarray, shape (n,)
        Energies that belong to the edge.
    normalized : ndarray, shape (n,)
        0 below the edge, 1 above it.
    continuum : ndarray, shape (n,)
        The two steps below the lines.
    step, step_sigma : float
        Step in the unit of the yield; NaN where there is none.
    level_variance : ndarray, shape (n,)
        Variance of the line below the edge, carried on, for unit noise of a point.
    kept : ndarray of bool, shape (n_given,)
        Which of the points that were given these are.
    has_pre_edge : bool
        Whether there are points below the edge.
    has_l2 : bool
        Whether L2 and the level above it were measured.
    warnings : tuple of str
        What is not as it should be, one sentence each.
    """

    energy_ev: Array
    normalized: Array
    continuum: Array
    step: float
    step_sigma: float
    level_variance: Array
    kept: NDArray[np.bool_]
    has_pre_edge: bool
    has_l2: bool
    warnings: tuple[str, ...]


def steps(energy_ev: Array, edge: SoftEdge, shift_ev: float = 0.0) -> Array:
    """Return the continuum of an edge of step 1: arctan steps in the ratio 2 to 1, shape (n,)."""
    x = energy_ev - shift_ev
    if edge.l2_ev is None:
        return np.asarray(0.5 + np.arctan((x - 536.5) / 0.5) / np.pi)
    out = np.zeros_like(x)
    for share, at_ev in ((L3_SHARE, edge.energy_ev), (L2_SHARE, edge.l2_ev)):
        out += share * (0.5 + np.arctan((x - at_ev - _ABOVE_EV) / _HALF_WIDTH_EV) / np.pi)
    return out


def normalize_yield(energy_ev: Array, values: Array, edge: SoftEdge) -> NormalizedYield:
    """Take the line below an edge off, and divide by the step.

    Parameters
    ----------
    energy_ev, values : ndarray, shape (n,)
        Increasing energies, and a yield in any unit.
    edge : SoftEdge
        The edge.

    Returns
    -------
    NormalizedYield
        What cannot be told is NaN, with a warning.
    """
    said: list[str] = []
    low_ev, high_ev = _alone(edge, energy_ev, said)
    kept = (energy_ev >= low_ev) & (energy_ev <= high_ev)
    x, y = energy_ev[kept], values[kept]
    below = (x >= edge.pre_edge_ev[0]) & (x <= edge.pre_edge_ev[1] - _WING_EV)
    if below.sum() < _ENOUGH:
        below = (x >= edge.pre_edge_ev[0]) & (x <= edge.pre_edge_ev[1])
    has_pre_edge = int(below.sum()) >= _FEWEST
    centre, line, variance = 0.0, np.zeros(2), np.zeros_like(x)
    if has_pre_edge:
        centre = float(x[below].mean())
        # A line from less than a third of the way to the white line would say more of the noise.
        order = (
            1 if np.ptp(x[below]) > (edge.white_line_ev[0] - centre) / 3.0 and below.sum() > _FEWEST else 0
        )
        powers = np.vander(x[below] - centre, order + 1, increasing=True)
        line[: order + 1] = np.linalg.lstsq(powers, y[below], rcond=None)[0]
        covariance = np.linalg.inv(powers.T @ powers)
        carried = np.vander(x - centre, order + 1, increasing=True)
        variance = np.einsum("ni,ij,nj->n", carried, covariance, carried)
    elif x.size:
        said.append(
            f"no pre-edge: the sweep has {int(below.sum())} points from {edge.pre_edge_ev[0]:g} to "
            f"{edge.pre_edge_ev[1]:g} eV, so the lowest values stand for the background"
        )
        line[0] = float(np.mean(np.sort(y)[: max(2, y.size // 20)]))
    above_line = y - line[0] - line[1] * (x - centre)
    shape = steps(x, edge)
    step, step_sigma, has_l2 = _step(x, above_line, shape, edge, said)
    with np.errstate(invalid="ignore", divide="ignore"):
        normalized = above_line / step
    return NormalizedYield(
        x, normalized, shape, step, step_sigma, variance, kept, has_pre_edge, has_l2, tuple(said)
    )


def _alone(edge: SoftEdge, energy_ev: Array, said: list[str]) -> tuple[float, float]:
    """Return between which energies a sweep shows this edge alone; say what is left out."""
    low_ev, high_ev = edge.reaches_ev
    top_ev = edge.energy_ev if edge.l2_ev is None else edge.l2_ev
    own = f"{edge.element} {'K' if edge.l2_ev is None else 'L3'}"
    for name, at_ev in FOREIGN_EDGES_EV.items():
        if name == own:
            continue
        if edge.white_line_ev[1] < at_ev - _FOOT_EV < high_ev and at_ev > top_ev:
            high_ev = at_ev - _FOOT_EV
            if (energy_ev > high_ev).any():
                said.append(
                    f"{int((energy_ev > high_ev).sum())} points from {high_ev:g} eV on are left out: there is the "
                    f"{name} edge"
                )
        elif low_ev < at_ev + 40.0 < edge.white_line_ev[0] and at_ev < edge.energy_ev:
            # Beyond its lines another edge is a background, which the line below this one takes in.
            low_ev = max(low_ev, at_ev + 40.0)
    return low_ev, high_ev


def _step(
    x: Array, above_line: Array, shape: Array, edge: SoftEdge, said: list[str]
) -> tuple[float, float, bool]:
    """Return the step, its sigma by scatter, and whether it is that of both edges."""
    after = (x >= edge.post_edge_ev[0]) & (x <= edge.post_edge_ev[1])
    if after.sum() >= _FEWEST:
        level = above_line[after]
        step = float(level.mean())
        sigma = float(level.std(ddof=1) / np.sqrt(level.size))
        if not step > 0:
            said.append(
                f"the level from {edge.post_edge_ev[0]:g} eV on is not above the line below the edge: no edge step"
            )
            return float("nan"), float("nan"), True
        return step, sigma, True
    if edge.l2_ev is None:
        said.append(f"the sweep has no points from {edge.post_edge_ev[0]:g} eV on: no edge step")
        return float("nan"), float("nan"), False
    between = (x >= edge.white_line_ev[1]) & (x <= edge.l2_ev - _NEAR_L2_EV)
    if between.sum() >= _FEWEST:
        # The last third, where the wing of L3 is lowest.
        last = np.flatnonzero(between)[-max(int(between.sum()) // 3, _FEWEST) :]
        level = above_line[last] / shape[last]
        step = float(level.mean())
        sigma = float(level.std(ddof=1) / np.sqrt(level.size))
        if step > 0:
            said.append(
                "the sweep ends before the level above L2: the edge step is that between L3 and L2, with the wing of "
                "the white line in it"
            )
            return step, sigma, False
    said.append(
        f"the sweep ends at {x[-1]:.1f} eV, before there is a level above the white line: no edge step"
        if x.size
        else "the sweep has no points of this edge"
    )
    return float("nan"), float("nan"), False
