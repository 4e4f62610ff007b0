"""Which references of a series do not belong to the curve through the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kept = NDArray[np.bool_]

# Fewer states than this leave open which of them is off.
_FEWEST_STATES = 5
_AROUND_EDGE_EV = 60.0
_N_STATES = 101
_STEP_EV = 0.05
# Beyond this many times the median of the references, and this much of the jump, a spectrum is another one.
_TIMES_OTHERS = 4.0
_LEAST_RMS = 0.015
# The same for its state, in fractions of the range.
_LEAST_STATE = 0.15
# What an end is off counts for so much.
_OF_ENDS = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class Deviation:
    """How far one reference is from the curve through those of the other states.

    Attributes
    ----------
    state : float
        Where it comes closest to the curve.
    shift_ev, scale : float
        Shift of its energy axis and scale of its step against the curve at its own state.
    rms : float
        What is left at ``state``, in units of the jump, over 60 eV on either side of the edge.
    """

    state: float
    shift_ev: float
    scale: float
    rms: float


def deviation(series: Any, spectrum: Array, soc: float) -> Deviation:
    """Compare a spectrum on the energies of a series with the curve.

    Parameters
    ----------
    series : ReferenceSeries
        The curve, without the reference.
    spectrum : ndarray, shape (n_energy,)
        Normalised.
    soc : float
        Its state as it is labelled.
    """
    near = np.abs(series.energy_ev - series.edge_ev) < _AROUND_EDGE_EV
    energies, wanted = series.energy_ev[near], spectrum[near]
    line = np.stack([np.ones_like(energies), (energies - series.edge_ev) / 100.0], axis=1)
    margin = 0.25 * (series.states[-1] - series.states[0])
    states = np.linspace(series.states[0] - margin, series.states[-1] + margin, _N_STATES)
    residuals = []
    for curve in series.evaluate(energies, states):
        design = np.column_stack([line, curve])
        residuals.append(wanted - design @ np.linalg.lstsq(design, wanted, rcond=None)[0])
    rms = np.sqrt(np.mean(np.square(residuals), axis=1))
    best = int(np.argmin(rms))
    at = np.clip(energies[:, None] + np.array([0.0, -_STEP_EV, _STEP_EV]), *series.energy_ev[[0, -1]])
    own, down, up = series.evaluate(at.T.ravel(), soc).reshape(3, -1)
    design = np.column_stack([line, own, (down - up) / (2.0 * _STEP_EV)])
    scale, moved = np.linalg.lstsq(design, wanted, rcond=None)[0][2:]
    return Deviation(float(states[best]), float(moved / scale), float(scale), float(rms[best]))


def foreign_spectra(series: Any, of: Callable[[Kept], Any]) -> tuple[str, ...]:
    """Name the references that do not belong, a third of them at most.

    Each is compared with the curve through those of the other states: by what is left at the state where it comes
    closest, and by how far that is from its label, both against what is usual among the others. The worst is named
    and left out, and the rest compared again, because it bends the curve that its neighbours are compared with.

    Parameters
    ----------
    series : ReferenceSeries
        The whole series.
    of : callable
        Gives the series of some of the references.

    Returns
    -------
    tuple of str
        One sentence each.
    """
    kept = np.ones(series.soc.size, np.bool_)
    said: list[str] = []
    while np.unique(series.soc[kept]).size >= _FEWEST_STATES and len(said) < series.soc.size // 3:
        worst = _worst(series, kept, of)
        if worst is None:
            break
        k, reason = worst
        said.append(
            f"{_name(series, k)} does not belong to the curve through the other references: {reason}; leave it out, "
            "or measure it again."
        )
        kept[k] = False
    return tuple(said)


def _worst(series: Any, kept: Kept, of: Callable[[Kept], Any]) -> tuple[int, str] | None:
    """Find the reference that is farthest from belonging, and say how; None if all do."""
    places = np.flatnonzero(kept)
    soc = series.soc[places]
    curves = {state: of(kept & (series.soc != state)) for state in np.unique(soc)}
    found = [deviation(curves[series.soc[k]], series.mu[k], float(series.soc[k])) for k in places]
    rms = np.array([one.rms for one in found])
    off = np.abs(np.array([one.state for one in found]) - soc) / float(soc[-1] - soc[0])
    # The curve is continued beyond its ends as a straight line, which the ends themselves need not follow.
    inner = (soc > soc[0]) & (soc < soc[-1])
    far = np.where(inner, 1.0, _OF_ENDS) * rms / max(_TIMES_OTHERS * float(np.median(rms[inner])), _LEAST_RMS)
    misplaced = inner * off / max(_TIMES_OTHERS * float(np.median(off[inner])), _LEAST_STATE)
    if far.max() > 1.0:
        k = int(np.argmax(far))
        return int(places[k]), f"it is {found[k].rms:.3f} of the jump (rms) away from all of it"
    if misplaced.max() > 1.0:
        k = int(np.argmax(misplaced))
        one = found[k]
        reason = f"its spectrum is that of {one.state:.2f} there (or its axis is {one.shift_ev:+.2f} eV off)"
        return int(places[k]), reason
    return None


def _name(series: Any, k: int) -> str:
    name = str(series.sources[k].get("name") or "") if series.sources else ""
    return f"reference {name!r} (soc {series.soc[k]:g})" if name else f"reference {k} (soc {series.soc[k]:g})"
