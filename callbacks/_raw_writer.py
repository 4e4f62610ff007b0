"""Raw runs into Tiled, off the RunEngine's thread."""

from typing import Any

from bluesky_tiled_plugins import TiledWriter

from callbacks._worker import DocumentWorker


class RawRunWriter(DocumentWorker):
    """The field's `TiledWriter` on a thread of its own: it neither blocks the RunEngine nor raises in it.

    Parameters
    ----------
    raw_container : tiled client of a ``CatalogOfBlueskyRuns``
        Where runs are written.
    batch_size : int
        Events per write: fewer make them readable sooner, more cost less time per event.
    """

    def __init__(self, raw_container: Any, *, batch_size: int = 8) -> None:
        self._writer = TiledWriter(raw_container, batch_size=batch_size)
        super().__init__("raw run writer")

    def _handle(self, name: str, doc: dict[str, Any]) -> None:
        self._writer(name, doc)
