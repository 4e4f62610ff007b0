"""A run stored in Tiled, told again as documents: for what was missed, and to analyse it anew."""

import heapq
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import httpx
import numpy as np
import pandas as pd
from bluesky_tiled_plugins.exporters import build_descriptor_docs
from event_model import Event, StreamDatum, StreamResource

from callbacks.errors import ReadingError

from ._document_types import AnyDocument, NamedDocument
from ._reading import EventIdentity, event_identity

_READ_BYTES = 64 * 2**20
_TABLE = "internal"
_LOG = logging.getLogger("nimco.callbacks")


def documents_of(
    run: Any, *, skip: Callable[[EventIdentity], bool] = lambda identity: False
) -> Iterator[NamedDocument]:
    """Tell a stored run as documents, in the order of their times; a run that goes on has no stop document yet.

    Frames are read from Tiled in portions as they are needed, or stay in the detector's file where that is
    what Tiled points to. Each frame goes with the row of the table that was stored with it: number and time
    of an event are those of the scan, its uid is made up, since Tiled does not keep it. An event whose frame Tiled
    holds and cannot give, of a damaged chunk for example, comes without that key; this is logged.

    Parameters
    ----------
    run : tiled client of a ``BlueskyRun``
        For example ``client["raw"][uid]``.
    skip : callable, optional
        Told the identity of an event (descriptor, number, time); where it returns True the event and its
        frame are left out and not read.

    Yields
    ------
    name : str
        'start', 'descriptor', 'stream_resource', 'stream_datum', 'event' or 'stop'.
    doc : dict
        The document.

    Raises
    ------
    ReadingError
        A finished run whose frames and events do not pair up.
    """
    metadata = run.metadata
    stop = metadata.get("stop")
    start = _plain(metadata["start"])
    yield "start", start
    streams = [_StoredStream(run, name, start["uid"], finished=bool(stop)) for name in run]
    for stream in streams:
        for descriptor in stream.descriptors:
            yield "descriptor", descriptor
    told = [stream.documents(skip) for stream in streams]
    for _, documents in heapq.merge(*told, key=lambda timed: timed[0]):
        yield from documents
    if stop:
        yield "stop", _plain(stop)


