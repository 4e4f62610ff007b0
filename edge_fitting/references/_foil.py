"""Energy calibration on a metal foil by its first inflection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import Edge, check_energies, resolve_edge
from edge_fitting.errors import EdgeFittingError

Array = NDArray[np.float64]

FOIL_DEFINITION = (
    "first inflection: first zero, from positive to negative, of the second derivative of the "
    "foil's main rise"
)

# Axes of different beamlines disagree by several eV; the rise of a foil ends within 40 eV of its start.
_SEARCH_EV = (-30.0, 50.0)
# A shoulder before the main rise, as oxides have, is not the first inflection of a metal: its slope is lower.
_LEAST_SLOPE = 0.4
# A maximum of the slope counts when the slope falls by this part of the steepest slope after it.
_LEAST_DROP = 0.05
# Half widths of the local fit that are tried, as multiples of one another, and the widest that still resolves
# the first rise of a metal, 3.5 eV wide.
_WIDENING = 1.2
_WIDEST_EV = 3.5
_NARROWEST_EV = 1.0
_LEAST_POINTS = 6
# Noise that may be left in the slope (part of the steepest) and in the position.
_SLOPE_NOISE = 0.08
_GOAL_EV = 0.05
_STEP_EV = 0.1


@dataclass(frozen=True, slots=True)
class FoilCalibration:
    """Where a foil's first inflection was found, and what to add to the energy axis.

    Parameters
    ----------
    edge : str
        Name of the edge.
    measured_ev : float
        First inflection on the axis of the scan.
    nominal_ev : float
        First inflection by convention.
    sigma_ev : float
        Standard deviation of ``measured_ev`` from the noise of the scan.
    smoothing_ev : float
        How far ``measured_ev`` moves when the smoothing is made half as wide again: a measure of what the shape
        of the rise leaves open. The rise of a metal is lopsided, so smoothing moves the inflection up: with
        points 1 eV apart by 0.1 to 0.35 eV against points 0.5 eV apart.
    window_ev : float
        Half width of the local fits.
    definition : str
        What "first inflection" means, in one sentence.
    """

    edge: str
    measured_ev: float
    nominal_ev: float
    sigma_ev: float
    smoothing_ev: float
    window_ev: float
    definition: str = FOIL_DEFINITION

    @property
    def offset_ev(self) -> float:
        """What to add to the energies of the scan; its standard deviation is ``sigma_ev``."""
        return self.nominal_ev - self.measured_ev

    def apply(self, energy_ev: ArrayLike) -> Array:
        """Return energies on the calibrated axis.

        Parameters
        ----------
        energy_ev : array_like
            Energies in eV on the axis of the foil scan.

        Returns
        -------
        ndarray
        """
        return np.asarray(energy_ev, dtype=np.float64) + self.offset_ev


def calibrate_foil(
    energy_ev: ArrayLike, optical_depth: ArrayLike, *, edge: str | Edge, nominal_ev: float | None = None
) -> FoilCalibration:
    """Find the first inflection of a metal foil.

    The spectrum is smoothed by local cubic fits; their half width is the smallest that brings the noise of the
    position below 0.05 eV, from 1 eV (or what holds 6 points) up to 3.5 eV. The first maximum of the slope
    counts that is followed by a fall of 5 % of the steepest slope and is itself at least 40 % of it.

    Parameters
    ----------
    energy_ev : array_like, shape (n,)
        Energies in eV, any order, repeats allowed.
    optical_depth : array_like, shape (n,)
        Absorption of the foil, any scale and offset, rising at the edge.
    edge : str or Edge
        The edge, such as ``"Ni_K"``.
    nominal_ev : float, optional
        Energy that the first inflection shall have; the convention of the edge table by default.

    Returns
    -------
    FoilCalibration

    Raises
    ------
    EdgeFittingError
        For energies in keV, shapes that differ, values that are not finite, too few points around the edge, no
        rise near the edge, or noise too strong to tell the first inflection.
    """
    which = resolve_edge(edge)
    energies = check_energies(energy_ev, edge=which)
    mu = np.asarray(optical_depth, dtype=np.float64)
    if mu.shape != energies.shape:
        raise EdgeFittingError(
            f"optical_depth has shape {mu.shape} but there are {energies.size} energies: give one spectrum."
        )
    if not np.isfinite(mu).all():
        raise EdgeFittingError("the foil spectrum has values that are not finite: leave those points out.")
    nominal = which.foil_inflection_ev if nominal_ev is None else float(nominal_ev)
    low, high = nominal + _SEARCH_EV[0] - _WIDEST_EV, nominal + _SEARCH_EV[1] + _WIDEST_EV
    order = np.argsort(energies, kind="stable")
    inside = order[(energies[order] >= low) & (energies[order] <= high)]
    energies, mu = energies[inside], mu[inside]
    if np.unique(energies).size < 2 * _LEAST_POINTS:
        raise EdgeFittingError(
            f"the foil scan has {np.unique(energies).size} energies within {low:.6g} to {high:.6g} eV: take at "
            f"least {2 * _LEAST_POINTS}, 1 eV apart or closer at the edge."
        )
    half_width, closest = max(_NARROWEST_EV, _usual_reach(energies)), None
    while half_width <= _WIDEST_EV * 1.001:
        found = _first_inflection(energies, mu, half_width)
        if found is not None:
            closest = found if closest is None or found[1] < closest[1] else closest
            if found[1] <= _GOAL_EV:
                closest = found
                break
        half_width *= _WIDENING
    if closest is None:
        raise EdgeFittingError(
            f"no inflection of a foil stands out of the noise near {nominal:.6g} eV ({which.name}): check the edge "
            "and the sign of the spectrum, or measure longer with steps of 1 eV or less."
        )
    measured, sigma, used = closest
    wider = _first_inflection(energies, mu, 1.5 * used)
    return FoilCalibration(
        edge=which.name,
        measured_ev=measured,
        nominal_ev=nominal,
        sigma_ev=sigma,
        smoothing_ev=abs(wider[0] - measured) if wider is not None else float("inf"),
        window_ev=used,
    )


def _first_inflection(energies: Array, mu: Array, half_width: float) -> tuple[float, float, float] | None:
    """Position, its standard deviation, and the half width; None where it does not stand out."""
    at = np.arange(energies[0] + half_width, energies[-1] - half_width, _STEP_EV)
    operators = _local_cubic(energies, at, half_width)
    noise = _noise(energies, mu, half_width)
    slope, bend = operators[0] @ mu, operators[1] @ mu
    steepest = float(slope.max())
    if not steepest > 0:
        return None
    slope_noise = noise * np.sqrt(np.einsum("ij,ij->i", operators[0], operators[0]))
    drop = max(_LEAST_DROP * steepest, 3.0 * float(slope_noise[int(slope.argmax())]))
    if slope_noise[int(slope.argmax())] > _SLOPE_NOISE * steepest:
        return None
    top = 0
    for i in range(at.size):
        if slope[i] > slope[top]:
            top = i
        elif slope[i] < slope[top] - drop:
            if slope[top] >= _LEAST_SLOPE * steepest:
                break
            top = i
    else:
        return None
    # The zero of the local fits' own second derivative nearest to the top of their slope.
    falling = np.flatnonzero((bend[:-1] > 0) & (bend[1:] <= 0))
    near = falling[np.abs(at[falling] - at[top]) < half_width]
    if near.size == 0:
        return None
    k = int(near[np.argmin(np.abs(at[near] - at[top]))])
    part = bend[k] / (bend[k] - bend[k + 1])
    position = float(at[k] + part * _STEP_EV)
    # Slope of the second derivative over the reach of the fit, not between two neighbouring points.
    reach = max(1, round(0.25 * half_width / _STEP_EV))
    first, last = max(k - reach, 0), min(k + 1 + reach, at.size - 1)
    fall = (bend[first] - bend[last]) / (at[last] - at[first])
    if not fall > 0:
        return None
    bend_noise = noise * float(np.linalg.norm(operators[1][k]))
    return position, bend_noise / fall, half_width


def _local_cubic(energies: Array, at: Array, half_width: float) -> tuple[Array, Array]:
    """Matrices that give first and second derivative of the local cubic fits."""
    reach = _reach(energies, at, half_width)
    solved = _cubic_fits(energies, at, reach)
    return solved[:, 1] / reach[:, None], 2.0 * solved[:, 2] / reach[:, None] ** 2


def _cubic_fits(energies: Array, at: Array, reach: Array) -> Array:
    """Matrices that give the coefficients of the local fits in units of their reach, (n_at, 4, n_energy)."""
    unit = (energies - at[:, None]) / reach[:, None]
    weights = np.clip(1.0 - unit**2, 0.0, None)
    powers = np.stack([np.ones_like(unit), unit, unit**2, unit**3], axis=1)
    weighted = powers * weights[:, None]
    return np.asarray(np.linalg.solve(weighted @ np.swapaxes(powers, 1, 2), weighted), dtype=np.float64)


def _reach(energies: Array, at: Array, half_width: float) -> Array:
    """Half width of each local fit: wider where points are sparse, so that it holds enough different ones."""
    unique = np.unique(energies)
    distances = np.sort(np.abs(unique[None, :] - at[:, None]), axis=1)
    return np.maximum(half_width, 1.001 * distances[:, _LEAST_POINTS - 1])


def _usual_reach(energies: Array) -> float:
    """Half width that the densest half of the points needs."""
    return float(np.median(_reach(energies, np.unique(energies), 0.0)))


def _noise(energies: Array, mu: Array, half_width: float) -> float:
    """Estimate the standard deviation of a point from the residuals of local cubic fits at the points."""
    hat = _cubic_fits(energies, energies, _reach(energies, energies, half_width))[:, 0]
    left = np.eye(energies.size) - hat
    # Trace of left' left: what independent noise leaves in the squared residuals.
    return float(np.sqrt(np.sum((left @ mu) ** 2) / np.sum(left**2)))
