"""Linear combination of components at every pixel of a stack of images, by one matrix product."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import FitStatus
from edge_fitting.errors import EdgeFittingError

from ._components import Component
from ._soft_edges import SoftEdge

__all__ = ["SoftMaps", "fit_soft_stack"]

Array = NDArray[np.float64]

# Line below the edge: level and slope.
_N_BELOW = 2
_SIGNIFICANT = 4.0
# A share so far outside of 0 to 1, beyond what its noise explains, belongs to other components.
_OUTSIDE = 0.25
_MARGIN_EV = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class SoftMaps:
    """Maps of one stack; NaN where ``status`` is no value.

    Attributes
    ----------
    fraction, fraction_sigma : ndarray of float32, shape (n_components, rows, cols)
        Share of each component, adding up to one, and its standard deviation.
    state, state_sigma : ndarray of float32, shape (rows, cols)
        Mean valence; where a component has none, the share of the last one.
    edge_jump, edge_jump_sigma : ndarray of float32, shape (rows, cols)
        Optical depth (or yield) that the edge adds far above it.
    goodness : ndarray of float32, shape (rows, cols)
        Chi2 over the degrees of freedom, by the variances that were given.
    status : ndarray of uint8, shape (rows, cols)
        `FitStatus`.
    misfit : float
        Factor of all sigmas for what scatters more than the variances say; 1 where nothing does.
    used : ndarray of bool, shape (n,)
        Energies that the components cover.
    """

    fraction: NDArray[np.float32]
    fraction_sigma: NDArray[np.float32]
    state: NDArray[np.float32]
    state_sigma: NDArray[np.float32]
    edge_jump: NDArray[np.float32]
    edge_jump_sigma: NDArray[np.float32]
    goodness: NDArray[np.float32]
    status: NDArray[np.uint8]
    misfit: float
    used: NDArray[np.bool_]


def fit_soft_stack(
    energy_ev: Array,
    values: NDArray[np.floating],
    variance: NDArray[np.floating],
    components: Sequence[Component],
    edge: SoftEdge,
    *,
    shift_ev: float = 0.0,
    thick: NDArray[np.bool_] | None = None,
) -> SoftMaps:
    """Fit every pixel by a straight line below the edge and a mixture of components.

    The fit is linear: its solution is one matrix for all pixels that have the same energies, with weights by the mean
    variance of each energy; the variance of each pixel's own values gives the standard deviations.

    Parameters
    ----------
    energy_ev : ndarray, shape (n,)
        Energies.
    values, variance : ndarray, shape (n, rows, cols)
        Optical depth, or yield over incident intensity, and its variance; NaN for what is missing.
    components : sequence of Component
        Two or more, or one for the amount only.
    edge : SoftEdge
        The edge.
    shift_ev : float
        What the energies have too much.
    thick : ndarray of bool, shape (rows, cols), optional
        Pixels too thick to be believed.

    Raises
    ------
    EdgeFittingError
        There is no component, or none of the energies is covered by them.
    """
    if not components:
        raise EdgeFittingError("there is no component to fit: give normalised spectra of known states.")
    energies = np.asarray(energy_ev, np.float64) - shift_ev
    low = max(float(one.energy_ev[0]) for one in components) - _MARGIN_EV
    high = min(float(one.energy_ev[-1]) for one in components) + _MARGIN_EV
    used = (energies >= low) & (energies <= high)
    if low > edge.white_line_ev[0] or high < edge.white_line_ev[1]:
        raise EdgeFittingError(
            f"the references cover {low:.1f} to {high:.1f} eV, which is not the white line "
            f"({edge.white_line_ev[0]:g} to {edge.white_line_ev[1]:g} eV): give references of this edge."
        )
    shape = values.shape[1:]
    y = values[used].reshape(int(used.sum()), -1).astype(np.float64)
    v = variance[used].reshape(y.shape).astype(np.float64)
    x = energies[used]
    mu = np.stack([np.interp(x, one.energy_ev, one.normalized) for one in components], axis=1)
    basis = np.column_stack([np.ones_like(x), (x - edge.energy_ev) / 10.0, mu])
    work = _Work(len(components), y.shape[1], _valences(components))
    good = np.isfinite(y) & np.isfinite(v) & (v > 0)
    for rows, pixels in _patterns(good):
        work.solve(basis, y, v, rows, pixels)
    return _maps(work, shape, used, thick)


def _valences(components: Sequence[Component]) -> Array:
    valences = np.array([one.valence for one in components])
    if np.isfinite(valences).all():
        return valences
    last: Array = np.eye(len(components))[-1]
    return last


def _patterns(good: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.intp]]]:
    """Group pixels by which energies they have."""
    if not good.size:
        return
    packed = np.ascontiguousarray(np.packbits(good, axis=0).T)
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).reshape(-1)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse))
    for number, stop in enumerate(ends):
        start = ends[number - 1] if number else 0
        yield good[:, first[number]], order[start:stop]


class _Work:
    """Flat arrays of the results."""

    def __init__(self, n: int, n_pixels: int, valences: Array) -> None:
        self.valences = valences
        self.fraction, self.fraction_sigma = (np.full((n, n_pixels), np.nan) for _ in range(2))
        self.state, self.state_sigma, self.jump, self.jump_sigma, self.goodness = (
            np.full(n_pixels, np.nan) for _ in range(5)
        )
        self.status = np.full(n_pixels, FitStatus.NO_DATA, np.uint8)

    def solve(
        self, basis: Array, y: Array, v: Array, rows: NDArray[np.bool_], pixels: NDArray[np.intp]
    ) -> None:
        n_rows, n = int(rows.sum()), basis.shape[1] - _N_BELOW
        if not n_rows:
            return
        b = basis[rows]
        scale = np.sqrt((b**2).sum(axis=0))
        if n_rows <= basis.shape[1] or np.linalg.cond(b / scale) > 1e6:
            self.status[pixels] = FitStatus.TOO_FEW_FRAMES
            return
        whole = len(pixels) == y.shape[1] and n_rows == len(y)
        y, v = (y, v) if whole else (y[np.ix_(rows, pixels)], v[np.ix_(rows, pixels)])
        weight = 1.0 / np.median(v, axis=1)
        normal = (b.T * weight) @ b
        solution = np.linalg.solve(normal, b.T * weight)
        found = solution @ y
        residual = y - b @ found
        self.goodness[pixels] = (residual**2 / v).sum(axis=0) / (n_rows - basis.shape[1])
        parts, take = found[_N_BELOW:], solution[_N_BELOW:]
        covariance = np.empty((n, n, len(pixels)))
        for i in range(n):
            for j in range(i, n):
                covariance[i, j] = covariance[j, i] = (take[i] * take[j]) @ v
        total = parts.sum(axis=0)
        self.jump[pixels] = total
        self.jump_sigma[pixels] = np.sqrt(covariance.sum(axis=(0, 1)))
        with np.errstate(invalid="ignore", divide="ignore"):
            share = parts / total
            state = self.valences @ share
            for k in range(n):
                slope = (np.eye(n)[k][:, None] - share[k]) / total
                self.fraction_sigma[k, pixels] = _spread(slope, covariance)
            self.state_sigma[pixels] = _spread((self.valences[:, None] - state) / total, covariance)
        self.fraction[:, pixels], self.state[pixels] = share, state
        self.status[pixels] = FitStatus.OK


def _spread(slope: Array, covariance: Array) -> Array:
    out: Array = np.sqrt(np.maximum(np.einsum("ip,ijp,jp->p", slope, covariance, slope), 0.0))
    return out


def _maps(
    work: _Work, shape: tuple[int, ...], used: NDArray[np.bool_], thick: NDArray[np.bool_] | None
) -> SoftMaps:
    status, ok = work.status, work.status == FitStatus.OK
    chi2 = work.goodness[ok & np.isfinite(work.goodness)]
    misfit = float(np.sqrt(max(np.median(chi2), 1.0))) if chi2.size else 1.0
    with np.errstate(invalid="ignore"):
        height = work.jump / (misfit * work.jump_sigma)
        status[ok & ~(height > _SIGNIFICANT)] = FitStatus.NO_EDGE
        status[ok & (height < -_SIGNIFICANT)] = FitStatus.INVERTED
        margin = _OUTSIDE + 3.0 * misfit * work.fraction_sigma
        outside = ((work.fraction < -margin) | (work.fraction > 1.0 + margin)).any(axis=0)
    status[(status == FitStatus.OK) & outside] = FitStatus.NOT_FOUND
    if thick is not None:
        status[(status == FitStatus.OK) & thick.reshape(-1)] = FitStatus.STRAY_LIGHT
    none = status != FitStatus.OK

    def laid(values: Array, *, always: bool = False) -> NDArray[np.float32]:
        out = values if always else np.where(none, np.nan, values)
        return np.asarray(out.reshape(*values.shape[:-1], *shape), np.float32)

    return SoftMaps(
        fraction=laid(work.fraction),
        fraction_sigma=laid(misfit * work.fraction_sigma),
        state=laid(work.state),
        state_sigma=laid(misfit * work.state_sigma),
        edge_jump=laid(work.jump, always=True),
        edge_jump_sigma=laid(misfit * work.jump_sigma, always=True),
        goodness=laid(work.goodness, always=True),
        status=status.reshape(shape),
        misfit=misfit,
        used=used,
    )
