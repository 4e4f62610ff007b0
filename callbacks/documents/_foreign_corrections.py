"""Runs of other plans that hold nothing but flats or darks."""

import uuid
from collections.abc import Iterator

from event_model import (
    Datum,
    DatumPage,
    DocumentRouter,
    Event,
    EventDescriptor,
    EventPage,
    Resource,
    StreamDatum,
    StreamResource,
)

from ._document_types import AnyDocument, NamedDocument
from ._foreign_layout import Stream


class ForeignCorrections:
    """A run that holds nothing but flats or darks, kept for the scans that follow it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._documents: list[NamedDocument] = []

    def translate(self, name: str, doc: AnyDocument) -> list[NamedDocument]:
        self._documents.append((name, doc))
        return [(name, doc)]

    def as_stream_of(self, run: str) -> Iterator[NamedDocument]:
        """Tell the documents as those of a stream of another run."""
        as_stream = _AsStream(self.stream, run)
        for name, doc in self._documents:
            if name not in ("start", "stop"):
                yield as_stream(name, doc)


class _AsStream(DocumentRouter):
    """Tells the documents of one run as those of a stream of another."""

    def __init__(self, stream: Stream, run: str) -> None:
        super().__init__()
        self._stream = stream
        self._run = run

    def descriptor(self, doc: EventDescriptor) -> EventDescriptor:
        return {
            **doc,
            "run_start": self._run,
            "uid": derived_uid(doc["uid"], self._run),
            "name": self._stream,
        }

    def event(self, doc: Event) -> Event:
        return {**doc, "descriptor": derived_uid(doc["descriptor"], self._run)}

    def event_page(self, doc: EventPage) -> EventPage:
        return {**doc, "descriptor": derived_uid(doc["descriptor"], self._run)}

    def resource(self, doc: Resource) -> Resource:
        return {**doc, "run_start": self._run}

    def stream_resource(self, doc: StreamResource) -> StreamResource:
        return {**doc, "run_start": self._run}

    def stream_datum(self, doc: StreamDatum) -> StreamDatum:
        return {**doc, "descriptor": derived_uid(doc["descriptor"], self._run)}

    def datum(self, doc: Datum) -> Datum:
        return doc

    def datum_page(self, doc: DatumPage) -> DatumPage:
        return doc


def derived_uid(uid: str, word: str) -> str:
    """Return a uid that is the same each time a run is translated."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{uid}/{word}"))
