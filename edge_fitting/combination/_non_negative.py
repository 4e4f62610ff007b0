"""Least squares whose weights are not negative: the weights, and how far noise moves them."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import ndtr

Array = NDArray[np.float64]


def non_negative(v: Array, gram: Array) -> Array:
    """Coefficients of the least squares whose weights are not negative, shape (n_basis, n_pixels)."""
    best: Array = np.asarray(np.linalg.solve(gram, v), np.float64)
    # The free fit is the answer where it is feasible.
    needing = np.flatnonzero((best[2:] < 0.0).any(axis=0) & np.isfinite(v).all(axis=0))
    if not needing.size:
        return best
    # Without the line, which is free: |chol.T w - y|, the same in the weights alone.
    onto_line = np.linalg.solve(gram[:2, :2], gram[:2, 2:])
    chol = np.linalg.cholesky(gram[2:, 2:] - gram[2:, :2] @ onto_line)
    target = np.linalg.solve(chol, v[2:, needing] - onto_line.T @ v[:2, needing])
    most = 100 * chol.shape[0]
    found = [nnls(chol.T, column, maxiter=most)[0] for column in target.T]
    best[2:, needing] = np.stack(found, axis=1)
    best[:2, needing] = np.linalg.solve(gram[:2, :2], v[:2, needing] - gram[:2, 2:] @ best[2:, needing])
    return best


def non_negative_covariance(weights: Array, noise2: Array, gram: Array) -> Array:
    """Mean squared deviations of the weights under the constraint, for unit noise, (n_ref, n_ref, n_pixels).

    The free estimate is a part that is independent of the weight ``k``, and ``b`` times that weight, ``b`` being the
    regression of all weights on it. Noise ``z`` of ``k`` moves all weights along ``b`` until one of them is zero: by no
    less than ``-t`` and no more than ``u`` standard deviations of ``k``. The mean square of ``z`` so limited replaces
    its variance. This is done for the weights at zero (``t = 0``), one by one, and of the others for the one that is
    nearest to zero. It is exact for one weight near its bound, and too large rather than too small for several.
    """
    n_ref, n_pixels = weights.shape
    reduced = gram[2:, 2:] - gram[2:, :2] @ np.linalg.solve(gram[:2, :2], gram[:2, 2:])
    covariance = np.zeros((n_ref, n_ref, n_pixels))
    patterns, which = np.unique(weights > 0.0, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        pixels = np.flatnonzero(which.ravel() == number)
        w, noise = weights[:, pixels], np.sqrt(noise2[pixels])
        free = _covariance_of(reduced, pattern)
        total = np.repeat(free[:, :, None], pixels.size, axis=2)
        for k in np.flatnonzero(~pattern):
            along = _covariance_of(reduced, pattern | (np.arange(n_ref) == k))[k]
            up = _longest_step(w, along / np.sqrt(along[k]), noise)
            total += np.outer(along, along)[:, :, None] * (_mean_square_up_to(up) / along[k])
        if pattern.any():
            sigma = np.sqrt(np.diag(free))[:, None] * noise
            distance = np.divide(w, sigma, out=np.full(w.shape, np.inf), where=sigma > 0.0)
            nearest = np.argmin(distance, axis=0)
            for k in np.unique(nearest):
                here = nearest == k
                step = free[k] / np.sqrt(free[k, k])
                down, up = (_longest_step(w[:, here], sign * step, noise[here]) for sign in (-1.0, 1.0))
                lost = 1.0 - _mean_square_up_to(down) - _mean_square_up_to(up)
                total[:, :, here] -= np.outer(step, step)[:, :, None] * lost
        covariance[:, :, pixels] = total
    return covariance


def _longest_step(weights: Array, step: Array, noise: Array) -> Array:
    """How many steps, times the noise, the weights can go until a positive one of them is zero."""
    falling = (step < 0.0)[:, None] & (weights > 0.0)
    scale = np.where(falling, -step[:, None] * noise, 1.0)
    longest = np.divide(weights, scale, out=np.full(weights.shape, np.inf), where=falling & (scale > 0.0))
    return np.asarray(longest.min(axis=0))


def _mean_square_up_to(limit: Array) -> Array:
    """Mean of ``min(z, limit)**2`` over the positive half of a standard normal ``z``: from 0 to a half."""
    t = np.minimum(limit, 10.0)
    density = np.exp(-0.5 * t**2) / np.sqrt(2.0 * np.pi)
    return np.asarray(ndtr(t) - 0.5 - t * density + t**2 * ndtr(-t))


def _covariance_of(gram: Array, chosen: NDArray[np.bool_]) -> Array:
    """Covariance of some of the weights, with all others zero."""
    found = np.zeros_like(gram)
    index = np.ix_(chosen, chosen)
    found[index] = np.linalg.inv(gram[index])
    return found
