"""`nimco serve`: a Tiled server that stays, for sessions and viewers to connect to."""

import ipaddress
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nimco._server import TiledServer

_PORT = 8710


def serve(
    data_dir: Annotated[
        Path, typer.Option(help="Where the server keeps its catalogue, frames and maps; kept when it ends.")
    ] = Path("nimco-data"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free.")] = _PORT,
    host: Annotated[
        str,
        typer.Option(help="Interface to listen on; by default only programs on this machine can connect."),
    ] = "127.0.0.1",
    readable: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with files of detectors that the server may read; may be repeated."),
    ] = None,
) -> None:
    """Serve raw runs and maps with Tiled, until Ctrl-C."""
    console = Console(highlight=False)
    # A service manager ends a program this way; end as on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with TiledServer(data_dir, port, host=host, readable=tuple(readable or ())) as server:
        console.print(f"Tiled server at {server.uri}", soft_wrap=True)
        if server.key_is_new:
            console.print(f"API key (shown only now): {server.api_key}", soft_wrap=True)
        console.print(f"The API key is kept in {server.key_path}, readable by you alone.", soft_wrap=True)
        if not _is_loopback(host):
            console.print(
                f"[yellow]Listening on {host}: everyone on the network who has the key can read and write.[/]",
                soft_wrap=True,
            )
        server.hold(console)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
