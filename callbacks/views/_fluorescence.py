"""Panels of fluorescence: the summed spectrum with its fit, and a small map of each element."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from ._colours import ACCENT, INK, SECOND

_MOST_SHOWN = 4


def draw_summed_spectrum(axes: Axes, result: xr.Dataset) -> None:
    """Draw the sum of all spectra, its fit, and the background in that."""
    energy_kev = result["channel_ev"].values / 1000.0
    axes.semilogy(
        energy_kev, np.maximum(result["summed_spectrum"].values, 0.5), color=INK, lw=0.9, label="sum"
    )
    axes.semilogy(energy_kev, np.maximum(result["summed_fit"].values, 0.5), color=ACCENT, lw=1.1, label="fit")
    background = np.maximum(result["summed_background"].values, 0.5)
    axes.semilogy(energy_kev, background, color=SECOND, lw=1.0, label="background")
    axes.set(xlabel="energy (keV)", ylabel="counts", xlim=(energy_kev[0], energy_kev[-1]))
    axes.legend(frameon=False, ncols=3, loc="upper left")
    axes.set_title("all spectra", loc="left")


def draw_elements(figure: Any, place: Any, result: xr.Dataset) -> None:
    """Draw a small map of each of the first elements."""
    names = list(result.attrs["elements"])[:_MOST_SHOWN]
    parts = place.subgridspec((len(names) + 1) // 2, 2)
    for k, name in enumerate(names):
        axes = figure.add_subplot(parts[k // 2, k % 2])
        values = result["element_counts"].values[k]
        axes.imshow(np.ma.masked_invalid(values), cmap="inferno", interpolation="nearest", vmin=0)
        top = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
        axes.set_title(f"{name}, to {top:,.0f} counts", loc="left", fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
