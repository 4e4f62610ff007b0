"""How the frames of a detector's file are told to Tiled: each stream gets those that are its own."""

from typing import Any

from bluesky_tiled_plugins.writing.tiled_writer import RunNormalizer
from event_model import DocumentNames, StreamDatum, StreamResource

from callbacks.errors import DocumentError

_HDF5_MIMETYPE = "application/x-hdf5"


class FrameAssets(RunNormalizer):
    """Normaliser for `TiledWriter` that sorts the frames of one file by stream.

    A scan takes darks, flats and sample frames into one file in turn. Left alone, Tiled would show the
    whole file under the stream that came first, or refuse to read it. Here each stream has a resource of
    its own, whose parameter ``slice`` lists the positions of its frames along the first axis of the
    dataset, in the order of the events. A column of samples belongs to one stream as a whole.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._resources: dict[str, StreamResource] = {}
        self._columns: set[str] = set()
        self._per_event: dict[tuple[str, str], int] = {}
        self._own: dict[tuple[str, str], StreamResource] = {}
        self._resource_of: dict[tuple[str, str], str] = {}
        self._ext_ref_cache: list[Any]

    def emit(self, name: Any, doc: Any) -> None:
        """Send a document on, in its own stream's terms."""
        if name is DocumentNames.descriptor:
            for key, about in doc["data_keys"].items():
                shape = list(about.get("shape") or ())
                if len(shape) < 2:
                    self._columns.add(key)
                self._per_event[doc["uid"], key] = int(shape[0]) if len(shape) == 3 else 1
        if (
            name is DocumentNames.stream_resource
            and _is_one_file(doc)
            and doc["data_key"] not in self._columns
        ):
            self._resources[doc["uid"]] = doc
            return
        if name is DocumentNames.stream_datum and doc["stream_resource"] in self._resources:
            doc = self._of_stream(doc)
        self._send(name, doc)

    def _send(self, name: Any, doc: Any) -> None:
        # Not through the schemas of event-model: they refuse whole runs for a dot in a key that Tiled takes.
        self.dispatcher.process(name, doc)

    def drop_unresolved(self) -> int:
        """Forget events whose frames no document has placed, which would keep the run from ending; return how many."""
        placed = [found for found in self._ext_ref_cache if found.datum_id in self._datum_cache]
        count = len(self._ext_ref_cache) - len(placed)
        self._ext_ref_cache = placed
        return count

    def _of_stream(self, doc: StreamDatum) -> StreamDatum:
        descriptor, shared = doc["descriptor"], self._resources[doc["stream_resource"]]
        per_event = self._rows_per_event(descriptor, shared)
        own = self._own.get((shared["uid"], descriptor))
        if own is None:
            self._refuse_second_file(descriptor, shared)
            own = {
                **shared,
                "uid": f"{shared['uid']}-{descriptor}",
                "parameters": {**shared["parameters"], "slice": []},
            }
            self._own[shared["uid"], descriptor] = own
            self._send(DocumentNames.stream_resource, own)
        # The writer keeps this list and tells Tiled all of it with every frame.
        positions = own["parameters"]["slice"]
        first = len(positions) // per_event
        indices = doc["indices"]
        positions.extend(range(indices["start"] * per_event, indices["stop"] * per_event))
        stop = first + indices["stop"] - indices["start"]
        return {**doc, "stream_resource": own["uid"], "indices": {"start": first, "stop": stop}}

    def _rows_per_event(self, descriptor: str, resource: StreamResource) -> int:
        parameters = resource["parameters"]
        if len(parameters.get("chunk_shape", ())) == 4:
            return 1  # the file has an axis of its own for the exposures of one event
        return int(parameters.get("multiplier") or self._per_event.get((descriptor, resource["data_key"]), 1))

    def _refuse_second_file(self, descriptor: str, resource: StreamResource) -> None:
        before = self._resource_of.setdefault((descriptor, resource["data_key"]), resource["uid"])
        if before != resource["uid"]:
            raise DocumentError(
                f"the frames {resource['data_key']!r} of one stream are in several files, which cannot "
                "be told apart "
                "in Tiled; let the detector write one file per scan"
            )


def _is_one_file(doc: StreamResource) -> bool:
    return doc["mimetype"] == _HDF5_MIMETYPE and not doc["parameters"].get("template")
