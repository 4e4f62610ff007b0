"""The two containers everything is kept in."""

from typing import Any

from tiled.structures.core import Spec


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
