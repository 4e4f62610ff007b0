"""Which frame in which file belongs to which event, from the documents that say so."""

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from event_model import Datum, DatumPage, Event, Resource, StreamDatum, StreamResource, unpack_datum_page

from callbacks.errors import DocumentError

from ._frame_files import FramePlace
from ._root_map import RootMap, pure_path

# Specs of resources that are plain HDF5, and the dataset they mean.
_HDF5_SPECS: Mapping[str, str] = {
    "AD_HDF5": "/entry/data/data",
    "AD_HDF5_SWMR": "/entry/data/data",
    "HDF5": "/entry/data/data",
}
_HDF5_MIMETYPE = "application/x-hdf5"

Reference = tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    place: FramePlace | DocumentError
    data_key: str | None

    def checked(self) -> FramePlace:
        if isinstance(self.place, DocumentError):
            raise self.place
        return self.place


class AssetIndex:
    """Places of frames by what an event knows of them: a datum id, or its number in its stream.

    Documents may come in any order and twice. A number of a stream is handed out once per frame: where a
    scan has been paused and its events were taken again under the same number, the frames go to them in the
    order taken.

    Parameters
    ----------
    roots : RootMap, optional
        Where the folders that the documents name are on this machine.
    """

    def __init__(self, roots: RootMap | None = None) -> None:
        self._roots = roots or RootMap()
        self._sources: dict[str, _Source] = {}
        self._datums: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._stream_indices: dict[Reference, deque[tuple[str, int]]] = defaultdict(deque)
        self._early: dict[str, list[StreamDatum]] = defaultdict(list)
        self._seen: set[tuple[Reference, int]] = set()

    @staticmethod
    def reference(data_key: str, event: Event) -> Reference:
        """Return what an event refers to its frame by."""
        value = event["data"].get(data_key)
        if isinstance(value, str):
            return ("datum", value)
        return ("stream", str(event["descriptor"]), data_key, str(event["seq_num"]))

    def add(self, name: str, doc: Mapping[str, Any]) -> list[Reference]:
        """Take a document and return the references that it may have resolved."""
        if name == "datum_page":
            return [
                found for datum in unpack_datum_page(cast(DatumPage, doc)) for found in self._datum(datum)
            ]
        if name == "datum":
            return self._datum(cast(Datum, doc))
        if name == "stream_datum":
            return self._stream_datum(cast(StreamDatum, doc))
        if name == "resource":
            self._sources[doc["uid"]] = _Source(_place_of_resource(cast(Resource, doc), self._roots), None)
            return [("datum", id_) for id_, (resource, _) in self._datums.items() if resource == doc["uid"]]
        if name == "stream_resource" and doc["uid"] not in self._sources:
            place = place_of_stream(cast(StreamResource, doc), self._roots)
            self._sources[doc["uid"]] = _Source(place, doc["data_key"])
            return [found for early in self._early.pop(doc["uid"], ()) for found in self._stream_datum(early)]
        return []

    def take(self, reference: Reference, per_event: int) -> FramePlace | None:
        """Return the place of a frame, None while no document tells it.

        Parameters
        ----------
        reference : tuple
            From `reference`.
        per_event : int
            Exposures per event by the descriptor, where the resource does not say.

        Raises
        ------
        DocumentError
            Frames that are kept in a way that cannot be read here.
        """
        if reference[0] == "datum":
            resource, kwargs = self._datums.get(reference[1], ("", {}))
            source = self._sources.get(resource)
            if source is None:
                return None
            return _at(source.checked(), int(kwargs.get("point_number", 0)), per_event, kwargs)
        indices = self._stream_indices.get(reference)
        if not indices:
            return None
        resource, index = indices.popleft()
        return _at(self._sources[resource].checked(), index, per_event, {})

    def _datum(self, doc: Datum) -> list[Reference]:
        self._datums[doc["datum_id"]] = (doc["resource"], doc["datum_kwargs"])
        return [("datum", doc["datum_id"])]

    def _stream_datum(self, doc: StreamDatum) -> list[Reference]:
        source = self._sources.get(doc["stream_resource"])
        if source is None:
            self._early[doc["stream_resource"]].append(doc)
            return []
        numbers = range(doc["seq_nums"]["start"], doc["seq_nums"]["stop"])
        indices = range(doc["indices"]["start"], doc["indices"]["stop"])
        if len(numbers) != len(indices):
            return []  # nothing says which frame is which: their events stay without
        found: list[Reference] = []
        for number, index in zip(numbers, indices, strict=True):
            reference = ("stream", str(doc["descriptor"]), str(source.data_key), str(number))
            # Not by the uid of the document: a run read back from its store has others.
            if (reference, index) in self._seen:
                continue
            self._seen.add((reference, index))
            self._stream_indices[reference].append((doc["stream_resource"], index))
            found.append(reference)
        return found


def _at(place: FramePlace, index: int, per_event: int, datum_kwargs: Mapping[str, Any]) -> FramePlace:
    return FramePlace(
        path=place.path,
        dataset=place.dataset,
        index=index,
        per_event=place.per_event or per_event,
        spec=place.spec,
        resource_kwargs=place.resource_kwargs,
        datum_kwargs=datum_kwargs,
    )


def _place_of_resource(doc: Resource, roots: RootMap) -> FramePlace:
    kwargs = dict(doc["resource_kwargs"])
    spec = str(doc["spec"])
    within = str(doc["resource_path"])
    if doc.get("path_semantics") == "windows":
        within = within.replace("\\", "/")
    named = pure_path(str(doc["root"])).joinpath(within.lstrip("/")) if doc.get("root") else within
    path = roots.path(named)
    per_event = int(kwargs.get("frame_per_point") or 0)
    if spec in _HDF5_SPECS:
        dataset = str(kwargs.get("dataset") or kwargs.get("path") or _HDF5_SPECS[spec])
        return FramePlace(path, dataset, per_event=per_event)
    return FramePlace(path, spec=spec, per_event=per_event, resource_kwargs=kwargs)


def place_of_stream(doc: StreamResource, roots: RootMap) -> FramePlace | DocumentError:
    parameters = doc["parameters"]
    uri = urlsplit(doc["uri"])
    if doc["mimetype"] != _HDF5_MIMETYPE or parameters.get("template") or uri.scheme != "file":
        return DocumentError(
            f"frames of {doc['uri']} ({doc['mimetype']}) cannot be read here; let the detector write "
            "one HDF5 file on "
            "a disk that this machine sees"
        )
    dataset = str(parameters.get("dataset") or parameters.get("path") or "/entry/data/data")
    per_event = int(parameters.get("multiplier") or parameters.get("frame_per_point") or 0)
    return FramePlace(roots.path(str(doc["uri"])), dataset, per_event=per_event)
