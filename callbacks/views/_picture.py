"""The picture of a live analysis: maps, histogram, mean spectrum with its fit, and how far the scan is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from callbacks.errors import CallbackError
from callbacks.results import related
from callbacks.techniques import has_value
from edge_fitting import EDGES, FitStatus, ReferenceSeries, fit_stack, recentre_map

from ._lines import draw_lines

FIGURE_SIZE_IN = (13.0, 7.6)

# Why a pixel has no value, in colours that no colour map here has: values run from dark blue to yellow, or from blue
# over pale grey to red.
_NO_MATERIAL, _NO_EDGE, _FAILED, _NOT_YET = "no material", "no edge", "failed", "not yet"
_NO_VALUE = {_NO_MATERIAL: "#ececec", _NO_EDGE: "#b3a58c", _FAILED: "#e377a2", _NOT_YET: "#ffffff"}
_NO_VALUE_DIVERGING = {_NO_MATERIAL: "#a9b3a2", _NO_EDGE: "#6f6046", _FAILED: "#111111", _NOT_YET: "#ffffff"}
_DIVERGING = "coolwarm"
_INK = "#222222"
_ACCENT = "#0072b2"
_SECOND = "#d55e00"
_LARGEST_SHOWN = 1024
_MIN_FRAMES_FOR_FIT = 5
_HALF_WIDTH_EV = 1.5

_SOC_LABEL = "state of charge"

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
        return Quantity(energy, sigma, "edge energy", "eV", 0.5, _DIVERGING, window)
    if shown == "edge_energy_recentred" and np.isfinite(energy).any():
        centred = recentre_map(energy, half_width_ev=_HALF_WIDTH_EV)
        label = f"edge energy − {centred.centre_ev:.2f}"
        limits = (-_HALF_WIDTH_EV, _HALF_WIDTH_EV)
        return Quantity(np.asarray(centred.shift_ev, np.float32), sigma, label, "eV", 0.5, _DIVERGING, limits)
    return Quantity(energy, sigma, "edge energy", "eV", 0.5)


def _signal(result: xr.Dataset, name: str) -> Quantity:
    variable = result[name]
    unit = str(variable.attrs.get("units", ""))
    values = _plane(variable)
    sigma = next((_plane(result[of]) for of in related(result, name, "sigma")), np.full_like(values, np.nan))
    if name == "soc":
        return Quantity(values, sigma, _SOC_LABEL, "", 0.1)
    if name == "edge_jump":
        return Quantity(values, sigma, f"{result.attrs['element']} edge jump", "", 0.05, "inferno")
    return Quantity(values, sigma, name.replace("_", " "), unit, 0.0)


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


def draw(
    figure: Figure,
    result: xr.Dataset,
    shown: Shown = "soc",
    soc_range: tuple[float, float] | None = None,
) -> None:
    """Draw a result onto a figure, replacing what it showed: maps of a signal with two dimensions, else lines."""
    figure.clear()
    with mpl.rc_context(_STYLE):
        figure.set_layout_engine("constrained", rect=(0.01, 0.07, 0.98, 0.84), wspace=0.03, hspace=0.05)
        if result[result.attrs["signal"]].ndim < 2:
            draw_lines(figure, result)
        else:
            _draw_maps(figure, result, shown, soc_range)
        _words(figure, result)


def _draw_maps(
    figure: Figure, result: xr.Dataset, shown: Shown, soc_range: tuple[float, float] | None
) -> None:
    quantity = quantity_of(result, shown)
    if soc_range is not None and quantity.label == _SOC_LABEL:
        quantity = replace(quantity, limits=soc_range)
    missing = reasons(result) if "status" in result else {}
    grid = figure.add_gridspec(3, 3, width_ratios=(1.3, 1.3, 1.0), height_ratios=(1, 1, 0.9))
    pixel_size_nm = result.attrs.get("pixel_size_nm")
    low, high = value_range(quantity)
    _map(
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
    _map(
        figure.add_subplot(grid[:2, 1]),
        quantity.sigma,
        label,
        "cividis",
        (0.0, _upper(quantity.sigma)),
        pixel_size_nm,
        missing,
    )
    _histogram(figure.add_subplot(grid[0, 2]), quantity, low, high)
    if "mean_optical_depth" in result:
        _spectrum(figure.add_subplot(grid[2, :2]), result)
    if "history_sigma" in result:
        _history(figure.add_subplot(grid[1, 2]), result)
    if "pixels" in result.attrs:
        _pixels(figure.add_subplot(grid[2, 2]), result)


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


def reasons(result: xr.Dataset) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the pixels without a value by what they lack, shape (rows, cols) each: of the sample, or of the fit."""
    status, without = result["status"].values, ~has_value(result)
    edgeless = without & np.isin(status, (FitStatus.NO_EDGE, FitStatus.FLAT, FitStatus.INVERTED))
    # Maps written before the result said where material is call such pixels without an edge.
    thin = edgeless & (result["material"].values == 0) if "material" in result else np.zeros_like(edgeless)
    not_yet = without & (status == FitStatus.TOO_FEW_FRAMES)
    return {
        _NO_MATERIAL: thin,
        _NO_EDGE: edgeless & ~thin,
        _FAILED: without & ~edgeless & ~not_yet,
        _NOT_YET: not_yet,
    }


