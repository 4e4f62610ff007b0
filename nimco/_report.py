"""The table a measurement ends with, in the console."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from edge_fitting import FitStatus

_MOST_PARTICLES = 12


@dataclass(frozen=True)
class TruthError:
    """How far a map of state of charge lies from a known answer.

    Attributes
    ----------
    rms, bias : float
        Root mean square and mean of the difference, over the pixels compared.
    n_compared, n_inside : int
        Pixels with a value, and all pixels, where the true edge jump lies in the range asked for.
    """

    rms: float
    bias: float
    n_compared: int
    n_inside: int

    def __str__(self) -> str:
        if self.n_compared == 0:
            return f"no value (0 of {self.n_inside} px)"
        return f"{self.rms:.3f}, bias {self.bias:+.3f}\n({self.n_compared} of {self.n_inside} px)"


def truth_error(soc: np.ndarray, true_soc: np.ndarray, inside: np.ndarray) -> TruthError:
    """Compare a map of state of charge with the truth.

    Parameters
    ----------
    soc, true_soc : numpy.ndarray
        Measured and true state of charge, shape (rows, cols), NaN where there is no value.
    inside : numpy.ndarray
        Boolean, the pixels to compare.

    Returns
    -------
    TruthError
        NaN figures where no pixel can be compared.
    """
    compared = inside & np.isfinite(soc) & np.isfinite(true_soc)
    difference = (soc - true_soc)[compared]
    if difference.size == 0:
        return TruthError(float("nan"), float("nan"), 0, int(inside.sum()))
    return TruthError(
        float(np.sqrt(np.mean(difference**2))),
        float(difference.mean()),
        int(compared.sum()),
        int(inside.sum()),
    )


def summary_table(
    results: list[xr.Dataset], errors: Mapping[str, Sequence[tuple[str, TruthError | str]]]
) -> Table:
    """Build the closing table, one column an edge.

    Parameters
    ----------
    results : list of xarray.Dataset
        The last result of each run.
    errors : dict
        For each raw run uid, the comparisons to show: (what is compared, result).

    Returns
    -------
    rich.table.Table
    """
    table = Table(
        title="State of charge",
        title_justify="left",
    )
    table.add_column("")
    for result in results:
        table.add_column(result.attrs["edge"].replace("_", " "), justify="right")
    columns = [figures_of(result) for result in results]
    frames = (f"{result.attrs['n_frames']} of {result.attrs['frames_expected']}" for result in results)
    table.add_row("sample frames", *frames)
    for label in dict.fromkeys(label for column in columns for label in column):
        table.add_row(label, *(column.get(label, "") for column in columns))
    counts = [result.attrs["pixels"] for result in results]
    for status in FitStatus:  # fitted, then flagged
        if any(count.get(status.name) for count in counts):
            label = (
                "pixels fitted" if status is FitStatus.OK else f"  {status.name.lower().replace('_', ' ')}"
            )
            table.add_row(label, *(str(count.get(status.name, 0)) for count in counts))
    labels = [label for label, _ in max(errors.values(), key=len, default=[])]
    for position, label in enumerate(labels):
        cells = []
        for result in results:
            shown = errors.get(result.attrs["raw_uid"], [])
            cells.append(str(shown[position][1]) if position < len(shown) else "")
        table.add_row(label, *cells)
    return table


def print_warnings(console: Console, updates: Iterable[xr.Dataset]) -> None:
    """Print what a reader of results should know, each once with its edge."""
    for update in updates:
        edge = str(update.attrs.get("edge") or "").replace("_", " ")
        for warning in update.attrs.get("warnings", ()):
            console.print(f"note   {edge}: {warning}", markup=False, highlight=False, soft_wrap=True)


def particle_table(result: xr.Dataset) -> Table | None:
    """Build the table of the largest particles of a result; None where it has none.

    Parameters
    ----------
    result : xarray.Dataset
        Of a run that is over.
    """
    if result.sizes.get("particle", 0) == 0:
        return None
    quantity, suffix, name, digits = (
        ("soc", "", "SOC", 3)
        if "particle_soc_mean" in result
        else ("edge_energy", "_ev", "edge energy (eV)", 2)
    )
    unit = "um" if "particle_diameter_um" in result else "px"
    size = result[f"particle_diameter_{unit}"].values
    largest = np.argsort(-size, kind="stable")[:_MOST_PARTICLES]
    table = Table(title=f"Particles, {len(largest)} of {size.size}", title_justify="left")
    table.add_column("")
    for column in (f"diameter ({unit})", name, "spread", "rim - bulk", "cracks - bulk"):
        table.add_column(column, justify="right")
    for k in np.sort(largest):
        cells = [
            _pair(
                result[f"particle_{quantity}_{column}{suffix}"].values[k],
                result[f"particle_{quantity}_{column}_sigma{suffix}"].values[k],
                digits,
            )
            for column in ("mean", "intrinsic_spread", "rim_minus_bulk", "crack_minus_bulk")
        ]
        cut = " (cut)" if result["particle_at_border"].values[k] else ""
        table.add_row(str(int(result["particle_label"].values[k])), f"{size[k]:.1f}{cut}", *cells)
    return table


def _pair(value: float | None, sigma: float | None, digits: int) -> str:
    # In attributes a number that is not finite is None.
    if value is None or sigma is None or not (np.isfinite(value) and np.isfinite(sigma)):
        return ""
    return f"{value:.{digits}f} ± {sigma:.{digits}f}"


def _spreads(result: xr.Dataset) -> dict[str, str]:
    """Return how a map varies within and between its particles."""
    found = (result.attrs.get("heterogeneity") or {}).get("soc")
    if not found:
        return {}
    return {
        "particles": str(found["n_particles"]),
        "  SOC spread within": _pair(found["within"], found["within_sigma"], 3),
        "  SOC spread between": _pair(found["between"], found["between_sigma"], 3) or "not told",
    }


def figures_of(result: xr.Dataset) -> dict[str, str]:
    """Return the figures of a map as texts, by what they are."""
    if "edge_jump_sigma" in result:
        return {
            "edge jump, median": _median(result["edge_jump"].values, 3),
            "  central 68 %": _central(result["edge_jump"].values, 3),
            "edge jump sigma, median": _median(result["edge_jump_sigma"].values, 3),
        }
    return {
        "edge energy, median (eV)": _median(result["edge_energy_ev"].values, 2),
        "  central 68 % (eV)": _central(result["edge_energy_ev"].values, 2),
        "SOC, median": _median(result["soc"].values, 3),
        "  central 68 %": _central(result["soc"].values, 3),
        "SOC sigma, median": _median(result["soc_sigma"].values, 3),
        "edge energy sigma (eV)": _median(result["edge_energy_sigma_ev"].values, 3),
        "axis offset (eV)": _with_sigma(
            result.attrs.get("axis_offset_ev"), result.attrs.get("axis_offset_sigma_ev")
        ),
        "SOC sigma common to all pixels": _or_not_told(result.attrs.get("soc_systematic")),
        **_spreads(result),
        **_grid(result),
    }


def _grid(result: xr.Dataset) -> dict[str, str]:
    """Return how far the maps lie from those of the first run of their measurement; nothing for the first."""
    grid = result.attrs.get("grid")
    if not isinstance(grid, Mapping):
        return {}
    label = "shift from the first maps: rows, columns (px)"
    if not grid.get("found"):
        return {label: "not found"}
    parts = [
        f"{shift:+.2f}" if sigma is None else f"{shift:+.2f} ± {sigma:.2f}"
        for shift, sigma in zip(grid["shift_px"], grid["sigma_px"], strict=True)
    ]
    turned = grid["magnification"] != 1.0 or grid["rotation_deg"] != 0.0
    of_size = f"; {100 * (grid['magnification'] - 1):+.2f} %, {grid['rotation_deg']:+.2f}°" if turned else ""
    return {label: f"{', '.join(parts)}{of_size}"}


def _with_sigma(value: float | None, sigma: float | None) -> str:
    if value is None or sigma is None:
        return _or_not_told(value, "+")
    return f"{value:+.3f} ± {sigma:.3f}"


def _or_not_told(value: float | None, sign: str = "") -> str:
    return "not told" if value is None else f"{value:{sign}.3f}"


def _median(values: np.ndarray, digits: int) -> str:
    finite = values[np.isfinite(values)]
    return f"{np.median(finite):.{digits}f}" if finite.size else "no value"


def _central(values: np.ndarray, digits: int) -> str:
    """Range of the central 68 % of the pixels: how they differ, which outliers do not move."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "no value"
    low, high = np.percentile(finite, (15.87, 84.13))
    return f"{low:.{digits}f}–{high:.{digits}f}"
