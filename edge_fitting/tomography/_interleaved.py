"""Projections whose angles differ from energy to energy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.errors import EdgeFittingError

from ._filtered_back_projection import FilteredBackProjection
from ._sum_functions import SumFunctions

__all__ = ["InterleavedProjections"]

Array = NDArray[np.float64]
Image = NDArray[np.float32]

_FEWEST_ANGLES = 3


class InterleavedProjections:
    """Projections of energies that have angles of their own.

    Every energy is reconstructed from its angles, slice by slice, and its slice is added to the sums, which costs less
    than reconstructing the sums: each projection is spread back once.

    Parameters
    ----------
    functions : SumFunctions
        What slices are summed with.
    angles_deg : sequence of float
        All angles of the plan.
    shape : tuple of int
        Rows and columns of the detector.

    Attributes
    ----------
    images : ndarray of float32, shape (n_angles, rows, cols)
        Mean optical depth at each angle.
    """

    def __init__(
        self, functions: SumFunctions, angles_deg: tuple[float, ...], shape: tuple[int, int]
    ) -> None:
        n_angles = len(angles_deg)
        self.functions = functions
        self.angles_deg = np.asarray(angles_deg, np.float64)
        self.shape = shape
        self.images: Image = np.zeros((n_angles, *shape), np.float32)
        self._weight = np.zeros(n_angles)
        self._energy_index = np.full(n_angles, -1)
        self._energy_ev = np.zeros(n_angles)

    @property
    def n_frames(self) -> int:
        """Projections so far."""
        return int((self._weight > 0.0).sum())

    def push(self, place: int, energy_index: int, energy_ev: float, depth: Image, weight: float) -> None:
        """Add a projection of optical depth, shape (rows, cols), without missing values."""
        if depth.shape != self.shape:
            raise EdgeFittingError(f"a projection of {depth.shape} does not fit those of {self.shape}")
        self._mix(place, depth, weight)
        self._energy_index[place], self._energy_ev[place] = energy_index, energy_ev

    def retract(self, place: int, energy_index: int, energy_ev: float, depth: Image, weight: float) -> None:
        """Take a projection out again."""
        self._mix(place, depth, -weight)

    def merge(self, other: InterleavedProjections) -> None:
        """Add the projections of another one of the same plan."""
        for place in np.flatnonzero(other._weight > 0.0):
            self.push(
                int(place),
                int(other._energy_index[place]),
                float(other._energy_ev[place]),
                other.images[place],
                float(other._weight[place]),
            )

    def groups(self) -> dict[int, NDArray[np.intp]]:
        """Return the places of each energy that has enough angles."""
        taken = self._weight > 0.0
        found = {}
        for index in np.unique(self._energy_index[taken]):
            places = np.flatnonzero(taken & (self._energy_index == index))
            if places.size >= _FEWEST_ANGLES:
                found[int(index)] = places
        return found

    def weighted(self, index: int, places: NDArray[np.intp]) -> tuple[Array, float]:
        """Return functions and weight of an energy."""
        energy_ev = float(np.mean(self._energy_ev[places]))
        return self.functions.at(index, energy_ev), float(np.mean(self._weight[places]))

    def gram(self) -> tuple[Array, int]:
        """Return the Gram matrix of the functions over the energies, and how many these are."""
        total = np.zeros((self.functions.size, self.functions.size))
        groups = self.groups()
        for index, places in groups.items():
            vector, weight = self.weighted(index, places)
            total += weight * np.outer(vector, vector)
        return total, len(groups)

    def slice(self, row: int, projectors: dict[int, FilteredBackProjection], images: Image) -> Image:
        """Return the sums of one slice, shape (n_functions, cols, cols).

        Parameters
        ----------
        row : int
            Row of the detector.
        projectors : dict
            For each energy, see `groups`.
        images : ndarray
            The projections, put right.
        """
        cols = self.shape[1]
        sums = np.zeros((self.functions.size, cols, cols), np.float32)
        for index, places in self.groups().items():
            vector, weight = self.weighted(index, places)
            sinogram = np.ascontiguousarray(images[places, row])[:, None]
            found = projectors[index].slice(sinogram)[0]
            sums += (weight * vector).astype(np.float32)[:, None, None] * found
        return sums

    def alike(self) -> Image:
        """Return the projections scaled so that every energy has the same mass, shape as `images`."""
        scaled = self.images.copy()
        for places in self.groups().values():
            mass = float(np.median(self.images[places].sum(axis=(1, 2))))
            if mass > 0.0:
                scaled[places] /= mass
        return scaled

    def _mix(self, place: int, depth: Image, weight: float) -> None:
        """Take the mean with what is there, or take a part of the mean out again."""
        before = self._weight[place]
        total = before + weight
        if total <= 1e-9 * abs(weight):
            self.images[place] = 0.0
            self._weight[place] = 0.0
            return
        self.images[place] = (before * self.images[place] + weight * depth) / total
        self._weight[place] = total
