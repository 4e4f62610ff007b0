"""The open beam of a stack of counts: pixels without sample, found, and whether they are bare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_fitting.errors import EdgeFittingError

from ._components import Component
from ._soft_edges import SoftEdge

__all__ = ["BareRegion", "bare_region"]

Array = NDArray[np.float64]

_FEWEST_PIXELS = 12
_LEAST_SHARE = 0.004
_BRIGHT_PERCENTILE = 99.5
_SIGMAS = 4.0
# The light varies by more than its counting noise.
_BEAM = 0.004
_EDGE_SHARE = 0.2
_SIGNIFICANT = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class BareRegion:
    """Pixels without sample.

    Attributes
    ----------
    pixels : ndarray of bool, shape (rows, cols)
        Which.
    rate : ndarray, shape (n,)
        Their mean at each energy; NaN where there is none.
    relative_variance : ndarray, shape (n,)
        Of that mean, over its square.
    """

    pixels: NDArray[np.bool_]
    rate: Array
    relative_variance: Array


def bare_region(
    energy_ev: Array,
    rate: NDArray[np.floating],
    counts: NDArray[np.floating],
    edge: SoftEdge,
    components: Sequence[Component] = (),
) -> BareRegion:
    """Find the pixels without sample: as bright as the brightest, at all energies.

    Parameters
    ----------
    energy_ev : ndarray, shape (n,)
        Energies.
    rate, counts : ndarray, shape (n, rows, cols)
        Counts per second, corrected, and the counts themselves; NaN for what is missing.
    edge : SoftEdge
        The edge.
    components : sequence of Component
        Normalised spectra by which sample in the brightest pixels is noticed.

    Raises
    ------
    EdgeFittingError
        There is no light, or no bare pixel.
    """
    level = _mean(rate, (1, 2))
    lit = np.isfinite(level) & (level > 0)
    if not lit.any():
        raise EdgeFittingError(
            "there is no light in any image: look at shutter, aperture and counter, and whether I0 is zero."
        )
    mean = _mean(rate[lit] / level[lit, None, None], 0)
    total = np.nansum(counts[lit], axis=0)
    known = np.isfinite(mean)
    bright = float(np.percentile(mean[known], _BRIGHT_PERCENTILE))
    noise = 1.0 / np.sqrt(np.maximum(total, 1.0))
    pixels = known & (mean > bright * (1.0 - _SIGMAS * noise - 2 * _BEAM))
    if pixels.sum() < max(_FEWEST_PIXELS, _LEAST_SHARE * known.sum()):
        raise EdgeFittingError(
            f"only {int(pixels.sum())} pixels are as bright as the brightest: there is no region without sample; give "
            "the open beam from a scan of its own, or a region that reaches beyond the sample."
        )
    mean_rate = _mean(np.where(pixels, rate, np.nan), (1, 2))
    n_counts = np.nansum(np.where(pixels, counts, 0.0), axis=(1, 2))
    mean_rate = np.where(lit & (mean_rate > 0), mean_rate, np.nan)
    _refuse_sample(energy_ev, mean_rate, rate, pixels, edge, components)
    return BareRegion(pixels, mean_rate, 1.0 / np.maximum(n_counts, 1.0))


def _refuse_sample(
    energy_ev: Array,
    bare: Array,
    rate: NDArray[np.floating],
    pixels: NDArray[np.bool_],
    edge: SoftEdge,
    components: Sequence[Component],
) -> None:
    """Refuse a region whose own counts fall at the white line about as those of the rest do."""
    if not components:
        return
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = _mean(np.where(pixels, np.nan, rate), (1, 2))
        depth = -np.log(bare / np.nanmax(bare))
        more = -np.log(rest / bare)
    good = np.isfinite(depth) & np.isfinite(more)
    low, high = edge.white_line_ev
    in_line = good & (energy_ev >= low) & (energy_ev <= high)
    beside = good & ((energy_ev < edge.pre_edge_ev[1]) | (energy_ev > high + 2.0))
    if in_line.sum() < 3 or beside.sum() < 6:
        return
    curve = np.mean([np.interp(energy_ev, one.energy_ev, one.normalized) for one in components], axis=0)
    x = (energy_ev - edge.energy_ev) / 20.0
    basis = np.column_stack([curve, np.ones_like(x), x, x**2])[good]
    own, sigma = _first(basis, depth[good])
    others, _ = _first(basis, more[good])
    if own > _SIGNIFICANT * sigma and own > _EDGE_SHARE * max(others, 0.0) and own > 0.01:
        raise EdgeFittingError(
            f"the brightest pixels show the {edge.name} edge themselves (a step of {own:.3f}): there is no region "
            "without sample; give the open beam from a scan of its own, or a region that reaches beyond the sample."
        )


def _mean(values: NDArray[np.floating], axis: int | tuple[int, ...]) -> Array:
    """Return the mean of what is finite; NaN where nothing is."""
    good = np.isfinite(values)
    count = good.sum(axis=axis)
    total = np.where(good, values, 0.0).sum(axis=axis, dtype=np.float64)
    out: Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return out


def _first(basis: Array, values: Array) -> tuple[float, float]:
    found, *_ = np.linalg.lstsq(basis, values, rcond=None)
    free = max(len(values) - basis.shape[1], 1)
    variance = float(((values - basis @ found) ** 2).sum()) / free
    return float(found[0]), float(np.sqrt(variance * np.linalg.inv(basis.T @ basis)[0, 0]))
