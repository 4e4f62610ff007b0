"""`nimco dry-run`: what a scan would do, without moving anything."""

import shutil
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from beamline_plans import DryRun, EnergyGrid, Order, dry_run, multi_edge_xanes
from edge_fitting import edge_names
from nimco._learned_times import read_times
from nimco.errors import NimcoError
from sim_devices import SimBeamline


def dry_run_command(
    *,
    edges: str,
    grid: str,
    exposure_s: float,
    order: Order | None,
    repeats: int,
    n_flats: int,
    n_darks: int,
    flat_order: Literal["per_energy", "every_n", "after_all", "before_all", "none"],
    flat_every: int,
    size: int,
    reference: list[str] | None,
    jump: float,
    counts_per_s: float,
    data_dir: Path,
    max_minutes: float | None,
    max_sample_exposure_s: float | None,
) -> None:
    """Say what a scan would take: frames, time, dose, disk and expected sigma; nothing moves."""
    console = Console()
    names = edge_names(edges)
    series = _references(reference, names, data_dir)
    beamline = SimBeamline((32, 32))
    plan = multi_edge_xanes(
        beamline.camera,
        beamline.energy,
        beamline.shutter,
        beamline.stage,
        edges=names,
        grids={name: _grid(grid, name, exposure_s) for name in names},
        order=order,
        i0=beamline.i0,
        flat_order=flat_order,
        flat_every=flat_every,
        n_flats=n_flats,
        n_darks=n_darks,
        repeats=repeats,
        references=series,
    )
    times = read_times(data_dir)
    found = dry_run(
        plan,
        times=times,
        jump=jump,
        counts_per_s=counts_per_s,
        max_time_s=None if max_minutes is None else 60 * max_minutes,
        max_sample_exposure_s=max_sample_exposure_s,
    )
    # The twin stands in for the devices; its small frames stand for those of the camera asked for.
    disk_bytes = found.n_frames * size * size * 2
    free_bytes = shutil.disk_usage(_existing(data_dir)).free
    console.print(_table(found, names, disk_bytes, free_bytes, learnt=times is not None))
    if disk_bytes > free_bytes:
        raise NimcoError(
            f"The frames need {disk_bytes / 1e9:.1f} GB but {free_bytes / 1e9:.1f} GB are free in {data_dir}; make "
            "room, choose another --data-dir or take fewer frames."
        )


def _grid(grid: str, edge: str, exposure_s: float) -> EnergyGrid:
    return (
        EnergyGrid.from_csv(grid)
        if Path(grid).suffix
        else EnergyGrid.preset(grid, edge, exposure_s=exposure_s)
    )


def _references(
    given: list[str] | None, edges: list[str], data_dir: Path
) -> dict[str, dict[str, object]] | None:
    if not given:
        return None
    if len(edges) != 1:
        raise NimcoError("References belong to one edge; give one edge with --edges with --reference.")
    # They bring in the clients of Tiled, which a dry run without references does not need.
    from nimco._reference_options import parse_reference_option, reference_series
    from nimco._stored_data import data_dir_library

    with data_dir_library(data_dir) as library:
        options = [parse_reference_option(text) for text in given]
        series, _ = reference_series(options, library=library, edge=edges[0])
    return {edges[0]: series.to_dict()}


def _existing(folder: Path) -> Path:
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return folder


def _table(found: DryRun, edges: list[str], disk_bytes: int, free_bytes: int, *, learnt: bool) -> Table:
    table = Table("what", "value", title=f"dry run: {', '.join(edges)}; nothing has moved")
    frames = ", ".join(f"{n} {stream}" for stream, n in found.frames.items())
    table.add_row("runs", str(found.n_runs))
    table.add_row("frames", f"{found.n_frames} ({frames})")
    source = "learnt from past scans" if learnt else "assumed: no past scan in this data directory"
    table.add_row("time", f"{found.time_s / 60:.1f} min (durations {source})")
    extra_s = found.energy_s - found.energy_ascending_s
    table.add_row(
        "energy moves",
        f"{found.energy_s:.0f} s, {extra_s:+.0f} s against the ascending order of the same energies",
    )
    open_s = found.sample_open_s
    table.add_row("dose", f"sample exposed {found.sample_exposure_s:.1f} s, in the open beam {open_s:.1f} s")
    table.add_row("disk", f"{disk_bytes / 1e9:.2f} GB, {free_bytes / 1e9:.0f} GB free")
    for edge in edges:
        sigma = found.expected_sigma.get(edge)
        text = "give --reference FILE=SOC to predict it" if sigma is None else f"{sigma:.3f}"
        table.add_row(f"sigma of SOC, {edge}", text)
    return table
