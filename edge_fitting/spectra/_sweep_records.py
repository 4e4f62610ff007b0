"""Sweeps of the energy axis across an edge, their axes, and what they add up to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_fitting.references import FoilCalibration

Array = NDArray[np.float64]
#: Fewer points say nothing of a sweep.
FEWEST = 8

AxisSource = Literal["foil", "spectrum", "readback"]


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """One sweep of the energy axis.

    Parameters
    ----------
    energy_ev : ndarray, shape (n,)
        Increasing energies as read back, eV.
    mu : ndarray, shape (n,)
        Absorption of the sample; NaN where there is none.
    foil_mu : ndarray, shape (n,), optional
        Absorption of the reference foil in the same points.
    exposure_s : ndarray, shape (n,), optional
        Counting time of each point, where they differ: the variance of a point goes with its inverse.
    """

    energy_ev: Array
    mu: Array
    foil_mu: Array | None = None
    exposure_s: Array | None = None


@dataclass(frozen=True, slots=True)
class SweepAxis:
    """What puts the energies of a sweep right.

    Parameters
    ----------
    offset_ev : float
        What to add to them.
    sigma_ev : float
        Standard deviation of it that differs from sweep to sweep.
    common_sigma_ev : float
        The part that all sweeps of the same steps share.
    source : {"foil", "spectrum", "readback"}
        The foil of the same sweep; the spectrum of the sample against that of another sweep;
        or nothing.
    reason : str
        Why it is not the foil; empty where it is.
    calibration : FoilCalibration, optional
        Of the foil.
    """

    offset_ev: float = 0.0
    sigma_ev: float = 0.0
    common_sigma_ev: float = 0.0
    source: AxisSource = "readback"
    reason: str = ""
    calibration: FoilCalibration | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MergedSweeps:
    """One spectrum of several sweeps.

    Parameters
    ----------
    energy_ev : ndarray, shape (n,)
        Energies on the calibrated axis: those of the first whole sweep.
    mu, sigma : ndarray, shape (n,)
        Absorption weighted by the noise of the sweeps, and its standard deviation from that noise.
    foil_mu : ndarray, shape (n,), or None
        The same of the foil.
    n_sweeps : ndarray of int64, shape (n,)
        Sweeps that have a value there.
    axes : tuple of SweepAxis
        Of each sweep.
    noise : ndarray, shape (n_sweeps,)
        Standard deviation of one point of each sweep, of those of the middling counting time.
    deviation : ndarray, shape (n_sweeps,)
        Root mean square of each sweep minus the others, relative to the noise of both; NaN for a single one.
    used : ndarray of bool, shape (n_sweeps,)
        Whether a sweep is in the merge.
    axis_sigma_ev : float
        Standard deviation of the merged axis.
    warnings : tuple of str
        Sweeps that are left out or aligned otherwise, one sentence each.
    """

    energy_ev: Array
    mu: Array
    sigma: Array
    foil_mu: Array | None
    n_sweeps: NDArray[np.int64]
    axes: tuple[SweepAxis, ...]
    noise: Array
    deviation: Array
    used: NDArray[np.bool_]
    axis_sigma_ev: float
    warnings: tuple[str, ...] = field(default=())
