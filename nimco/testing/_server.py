"""A Tiled server for the time of a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nimco import TiledServer


@contextmanager
def temporary_server(folder: Path | str | None = None, **options: Any) -> "Iterator[TiledServer]":
    """Run a real Tiled server on loopback, on a free port, while the ``with`` block lasts.

    Parameters
    ----------
    folder : Path, optional
        Where its data are kept; by default a temporary folder that is removed with them.
    **options
        As for `nimco.TiledServer`.

    Yields
    ------
    TiledServer
        Its containers are ``raw`` and ``maps``; ``client()`` reads as a user does.
    """
    from nimco import TiledServer

    if folder is not None:
        with TiledServer(folder, **options) as server:
            yield server
        return
    with (
        TemporaryDirectory(prefix="nimco-", ignore_cleanup_errors=True) as made,
        TiledServer(made, **options) as server,
    ):
        yield server
