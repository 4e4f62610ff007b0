"""Spectra of many pixels to counts of components: one matrix product."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from edge_fitting.errors import EdgeFittingError

from ._model import SpectrumModel

__all__ = ["ComponentCounts", "SpectrumProjection"]

Array = NDArray[np.float64]

# Spectra that are converted and multiplied while they are in the cache; so few that BLAS does it on this thread: its
# other threads, on a machine that has work, are waited for ten times longer than they help.
_BLOCK_VALUES = 240_000


@dataclass(frozen=True, eq=False)
class ComponentCounts:
    """Counts of each component in each spectrum.

    Attributes
    ----------
    names : tuple of str
        Components.
    n_elements : int
        The first so many are elements.
    free : ndarray, shape (n, n_components)
        Least squares; may be negative, and has no bias: what is averaged.
    counts : ndarray, shape (n, n_components)
        Least squares of which no amplitude is negative.
    sigma : ndarray, shape (n, n_components)
        Standard deviation of ``free`` by counting.
    """

    names: tuple[str, ...]
    n_elements: int
    free: Array
    counts: Array
    sigma: Array


class SpectrumProjection:
    """Weighted least squares whose weights are those of the mean spectrum: a matrix for all spectra.

    Parameters
    ----------
    model : SpectrumModel
        The components.
    expected : array_like, shape (n_window,)
        The mean spectrum, or its fit, in the channels of the model.

    Raises
    ------
    EdgeFittingError
        Components that are the same, or an expected spectrum of another length.
    """

    def __init__(self, model: SpectrumModel, expected: ArrayLike) -> None:
        mean = np.asarray(expected, np.float64)
        if mean.shape != (model.matrix.shape[0],):
            raise EdgeFittingError(
                f"The expected spectrum has {mean.size} channels and the model {model.matrix.shape[0]}."
            )
        # A channel in which nothing is expected must not outweigh all others.
        floor = max(float(mean.max(initial=0.0)) * 1e-4, 1e-12)
        weights = 1.0 / np.maximum(mean, floor)
        self.model = model
        self._weights = weights
        a = model.matrix
        self.gram = a.T @ (weights[:, None] * a)
        scale = np.sqrt(np.maximum(np.diag(self.gram), 1e-300))
        inverse = np.linalg.pinv(self.gram / np.outer(scale, scale), rcond=1e-10, hermitian=True) / np.outer(
            scale, scale
        )
        self.matrix: Array = inverse @ (a.T * weights)
        self._onto = self.matrix.T.astype(np.float32)
        # Poisson: the variance of an amplitude is a sum over channels of its squared weights times what is expected.
        self._spread: Array = np.einsum("ic,jc,ck->ijk", self.matrix, self.matrix, a, optimize=True)

    def fit(self, spectra: ArrayLike, *, variance_factor: ArrayLike = 1.0) -> ComponentCounts:
        """Fit spectra.

        Parameters
        ----------
        spectra : array_like, shape (n, n_channels) or (n, n_window)
            Whole spectra, or the channels of the model.
        variance_factor : array_like, shape (n,), optional
            Variance over value of the corrected counts, such as the dead-time factor; 1 for counts as they are.

        Returns
        -------
        ComponentCounts
        """
        free = self.project(spectra)
        variance = (
            self.variance(free)
            * np.broadcast_to(np.asarray(variance_factor, np.float64), free.shape[:1])[:, None]
        )
        counts = self._not_negative(free)
        m = self.model
        return ComponentCounts(m.names, m.n_elements, free, counts, np.sqrt(variance))

    def project(self, spectra: ArrayLike) -> Array:
        """Return the amplitudes of the free least squares, shape (n, n_components): the matrix product alone."""
        rows = self._windowed(spectra)
        out = np.empty((rows.shape[0], self._onto.shape[1]), np.float32)
        n = max(_BLOCK_VALUES // self._onto.size, 1)
        for first in range(0, rows.shape[0], n):
            block = rows[first : first + n]
            np.matmul(block.astype(np.float32, copy=False), self._onto, out=out[first : first + n])
        return out.astype(np.float64)

    def variance(self, free: Array) -> Array:
        """Return the variance of amplitudes by counting, shape (n, n_components)."""
        expected = np.maximum(free, 0.0)
        least = np.maximum(expected.sum(axis=1, keepdims=True), 1.0)
        variance = expected @ np.einsum("iik->ik", self._spread).T
        # A spectrum without a count still has the uncertainty of one.
        alone = np.diag(self._spread.mean(axis=2)) / np.maximum(least, 1.0)
        return np.asarray(np.maximum(variance, alone))

    def covariances(self, free: Array) -> Array:
        """Return the covariances of the elements' amplitudes by counting, shape (n, n_elements, n_elements)."""
        n = self.model.n_elements
        return np.asarray(
            np.einsum("pk,ijk->pij", np.maximum(free, 0.0), self._spread[:n, :n], optimize=True)
        )

    def _windowed(self, spectra: ArrayLike) -> NDArray[np.generic]:
        rows = np.asarray(spectra)
        n = self.model.matrix.shape[0]
        if rows.ndim != 2 or (rows.shape[1] != n and rows.shape[1] < self.model.window.stop):
            raise EdgeFittingError(
                f"Spectra must be rows of at least {self.model.window.stop} channels, not {rows.shape}."
            )
        return rows if rows.shape[1] == n else rows[:, self.model.window.slice]

    def _not_negative(self, free: Array) -> Array:
        counts = free.copy()
        needing = np.flatnonzero((free < 0.0).any(axis=1) & np.isfinite(free).all(axis=1))
        if not needing.size:
            return counts
        scale = np.sqrt(np.maximum(np.diag(self.gram), 1e-300))
        gram = self.gram / np.outer(scale, scale) + 1e-12 * np.eye(scale.size)
        chol = np.linalg.cholesky(gram)
        target = (free[needing] * scale) @ gram @ np.linalg.inv(chol).T
        most = 100 * scale.size
        for row, y in zip(needing, target, strict=True):
            counts[row] = nnls(chol.T, y, maxiter=most)[0] / scale
        return counts
