"""A Tiled server that somebody else runs, seen as a session sees its own."""

from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from tiled.client import from_uri

from nimco._containers import create_containers
from nimco._errors import NimcoError


class RemoteTiled:
    """A running Tiled server, for a `Session` to write to.

    Parameters
    ----------
    uri : str
        Address of the server.
    api_key : str
        A key that may write.
    data_dir : Path
        Folder on this machine for what waits while the server is away.

    Raises
    ------
    NimcoError
        No server answers there, or it does not take the key.
    """

    def __init__(self, uri: str, api_key: str, *, data_dir: Path | str) -> None:
        self.uri = uri.rstrip("/")
        self.api_key = api_key
        self.data_dir = Path(data_dir).expanduser().resolve()
        try:
            create_containers(self.client())
        except httpx.HTTPStatusError as error:
            raise NimcoError(
                f"the Tiled server at {self.uri} refuses this key ({error.response.status_code}); "
                "make one that may write"
            ) from error
        except httpx.TransportError as error:
            raise NimcoError(f"no Tiled server answers at {self.uri} ({error}); check the address") from error

    def client(self) -> Any:
        """Return a new client of the root, with a connection of its own."""
        return from_uri(self.uri, api_key=self.api_key)

    @cached_property
    def raw(self) -> Any:
        """Client of the container of raw runs (a ``CatalogOfBlueskyRuns``)."""
        return self.client()["raw"]

    @cached_property
    def maps(self) -> Any:
        """Client of the container of maps."""
        return self.client()["maps"]
