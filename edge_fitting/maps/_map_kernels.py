"""Kernels over maps: connected pixels, distance to the rim, nearest cluster centre."""

from __future__ import annotations

import numba as nb
import numpy as np

_BLOCK = 4096


@nb.njit(cache=True, nogil=True)
def _root(parent, i):  # type: ignore[no-untyped-def]
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@nb.njit(cache=True, nogil=True)
def label_connected(mask, diagonal, labels):  # type: ignore[no-untyped-def]
    """Label the connected regions of a mask (two passes, union-find).

    Parameters
    ----------
    mask : bool (rows, cols)
        What belongs to a region.
    diagonal : bool
        Whether pixels that touch at a corner are connected.
    labels : int32 (rows, cols)
        Filled: 0 outside, then 1, 2, ... in the order of each region's first pixel.

    Returns
    -------
    int
        Number of regions.
    """
    rows, cols = mask.shape
    parent = np.empty(rows * cols // 2 + 2, np.int32)
    parent[0] = 0
    used = 1
    for i in range(rows):
        for j in range(cols):
            if not mask[i, j]:
                labels[i, j] = 0
                continue
            here = 0
            for di, dj in ((0, -1), (-1, 0), (-1, -1), (-1, 1)):
                if di != 0 and dj != 0 and not diagonal:
                    continue
                y = i + di
                x = j + dj
                if y < 0 or x < 0 or x >= cols or not mask[y, x]:
                    continue
                other = _root(parent, labels[y, x])
                if here == 0:
                    here = other
                elif other < here:
                    parent[here] = other
                    here = other
                elif other > here:
                    parent[other] = here
            if here == 0:
                here = used
                parent[used] = used
                used += 1
            labels[i, j] = here
    number = np.zeros(used, np.int32)
    count = 0
    for i in range(rows):
        for j in range(cols):
            if labels[i, j] > 0:
                root = _root(parent, labels[i, j])
                if number[root] == 0:
                    count += 1
                    number[root] = count
                labels[i, j] = number[root]
    return count


@nb.njit(cache=True, nogil=True)
def squared_distance(labels, frame_is_rim, out):  # type: ignore[no-untyped-def]
    """Squared distance of every pixel to the nearest pixel of another label, in pixels (exact).

    Along columns by two scans, then along rows as the lower envelope of parabolas within each run of a label
    (Felzenszwalb and Huttenlocher, 2012): beyond the ends of a run another label is nearer anyway.

    Parameters
    ----------
    labels : int32 (rows, cols)
        Labels.
    frame_is_rim : bool
        Whether what lies beyond the image counts as another label.
    out : float64 (rows, cols)
        Filled; infinite where there is no other label.
    """
    rows, cols = labels.shape
    for j in range(cols):
        reach = 0.0 if frame_is_rim else np.inf
        for i in range(rows):
            if i > 0 and labels[i, j] != labels[i - 1, j]:
                reach = 0.0
            reach += 1.0
            out[i, j] = reach
        reach = 0.0 if frame_is_rim else np.inf
        for i in range(rows - 1, -1, -1):
            if i < rows - 1 and labels[i, j] != labels[i + 1, j]:
                reach = 0.0
            reach += 1.0
            out[i, j] = min(out[i, j], reach)
    place = np.empty(cols + 2)
    height = np.empty(cols + 2)
    start = np.empty(cols + 3)
    for i in range(rows):
        first = 0
        while first < cols:
            last = first
            while last + 1 < cols and labels[i, last + 1] == labels[i, first]:
                last += 1
            top = -1
            for x in range(first - 1, last + 2):
                if x < first or x > last:
                    if (x < 0 or x >= cols) and not frame_is_rim:
                        continue
                    h = 0.0
                else:
                    h = out[i, x] * out[i, x]
                    if h == np.inf:
                        continue
                crossing = -np.inf
                while top >= 0:
                    crossing = ((h + x * x) - (height[top] + place[top] * place[top])) / (
                        2.0 * (x - place[top])
                    )
                    if crossing > start[top]:
                        break
                    top -= 1
                if top < 0:
                    crossing = -np.inf
                top += 1
                place[top] = x
                height[top] = h
                start[top] = crossing
            if top < 0:
                for x in range(first, last + 1):
                    out[i, x] = np.inf
            else:
                k = 0
                for x in range(first, last + 1):
                    while k < top and start[k + 1] < x:
                        k += 1
                    step = x - place[k]
                    out[i, x] = step * step + height[k]
            first = last + 1


@nb.njit(cache=True, nogil=True, parallel=True)
def nearest_centre(features, centres, nearest, sums, counts, spread):  # type: ignore[no-untyped-def]
    """Assign pixels to the nearest centre and add up what the next centres need.

    Parameters
    ----------
    features : float32 (n_features, n_pixels)
        Finite features.
    centres : float64 (n_clusters, n_features)
        Cluster centres.
    nearest : int32 (n_pixels,)
        Filled with the nearest centre of each pixel, the first of equals.
    sums : float64 (n_blocks, n_clusters, n_features)
        Filled with the sums of the features of each cluster, per block of pixels.
    counts : int64 (n_blocks, n_clusters)
        Filled with the number of pixels of each cluster, per block.
    spread : float64 (n_blocks, n_clusters)
        Filled with the sums of squared distances to the centre, per block.
    """
    n_features, n_pixels = features.shape
    n_clusters = centres.shape[0]
    for block in nb.prange(counts.shape[0]):
        lo = block * _BLOCK
        size = min(lo + _BLOCK, n_pixels) - lo
        best = np.full(size, np.inf)
        distance = np.empty(size)
        sums[block] = 0.0
        counts[block] = 0
        spread[block] = 0.0
        for c in range(n_clusters):
            distance[:] = 0.0
            for f in range(n_features):
                at = centres[c, f]
                row = features[f, lo : lo + size]
                for i in range(size):
                    d = row[i] - at
                    distance[i] += d * d
            for i in range(size):
                if distance[i] < best[i]:
                    best[i] = distance[i]
                    nearest[lo + i] = c
        for i in range(size):
            c = nearest[lo + i]
            counts[block, c] += 1
            spread[block, c] += best[i]
        for f in range(n_features):
            for i in range(size):
                sums[block, nearest[lo + i], f] += features[f, lo + i]


def count_blocks(n_pixels: int) -> int:
    """Rows that :func:`nearest_centre` needs in its sums."""
    return -(-n_pixels // _BLOCK)
