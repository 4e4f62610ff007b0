"""Kernel of the non-linear fit of an arctan step and a Gaussian white line."""

from __future__ import annotations

import math

import numba as nb
import numpy as np

N_PARAMETERS = 8

_MOST_ITERATIONS = 80
_CONVERGED = 1e-8


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
def _fit_one(y, x, weight, parameters, widths):
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
                # Widths stay between a tenth of the core hole's and the width of the window.
                trial[4] = min(max(trial[4], widths[0]), widths[1])
                trial[7] = min(max(trial[7], widths[0]), widths[1])
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
def fit_arctan_gauss(stack, x, weight, start, widths, out):
    """Fit every pixel.

    Parameters
    ----------
    stack : float32 (n_frames, n_pixels)
        Optical depth without missing values.
    x, weight : float64 (n_frames,)
        Energies from the reference energy in eV, weights.
    start : float64 (8, n_pixels)
        Starting values, see ``_model``; NaN in the jump leaves a pixel out. Replaced by the solution.
    widths : float64 (2,)
        Logarithms of the smallest and largest widths in eV.
    out : float64 (3, n_pixels)
        Squared residual, variance of the step position for unit noise, 1 if converged.
    """
    for pixel in nb.prange(stack.shape[1]):
        if not np.isfinite(start[2, pixel]):
            out[0, pixel] = np.nan
            out[1, pixel] = np.nan
            out[2, pixel] = 0.0
            continue
        y = np.empty(stack.shape[0])
        for n in range(y.size):
            y[n] = stack[n, pixel]
        parameters = np.empty(N_PARAMETERS)
        for k in range(N_PARAMETERS):
            parameters[k] = start[k, pixel]
        chi2, variance, converged = _fit_one(y, x, weight, parameters, widths)
        for k in range(N_PARAMETERS):
            start[k, pixel] = parameters[k]
        out[0, pixel] = chi2
        out[1, pixel] = variance
        out[2, pixel] = 1.0 if converged else 0.0
