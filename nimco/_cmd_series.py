"""`nimco series`: state of charge over time, of maps, particles and regions."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from rich.console import Console
from rich.table import Table

from callbacks import draw_series, follow_series, series_table, stored_fields
from callbacks.publish import replacing
from callbacks.samples import time_unit
from nimco._charging import Charging, join_and_say
from nimco._derived_results import publish_derived
from nimco._soc_range import parse_soc_range
from nimco._stopping import ended_by_signal
from nimco._stored_data import stored_data
from nimco.errors import NimcoError
from nimco.monitor import RegionError, stored_regions

CONTAINER = "series"
"""Where series are in Tiled."""


def series(
    *,
    runs: list[str],
    sample: list[str],
    edge: str | None,
    plot: Path | None,
    table: Path | None,
    soc_range: str | None,
    charging: Charging,
    publish: bool,
    tiled: str | None,
    api_key_file: Path | None,
    data_dir: Path,
) -> None:
    """Follow stored maps over time; publish the stack, print what was found, write picture and table."""
    if not runs and not sample:
        raise NimcoError("Say what to follow: a series_group, uids of runs, or --sample NAME.")
    limits = parse_soc_range(soc_range)
    cycler = charging.read()
    console = Console()
    done: list[str] = []
    with (
        ended_by_signal(lambda: f"written so far: {', '.join(done) or 'nothing'}"),
        ExitStack() as closing,
    ):
        client = stored_data(closing, tiled, api_key_file, data_dir)
        regions: dict[str, Mapping[str, npt.NDArray[np.bool_]]] = {}

        def with_regions(result: xr.Dataset) -> xr.Dataset:
            uid = str(result.attrs["raw_uid"])
            regions[uid] = _masks(client, result, console)
            return result

        found = follow_series(
            map(with_regions, stored_fields(client, runs, samples=sample, edge=edge)), regions=regions
        )
        for one in found:
            console.print(series_summary(one))
            for warning in one.attrs["warnings"]:
                console.print(warning, highlight=False)
        tables = [series_table(one) for one in found]
        if cycler is not None:
            for number, one in enumerate(found):
                place = charging.plot
                if place is not None and len(found) > 1:
                    place = place.with_stem(f"{place.stem}-{number}")
                joined, calibration = join_and_say(one, cycler, charging, console, place)
                tables[number] = tables[number].merge(joined, on="time_s", how="left")
                if calibration is not None:
                    tables[number]["calibrated"] = tables[number]["value"] + calibration.offset
                    tables[number]["calibrated_sigma"] = np.hypot(
                        tables[number]["sigma"], calibration.offset_sigma
                    )
                if place is not None:
                    done.append(str(place))
        if publish:
            done += [publish_derived(client, CONTAINER, one) for one in found]
        if plot is not None:
            done.append(str(draw_series(found, plot, limits)))
        if table is not None:
            rows = pd.concat(tables, ignore_index=True)
            done.append(str(replacing(table, lambda unfinished: rows.to_csv(unfinished, index=False))))
    for path in done:
        console.print(path, highlight=False, soft_wrap=True)


def series_summary(one: xr.Dataset) -> Table:
    """Build the table of a place: one line a map."""
    digits, what = (3, "SOC") if one.attrs["signal"] == "soc" else (2, "edge energy (eV)")
    place = str(one.attrs.get("place") or "")
    title = f"{str(one.attrs['edge']).replace('_', ' ')}{f', place {place}' if place else ''}"
    shown = Table(title=title, title_justify="left")
    time_s = one["step_time_s"].values
    unit, unit_s = time_unit(float(np.nanmax(time_s) - time_s[0]))
    for head in ("run", unit, "cycle", f"mean {what}", "particles", "shift (px)"):
        shown.add_column(head, justify="right", no_wrap=head.startswith("mean"))
    tracks = series_table(one)
    particles = tracks[tracks["what"].str.startswith("particle ")]
    for step, uid in enumerate(one.attrs["raw_uids"]):
        held = particles[particles["time_s"] == time_s[step]]["value"]
        cycle = one["step_cycle"].values[step]
        mean, sigma = (one[f"step_{name}"].values[step] for name in ("mean", "mean_sigma"))
        shift = (one[f"step_shift_{axis}_px"].values[step] for axis in ("row", "column"))
        shown.add_row(
            str(uid)[:8],
            f"{(time_s[step] - time_s[0]) / unit_s:.2f}",
            "" if np.isnan(cycle) else f"{cycle:g}",
            f"{mean:.{digits + 1}f} ± {sigma:.{digits + 1}f}",
            f"{held.notna().sum()} of {len(held)}",
            ", ".join(f"{part:+.1f}" for part in shift),
        )
    return shown


def _masks(client: Any, result: xr.Dataset, console: Console) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the masks of the regions that viewers set in a map; one that cannot be used is said."""
    about = result.attrs
    labels = result["particle_label_map"].values if "particle_label_map" in result else None
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    for region in stored_regions(client, str(about["raw_uid"]), str(about["edge"])):
        name = region.name if region.name not in masks else f"{region.name} {region.id}"
        try:
            masks[name] = region.mask((result.sizes["row"], result.sizes["column"]), labels)
        except RegionError as error:
            console.print(f"run {str(about['raw_uid'])[:8]}: {error}", highlight=False)
    return masks
