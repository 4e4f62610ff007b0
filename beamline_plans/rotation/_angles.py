"""Angles of rotation series."""

import math

from beamline_plans.errors import PlanError

__all__ = ["interleaved_angles", "spread_angles"]

_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)
_RANGES_DEG = (180.0, 360.0)
_FEWEST = 3
_MOST = 100_000


def spread_angles(n_angles: int, range_deg: float = 180.0, start_deg: float = 0.0) -> tuple[float, ...]:
    """Return angles spread evenly; the end of the range, which shows what the beginning did, is left out.

    Parameters
    ----------
    n_angles : int
        How many.
    range_deg : float
        180 or 360.
    start_deg : float
        The first one.

    Raises
    ------
    PlanError
        Too few or too many angles, another range, or a start that is no number.
    """
    _check(n_angles, range_deg, start_deg, _FEWEST)
    return tuple(start_deg + range_deg * k / n_angles for k in range(n_angles))


def interleaved_angles(
    n_energies: int, n_angles: int, range_deg: float = 180.0, start_deg: float = 0.0
) -> tuple[tuple[float, ...], tuple[tuple[int, ...], ...]]:
    """Return angles that no two energies share, by the golden ratio: any part of them is spread evenly.

    Parameters
    ----------
    n_energies, n_angles : int
        Energies, and angles at each of them.
    range_deg, start_deg : float
        As for `spread_angles`.

    Returns
    -------
    angles_deg : tuple of float
        All angles, energy by energy, rising within each.
    places : tuple of tuple of int
        Which of them belong to each energy.

    Raises
    ------
    PlanError
        As `spread_angles`.
    """
    _check(n_angles, range_deg, start_deg, 1)
    if n_energies * n_angles > _MOST:
        raise PlanError(f"{n_energies * n_angles} angles are more than {_MOST}; take fewer at each energy.")
    angles: list[float] = []
    places: list[tuple[int, ...]] = []
    for energy in range(n_energies):
        first = energy * n_angles
        angles += sorted(
            start_deg + range_deg * ((k * _GOLDEN) % 1.0) for k in range(first, first + n_angles)
        )
        places.append(tuple(range(first, first + n_angles)))
    return tuple(angles), tuple(places)


def _check(n_angles: int, range_deg: float, start_deg: float, fewest: int) -> None:
    if not fewest <= n_angles <= _MOST:
        raise PlanError(f"A rotation series has {fewest} to {_MOST} angles, not {n_angles}.")
    if range_deg not in _RANGES_DEG:
        raise PlanError(f"A rotation series goes over 180 or 360 degrees, not {range_deg:g}.")
    if not math.isfinite(start_deg):
        raise PlanError(f"The first angle is a number of degrees, not {start_deg}.")
