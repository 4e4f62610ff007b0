"""The picture of a live analysis: maps, histogram, mean spectrum with its fit, and how far the scan is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from callbacks._update import SOCUpdate
from edge_fitting import EDGES, FitStatus, fit_stack, recentre_map

FIGURE_SIZE_IN = (13.0, 7.6)

_NO_VALUE = "#c9c9c9"
# Darker than the pale middle of the blue-red map.
_NO_VALUE_DIVERGING = "#8c8c8c"
_DIVERGING = "coolwarm"
_INK = "#222222"
_ACCENT = "#0072b2"
_SECOND = "#d55e00"
_LARGEST_SHOWN = 1024
_MIN_FRAMES_FOR_FIT = 5
_HALF_WIDTH_EV = 1.5

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


def quantity_of(update: SOCUpdate, shown: Shown = "soc") -> Quantity:
    """Return what the large map shows: the state of charge where it was fitted, else the edge energy."""
    maps = update.maps
    if shown == "soc" and update.references is not None:
        return Quantity(maps.soc, maps.soc_sigma, "state of charge", "", 0.1)
    energy, sigma = maps.edge_energy_ev, maps.edge_energy_sigma_ev
    if shown == "edge_energy":
        # Blue is reduced and red oxidised, over the range in which the edge is looked for.
        window = EDGES[update.edge].half_jump_window_ev
        return Quantity(energy, sigma, "edge energy", "eV", 0.5, _DIVERGING, window)
    if shown == "edge_energy_recentred" and np.isfinite(energy).any():
        centred = recentre_map(energy, half_width_ev=_HALF_WIDTH_EV)
        label = f"edge energy − {centred.centre_ev:.2f}"
        limits = (-_HALF_WIDTH_EV, _HALF_WIDTH_EV)
        return Quantity(np.asarray(centred.shift_ev, np.float32), sigma, label, "eV", 0.5, _DIVERGING, limits)
    return Quantity(energy, sigma, "edge energy", "eV", 0.5)


def draw(figure: Figure, update: SOCUpdate, shown: Shown = "soc") -> None:
    """Draw an update onto a figure, replacing what it showed."""
    figure.clear()
    with mpl.rc_context(_STYLE):
        quantity = quantity_of(update, shown)
        figure.set_layout_engine("constrained", rect=(0.01, 0.07, 0.98, 0.84), wspace=0.03, hspace=0.05)
        grid = figure.add_gridspec(3, 3, width_ratios=(1.3, 1.3, 1.0), height_ratios=(1, 1, 0.9))
        pixel_size_nm = update.xanes.get("pixel_size_nm")
        value_axes = figure.add_subplot(grid[:2, 0])
        sigma_axes = figure.add_subplot(grid[:2, 1])
        low, high = value_range(quantity)
        _map(value_axes, quantity.values, quantity.axis_label, quantity.colours, (low, high), pixel_size_nm)
        of = quantity.label.split(" − ")[0]
        label = f"standard deviation of the {of}" + (f" ({quantity.unit})" if quantity.unit else "")
        _map(sigma_axes, quantity.sigma, label, "cividis", (0.0, _upper(quantity.sigma)), pixel_size_nm)
        _spectrum(figure.add_subplot(grid[2, :2]), update)
        _histogram(figure.add_subplot(grid[0, 2]), quantity, low, high)
        _history(figure.add_subplot(grid[1, 2]), update)
        _pixels(figure.add_subplot(grid[2, 2]), update)
        _words(figure, update)


def value_range(quantity: Quantity) -> tuple[float, float]:
    """Return the range of the colours: the middle 98 % of the values, never narrower than what is worth seeing."""
    if quantity.limits is not None:
        return quantity.limits
    finite = quantity.values[np.isfinite(quantity.values)]
    if not finite.size:
        return (0.0, 1.0) if not quantity.unit else (0.0, quantity.spread)
    low, high = (float(value) for value in np.percentile(finite, (1, 99)))
    if high - low < quantity.spread:
        middle = (low + high) / 2
        low, high = middle - quantity.spread / 2, middle + quantity.spread / 2
    step = quantity.spread / 2
    return float(np.floor(low / step) * step), float(np.ceil(high / step) * step)


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
) -> None:
    step = max(1, int(np.ceil(max(values.shape) / _LARGEST_SHOWN)))
    colour_map = mpl.colormaps[colours].with_extremes(
        bad=_NO_VALUE_DIVERGING if colours == _DIVERGING else _NO_VALUE
    )
    shown = axes.imshow(
        np.ma.masked_invalid(values[::step, ::step]),
        cmap=colour_map,
        vmin=limits[0],
        vmax=limits[1],
        interpolation="nearest",
        extent=(0, values.shape[1], values.shape[0], 0),
    )
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


def _beyond(values: npt.NDArray[np.float32], limits: tuple[float, float]) -> str:
    """Say at which ends of the colours values lie beyond them."""
    finite = values[np.isfinite(values)]
    below, above = bool((finite < limits[0]).any()), bool((finite > limits[1]).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[
        below, above
    ]


def _spectrum(axes: Axes, update: SOCUpdate) -> None:
    energy, depth = update.mean_energy_ev, update.mean_od
    axes.set_title("mean spectrum of the fitted pixels", loc="left")
    axes.set_xlabel("photon energy (eV)")
    axes.set_ylabel("optical depth")
    if energy.size == 0:
        return
    axes.plot(energy, depth, "o", ms=3.8, color=_ACCENT, label=f"{energy.size} energies", zorder=3)
    fitted = mean_fit(update)
    if fitted is not None:
        axes.plot(*fitted, "-", lw=1.3, color=_SECOND, label=f"fit, {update.maps.method}")
    edge_ev = update.maps.edge_energy_ev
    if np.isfinite(edge_ev).any():
        median = float(np.nanmedian(edge_ev))
        axes.axvline(median, lw=0.9, ls="--", color=_INK, label=f"median edge energy {median:.2f} eV")
    axes.legend(loc="lower right", frameon=False)
    axes.margins(x=0.01)


def mean_fit(update: SOCUpdate) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Return the series fit of the mean spectrum on a fine axis; None where there is none."""
    energy, depth, references = update.mean_energy_ev, update.mean_od, update.references
    if references is None or energy.size < _MIN_FRAMES_FOR_FIT:
        return None
    fit = fit_stack(
        energy,
        depth[:, None, None].astype(np.float32),
        edge=update.edge,
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
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlim(low, high)
    if not finite.size:
        return
    counts, edges = np.histogram(np.clip(finite, low, high), bins=60, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    colours = mpl.colormaps[quantity.colours]((centres - low) / (high - low))
    axes.bar(centres, counts, width=float(edges[1] - edges[0]), color=colours)
    median = float(np.median(finite))
    spread = float(np.subtract(*np.percentile(finite, (84.13, 15.87)))) / 2
    axes.axvline(median, color=_INK, lw=0.9, ls="--")
    axes.set_title(
        f"median {median:.3f} ± {spread:.3f}"
        if not quantity.unit
        else f"median {median:.2f} ± {spread:.2f} eV",
        loc="left",
    )


def _history(axes: Axes, update: SOCUpdate) -> None:
    axes.set_title("median standard deviation", loc="left")
    axes.set_xlabel("frames")
    axes.set_ylabel("σ of the edge energy (eV)" if update.references is None else "σ of the state of charge")
    axes.set_xlim(0, max(update.frames_expected, 1))
    if update.history.size:
        frames, sigma = update.history.T
        axes.plot(frames, sigma, "-", color=_ACCENT, lw=1.4)
        axes.plot(frames[-1:], sigma[-1:], "o", color=_ACCENT, ms=4)
        axes.set_yscale("log")


def _pixels(axes: Axes, update: SOCUpdate) -> None:
    counts: Mapping[str, int] = update.maps.counts()
    names = sorted(counts, key=lambda name: counts[name])
    total = max(sum(counts.values()), 1)
    shares = [100 * counts[name] / total for name in names]
    fitted = [FitStatus[name].has_value for name in names]
    axes.barh(names, shares, color=[_ACCENT if good else "#9a9a9a" for good in fitted], height=0.7)
    for row, share in enumerate(shares):
        axes.text(min(share, 82) + 1, row, f"{share:.1f} %", va="center", fontsize=7.5)
    axes.set_yticks(range(len(names)), [name.lower().replace("_", " ") for name in names])
    axes.set_xlim(0, 100)
    axes.set_xlabel("pixels (%)")
    axes.set_title("what became of the pixels", loc="left")


def _words(figure: Figure, update: SOCUpdate) -> None:
    edge = EDGES[update.edge]
    name = update.start.get("sample") or update.start.get("plan_name", "")
    if isinstance(name, Mapping):
        name = name.get("name", "")
    if not update.final:
        state = "running"
    elif update.complete and update.exit_status == "success":
        state = "complete"
    else:
        state = f"partial ({update.exit_status})"
    figure.text(
        0.02,
        0.945,
        f"{edge.element} {edge.level} edge   run {update.raw_uid[:8]}   {name}",
        fontsize=13,
        weight="bold",
    )
    _progress(figure, update, state)
    words = f"edge energy: {update.maps.definition}"
    if update.warnings:
        words += "\n" + "; ".join(update.warnings[:2])
    figure.text(0.02, 0.05, words, fontsize=8, va="top", color=_INK, wrap=True)


def _progress(figure: Figure, update: SOCUpdate, state: str) -> None:
    done = min(update.frames_done / max(update.frames_expected, 1), 1.0)
    axes: Any = figure.add_axes((0.66, 0.945, 0.325, 0.018))
    axes.set_in_layout(False)
    axes.barh([0], [1.0], color="#e6e6e6", height=1)
    axes.barh([0], [done], color=_ACCENT if state in ("running", "complete") else _SECOND, height=1)
    axes.set(xlim=(0, 1), ylim=(-0.5, 0.5))
    axes.axis("off")
    figure.text(
        0.985,
        0.972,
        f"{update.frames_done} of {update.frames_expected} frames, {state}",
        ha="right",
        fontsize=9.5,
    )


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
