"""The picture of a live analysis: maps, histogram, mean spectrum with its fit, and how far the scan is."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.figure import Figure

from callbacks.results import sample_name

from ._colours import ACCENT, INK, SECOND
from ._fluorescence import draw_elements, draw_summed_spectrum
from ._lines import draw_lines
from ._map_panel import draw_map, reasons
from ._panels import draw_drift, draw_histogram, draw_history, draw_pixels, draw_spectrum
from ._quantity import SOC_LABEL, Shown, quantity_of, value_range
from ._volume import draw_volume

FIGURE_SIZE_IN = (13.0, 7.6)


def draw(
    figure: Figure,
    result: xr.Dataset,
    shown: Shown = "soc",
    soc_range: tuple[float, float] | None = None,
) -> None:
    """Draw a result onto a figure: slices of a volume, maps of a signal with two dimensions, else lines."""
    figure.clear()
    with mpl.rc_context(_STYLE):
        figure.set_layout_engine("constrained", rect=(0.01, 0.07, 0.98, 0.84), wspace=0.03, hspace=0.05)
        dims = result[result.attrs["signal"]].dims
        if len(dims) < 2:
            draw_lines(figure, result)
        elif dims[-3:] == ("z", "y", "x"):
            draw_volume(figure, result, soc_range)
        else:
            _draw_maps(figure, result, shown, soc_range)
        _words(figure, result)


def _draw_maps(
    figure: Figure, result: xr.Dataset, shown: Shown, soc_range: tuple[float, float] | None
) -> None:
    quantity = quantity_of(result, shown)
    if soc_range is not None and quantity.label == SOC_LABEL:
        quantity = replace(quantity, limits=soc_range)
    missing = reasons(result) if "status" in result else {}
    grid = figure.add_gridspec(3, 3, width_ratios=(1.3, 1.3, 1.0), height_ratios=(1, 1, 0.9))
    pixel_size_nm = result.attrs.get("pixel_size_nm")
    low, high = value_range(quantity)
    draw_map(
        figure.add_subplot(grid[:2, 0]),
        quantity.values,
        quantity.axis_label,
        quantity.colours,
        (low, high),
        pixel_size_nm,
        missing,
    )
    of = quantity.label.split(" − ")[0]
    label = f"standard deviation of the {of}" + (f" ({quantity.unit})" if quantity.unit else "")
    draw_map(
        figure.add_subplot(grid[:2, 1]),
        quantity.sigma,
        label,
        "cividis",
        (0.0, _upper(quantity.sigma)),
        pixel_size_nm,
        missing,
    )
    draw_histogram(figure.add_subplot(grid[0, 2]), quantity, low, high)
    if "summed_spectrum" in result:
        draw_summed_spectrum(figure.add_subplot(grid[2, :2]), result)
        draw_elements(figure, grid[1:, 2], result)
    if "mean_optical_depth" in result:
        draw_spectrum(figure.add_subplot(grid[2, :2]), result)
    has_drift = "frame_shift_row_px" in result and bool(
        np.isfinite(result["frame_shift_row_px"].values).any()
    )
    if "history_sigma" in result and has_drift:
        parts = grid[1, 2].subgridspec(1, 2)
        draw_history(figure.add_subplot(parts[0]), result)
        draw_drift(figure.add_subplot(parts[1]), result)
    elif "history_sigma" in result:
        draw_history(figure.add_subplot(grid[1, 2]), result)
    if "pixels" in result.attrs:
        draw_pixels(figure.add_subplot(grid[2, 2]), result)


def _upper(sigma: npt.NDArray[np.float32]) -> float:
    finite = sigma[np.isfinite(sigma)]
    return float(np.percentile(finite, 98)) if finite.size else 1.0


# What a progress of each technique counts, where it is no frames.
_COUNTED = {"xrf": "lines", "stxm": "readings", "tomography": "projections"}


def _words(figure: Figure, result: xr.Dataset) -> None:
    about = result.attrs
    if not about.get("final"):
        state = "running"
    elif about.get("complete", True) and about.get("exit_status", "success") == "success":
        state = "complete"
    else:
        state = f"partial ({about.get('exit_status')})"
    edge = str(about.get("edge") or "")
    what = f"{edge.replace('_', ' ')} edge" if edge else str(about.get("technique", ""))
    figure.text(
        0.02,
        0.945,
        f"{what}   run {about['raw_uid'][:8]}   {sample_name(about)}",
        fontsize=13,
        weight="bold",
    )
    counted = _COUNTED.get(
        str(about.get("technique")), "points" if result[about["signal"]].ndim == 1 else "frames"
    )
    if about.get("time"):
        when = datetime.fromtimestamp(about["time"]).astimezone()
        said = f"last {counted[:-1]} {when:%Y-%m-%d %H:%M:%S %Z}"
        figure.text(0.64, 0.948, said, fontsize=8, ha="right", color=INK)
    if "n_frames" in about:
        _progress(figure, about, state, counted)
    words = [f"edge energy: {about['definition']}"] if "definition" in about else []
    fit = [] if about.get("chi2") is None else [f"reduced χ² {about['chi2']:.2f}"]
    if about.get("axis_offset_ev") is not None:
        fit.append(_offset_words(about))
    elif about.get("axis_offset_reason"):
        fit.append(about["axis_offset_reason"])
    if fit:
        words.append("; ".join(fit))
    if about.get("warnings"):
        words.append("; ".join(about["warnings"][:2]))
    figure.text(0.02, 0.05, "\n".join(words), fontsize=8, va="top", color=INK, wrap=True)


def _offset_words(about: Mapping[str, Any]) -> str:
    sigma, shared = about.get("axis_offset_sigma_ev"), about.get("soc_systematic")
    said = (
        f"axis offset {about['axis_offset_ev']:+.2f}" + ("" if sigma is None else f" ± {sigma:.2f}") + " eV"
    )
    is_left_in = about.get("parameters", {}).get("axis_offset") == "report"
    said += ", left in" if is_left_in else ", taken out"
    return said if shared is None else f"{said}; uncertainty common to all pixels: {shared:.3f} SOC"


def _progress(figure: Figure, about: Mapping[str, Any], state: str, counted: str) -> None:
    n_frames = about["n_frames"]
    expected = about.get("frames_expected", n_frames)
    done = min(n_frames / max(expected, 1), 1.0)
    axes: Any = figure.add_axes((0.66, 0.945, 0.325, 0.018))
    axes.set_in_layout(False)
    axes.barh([0], [1.0], color="#e6e6e6", height=1)
    axes.barh([0], [done], color=ACCENT if state in ("running", "complete") else SECOND, height=1)
    axes.set(xlim=(0, 1), ylim=(-0.5, 0.5))
    axes.axis("off")
    figure.text(0.985, 0.972, f"{n_frames} of {expected} {counted}, {state}", ha="right", fontsize=9.5)


_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
}
