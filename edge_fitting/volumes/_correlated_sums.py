"""Variances of weighted sums of voxels that are alike where they lie near each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array

# Of a correlation that reaches far, so many pairs of places at most are looked at; each then stands for others.
_MOST_OFFSETS = 60


class CorrelatedSums:
    """Variances of sums, given how alike neighbouring voxels are.

    Parameters
    ----------
    correlation : ndarray
        Of :func:`edge_fitting.maps.neighbour_correlation`: 1 in the middle.
    """

    def __init__(self, correlation: Array) -> None:
        middle = np.array(correlation.shape) // 2
        places = np.argwhere(correlation > 0) - middle
        # Of each pair of opposite offsets, one.
        half = places[[tuple(place) > (0,) * len(place) for place in places.tolist()]]
        half = half[np.argsort(np.sum(half**2, axis=1), kind="stable")]
        stands_for = max(1.0, half.shape[0] / _MOST_OFFSETS)
        chosen = half[np.unique((np.arange(0.5 * stands_for, half.shape[0], stands_for)).astype(int))]
        alike = correlation[tuple((chosen + middle).T)]
        total = 2.0 * float(correlation[tuple((half + middle).T)].sum())
        scale = total / float(alike.sum()) if alike.size else 0.0
        self._offsets = [
            (tuple(map(int, place)), scale * float(factor))
            for place, factor in zip(chosen, alike, strict=True)
        ]

    def variance(self, weighted: Array) -> float:
        """Variance of a sum of weights times standard deviations, 0 where a voxel does not count."""
        plain = float(np.vdot(weighted, weighted))
        pairs = sum(
            factor * float(np.sum(weighted[here] * weighted[there]))
            for here, there, factor in self._pairs(weighted.shape)
        )
        # Never below what independent voxels have: the correlation is an estimate.
        return plain + max(pairs, 0.0)

    def variances(self, weighted: Array, slot: NDArray[np.integer], n_slots: int) -> Array:
        """Variances of the sums over the voxels of each slot; slots below 0 do not count."""
        use = slot >= 0
        plain: Array = np.bincount(slot[use], weighted[use] ** 2, minlength=n_slots).astype(np.float64)
        pairs = np.zeros(n_slots)
        for here, there, factor in self._pairs(weighted.shape):
            same = (slot[here] == slot[there]) & use[here]
            products = (weighted[here] * weighted[there])[same]
            pairs += factor * np.bincount(slot[here][same], products, minlength=n_slots)
        return np.asarray(plain + np.maximum(pairs, 0.0))

    def _pairs(self, shape: tuple[int, ...]) -> list[tuple[tuple[slice, ...], tuple[slice, ...], float]]:
        return [
            (
                tuple(slice(max(-d, 0), n - max(d, 0)) for d, n in zip(place, shape, strict=True)),
                tuple(slice(max(d, 0), n + min(d, 0)) for d, n in zip(place, shape, strict=True)),
                factor,
            )
            for place, factor in self._offsets
            if all(abs(d) < n for d, n in zip(place, shape, strict=True))
        ]
