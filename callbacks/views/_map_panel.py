"""A map with its colour bar, scale bar, and why pixels have no value."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from callbacks.techniques import has_value
from edge_fitting import FitStatus

from ._colours import INK
from ._quantity import DIVERGING

# Why a pixel has no value, in colours that no colour map here has: values run from dark blue to yellow, or from blue
# over pale grey to red.
_NO_MATERIAL, _NO_EDGE, _FAILED, _NOT_YET = "no material", "no edge", "failed", "not yet"
_NO_VALUE = {_NO_MATERIAL: "#ececec", _NO_EDGE: "#b3a58c", _FAILED: "#e377a2", _NOT_YET: "#ffffff"}
_NO_VALUE_DIVERGING = {_NO_MATERIAL: "#a9b3a2", _NO_EDGE: "#6f6046", _FAILED: "#111111", _NOT_YET: "#ffffff"}
_LARGEST_SHOWN = 1024


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


def draw_map(
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
        _background(axes, missing, step, extent, _NO_VALUE_DIVERGING if colours == DIVERGING else _NO_VALUE)
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
    draw_scale_bar(axes, values.shape, pixel_size_nm)


def draw_scale_bar(axes: Axes, shape: tuple[int, ...], pixel_size_nm: float | None) -> None:
    """Draw a bar of a round length; none where the size of a pixel is not known."""
    if not pixel_size_nm:
        return
    length_um = scale_bar_um(shape[1] * pixel_size_nm / 1000)
    scale_bar = AnchoredSizeBar(
        axes.transData,
        length_um * 1000 / pixel_size_nm,
        f"{length_um:g} µm" if length_um >= 1 else f"{length_um * 1000:g} nm",
        "lower left",
        pad=0.4,
        sep=4,
        frameon=True,
        size_vertical=max(shape[0] / 120, 1.0),
        color=INK,
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
            handles.append(Patch(facecolor=colours[reason], edgecolor=INK, linewidth=0.4, label=reason))
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
