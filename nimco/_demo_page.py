"""The link of the page that follows a demonstration in the browser, and how long it will last."""

from contextlib import ExitStack

from rich.console import Console

from nimco._server import TiledServer
from scan_contract import MissingPackageError


def print_page(console: Console, watching: ExitStack, server: TiledServer, *, held: bool) -> str | None:
    """Serve the page of a server and print its link; without its packages, say what to install.

    Parameters
    ----------
    console : rich.console.Console
        Where to print.
    watching : ExitStack
        Ends the page.
    server : TiledServer
        Whose measurements it shows.
    held : bool
        Whether it stays when the scan is over.

    Returns
    -------
    str or None
        The link, with the key.
    """
    from nimco.monitor import MonitorProcess

    try:
        page = watching.enter_context(MonitorProcess(server.uri, server.api_key))
    except MissingPackageError as error:
        console.print(f"  {error}", soft_wrap=True)
        return None
    lasts = "also when the scan is over" if held else "only until the scan is over; --hold keeps it"
    console.print(
        f"watch  {page.browser_url}   (in a browser, {lasts}; the link holds the key)", soft_wrap=True
    )
    return page.browser_url
