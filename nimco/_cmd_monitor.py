"""`nimco monitor`: the page that shows the measurements of a Tiled server in the browser."""

import time
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path

from rich.console import Console

from nimco._loopback import is_loopback
from nimco._server import KEY_FILE
from nimco._stopping import ended_by_signal
from nimco._stored_data import served_directory
from nimco._tiled_client import KEY_REMEDY, RefusedKeyError, given_key, open_tiled
from nimco.monitor import Monitor, check_packages

_POLL_S = 3600.0


def monitor(*, tiled: str | None, api_key_file: Path | None, data_dir: Path, port: int, host: str) -> None:
    """Show the measurements of a Tiled server in the browser, until Ctrl-C."""
    check_packages()
    console = Console(highlight=False)
    with (
        ended_by_signal(
            lambda: "the page has ended; nothing that was measured depends on it", is_service=True
        ),
        ExitStack() as closing,
    ):
        uri: str
        key: str | None
        if tiled is None:
            uri, key = served_directory(closing, data_dir)
        else:
            uri, key = tiled, given_key(api_key_file)
            with (
                nullcontext() if key is not None else suppress(RefusedKeyError)
            ):  # whoever opens the page enters one
                open_tiled(uri, key, remedy=KEY_REMEDY)
        page = closing.enter_context(Monitor(uri, api_key=key, port=port, host=host))
        console.print(f"Monitor of {uri} at {page.url}", soft_wrap=True)
        if key is not None and console.is_terminal:  # not in the log of a service
            console.print(f"Open it in a browser, with the key: {page.browser_url}", soft_wrap=True)
        else:
            where = f", which is in {data_dir / KEY_FILE}" if tiled is None else ""
            console.print(f"It asks for the key of the Tiled server{where}.", soft_wrap=True)
        if not is_loopback(host):
            console.print(
                f"[yellow]Listening on {host}: everyone on the network who has a key of the Tiled server can see its "
                "measurements and set regions.[/]",
                soft_wrap=True,
            )
        console.print("Ctrl-C ends it")
        _wait_for_signal()


def _wait_for_signal() -> None:
    while True:
        time.sleep(_POLL_S)
