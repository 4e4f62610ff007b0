"""The picture of a volume: three orthogonal slices, how well they are known, and the histogram of the voxels."""

from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from callbacks.results import related

from ._colours import INK
from ._map_panel import draw_scale_bar
from ._quantity import SOC_LABEL

_OUTSIDE = "#ececec"
_BINS = 60


def draw_volume(figure: Figure, result: xr.Dataset, soc_range: tuple[float, float] | None = None) -> None:
    """Draw slices through the middle of a volume, across each of its axes."""
    signal = str(result.attrs["signal"])
    values = _three(result[signal].values)
    label = SOC_LABEL if signal == "soc" else str(result[signal].attrs.get("long_name", signal))
    limits = soc_range if soc_range is not None and signal == "soc" else _limits(values, signal)
    colours = "viridis" if signal == "soc" else "magma"
    grid = figure.add_gridspec(2, 3)
    middle = _middle(values)
    voxel_nm = result.attrs.get("voxel_size_nm")
    for column, (plane, title) in enumerate(_slices(values, middle)):
        axes = figure.add_subplot(grid[0, column])
        _show(axes, plane, f"{label}, {title}", colours, limits)
        if column == 0:
            draw_scale_bar(axes, plane.shape, voxel_nm)
    sigma = next(iter(related(result, signal, "sigma")), None)
    other = [(sigma, f"standard deviation of the {label}", "cividis")] if sigma else []
    if "attenuation" in result and signal != "attenuation":
        other.append(("attenuation", "optical depth per voxel", "magma"))
    for column, (name, title, map_name) in enumerate(other[:2]):
        plane = _three(result[name].values)[middle[0]]
        _show(figure.add_subplot(grid[1, column]), plane, title, map_name, _limits(plane, name))
    _histogram(figure.add_subplot(grid[1, 2]), values, label, colours, limits)


def _three(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return a volume; of several, the one in the middle."""
    while values.ndim > 3:
        values = values[len(values) // 2]
    return np.asarray(values, np.float32)


def _middle(values: npt.NDArray[np.float32]) -> tuple[int, int, int]:
    """Return where the slices lie: in the middle of what has values."""
    known = np.isfinite(values)
    if not known.any():
        return values.shape[0] // 2, values.shape[1] // 2, values.shape[2] // 2
    z, y, x = (int(np.median(place)) for place in np.nonzero(known))
    return z, y, x


def _slices(
    values: npt.NDArray[np.float32], middle: tuple[int, int, int]
) -> list[tuple[npt.NDArray[np.float32], str]]:
    z, y, x = middle
    return [
        (values[z], f"z = {z}"),
        (values[:, y], f"y = {y}"),
        (values[:, :, x], f"x = {x}"),
    ]


def _limits(values: npt.NDArray[np.float32], name: str) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, (1, 99)))
    if name != "soc":
        low = min(low, 0.0)
    return low, max(high, low + 1e-6)


def _show(
    axes: Axes, plane: npt.NDArray[np.float32], title: str, colours: str, limits: tuple[float, float]
) -> None:
    shown = axes.imshow(
        np.ma.masked_invalid(plane),
        cmap=mpl.colormaps[colours].with_extremes(bad=_OUTSIDE),
        vmin=limits[0],
        vmax=limits[1],
        interpolation="nearest",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(title, loc="left")
    bar: Any = axes.figure
    bar.colorbar(shown, ax=axes, fraction=0.04, pad=0.02)


def _histogram(
    axes: Axes, values: npt.NDArray[np.float32], label: str, colours: str, limits: tuple[float, float]
) -> None:
    finite = values[np.isfinite(values)]
    axes.set_xlabel(label)
    axes.set_ylabel("voxels")
    axes.set_xlim(*limits)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    if not finite.size:
        return
    counts, edges = np.histogram(np.clip(finite, *limits), bins=_BINS, range=limits)
    centres = (edges[:-1] + edges[1:]) / 2
    shade = mpl.colormaps[colours]((centres - limits[0]) / (limits[1] - limits[0]))
    axes.bar(centres, counts, width=float(edges[1] - edges[0]), color=shade)
    axes.axvline(float(np.median(finite)), color=INK, lw=0.9, ls="--")
    axes.set_title(f"median {float(np.median(finite)):.3g}, {finite.size} voxels", loc="left")
