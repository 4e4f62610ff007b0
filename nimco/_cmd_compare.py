"""`nimco compare`: samples, cycles or fields on one scale."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import xarray as xr
from rich.console import Console
from rich.table import Table

from callbacks import (
    MeanSpectrum,
    SampleComparison,
    compare_samples,
    draw_samples,
    mean_spectrum,
    stored_fields,
)
from callbacks.publish import replacing
from nimco._bulk_spectrum import bulk_spectrum, say_bulk
from nimco._soc_range import parse_soc_range
from nimco._stopping import ended_by_signal
from nimco._stored_data import stored_data
from nimco.errors import NimcoError


def compare(
    *,
    runs: list[str],
    sample: list[str],
    by: list[str],
    edge: str | None,
    quantity: Literal["soc", "edge_energy_ev"] | None,
    plot: Path | None,
    table: Path | None,
    bulk: str | None,
    bulk_plot: Path | None,
    soc_range: str | None,
    tiled: str | None,
    api_key_file: Path | None,
    data_dir: Path,
) -> None:
    """Pool and compare stored results; print a table, and write a picture and a CSV file where asked for."""
    if not runs and not sample:
        raise NimcoError("Say what to compare: uids of runs, a scan_group, or --sample NAME.")
    if bulk_plot is not None and bulk is None:
        raise NimcoError("--bulk-plot needs the spectrum of the whole sample (--bulk).")
    limits = parse_soc_range(soc_range)
    console = Console()
    written: list[Path] = []
    with (
        ended_by_signal(lambda: f"{len(written)} of the files are written; nothing in Tiled has changed"),
        ExitStack() as closing,
    ):
        client = stored_data(closing, tiled, api_key_file, data_dir)
        spectra: dict[str, MeanSpectrum] = {}

        def with_spectrum(result: xr.Dataset) -> xr.Dataset:
            if bulk is not None:
                spectra[str(result.attrs["raw_uid"])] = mean_spectrum(result)
            return result

        fields = map(with_spectrum, stored_fields(client, runs, samples=sample, edge=edge))
        comparison = compare_samples(fields, by, quantity=quantity)
        console.print(comparison_table(comparison))
        for warning in comparison.warnings:
            console.print(warning, highlight=False)
        if bulk is not None:
            of_bulk = bulk_spectrum(client, bulk, comparison.edge)
            written += say_bulk(comparison, spectra, of_bulk, bulk_plot, console)
        if plot is not None:
            written.append(draw_samples(comparison, plot, limits if comparison.quantity == "soc" else None))
        if table is not None:
            rows = comparison.table()
            written.append(replacing(table, lambda unfinished: rows.to_csv(unfinished, index=False)))
    for path in written:
        console.print(str(path), highlight=False, soft_wrap=True)


def comparison_table(comparison: SampleComparison) -> Table:
    """Build the table in the console: one column a group."""
    digits = 3 if comparison.quantity == "soc" else 2
    what = "State of charge" if comparison.quantity == "soc" else "Edge energy (eV)"
    shown = Table(title=f"{what} at {comparison.edge.replace('_', ' ')}, compared", title_justify="left")
    shown.add_column(", ".join(comparison.by))
    for group in comparison.groups:
        shown.add_column(group.name, justify="right")
    rows = comparison.table().to_dict("records")
    shown.add_row("fields, particles", *(f"{row['fields']}, {row['particles']}" for row in rows))
    for label, name in (
        ("mean", "mean"),
        ("peak of the histogram", "peak"),
        ("  full width at half maximum", "fwhm"),
        ("spread within particles", "within"),
        ("  between particles", "between_particles"),
        ("  between fields", "between_fields"),
        ("shift from the first", "shift"),
    ):
        shown.add_row(label, *(_pair(row, name, digits) for row in rows))
    systematic = (row["systematic"] for row in rows)
    shown.add_row(
        "sigma common to all pixels",
        *("not told" if one != one else f"{one:.{digits}f}" for one in systematic),
    )
    shown.add_row("warnings", *(str(row["warnings"]) for row in rows))
    return shown


def _pair(row: dict[str, Any], name: str, digits: int) -> str:
    value, sigma = row[name], row[f"{name}_sigma"]
    if value != value:
        return "not told"
    return f"{value:.{digits}f}" if sigma != sigma else f"{value:.{digits}f} ± {sigma:.{digits}f}"
