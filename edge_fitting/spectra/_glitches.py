"""Glitches: points where the beam, or one detector, was not what it is at its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import MAD_TO_SIGMA, Edge, resolve_edge
from edge_fitting.errors import EdgeFittingError

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

GLITCH_KINDS = ("none", "i0 and it", "it alone", "i0 alone")
"""Kinds by their number in `Glitches.kind`."""

_BOTH, _IT, _I0 = 1, 2, 3
# Points on either side that a cubic is drawn through, and how many points a glitch is wide.
_SIDE = 3
_WIDEST = 3
# A glitch stands out of the cubic by this many standard deviations, by this part of I0, and by this part of the step.
_SIGNIFICANT = 6.0
_LEAST_I0 = 0.01
_LEAST_STEP = 0.004
_LEAST_STEP_NEAR = 0.03
# Structure of the sample is not sharper than what so wide a neighbourhood resolves (eV): near the edge, below it, and
# above it, where the period of the oscillations grows with the root of the energy above the edge.
_NEAR_EV = (-15.0, 60.0)
_SPAN_NEAR_EV = 3.6
_SPAN_EV = 40.0
_SPAN_PER_ROOT_EV = 0.97
# Of so large a part of the points the cubic does not describe what is measured.
_MOST = 0.15


@dataclass(frozen=True, slots=True, eq=False)
class Glitches:
    """Which points of a sweep are glitches.

    Parameters
    ----------
    kind : ndarray of uint8, shape (n,)
        0: none; 1: I0 and It lose alike, a glitch of the monochromator; 2: It alone, such as diffraction of the
        sample; 3: I0 alone.
    warning : str
        Where so many points stand out that none is called a glitch; empty otherwise.
    """

    kind: NDArray[np.uint8]
    warning: str = ""

    @property
    def found(self) -> Mask:
        """Which points are glitches of any kind."""
        return np.asarray(self.kind > 0)


def find_glitches(energy_ev: ArrayLike, i0: ArrayLike | None, mu: ArrayLike, *, edge: str | Edge) -> Glitches:
    """Find glitches up to three points wide and tell what has them.

    The logarithm of I0 and the absorption are compared with cubics through three neighbours on either side; a step, as
    from a top-up, is no glitch. In the absorption near the edge only what is sharper than any structure counts, so
    that nothing is found there with steps above 0.5 eV.

    Parameters
    ----------
    energy_ev : array_like, shape (n,)
        Increasing energies in eV.
    i0 : array_like, shape (n,), or None
        Incident intensity.
    mu : array_like, shape (n,)
        Absorption measured with it.
    edge : str or Edge
        The edge.

    Returns
    -------
    Glitches

    Raises
    ------
    EdgeFittingError
        For shapes that differ or energies that do not increase.
    """
    x = np.asarray(energy_ev, dtype=np.float64)
    y = np.asarray(mu, dtype=np.float64)
    incident = None if i0 is None else np.asarray(i0, dtype=np.float64)
    if y.shape != x.shape or (incident is not None and incident.shape != x.shape):
        raise EdgeFittingError("energies, I0 and absorption must be as many: give one sweep.")
    if (np.diff(x) <= 0).any():
        raise EdgeFittingError("the energies of a sweep must increase: sort them and average repeats.")
    kind = np.zeros(x.size, np.uint8)
    if x.size < 4 * _SIDE:
        return Glitches(kind)
    from_edge = x - resolve_edge(edge).energy_ev
    near = (from_edge > _NEAR_EV[0]) & (from_edge < _NEAR_EV[1])
    step = float(np.ptp(np.quantile(y, (0.05, 0.95)))) or 1.0
    least = np.where(near, _LEAST_STEP_NEAR, _LEAST_STEP) * step
    above = np.maximum(_SPAN_NEAR_EV, _SPAN_PER_ROOT_EV * np.sqrt(np.maximum(from_edge, 0.0)))
    spans = np.where(near, _SPAN_NEAR_EV, np.where(from_edge > 0, above, _SPAN_EV))
    in_mu, off_mu = _standing_out(x, y, least, spans)
    if incident is not None and (incident > 0).all():
        in_i0, off_i0 = _standing_out(
            x, np.log(incident), np.full(x.size, _LEAST_I0), np.full(x.size, _SPAN_EV)
        )
        # Where It does not lose what I0 loses, the absorption shows all of it.
        only_i0 = in_i0 & (np.abs(off_mu) > 0.5 * np.abs(off_i0))
        kind[in_i0] = _BOTH
        kind[only_i0] = _I0
        kind[in_mu & ~in_i0] = _IT
    else:
        kind[in_mu] = _IT
    n_found = int((kind > 0).sum())
    if n_found > _MOST * x.size:
        kind[:] = 0
        return Glitches(
            kind,
            f"{n_found} of {x.size} points stand out of their neighbours, too many for glitches: all are left in",
        )
    return Glitches(kind)


def _standing_out(x: Array, y: Array, least: Array, spans: Array) -> tuple[Mask, Array]:
    """Which points stand out of the cubics through their neighbours, and how far each is off."""
    found, off = np.zeros(x.size, np.bool_), np.zeros(x.size)
    noise = 0.0
    for width in range(1, _WIDEST + 1):
        start = np.arange(_SIDE, x.size - _SIDE - width + 1)
        if not start.size:
            break
        inside = start[:, None] + np.arange(width)
        left = start[:, None] - _SIDE + np.arange(_SIDE)
        right = start[:, None] + width + np.arange(_SIDE)
        around = np.concatenate([left, right], axis=1)
        centre = x[around].mean(axis=1, keepdims=True)
        scale = np.ptp(x[around], axis=1)[:, None]
        powers = np.arange(4)
        design = ((x[around] - centre) / scale)[:, :, None] ** powers
        at = ((x[inside] - centre) / scale)[:, :, None] ** powers
        rule = at @ np.linalg.pinv(design)
        away = y[inside] - np.einsum("jmk,jk->jm", rule, y[around])
        size = np.sqrt(1.0 + (rule**2).sum(axis=2))
        if width == 1:
            noise = MAD_TO_SIGMA * float(np.median(np.abs(away / size)))
            off[start] = away[:, 0]
        ends = np.stack([_line_to(x, y, side, inside) for side in (left, right)])
        same = (np.sign(ends) == np.sign(away)).all(axis=0) & (np.abs(ends) > 0.4 * np.abs(away)).all(axis=0)
        large = (np.abs(away) > _SIGNIFICANT * noise * size) & (np.abs(away) > least[inside])
        resolved = (scale <= spans[inside]).all(axis=1)
        # The whole run is off to one side, and its neighbours are not part of it.
        run = resolved & (large & same).all(axis=1) & (np.ptp(np.sign(away), axis=1) == 0)
        for j in np.flatnonzero(run):
            cells = inside[j]
            if found[cells[0] : cells[-1] + 1].all():
                continue
            if width > 1 and found[around[j]].any() and not found[cells].any():
                continue  # the neighbours are a glitch, not these
            found[cells] = True
            off[cells] = away[j]
    return found, off


def _line_to(x: Array, y: Array, side: NDArray[np.intp], inside: NDArray[np.intp]) -> Array:
    """How far points are off the mean of their neighbours on one side."""
    return np.asarray(y[inside] - y[side].mean(axis=1, keepdims=True) + 0.0 * x[inside])
