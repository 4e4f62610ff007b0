"""Readings of a point scan by its sweeps, and what the result of one says of its scan."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks.documents import Slot
from callbacks.reduce import Reduced
from scan_contract import SWEEP_AXIS, RunContract

from ._technique import RunState

Array = npt.NDArray[np.float64]

_MOST_NAMED = 6


class PointSweeps:
    """Readings of a point scan, those of each sweep together."""

    def __init__(self) -> None:
        self._points: dict[int, dict[Slot, Reduced]] = {}

    def push(self, reduced: Reduced) -> None:
        """Add one reading."""
        self._points.setdefault(sweep_of(reduced), {})[reduced.slot] = reduced

    def retract(self, reduced: Reduced) -> None:
        """Take one reading out again."""
        self._points.get(sweep_of(reduced), {}).pop(reduced.slot, None)

    def merge(self, other: "PointSweeps") -> list[int]:
        """Add the readings of another part of the scan; return the sweeps that it has some of."""
        for sweep, points in other._points.items():
            self._points[sweep] = {**points, **self._points.get(sweep, {})}
        return list(other._points)

    @property
    def numbers(self) -> list[int]:
        """The sweeps so far, in order."""
        return sorted(self._points)

    def n_readings(self, number: int) -> int:
        """Return how many readings a sweep has."""
        return len(self._points[number])

    def currents(self, number: int, roles: Sequence[str]) -> tuple[Array, dict[str, Array]]:
        """Return the energies (eV) of a sweep, increasing, and the mean current there of each channel it has."""
        points = list(self._points[number].values())
        by_energy = self._by_energy(number)
        energies = np.array([np.mean([p.energy_ev for p in held]) for held in by_energy])
        currents = {
            role: np.array([np.mean([p.values[role] for p in held]) for held in by_energy])
            for role in roles
            if points and all(role in point.values for point in points)
        }
        energies, first = np.unique(energies, return_index=True)
        return energies, {role: values[first] for role, values in currents.items()}

    def exposures_s(self, number: int) -> Array:
        """Return how long the readings at each energy of `currents` took together, s."""
        by_energy = self._by_energy(number)
        energies = np.array([np.mean([p.energy_ev for p in held]) for held in by_energy])
        exposures = np.array([sum(float(p.notes.get("exposure_s", 1.0)) for p in held) for held in by_energy])
        return exposures[np.unique(energies, return_index=True)[1]]

    def _by_energy(self, number: int) -> list[list[Reduced]]:
        """Return the readings of a sweep, those of one energy of the grid together."""
        by_energy: dict[int, list[Reduced]] = {}
        for point in sorted(self._points[number].values(), key=lambda point: point.energy_ev):
            by_energy.setdefault(point.label.energy_index, []).append(point)
        return list(by_energy.values())

    @property
    def offsets(self) -> dict[str, float]:
        """What was subtracted from each channel."""
        for points in self._points.values():
            for point in points.values():
                return dict(point.notes.get("offsets", {}))
        return {}


def sweep_of(reduced: Reduced) -> int:
    """Return the number of the sweep that a reading belongs to."""
    return int(reduced.label.axes.get(SWEEP_AXIS, 0))


def about_scan(
    contract: RunContract, state: RunState, offsets: dict[str, float], said: list[str], **parameters: Any
) -> dict[str, Any]:
    """Return the attributes of a result that tell of its scan and how far it is.

    Parameters
    ----------
    contract : RunContract
        What the start document said.
    state : RunState
        How far the run is.
    offsets : dict
        See `PointSweeps.offsets`.
    said : list of str
        Warnings; each is said once.
    **parameters
        Of the technique, beside those of every scan.
    """
    scan = contract.scan
    return {
        "raw_uid": contract.raw_uid,
        "raw_path": f"raw/{contract.raw_uid}",
        "raw_uids": state.raw_uids,
        "scan_group": contract.scan_group,
        "offsets": offsets,
        "parameters": {
            "energies_ev": [float(value) for value in scan.energies_ev],
            "exposure_s": [float(value) for value in scan.exposure_s],
            "repeats": scan.repeats,
            "sweeps": len(scan.axes.get(SWEEP_AXIS, (0.0,))),
            **parameters,
        },
        "n_frames": state.frames_done,
        "frames_expected": state.frames_expected,
        "final": state.final,
        "complete": state.frames_done >= state.frames_expected,
        "partial": not (state.final and state.frames_done >= state.frames_expected),
        "exit_status": state.exit_status,
        "warnings": list(dict.fromkeys(said)),
        "time": state.time_s,
    }


def energies_in_words(energies_ev: Array) -> str:
    """Name energies (eV), the first few where they are many."""
    named = ", ".join(f"{value:.1f}" for value in energies_ev[:_MOST_NAMED])
    more = f" and {energies_ev.size - _MOST_NAMED} more" if energies_ev.size > _MOST_NAMED else ""
    return f"at {named}{more} eV"
