"""In which order to take the energies of a grid, so that a map means something early in the scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import check_energies
from edge_fitting.references import ReferenceSeries

from ._energy_chooser import EnergyChooser, information_of
from ._exchange import EachSide, exchange_frames, greedy_start, spread_start

#: Frames of the first block: with them a map has 1.1 to 1.4 times the error of a usual grid around the Ni or Co edge.
FIRST_FRAMES = 8


def informative_order(
    energy_ev: ArrayLike,
    series: ReferenceSeries,
    *,
    weights: ArrayLike | None = None,
    calibration_error_ev: float = 0.5,
) -> NDArray[np.intp]:
    """Order the energies of a grid so that the first ones tell most about the state of charge.

    In blocks of 8, 8, 16, 32 and so on. The first block is the eight energies that together give the smallest
    expected variance of the state of charge, with offset, slope and jump of each pixel unknown (c-optimal design), one
    of them below and one above the edge; each further block completes those before it. Within a block energies rise,
    which spares the monochromator most of the way and its backlash.

    Parameters
    ----------
    energy_ev : array_like, shape (n,)
        Energies of the grid in eV; repeated energies stand for repeated frames.
    series : ReferenceSeries
        What the frames will be fitted with.
    weights : array_like, shape (n,), optional
        Exposure of each frame; equal by default.
    calibration_error_ev : float
        The order is good also when the axis is off by this much.

    Returns
    -------
    ndarray of int, shape (n,)
        Indices into ``energy_ev``, each once.

    Raises
    ------
    EdgeFittingError
        If the references do not cover an energy, a weight is not positive, or no energy lies below or above
        the edge.
    """
    energies = check_energies(energy_ev)
    exposures = np.ones(energies.size) if weights is None else np.asarray(weights, dtype=np.float64)
    chooser = EnergyChooser(
        series,
        1.0,
        1.0 / np.sqrt(exposures),
        candidates_ev=energies,
        calibration_error_ev=calibration_error_ev,
    )
    first = _first_block(series, chooser)
    ranked = list(first)
    while len(ranked) < energies.size:
        values = chooser._variance_with_each(information_of(chooser, ranked))
        values[ranked] = np.inf
        ranked.append(int(np.argmin(values)))
    ordered: list[int] = []
    while len(ordered) < energies.size:
        block = ranked[len(ordered) : max(2 * len(ordered), FIRST_FRAMES)]
        ordered += sorted(block, key=lambda index: energies[index])
    return np.asarray(ordered, dtype=np.intp)


def _first_block(series: ReferenceSeries, chooser: EnergyChooser) -> list[int]:
    candidates = chooser.candidates_ev
    size = min(FIRST_FRAMES, candidates.size)
    by_energy = np.argsort(candidates, kind="stable")
    evenly = [int(k) for k in by_energy[np.linspace(0, candidates.size - 1, size).round().astype(np.intp)]]
    sides = EachSide(series, candidates, size, np.empty(0), 1)
    starts = (evenly, greedy_start(chooser, size, sides), spread_start(chooser, size, sides))
    found = (exchange_frames(chooser, start, sides.allowed) for start in starts)
    return min(found, key=lambda choice: choice[1])[0]
