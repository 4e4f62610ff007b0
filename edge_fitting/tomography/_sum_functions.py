"""What projections are summed with: the basis of the series fit, and functions that see nothing but noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError
from edge_fitting.references import ReferenceSeries
from edge_fitting.series import SeriesBasis, compile_series

__all__ = ["SumFunctions"]

Array = NDArray[np.float64]

#: Functions orthogonal to the basis; the mean square of their sums is the variance of a voxel.
N_NOISE = 4
# A basis function that the planned energies see by less than this part of the first is not told from the others.
_LEAST_SEEN = 1e-9
_SEED = 20


class SumFunctions:
    """Functions of energy that are orthonormal over the planned energies.

    The first ones span the basis of the series fit; the last few are orthogonal to it, so that their sums hold noise
    only: the sum of squares, which the fit needs for its noise, is not linear and cannot be reconstructed.

    Parameters
    ----------
    series : ReferenceSeries
        Spectra of known state of charge.
    energies_ev, weights : array_like, shape (n,)
        Planned energies and the weight of one frame at each.

    Attributes
    ----------
    basis : SeriesBasis
        The basis of the fit.
    n_basis, n_noise : int
        Functions of either kind.

    Raises
    ------
    EdgeFittingError
        The energies are too few to tell basis and noise, or the references do not cover them.
    """

    def __init__(self, series: ReferenceSeries, energies_ev: ArrayLike, weights: ArrayLike) -> None:
        energies = np.asarray(energies_ev, np.float64)
        root = np.sqrt(np.asarray(weights, np.float64))
        self.basis: SeriesBasis = compile_series(series)
        functions = self.basis.at(energies)
        self.n_basis = functions.shape[1]
        self.n_noise = min(N_NOISE, energies.size - self.n_basis)
        if self.n_noise < 1:
            raise EdgeFittingError(
                f"{energies.size} energies do not tell {self.n_basis} basis functions from noise; take "
                f"{self.n_basis + 1} or more, or give references of fewer states"
            )
        orthonormal, self._triangle = np.linalg.qr(functions * root[:, None])
        seen = np.abs(np.diag(self._triangle))
        if not seen.min() > _LEAST_SEEN * seen.max():
            raise EdgeFittingError(
                "the energies do not tell the states of the references apart; choose others"
            )
        drawn = np.random.default_rng(_SEED).standard_normal((energies.size, self.n_noise))
        for _ in range(2):  # the second pass takes out what rounding left
            drawn -= orthonormal @ (orthonormal.T @ drawn)
        self._noise = np.linalg.qr(drawn)[0] / root[:, None]
        self._inverse = np.linalg.inv(self._triangle)
        self._known: dict[tuple[int, float], Array] = {}

    @property
    def size(self) -> int:
        """Number of functions."""
        return int(self.n_basis + self.n_noise)

    def at(self, energy_index: int, energy_ev: float) -> Array:
        """Return all functions at one energy as read back, shape (size,).

        Parameters
        ----------
        energy_index : int
            Place in the planned energies.
        energy_ev : float
            Readback.
        """
        key = energy_index, energy_ev
        if key not in self._known:
            values = self.basis.at(energy_ev)[0] @ self._inverse
            self._known[key] = np.concatenate([values, self._noise[energy_index]])
        return self._known[key]

    def to_basis(self, sums: Array) -> Array:
        """Return sums with the basis of the fit from those with the orthonormal functions, shape (n_basis, ...)."""
        return np.asarray(np.tensordot(self._triangle.T, sums[: self.n_basis], axes=1))

    def gram_of_basis(self, gram: Array) -> Array:
        """Return the Gram matrix of the basis of the fit from that of all functions."""
        inner = gram[: self.n_basis, : self.n_basis]
        return np.asarray(self._triangle.T @ inner @ self._triangle)
