"""Picture of samples on one scale: their distributions, and the means with those of their fields."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from callbacks.publish import replacing

from ._comparison import SampleComparison

_BINS = 100
_MOST_NAMED = 12
LABELS = {"soc": "state of charge", "edge_energy_ev": "edge energy (eV)"}
"""What the axis of a quantity says."""


def draw_samples(
    comparison: SampleComparison, path: Path | str, value_range: tuple[float, float] | None = None
) -> Path:
    """Draw the distributions of all groups on one axis, and their means with errors.

    Parameters
    ----------
    comparison : SampleComparison
        What to draw.
    path : Path or str
        PNG to write, replaced as a whole.
    value_range : (float, float), optional
        Of the axis; by default all but the outermost half per cent of the pixels.

    Raises
    ------
    ExportError
        It cannot be written.
    """
    groups = comparison.groups
    low, high = value_range or _limits(comparison)
    colours = mpl.colormaps["viridis"](np.linspace(0.0, 0.9, len(groups)))
    figure = Figure(figsize=(9.5, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1.0))
    bins = np.linspace(low, high, _BINS)
    for group, colour in zip(groups, colours, strict=True):
        pooled = group.pooled
        label = f"{group.name} ({pooled.n_fields} field{'s' if pooled.n_fields > 1 else ''})"
        left.hist(pooled.values, bins.tolist(), density=True, histtype="step", color=colour, label=label)
        left.axvline(pooled.peak, color=colour, lw=0.8, ls=":")
    left.set(xlim=(low, high), xlabel=LABELS[comparison.quantity], ylabel="density of pixels", yticks=[])
    left.set_title(comparison.edge.replace("_", " "), loc="left", fontsize=10)
    if len(groups) <= _MOST_NAMED:
        left.legend(fontsize=8, frameon=False, title=", ".join(comparison.by), title_fontsize=8)
    _draw_means(right, comparison, colours)
    right.ticklabel_format(axis="y", useOffset=False)
    return replacing(Path(path), lambda unfinished: figure.savefig(unfinished, format="png"))


def _draw_means(axes: Axes, comparison: SampleComparison, colours: np.ndarray) -> None:
    groups = comparison.groups
    places = np.arange(len(groups), dtype=float)
    numeric = len(comparison.by) == 1 and all(isinstance(group.key[0], float) for group in groups)
    if numeric:
        places = np.array([group.key[0] for group in groups])
    width = 0.06 * (np.ptp(places) or 1.0)
    for group, place, colour in zip(groups, places, colours, strict=True):
        pooled = group.pooled
        spread = np.linspace(-1.0, 1.0, pooled.n_fields) * width if pooled.n_fields > 1 else np.zeros(1)
        axes.errorbar(
            place + spread,
            pooled.field_mean,
            pooled.field_mean_sigma,
            fmt=".",
            color=colour,
            alpha=0.5,
            lw=0.8,
        )
        if group.systematic is not None:
            whole = float(np.hypot(group.systematic, pooled.mean_sigma))
            axes.errorbar(place, pooled.mean, whole, color="0.6", capsize=4, lw=0.8)
        axes.errorbar(place, pooled.mean, pooled.mean_sigma, fmt="o", color=colour, mec="k", lw=2)
    if not numeric:
        axes.set_xticks(places, [group.name for group in groups], rotation=30, ha="right", fontsize=8)
        axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set(xlabel=", ".join(comparison.by), ylabel=f"mean {LABELS[comparison.quantity]}")
    axes.set_title("dots: fields; grey: with what is systematic", loc="left", fontsize=8)


def _limits(comparison: SampleComparison) -> tuple[float, float]:
    ends = np.array([np.percentile(group.pooled.values, (0.5, 99.5)) for group in comparison.groups])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)
