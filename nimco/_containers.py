"""The two containers everything is kept in, and how a session gets at them."""

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiled.client import from_uri
from tiled.structures.core import Spec

if TYPE_CHECKING:
    from nimco._reference_library import ReferenceLibrary


def create_containers(root: Any) -> None:
    """Create ``raw`` and ``maps`` where they are missing.

    Parameters
    ----------
    root : tiled client
        The root of the server.
    """
    if "raw" not in root:
        # Without the version a run cannot be looked up by the beginning of its uid.
        root.create_container("raw", specs=[Spec("CatalogOfBlueskyRuns", version="3.0")])
    if "maps" not in root:
        root.create_container("maps")


class TiledAccess(ABC):
    """A Tiled server as a session sees it; the same for one of its own and one that somebody else runs."""

    api_key: str
    data_dir: Path

    @property
    @abstractmethod
    def uri(self) -> str:
        """Address of the server, without the key."""

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

    @cached_property
    def library(self) -> "ReferenceLibrary":
        """The reference spectra that it keeps."""
        from nimco._reference_library import ReferenceLibrary

        return ReferenceLibrary(self.client())
