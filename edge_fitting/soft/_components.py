"""Linear combination of component spectra in a yield that may saturate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from edge_fitting.errors import EdgeFittingError

from ._soft_edges import SoftEdge

__all__ = ["Component", "ComponentFit", "fit_components", "saturated", "unsaturated"]

Array = NDArray[np.float64]

_MOST_SHIFT_EV = 1.0
_MOST_SATURATION = 3.0
_FEWEST = 8
# A shift or saturation so near to its limit is at it.
_AT_LIMIT = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """Normalised spectrum of one state of an element.

    Attributes
    ----------
    name : str
        Such as "Ni3+".
    energy_ev, normalized : ndarray, shape (n,)
        Increasing energies, and absorption that is 0 below and 1 above the edge.
    valence : float
        Of the element in it; NaN where it has none.
    """

    name: str
    energy_ev: Array
    normalized: Array
    valence: float = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class ComponentFit:
    """Fractions of components.

    Attributes
    ----------
    fractions, sigma : mapping of str to float
        Share of each, adding up to one, and its standard deviation by noise.
    valence, valence_sigma : float
        Mean valence; NaN where a component has none.
    shift_ev, shift_sigma_ev : float
        What the energies of the yield have too much, as fitted with the fractions.
    saturation, saturation_sigma : float
        Absorption of the edge step over the depth of the yield, as fitted; NaN where it was given or not fitted.
    curve : ndarray, shape (n,)
        Fitted yield; NaN where the components do not reach.
    warnings : tuple of str
        What limits the fit.
    """

    fractions: Mapping[str, float]
    sigma: Mapping[str, float]
    valence: float
    valence_sigma: float
    shift_ev: float
    shift_sigma_ev: float
    saturation: float
    saturation_sigma: float
    curve: Array
    warnings: tuple[str, ...] = field(default=())


def saturated(normalized: ArrayLike, saturation: float) -> Array:
    """Return what a yield makes of an absorption: proportional to it while little is absorbed within its depth.

    ``(1 + s) mu / (1 + s mu)`` with the absorption ``s`` of the edge step over the depth: the first order of electron
    yield at grazing incidence and of self-absorption in fluorescence. The level above the edge stays 1.
    """
    mu = np.asarray(normalized, np.float64)
    return np.asarray((1.0 + saturation) * mu / (1.0 + saturation * mu))


def unsaturated(normalized: ArrayLike, saturation: float) -> Array:
    """Return the absorption that `saturated` made a yield of; NaN where no absorption gives as much."""
    y = np.asarray(normalized, np.float64)
    rest = 1.0 + saturation - saturation * y
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(rest > 0, y / rest, np.nan)


def fit_components(
    energy_ev: Array,
    values: Array,
    sigma: Array | float,
    components: list[Component],
    edge: SoftEdge,
    *,
    saturation: float | None = None,
) -> ComponentFit:
    """Fit a yield by a non-negative mixture of components, a straight line, a shift of the axis, and saturation.

    Parameters
    ----------
    energy_ev, values : ndarray, shape (n,)
        Increasing energies, and the yield in any unit.
    sigma : ndarray, shape (n,), or float
        Relative standard deviations of the points; their size follows from the residuals.
    components : list of Component
        One or more.
    edge : SoftEdge
        The edge.
    saturation : float, optional
        Known saturation; by default it is fitted where there are two components.

    Raises
    ------
    EdgeFittingError
        The components do not cover the white line, or the points are too few.
    """
    if not components:
        raise EdgeFittingError("there is no component to fit.")
    low = max(float(c.energy_ev[0]) for c in components) + 0.5
    high = min(float(c.energy_ev[-1]) for c in components) - 0.5
    said: list[str] = []
    if low > edge.white_line_ev[0] or high < edge.white_line_ev[1]:
        raise EdgeFittingError(
            f"the references cover {low - 0.5:.1f} to {high + 0.5:.1f} eV, which is not the white line "
            f"({edge.white_line_ev[0]:g} to {edge.white_line_ev[1]:g} eV): no linear combination."
        )
    inside = (energy_ev >= low) & (energy_ev <= high)
    if (energy_ev < low).any() or (energy_ev > high).any():
        said.append(
            f"the references cover {low - 0.5:.1f} to {high + 0.5:.1f} eV: {int((~inside).sum())} of {inside.size} "
            "points are not in the linear combination"
        )
    x, y = energy_ev[inside], values[inside]
    n = len(components)
    free_saturation = saturation is None and n > 1
    n_unknowns = n + 3 + free_saturation
    if x.size < max(_FEWEST, n_unknowns + 2):
        raise EdgeFittingError(f"{x.size} points are too few for {n} components.")
    scale = float(np.ptp(y))
    if not scale > 0:
        raise EdgeFittingError("the yield is the same everywhere.")
    y = y / scale
    width = np.broadcast_to(np.asarray(sigma, np.float64), energy_ev.shape)[inside]
    width = width / np.median(width) if (width > 0).all() else np.ones_like(x)
    base = (x - x.mean()) / 10.0
    curves = [(c.energy_ev, c.normalized) for c in components]

    rises = [np.diff(c.normalized) / np.diff(c.energy_ev) for c in components]

    def mixed(p: Array) -> tuple[Array, Array, float, float]:
        """Return the components where they are, their mean, what there is of them, and the saturation."""
        held = np.array([np.interp(x - p[n + 2], *one) for one in curves])
        total = max(float(p[:n].sum()), 1e-12)
        how = float((p[n + 3] if free_saturation else saturation) or 0.0)
        return held, p[:n] @ held / total, total, how

    def curve(p: Array) -> Array:
        _, mean, total, how = mixed(p)
        return np.asarray(p[n] + p[n + 1] * base + total * saturated(mean, how))

    def jacobian(p: Array) -> Array:
        held, mean, total, how = mixed(p)
        rest = 1.0 + how * mean
        level, slope = (1.0 + how) * mean / rest, (1.0 + how) / rest**2
        moved = sum(
            part * rise[np.clip(np.searchsorted(one[0], x - p[n + 2], side="right") - 1, 0, rise.size - 1)]
            for part, one, rise in zip(p[:n], curves, rises, strict=True)
        )
        columns = [*(level + slope * (held - mean)), np.ones_like(x), base, -slope * moved]
        if free_saturation:
            columns.append(total * mean * (1.0 - mean) / rest**2)
        return np.column_stack(columns) / width[:, None]

    start = np.concatenate(
        [np.full(n, 0.1 / n), [float(y.min()), 0.0, 0.0], [0.02] if free_saturation else []]
    )
    least = np.concatenate(
        [np.zeros(n), [-np.inf, -np.inf, -_MOST_SHIFT_EV], [0.0] if free_saturation else []]
    )
    most = np.concatenate(
        [np.full(n + 2, np.inf), [_MOST_SHIFT_EV], [_MOST_SATURATION] if free_saturation else []]
    )
    fit = least_squares(
        lambda p: (curve(p) - y) / width, start, jac=jacobian, bounds=(least, most),
        x_scale=np.maximum(np.abs(start), 0.05),
        xtol=1e-5, ftol=1e-7, max_nfev=60,
    )  # fmt: skip
    p = fit.x
    variance = 2.0 * fit.cost / (x.size - n_unknowns)
    # Fractions at their limit count: the others are no better known because one would be negative.
    free = np.ones(p.size, np.bool_)
    free[n + 2 :] = (p > least + _AT_LIMIT)[n + 2 :] & (p < most - _AT_LIMIT)[n + 2 :]
    covariance = np.zeros((p.size, p.size))
    covariance[np.ix_(free, free)] = np.linalg.pinv(fit.jac[:, free].T @ fit.jac[:, free]) * variance
    total = float(p[:n].sum())
    if not total > 0:
        raise EdgeFittingError("the yield holds nothing of the references.")
    share = p[:n] / total
    gradient = (np.eye(n) - share[:, None]) / total
    spread = gradient @ covariance[:n, :n] @ gradient.T
    valences = np.array([c.valence for c in components])
    whole = np.full(energy_ev.size, np.nan)
    whole[inside] = curve(p) * scale
    if abs(p[n + 2]) > 0.95 * _MOST_SHIFT_EV:
        said.append(f"the axis is off the references by {p[n + 2]:+.2f} eV or more: calibrate it first")
    return ComponentFit(
        fractions={c.name: float(part) for c, part in zip(components, share, strict=True)},
        sigma={c.name: float(np.sqrt(v)) for c, v in zip(components, np.diag(spread), strict=True)},
        valence=float(share @ valences),
        valence_sigma=float(np.sqrt(max(float(valences @ spread @ valences), 0.0))),
        shift_ev=float(p[n + 2]),
        shift_sigma_ev=float(np.sqrt(covariance[n + 2, n + 2])),
        saturation=float(p[n + 3]) if free_saturation else float("nan"),
        saturation_sigma=float(np.sqrt(covariance[n + 3, n + 3])) if free_saturation else float("nan"),
        curve=whole,
        warnings=tuple(said),
    )
