"""Energy calibration on a metal foil by its first inflection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import Edge, check_energies, resolve_edge
from edge_fitting.errors import EdgeFittingError

from ._foil_glitches import without_glitches
from ._local_cubics import LEAST_POINTS, local_cubic, noise_of_points, reach_of, usual_reach

Array = NDArray[np.float64]

FOIL_DEFINITION = (
    "first inflection: first maximum of the first derivative (zero of the second) on the main rise of the foil's "
    "spectrum as the monochromator delivers it, without smoothing"
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
# Noise that may be left in the slope (part of the steepest) and in the position.
_SLOPE_NOISE = 0.05
_STEP_EV = 0.1
# A local fit that has to reach further than this times its half width, for lack of points, shows no position.
_SPARSE = 1.5
# The first inflection of Mn, Co and Ni lies at 0.15 to 0.2 of the step, that of an ideal arctangent step at 0.5; other
# metals' and noise leave some room.
_LEVELS = (0.08, 0.56)
# Where the fine part of a scan begins, the rise may have reached this part of the level of its inflection.
_FOOT = 0.6
# The edge's step is read from what lies this far below and above a rise.
_BELOW_EV = 6.0
_ABOVE_EV = (15.0, 60.0)
# What sampling and smoothing cost: the rise of a metal is lopsided and has shoulders, so that a local fit reads off by
# about this part of its half width, mostly high. Monte Carlo over 14 scans of Ni, Co and Mn foils, steps of 0.2 to
# 1 eV: 0.12 to 0.18 at every half width from 1 to 3.5 eV.
_OFF_PER_WIDTH = 0.15
# The 1 eV on either side of the steepest 1 eV rise by at least this part of it: a core hole makes no sharper edge.
_LEAST_BESIDE = 0.25


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
        Standard deviation of ``measured_ev``: the noise of the scan, and, as a rule the larger part, what its
        steps and the smoothing leave open (0.15 of ``window_ev``, from Monte Carlo on measured foils: with steps of
        0.5 eV 0.2 eV, with 1 eV 0.4 eV). The second part is the same for scans of one foil on one grid.
    smoothing_ev : float
        How far ``measured_ev`` moves when the smoothing is made half as wide again: a measure of what the shape
        of the rise leaves open. NaN where the points are too far apart for that; ``sigma_ev`` holds all the same.
    window_ev : float
        Half width of the local fits.
    noise_sigma_ev : float
        The part of ``sigma_ev`` that comes from the noise of the scan.
    definition : str
        What "first inflection" means, in one sentence.
    """

    edge: str
    measured_ev: float
    nominal_ev: float
    sigma_ev: float
    smoothing_ev: float
    window_ev: float
    noise_sigma_ev: float = 0.0
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

    The spectrum is smoothed by local cubic fits; of their half widths, from 1 eV (or what holds 6 points) up to
    3.5 eV, the one counts that leaves the smallest standard deviation: narrow ones leave noise, wide ones read off the
    inflection of the spectrum itself. The first maximum of the slope counts that is followed by a fall of 5 % of the
    steepest slope and is itself at least 40 % of it.

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
    energies, mu = _merge_repeats(energies, mu)
    beside = (energies >= nominal + _SEARCH_EV[0] - 60.0) & (energies <= nominal + _SEARCH_EV[1] + 60.0)
    energies, mu = energies[beside], mu[beside]
    low, high = nominal + _SEARCH_EV[0] - _WIDEST_EV, nominal + _SEARCH_EV[1] + _WIDEST_EV
    n_near = int(((energies >= low) & (energies <= high)).sum())
    if n_near < 2 * LEAST_POINTS:
        raise EdgeFittingError(
            f"the foil scan has {n_near} energies within {low:.6g} to {high:.6g} eV: take at "
            f"least {2 * LEAST_POINTS}, 1 eV apart or closer at the edge."
        )
    good = without_glitches(energies, mu)
    wide, whole = energies[good], mu[good]
    near = (wide >= low) & (wide <= high)
    half_width, closest = max(_NARROWEST_EV, usual_reach(wide[near])), None
    refused = None
    if half_width > _WIDEST_EV * 1.001:
        raise EdgeFittingError(
            f"the points of the foil scan around {nominal:.6g} eV are too far apart for a rise {_WIDEST_EV:g} eV wide: "
            "measure with steps of 1 eV or less from 10 eV below the edge on."
        )
    while half_width <= _WIDEST_EV * 1.001:
        found = _first_inflection(wide, whole, near, half_width, (energies, mu))
        if isinstance(found, str):
            refused = refused or found
        elif closest is None or _sigma(found) < _sigma(closest):
            closest = found
        else:
            break
        half_width *= _WIDENING
    if closest is None:
        raise EdgeFittingError(f"{refused} ({which.name}, near {nominal:.6g} eV).")
    measured, sigma, used = closest
    wider = _first_inflection(wide, whole, near, 1.5 * used, (energies, mu))
    return FoilCalibration(
        edge=which.name,
        measured_ev=measured,
        nominal_ev=nominal,
        sigma_ev=_sigma(closest),
        smoothing_ev=abs(wider[0] - measured) if not isinstance(wider, str) else float("nan"),
        window_ev=used,
        noise_sigma_ev=sigma,
    )


def _sigma(found: tuple[float, float, float]) -> float:
    """Return the standard deviation of a position from the noise, and from what its half width leaves open."""
    return float(np.hypot(found[1], _OFF_PER_WIDTH * found[2]))


