"""What the frames registered so far say of the next one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import read_only

from ._band_pass import Array, Frame, Mask
from ._registration_kernels import add_registered
from ._run import run


class Template:
    """Running least-squares fit of every pixel of the registered frames on a few functions of energy.

    The first function is 1; the others are shrunk by ``ridge``, so that what the frames do not show yet is not
    extrapolated.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    n_functions : int
        Functions of energy, the constant included.

    Attributes
    ----------
    n_frames : int
        Frames added.
    ridge : float
        Noise variance over the variance of a coefficient, in units of the function squared.
    """

    def __init__(self, shape: tuple[int, int], n_functions: int) -> None:
        self.shape = shape
        self.n_frames = 0
        self.ridge = 0.0
        self._images: Frame = np.zeros((n_functions, *shape), np.float32)
        self._gram = np.zeros((n_functions, n_functions))
        self._seen: NDArray[np.uint16] = np.zeros(shape, np.uint16)

    def add(self, moved: Frame, known: Mask, predicted: Frame, functions: Array) -> None:
        """Add a frame at its shift; ``predicted`` stands for what is not known of it."""
        run(
            add_registered, moved.size, read_only(moved), read_only(known), read_only(predicted), functions,
            self._images, self._seen,
        )  # fmt: skip
        self._gram += np.outer(functions, functions)
        self.n_frames += 1

    def weights(self, functions: Array) -> tuple[Array, float]:
        """Weights of the sums in a prediction, and the influence of a frame at the same energy on it."""
        shrunk = self._gram.copy()
        inner = np.arange(1, functions.size)
        # A trace of the constant keeps functions that are all but constant so far from blowing up.
        shrunk[inner, inner] += self.ridge + 1e-6 * self._gram[inner, inner] + 1e-12
        weights: Array = np.linalg.solve(shrunk, functions).astype(np.float64)
        return weights, float(weights @ functions)

    def predict(self, functions: Array) -> Frame:
        """Image expected at an energy."""
        return self._combined(self.weights(functions)[0])

    def mean(self) -> Frame:
        """Mean of the frames."""
        weights = np.zeros(self._images.shape[0])
        weights[0] = 1.0 / max(self.n_frames, 1)
        return self._combined(weights)

    def without(self, moved: Frame, known: Mask, functions: Array) -> tuple[Frame, Frame]:
        """Prediction and mean from the other frames alone, for a frame that has been added at ``moved``."""
        weights, influence = self.weights(functions)
        whole, mean = self._combined(weights), self.mean()
        influence = min(influence, 0.9)
        own = np.where(known > 0, moved, whole)
        n = self.n_frames
        others: Frame = ((whole - influence * own) / (1.0 - influence)).astype(np.float32)
        rest: Frame = ((mean * n - own) / max(n - 1, 1)).astype(np.float32)
        return others, rest

    @property
    def n_functions(self) -> int:
        """Functions of energy."""
        return int(self._images.shape[0])

    def spread(self) -> float:
        """Scatter of the first function of energy over the frames: sum of squares about its mean."""
        if self._gram.shape[0] < 2 or self.n_frames == 0:
            return 0.0
        return float(self._gram[1, 1] - self._gram[0, 1] ** 2 / self.n_frames)

    def mask(self) -> Mask:
        """Where at least half of the frames had a value."""
        return (2 * self._seen >= max(self.n_frames, 1)).astype(np.uint8)

    def _combined(self, weights: Array) -> Frame:
        flat = self._images.reshape(weights.size, -1)
        return (weights.astype(np.float32) @ flat).reshape(self.shape)
