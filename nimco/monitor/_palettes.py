"""Colours of the maps, as matplotlib has them."""

from functools import cache
from typing import Any

_CONTINUOUS = ("viridis", "coolwarm", "inferno", "cividis")
_STATUS = (
    "#2a7f3f",
    "#4c78c8",
    "#c8643c",
    "#a0a0a0",
    "#d6b93c",
    "#8e5ea2",
    "#e377c2",
    "#17becf",
    "#7f7f7f",
    "#bcbd22",
)


@cache
def palettes() -> dict[str, list[list[int]]]:
    """Return, by name, the colour of each byte from 1 to 255 as red, green and blue."""
    import matplotlib as mpl

    found: dict[str, list[list[int]]] = {}
    for name in _CONTINUOUS:
        colours = mpl.colormaps[name].resampled(255)
        found[name] = [[round(255 * part) for part in colours(index)[:3]] for index in range(255)]
    found["codes"] = [[int(text[1 + 2 * k : 3 + 2 * k], 16) for k in range(3)] for text in _STATUS]
    return found


def palette_of(name: str, about: dict[str, Any]) -> str:
    """Return the name of the colours of a variable."""
    if about.get("role") in ("sigma", "systematic"):
        return "cividis"
    if about.get("units") == "eV":
        return "coolwarm"
    return "inferno" if about.get("units") == "optical depth" else "viridis"
