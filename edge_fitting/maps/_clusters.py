"""Groups of like pixels, and the mean spectrum of any group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

Array = NDArray[np.float64]
Features = NDArray[np.float32]

_STARTS = 4
# Starts are tried on so many pixels; the best one is then refined on all.
_SAMPLE = 20_000
# The mean distance is found when a round changes it by less than this part of the features' spread.
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Groups of like pixels, the largest first.

    Parameters
    ----------
    labels : ndarray of int32, shape (rows, cols)
        Group of each pixel, 1 for the largest; 0 where a value is missing or masked.
    n_pixels : ndarray of int, shape (n_clusters,)
        Pixels of each group.
    centres : ndarray, shape (n_clusters, n_features)
        Mean of each group: of the spectra as compared, or of the maps in their own units.
    rms : ndarray, shape (n_clusters,)
        Root mean square distance of the group's pixels from its centre, per feature, as compared.
    """

    labels: NDArray[np.int32]
    n_pixels: NDArray[np.int64]
    centres: Array
    rms: Array

    def __len__(self) -> int:
        return self.n_pixels.size


@dataclass(frozen=True, slots=True, eq=False)
class GroupSpectra:
    """Mean spectrum of each group.

    Parameters
    ----------
    label : ndarray of int, shape (n_groups,)
        Labels that occur, 0 left out.
    mean, standard_error : ndarray, shape (n_groups, n_energy)
        Mean optical depth and its standard error; NaN where a group has no value (or one, for the error).
    n_values : ndarray of int, shape (n_groups, n_energy)
        Finite values that went in.
    """

    label: NDArray[np.int64]
    mean: Array
    standard_error: Array
    n_values: NDArray[np.int64]


def cluster_spectra(
    optical_depth: ArrayLike,
    n_clusters: int,
    *,
    edge_jump: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    seed: int = 0,
) -> Clusters:
    """Group pixels by the shape of their spectra (k-means).

    Each spectrum is compared after its mean is taken out and it is divided by the edge jump, so that neither
    an offset nor the thickness counts.

    Parameters
    ----------
    optical_depth : array_like, shape (n_energy, rows, cols)
        Frames; pixels with a missing value in any frame are left out.
    n_clusters : int
        Number of groups.
    edge_jump : array_like, shape (rows, cols), optional
        Edge jump per pixel; each spectrum's own standard deviation by default.
    mask : array_like of bool, shape (rows, cols), optional
        Pixels to use, such as those with a fit; thin pixels are all noise.
    seed : int
        Seed of the starting centres; the same seed gives the same groups.

    Returns
    -------
    Clusters

    Raises
    ------
    EdgeFittingError
        If shapes do not match or there are fewer different pixels than groups.
    """
    stack = _check_stack(optical_depth)
    rows, cols = stack.shape[1:]
    good = (
        _check_map(mask, (rows, cols), "mask", np.bool_) if mask is not None else np.ones((rows, cols), bool)
    )
    good &= np.isfinite(stack).all(axis=0)
    if edge_jump is not None:
        jump = _check_map(edge_jump, (rows, cols), "edge_jump", np.float64)
        good &= np.isfinite(jump) & (jump > 0)
        size = jump[good]
    spectra = stack[:, good].astype(np.float32)
    spectra -= spectra.mean(axis=0, dtype=np.float64).astype(np.float32)
    if edge_jump is None:
        size = spectra.std(axis=0, dtype=np.float64)
        size[size == 0] = 1.0
    spectra /= size.astype(np.float32)
    return _cluster(spectra, good, n_clusters, seed, np.zeros(1), np.ones(1))


def cluster_maps(
    maps: ArrayLike, n_clusters: int, *, mask: ArrayLike | None = None, seed: int = 0
) -> Clusters:
    """Group pixels by the values of several maps (k-means), each map scaled to unit standard deviation.

    Parameters
    ----------
    maps : array_like, shape (n_maps, rows, cols)
        Maps, such as state of charge and edge jump; pixels without a value in any are left out.
    n_clusters : int
        Number of groups.
    mask : array_like of bool, shape (rows, cols), optional
        Pixels to use.
    seed : int
        Seed of the starting centres; the same seed gives the same groups.

    Returns
    -------
    Clusters

    Raises
    ------
    EdgeFittingError
        If shapes do not match or there are fewer different pixels than groups.
    """
    stack = _check_stack(maps)
    shape = stack.shape[1:]
    good = _check_map(mask, shape, "mask", np.bool_) if mask is not None else np.ones(shape, bool)
    good &= np.isfinite(stack).all(axis=0)
    features = stack[:, good].astype(np.float64)
    if features.shape[1] == 0:
        raise EdgeFittingError("no pixel has a value in every map: check status and mask.")
    centre, scale = features.mean(axis=1), features.std(axis=1)
    scale[scale == 0] = 1.0
    compared = ((features - centre[:, None]) / scale[:, None]).astype(np.float32)
    return _cluster(compared, good, n_clusters, seed, centre, scale)


