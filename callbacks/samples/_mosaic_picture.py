"""Picture of a mosaic: its map, its sigma, and where the tiles lie."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from callbacks.publish import replacing

from ._comparison_picture import LABELS

_SIGMA = {"soc": "soc_sigma", "edge_energy_ev": "edge_energy_sigma_ev"}


def draw_mosaic(mosaic: xr.Dataset, path: Path | str, value_range: tuple[float, float] | None = None) -> Path:
    """Draw a mosaic with its sigma and the outlines of its tiles.

    Parameters
    ----------
    mosaic : xarray.Dataset
        Of `stitch_mosaic`.
    path : Path or str
        PNG to write, replaced as a whole.
    value_range : (float, float), optional
        Of the colours.

    Raises
    ------
    ExportError
        It cannot be written.
    """
    signal = str(mosaic.attrs["signal"])
    values, sigma = mosaic[signal].values, mosaic[_SIGMA[signal]].values
    rows, columns = mosaic["row"].values, mosaic["column"].values
    pixel = float(mosaic.attrs["pixel_size_nm"]) / 1000.0
    extent = (columns[0] - pixel / 2, columns[-1] + pixel / 2, rows[-1] + pixel / 2, rows[0] - pixel / 2)
    figure = Figure(
        figsize=(10.5, 1.2 + 4.6 * min(max(len(rows) / len(columns), 0.4), 2.0)),
        dpi=120,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    finite = values[np.isfinite(values)]
    low, high = value_range or tuple(np.percentile(finite, (1.0, 99.0)) if finite.size else (0.0, 1.0))
    for axes, shown, limits, label, colours in (
        (left, values, (low, high), LABELS[signal], "viridis"),
        (
            right,
            sigma,
            (0.0, float(np.nanpercentile(sigma, 98)) if finite.size else 1.0),
            f"sigma of the {LABELS[signal]}",
            "magma",
        ),
    ):
        picture = axes.imshow(
            shown, extent=extent, vmin=limits[0], vmax=limits[1], cmap=colours, interpolation="nearest"
        )
        figure.colorbar(picture, ax=axes, label=label, shrink=0.8)
        axes.set_xlabel("column (µm)")
    left.set_ylabel("row (µm)")
    size = np.array(mosaic.attrs["tile_shape"]) * pixel
    for row, column in zip(mosaic["tile_row_px"].values, mosaic["tile_column_px"].values, strict=True):
        corner = (extent[0] + column * pixel, extent[3] + row * pixel)
        right.add_patch(Rectangle(corner, size[1], size[0], fill=False, ec="C0", lw=0.8))
    left.set_title(
        f"{mosaic.attrs['edge'].replace('_', ' ')}, {mosaic.sizes['tile']} tiles", loc="left", fontsize=9
    )
    return replacing(Path(path), lambda unfinished: figure.savefig(unfinished, format="png"))
