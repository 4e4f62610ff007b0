"""The picture of a result whose signal has one dimension: lines over it, one panel for each unit."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from callbacks.results import related

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")


def draw_lines(figure: Figure, result: xr.Dataset) -> None:
    """Draw every value along the dimension of the signal, with its standard deviation where there is one."""
    signal = result[result.attrs["signal"]]
    values = [
        name
        for name in map(str, result.data_vars)
        if result[name].dims == signal.dims and result[name].attrs.get("role") == "value"
    ]
    units = list(dict.fromkeys(str(result[name].attrs.get("units", "")) for name in values))
    panels = figure.subplots(len(units), 1, sharex=True, squeeze=False)[:, 0]
    for axes, unit in zip(panels, units, strict=True):
        of_unit = [name for name in values if result[name].attrs.get("units", "") == unit]
        for number, name in enumerate(of_unit):
            _line(axes, result, name, _COLOURS[number % len(_COLOURS)])
        axes.set_ylabel(unit)
        axes.legend(frameon=False)
    panels[-1].set_xlabel(_position(result, signal)[1])


def _line(axes: Axes, result: xr.Dataset, name: str, colour: str) -> None:
    position, _ = _position(result, result[name])
    values = np.atleast_1d(result[name].values)
    axes.plot(
        position,
        values,
        "o-",
        ms=3.5,
        lw=1.1,
        color=colour,
        label=str(result[name].attrs.get("long_name", name)),
    )
    for of in related(result, name, "sigma"):
        sigma = np.atleast_1d(result[of].values)
        axes.fill_between(position, values - sigma, values + sigma, color=colour, alpha=0.25, lw=0)


def _position(result: xr.Dataset, variable: xr.DataArray) -> tuple[np.ndarray, str]:
    """Return the first coordinate along the dimension of a variable and its label; else the index."""
    if variable.ndim == 0:
        return np.zeros(1), ""
    dim = variable.dims[0]
    for held in result.coords.values():
        if held.dims == (dim,):
            unit = held.attrs.get("units", "")
            label = str(held.attrs.get("long_name", held.name))
            return np.asarray(held.values), f"{label} ({unit})" if unit else label
    return np.arange(variable.size), str(dim)
