"""Where the data of a measurement are, told at its end."""

from pathlib import Path

from rich.console import Console

from callbacks import SOCUpdate
from nimco._server import TiledServer


def print_where(
    console: Console, server: TiledServer, updates: list[SOCUpdate], picture: Path | None
) -> None:
    """Say where raw frames, maps and the picture are, and how to open them in Python.

    Parameters
    ----------
    console : rich.console.Console
        Where to print.
    server : TiledServer
        The running server.
    updates : list of SOCUpdate
        The last update of each run.
    picture : Path or None
        PNG of the live map.
    """
    console.print(f"\nTiled  {server.uri}   (data directory {server.data_dir.resolve()})")
    for update in updates:
        console.print(f"run    {update.raw_uid}   {update.edge.replace('_', ' ')}", highlight=False)
    if picture is not None and picture.exists():
        console.print(f"map    {picture.resolve()}")
    if not updates:
        return
    uid = updates[0].raw_uid
    code = (
        "from nimco import TiledServer, open_soc",
        f"client = TiledServer({str(server.data_dir.resolve())!r}).start().client()",
        f"soc = open_soc(client, {uid!r})['soc'];  raw = client['raw'][{uid!r}]",
    )
    console.print("\nOpen them in Python:")
    for line in code:
        console.print(f"    {line}", highlight=False, soft_wrap=True, markup=False)
