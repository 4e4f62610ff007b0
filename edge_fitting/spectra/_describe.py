"""What one spectrum says: edge energies by each definition, edge step, normalised absorption, state of charge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import Edge, FitStatus, resolve_edge
from edge_fitting.errors import EdgeFittingError
from edge_fitting.fit import fit_stack
from edge_fitting.references import ReferenceSeries, normalize

Array = NDArray[np.float64]

EDGE_DEFINITIONS = ("half_jump", "inflection", "white_line")
"""Definitions of the edge energy that are always tried."""

# The step is looked for where these find the edge, in this order; Larch takes the steepest point.
_E0_BY = ("inflection", "half_jump", "white_line")


@dataclass(frozen=True, slots=True)
class EdgePosition:
    """Edge energy by one definition.

    Parameters
    ----------
    value_ev, sigma_ev : float
        Energy on the axis of the spectrum, and its standard deviation by noise; NaN where there is none.
    status : str
        Name of a `FitStatus`.
    definition : str
        What it means, in one sentence.
    """

    value_ev: float
    sigma_ev: float
    status: str
    definition: str


@dataclass(frozen=True, slots=True, eq=False)
class SpectrumFit:
    """What one spectrum says.

    Parameters
    ----------
    positions : mapping of str to EdgePosition
        By definition.
    e0_ev : float
        Where the step is taken: the inflection, else the half-jump; NaN where there is none.
    edge_step, edge_step_sigma : float
        Step between pre-edge line and post-edge curve at ``e0_ev``, as in Larch; NaN where there is none.
    normalized, normalized_sigma : ndarray, shape (n,), or None
        Normalised absorption, and its standard deviation by the noise of the point.
    soc, soc_sigma : float
        State of charge on the scale of the references, and its standard deviation by noise; NaN where there is none.
    soc_systematic : float or None
        What axis and references add to that.
    residual : ndarray, shape (n,), or None
        Normalised absorption minus that of the references at ``soc``, pre-edge line and step fitted.
    axis_offset_ev : float or None
        Energies of the spectrum minus those of the references for the same feature.
    warnings : tuple of str
        What cannot be told and why, one sentence each.
    """

    positions: Mapping[str, EdgePosition]
    e0_ev: float
    edge_step: float
    edge_step_sigma: float
    normalized: Array | None
    normalized_sigma: Array | None
    soc: float = float("nan")
    soc_sigma: float = float("nan")
    soc_systematic: float | None = None
    residual: Array | None = None
    axis_offset_ev: float | None = None
    warnings: tuple[str, ...] = field(default=())


def describe_spectrum(
    energy_ev: ArrayLike,
    mu: ArrayLike,
    *,
    edge: str | Edge,
    sigma: ArrayLike | None = None,
    references: ReferenceSeries | None = None,
) -> SpectrumFit:
    """Find the edge energy by every definition, normalise, and fit the references where there are some.

    What cannot be told is NaN or None, with a warning; the rest is given.

    Parameters
    ----------
    energy_ev, mu : array_like, shape (n,)
        Increasing energies in eV, and absorption.
    edge : str or Edge
        The edge.
    sigma : array_like, shape (n,), optional
        Standard deviation of each point.
    references : ReferenceSeries, optional
        Spectra of known state of charge.

    Returns
    -------
    SpectrumFit
    """
    which = resolve_edge(edge)
    x, y = np.asarray(energy_ev, np.float64), np.asarray(mu, np.float64)
    width = np.zeros_like(y) if sigma is None else np.asarray(sigma, np.float64)
    said: list[str] = []
    if x.size and x[-1] < which.energy_ev:
        said.append(f"the scan ends at {x[-1]:.1f} eV, below the {which.name} edge: it holds no edge energy")
    weights = _weights(width)
    positions = {name: _position(x, y, weights, which, name, said) for name in EDGE_DEFINITIONS}
    e0_ev = next((p.value_ev for n in _E0_BY if np.isfinite((p := positions[n]).value_ev)), float("nan"))
    step, step_sigma, normalized = float("nan"), float("nan"), None
    if np.isfinite(e0_ev):
        try:
            step, step_sigma, normalized = _normalized(x, y, width, e0_ev, which)
        except EdgeFittingError as error:
            said.append(f"no edge step and no normalised absorption: {str(error).rstrip('.')}")
    fitted: dict[str, Any] = {}
    if references is not None:
        try:
            fitted = _by_references(x, y, weights, which, references, said)
        except EdgeFittingError as error:
            said.append(f"no state of charge: {str(error).rstrip('.')}")
    return SpectrumFit(
        positions=positions,
        e0_ev=float(e0_ev),
        edge_step=step,
        edge_step_sigma=step_sigma,
        normalized=normalized,
        normalized_sigma=None if normalized is None else width / abs(step),
        warnings=tuple(dict.fromkeys(said)),
        **fitted,
    )


def _weights(width: Array) -> Array:
    known = width > 0
    if not known.any():
        return np.ones_like(width)
    usual = float(np.median(width[known]))
    return np.where(known, (usual / np.where(known, width, usual)) ** 2, 1.0)


def _position(x: Array, y: Array, weights: Array, edge: Edge, name: Any, said: list[str]) -> EdgePosition:
    try:
        maps = fit_stack(x, y[:, None, None].astype(np.float32), edge=edge, method=name, weights=weights)
    except EdgeFittingError as error:
        said.append(f"no edge energy by {name}: {str(error).rstrip('.')}")
        return EdgePosition(float("nan"), float("nan"), FitStatus.TOO_FEW_FRAMES.name, name)
    return EdgePosition(
        float(maps.edge_energy_ev[0, 0]),
        float(maps.edge_energy_sigma_ev[0, 0]),
        FitStatus(int(maps.status[0, 0])).name,
        maps.definition,
    )


def _normalized(x: Array, y: Array, width: Array, e0_ev: float, edge: Edge) -> tuple[float, float, Array]:
    pre = (edge.pre_edge_ev[0] - e0_ev, edge.pre_edge_ev[1] - e0_ev)
    post = (edge.post_edge_ev[0] - e0_ev, edge.post_edge_ev[1] - e0_ev)
    whole = normalize(x, y[:, None, None], e0_ev=e0_ev, pre_edge_ev=pre, post_edge_ev=post)
    step = float(whole.edge_jump[0, 0])
    if not step > 0:
        raise EdgeFittingError(f"the step at {e0_ev:.1f} eV is {step:.3g}, which is no absorption edge")
    # The step is linear in the spectrum: each point's part in it is the step of that point alone.
    parts = normalize(x, np.eye(x.size)[:, None, :], e0_ev=e0_ev, pre_edge_ev=pre, post_edge_ev=post)
    sigma = float(np.linalg.norm(parts.edge_jump[0] * width))
    return step, sigma, whole.normalized[:, 0, 0]


def _by_references(
    x: Array, y: Array, weights: Array, edge: Edge, references: ReferenceSeries, said: list[str]
) -> dict[str, Any]:
    covered = (x >= references.energy_ev[0]) & (x <= references.energy_ev[-1])
    if not covered.all():
        said.append(
            f"the references cover {references.energy_ev[0]:.1f} to {references.energy_ev[-1]:.1f} eV: "
            f"{int((~covered).sum())} of {x.size} points have no part in the state of charge"
        )
    x, y, weights = x[covered], y[covered], weights[covered]
    if x.size < 4:
        raise EdgeFittingError("the references cover too little of the scan")
    maps = fit_stack(
        x,
        y[:, None, None].astype(np.float32),
        edge=edge,
        method="series",
        references=references,
        weights=weights,
    )
    said.extend(maps.warnings)
    soc = float(maps.soc[0, 0])
    residual = None
    if np.isfinite(soc):
        model = np.asarray(references.evaluate(x, soc)).reshape(-1)
        design = np.stack([np.ones_like(x), (x - x.mean()) / 100.0, model], axis=1)
        root = np.sqrt(weights)[:, None]
        found, *_ = np.linalg.lstsq(design * root, y * root[:, 0], rcond=None)
        residual = np.full(covered.size, np.nan)
        residual[covered] = (y - design @ found) / found[2]
    else:
        said.append(f"no state of charge: {FitStatus(int(maps.status[0, 0])).name.lower().replace('_', ' ')}")
    return {
        "soc": soc,
        "soc_sigma": float(maps.soc_sigma[0, 0]),
        "soc_systematic": maps.soc_systematic,
        "axis_offset_ev": maps.axis_offset_ev,
        "residual": residual,
    }
