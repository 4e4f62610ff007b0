"""A Tiled server that somebody else runs, seen as a session sees its own."""

from pathlib import Path

import httpx

from nimco._containers import TiledAccess, create_containers
from nimco.errors import NimcoError


class RemoteTiled(TiledAccess):
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
        self._uri = uri.rstrip("/")
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

    @property
    def uri(self) -> str:
        """Address of the server."""
        return self._uri
