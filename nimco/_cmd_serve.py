"""`nimco serve`: a Tiled server that stays, for sessions and viewers to connect to."""

from pathlib import Path

from rich.console import Console

from nimco._loopback import is_loopback
from nimco._server import TiledServer
from nimco._stopping import ended_by_signal


def serve(
    *,
    data_dir: Path,
    port: int,
    host: str,
    readable: list[Path] | None,
) -> None:
    """Serve raw runs and maps with Tiled, until Ctrl-C."""
    console = Console(highlight=False)
    with (
        # A service manager ends a program with SIGTERM: that is no failure.
        ended_by_signal(
            lambda: f"the Tiled server has ended, what it held stays in {data_dir}", is_service=True
        ),
        TiledServer(data_dir, port, host=host, readable=tuple(readable or ())) as server,
    ):
        console.print(f"Tiled server at {server.uri}", soft_wrap=True)
        if server.key_is_new:
            console.print(f"API key (shown only now): {server.api_key}", soft_wrap=True)
        if server.key_is_new or console.is_terminal:  # not again and again in the log of a service
            console.print(f"Open it in a browser, with the key: {server.browser_url}", soft_wrap=True)
        console.print(f"The API key is kept in {server.key_path}, readable by you alone.", soft_wrap=True)
        if not is_loopback(host):
            console.print(
                f"[yellow]Listening on {host}: everyone on the network who has the key can read and write.[/]",
                soft_wrap=True,
            )
        server.hold(console)
