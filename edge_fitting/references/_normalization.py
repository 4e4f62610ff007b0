"""Pre-edge line, post-edge polynomial and edge step of every pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import check_energies, check_exact_stack
from edge_fitting.errors import EdgeFittingError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class NormalizedStack:
    """Normalised spectra and what they were normalised with.

    Parameters
    ----------
    energy_ev : ndarray, shape (n_energy,)
        Increasing energies.
    normalized : ndarray of float64, shape (n_energy, rows, cols)
        Absorption, 0 below and 1 above the edge.
    edge_jump : ndarray of float64, shape (rows, cols)
        Step between post-edge and pre-edge curve at the grid point nearest to ``e0_ev``.
    pre_edge, post_edge : ndarray of float64, shape (n_energy, rows, cols)
        The two curves.
    """

    energy_ev: Array
    normalized: Array
    edge_jump: Array
    pre_edge: Array
    post_edge: Array


def normalize(
    energy_ev: ArrayLike,
    optical_depth: ArrayLike,
    *,
    e0_ev: float,
    pre_edge_ev: tuple[float, float],
    post_edge_ev: tuple[float, float],
    order: int | None = None,
    flatten: bool = False,
    global_slope: bool = False,
) -> NormalizedStack:
    """Normalise every pixel by a pre-edge line and a post-edge polynomial, in the convention of Larch.

    Parameters
    ----------
    energy_ev : array_like, shape (n_energy,)
        Different energies in eV, any order.
    optical_depth : array_like, shape (n_energy, rows, cols)
        Optical depth; a pixel with a missing value in a window is NaN.
    e0_ev : float
        Edge energy; the step is taken at the grid point nearest to it.
    pre_edge_ev, post_edge_ev : tuple of float
        Windows relative to ``e0_ev``. As in Larch they hold the points from the last one at or below the start up to,
        not including, the one nearest to the end.
    order : {0, 1, 2}, optional
        Order of the post-edge polynomial, fitted to the data with the pre-edge line subtracted; by default 2 for
        windows of 300 eV and more, 1 from 30 eV, else 0.
    flatten : bool
        Take the curvature of the post-edge out above the edge.
    global_slope : bool
        Give all pixels the pre-edge slope of the mean spectrum, in proportion to their edge jump: for pixels too noisy
        for a slope of their own.

    Returns
    -------
    NormalizedStack

    Raises
    ------
    EdgeFittingError
        For repeated energies, windows without enough points, or an order other than 0, 1, 2.
    """
    energies = check_energies(energy_ev)
    stack = check_exact_stack(optical_depth, energies.size)
    sort = np.argsort(energies)
    energies = energies[sort]
    if (np.diff(energies) == 0).any():
        raise EdgeFittingError("normalize needs every energy once: average repeated frames first.")
    if order not in (None, 0, 1, 2):
        raise EdgeFittingError(f"the order of the post-edge polynomial must be 0, 1 or 2, not {order!r}.")
    if not np.isfinite(e0_ev) or not energies[0] <= e0_ev <= energies[-1]:
        raise EdgeFittingError(
            f"e0_ev {e0_ev!r} is not within the scan ({energies[0]:g} to {energies[-1]:g} eV)."
        )
    data = stack.reshape(energies.size, -1)[sort]
    pre = _window(energies, e0_ev, pre_edge_ev, 2, "pre-edge")
    post_range = min(post_edge_ev[1], energies[-1] - e0_ev) - post_edge_ev[0]
    if order is None:
        order = 2 if post_range >= 300.0 else 1 if post_range >= 30.0 else 0
    post = _window(energies, e0_ev, post_edge_ev, order + 1, "post-edge")
    nearest = int(np.argmin(np.abs(energies - e0_ev)))
    x = (energies - energies[nearest]) / 100.0
    post_rule = np.linalg.pinv(x[post, None] ** np.arange(order + 1))
    if global_slope:
        level, slope = _scaled_slope(x, data, pre, post, post_rule)
    else:
        level, slope = np.linalg.pinv(np.stack([np.ones(pre.stop - pre.start), x[pre]], axis=1)) @ data[pre]
    pre_curve = level + np.outer(x, slope)
    coefficients = post_rule @ (data[post] - pre_curve[post])
    step = coefficients[0]
    post_curve = pre_curve + (x[:, None] ** np.arange(order + 1)) @ coefficients
    with np.errstate(invalid="ignore", divide="ignore"):
        normalised = (data - pre_curve) / step
        if flatten:
            residue = (post_curve - pre_curve) / step
            normalised[nearest:] -= residue[nearest:] - residue[nearest]
    shape = stack.shape
    return NormalizedStack(
        energy_ev=energies,
        normalized=normalised.reshape(shape),
        edge_jump=step.reshape(shape[1:]),
        pre_edge=pre_curve.reshape(shape),
        post_edge=post_curve.reshape(shape),
    )


def _window(energies: Array, e0_ev: float, window_ev: tuple[float, float], least: int, name: str) -> slice:
    low, high = sorted(window_ev)
    start = max(int(np.searchsorted(energies, e0_ev + low, side="right")) - 1, 0)
    stop = int(np.argmin(np.abs(energies - (e0_ev + high))))
    if stop - start < least:
        raise EdgeFittingError(
            f"the {name} window {low:g} to {high:g} eV from the edge holds {max(stop - start, 0)} energies but needs "
            f"{least}: widen it or measure more there."
        )
    return slice(start, stop)


def _scaled_slope(x: Array, data: Array, pre: slice, post: slice, post_rule: Array) -> tuple[Array, Array]:
    """Pre-edge level at x = 0 and slope of each pixel, with one ratio of slope to jump for all."""
    mean = data[:, np.isfinite(data).all(axis=0)].mean(axis=1)
    design = np.stack([np.ones(pre.stop - pre.start), x[pre]], axis=1)
    mean_level, mean_slope = np.linalg.pinv(design) @ mean[pre]
    mean_jump = (post_rule @ (mean[post] - mean_level - mean_slope * x[post]))[0]
    ratio = mean_slope / mean_jump
    # With slope = ratio * jump, and level = centre - slope * x_centre, the jump is linear in the data:
    # jump = F (y - centre) - ratio * jump * F (x - x_centre).
    centre, x_centre = data[pre].mean(axis=0), x[pre].mean()
    value = post_rule[0]
    jump = (value @ data[post] - centre) / (1.0 + ratio * (value @ (x[post] - x_centre)))
    slope = ratio * jump
    return centre - slope * x_centre, slope
