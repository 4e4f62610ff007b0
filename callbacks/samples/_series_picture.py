"""Picture of series: every particle, the regions and the whole map against time or charge passed."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from callbacks.publish import replacing

from ._comparison_picture import LABELS
from ._series import series_table

_MOST_MAPS = 6


def draw_series(
    series: Sequence[xr.Dataset], path: Path | str, value_range: tuple[float, float] | None = None
) -> Path:
    """Draw each place: some of its maps on common colours, and its tracks against time.

    Parameters
    ----------
    series : sequence of xarray.Dataset
        Of `follow_series`.
    path : Path or str
        PNG to write, replaced as a whole.
    value_range : (float, float), optional
        Of the colours and of the axis.

    Raises
    ------
    ExportError
        It cannot be written.
    """
    n_maps = min(_MOST_MAPS, max(one.sizes["step"] for one in series))
    figure = Figure(figsize=(3.0 + 1.7 * n_maps + 3.6, 2.9 * len(series)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(series), n_maps + 1, width_ratios=[*[1.0] * n_maps, 2.6])
    for row, one in enumerate(series):
        signal = str(one.attrs["signal"])
        stack = one[signal].values
        low, high = value_range or _limits(stack)
        shown = np.unique(np.linspace(0, len(stack) - 1, n_maps).round().astype(int))
        axes, picture = [], None
        passed_s = one["step_time_s"].values - one["step_time_s"].values[0]
        unit, unit_s = time_unit(float(np.nanmax(passed_s)))
        for column, step in enumerate(shown):
            axis = figure.add_subplot(grid[row, column])
            picture = axis.imshow(stack[step], vmin=low, vmax=high, cmap="viridis", interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.set_title(f"{passed_s[step] / unit_s:.3g} {unit}", fontsize=8)
            axes.append(axis)
        place = str(one.attrs.get("place") or "")
        axes[0].set_ylabel(f"place {place}" if place else one.attrs["edge"].replace("_", " "), fontsize=8)
        if picture is not None:
            bar = figure.colorbar(
                picture, ax=axes, label=LABELS[signal], location="bottom", shrink=0.8, aspect=40,
                ticks=MaxNLocator(4), pad=0.02,
            )  # fmt: skip
            bar.formatter = ScalarFormatter(useOffset=False)
            bar.update_ticks()
        draw_tracks(figure.add_subplot(grid[row, n_maps]), one)
    return replacing(Path(path), lambda unfinished: figure.savefig(unfinished, format="png"))


def draw_tracks(axes: Axes, series: xr.Dataset) -> None:
    """Draw the tracks of a place against time."""
    table = series_table(series)
    unit, unit_s = time_unit(3600.0 * float(table["hours"].max()))
    table["passed"] = table["hours"] * (3600.0 / unit_s)
    names = list(series.attrs.get("regions") or ())
    colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
    for what, track in table.groupby("what", sort=False):
        if what == "map":
            continue
        if what in names:
            style = {
                "color": colours[names.index(str(what)) % 10],
                "lw": 1.4,
                "label": str(what),
                "zorder": 3,
            }
        else:
            style = {"color": "0.7", "lw": 0.7}
        axes.errorbar(track["passed"], track["value"], track["sigma"], **style)
    whole = table[table["what"] == "map"]
    shared = np.hypot(whole["sigma"], np.nan_to_num(whole["systematic"]))
    axes.errorbar(whole["passed"], whole["value"], shared, color="k", lw=2, capsize=2, label="map", zorder=4)
    axes.ticklabel_format(useOffset=False)
    axes.set(xlabel=f"time ({unit})", ylabel=LABELS[str(series.attrs["signal"])])
    axes.set_title("grey: particles", loc="left", fontsize=8)
    axes.legend(fontsize=7, frameon=False)


def time_unit(longest_s: float) -> tuple[str, float]:
    """Return the unit in which times up to some are read best, and how many seconds it has."""
    if not longest_s > 180.0:
        return "s", 1.0
    return ("min", 60.0) if longest_s < 3 * 3600.0 else ("h", 3600.0)


def _limits(stack: np.ndarray) -> tuple[float, float]:
    finite = stack[np.isfinite(stack)]
    low, high = np.percentile(finite, (1.0, 99.0)) if finite.size else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)