def _merge_repeats(energies: Array, mu: Array) -> tuple[Array, Array]:
    """Average the values at each energy, in increasing order."""
    unique, where, counts = np.unique(energies, return_inverse=True, return_counts=True)
    return unique, np.bincount(where, weights=mu) / counts


_NO_RISE = (
    "no inflection of a foil stands out of the noise: check the edge and the sign of the spectrum, or measure longer "
    "with steps of 1 eV or less"
)
_HIDDEN = (
    "the energies are too far apart where the rise of the foil begins, so that its first inflection may be hidden: "
    "measure with steps of 1 eV or less from 10 eV below the edge on"
)
_UNLIKE = (
    "what rises first is not like a metal's edge, in height or because it falls back again: a glitch, a step of the "
    "intensity or no metal foil"
)


def _first_inflection(
    energies: Array, mu: Array, near: NDArray[np.bool_], half_width: float, measured: tuple[Array, Array]
) -> tuple[float, float, float] | str:
    """Position, its standard deviation, and the half width; or why there is none.

    ``measured`` are all points, also those that were left out as glitches.
    """
    inside, values = energies[near], mu[near]
    at = np.arange(inside[0] + half_width, inside[-1] - half_width, _STEP_EV)
    resolved = reach_of(inside, at, half_width) <= _SPARSE * half_width
    at = at[resolved]
    if at.size < 3:
        return _HIDDEN
    operators = local_cubic(inside, at, half_width)
    noise = noise_of_points(inside, values, half_width)
    level, slope, bend = (operator @ values for operator in operators)
    apart = np.diff(at, prepend=-np.inf) > 1.5 * _STEP_EV
    lasting = _lasting(at, level, energies, mu)
    if not lasting.any():
        return _NO_RISE
    steepest = float(slope[lasting].max())
    if not steepest > 0:
        return _NO_RISE
    slope_noise = noise * np.sqrt(np.einsum("ij,ij->i", operators[1], operators[1]))
    strongest = int(np.flatnonzero(lasting)[slope[lasting].argmax()])
    drop = max(_LEAST_DROP * steepest, 3.0 * float(slope_noise[strongest]))
    if slope_noise[strongest] > _SLOPE_NOISE * steepest:
        return _NO_RISE
    top = first = 0
    for i in range(at.size):
        if apart[i]:
            top = first = i
        elif slope[i] > slope[top] or not lasting[top]:
            top = i
        elif slope[i] < slope[top] - drop:
            if slope[top] >= _LEAST_SLOPE * steepest:
                break
            top = i
    else:
        return _NO_RISE
    base, step = _step_around(float(at[top]), energies, mu)
    part = (level[top] - base) / step
    if not _LEVELS[0] <= part <= _LEVELS[1] or _is_sharp(float(at[top]), *measured):
        return _UNLIKE
    if (level[first] - base) / step > _FOOT * part or at[top] - at[first] < half_width:
        return _HIDDEN
    # The zero of the local fits' own second derivative nearest to the top of their slope.
    falling = np.flatnonzero((bend[:-1] > 0) & (bend[1:] <= 0) & ~apart[1:])
    close = falling[np.abs(at[falling] - at[top]) < half_width]
    if close.size == 0:
        return _NO_RISE
    k = int(close[np.argmin(np.abs(at[close] - at[top]))])
    position = float(at[k] + bend[k] / (bend[k] - bend[k + 1]) * _STEP_EV)
    # Slope of the second derivative over the reach of the fit, not between two neighbouring points.
    reach = max(1, round(0.25 * half_width / _STEP_EV))
    before, after = max(k - reach, 0), min(k + 1 + reach, at.size - 1)
    fall = (bend[before] - bend[after]) / (at[after] - at[before])
    if not fall > 0:
        return _NO_RISE
    bend_noise = noise * float(np.linalg.norm(operators[2][k]))
    return position, bend_noise / fall, half_width


def _is_sharp(position: float, energies: Array, mu: Array) -> bool:
    """Whether a rise is sharper than any edge: a step of the intensity between two points."""
    around = position + np.arange(-1.5, 1.55, _STEP_EV)
    rises = np.diff(np.interp(around[:, None] + np.array([-1.5, -0.5, 0.5, 1.5]), energies, mu))
    left, middle, right = rises[rises[:, 1].argmax()]
    return bool(0.5 * (left + right) < _LEAST_BESIDE * middle)


def _step_around(position: float, energies: Array, mu: Array) -> tuple[float, float]:
    """Level below a rise, and the height of the step; NaN where nothing was measured beside it."""
    below = mu[energies <= position - _BELOW_EV]
    above = mu[(energies >= position + _ABOVE_EV[0]) & (energies <= position + _ABOVE_EV[1])]
    if not below.size or not above.size:
        return np.nan, np.nan
    base = float(np.median(below[-12:]))
    return base, float(np.median(above)) - base


def _lasting(at: Array, level: Array, energies: Array, mu: Array) -> NDArray[np.bool_]:
    """Where the absorption rises for good: all before lies below, all after above, to a tenth of the step."""
    edge = np.ptp(np.interp(at, energies, mu))
    before = np.maximum.accumulate(level)
    after = np.minimum.accumulate(level[::-1])[::-1]
    return (before <= level + 0.1 * edge) & (after >= level - 0.1 * edge)