def scale_bar_um(width_um: float) -> float:
    """Return the round length nearest below a quarter of the width of the picture."""
    wanted = width_um / 4
    decade = 10.0 ** np.floor(np.log10(wanted))
    return float(max(step for step in (decade, 2 * decade, 5 * decade) if step <= wanted))


def _upper(sigma: npt.NDArray[np.float32]) -> float:
    finite = sigma[np.isfinite(sigma)]
    return float(np.percentile(finite, 98)) if finite.size else 1.0


def _map(
    axes: Axes,
    values: npt.NDArray[np.float32],
    label: str,
    colours: str,
    limits: tuple[float, float],
    pixel_size_nm: float | None,
    missing: Mapping[str, npt.NDArray[np.bool_]],
) -> None:
    step = max(1, int(np.ceil(max(values.shape) / _LARGEST_SHOWN)))
    extent = (0, values.shape[1], values.shape[0], 0)
    colour_map = mpl.colormaps[colours].with_extremes(bad=(0, 0, 0, 0))
    shown = axes.imshow(
        np.ma.masked_invalid(values[::step, ::step]),
        cmap=colour_map,
        vmin=limits[0],
        vmax=limits[1],
        interpolation="nearest",
        extent=extent,
    )
    if missing:
        _background(axes, missing, step, extent, _NO_VALUE_DIVERGING if colours == _DIVERGING else _NO_VALUE)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(label, loc="left")
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(
        shown, ax=axes, location="bottom", fraction=0.045, pad=0.02, aspect=34, extend=_beyond(values, limits)
    )
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(nbins=5)  # energies are long numbers
    bar.update_ticks()
    if not np.isfinite(values).any():
        axes.text(0.5, 0.5, "no pixel fitted yet", transform=axes.transAxes, ha="center", va="center")
    if pixel_size_nm:
        length_um = scale_bar_um(values.shape[1] * pixel_size_nm / 1000)
        scale_bar = AnchoredSizeBar(
            axes.transData,
            length_um * 1000 / pixel_size_nm,
            f"{length_um:g} µm" if length_um >= 1 else f"{length_um * 1000:g} nm",
            "lower left",
            pad=0.4,
            sep=4,
            frameon=True,
            size_vertical=max(values.shape[0] / 120, 1.0),
            color=_INK,
        )
        scale_bar.patch.set(alpha=0.75, linewidth=0)
        axes.add_artist(scale_bar)


