"""The tables of xraydb, imported when they are first needed: only fluorescence needs them."""

from functools import cache
from typing import Any

from edge_fitting.errors import EdgeFittingError
from scan_contract import optional_import

__all__ = ["mass_attenuation", "split_group", "tables"]


@cache
def tables() -> Any:
    """Return the module `xraydb`.

    Raises
    ------
    MissingPackageError
        It is not installed.
    """
    with optional_import("xrf", "fluorescence lines and attenuation"):
        import xraydb
    return xraydb


def split_group(name: str) -> tuple[str, str]:
    """Return element and family of lines of a group: ``"Ni"`` is ("Ni", "K"), ``"Pb_L"`` is ("Pb", "L").

    Raises
    ------
    EdgeFittingError
        There is no such element or family.
    """
    element, _, family = str(name).partition("_")
    family = family or "K"
    try:
        known = tables().atomic_number(element)
    except (ValueError, KeyError, AttributeError):
        known = None
    if not known or family not in ("K", "L", "M"):
        raise EdgeFittingError(
            f"{name!r} names no lines; give an element, such as Ni for its K lines, or Pb_L or Pb_M for others."
        )
    return element, family


@cache
def mass_attenuation(element: str, energy_ev: float) -> float:
    """Return the mass attenuation coefficient of an element in cm2/g (Elam tables)."""
    return float(tables().mu_elam(element, energy_ev))
