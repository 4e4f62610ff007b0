"""Runs of other plans that hold nothing but flats or darks."""

import uuid
from collections.abc import Iterator
from typing import Any

from ._foreign_layout import Stream
from ._spool_format import Document


class ForeignCorrections:
    """A run that holds nothing but flats or darks, kept for the scans that follow it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._documents: list[Document] = []

    def translate(self, name: str, doc: dict[str, Any]) -> list[Document]:
        self._documents.append((name, doc))
        return [(name, doc)]

    def as_stream_of(self, run: str) -> Iterator[Document]:
        """Tell the documents as those of a stream of another run."""
        for name, doc in self._documents:
            if name in ("resource", "stream_resource"):
                yield name, {**doc, "run_start": run}
            elif name == "descriptor":
                yield (
                    name,
                    {**doc, "run_start": run, "uid": derived_uid(doc["uid"], run), "name": self.stream},
                )
            elif name in ("event", "event_page", "stream_datum"):
                yield name, {**doc, "descriptor": derived_uid(doc["descriptor"], run)}
            elif name in ("datum", "datum_page"):
                yield name, doc


def derived_uid(uid: str, word: str) -> str:
    """Return a uid that is the same each time a run is translated."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{uid}/{word}"))
