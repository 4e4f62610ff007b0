"""What is stored, for commands: from a server that runs, or from a data directory that is served meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from nimco._reference_library import ReferenceLibrary
from nimco._server import DataDirectoryError, TiledServer, running_server
from nimco._server_process import CATALOG_FILE
from nimco._tiled_client import KEY_REMEDY, connect, open_tiled
from nimco.errors import NimcoError


def stored_data(
    closing: ExitStack,
    tiled: str | None,
    api_key_file: Path | None,
    data_dir: Path,
    *,
    may_create: bool = False,
) -> Any:
    """Return a client of a running server, or of a data directory that is served until `closing` is closed.

    Raises
    ------
    NimcoError
        There are no data in the directory (unless it may be created), or the server cannot be reached.
    """
    if tiled is not None:
        return connect(tiled, api_key_file)
    uri, key = served_directory(closing, data_dir, may_create=may_create)
    return open_tiled(uri, key, remedy=KEY_REMEDY)


def served_directory(closing: ExitStack, data_dir: Path, *, may_create: bool = False) -> tuple[str, str]:
    """Return address and key of the server of a data directory: the one that runs, or one until `closing` is closed.

    Raises
    ------
    NimcoError
        There are no data in the directory, and it may not be created.
    """
    running = running_server(data_dir)
    if running is not None:
        return running
    if not may_create and not (data_dir / CATALOG_FILE).is_file():
        raise NimcoError(
            f"There are no data in {data_dir}; name the data directory with --data-dir, or a running server with "
            "--tiled."
        )
    try:
        server = closing.enter_context(TiledServer(data_dir))
    except DataDirectoryError:
        running = running_server(data_dir)  # somebody else was quicker
        if running is None:
            raise
        return running
    return server.uri, server.api_key


@contextmanager
def data_dir_library(data_dir: Path) -> Iterator[Callable[[], ReferenceLibrary]]:
    """Lend what opens the reference library of a data directory, which is served from then to the end."""
    with ExitStack() as closing:
        yield lambda: ReferenceLibrary(stored_data(closing, None, None, data_dir))