class _StoredStream:
    """The events of one stream."""

    def __init__(self, run: Any, name: str, run_uid: str, *, finished: bool) -> None:
        stream = run[name]
        self._name = name
        self._run_uid = run_uid
        node = stream.base
        self.descriptors = build_descriptor_docs(_plain(stream.metadata), name, run_start_uid=run_uid)
        keys = self.descriptors[0]["data_keys"]
        parts = list(node)
        # The table first: a frame is stored before the row it belongs to, so every row has its frame by then.
        self._table = _read_table(node, [part for part in parts if part.startswith(_TABLE)])
        self._arrays: dict[str, Any] = {}
        self._files: dict[str, _StoredFile] = {}
        for part in parts:
            if part.startswith(_TABLE):
                continue
            if keys.get(part, {}).get("external"):
                self._files[part] = _StoredFile(node[part], part, self.descriptors[0]["uid"])
            else:
                self._arrays[part] = node[part]
        held = {key: array.shape[0] for key, array in self._arrays.items()}
        held |= {key: len(file.indices) for key, file in self._files.items()}
        rows = len(self._table)
        if self._files and not self._arrays and not any(part.startswith(_TABLE) for part in parts):
            # Samples of a continuous scan have no events.
            self._n_rows, self._n_samples = 0, min(held.values())
            return
        self._n_samples = 0
        for key, count in held.items():
            if finished and count != rows:
                raise ReadingError(
                    f"stream {name!r} of run {run_uid[:8]} holds {rows} events and {count} of {key!r}: "
                    "which belongs "
                    "to which cannot be told"
                )
        self._n_rows = min([rows, *held.values()])

    def documents(self, skip: Callable[[EventIdentity], bool]) -> Iterator[tuple[float, list[NamedDocument]]]:
        """Yield, for each event, its time and the documents that tell it; for samples without events, all at once."""
        if self._n_samples:
            descriptor = self.descriptors[0]
            told: list[NamedDocument] = []
            for file in self._files.values():
                told.append(("stream_resource", cast(AnyDocument, file.resource(self._run_uid))))
                told.append(("stream_datum", cast(AnyDocument, file.all(self._n_samples, descriptor["uid"]))))
            yield float(descriptor["time"]), told
            return
        for file in self._files.values():
            if self._n_rows:
                first = float(self._table["time"].iloc[0])
                yield first, [("stream_resource", cast(AnyDocument, file.resource(self._run_uid)))]
        events = [self._event(row) for row in range(self._n_rows)]
        wanted = [row for row, event in enumerate(events) if not skip(event_identity(event))]
        for portion in self._portions(wanted):
            values = {key: self._rows(key, portion) for key in self._arrays}
            for row in portion:
                event = events[row]
                for key, by_row in values.items():
                    if row in by_row:
                        event["data"][key] = by_row[row]
                        event["timestamps"].setdefault(key, event["time"])
                placed = [
                    (
                        "stream_datum",
                        cast(AnyDocument, file.datum(row, event["descriptor"], event["seq_num"])),
                    )
                    for file in self._files.values()
                ]
                yield event["time"], [*placed, ("event", cast(AnyDocument, event))]

    def _rows(self, key: str, portion: list[int]) -> dict[int, Any]:
        """Read neighbouring rows at once, or one by one where that fails; those that cannot be read are missing."""
        try:
            block = np.asarray(self._arrays[key][portion[0] : portion[-1] + 1])
            return {row: block[row - portion[0]] for row in portion}
        except httpx.TransportError:
            raise  # nobody answers: no matter of single rows
        except Exception as error:
            if len(portion) > 1:
                return {row: value for one in portion for row, value in self._rows(key, [one]).items()}
            _LOG.warning(
                "row %d of %r in stream %r of run %s cannot be read from Tiled (%s: %s)",
                portion[0],
                key,
                self._name,
                self._run_uid[:8],
                type(error).__name__,
                error,
            )
            return {}

    def _event(self, row: int) -> Event:
        values = self._table.iloc[row]
        time, number = float(values["time"]), int(values["seq_num"])
        descriptor = self.descriptors[0]
        for later in self.descriptors[1:]:
            if later["time"] <= time:
                descriptor = later
        data = {
            key: _plain(values[key])
            for key in self._table.columns
            if key not in ("time", "seq_num") and not key.startswith("ts_")
        }
        timestamps = {key[3:]: float(values[key]) for key in self._table.columns if key.startswith("ts_")}
        return {
            "uid": f"{descriptor['uid']}-{row}",
            "descriptor": descriptor["uid"],
            "seq_num": number,
            "time": time,
            "data": data,
            "timestamps": timestamps,
            "filled": {},
        }

    def _portions(self, wanted: list[int]) -> Iterator[list[int]]:
        """Split rows into runs of neighbours that are read at once."""
        row_bytes = sum(
            int(np.prod(array.shape[1:])) * np.dtype(array.dtype).itemsize for array in self._arrays.values()
        )
        longest = max(1, _READ_BYTES // max(row_bytes, 1))
        portion: list[int] = []
        for row in wanted:
            if portion and (row != portion[-1] + 1 or len(portion) >= longest):
                yield portion
                portion = []
            portion.append(row)
        if portion:
            yield portion


class _StoredFile:
    """A detector's file as Tiled points to it."""

    def __init__(self, node: Any, key: str, descriptor: str) -> None:
        source = node.data_sources()[0]
        parameters = dict(source.parameters)
        positions = parameters.pop("slice", None)
        self._uri = source.assets[0].data_uri
        self._mimetype = source.mimetype
        self._parameters = parameters
        self._key = key
        self._name = f"{descriptor}-{key}"
        if isinstance(positions, list):
            per_event = max(1, len(positions) // max(node.shape[0], 1))
            self.indices = [position // per_event for position in positions[::per_event]]
        else:
            self.indices = list(range(node.shape[0]))

    def resource(self, run_uid: str) -> StreamResource:
        return {
            "uid": self._name,
            "data_key": self._key,
            "mimetype": self._mimetype,
            "uri": self._uri,
            "parameters": self._parameters,
            "run_start": run_uid,
        }

    def datum(self, row: int, descriptor: str, seq_num: int) -> StreamDatum:
        index = self.indices[row]
        return {
            "uid": f"{self._name}/{row}",
            "stream_resource": self._name,
            "descriptor": descriptor,
            "indices": {"start": index, "stop": index + 1},
            "seq_nums": {"start": seq_num, "stop": seq_num + 1},
        }

    def all(self, count: int, descriptor: str) -> StreamDatum:
        return {
            "uid": f"{self._name}/all",
            "stream_resource": self._name,
            "descriptor": descriptor,
            "indices": {"start": 0, "stop": count},
            "seq_nums": {"start": 1, "stop": count + 1},
        }


def _read_table(node: Any, parts: list[str]) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame({"time": [], "seq_num": []})
    return pd.concat([node[part].read() for part in sorted(parts)], axis=1)


def _plain(value: Any) -> Any:
    """Return a value without the wrappers of the client, scalars as Python's own."""
    if isinstance(value, Mapping):
        return {key: _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    if isinstance(value, np.generic):
        return value.item()
    return value
