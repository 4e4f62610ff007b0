"""Pre-edge line and edge step of reference spectra, by the physics of what lies beside an edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Absorption that a shell adds falls with this power of the energy (Elam tables, K shells of Mn, Co and Ni: 2.43).
_SHELL_POWER = 2.45
# Half width of the edge step, core hole and chemical spread together, as a fraction of the edge energy.
_RELATIVE_WIDTH = 1.8e-4
# What a straight pre-edge line leaves out: absorption below the edge, about as large as the step, falls with the
# power 2.75, which bends it by 5 (E/E0 - 1)^2.
_CURVATURE = 3.0
# White line and step reach below the edge as tails of the size 1 eV / (E0 - E).
_TAIL_EV = 1.0
# Oscillations above the edge: the next shells of atoms are 1.2 to 3 Angstrom away, without phase correction;
# amplitude (1/Angstrom) and mean square displacement (Angstrom^2) of an oxide.
_SHELLS_A = np.linspace(1.2, 3.0, 37)
_AMPLITUDE = 0.3
_DISPLACEMENT_A2 = 0.015
_SMALLEST_K = 0.5
# (photoelectron wave number)^2 per eV, in Angstrom^-2
_K2_PER_EV = 0.2624682843
# Noise and what is not described, per point, relative to the step.
_REST = 2e-3


def line_and_step(energy_ev: Array, spectra: Array, edge_ev: float, beside: NDArray[np.bool_]) -> Array:
    """Fit the pre-edge line and the step of every spectrum to what lies beside the edge.

    The step is that of the absorption of the shell, which falls with energy, and not of a straight line through the
    points above: over the few points that a scan has there, such a line takes the oscillations for a slope and
    carries it back to the edge. By generalised least squares, with the oscillations, the tails of the edge
    and the curvature of the background as correlated errors of known size. Linear in the spectra, the same for all.

    Parameters
    ----------
    energy_ev : ndarray, shape (n_energy,)
        Increasing energies.
    spectra : ndarray, shape (n, n_energy)
        Absorption in any unit.
    edge_ev : float
        Where the step is.
    beside : ndarray of bool, shape (n_energy,)
        Points to use, some below and some above the edge.

    Returns
    -------
    ndarray, shape (n, 3)
        Level and slope (per eV) of the line at the edge, and the step there.
    """
    x = energy_ev[beside] - edge_ev
    relative = x / edge_ev
    width = _RELATIVE_WIDTH * edge_ev
    step = (0.5 + np.arctan(x / width) / np.pi) * (1.0 + relative) ** -_SHELL_POWER
    design = np.stack([np.ones_like(x), relative, step], axis=1)
    below = -x[x < 0]
    # Two points close to each other carry no line as far as it is needed.
    if below.size < 3 or np.ptp(below) < below.min():
        design = design[:, [0, 2]]
    root = np.linalg.inv(np.linalg.cholesky(_covariance(x, relative)))
    found = np.linalg.lstsq(root @ design, root @ spectra[:, beside].T, rcond=None)[0]
    level, jump = found[0], found[-1]
    slope = found[1] / edge_ev if design.shape[1] == 3 else np.zeros_like(level)
    return np.stack([level, slope, jump], axis=1)


def _covariance(x: Array, relative: Array) -> Array:
    """Errors of the description beside the edge, relative to the step, shape (n, n)."""
    k = np.sqrt(_K2_PER_EV * np.maximum(x, 0.0))
    fading = np.exp(-2.0 * _DISPLACEMENT_A2 * k * k) / np.maximum(k, _SMALLEST_K)
    size = np.where(x > 0, _AMPLITUDE * fading, 0.0)
    phase = 2.0 * np.outer(_SHELLS_A, k)
    # cos(a - b) averaged over the shells, as a product of few rows: spectra with EXAFS have thousands of points.
    waves = np.concatenate([np.cos(phase), np.sin(phase)])
    alike = waves.T @ waves / _SHELLS_A.size
    tail = np.where(x < 0, _TAIL_EV / np.maximum(np.abs(x), 1.0), 0.0)
    bend = _CURVATURE * relative**2
    rest = _REST**2 * np.eye(x.size)
    return np.asarray(0.5 * alike * np.outer(size, size) + np.outer(tail, tail) + np.outer(bend, bend) + rest)
