"""Search for the best set of frames: starts, exchanges of single frames, and what a set must contain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_fitting.errors import EdgeFittingError
from edge_fitting.references import ReferenceSeries

from ._energy_chooser import EnergyChooser, information_of

Array = NDArray[np.float64]

# From so many frames on, a line through the pre-edge and a second look at the post-edge are worth their cost.
_FRAMES_FOR_PAIRS = 12

# A readback this near to a candidate is that candidate.
_SAME_ENERGY_EV = 0.25

# An exchange must gain at least this much, or rounding would keep it going.
_LEAST_GAIN = 1e-9


class EachSide:
    """How many different energies below and above the edge a choice must have."""

    def __init__(
        self, series: ReferenceSeries, candidates: Array, n_frames: int, taken: Array, max_repeats: int | None
    ) -> None:
        self.repeats_left = _repeats_left(candidates, n_frames, taken, max_repeats)
        low, high = series.energy_ev[0], series.energy_ev[-1]
        # The windows in which the references themselves were normalised.
        below = series.edge_ev - min(20.0, 0.5 * (series.edge_ev - low))
        above = series.edge_ev + min(60.0, 0.5 * (high - series.edge_ev))
        self.side = np.where(candidates <= below, 0, np.where(candidates >= above, 1, 2))
        wanted = 1 if n_frames + taken.size < _FRAMES_FOR_PAIRS else 2
        there = [np.unique(taken[taken <= below]).size, np.unique(taken[taken >= above]).size]
        self.need = [0, 0]
        for side, name in enumerate(("below", "above")):
            on_side = np.unique(candidates[(self.side == side) & (self.repeats_left > 0)]).size
            if on_side + there[side] == 0:
                raise EdgeFittingError(
                    f"no candidate energy lies {name} the edge ({(below, above)[side]:.6g} eV): add one, the "
                    "pre-edge line and the jump cannot be checked without."
                )
            self.need[side] = min(max(wanted - there[side], 0), on_side)
        while sum(self.need) > n_frames:
            self.need[int(np.argmax(self.need))] -= 1

    def allowed(self, others: list[int]) -> NDArray[np.bool_]:
        """Candidates that may complete the other frames, whose number is one less than wanted."""
        allowed = np.bincount(np.asarray(others, dtype=np.intp), minlength=self.side.size) < self.repeats_left
        for side, need in enumerate(self.need):
            present = np.unique([k for k in others if self.side[k] == side]).astype(np.intp)
            if present.size < need:
                allowed &= self.side == side
                allowed[present] = False
        return allowed

    def first(self) -> list[int]:
        """Outermost energies that meet the need."""
        below, above = (np.flatnonzero((self.side == side) & (self.repeats_left > 0)) for side in (0, 1))
        return [*map(int, below[: self.need[0]]), *map(int, above[above.size - self.need[1] :])]


def _repeats_left(
    candidates: Array, n_frames: int, taken: Array, max_repeats: int | None
) -> NDArray[np.intp]:
    """How often each candidate may be chosen."""
    if max_repeats is None:
        return np.full(candidates.size, n_frames, dtype=np.intp)
    if not isinstance(max_repeats, (int, np.integer)) or max_repeats < 1:
        raise EdgeFittingError(f"max_repeats must be a positive whole number, not {max_repeats!r}.")
    there = np.zeros(candidates.size, dtype=np.intp)
    for energy in taken:
        nearest = int(np.abs(candidates - energy).argmin())
        there[nearest] += np.abs(candidates[nearest] - energy) < _SAME_ENERGY_EV
    left = np.maximum(int(max_repeats) - there, 0)
    if left.sum() < n_frames:
        raise EdgeFittingError(
            f"there is room for {left.sum()} frames with at most {max_repeats} at one energy, not for "
            f"{n_frames}: give more candidates or allow more repeats."
        )
    return left


def greedy_start(chooser: EnergyChooser, n_frames: int, constraint: EachSide) -> list[int]:
    chosen = constraint.first()
    while len(chosen) < n_frames:
        values = chooser._variance_with_each(information_of(chooser, chosen))
        chosen.append(int(np.argmin(np.where(constraint.allowed(chosen), values, np.inf))))
    return chosen


def spread_start(chooser: EnergyChooser, n_frames: int, constraint: EachSide) -> list[int]:
    """Sanity set, then evenly over the candidates of the edge as far as they go."""
    chosen = constraint.first()
    while len(chosen) < n_frames:
        allowed = constraint.allowed(chosen)
        inside = np.flatnonzero(allowed & (constraint.side == 2))
        pool = inside if inside.size else np.flatnonzero(allowed)
        left = min(n_frames - len(chosen), pool.size)
        chosen += [int(k) for k in pool[np.linspace(0, pool.size - 1, left).round().astype(np.intp)]]
    return chosen


def exchange_frames(
    chooser: EnergyChooser, start: list[int], allowed: Callable[[list[int]], NDArray[np.bool_]]
) -> tuple[list[int], float]:
    """Replace one frame at a time by the best candidate allowed beside the others, until nothing gains."""
    chosen = list(start)
    information = information_of(chooser, chosen)
    best = chooser._criterion(information)
    since_gain = 0
    position = 0
    while since_gain < len(chosen):
        others = chosen[:position] + chosen[position + 1 :]
        without = information - chooser._one(chosen[position])
        values = np.where(allowed(others), chooser._variance_with_each(without), np.inf)
        candidate = int(np.argmin(values))
        if values[candidate] < best * (1.0 - _LEAST_GAIN):
            chosen[position] = candidate
            information = information_of(chooser, chosen)
            best = chooser._criterion(information)
            since_gain = 0
        else:
            since_gain += 1
        position = (position + 1) % len(chosen)
    return chosen, best
