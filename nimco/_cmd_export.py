"""`nimco export`: maps from Tiled into files."""

from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from rich.console import Console

from callbacks import export_csv, export_nexus, export_tiff, open_soc
from callbacks.publish import export_stem
from nimco._stopping import ended_by_signal
from nimco._stored_data import stored_data


def export(
    *,
    run: str,
    to: Path,
    layout: Literal["nexus", "tiff", "both"],
    edge: str | None,
    version: int | None,
    tiled: str | None,
    api_key_file: Path | None,
    data_dir: Path,
) -> None:
    """Write the maps of a run to HDF5 (NeXus) and TIFF."""
    console = Console()
    written: list[Path] = []
    with ended_by_signal(lambda: _progress_sentence(written)), ExitStack() as closing:
        client = stored_data(closing, tiled, api_key_file, data_dir)
        maps = open_soc(client, run, edge, version)
        if layout != "tiff":
            name = f"{export_stem(maps)}.h5"
            written.append(export_nexus(maps, to / name))
        if layout != "nexus":
            written += export_tiff(maps, to)
            written += export_csv(maps, to)
    for path in written:
        console.print(str(path), highlight=False, soft_wrap=True)


def _progress_sentence(written: list[Path]) -> str:
    """Say which files of an export that was stopped are whole."""
    files = ", ".join(str(path) for path in written) or "none"
    return f"files written as a whole: {files}; nothing waits, and nothing in Tiled has changed"
