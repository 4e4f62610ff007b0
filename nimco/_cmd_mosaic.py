"""`nimco mosaic`: the tiles of a sample larger than the field of view as one map."""

from contextlib import ExitStack
from pathlib import Path

import xarray as xr
from rich.console import Console
from rich.table import Table

from callbacks import draw_mosaic, stitch_mosaic, stored_fields
from nimco._derived_results import publish_derived
from nimco._soc_range import parse_soc_range
from nimco._stopping import ended_by_signal
from nimco._stored_data import stored_data
from nimco.errors import NimcoError

CONTAINER = "mosaics"
"""Where mosaics are in Tiled."""


def mosaic(
    *,
    runs: list[str],
    edge: str | None,
    reach: float | None,
    plot: Path | None,
    soc_range: str | None,
    publish: bool,
    tiled: str | None,
    api_key_file: Path | None,
    data_dir: Path,
) -> None:
    """Stitch stored maps of tiles; publish the whole, print where the tiles lie, and draw it."""
    if reach is not None and not reach > 0:
        raise NimcoError(f"--reach is a positive number of um, not {reach:g}.")
    limits = parse_soc_range(soc_range)
    console = Console()
    done: list[str] = []
    with (
        ended_by_signal(lambda: f"written so far: {', '.join(done) or 'nothing'}"),
        ExitStack() as closing,
    ):
        client = stored_data(closing, tiled, api_key_file, data_dir)
        whole = stitch_mosaic(stored_fields(client, runs, edge=edge), reach_um=reach)
        console.print(tile_table(whole))
        for warning in whole.attrs["warnings"]:
            console.print(warning, highlight=False)
        if publish:
            done.append(publish_derived(client, CONTAINER, whole))
        if plot is not None:
            done.append(str(draw_mosaic(whole, plot, limits if whole.attrs["signal"] == "soc" else None)))
    for path in done:
        console.print(path, highlight=False, soft_wrap=True)


def tile_table(whole: xr.Dataset) -> Table:
    """Build the table: one line a tile."""
    digits = 4 if whole.attrs["signal"] == "soc" else 3
    size = f"{whole.sizes['row']} x {whole.sizes['column']} px"
    tiles = f"{whole.sizes['tile']} tile" + ("s" if whole.sizes["tile"] > 1 else "")
    title = f"{str(whole.attrs['edge']).replace('_', ' ')}: {tiles}, {size}"
    shown = Table(title=title, title_justify="left")
    for head in (
        "run",
        "place (px)",
        "beside motors (px)",
        "neighbours",
        "off at most (px)",
        "above the others",
    ):
        shown.add_column(head, justify="right", no_wrap=head == "above the others")
    for k, uid in enumerate(whole.attrs["raw_uids"]):
        held = {
            name: float(whole[f"tile_{name}"].values[k])
            for name in (
                "row_px",
                "column_px",
                "moved_row_px",
                "moved_column_px",
                "residual_px",
                "step",
                "step_sigma",
            )
        }
        shown.add_row(
            str(uid)[:8],
            f"{held['row_px']:.1f}, {held['column_px']:.1f}",
            f"{held['moved_row_px']:+.1f}, {held['moved_column_px']:+.1f}",
            str(int(whole["tile_neighbours"].values[k])),
            "" if held["residual_px"] != held["residual_px"] else f"{held['residual_px']:.2f}",
            ""
            if held["step"] != held["step"]
            else f"{held['step']:+.{digits}f} ± {held['step_sigma']:.{digits}f}",
        )
    return shown
