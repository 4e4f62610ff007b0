"""Statistics of maps as battery papers use them: histogram, particles, profile from the rim."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Labels = NDArray[np.int32]

# Turns the median absolute deviation of a normal distribution into its standard deviation.
_MAD_TO_SIGMA = 1.4826
_FWHM_TO_SIGMA = 2.3548
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


@dataclass(frozen=True, slots=True, eq=False)
class ParticleStatistics:
    """One row per particle, in order of the labels.

    Parameters
    ----------
    label : ndarray of int, shape (n_particles,)
        Labels.
    n_pixels, n_values : ndarray of int
        Pixels of the particle, and how many of them have a value.
    median, spread : ndarray
        Median and 1.4826 times the median absolute deviation; NaN without values.
    low, high : ndarray
        16th and 84th percentile.
    noise : ndarray
        Root mean square of the pixels' sigmas; NaN without sigmas.
    intrinsic_spread : ndarray
        Spread that the noise does not explain: ``sqrt(spread**2 - noise**2)``, 0 where the noise explains all.
    row, column : ndarray
        Centre of mass of the pixels.
    diameter : ndarray
        Diameter of the circle of the same area, in units of the pixel size.
    """

    label: Counts
    n_pixels: Counts
    n_values: Counts
    median: Array
    spread: Array
    low: Array
    high: Array
    noise: Array
    intrinsic_spread: Array
    row: Array
    column: Array
    diameter: Array

    def __len__(self) -> int:
        return self.label.size


@dataclass(frozen=True, slots=True, eq=False)
class RadialProfile:
    """Values by their distance from the rim.

    Parameters
    ----------
    edges : ndarray, shape (n_bins + 1,)
        Limits of the distance bins.
    distance : ndarray, shape (n_bins,)
        Mean distance of the values in each bin; NaN in empty bins, as below.
    mean, standard_error : ndarray
        Mean and its standard error, values taken as independent.
    median, spread : ndarray
        Median and 1.4826 times the median absolute deviation.
    n_values : ndarray of int
        Values per bin.
    """

    edges: Array
    distance: Array
    mean: Array
    standard_error: Array
    median: Array
    spread: Array
    n_values: Counts


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
    inside = _check_mask(mask, array.shape)
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
    median = float(np.median(finite))
    return MapHistogram(
        edges=edges,
        counts=counts.astype(np.int64),
        peak=peak,
        fwhm=fwhm,
        median=median,
        spread=_MAD_TO_SIGMA * float(np.median(np.abs(finite - median))),
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


def label_particles(mask: ArrayLike, *, min_pixels: int = 1, diagonal: bool = True) -> Labels:
    """Label the connected regions of a mask.

    Parameters
    ----------
    mask : array_like of bool, shape (rows, cols)
        What is particle, such as an edge jump above a threshold.
    min_pixels : int
        Smaller regions are dropped.
    diagonal : bool
        Whether pixels that touch at a corner belong together.

    Returns
    -------
    ndarray of int32, shape (rows, cols)
        0 outside, then 1, 2, ... in the order of each particle's first pixel, row by row.

    Raises
    ------
    EdgeFittingError
        If the mask is not two-dimensional.
    """
    from scipy import ndimage

    array = np.asarray(mask, dtype=np.bool_)
    if array.ndim != 2:
        raise EdgeFittingError(f"mask must be (rows, cols), not of shape {array.shape}.")
    labels, _ = ndimage.label(array, np.ones((3, 3)) if diagonal else None)
    sizes = np.bincount(labels.ravel())
    keep = sizes >= min_pixels
    keep[0] = False
    number = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return np.asarray(number[labels], dtype=np.int32)


def particle_statistics(
    values: ArrayLike, labels: ArrayLike, *, sigma: ArrayLike | None = None, pixel_size: float = 1.0
) -> ParticleStatistics:
    """Median and spread of a map in each particle.

    Parameters
    ----------
    values : array_like, shape (rows, cols)
        The map; what is not finite is left out.
    labels : array_like of int, shape (rows, cols)
        Particle of each pixel, 0 for none (see :func:`label_particles`).
    sigma : array_like, shape (rows, cols), optional
        Standard deviation of each pixel, to tell the spread of the particle from noise.
    pixel_size : float
        Size of a pixel, for the diameter.

    Returns
    -------
    ParticleStatistics
        A row for every label that occurs.

    Raises
    ------
    EdgeFittingError
        If shapes differ or labels are not whole numbers from 0.
    """
    array = np.asarray(values, dtype=np.float64)
    marks = _check_labels(labels, array.shape)
    noise = None if sigma is None else np.asarray(sigma, dtype=np.float64)
    if noise is not None and noise.shape != array.shape:
        raise EdgeFittingError(f"sigma has shape {noise.shape} but the map has {array.shape}.")
    order = np.argsort(marks, axis=None, kind="stable")
    sorted_marks = marks.ravel()[order]
    found, start = np.unique(sorted_marks, return_index=True)
    members = [m for m, mark in zip(np.split(order, start[1:]), found, strict=True) if mark > 0]
    n = len(members)
    table = np.full((8, n), np.nan)
    n_values = np.zeros(n, np.int64)
    for k, pixels in enumerate(members):
        inside = array.ravel()[pixels]
        good = np.isfinite(inside)
        table[6:8, k] = [axis.mean() for axis in np.unravel_index(pixels, array.shape)]
        n_values[k] = np.count_nonzero(good)
        if not n_values[k]:
            continue
        table[0, k], table[1, k] = _median_and_spread(inside[good])
        table[2:4, k] = np.percentile(inside[good], [16, 84])
        if noise is not None:
            table[4, k] = np.sqrt(np.nanmean(noise.ravel()[pixels][good] ** 2))
            table[5, k] = np.sqrt(max(table[1, k] ** 2 - table[4, k] ** 2, 0.0))
    n_pixels = np.array([m.size for m in members], dtype=np.int64)
    return ParticleStatistics(
        label=found[found > 0].astype(np.int64),
        n_pixels=n_pixels,
        n_values=n_values,
        median=table[0],
        spread=table[1],
        low=table[2],
        high=table[3],
        noise=table[4],
        intrinsic_spread=table[5],
        row=table[6],
        column=table[7],
        diameter=pixel_size * np.sqrt(4.0 * n_pixels / np.pi),
    )


def edge_distance(labels: ArrayLike, *, pixel_size: float = 1.0, frame_is_rim: bool = False) -> Array:
    """Distance of each pixel of a particle to the particle's rim (exact, Euclidean).

    The rim runs between pixels: the outermost pixels are half a pixel from it. Where particles touch, the
    rim runs between them.

    Parameters
    ----------
    labels : array_like of int or bool, shape (rows, cols)
        Particle of each pixel, 0 for none; a mask is one particle.
    pixel_size : float
        Size of a pixel; the distance is in its unit.
    frame_is_rim : bool
        Whether particles end at the border of the image. By default they are taken to be cut there: the border
        is no rim.

    Returns
    -------
    ndarray of float64, shape (rows, cols)
        NaN outside of particles; infinite for a particle whose rim is not in the image.

    Raises
    ------
    EdgeFittingError
        If labels are not two-dimensional whole numbers from 0.
    """
    from scipy import ndimage

    margin = int(frame_is_rim)
    marks = np.pad(_check_labels(labels, np.shape(labels)), margin)
    out = np.full(marks.shape, np.nan)
    for label, box in enumerate(ndimage.find_objects(marks), start=1):
        if box is None:
            continue
        # The nearest pixel of another label is never further away than beside the box of the particle.
        around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        inside = marks[around] == label
        distance = np.inf if inside.all() else ndimage.distance_transform_edt(inside)[inside]
        out[around][inside] = (distance - 0.5) * pixel_size
    return out[margin : marks.shape[0] - margin, margin : marks.shape[1] - margin]


def relative_depth(labels: ArrayLike, *, frame_is_rim: bool = False) -> Array:
    """Distance from the rim in parts of the greatest distance in the particle: 0 at the rim, 1 at the core.

    Parameters
    ----------
    labels : array_like of int or bool, shape (rows, cols)
        As for :func:`edge_distance`.
    frame_is_rim : bool
        As for :func:`edge_distance`.

    Returns
    -------
    ndarray of float64, shape (rows, cols)
        NaN outside of particles and in particles whose rim is not in the image.
    """
    marks = _check_labels(labels, np.shape(labels))
    distance = edge_distance(marks, frame_is_rim=frame_is_rim)
    deepest = np.zeros(int(marks.max(initial=0)) + 1)
    inside = marks > 0
    np.maximum.at(deepest, marks[inside], distance[inside])
    deepest[~np.isfinite(deepest)] = np.nan
    return np.asarray(distance / deepest[marks] if inside.any() else distance)


def radial_profile(
    values: ArrayLike, distance: ArrayLike, *, edges: ArrayLike, mask: ArrayLike | None = None
) -> RadialProfile:
    """Average a map over bins of the distance from the rim.

    Parameters
    ----------
    values : array_like, shape (rows, cols)
        The map; what is not finite is left out.
    distance : array_like, shape (rows, cols)
        From :func:`edge_distance` or :func:`relative_depth`.
    edges : array_like, shape (n_bins + 1,)
        Increasing limits of the bins in the unit of ``distance``; the last bin includes its upper limit.
    mask : array_like of bool, shape (rows, cols), optional
        Pixels to use, such as those of one particle; all by default.

    Returns
    -------
    RadialProfile

    Raises
    ------
    EdgeFittingError
        If shapes differ or the limits do not increase.
    """
    array = np.asarray(values, dtype=np.float64)
    depth = np.asarray(distance, dtype=np.float64)
    if depth.shape != array.shape:
        raise EdgeFittingError(f"distance has shape {depth.shape} but the map has {array.shape}.")
    limits = np.atleast_1d(np.asarray(edges, dtype=np.float64))
    if limits.ndim != 1 or limits.size < 2 or not (np.diff(limits) > 0).all():
        raise EdgeFittingError("edges must be two or more increasing numbers.")
    good = _check_mask(mask, array.shape) & np.isfinite(array) & np.isfinite(depth)
    good &= (depth >= limits[0]) & (depth <= limits[-1])
    array, depth = array[good], depth[good]
    where = np.minimum(np.searchsorted(limits, depth, side="right") - 1, limits.size - 2)
    n_bins = limits.size - 1
    table = np.full((5, n_bins), np.nan)
    for k in range(n_bins):
        inside = array[where == k]
        if inside.size == 0:
            continue
        table[0, k] = depth[where == k].mean()
        table[1, k] = inside.mean()
        if inside.size > 1:
            table[2, k] = inside.std(ddof=1) / np.sqrt(inside.size)
        table[3, k], table[4, k] = _median_and_spread(inside)
    return RadialProfile(
        edges=limits,
        distance=table[0],
        mean=table[1],
        standard_error=table[2],
        median=table[3],
        spread=table[4],
        n_values=np.bincount(where, minlength=n_bins).astype(np.int64),
    )


def _peak_and_width(finite: Array) -> tuple[float, float]:
    quarter = float(np.subtract(*np.percentile(finite, [75, 25])))
    deviation = float(finite.std())
    scale = min(deviation, quarter / 1.349) if quarter > 0 else deviation
    if scale < 1e-12 * max(1.0, abs(float(finite[0]))):
        return float(np.median(finite)), 0.0
    bandwidth = 0.9 * scale * finite.size**-0.2
    # A few far values must not make the grid coarse: they have no part in the peak.
    centre = float(np.median(finite))
    low = max(float(finite.min()), centre - 10.0 * scale) - 4.0 * bandwidth
    high = min(float(finite.max()), centre + 10.0 * scale) + 4.0 * bandwidth
    n = int(np.ceil((high - low) / (bandwidth / 4.0)))
    counts, edges = np.histogram(finite, bins=n, range=(low, high))
    step = edges[1] - edges[0]
    reach = int(np.ceil(4.0 * bandwidth / step))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / bandwidth) ** 2)
    density = np.convolve(counts, kernel / kernel.sum(), mode="same")
    x = 0.5 * (edges[:-1] + edges[1:])
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
    return peak, float(np.sqrt(max(fwhm**2 - (_FWHM_TO_SIGMA * bandwidth) ** 2, 0.0)))


def _median_and_spread(finite: Array) -> tuple[float, float]:
    median = float(np.median(finite))
    return median, _MAD_TO_SIGMA * float(np.median(np.abs(finite - median)))


def _check_mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(shape, dtype=bool)
    array = np.asarray(mask, dtype=bool)
    if array.shape != shape:
        raise EdgeFittingError(f"mask has shape {array.shape} but the map has {shape}.")
    return array


def _check_labels(labels: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.intp]:
    array = np.asarray(labels)
    if array.dtype.kind not in "biu" or (array.size and array.min() < 0):
        raise EdgeFittingError("labels must be whole numbers, 0 for no particle.")
    if array.ndim != 2 or array.shape != shape:
        raise EdgeFittingError(
            f"labels must be (rows, cols) like the map {shape}, not of shape {array.shape}."
        )
    return array.astype(np.intp)
