"""One run into Tiled: the field's writer, fed with documents that it takes, in batches that fit."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
from bluesky_tiled_plugins.writing.tiled_writer import _RunWriter

from callbacks.documents import AnyDocument, document_nbytes

from ._appended_rows import AppendedRows
from ._storable import LARGEST_IN_TABLE, StorableDocuments
from ._stored_assets import FrameAssets

_BATCH_BYTES = 4 * 2**20
_BATCH_EVENTS = 1000
_LONGEST_S = 1.0
_SHARE = 0.2
_NEVER = 2**31
_EXACT = 2**53


class TiledRun:
    """Writes the documents of one run.

    Events are written in batches. Large frames go one by one: putting a batch of them together keeps other threads
    from running. What waits for its batch is written about once a second, so that whoever follows the stored run is
    not behind.

    Parameters
    ----------
    container : tiled client of a ``CatalogOfBlueskyRuns``
        Where the run is written.
    uid : str
        The run.
    note : callable
        Told what cannot be stored as it is.
    """

    def __init__(self, container: Any, uid: str, note: Callable[[str], object]) -> None:
        self._writer = _BatchWriter(
            container.include_data_sources(), batch_size=_NEVER, max_array_size=LARGEST_IN_TABLE
        )
        self._normalizer = FrameAssets()
        self._normalizer.subscribe(self._writer)
        self._storable = StorableDocuments(uid, note)
        self._uid = uid
        self._note = note
        self._waiting_bytes = self._waiting_events = 0
        self._next_flush = time.monotonic() + _LONGEST_S

    @property
    def n_events(self) -> Counter[str]:
        """Events of each stream given so far."""
        return self._storable.n_events

    def table(self, stream: str) -> Any:
        """Return the table of the events of a stream, as its client; None where there is none, or several."""
        return self._writer.tables.get(stream)

    def __call__(self, name: str, doc: AnyDocument) -> bool:
        """Take a document and return whether it and all before it are in Tiled now.

        Raises
        ------
        DocumentError
            The document cannot be stored.
        """
        _, storable = self._storable(name, doc)
        if name == "stop":
            self._waiting_events = self._waiting_bytes = 0
            if count := self._normalizer.drop_unresolved():
                self._note(f"{count} frames of run {self._uid[:8]} are in files that no document names")
        self._normalizer(name, storable)
        if name == "event":
            self._waiting_events += 1
            self._waiting_bytes += document_nbytes(doc)
            if self._waiting_events < _BATCH_EVENTS and self._waiting_bytes < _BATCH_BYTES:
                return False
            self.flush()
            return True
        if name == "stream_datum":
            self._waiting_events += 1
        return not self._waiting_events

    @property
    def flush_due_in_s(self) -> float | None:
        """When to write what waits for its batch; None where nothing waits."""
        return self._next_flush - time.monotonic() if self._waiting_events else None

    def flush(self) -> None:
        """Write what waits for its batch."""
        began = time.monotonic()
        self._writer.flush()
        self._waiting_events = self._waiting_bytes = 0
        now = time.monotonic()
        self._next_flush = now + max(_LONGEST_S, (now - began) / _SHARE)


class _BatchWriter(_RunWriter):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._rows = AppendedRows()

    @property
    def tables(self) -> dict[str, Any]:
        """Clients of the tables by the names of their streams; those of a very wide stream have a number besides."""
        tables: dict[str, Any] = self._internal_tables
        return tables

    def start(self, doc: Any) -> None:
        super().start(_unclipped(doc))

    def descriptor(self, doc: Any) -> None:
        super().descriptor(_unclipped(doc))

    def _append_with_retry(self, df_client: Any, table: Any, desc_name: str) -> None:
        # The field's writer repeats the request, and rows that were taken are there twice.
        self._rows.append(df_client, table)

    def flush(self) -> None:
        # The files first: who finds an event in the table finds its frame.
        for datum in self._external_data_cache.values():
            self._write_external_data(datum)
        self._external_data_cache.clear()
        for stream, rows in self._internal_data_cache.items():
            if rows:
                self._write_internal_data(rows, desc_node=self._desc_nodes[stream])
                rows.clear()


def _unclipped(value: Any) -> Any:
    """Return metadata in which the writer, which clips numbers beyond 53 bits, does not see them as numbers."""
    if isinstance(value, dict):
        return {key: _unclipped(held) for key, held in value.items()}
    if isinstance(value, list):
        return [_unclipped(held) for held in value]
    if isinstance(value, int | float) and abs(value) >= _EXACT:
        return orjson.Fragment(orjson.dumps(value))
    return value
