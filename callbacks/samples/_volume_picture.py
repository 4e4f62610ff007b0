"""Picture of a volume: rendering, slices with cracks, state of charge by depth, damage by place."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from callbacks.publish import replacing

from ._volume import AXES
from ._volume_rendering import render_volume

# Least, mild, severe.
_DAMAGE = np.array([[0.30, 0.62, 0.86], [0.98, 0.75, 0.35], [0.85, 0.29, 0.26]])
_NAMES = ("least", "mild", "severe")
_CRACKS = {1: "wide crack or pore", 2: "fine crack"}
_CRACK_COLOURS = {1: (1.0, 0.25, 0.2), 2: (1.0, 0.85, 0.1)}


def draw_volume(volume: xr.Dataset, path: Path | str, value_range: tuple[float, float] | None = None) -> Path:
    """Draw what the analysis of a volume found.

    Parameters
    ----------
    volume : xarray.Dataset
        Of `analyse_volume`.
    path : Path or str
        PNG to write, replaced as a whole.
    value_range : (float, float), optional
        Colours of the state of charge.

    Raises
    ------
    ExportError
        It cannot be written.
    """
    figure = Figure(figsize=(15.5, 8.2), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 4)
    shown = volume["soc"].values if "soc" in volume else volume["density"].values
    inside = np.where(volume["particle_label_map"].values > 0, shown, np.nan).astype(np.float32)
    finite = inside[np.isfinite(inside)]
    low, high = np.percentile(finite, (2.0, 98.0)) if finite.size else (0.0, 1.0)
    limits: tuple[float, float] = value_range or (float(low), float(high))
    _draw_rendering(axes[0, 0], volume, inside, limits)
    places = [_fullest(volume["particle_label_map"].values, axis) for axis in range(3)]
    for axis in range(3):
        _draw_slice(axes[0, 1 + axis], volume, axis, places[axis])
    _draw_quantity(figure, axes[1, 0], volume, inside, limits, places[0])
    if "soc" in volume:
        _draw_depth(axes[1, 1], volume)
        _draw_zones(axes[1, 2], volume)
    else:
        _draw_values(axes[1, 1], volume["particle_diameter_um"].values, "diameter (µm)", "sizes")
        share = 100.0 * volume["particle_crack_share"].values
        _draw_values(axes[1, 2], share, "crack share (%)", "cracks and pores")
    _draw_damage(axes[1, 3], volume)
    if volume.attrs["source"]:
        figure.suptitle(str(volume.attrs["source"]), fontsize=10, x=0.01, ha="left")
    return replacing(Path(path), lambda unfinished: figure.savefig(unfinished, format="png"))


def _fullest(labels: npt.NDArray[np.int32], axis: int) -> int:
    """Return the slice with the most particle."""
    return int(np.count_nonzero(labels, axis=tuple(other for other in range(3) if other != axis)).argmax())


def _taken(array: npt.NDArray[Any], axis: int, place: int) -> npt.NDArray[Any]:
    return np.asarray(np.take(array, place, axis=axis))


def _extent(volume: xr.Dataset, axis: int) -> tuple[float, float, float, float]:
    voxel_um = float(volume.attrs["voxel_size_nm"]) / 1000.0
    down, right = (
        volume["particle_label_map"].shape[other] * voxel_um for other in range(3) if other != axis
    )
    return 0.0, right, down, 0.0


def _draw_rendering(
    axes: Axes, volume: xr.Dataset, inside: npt.NDArray[np.float32], limits: tuple[float, float]
) -> None:
    colours = np.full((int(volume["particle_label_map"].values.max()) + 1, 3), 0.6)
    colours[volume["particle_label"].values] = _DAMAGE[volume["particle_damage"].values]
    picture = render_volume(
        volume["particle_label_map"].values, volume["crack"].values, inside, colours, limits
    )
    axes.imshow(picture, interpolation="bilinear")
    axes.axis("off")
    counts = np.bincount(volume["particle_damage"].values, minlength=3)
    handles = [
        Patch(color=tuple(colour), label=f"{name}: {count}")
        for colour, name, count in zip(_DAMAGE, _NAMES, counts, strict=True)
    ]
    axes.legend(
        handles=handles, loc="upper center", ncols=3, fontsize=8, frameon=False, bbox_to_anchor=(0.5, 0.02)
    )
    axes.set_title(f"{volume.sizes['particle']} particles by damage", fontsize=10)


def _draw_slice(axes: Axes, volume: xr.Dataset, axis: int, place: int) -> None:
    density = _taken(volume["density"].values, axis, place)
    low, high = volume.attrs["void_level"], volume.attrs["solid_level"]
    margin = 0.25 * (high - low)
    extent = _extent(volume, axis)
    axes.imshow(
        density, cmap="gray", vmin=low - margin, vmax=high + margin, extent=extent, interpolation="nearest"
    )
    labels = _taken(volume["particle_label_map"].values, axis, place)
    kind = _taken(volume["crack"].values, axis, place)
    over = np.zeros((*kind.shape, 4))
    for code, colour in _CRACK_COLOURS.items():
        over[kind == code] = (*colour, 0.8)
    border = np.zeros(labels.shape, dtype=bool)
    border[1:] |= labels[1:] != labels[:-1]
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    over[border] = (0.1, 0.75, 0.9, 1.0)
    axes.imshow(over, extent=extent, interpolation="nearest")
    down, right = (AXES[other] for other in range(3) if other != axis)
    axes.set(xlabel=f"{right} (µm)", ylabel=f"{down} (µm)")
    axes.set_title(f"density, {AXES[axis]} {place}", fontsize=10)
    if axis == 0:
        handles = [Patch(color=_CRACK_COLOURS[code], label=name) for code, name in _CRACKS.items()]
        axes.legend(handles=handles, fontsize=7, loc="upper right", framealpha=0.8)


def _draw_quantity(
    figure: Figure,
    axes: Axes,
    volume: xr.Dataset,
    inside: npt.NDArray[np.float32],
    limits: tuple[float, float],
    place: int,
) -> None:
    picture = axes.imshow(
        _taken(inside, 0, place),
        vmin=limits[0],
        vmax=limits[1],
        extent=_extent(volume, 0),
        interpolation="nearest",
    )
    name = "state of charge" if "soc" in volume else "density"
    figure.colorbar(picture, ax=axes, label=name, shrink=0.8)
    axes.set(xlabel="column (µm)", ylabel="row (µm)")
    axes.set_title(f"{name}, plane {place}", fontsize=10)


def _draw_depth(axes: Axes, volume: xr.Dataset) -> None:
    depth = volume["depth_um"].values
    bulk = volume["particle_soc_bulk"].values
    for profile, own in zip(volume["soc_by_depth"].values, bulk, strict=True):
        axes.plot(depth, profile - own, color="0.75", lw=0.6)
    mean, error = (volume[f"depth_soc_less_bulk{suffix}"].values for suffix in ("", "_sigma"))
    axes.errorbar(depth, mean, error, fmt="o", ms=3.5, color="C0")
    axes.set(xlabel="depth below the surface (µm)", ylabel="state of charge less bulk")
    axes.set_title("by depth: each particle, and their mean", fontsize=10)


def _draw_zones(axes: Axes, volume: xr.Dataset) -> None:
    for offset, zone, name in ((-0.12, "surface", "surface"), (0.12, "crack", "cracks")):
        values, errors = (
            volume[f"particle_soc_{zone}_minus_bulk{suffix}"].values for suffix in ("", "_sigma")
        )
        axes.errorbar(
            volume["particle_label"].values + offset,
            values,
            errors,
            fmt="o",
            ms=3.5,
            label=f"{name} less bulk",
        )
    axes.axhline(0.0, lw=0.8, color="black")
    axes.set(xlabel="particle", ylabel="state of charge")
    axes.legend(fontsize=8, frameon=False)
    axes.set_title("at the surface and at cracks", fontsize=10)


def _draw_values(axes: Axes, values: npt.NDArray[np.float64], label: str, title: str) -> None:
    axes.hist(values[np.isfinite(values)], bins=20, color="C0")
    axes.set(xlabel=label, ylabel="particles")
    axes.set_title(title, fontsize=10)


def _draw_damage(axes: Axes, volume: xr.Dataset) -> None:
    depth, share = volume["particle_plane_um"].values, volume["particle_crack_share"].values
    for code, (name, colour) in enumerate(zip(_NAMES, _DAMAGE, strict=True)):
        own = volume["particle_damage"].values == code
        if own.any():
            axes.errorbar(
                depth[own],
                100.0 * share[own],
                100.0 * volume["particle_crack_share_sigma"].values[own],
                fmt="o",
                ms=4,
                color=tuple(colour),
                label=name,
            )
    for limit in volume.attrs["damage_limits"]:
        axes.axhline(100.0 * limit, lw=0.8, ls=":", color="0.4")
    own = volume["bin_axis"].values == 0
    low, high = volume["bin_low_um"].values[own], volume["bin_high_um"].values[own]
    mean = 100.0 * volume["bin_crack_share"].values[own]
    axes.hlines(mean, low, high, color="black", lw=1.2, label="mean by volume")
    axes.set(xlabel="plane (µm)", ylabel="crack share (%)")
    axes.legend(fontsize=8, frameon=False)
    axes.set_title("damage through the volume", fontsize=10)
