"""Distribution of the values of a map, and the map relative to its peak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import FWHM_PER_SIGMA, IQR_PER_SIGMA
from edge_fitting.errors import EdgeFittingError

from ._robust import check_mask, median_and_spread

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


_MOST_BINS = 512


@dataclass(frozen=True, slots=True, eq=False)
class MapHistogram:
    """Distribution of the values of a map.

    Parameters
    ----------
    edges : ndarray, shape (n_bins + 1,)
        Limits of the bins.
    counts : ndarray, shape (n_bins,)
        Values per bin, the upper limit of the last bin included.
    peak : float
        Where the smoothed distribution is highest.
    fwhm : float
        Full width at half of that height, the smoothing taken out.
    median, spread : float
        Median, and 1.4826 times the median absolute deviation: the standard deviation of a normal distribution.
    n_values, n_missing : int
        Finite values, and pixels without.
    """

    edges: Array
    counts: Counts
    peak: float
    fwhm: float
    median: float
    spread: float
    n_values: int
    n_missing: int


@dataclass(frozen=True, slots=True, eq=False)
class RecentredMap:
    """An edge-energy map relative to the peak of its histogram.

    Parameters
    ----------
    shift_ev : ndarray of float64
        Energy minus ``centre_ev``; NaN where there is none.
    centre_ev : float
        Peak of the histogram, or the centre asked for.
    half_width_ev : float
        Limits of the colour scale are minus and plus this.
    outside : ndarray of bool
        Beyond these limits.
    """

    shift_ev: Array
    centre_ev: float
    half_width_ev: float
    outside: NDArray[np.bool_]


def map_histogram(
    values: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    bins: int | None = None,
    limits: tuple[float, float] | None = None,
) -> MapHistogram:
    """Histogram of a map, with its peak and width.

    Parameters
    ----------
    values : array_like
        The map; what is not finite is left out.
    mask : array_like of bool, optional
        Pixels to use; all by default.
    bins : int, optional
        Number of bins; by default as many as the Freedman-Diaconis rule says, at most 512.
    limits : tuple of float, optional
        Lower and upper limit; those of the values by default. Peak and width are from all values anyway.

    Returns
    -------
    MapHistogram

    Raises
    ------
    EdgeFittingError
        If there is no finite value, a mask of another shape, or limits or bins make no sense.

    Notes
    -----
    Peak and width are those of a Gaussian kernel estimate with Silverman's bandwidth.
    """
    array = np.asarray(values, dtype=np.float64)
    inside = check_mask(mask, array.shape)
    taken = array[inside]
    finite = taken[np.isfinite(taken)]
    if finite.size == 0:
        raise EdgeFittingError("the map has no finite value to make a histogram of: check status and mask.")
    low, high = (float(finite.min()), float(finite.max())) if limits is None else map(float, limits)
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise EdgeFittingError(f"limits must be two finite numbers, the lower first, not {limits!r}.")
    if bins is None:
        quarter = float(np.subtract(*np.percentile(finite, [75, 25])))
        width = 2.0 * quarter / finite.size ** (1.0 / 3.0)
        bins = int(np.clip(np.ceil((high - low) / width), 1, _MOST_BINS)) if width > 0 else 1
    if bins < 1:
        raise EdgeFittingError(f"bins must be at least 1, not {bins}.")
    counts, edges = np.histogram(finite, bins=bins, range=(low, high))
    peak, fwhm = _peak_and_width(finite)
    median, spread = median_and_spread(finite)
    return MapHistogram(
        edges=edges,
        counts=counts.astype(np.int64),
        peak=peak,
        fwhm=fwhm,
        median=median,
        spread=spread,
        n_values=finite.size,
        n_missing=taken.size - finite.size,
    )


def recentre_map(
    energy_ev: ArrayLike,
    *,
    half_width_ev: float = 1.5,
    centre_ev: float | None = None,
    mask: ArrayLike | None = None,
) -> RecentredMap:
    """Show an edge-energy map relative to the peak of its histogram.

    Absolute energies of beamlines differ by several eV; what carries over is the shift from the most frequent
    value, drawn from minus to plus ``half_width_ev``.

    Parameters
    ----------
    energy_ev : array_like
        The map.
    half_width_ev : float
        Half width of the colour scale.
    centre_ev : float, optional
        Use this centre, such as that of another map, instead of the peak.
    mask : array_like of bool, optional
        Pixels that the peak is taken from; all by default.

    Returns
    -------
    RecentredMap

    Raises
    ------
    EdgeFittingError
        If there is no finite value or the half width is not positive.
    """
    if not half_width_ev > 0:
        raise EdgeFittingError(f"half_width_ev must be positive, not {half_width_ev!r}.")
    array = np.asarray(energy_ev, dtype=np.float64)
    centre = map_histogram(array, mask=mask).peak if centre_ev is None else float(centre_ev)
    shift = array - centre
    return RecentredMap(
        shift_ev=shift,
        centre_ev=centre,
        half_width_ev=float(half_width_ev),
        outside=np.abs(np.nan_to_num(shift)) > half_width_ev,
    )


def bandwidth_and_range(finite: Array) -> tuple[float, float, float]:
    """Return Silverman's bandwidth for finite values, and where the grid of the density begins and ends.

    The bandwidth is 0 where all values are alike.
    """
    quarter = float(np.subtract(*np.percentile(finite, [75, 25])))
    deviation = float(finite.std())
    scale = min(deviation, quarter / IQR_PER_SIGMA) if quarter > 0 else deviation
    centre = float(np.median(finite))
    if scale < 1e-12 * max(1.0, abs(float(finite[0]))):
        return 0.0, centre, centre
    bandwidth = 0.9 * scale * finite.size**-0.2
    # A few far values must not make the grid coarse: they have no part in the peak.
    low = max(float(finite.min()), centre - 10.0 * scale) - 4.0 * bandwidth
    high = min(float(finite.max()), centre + 10.0 * scale) + 4.0 * bandwidth
    return bandwidth, low, high


def peak_and_width_of_counts(
    counts: NDArray[Any], low: float, high: float, bandwidth: float
) -> tuple[float, float]:
    """Return peak and full width at half maximum of counts in fine bins from ``low`` to ``high``, smoothed."""
    n = counts.size
    step = (high - low) / n
    reach = int(np.ceil(4.0 * bandwidth / step))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / bandwidth) ** 2)
    density = np.convolve(counts, kernel / kernel.sum(), mode="same")
    x = low + (np.arange(n) + 0.5) * step
    k = int(np.clip(density.argmax(), 1, n - 2))
    before, at, after = density[k - 1 : k + 2]
    bend = before - 2.0 * at + after
    peak = float(x[k] + (0.5 * (before - after) / bend * step if bend < 0 else 0.0))
    half = 0.5 * density[k]
    left = k - int(np.argmax(density[k::-1] < half))
    right = k + int(np.argmax(density[k:] < half))
    from_left = x[left] + step * (half - density[left]) / (density[left + 1] - density[left])
    from_right = x[right] - step * (half - density[right]) / (density[right - 1] - density[right])
    fwhm = float(from_right - from_left)
    return peak, float(np.sqrt(max(fwhm**2 - (FWHM_PER_SIGMA * bandwidth) ** 2, 0.0)))


def _peak_and_width(finite: Array) -> tuple[float, float]:
    bandwidth, low, high = bandwidth_and_range(finite)
    if not bandwidth > 0:
        return low, 0.0
    counts, _ = np.histogram(finite, bins=int(np.ceil((high - low) / (bandwidth / 4.0))), range=(low, high))
    return peak_and_width_of_counts(counts, low, high, bandwidth)
