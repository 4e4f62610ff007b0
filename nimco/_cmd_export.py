"""`nimco export`: maps from Tiled into files."""

from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from rich.console import Console

from callbacks import export_csv, export_nexus, export_tiff, open_soc
from callbacks.publish import container_name
from nimco._cmd_analyse import connect
from nimco._server import TiledServer
from nimco._server_process import CATALOG_FILE
from nimco._stopping import stoppable
from nimco.errors import NimcoError


def export(
    *,
    run: str,
    to: Path,
    layout: Literal["nexus", "tiff", "both"],
    edge: str | None,
    tiled: str | None,
    api_key_file: Path | None,
    data_dir: Path,
) -> None:
    """Write the maps of a run to HDF5 (NeXus) and TIFF."""
    console = Console()
    written: list[Path] = []
    with stoppable(lambda: _progress_sentence(written)), ExitStack() as closing:
        if tiled is None:
            if not (data_dir / CATALOG_FILE).is_file():
                raise NimcoError(
                    f"There are no data in {data_dir}; name the data directory with --data-dir, or a running server "
                    "with --tiled."
                )
            client = closing.enter_context(TiledServer(data_dir)).client()
        else:
            client = connect(tiled, api_key_file)
        maps = open_soc(client, run, edge)
        if layout != "tiff":
            name = f"{maps.attrs['raw_uid'][:8]}_{container_name(maps)}.h5"
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
