"""What the large map of the picture shows."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from callbacks.errors import CallbackError
from callbacks.results import related
from edge_fitting import EDGES, recentre_map

DIVERGING = "coolwarm"
_ELEMENTS = {edge.element.lower() for edge in EDGES.values()}
_HALF_WIDTH_EV = 1.5
SOC_LABEL = "state of charge"
Shown = Literal["soc", "edge_energy", "edge_energy_recentred"]


@dataclass(frozen=True)
class Quantity:
    """What the large map shows.

    Attributes
    ----------
    values, sigma : ndarray, (rows, cols)
        Values and their standard deviation, NaN where there is none.
    label, unit : str
        Name and unit.
    spread : float
        Narrowest range of the colours.
    colours : str
        Name of the colour map.
    limits : (float, float) or None
        Range of the colours; by default that of the values.
    """

    values: npt.NDArray[np.float32]
    sigma: npt.NDArray[np.float32]
    label: str
    unit: str
    spread: float
    colours: str = "viridis"
    limits: tuple[float, float] | None = None

    @property
    def axis_label(self) -> str:
        """Name with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


def quantity_of(result: xr.Dataset, shown: Shown = "soc") -> Quantity:
    """Return what the large map shows: the signal, which is the state of charge where it was fitted, or as asked for.

    Of a signal with more than two dimensions it is the middle of the others.
    """
    signal = str(result.attrs["signal"])
    if signal not in ("soc", "edge_energy_ev") or (shown == "soc" and signal == "soc"):
        return _signal(result, signal)
    energy = np.asarray(result["edge_energy_ev"].values)
    sigma = np.asarray(result["edge_energy_sigma_ev"].values)
    if shown == "edge_energy":
        # Blue is reduced and red oxidised, over the range in which the edge is looked for.
        window = EDGES[result.attrs["edge"]].half_jump_window_ev
        return Quantity(energy, sigma, "edge energy", "eV", 0.5, DIVERGING, window)
    if shown == "edge_energy_recentred" and np.isfinite(energy).any():
        centred = recentre_map(energy, half_width_ev=_HALF_WIDTH_EV)
        label = f"edge energy − {centred.centre_ev:.2f}"
        limits = (-_HALF_WIDTH_EV, _HALF_WIDTH_EV)
        return Quantity(np.asarray(centred.shift_ev, np.float32), sigma, label, "eV", 0.5, DIVERGING, limits)
    return Quantity(energy, sigma, "edge energy", "eV", 0.5)


def _signal(result: xr.Dataset, name: str) -> Quantity:
    variable = result[name]
    unit = str(variable.attrs.get("units", ""))
    values = _plane(variable)
    sigma = next((_plane(result[of]) for of in related(result, name, "sigma")), np.full_like(values, np.nan))
    if name == "soc":
        return Quantity(values, sigma, SOC_LABEL, "", 0.1)
    if name == "edge_jump":
        return Quantity(values, sigma, f"{result.attrs['element']} edge jump", "", 0.05, "inferno")
    return Quantity(values, sigma, _in_words(name), unit, 0.0)


def _in_words(name: str) -> str:
    """Write the name of an array as a label: elements as they are written, ratios of two with a stroke."""
    parts = [part.capitalize() if part in _ELEMENTS else part for part in name.split("_")]
    return ("/" if len(parts) == 2 and all(part.lower() in _ELEMENTS for part in parts) else " ").join(parts)


def _plane(variable: xr.DataArray) -> npt.NDArray[np.float32]:
    """Return the values over the last two dimensions, in the middle of the others."""
    values = np.asarray(variable.values, np.float32)
    while values.ndim > 2:
        values = values[len(values) // 2]
    return values


def check_range(soc_range: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return a range of colours as two numbers.

    Raises
    ------
    CallbackError
        If it is no rising pair of finite numbers.
    """
    if soc_range is None:
        return None
    try:
        low, high = (float(value) for value in soc_range)
    except (TypeError, ValueError):
        raise CallbackError(f"soc_range must be two numbers such as (0, 1), not {soc_range!r}") from None
    if not (np.isfinite([low, high]).all() and low < high):
        raise CallbackError(f"soc_range must rise from one finite number to another, not {low:g} to {high:g}")
    return low, high


def value_range(quantity: Quantity) -> tuple[float, float]:
    """Return the range of the colours: the middle 98 % of the values, never narrower than what is worth seeing."""
    if quantity.limits is not None:
        return quantity.limits
    finite = quantity.values[np.isfinite(quantity.values)]
    if not finite.size:
        return (0.0, 1.0) if not quantity.unit else (0.0, quantity.spread)
    low, high = (float(value) for value in np.percentile(finite, (1, 99)))
    if not quantity.spread:
        return low, high if high > low else low + (abs(low) or 1.0)
    if high - low < quantity.spread:
        middle = (low + high) / 2
        low, high = middle - quantity.spread / 2, middle + quantity.spread / 2
    step = quantity.spread / 2
    return float(np.floor(low / step) * step), float(np.ceil(high / step) * step)
