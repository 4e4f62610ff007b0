"""One energy scan of another plan, translated document by document."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from event_model import Event, EventDescriptor, EventPage, StreamDatum, unpack_event_page

from callbacks.errors import DocumentError
from scan_contract import (
    ALL_ENERGIES,
    CONTRACT_KEY,
    LABEL_DEVICE,
    ContractError,
    FullFieldContract,
    Shot,
    label_data_keys,
    make_contract,
    shot_values,
)

from ._document_types import AnyDocument, NamedDocument
from ._foreign_corrections import ForeignCorrections, derived_uid
from ._foreign_layout import LAYOUT_KEY, ForeignLayout, Stream, in_ev

# Readings of one energy scatter by less than this around it; neighbours of the finest grids are 0.1 eV apart.
_SAME_ENERGY_EV = 0.05


class ForeignScan:
    """One foreign scan on its way."""

    def __init__(
        self, layout: ForeignLayout, start: AnyDocument, corrections: Sequence[ForeignCorrections]
    ) -> None:
        self._layout = layout
        self._start = start
        self._corrections = corrections
        self._has = {run.stream for run in corrections}
        self._energies: list[float] = []
        self._held: list[NamedDocument] | None = None
        self._descriptors: dict[str, _Descriptor] = {}
        self._descriptors_given: set[str] = set()
        self._slots: dict[tuple[str, int], Shot] = {}
        self._attempts: Counter[tuple[str, int]] = Counter()
        self._repeats: Counter[tuple[str, int, float]] = Counter()
        self._numbers: Counter[str] = Counter()

    def translate(self, name: str, doc: AnyDocument) -> list[NamedDocument]:
        if name == "start":
            energies = self._layout.energies(doc)
            if energies is None or not len(energies):
                self._held = [(name, doc)]
                return []
            return self._begin(in_ev(np.asarray(energies, float)).tolist())
        if self._held is not None:
            self._held.append((name, doc))
            return self._release() if name == "stop" else []
        return list(self._translated(name, doc))

    def _begin(self, energies: Sequence[float]) -> list[NamedDocument]:
        """Give the start document its contract, then tell the corrections that are there already."""
        counts = Counter(energies)
        self._energies = list(counts)
        start = {
            **self._start,
            CONTRACT_KEY: self._contract(max(counts.values())),
            LAYOUT_KEY: self._layout.name or f"{self._layout.camera} against {self._layout.energy}",
        }
        return [("start", start), *self._files(), *self._earlier_runs()]

    def _release(self) -> list[NamedDocument]:
        """Tell a run whose energies nobody announced, now that they are known."""
        held, self._held = self._held or [], None
        readings: list[float] = []
        streams = {doc["uid"]: doc.get("name", "primary") for name, doc in held if name == "descriptor"}
        for event in _events(held):
            if self._layout.streams.get(streams.get(event["descriptor"], "")) == "primary":
                readings.append(self._energy_ev(event["data"]))
        known = [value for value in readings if np.isfinite(value)]
        if not known:
            raise DocumentError(
                f"run {self._start['uid'][:8]} holds no reading of the energy axis {self._layout.energy!r}"
            )
        translated = self._begin(_distinct(known))
        for name, doc in held[1:]:
            translated += self._translated(name, doc)
        return translated

    def _contract(self, repeats: int) -> dict[str, Any]:
        layout = self._layout
        exposure = layout.exposure_s if isinstance(layout.exposure_s, int | float) else 1.0
        has_darks = layout.darks is not None or layout.n_darks > 0
        references = None if layout.references is None else layout.references.to_dict()
        try:
            return make_contract(
                FullFieldContract,
                edge=layout.edge,
                energies_ev=self._energies,
                exposure_s=[float(exposure)] * len(self._energies),
                repeats=repeats,
                flat_order="before_all" if layout.flats is not None or "flat" in self._has else "after_all",
                n_flats=layout.n_flats,
                n_darks=layout.n_darks if has_darks else 0,
                pixel_size_nm=layout.pixel_size_nm,
                references=references,
                reference_sources=(references or {}).get("sources") or (),
                devices={"camera": layout.camera, "energy": layout.energy, "i0": layout.i0},
                adapted_from=str(self._start.get("plan_name", "unknown plan")),
            ).to_dict()
        except ContractError as error:
            raise DocumentError(
                f"run {self._start['uid'][:8]} cannot be understood as an energy scan: {error}"
            ) from error

    def _files(self) -> Iterator[NamedDocument]:
        for stream, source in (("dark", self._layout.darks), ("flat", self._layout.flats)):
            if source is None:
                continue
            frames = source.read()
            exposure = source.exposure_s
            if exposure is None:
                exposure = (
                    self._layout.exposure_s if isinstance(self._layout.exposure_s, int | float) else 1.0
                )
            yield from self._frames_of_file(cast(Stream, stream), frames, float(exposure), str(source.path))

    def _frames_of_file(
        self, stream: Stream, frames: npt.NDArray[Any], exposure_s: float, source: str
    ) -> Iterator[NamedDocument]:
        image = {
            "source": source,
            "dtype": "array",
            "shape": list(frames.shape[1:]),
            "dtype_numpy": frames.dtype.str,
        }
        labels = label_data_keys(source=source)
        key = f"{self._layout.camera}_image"
        descriptor = derived_uid(self._start["uid"], stream)
        yield (
            "descriptor",
            {
                "uid": descriptor,
                "run_start": self._start["uid"],
                "time": time.time(),
                "name": stream,
                "data_keys": {key: image, **labels},
                "object_keys": {self._layout.camera: [key], LABEL_DEVICE: list(labels)},
                "configuration": {},
                "hints": {},
            },
        )
        for number, frame in enumerate(frames):
            shot = Shot(stream, ALL_ENERGIES, self._energies[0], exposure_s, number)
            data = {key: frame, **shot_values(shot, 0)}
            yield (
                "event",
                {
                    "uid": derived_uid(descriptor, str(number)),
                    "descriptor": descriptor,
                    "seq_num": number + 1,
                    "time": time.time(),
                    "data": data,
                    "timestamps": dict.fromkeys(data, time.time()),
                    "filled": {},
                },
            )

    def _earlier_runs(self) -> Iterator[NamedDocument]:
        for run in self._corrections:
            for name, doc in run.as_stream_of(self._start["uid"]):
                yield from self._translated(name, doc, only=run.stream)

    def _translated(self, name: str, doc: AnyDocument, only: Stream | None = None) -> Iterator[NamedDocument]:
        if name == "descriptor":
            stream = only or self._layout.streams.get(doc.get("name", "primary"))
            mixed = self._layout.frame_type is not None and stream == "primary" and only is None
            descriptor = cast(EventDescriptor, doc)
            self._descriptors[doc["uid"]] = _Descriptor(descriptor, stream, mixed)
            if stream is None or not mixed:
                yield name, doc if stream is None else self._labelled(descriptor, stream, doc["uid"])
        elif name == "event":
            yield from self._event(cast(Event, doc))
        elif name == "event_page":
            for event in unpack_event_page(cast(EventPage, doc)):
                yield from self._event(event)
        elif name == "stream_datum" and self._is_mixed(cast(StreamDatum, doc)):
            raise DocumentError(
                f"run {self._start['uid'][:8]} keeps frames of all kinds in one stream of a file, which cannot be told"
                " apart here; give flats and darks a stream each"
            )
        else:
            yield name, doc

    def _is_mixed(self, doc: StreamDatum) -> bool:
        descriptor = self._descriptors.get(doc["descriptor"])
        return descriptor is not None and descriptor.mixed

    def _labelled(self, doc: EventDescriptor, stream: str, uid: str) -> AnyDocument:
        labels = label_data_keys(source="adapter")
        keys = {key: dict(value) for key, value in doc["data_keys"].items()}
        for key in self._energy_keys(keys, doc):
            keys[key]["units"] = "eV"
        return {
            **doc,
            "uid": uid,
            "name": stream,
            "data_keys": {**keys, **labels},
            "object_keys": {**doc.get("object_keys", {}), LABEL_DEVICE: list(labels)},
        }

    def _energy_keys(self, keys: Mapping[str, Any], doc: EventDescriptor) -> list[str]:
        of_axis = doc.get("object_keys", {}).get(self._layout.energy, [self._layout.energy])
        return [key for key in of_axis if key in keys and not keys[key].get("shape")]

    def _event(self, event: Event) -> Iterator[NamedDocument]:
        descriptor = self._descriptors.get(event["descriptor"])
        if descriptor is None or descriptor.stream is None:
            yield "event", cast(AnyDocument, event)
            return
        stream = descriptor.stream
        uid = event["descriptor"]
        if descriptor.mixed:
            kind = event["data"].get(self._layout.frame_type or "")
            if kind not in self._layout.frame_types:
                raise DocumentError(
                    f"an event of run {self._start['uid'][:8]} says {self._layout.frame_type} = {kind!r}; known are "
                    f"{', '.join(map(repr, self._layout.frame_types))}"
                )
            stream = self._layout.frame_types[kind]
            uid = derived_uid(uid, stream)
            if uid not in self._descriptors_given:
                self._descriptors_given.add(uid)
                yield "descriptor", self._labelled(descriptor.doc, stream, uid)
        # A number that comes again after a pause is another attempt at the same frame.
        known = (event["descriptor"], int(event["seq_num"]))
        if known not in self._slots:
            self._slots[known] = self._shot(stream, event, descriptor.doc)
        else:
            self._attempts[known] += 1
        shot = self._slots[known]
        data = dict(event["data"])
        for key in self._energy_keys(descriptor.doc["data_keys"], descriptor.doc):
            value = data.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                data[key] = float(in_ev(np.asarray([value]))[0])
        data |= shot_values(shot, self._attempts[known])
        translated = {**event, "descriptor": uid, "data": data}
        if descriptor.mixed:
            self._numbers[stream] += 1
            translated["seq_num"] = self._numbers[stream]
        translated["timestamps"] = {
            **event.get("timestamps", {}),
            **dict.fromkeys(shot_values(shot, 0), event["time"]),
        }
        yield "event", translated

    def _shot(self, stream: Stream, event: Event, descriptor: EventDescriptor) -> Shot:
        energy = self._energy_ev(event["data"])
        exposure = self._exposure_s(event, descriptor)
        index = ALL_ENERGIES
        if stream != "dark" and np.isfinite(energy):
            nearest = int(np.argmin(np.abs(np.asarray(self._energies) - energy)))
            if stream == "primary" or abs(self._energies[nearest] - energy) <= self._tolerance_ev(nearest):
                index = nearest
        elif stream == "primary":
            raise DocumentError(
                f"event {event['seq_num']} of run {self._start['uid'][:8]} has no reading of {self._layout.energy!r}; "
                "it is left out"
            )
        setpoint = self._energies[max(index, 0)]
        place = (stream, index, exposure if stream == "dark" else 0.0)
        repeat = self._repeats[place]
        self._repeats[place] += 1
        return Shot(stream, index, setpoint, exposure, repeat)

    def _tolerance_ev(self, index: int) -> float:
        """Half of the way to the nearest other energy: a flat farther away belongs to no single energy."""
        others = np.delete(np.asarray(self._energies), index)
        return float(np.abs(others - self._energies[index]).min()) / 2 if others.size else np.inf

    def _energy_ev(self, data: Mapping[str, Any]) -> float:
        value = data.get(self._layout.energy)
        if value is None:
            named = [key for key in data if key.startswith(f"{self._layout.energy}_")]
            readbacks = [key for key in named if "set" not in key.lower()] or named
            value = data[readbacks[0]] if readbacks else None
        try:
            return float(in_ev(np.asarray([float(cast(Any, value))]))[0])
        except (TypeError, ValueError):
            return float("nan")

    def _exposure_s(self, event: Event, descriptor: EventDescriptor) -> float:
        wanted = self._layout.exposure_s
        if isinstance(wanted, int | float):
            return float(wanted)
        value = event["data"].get(wanted)
        for device in descriptor.get("configuration", {}).values():
            if value is None:
                value = device.get("data", {}).get(wanted)
        try:
            return float(cast(Any, value))
        except (TypeError, ValueError):
            raise DocumentError(
                f"nothing in run {self._start['uid'][:8]} says the exposure {wanted!r}; give a number of seconds"
            ) from None


@dataclass(frozen=True)
class _Descriptor:
    doc: EventDescriptor
    stream: Stream | None
    mixed: bool


def _events(documents: Sequence[NamedDocument]) -> Iterator[Event]:
    for name, doc in documents:
        if name == "event":
            yield cast(Event, doc)
        elif name == "event_page":
            yield from unpack_event_page(cast(EventPage, doc))


def _distinct(energies: Sequence[float]) -> list[float]:
    """Return energies with those that are the same within the tolerance made equal, in the order met."""
    found: list[float] = []
    made_equal: list[float] = []
    for value in energies:
        same = next((known for known in found if abs(known - value) <= _SAME_ENERGY_EV), None)
        if same is None:
            found.append(value)
        made_equal.append(value if same is None else same)
    return made_equal
