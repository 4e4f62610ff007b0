"""Sums of projections, per angle and pixel of the detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_fitting.errors import EdgeFittingError

from ._sum_functions import SumFunctions

__all__ = ["EvenSums", "ProjectionSums"]

Array = NDArray[np.float64]
Image = NDArray[np.float32]

# An angle with less than this part of the energies that others have is left out, not completed.
_LEAST_ENERGIES = 0.5


@dataclass(frozen=True)
class EvenSums:
    """Sums that are of the same energies at every angle, as a reconstruction needs them.

    Attributes
    ----------
    sums : ndarray of float32, shape (n_angles, n_functions, rows, cols)
        Of the angles that have enough energies.
    angles_deg : ndarray, shape (n_angles,)
        These angles.
    gram : ndarray, shape (n_functions, n_functions)
        Of the functions over the energies.
    n_frames : int
        Frames at each angle.
    n_completed : int
        Angles whose sums were completed or reduced to these energies.
    """

    sums: Image
    angles_deg: Array
    gram: Array
    n_frames: int
    n_completed: int


class ProjectionSums:
    """Weighted sums of the projections at each angle; memory does not grow with the energies.

    Parameters
    ----------
    functions : SumFunctions
        What they are summed with.
    angles_deg : sequence of float
        All angles of the plan.
    shape : tuple of int
        Rows and columns of the detector.
    """

    def __init__(
        self, functions: SumFunctions, angles_deg: tuple[float, ...], shape: tuple[int, int]
    ) -> None:
        n_angles = len(angles_deg)
        self.functions = functions
        self.angles_deg = np.asarray(angles_deg, np.float64)
        self.shape = shape
        self.sums: Image = np.zeros((n_angles, functions.size, *shape), np.float32)
        self.grams: Array = np.zeros((n_angles, functions.size, functions.size))
        self.n_frames: NDArray[np.int64] = np.zeros(n_angles, np.int64)

    def push(self, place: int, energy_index: int, energy_ev: float, depth: Image, weight: float) -> None:
        """Add a projection of optical depth, shape (rows, cols), without missing values."""
        self._add(place, energy_index, energy_ev, depth, weight, 1)

    def retract(self, place: int, energy_index: int, energy_ev: float, depth: Image, weight: float) -> None:
        """Take a projection out again."""
        self._add(place, energy_index, energy_ev, depth, -weight, -1)

    def merge(self, other: ProjectionSums) -> None:
        """Add the projections of another one of the same plan."""
        if other.sums.shape != self.sums.shape:
            raise EdgeFittingError(
                f"sums of {other.sums.shape} cannot be added to those of {self.sums.shape}: another detector or plan"
            )
        self.sums += other.sums
        self.grams += other.grams
        self.n_frames += other.n_frames

    def even(self) -> EvenSums | None:
        """Return sums of the same energies at every angle; None before there are any.

        An angle that lacks a few energies, or has some that most lack, is brought to those of the others by what its
        own sums say of its spectra: the functions span them but for noise.
        """
        if not self.n_frames.any():
            return None
        kept = np.flatnonzero(self.n_frames >= max(_LEAST_ENERGIES * self.n_frames.max(), 1))
        grams = self.grams[kept]
        target = self._common_gram(grams, self.n_frames[kept])
        n_frames = int(np.median(self.n_frames[kept]))
        uneven = np.abs(grams - target).max(axis=(1, 2)) > 1e-6 * np.abs(target).max()
        if not uneven.any():
            whole = kept.size == self.n_frames.size
            sums = self.sums if whole else self.sums[kept]
            return EvenSums(sums, self.angles_deg[kept], target, n_frames, 0)
        sums = self.sums[kept]
        nb = self.functions.n_basis
        for k in np.flatnonzero(uneven):
            own = grams[k]
            change = target[:, :nb] - own[:, :nb]
            back = change @ np.linalg.pinv(own[:nb, :nb], rcond=1e-6, hermitian=True)
            flat = sums[k].reshape(sums.shape[1], -1)
            flat += (back @ flat[:nb]).astype(np.float32)
        return EvenSums(sums, self.angles_deg[kept], target, n_frames, int(uneven.sum()))

    @staticmethod
    def _common_gram(grams: Array, n_frames: NDArray[np.int64]) -> Array:
        """Return the Gram matrix of the angle whose number of frames is the most usual."""
        values, counts = np.unique(n_frames, return_counts=True)
        usual = n_frames == values[np.argmax(counts)]
        return np.asarray(np.median(grams[usual], axis=0))

    def _add(
        self, place: int, energy_index: int, energy_ev: float, depth: Image, weight: float, times: int
    ) -> None:
        if depth.shape != self.shape:
            raise EdgeFittingError(f"a projection of {depth.shape} does not fit those of {self.shape}")
        vector = self.functions.at(energy_index, energy_ev)
        self.sums[place] += (weight * vector).astype(np.float32)[:, None, None] * depth
        self.grams[place] += weight * np.outer(vector, vector)
        self.n_frames[place] += times
