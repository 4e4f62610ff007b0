"""Which frames serve the pre-edge line, the post-edge line and the search, and with what weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import Edge, Window

from ._window_records import SlopeRules

Array = NDArray[np.float64]
Index = NDArray[np.int64]

# Post-edge polynomial that is fitted for the noise: high enough to follow the fine structure.
_NOISE_ORDER = 4
# Over less than this, a line would follow the fine structure rather than the atomic background: take a constant.
_LINE_RANGE_EV = 200.0
# A pixel's own slope through so few pre-edge energies, carried to the edge, would say more of the noise than of the
# pixel: there the pixels share theirs.
_FEWEST_FOR_SLOPE = 5
# Fewer pixels than this do not give a slope worth sharing.
_FEWEST_SHARING = 20
_ENOUGH_SHARING = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class WindowPlan:
    """Linear rules that turn the frames of a pixel into pre-edge line, post-edge level and noise.

    Attributes
    ----------
    reference_ev : float
        Energy at which the step between the two curves is taken: the centre of the half-jump window, or that of the
        post-edge window where a constant is fitted there.
    pre, post : ndarray of int64
        Frames in the windows.
    pre_rule : ndarray, shape (2, n_pre)
        Gives the coefficients of the orthonormal pre-edge polynomials: constant, slope.
    post_rule : ndarray, shape (m, n_post)
        The same above the edge, of higher order for the noise.
    pre_weight, post_weight : ndarray
        Weights of the frames.
    pre_level, pre_slope : float
        Values of the two pre-edge polynomials: the constant one, and the linear one per eV.
    pre_centre_ev : float
        Where the linear one is zero.
    post_level : ndarray, shape (m,)
        Values of the post-edge polynomials at ``reference_ev``; zero for those that serve only the noise.
    inside : ndarray of int64
        Frames of the search window in order of energy.
    inside_ev, inside_weight : ndarray
        Their energies and weights.
    shares_slope : bool
        Whether the pre-edge energies are too few, or too near to the edge, for a slope of each pixel's own.
    near : bool
        Whether the pre-edge reaches up to the onset of the edge, because the scan begins there.
    dof : int
        Degrees of freedom of the noise.
    """

    reference_ev: float
    pre: Index
    post: Index
    pre_rule: Array
    post_rule: Array
    pre_weight: Array
    post_weight: Array
    pre_level: float
    pre_slope: float
    pre_centre_ev: float
    post_level: Array
    inside: Index
    inside_ev: Array
    inside_weight: Array
    shares_slope: bool
    near: bool
    dof: int


def plan_windows(energy_ev: Array, weights: Array, edge: Edge, search: Window) -> WindowPlan | None:
    """Plan the windows of a scan.

    Parameters
    ----------
    energy_ev, weights : ndarray, shape (n_energy,)
        Energies, all different, in any order, and the frames' weights.
    edge : Edge
        Windows of the edge.
    search : tuple of float
        Window in which the estimator looks; one frame on either side is included.

    Returns
    -------
    WindowPlan or None
        None when a window has too few frames.
    """
    order = np.argsort(energy_ev)
    pre = order[_within(energy_ev[order], edge.pre_edge_ev)]
    post = order[_within(energy_ev[order], edge.post_edge_ev)]
    searched = np.flatnonzero(_within(energy_ev[order], search))
    near = pre.size < 2
    if near:
        # A scan that begins too near to the edge for the pre-edge window has its pre-edge up to the onset.
        pre = order[_within(energy_ev[order], (edge.pre_edge_ev[0], max(edge.onset_ev, edge.pre_edge_ev[1])))]
    if pre.size < 1 or post.size < 1 or searched.size < 2:
        return None
    inside = order[max(searched[0] - 1, 0) : searched[-1] + 2]
    reference = 0.5 * (edge.half_jump_window_ev[0] + edge.half_jump_window_ev[1])
    pre_basis, pre_centre = _orthonormal(energy_ev[pre], weights[pre], min(1, pre.size - 1))
    n_post = min(_NOISE_ORDER, max(post.size - 2, min(1, post.size - 1)))
    post_basis, post_centre = _orthonormal(energy_ev[post], weights[post], n_post)
    step_order = 1 if np.ptp(energy_ev[post]) >= _LINE_RANGE_EV and post.size >= 3 else 0
    if step_order == 0:
        # A constant is the level above the pre-edge line where it was measured, as in Larch.
        reference = post_centre
    post_level = (_powers(reference - post_centre, n_post) @ post_basis)[0]
    post_level[step_order + 1 :] = 0.0
    pre_slope = pre_basis[1, 1] / 100.0 if pre_basis.shape[0] > 1 else 0.0
    # Below an L edge scans are short: carried on by more than its own length, a slope says more of the noise.
    short = edge.is_by_white_line and float(np.ptp(energy_ev[pre])) < edge.energy_ev - pre_centre
    shares_slope = pre.size > 1 and (near or short or pre.size < _FEWEST_FOR_SLOPE)
    dof = pre.size - (1 if shares_slope else pre_basis.shape[1]) + post.size - post_basis.shape[1]
    if dof < 1:
        return None
    pre_rule = (_powers(energy_ev[pre] - pre_centre, pre_basis.shape[0] - 1) @ pre_basis).T * weights[pre]
    if pre_rule.shape[0] == 1:
        pre_rule = np.vstack([pre_rule, np.zeros_like(pre_rule)])
    post_rule = (_powers(energy_ev[post] - post_centre, n_post) @ post_basis).T * weights[post]
    return WindowPlan(
        reference_ev=reference,
        pre=pre,
        post=post,
        pre_rule=np.ascontiguousarray(pre_rule),
        post_rule=np.ascontiguousarray(post_rule),
        pre_weight=weights[pre],
        post_weight=weights[post],
        pre_level=float(pre_basis[0, 0]),
        pre_slope=float(pre_slope),
        pre_centre_ev=pre_centre,
        post_level=post_level,
        inside=inside,
        inside_ev=energy_ev[inside],
        inside_weight=weights[inside],
        shares_slope=shares_slope,
        near=near,
        dof=dof,
    )


def relative_slope(plan: WindowPlan, stack: NDArray[np.float32]) -> float:
    """Slope of the pre-edge relative to its level, per eV, that the pixels share.

    Absorption falls in proportion to itself, so that thick and thin pixels have one relative slope: that of their
    mean spectrum, or, where there are too few pixels, or the foot of the edge has a part in it, the ``E**-3`` of
    photoabsorption (Victoreen).

    Parameters
    ----------
    plan : WindowPlan
        Windows of the scan.
    stack : ndarray of float32, shape (n_energy, n_pixels)
        Optical depth.
    """
    step = max(1, stack.shape[1] // _ENOUGH_SHARING)
    frames = stack[plan.pre, ::step].astype(np.float64)
    complete = np.isfinite(frames).all(axis=0)
    if complete.sum() >= _FEWEST_SHARING and not plan.near:
        constant, linear = plan.pre_rule @ frames[:, complete].mean(axis=1)
        if constant * plan.pre_level > 0.0:
            return float(linear * plan.pre_slope / (constant * plan.pre_level))
    return -3.0 / plan.pre_centre_ev


def plan_slopes(plan: WindowPlan, reach_ev: float) -> SlopeRules:
    """Plan local parabolas over the frames within ``reach_ev``, at least over the nearest three.

    Parameters
    ----------
    plan : WindowPlan
        Windows of the scan.
    reach_ev : float
        Half-width of the supports.

    Returns
    -------
    SlopeRules
        Slope at each frame.
    """
    energies = plan.inside_ev
    n = energies.size
    supports = []
    for j in range(n):
        near = np.flatnonzero(np.abs(energies - energies[j]) <= reach_ev)
        first, last = max(0, min(int(near[0]), j - 1)), min(n - 1, max(int(near[-1]), j + 1))
        if last - first < 2:
            first, last = max(0, last - 2), min(n - 1, first + 2)
        supports.append((first, last))
    return _slope_rules(plan, energies, supports, order=2)


def plan_rises(plan: WindowPlan, reach_ev: float) -> SlopeRules:
    """Plan local lines over the frames within ``reach_ev`` of the middle between each frame and the next.

    Parameters
    ----------
    plan : WindowPlan
        Windows of the scan.
    reach_ev : float
        Half-width of the supports, which hold at least these two frames and their neighbours.

    Returns
    -------
    SlopeRules
        Slope behind each frame.
    """
    energies = plan.inside_ev
    n = energies.size
    middle = np.append(0.5 * (energies[:-1] + energies[1:]), energies[-1])
    supports = []
    for j in range(n):
        near = np.flatnonzero(np.abs(energies - middle[j]) <= reach_ev)
        first, last = (int(near[0]), int(near[-1])) if near.size else (j, j)
        supports.append((max(0, min(first, j - 1)), min(n - 1, max(last, j + 2))))
    return _slope_rules(plan, middle, supports, order=1)


def _slope_rules(
    plan: WindowPlan, centres_ev: Array, supports: list[tuple[int, int]], order: int
) -> SlopeRules:
    """Slopes at some energies of polynomials through the frames from first to last."""
    energies, weights = plan.inside_ev, plan.inside_weight
    n = energies.size
    slopes = np.zeros((n, n))
    for j, (first, last) in enumerate(supports):
        support = slice(first, last + 1)
        offset = energies[support] - centres_ev[j]
        root = np.sqrt(weights[support])
        design = offset[:, None] ** np.arange(min(order + 1, offset.size))
        slopes[j, support] = (np.linalg.pinv(design * root[:, None]) * root)[1]
    start = np.array([first for first, _ in supports], dtype=np.int64)
    count = np.array([last - first + 1 for first, last in supports], dtype=np.int64)
    most = int(count.max())
    pick = np.minimum(start[:, None] + np.arange(most), n - 1)
    packed = np.where(np.arange(most) < count[:, None], slopes[np.arange(n)[:, None], pick], 0.0)
    return SlopeRules(
        start=start,
        n_frames=count,
        slope=np.ascontiguousarray(packed),
        covariance=np.ascontiguousarray((slopes / weights) @ slopes.T),
    )


def wide_enough(plan: WindowPlan, reach_ev: float) -> Array:
    """Half-width of a parabola around each frame: ``reach_ev``, or what takes in the five nearest frames."""
    distance = np.sort(np.abs(plan.inside_ev[:, None] - plan.inside_ev), axis=1)
    return np.maximum(reach_ev, 1.2 * distance[:, min(4, distance.shape[1] - 1)])


def _within(energies: Array, window: Window) -> NDArray[np.bool_]:
    return (energies >= window[0]) & (energies <= window[1])


def _powers(offset_ev: Array | float, order: int) -> Array:
    # In units of 100 eV, so that the powers stay comparable.
    return np.atleast_1d(np.asarray(offset_ev) / 100.0)[:, None] ** np.arange(order + 1)


def _orthonormal(energies: Array, weights: Array, order: int) -> tuple[Array, float]:
    """Coefficients, shape (power, polynomial), of polynomials orthonormal under the weights; their centre."""
    centre = float(np.average(energies, weights=weights))
    design = _powers(energies - centre, order) * np.sqrt(weights)[:, None]
    _, upper = np.linalg.qr(design)
    upper *= np.sign(np.diag(upper))[:, None]
    return np.linalg.inv(upper), centre
