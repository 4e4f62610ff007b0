"""Checks of what a user asks of a device, before anything moves."""

import math
from typing import Any

from beamline_devices.errors import OutOfLimitsError

__all__ = ["check_energy_ev", "check_range", "finite_number"]


def finite_number(name: str, value: Any, units: str) -> float:
    """Return a value as a finite number.

    Raises
    ------
    OutOfLimitsError
        When it is none.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise OutOfLimitsError(f"{name} takes a finite number of {units}, not {value!r}")
    return number


def check_range(name: str, value: Any, limits: tuple[float, float], units: str) -> float:
    """Return a value as a number within limits, both included.

    Raises
    ------
    OutOfLimitsError
        When it is not finite or outside.
    """
    number = finite_number(name, value, units)
    low, high = limits
    if not low <= number <= high:
        raise OutOfLimitsError(f"{name} cannot be {number:g} {units}, it takes {low:g} to {high:g} {units}")
    return number


def check_energy_ev(name: str, value: Any, limits_ev: tuple[float, float]) -> float:
    """Return an energy in eV within limits; where it looks like keV, the message says so.

    Raises
    ------
    OutOfLimitsError
        When it is not finite or outside.
    """
    energy_ev = finite_number(name, value, "eV")
    low, high = limits_ev
    if low <= energy_ev <= high:
        return energy_ev
    hint = f"; it looks like keV, give {energy_ev * 1e3:g} eV" if low <= energy_ev * 1e3 <= high else ""
    raise OutOfLimitsError(f"{name} cannot go to {energy_ev:g} eV, it takes {low:g} to {high:g} eV{hint}")