def _background(
    axes: Axes,
    missing: Mapping[str, npt.NDArray[np.bool_]],
    step: int,
    extent: tuple[float, float, float, float],
    colours: Mapping[str, str],
) -> None:
    """Paint the pixels without a value by reason, and say which colour is which."""
    rows, cols = next(iter(missing.values()))[::step, ::step].shape
    image = np.ones((rows, cols, 3), np.float32)
    handles = []
    for reason, where in missing.items():
        if where.any():
            image[where[::step, ::step]] = to_rgb(colours[reason])
            handles.append(Patch(facecolor=colours[reason], edgecolor=_INK, linewidth=0.4, label=reason))
    axes.imshow(image, interpolation="nearest", extent=extent, zorder=-1)
    if handles:
        axes.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(0.0, 0.0), ncols=len(handles), frameon=False,
            borderpad=0.2, handlelength=1.0, handleheight=1.0, columnspacing=1.0,
        )  # fmt: skip


def _beyond(values: npt.NDArray[np.float32], limits: tuple[float, float]) -> str:
    """Say at which ends of the colours values lie beyond them."""
    finite = values[np.isfinite(values)]
    below, above = bool((finite < limits[0]).any()), bool((finite > limits[1]).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[
        below, above
    ]


def _spectrum(axes: Axes, result: xr.Dataset) -> None:
    energy, depth = result["energy_ev"].values, result["mean_optical_depth"].values
    axes.set_title("mean spectrum of the fitted pixels", loc="left")
    axes.set_xlabel("photon energy (eV)")
    axes.set_ylabel("optical depth")
    if energy.size == 0:
        return
    axes.plot(energy, depth, "o", ms=3.8, color=_ACCENT, label=f"{energy.size} energies", zorder=3)
    fitted = mean_fit(result)
    if fitted is not None:
        axes.plot(*fitted, "-", lw=1.3, color=_SECOND, label=f"fit, {result.attrs['method']}")
    edge_ev = result["edge_energy_ev"].values
    if np.isfinite(edge_ev).any():
        median = float(np.nanmedian(edge_ev))
        axes.axvline(median, lw=0.9, ls="--", color=_INK, label=f"median edge energy {median:.2f} eV")
    axes.legend(loc="lower right", frameon=False)
    axes.margins(x=0.01)


def mean_fit(result: xr.Dataset) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Return the series fit of the mean spectrum on a fine axis; None where there is none."""
    energy, depth = result["energy_ev"].values, result["mean_optical_depth"].values
    if not result.attrs.get("references") or energy.size < _MIN_FRAMES_FOR_FIT:
        return None
    references = ReferenceSeries.from_dict(result.attrs["references"])
    fit = fit_stack(
        energy,
        depth[:, None, None].astype(np.float32),
        edge=result.attrs["edge"],
        method="series",
        references=references,
    )
    soc = float(fit.soc[0, 0])
    if not np.isfinite(soc):
        return None
    fine = np.linspace(energy[0], energy[-1], 600)

    def terms(at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        line = (at - energy.mean()) / max(float(np.ptp(energy)), 1.0)
        return np.stack(
            [np.ones_like(at), line, np.asarray(references.evaluate(at, soc)).reshape(-1)], axis=1
        )

    coefficients, *_ = np.linalg.lstsq(terms(energy), depth, rcond=None)
    return fine, terms(fine) @ coefficients


def _histogram(axes: Axes, quantity: Quantity, low: float, high: float) -> None:
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
    axes.axvline(float(np.median(finite)), color=_INK, lw=0.9, ls="--")
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
            bar.set(hatch="////", edgecolor=_INK, linewidth=0.0)
            axes.text(place, 0.97, words, transform=axes.transAxes, ha=align, va="top", fontsize=7.5)


def spread_text(values: npt.NDArray[np.floating[Any]], digits: int) -> str:
    """Median and the range of the central 68 %: what the pixels differ by, which is no error of the median."""
    low, middle, high = np.percentile(values, (15.87, 50.0, 84.13))
    return f"median {middle:.{digits}f}, central 68 % {low:.{digits}f}–{high:.{digits}f}"


def _history(axes: Axes, result: xr.Dataset) -> None:
    axes.set_title("median standard deviation", loc="left")
    axes.set_xlabel("frames")
    axes.set_ylabel(_HISTORY_LABELS.get(str(result.attrs["signal"]), "σ"))
    axes.set_xlim(0, max(result.attrs.get("frames_expected", 0), 1))
    frames, sigma = result["history_n_frames"].values, result["history_sigma"].values
    if frames.size:
        axes.plot(frames, sigma, "-", color=_ACCENT, lw=1.4)
        axes.plot(frames[-1:], sigma[-1:], "o", color=_ACCENT, ms=4)
        axes.set_yscale("log")


_HISTORY_LABELS = {
    "soc": "σ of the state of charge",
    "edge_energy_ev": "σ of the edge energy (eV)",
    "edge_jump": "σ of the edge jump",
}


def _pixels(axes: Axes, result: xr.Dataset) -> None:
    counts: Mapping[str, int] = result.attrs["pixels"]
    # The fitted ones on top, then the flagged ones in the order of their codes.
    names = [status.name for status in reversed(FitStatus) if counts.get(status.name)]
    total = max(sum(counts.values()), 1)
    shares = [100 * counts[name] / total for name in names]
    fitted = [FitStatus[name].has_value for name in names]
    axes.barh(names, shares, color=[_ACCENT if good else "#9a9a9a" for good in fitted], height=0.7)
    for row, share in enumerate(shares):
        axes.text(min(share, 82) + 1, row, f"{share:.1f} %", va="center", fontsize=7.5)
    axes.set_yticks(range(len(names)), [name.lower().replace("_", " ") for name in names])
    axes.set_xlim(0, 100)
    axes.set_xlabel("pixels (%)")
    axes.set_title("pixels by outcome", loc="left")


def _words(figure: Figure, result: xr.Dataset) -> None:
    about = result.attrs
    if not about.get("final"):
        state = "running"
    elif about.get("complete", True) and about.get("exit_status", "success") == "success":
        state = "complete"
    else:
        state = f"partial ({about.get('exit_status')})"
    edge = EDGES.get(about.get("edge", ""))
    what = f"{edge.element} {edge.level} edge" if edge is not None else str(about.get("technique", ""))
    figure.text(
        0.02,
        0.945,
        f"{what}   run {about['raw_uid'][:8]}   {about.get('sample', '')}",
        fontsize=13,
        weight="bold",
    )
    if about.get("time"):
        when = datetime.fromtimestamp(about["time"]).astimezone()
        said = f"last frame {when:%Y-%m-%d %H:%M:%S %Z}"
        figure.text(0.64, 0.948, said, fontsize=8, ha="right", color=_INK)
    if "n_frames" in about:
        _progress(figure, about, state)
    words = [f"edge energy: {about['definition']}"] if "definition" in about else []
    if about.get("warnings"):
        words.append("; ".join(about["warnings"][:2]))
    figure.text(0.02, 0.05, "\n".join(words), fontsize=8, va="top", color=_INK, wrap=True)


def _progress(figure: Figure, about: Mapping[str, Any], state: str) -> None:
    n_frames = about["n_frames"]
    expected = about.get("frames_expected", n_frames)
    done = min(n_frames / max(expected, 1), 1.0)
    axes: Any = figure.add_axes((0.66, 0.945, 0.325, 0.018))
    axes.set_in_layout(False)
    axes.barh([0], [1.0], color="#e6e6e6", height=1)
    axes.barh([0], [done], color=_ACCENT if state in ("running", "complete") else _SECOND, height=1)
    axes.set(xlim=(0, 1), ylim=(-0.5, 0.5))
    axes.axis("off")
    figure.text(0.985, 0.972, f"{n_frames} of {expected} frames, {state}", ha="right", fontsize=9.5)


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