def group_spectra(optical_depth: ArrayLike, labels: ArrayLike) -> GroupSpectra:
    """Mean spectrum of each group of pixels: clusters, particles or any other labels.

    Parameters
    ----------
    optical_depth : array_like, shape (n_energy, rows, cols)
        Frames; missing values are left out one by one.
    labels : array_like of int, shape (rows, cols)
        Group of each pixel, 0 for none.

    Returns
    -------
    GroupSpectra

    Raises
    ------
    EdgeFittingError
        If shapes do not match or labels are not whole numbers from 0.
    """
    stack = _check_stack(optical_depth)
    marks = np.asarray(labels)
    if marks.dtype.kind not in "biu" or marks.shape != stack.shape[1:] or (marks.size and marks.min() < 0):
        raise EdgeFittingError(f"labels must be whole numbers from 0 of shape {stack.shape[1:]}.")
    found, index = np.unique(marks.ravel(), return_inverse=True)
    n_groups, n_energy = found.size, stack.shape[0]
    count = np.zeros((n_groups, n_energy), np.int64)
    mean = np.full((n_groups, n_energy), np.nan)
    variance = np.full((n_groups, n_energy), np.nan)
    for e in range(n_energy):
        frame = stack[e].ravel().astype(np.float64)
        good = np.isfinite(frame)
        count[:, e] = np.bincount(index[good], minlength=n_groups)
        some = count[:, e] > 0
        mean[some, e] = (np.bincount(index[good], frame[good], n_groups) / np.maximum(count[:, e], 1))[some]
        squares = np.bincount(index[good], (frame[good] - mean[index[good], e]) ** 2, n_groups)
        several = count[:, e] > 1
        variance[several, e] = squares[several] / (count[several, e] - 1)
    keep = found > 0
    return GroupSpectra(
        label=found[keep].astype(np.int64),
        mean=mean[keep],
        standard_error=np.sqrt(variance[keep] / np.maximum(count[keep], 1)),
        n_values=count[keep],
    )


def _cluster(
    features: Features,
    good: NDArray[np.bool_],
    n_clusters: int,
    seed: int,
    centre: Array,
    scale: Array,
) -> Clusters:
    from scipy.cluster import vq

    n_features, n_pixels = features.shape
    if not isinstance(n_clusters, (int, np.integer)) or n_clusters < 1:
        raise EdgeFittingError(f"n_clusters must be a positive whole number, not {n_clusters!r}.")
    if n_pixels < n_clusters:
        raise EdgeFittingError(
            f"there are {n_pixels} pixels with values, fewer than the {n_clusters} groups wanted."
        )
    pixels = np.ascontiguousarray(features.T)
    centres = _refine(pixels, _starting_centres(pixels, int(n_clusters), seed))[0]
    nearest, _ = vq.vq(pixels, centres, check_finite=False)
    counts = np.bincount(nearest, minlength=len(centres))
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(centres), np.int32)
    rank[order] = np.arange(1, len(centres) + 1)
    labels = np.zeros(good.shape, np.int32)
    labels[good] = rank[nearest]
    # Differences, as the expanded squares of vq lose the small distances of a narrow group to rounding.
    squares = [np.sum((pixels[nearest == k] - centres[k]) ** 2, dtype=np.float64) for k in order]
    return Clusters(
        labels=labels,
        n_pixels=counts[order].astype(np.int64),
        centres=centres[order].astype(np.float64) * scale + centre,
        rms=np.sqrt(np.array(squares) / (np.maximum(counts[order], 1) * n_features)),
    )


def _starting_centres(pixels: Features, n_clusters: int, seed: int) -> Features:
    """Best of a few starts (k-means++) on a sample of the pixels."""
    from scipy.cluster import vq

    rng = np.random.default_rng(seed)
    sample = pixels
    if len(pixels) > _SAMPLE:
        sample = pixels[np.sort(rng.choice(len(pixels), _SAMPLE, replace=False))]
    n_different = len(np.unique(sample, axis=0))
    if n_different < n_clusters:
        raise EdgeFittingError(f"there are only {n_different} different pixels: ask for fewer groups.")
    starts = [vq.kmeans2(sample, n_clusters, iter=1, minit="++", rng=rng)[0] for _ in range(_STARTS)]
    # A group that loses all its pixels is dropped: a start that keeps all groups is better.
    refined = [_refine(sample, start) for start in starts]
    return min(refined, key=lambda found: (-len(found[0]), found[1]))[0]


def _refine(pixels: Features, centres: Features) -> tuple[Features, float]:
    """Lloyd's rounds until the mean distance does not change any more; returns the centres and that distance."""
    from scipy.cluster import vq

    if centres.size == 1:
        return pixels.mean(axis=0, dtype=np.float64)[None].astype(
            pixels.dtype
        ), 0.0  # kmeans would take it as a number of groups
    threshold = _TOLERANCE * float(pixels.std(dtype=np.float64))
    found, distance = vq.kmeans(pixels, centres.astype(pixels.dtype), thresh=threshold, check_finite=False)
    return found, float(distance)


def _check_stack(values: ArrayLike) -> NDArray[np.floating]:
    stack = np.asarray(values)
    if stack.dtype.kind not in "fiu":
        raise EdgeFittingError(f"frames must hold real numbers, not {stack.dtype}.")
    if stack.ndim != 3 or stack.size == 0:
        raise EdgeFittingError(f"frames must be (n, rows, cols) and not empty, not of shape {stack.shape}.")
    return stack if stack.dtype.kind == "f" else stack.astype(np.float32)


def _check_map(values: ArrayLike, shape: tuple[int, ...], what: str, dtype: type) -> NDArray[Any]:
    array: NDArray[Any] = np.array(values, dtype=dtype)
    if array.shape != shape:
        raise EdgeFittingError(f"{what} has shape {array.shape} but the frames have {shape}.")
    return array
