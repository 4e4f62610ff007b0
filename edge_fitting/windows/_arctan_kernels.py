"""Kernel of the non-linear fit of an arctan step and a Gaussian white line."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

N_PARAMETERS = 8

_MOST_ITERATIONS = 80
_CONVERGED = 1e-8


class ArctanLimits(NamedTuple):
    """Between what the parameters stay: without, a peak that noise makes small or wide wanders off."""

    narrowest: float
    """Logarithm of the smallest width in eV."""
    widest: float
    """Logarithm of the largest width."""
    first: float
    """Lowest position of step and peak, from the reference energy in eV."""
    last: float
    """Highest position."""


class ArctanFit(NamedTuple):
    """How good the fits are, each of shape (n_pixels,)."""

    residual: NDArray[np.float64]
    """Squared residual."""
    variance: NDArray[np.float64]
    """Variance of the step position for unit noise."""
    converged: NDArray[np.bool_]
    """Whether a minimum was reached."""


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _model(parameters, x, value, gradient):
    """Model and its derivatives at offsets x (eV) from the reference energy.

    Parameters are offset, slope per 100 eV, jump, step position, log step width, peak height, peak position, log peak
    width.
    """
    offset, slope, jump, e0, log_width, height, peak, log_sigma = parameters
    width, sigma = math.exp(log_width), math.exp(log_sigma)
    for n in range(x.size):
        u = (x[n] - e0) / width
        step = 0.5 + math.atan(u) / math.pi
        lorentz = jump / (math.pi * (1.0 + u * u))
        z = (x[n] - peak) / sigma
        bell = math.exp(-0.5 * z * z)
        value[n] = offset + slope * x[n] / 100.0 + jump * step + height * bell
        gradient[0, n] = 1.0
        gradient[1, n] = x[n] / 100.0
        gradient[2, n] = step
        gradient[3, n] = -lorentz / width
        gradient[4, n] = -lorentz * u
        gradient[5, n] = bell
        gradient[6, n] = height * bell * z / sigma
        gradient[7, n] = height * bell * z * z


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _cholesky_solve(matrix, right, work):
    """Solve a positive definite system into ``right``; return whether it is one."""
    n = right.size
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= work[i, k] * work[j, k]
            if i == j:
                if not total > 0.0:
                    return False
                work[i, i] = math.sqrt(total)
            else:
                work[i, j] = total / work[j, j]
    for i in range(n):
        for k in range(i):
            right[i] -= work[i, k] * right[k]
        right[i] /= work[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            right[i] -= work[k, i] * right[k]
        right[i] /= work[i, i]
    return True


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _squared_residual(y, value, weight):
    total = 0.0
    for n in range(y.size):
        total += weight[n] * (y[n] - value[n]) ** 2
    return total


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _keep_within(parameters, limits):
    """Keep the parameters within the limits, and a white line a peak that is not below its step."""
    parameters[4] = min(max(parameters[4], limits.narrowest), limits.widest)
    parameters[7] = min(max(parameters[7], limits.narrowest), limits.widest)
    parameters[3] = min(max(parameters[3], limits.first), limits.last)
    parameters[5] = max(parameters[5], 0.0)
    parameters[6] = min(max(parameters[6], parameters[3]), limits.last)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _fit_one(y, x, weight, parameters, limits):
    """Levenberg-Marquardt; return squared residual, variance of the step position for unit noise, converged."""
    n_frames = x.size
    value = np.empty(n_frames)
    gradient = np.empty((N_PARAMETERS, n_frames))
    normal = np.empty((N_PARAMETERS, N_PARAMETERS))
    damped = np.empty((N_PARAMETERS, N_PARAMETERS))
    work = np.zeros((N_PARAMETERS, N_PARAMETERS))
    slope = np.empty(N_PARAMETERS)
    change = np.empty(N_PARAMETERS)
    trial = np.empty(N_PARAMETERS)
    damping = 1e-3
    _keep_within(parameters, limits)
    _model(parameters, x, value, gradient)
    chi2 = _squared_residual(y, value, weight)
    converged = False
    for _ in range(_MOST_ITERATIONS):
        for i in range(N_PARAMETERS):
            slope[i] = 0.0
            for n in range(n_frames):
                slope[i] += weight[n] * gradient[i, n] * (y[n] - value[n])
            for j in range(i + 1):
                total = 0.0
                for n in range(n_frames):
                    total += weight[n] * gradient[i, n] * gradient[j, n]
                normal[i, j] = total
                normal[j, i] = total
        accepted = False
        while damping < 1e10:
            for i in range(N_PARAMETERS):
                change[i] = slope[i]
                for j in range(N_PARAMETERS):
                    damped[i, j] = normal[i, j]
                damped[i, i] += damping * normal[i, i] + 1e-300
            if _cholesky_solve(damped, change, work):
                for i in range(N_PARAMETERS):
                    trial[i] = parameters[i] + change[i]
                _keep_within(trial, limits)
                _model(trial, x, value, gradient)
                new = _squared_residual(y, value, weight)
                if new <= chi2:
                    accepted = True
                    break
            damping *= 4.0
        if not accepted:
            # No direction lowers the residual any more: a minimum to rounding.
            _model(parameters, x, value, gradient)
            converged = damping >= 1e10
            break
        gain = chi2 - new
        for i in range(N_PARAMETERS):
            parameters[i] = trial[i]
        chi2 = new
        damping = max(damping * 0.2, 1e-12)
        if gain <= _CONVERGED * chi2:
            converged = True
            break
    for i in range(N_PARAMETERS):
        for j in range(i + 1):
            total = 0.0
            for n in range(n_frames):
                total += weight[n] * gradient[i, n] * gradient[j, n]
            normal[i, j] = total
            normal[j, i] = total
        change[i] = 0.0
    change[3] = 1.0
    regular = _cholesky_solve(normal, change, work)
    return chi2, change[3], converged and regular


@nb.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def fit_arctan_gauss(stack, x, weight, start, limits, out):
    """Fit every pixel.

    Parameters
    ----------
    stack : float32 (n_frames, n_pixels)
        Optical depth without missing values.
    x, weight : float64 (n_frames,)
        Energies from the reference energy in eV, weights.
    start : float64 (8, n_pixels)
        Starting values, see ``_model``; NaN in the jump leaves a pixel out. Replaced by the solution.
    limits : ArctanLimits
        Between what the parameters stay.
    out : ArctanFit
        Filled in.
    """
    residual, variances, reached = out.residual, out.variance, out.converged
    for pixel in nb.prange(stack.shape[1]):
        if not np.isfinite(start[2, pixel]):
            residual[pixel] = np.nan
            variances[pixel] = np.nan
            reached[pixel] = False
            continue
        y = np.empty(stack.shape[0])
        for n in range(y.size):
            y[n] = stack[n, pixel]
        parameters = np.empty(N_PARAMETERS)
        for k in range(N_PARAMETERS):
            parameters[k] = start[k, pixel]
        chi2, variance, converged = _fit_one(y, x, weight, parameters, limits)
        for k in range(N_PARAMETERS):
            start[k, pixel] = parameters[k]
        residual[pixel] = chi2
        variances[pixel] = variance
        reached[pixel] = converged
