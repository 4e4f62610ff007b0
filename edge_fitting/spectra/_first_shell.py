"""Fine structure above the edge by Larch: chi(k), and the first shell in the magnitude of its Fourier transform."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

Array = NDArray[np.float64]

# k in 1/angstrom from the energy above the edge in eV: k^2 = 2 m E / hbar^2 (CODATA 2018).
_K2_PER_EV = 0.2624682843
# Width of the flanks of the window in k (1/angstrom).
_FLANK = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class FirstShell:
    """Fine structure of one spectrum, and its first shell.

    Parameters
    ----------
    k, chi : ndarray, shape (n,)
        Wave number of the photoelectron in 1/angstrom, and fine structure relative to the edge step.
    r, chi_r : ndarray, shape (m,)
        Distance in angstrom, not corrected for the phase, and magnitude of the Fourier transform of ``chi`` times a
        power of ``k``.
    distance : float
        Where that magnitude is greatest within the range asked for, angstrom.
    amplitude, amplitude_sigma : float
        Greatest magnitude, and its standard deviation by the noise between 15 and 25 angstrom.
    """

    k: Array
    chi: Array
    r: Array
    chi_r: Array
    distance: float
    amplitude: float
    amplitude_sigma: float


def first_shell(
    energy_ev: ArrayLike,
    mu: ArrayLike,
    *,
    e0_ev: float,
    k_range: tuple[float, float] = (3.0, 10.0),
    r_range: tuple[float, float] = (1.0, 2.2),
    k_weight: int = 2,
    background_angstrom: float = 1.0,
) -> FirstShell:
    """Let Larch take the background off (AUTOBK) and transform, and find the first shell.

    Parameters
    ----------
    energy_ev, mu : array_like, shape (n,)
        Increasing energies in eV, and absorption.
    e0_ev : float
        Origin of k.
    k_range : tuple of float
        Window of the transform, 1/angstrom (Hanning, flanks of 1).
    r_range : tuple of float
        Where the first shell is looked for, angstrom.
    k_weight : int
        Power of k that chi is multiplied by.
    background_angstrom : float
        Below this distance everything is background.

    Returns
    -------
    FirstShell

    Raises
    ------
    EdgeFittingError
        Larch is not installed, or the spectrum does not reach over the window.
    """
    x, y = np.asarray(energy_ev, np.float64), np.asarray(mu, np.float64)
    if x.ndim != 1 or y.shape != x.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise EdgeFittingError("energies and absorption must be as many, and numbers: give one spectrum.")
    if (np.diff(x) <= 0).any():
        raise EdgeFittingError("the energies of a spectrum must increase: sort them and average repeats.")
    reach = float(np.sqrt(_K2_PER_EV * max(x[-1] - e0_ev, 0.0))) if x.size else 0.0
    if not reach >= k_range[1]:
        raise EdgeFittingError(
            f"the spectrum reaches to k = {reach:.1f} /angstrom, the window to {k_range[1]:g}: measure further above "
            "the edge or narrow k_range."
        )
    larch = _larch()
    group = larch.Group(energy=x, mu=y)
    larch.autobk(group, e0=e0_ev, rbkg=background_angstrom, kweight=k_weight)
    window = {"kmin": k_range[0], "kmax": k_range[1], "dk": _FLANK, "kweight": k_weight, "window": "hanning"}
    larch.xftf(group, **window)
    larch.estimate_noise(group.k, group.chi, group=group, rmin=15.0, rmax=25.0, **window)
    within = (group.r >= r_range[0]) & (group.r <= r_range[1])
    if not within.any():
        raise EdgeFittingError(f"r_range {r_range} holds no distance that the transform has.")
    at = int(np.flatnonzero(within)[np.argmax(group.chir_mag[within])])
    return FirstShell(
        k=group.k,
        chi=group.chi,
        r=group.r,
        chi_r=group.chir_mag,
        distance=float(group.r[at]),
        amplitude=float(group.chir_mag[at]),
        amplitude_sigma=float(group.epsilon_r),
    )


def _larch() -> Any:
    """Return what is needed of Larch, which takes seconds to import and is no dependency."""
    try:
        xafs, larch = import_module("larch.xafs"), import_module("larch")
    except ImportError as error:
        raise EdgeFittingError(
            f"the first shell needs Larch, which cannot be imported here ({error}): pip install xraylarch."
        ) from error
    return SimpleNamespace(
        Group=larch.Group, autobk=xafs.autobk, xftf=xafs.xftf, estimate_noise=xafs.estimate_noise
    )
