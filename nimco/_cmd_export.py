"""`nimco export`: maps from Tiled into files."""

from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from callbacks import ReadingError, export_nexus, export_tiff, open_soc, open_soc_table
from nimco._cmd_analyse import connect
from nimco._server import TiledServer


class ExportFormat(StrEnum):
    """Layout of the files."""

    NEXUS = "nexus"
    TIFF = "tiff"
    BOTH = "both"


def export(
    run: Annotated[str, typer.Argument(help="Uid of the raw run, or its beginning.")],
    to: Annotated[Path, typer.Option(help="Folder to write into.")] = Path(),
    layout: Annotated[ExportFormat, typer.Option("--format", help="What to write.")] = ExportFormat.BOTH,
    edge: Annotated[str | None, typer.Option(help="Edge, where the run has maps of several.")] = None,
    tiled: Annotated[
        str | None, typer.Option(help="Tiled server that is running: http://127.0.0.1:8710.")
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File with the key of that server.")] = None,
    data_dir: Annotated[
        Path, typer.Option(help="Data directory to serve meanwhile, where no running server is named.")
    ] = Path("nimco-data"),
) -> None:
    """Write the maps of a run to HDF5 (NeXus) and TIFF."""
    console = Console()
    with ExitStack() as closing:
        if tiled is None:
            client = closing.enter_context(TiledServer(data_dir)).client()
        else:
            client = connect(tiled, api_key_file)
        maps = open_soc(client, run, edge)
        written: list[Path] = []
        if layout is not ExportFormat.TIFF:
            tables = {}
            for name in ("frames", "particles"):
                try:
                    tables[name] = open_soc_table(client, run, name, edge)
                except ReadingError:
                    continue  # maps of a run under way have no particles yet
            name = f"{maps.attrs['raw_uid'][:8]}_{maps.attrs['edge']}.h5"
            written.append(export_nexus(maps, to / name, tables=tables))
        if layout is not ExportFormat.NEXUS:
            written += export_tiff(maps, to)
    for path in written:
        console.print(str(path), highlight=False, soft_wrap=True)
