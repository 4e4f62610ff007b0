"""Where the data of a measurement are, told at its end."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import xarray as xr
from rich.console import Console

from callbacks import waiting_in
from nimco._server import TiledServer
from nimco._session import Session


def stored_and_waiting(data_dir: Path, sessions: Sequence[Session]) -> str:
    """Say what a stopped command has stored in a data directory, and what waits there for Tiled."""
    n_runs = sum(session.n_runs for session in sessions)
    if not n_runs:
        kept = "nothing was measured"
    else:
        runs = "1 run" if n_runs == 1 else f"{n_runs} runs"
        kept = f"what was measured ({runs}) is stored in {data_dir}"
        if not all(session.is_complete for session in sessions):
            kept += ", what was cut short marked aborted or partial"
    spool = data_dir / "spool"
    waiting = waiting_in(spool)
    return f"{kept}; {f'{waiting} wait' if waiting else 'nothing waits'} in {spool}" + (
        " and will be delivered by the next session on this data directory" if waiting else ""
    )


def print_where(
    console: Console,
    server: TiledServer,
    updates: list[xr.Dataset],
    picture: Path | None,
    *,
    held: bool,
    page: str | None = None,
    shown: str = "soc",
) -> None:
    """Say where raw frames, maps and the picture are, and how to open them in Python.

    Parameters
    ----------
    console : rich.console.Console
        Where to print.
    server : TiledServer
        The running server.
    updates : list of xarray.Dataset
        The last result of each run.
    picture : Path or None
        PNG of the live map.
    held : bool
        Whether the server stays up.
    page : str or None
        Link of the page in the browser that shows them, where there is one.
    shown : str
        Name of the array that is read back as an example.
    """
    folder = server.data_dir.resolve()
    again = f"--data-dir {shlex.quote(str(folder))}"
    if held:
        console.print(f"\nTiled  {server.uri}   (data directory {folder})", soft_wrap=True)
        if page is not None:
            console.print(f"watch  {page}   (in a browser; the link holds the key)", soft_wrap=True)
        console.print(f"open   {server.browser_url}   (Tiled in a browser; it holds the key)", soft_wrap=True)
    else:
        console.print(f"\nTiled  data directory {folder}", soft_wrap=True)
        if page is not None:
            console.print(
                f"watch  nimco monitor {again}   (the page again; --hold would have kept it)",
                soft_wrap=True,
            )
        console.print(f"open   nimco serve {again}   (gives the link for a browser)", soft_wrap=True)
    for update in updates:
        console.print(
            f"run    {update.attrs['raw_uid']}   {update.attrs['edge'].replace('_', ' ')}", highlight=False
        )
    if picture is not None and picture.exists():
        console.print(f"map    {picture.resolve()}")
    if not updates:
        return
    uid = updates[0].attrs["raw_uid"]
    code = (
        "from nimco import TiledServer, open_soc",
        f"client = TiledServer({str(server.data_dir.resolve())!r}).start().client()",
        f"{shown} = open_soc(client, {uid!r})[{shown!r}];  raw = client['raw'][{uid!r}]",
    )
    console.print("\nOpen them in Python:")
    for line in code:
        console.print(f"    {line}", highlight=False, soft_wrap=True, markup=False)
