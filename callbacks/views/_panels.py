"""The panels beside the maps: spectrum, histogram, history and pixels by outcome."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from edge_fitting import FitStatus, ReferenceSeries, fit_stack

from ._colours import ACCENT, INK, SECOND
from ._quantity import Quantity

_MIN_FRAMES_FOR_FIT = 5
_LEAST_RESIDUAL = 1e-3


def draw_spectrum(axes: Axes, result: xr.Dataset) -> None:
    energy, depth = result["energy_ev"].values, result["mean_optical_depth"].values
    axes.set_title("mean spectrum of the fitted pixels", loc="left")
    axes.set_xlabel("photon energy (eV)")
    axes.set_ylabel(str(result.attrs.get("value", "optical depth")))
    if energy.size == 0:
        return
    axes.plot(energy, depth, "o", ms=3.8, color=ACCENT, label=f"{energy.size} energies", zorder=3)
    fitted = mean_fit(result)
    if fitted is not None:
        axes.plot(*fitted, "-", lw=1.3, color=SECOND, label=f"fit, {result.attrs['method']}")
    edge_ev = result["edge_energy_ev"].values if "edge_energy_ev" in result else np.empty(0)
    if np.isfinite(edge_ev).any():
        median = float(np.nanmedian(edge_ev))
        axes.axvline(median, lw=0.9, ls="--", color=INK, label=f"median edge energy {median:.2f} eV")
    # Above the axes: below the curve stands the residual.
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=3, borderpad=0.2, frameon=False)
    axes.margins(x=0.01)
    if "frame_residual_od" in result:
        _draw_residual(axes, result)


def _draw_residual(axes: Axes, result: xr.Dataset) -> None:
    """Draw what the frames have beyond the fit, on a scale of its own."""
    residual, energy = result["frame_residual_od"].values, result["frame_energy_ev"].values
    known = np.flatnonzero(np.isfinite(residual))
    if not known.size:
        return
    known = known[np.argsort(energy[known], kind="stable")]
    highest = max(float(np.abs(residual[known]).max()), _LEAST_RESIDUAL)
    other: Any = axes.twinx()
    other.plot(energy[known], residual[known], "-", lw=0.8, color=INK, alpha=0.6)
    # In the lower quarter, where it does not cross the spectrum.
    other.set_ylim(-1.5 * highest, 8.0 * highest)
    other.set_yticks([-highest, 0.0, highest], [f"{-highest:.1g}", "0", f"{highest:.1g}"])
    other.set_ylabel("residual", loc="bottom")


def mean_fit(result: xr.Dataset) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Return the series fit of the mean spectrum on a fine axis; None where there is none."""
    energy, depth = result["energy_ev"].values, result["mean_optical_depth"].values
    if not result.attrs.get("references") or energy.size < _MIN_FRAMES_FOR_FIT:
        return None
    references = ReferenceSeries.from_dict(result.attrs["references"])
    is_left_in = result.attrs.get("parameters", {}).get("axis_offset", "report") == "report"
    offset_ev = 0.0 if is_left_in else float(result.attrs.get("axis_offset_ev") or 0.0)
    fit = fit_stack(
        energy,
        depth[:, None, None].astype(np.float32),
        edge=result.attrs["edge"],
        method="series",
        references=references,
        axis_offset=offset_ev,
    )
    soc = float(fit.soc[0, 0])
    if not np.isfinite(soc):
        return None
    fine = np.linspace(energy[0], energy[-1], 600)

    def terms(at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        low, high = references.energy_ev[0] - 1.0, references.energy_ev[-1] + 1.0
        moved = at if offset_ev == 0.0 else np.clip(at - offset_ev, low, high)
        line = (at - energy.mean()) / max(float(np.ptp(energy)), 1.0)
        return np.stack(
            [np.ones_like(at), line, np.asarray(references.evaluate(moved, soc)).reshape(-1)], axis=1
        )

    coefficients, *_ = np.linalg.lstsq(terms(energy), depth, rcond=None)
    return fine, terms(fine) @ coefficients


def draw_histogram(axes: Axes, quantity: Quantity, low: float, high: float) -> None:
    finite = quantity.values[np.isfinite(quantity.values)]
    axes.set_xlabel(quantity.axis_label)
    axes.set_ylabel("pixels")
    axes.set_xlim(low, high)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    if not finite.size:
        return
    counts, edges = np.histogram(np.clip(finite, low, high), bins=60, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    colours = mpl.colormaps[quantity.colours]((centres - low) / (high - low))
    bars = axes.bar(centres, counts, width=float(edges[1] - edges[0]), color=colours)
    _mark_clipped(axes, bars, int((finite < low).sum()), int((finite > high).sum()))
    axes.set_ylim(0, 1.25 * max(counts.max(), 1))
    axes.axvline(float(np.median(finite)), color=INK, lw=0.9, ls="--")
    axes.set_title(
        spread_text(finite, 2 if quantity.unit else 3) + (f" {quantity.unit}" if quantity.unit else ""),
        loc="left",
    )


def _mark_clipped(axes: Axes, bars: Any, below: int, above: int) -> None:
    """Hatch the end bins that stand for values beyond the axis as well, and say how many those are."""
    for bar, count, place, words, align in (
        (bars[0], below, 0.02, f"◂ {below} beyond", "left"),
        (bars[-1], above, 0.98, f"{above} beyond ▸", "right"),
    ):
        if count:
            bar.set(hatch="////", edgecolor=INK, linewidth=0.0)
            axes.text(place, 0.97, words, transform=axes.transAxes, ha=align, va="top", fontsize=7.5)


def spread_text(values: npt.NDArray[np.floating[Any]], digits: int) -> str:
    """Median and the range of the central 68 %: what the pixels differ by, which is no error of the median."""
    low, middle, high = np.percentile(values, (15.87, 50.0, 84.13))
    return f"median {middle:.{digits}f}, central 68 % {low:.{digits}f}–{high:.{digits}f}"


def draw_history(axes: Axes, result: xr.Dataset) -> None:
    axes.set_title("median standard deviation", loc="left")
    axes.set_xlabel("frames")
    axes.set_ylabel(_HISTORY_LABELS.get(str(result.attrs["signal"]), "σ"))
    axes.set_xlim(0, max(result.attrs.get("frames_expected", 0), 1))
    frames, sigma = result["history_n_frames"].values, result["history_sigma"].values
    if frames.size:
        axes.plot(frames, sigma, "-", color=ACCENT, lw=1.4)
        axes.plot(frames[-1:], sigma[-1:], "o", color=ACCENT, ms=4)
        axes.set_yscale("log")


def draw_drift(axes: Axes, result: xr.Dataset) -> None:
    """Draw the displacement of the sample in each frame, in the order the frames were taken."""
    order = np.argsort(result["frame_time_s"].values, kind="stable")
    sigma = result["frame_shift_sigma_px"].values[order]
    known = np.where(np.isfinite(sigma), sigma, 0.0)
    for name, colour in (("row", ACCENT), ("column", SECOND)):
        shift = result[f"frame_shift_{name}_px"].values[order]
        axes.fill_between(np.arange(shift.size), shift - known, shift + known, color=colour, alpha=0.25, lw=0)
        axes.plot(np.arange(shift.size), shift, "-", color=colour, lw=1.2, label=f"{name}s")
    axes.set_title("drift taken out (px)", loc="left")
    axes.set_xlabel("frames")
    axes.legend(frameon=False)


_HISTORY_LABELS = {
    "soc": "σ of the state of charge",
    "edge_energy_ev": "σ of the edge energy (eV)",
    "edge_jump": "σ of the edge jump",
}


def draw_pixels(axes: Axes, result: xr.Dataset) -> None:
    counts: Mapping[str, int] = result.attrs["pixels"]
    # The fitted ones on top, then the flagged ones in the order of their codes.
    names = [status.name for status in reversed(FitStatus) if counts.get(status.name)]
    total = max(sum(counts.values()), 1)
    shares = [100 * counts[name] / total for name in names]
    fitted = [FitStatus[name].has_value for name in names]
    axes.barh(names, shares, color=[ACCENT if good else "#9a9a9a" for good in fitted], height=0.7)
    for row, share in enumerate(shares):
        axes.text(min(share, 82) + 1, row, f"{share:.1f} %", va="center", fontsize=7.5)
    axes.set_yticks(range(len(names)), [name.lower().replace("_", " ") for name in names])
    axes.set_xlim(0, 100)
    axes.set_xlabel("pixels (%)")
    axes.set_title("pixels by outcome", loc="left")
