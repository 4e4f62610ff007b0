"""Groups of like pixels, and the mean spectrum of any group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import launch
from edge_fitting.errors import EdgeFittingError

from ._map_kernels import count_blocks, nearest_centre

Array = NDArray[np.float64]

_MOST_ROUNDS = 100
_STARTS = 4
# Starts are tried on so many pixels; the best one is then refined on all.
_SAMPLE = 20_000
_DONE = 1e-7


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
    features: NDArray[np.float32],
    good: NDArray[np.bool_],
    n_clusters: int,
    seed: int,
    centre: Array,
    scale: Array,
) -> Clusters:
    n_features, n_pixels = features.shape
    if not isinstance(n_clusters, (int, np.integer)) or n_clusters < 1:
        raise EdgeFittingError(f"n_clusters must be a positive whole number, not {n_clusters!r}.")
    if n_pixels < n_clusters:
        raise EdgeFittingError(
            f"there are {n_pixels} pixels with values, fewer than the {n_clusters} groups wanted."
        )
    features = np.ascontiguousarray(features)
    rng = np.random.default_rng(seed)
    sample = features
    if n_pixels > _SAMPLE:
        sample = np.ascontiguousarray(features[:, np.sort(rng.choice(n_pixels, _SAMPLE, replace=False))])
    starts = [_refine(sample, _spread_out(sample, int(n_clusters), rng)) for _ in range(_STARTS)]
    centres, nearest, counts, spread = _refine(features, min(starts, key=lambda s: float(s[3].sum()))[0])
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(n_clusters, np.int32)
    rank[order] = np.arange(1, n_clusters + 1)
    labels = np.zeros(good.shape, np.int32)
    labels[good] = rank[nearest]
    return Clusters(
        labels=labels,
        n_pixels=counts[order],
        centres=centres[order] * scale + centre,
        rms=np.sqrt(spread[order] / (np.maximum(counts[order], 1) * n_features)),
    )


def _spread_out(features: NDArray[np.float32], n_clusters: int, rng: np.random.Generator) -> Array:
    """Choose starting centres far from one another (k-means++, Arthur and Vassilvitskii, 2007)."""
    first = int(rng.integers(features.shape[1]))
    chosen = [first]
    distance = np.sum((features - features[:, [first]]) ** 2, axis=0, dtype=np.float64)
    while len(chosen) < n_clusters:
        total = distance.sum()
        if not total > 0:
            raise EdgeFittingError(f"there are only {len(chosen)} different pixels: ask for fewer groups.")
        pick = int(rng.choice(distance.size, p=distance / total))
        chosen.append(pick)
        distance = np.minimum(
            distance, np.sum((features - features[:, [pick]]) ** 2, axis=0, dtype=np.float64)
        )
    return features[:, chosen].T.astype(np.float64)


def _refine(
    features: NDArray[np.float32], centres: Array
) -> tuple[Array, NDArray[np.int32], NDArray[np.int64], Array]:
    """Lloyd's rounds until nothing gains; a group that loses all pixels keeps its centre."""
    n_features, n_pixels = features.shape
    n_clusters, blocks = centres.shape[0], count_blocks(n_pixels)
    nearest = np.zeros(n_pixels, np.int32)
    sums = np.empty((blocks, n_clusters, n_features))
    counts = np.empty((blocks, n_clusters), np.int64)
    spread = np.empty((blocks, n_clusters))
    before = np.inf
    for _ in range(_MOST_ROUNDS):
        launch(nearest_centre, features, centres, nearest, sums, counts, spread)
        now = float(spread.sum())
        if now >= before * (1.0 - _DONE):
            break
        before = now
        total = counts.sum(axis=0)
        centres = np.where(total[:, None] > 0, sums.sum(axis=0) / np.maximum(total, 1)[:, None], centres)
    return centres, nearest, counts.sum(axis=0), spread.sum(axis=0)


def _check_stack(values: ArrayLike) -> NDArray[np.floating]:
    stack = np.asarray(values)
    if stack.dtype.kind not in "fiu":
        raise EdgeFittingError(f"frames must hold real numbers, not {stack.dtype}.")
    if stack.ndim != 3 or stack.size == 0:
        raise EdgeFittingError(f"frames must be (n, rows, cols) and not empty, not of shape {stack.shape}.")
    return stack if stack.dtype.kind == "f" else stack.astype(np.float32)


def _check_map(values: ArrayLike, shape: tuple[int, ...], what: str, dtype: type) -> NDArray:
    array: NDArray = np.array(values, dtype=dtype)
    if array.shape != shape:
        raise EdgeFittingError(f"{what} has shape {array.shape} but the frames have {shape}.")
    return array
