"""Several analyses beside each other: a table, and a picture on common colours."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

_MOST_SHOWN_PX = 512
_MOST_PICTURES = 36
_BINS = 80
_LABELS = {"soc": "state of charge", "edge_energy_ev": "edge energy (eV)", "edge_jump": "edge jump"}


@dataclass(frozen=True)
class Outcome:
    """What is kept of one analysis for the comparison.

    Attributes
    ----------
    uid, edge, label : str
        Run, edge, and what tells the parameters from the others.
    version : int or None
        Which version it became in Tiled.
    n_frames, n_warnings : int
        Frames in the map, and warnings about it.
    quantity : str
        What is compared.
    values : ndarray of float32, (rows, cols)
        Its map, in so many pixels as a picture needs; other techniques have one value.
    sigma : float
        Median standard deviation.
    axis_offset_ev, axis_offset_sigma_ev : float or None
        Offset of the axis that was found.
    """

    uid: str
    edge: str
    label: str
    version: int | None
    n_frames: int
    n_warnings: int
    quantity: str
    values: npt.NDArray[np.float32] = field(repr=False)
    sigma: float
    axis_offset_ev: float | None
    axis_offset_sigma_ev: float | None


def outcome_of(result: xr.Dataset, label: str, version: int | None) -> Outcome:
    """Take from a result what is compared: the state of charge, or else the edge energy, or else the edge jump."""
    about = result.attrs
    quantity, values = "soc", np.full((1, 1), np.nan, np.float32)
    for name in ("soc", "edge_energy_ev", "edge_jump", "half_jump_ev"):
        if name in result and np.isfinite(result[name].values).any():
            quantity, values = name, np.atleast_2d(result[name].values)
            break
    step = max(1, -(-max(values.shape) // _MOST_SHOWN_PX))
    sigma_name = quantity.removesuffix("_ev") + "_sigma" + ("_ev" if quantity.endswith("_ev") else "")
    sigma = result[sigma_name].values if sigma_name in result else np.array([np.nan])
    finite = sigma[np.isfinite(sigma)]
    return Outcome(
        uid=str(about["raw_uid"]),
        edge=str(about["edge"]),
        label=label,
        version=version,
        n_frames=int(about.get("n_frames") or 0),
        n_warnings=len(about.get("warnings") or ()),
        quantity=quantity,
        values=np.array(values[::step, ::step], np.float32),
        sigma=float(np.median(finite)) if finite.size else float("nan"),
        axis_offset_ev=about.get("axis_offset_ev"),
        axis_offset_sigma_ev=about.get("axis_offset_sigma_ev"),
    )


def comparison_table(outcomes: list[Outcome]) -> Table:
    """Build the table: one line an analysis, and how its map differs from that of the first of the same run."""
    table = Table(title="Analyses compared", title_justify="left")
    table.add_column("run")
    table.add_column("parameters")
    heads = (
        "version",
        "frames",
        "median",
        "central 68 %",
        "sigma",
        "axis offset (eV)",
        "to the first",
        "rms",
    )
    for head in (*heads, "warnings"):
        table.add_column(head, justify="right")
    for one in outcomes:
        digits = 2 if one.quantity.endswith("_ev") else 3
        finite = one.values[np.isfinite(one.values)]
        median = low = high = float("nan")
        if finite.size:
            low, median, high = np.percentile(finite, (15.87, 50.0, 84.13))
        bias, rms = _difference(one, _first(one, outcomes))
        offset = "" if one.axis_offset_ev is None else f"{one.axis_offset_ev:+.3f}"
        if one.axis_offset_sigma_ev is not None:
            offset += f" ± {one.axis_offset_sigma_ev:.3f}"
        table.add_row(
            f"{one.uid[:8]} {one.edge.replace('_', ' ')}",
            f"{one.label} ({_LABELS.get(one.quantity, one.quantity)})".strip(),
            "" if one.version is None else str(one.version),
            str(one.n_frames),
            f"{median:.{digits}f}",
            f"{low:.{digits}f}–{high:.{digits}f}",
            f"{one.sigma:.{digits}f}",
            offset,
            f"{bias:+.{digits}f}",
            f"{rms:.{digits}f}",
            str(one.n_warnings or ""),
        )
    return table


def draw_comparison(
    outcomes: list[Outcome], path: Path, soc_range: tuple[float, float] | None = None
) -> None:
    """Draw the maps of analyses on common colours, one row a run, with their histograms below.

    Parameters
    ----------
    outcomes : list of Outcome
        The first thirty-six are drawn.
    path : Path
        PNG, replaced as a whole.
    soc_range : (float, float), optional
        Range of the colours of the state of charge; by default that of the values.
    """
    shown = outcomes[:_MOST_PICTURES]
    quantity = shown[0].quantity
    shown = [one for one in shown if one.quantity == quantity]
    runs = list(dict.fromkeys((one.uid, one.edge) for one in shown))
    of_run = {run: [one for one in shown if (one.uid, one.edge) == run] for run in runs}
    n_columns = max(len(held) for held in of_run.values())
    if n_columns == 1:  # many runs by the same parameters: side by side
        n_columns = min(6, len(shown))
        rows = [shown[at : at + n_columns] for at in range(0, len(shown), n_columns)]
    else:
        rows = list(of_run.values())
    low, high = _limits(shown, soc_range if quantity == "soc" else None)
    figure = Figure(figsize=(2.4 + 2.6 * n_columns, 2.6 * len(rows) + 2.8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(rows) + 1, n_columns)
    axes, picture = [], None
    for row, held in enumerate(rows):
        for column, one in enumerate(held):
            axis = figure.add_subplot(grid[row, column])
            picture = axis.imshow(one.values, cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
            axis.set_title(f"{one.uid[:8]} {one.edge.replace('_', ' ')}\n{one.label}", fontsize=8)
            axis.set_xticks([])
            axis.set_yticks([])
            axes.append(axis)
    if picture is not None:
        figure.colorbar(picture, ax=axes, label=_LABELS.get(quantity, quantity))
    histogram = figure.add_subplot(grid[len(rows), :])
    for one in shown:
        finite = one.values[np.isfinite(one.values)]
        histogram.hist(
            np.clip(finite, low, high),
            np.linspace(low, high, _BINS).tolist(),
            histtype="step",
            density=True,
            label=f"{one.uid[:8]} {one.label}".strip(),
        )
    histogram.set_xlabel(_LABELS.get(quantity, quantity))
    histogram.set_ylabel("density")
    if len(shown) <= 12:
        histogram.legend(fontsize=7)
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, format="png")
    part.replace(path)


def _first(one: Outcome, outcomes: list[Outcome]) -> Outcome:
    return next(
        other
        for other in outcomes
        if (other.uid, other.edge, other.quantity) == (one.uid, one.edge, one.quantity)
    )


def _difference(one: Outcome, first: Outcome) -> tuple[float, float]:
    """Return mean and root mean square of the difference of two maps, where both have values."""
    difference = one.values.astype(float) - first.values
    difference = difference[np.isfinite(difference)]
    if not difference.size:
        return float("nan"), float("nan")
    return float(difference.mean()), float(np.sqrt(np.mean(difference**2)))


def _limits(shown: list[Outcome], wanted: tuple[float, float] | None) -> tuple[float, float]:
    if wanted is not None:
        return wanted
    finite = np.concatenate([one.values[np.isfinite(one.values)] for one in shown])
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, (1.0, 99.0))
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)
