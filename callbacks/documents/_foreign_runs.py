"""Runs that other plans made, told as ours: the documents of any energy scan with a camera, with labels."""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import h5py
import numpy as np
import numpy.typing as npt
from event_model import unpack_event_page

from callbacks.errors import CallbackError, DocumentError
from edge_fitting import ReferenceSeries, edge_name
from scan_contract import (
    ALL_ENERGIES,
    CONTRACT_KEY,
    LABEL_DEVICE,
    ContractError,
    FullFieldContract,
    Shot,
    is_energy_scan,
    label_data_keys,
    make_contract,
    shot_values,
)

from ._routing import RunRouting

Document = tuple[str, dict[str, Any]]
Stream = Literal["dark", "flat", "primary"]

_KEV = 1000.0
# No edge of the project lies below 280 eV or above 100 keV, so that a number tells its unit.
_HIGHEST_KEV = 100.0
# Readings of one energy scatter by less than this around it; neighbours of the finest grids are 0.1 eV apart.
_SAME_ENERGY_EV = 0.05
_OUR_STREAMS: Mapping[str, Stream] = {"primary": "primary", "flat": "flat", "dark": "dark"}


@dataclass(frozen=True)
class FrameFile:
    """Frames in an HDF5 file, for flats or darks that are in no run.

    Parameters
    ----------
    path : Path or str
        The file.
    dataset : str
        Path of the dataset, (rows, cols) or (n, rows, cols).
    exposure_s : float, optional
        Exposure of the frames; by default that of the scan.
    """

    path: Path | str
    dataset: str
    exposure_s: float | None = None

    def read(self) -> npt.NDArray[Any]:
        """Return the frames, (n, rows, cols).

        Raises
        ------
        CallbackError
            The file or the dataset cannot be read, or holds no frames.
        """
        try:
            with h5py.File(self.path, "r") as file:
                frames = np.asarray(file[self.dataset])
        except (OSError, KeyError) as error:
            raise CallbackError(
                f"no frames can be read from {self.dataset} of {self.path}: {error}"
            ) from error
        if frames.ndim not in (2, 3) or not frames.size or frames.dtype.kind not in "uif":
            raise CallbackError(
                f"{self.dataset} of {self.path} holds {frames.dtype} of shape {frames.shape}, which are no frames"
            )
        return frames.reshape(-1, *frames.shape[-2:])


def planned_energies(start: Mapping[str, Any]) -> list[float] | None:
    """Read the planned positions of a `bluesky.plans.list_scan` or `scan` of one motor from its start document.

    Returns
    -------
    list of float or None
        In the order of the plan; None where the document does not say.
    """
    pattern = start.get("plan_pattern_args")
    arguments = pattern.get("args") if isinstance(pattern, Mapping) else None
    try:
        if isinstance(arguments, list | tuple) and len(arguments) == 2:
            return [float(value) for value in arguments[1]]
        if isinstance(arguments, list | tuple) and len(arguments) == 3:
            n_points = int(
                start.get("num_points", pattern.get("num", 0)) if isinstance(pattern, Mapping) else 0
            )
            return (
                np.linspace(float(arguments[1]), float(arguments[2]), n_points).tolist() if n_points else None
            )
    except (TypeError, ValueError):
        return None
    return None


@dataclass(frozen=True)
class ForeignLayout:
    """How the runs of a beamline's own plans are to be understood.

    Parameters
    ----------
    edge : str
        Edge that is scanned, such as ``Ni_K``.
    camera, energy : str
        Names of the camera and of the energy axis in the documents.
    i0 : str, optional
        Name of what measures the incident intensity.
    exposure_s : float or str
        Exposure of a frame, or the key that holds it: in the events, or in a device's configuration.
    streams : mapping of str to {"primary", "flat", "dark"}
        What their streams hold.
    frame_type : str, optional
        Key of the events that says what a frame is, where one stream holds all kinds.
    frame_types : mapping, optional
        What the values of that key mean; NeXus' ``image_key`` by default.
    energies : callable
        Gives the planned energies from the start document, in eV or keV, or None where they are not known: the
        run is then told as a whole when it has ended. By default those of `list_scan` and `scan`.
    accepts : callable, optional
        Whether a start document opens such a scan. By default where it names the camera as a detector and the
        energy axis as a motor.
    flat_runs, dark_runs : mapping, optional
        Metadata by which to know runs that hold nothing but flats or darks; those last seen serve the next scan.
    flats, darks : FrameFile, optional
        Flats and darks that are in files.
    n_flats : int
        Flats to wait for at an energy before frames are fitted.
    n_darks : int
        Darks to wait for; 0 for a counting detector, which needs none.
    references : ReferenceSeries, optional
        Reference spectra.
    pixel_size_nm : float, optional
        Pixel size at the sample.
    """

    edge: str
    camera: str
    energy: str
    i0: str | None = None
    exposure_s: float | str = 1.0
    streams: Mapping[str, Stream] = field(default_factory=lambda: _OUR_STREAMS)
    frame_type: str | None = None
    frame_types: Mapping[Any, Stream] = field(default_factory=lambda: {0: "primary", 1: "flat", 2: "dark"})
    energies: Callable[[Mapping[str, Any]], Sequence[float] | None] = planned_energies
    accepts: Callable[[Mapping[str, Any]], bool] | None = None
    flat_runs: Mapping[str, Any] | None = None
    dark_runs: Mapping[str, Any] | None = None
    flats: FrameFile | None = None
    darks: FrameFile | None = None
    n_flats: int = 1
    n_darks: int = 1
    references: ReferenceSeries | None = None
    pixel_size_nm: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "edge", edge_name(self.edge))

    def opens_scan(self, start: Mapping[str, Any]) -> bool:
        """Return whether a start document opens a scan of this layout."""
        if self.accepts is not None:
            return bool(self.accepts(start))
        return self.camera in _names(start.get("detectors")) and self.energy in _names(start.get("motors"))

    def kind_of_run(self, start: Mapping[str, Any]) -> Stream | None:
        """Return what a run holds nothing but: flats or darks; None for any other run."""
        for wanted, stream in ((self.flat_runs, "flat"), (self.dark_runs, "dark")):
            if wanted and all(start.get(key) == value for key, value in wanted.items()):
                return cast(Stream, stream)
        return None


class ForeignRuns:
    """Translates documents: those of foreign energy scans get the contract and the labels of ours, others pass.

    Frames stay where they are, in the events or in files that the documents name. A run keeps its uid, so that maps
    are linked to the run as it was stored.

    Parameters
    ----------
    layouts : sequence of ForeignLayout
        The first that accepts a run is taken.
    """

    def __init__(self, layouts: Sequence[ForeignLayout]) -> None:
        self._layouts = tuple(layouts)
        self._runs: dict[str, _Scan | _Corrections] = {}
        self._routing = RunRouting()
        self._corrections: dict[tuple[int, Stream], _Corrections] = {}

    def translate(self, name: str, doc: Mapping[str, Any]) -> list[Document]:
        """Take one document and return those to go on with: none, one or several.

        Raises
        ------
        CallbackError
            A document of a foreign scan that cannot be understood, or flats or darks that cannot be read.
        """
        document = dict(doc)
        uid = self._routing.run_of(name, document)
        if uid is None:
            return [(name, document)]
        if name == "start":
            self._open(document)
        run = self._runs.get(uid)
        try:
            return [(name, document)] if run is None else run.translate(name, document)
        finally:
            if name == "stop":
                self._runs.pop(uid, None)
                self._routing.forget(uid)

    def _open(self, start: dict[str, Any]) -> None:
        if is_energy_scan(start):
            return
        for number, layout in enumerate(self._layouts):
            stream = layout.kind_of_run(start)
            if stream is not None:
                found = _Corrections(stream)
                self._corrections[number, stream] = found
                self._runs[start["uid"]] = found
                return
            if layout.opens_scan(start):
                kept = [self._corrections.get((number, kind)) for kind in ("dark", "flat")]
                self._runs[start["uid"]] = _Scan(layout, start, [run for run in kept if run is not None])
                return


class _Corrections:
    """A run that holds nothing but flats or darks, kept for the scans that follow it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._documents: list[Document] = []

    def translate(self, name: str, doc: dict[str, Any]) -> list[Document]:
        self._documents.append((name, doc))
        return [(name, doc)]

    def retold(self, run: str) -> Iterator[Document]:
        """Tell the documents as those of a stream of another run."""
        for name, doc in self._documents:
            if name in ("resource", "stream_resource"):
                yield name, {**doc, "run_start": run}
            elif name == "descriptor":
                yield name, {**doc, "run_start": run, "uid": _derived(doc["uid"], run), "name": self.stream}
            elif name in ("event", "event_page", "stream_datum"):
                yield name, {**doc, "descriptor": _derived(doc["descriptor"], run)}
            elif name in ("datum", "datum_page"):
                yield name, doc


class _Scan:
    """One foreign scan on its way."""

    def __init__(
        self, layout: ForeignLayout, start: dict[str, Any], corrections: Sequence[_Corrections]
    ) -> None:
        self._layout = layout
        self._start = start
        self._corrections = corrections
        self._has = {run.stream for run in corrections}
        self._energies: list[float] = []
        self._held: list[Document] | None = None
        self._descriptors: dict[str, _Descriptor] = {}
        self._told: set[str] = set()
        self._slots: dict[tuple[str, int], Shot] = {}
        self._attempts: Counter[tuple[str, int]] = Counter()
        self._repeats: Counter[tuple[str, int, float]] = Counter()
        self._numbers: Counter[str] = Counter()

    def translate(self, name: str, doc: dict[str, Any]) -> list[Document]:
        if name == "start":
            energies = self._layout.energies(doc)
            if energies is None or not len(energies):
                self._held = [(name, doc)]
                return []
            return self._begin(_in_ev(np.asarray(energies, float)).tolist())
        if self._held is not None:
            self._held.append((name, doc))
            return self._release() if name == "stop" else []
        return list(self._tell(name, doc))

    def _begin(self, energies: Sequence[float]) -> list[Document]:
        """Give the start document its contract, then tell the corrections that are there already."""
        counts = Counter(energies)
        self._energies = list(counts)
        start = {**self._start, CONTRACT_KEY: self._contract(max(counts.values()))}
        return [("start", start), *self._files(), *self._earlier_runs()]

    def _release(self) -> list[Document]:
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
        told = self._begin(_distinct(known))
        for name, doc in held[1:]:
            told += self._tell(name, doc)
        return told

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

    def _files(self) -> Iterator[Document]:
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
    ) -> Iterator[Document]:
        image = {
            "source": source,
            "dtype": "array",
            "shape": list(frames.shape[1:]),
            "dtype_numpy": frames.dtype.str,
        }
        labels = label_data_keys(source=source)
        key = f"{self._layout.camera}_image"
        descriptor = _derived(self._start["uid"], stream)
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
                    "uid": _derived(descriptor, str(number)),
                    "descriptor": descriptor,
                    "seq_num": number + 1,
                    "time": time.time(),
                    "data": data,
                    "timestamps": dict.fromkeys(data, time.time()),
                    "filled": {},
                },
            )

    def _earlier_runs(self) -> Iterator[Document]:
        for run in self._corrections:
            for name, doc in run.retold(self._start["uid"]):
                yield from self._tell(name, doc, only=run.stream)

    def _tell(self, name: str, doc: dict[str, Any], only: Stream | None = None) -> Iterator[Document]:
        if name == "descriptor":
            stream = only or self._layout.streams.get(doc.get("name", "primary"))
            mixed = self._layout.frame_type is not None and stream == "primary" and only is None
            self._descriptors[doc["uid"]] = _Descriptor(doc, stream, mixed)
            if stream is None or not mixed:
                yield name, doc if stream is None else self._labelled(doc, stream, doc["uid"])
        elif name == "event":
            yield from self._event(doc)
        elif name == "event_page":
            for event in unpack_event_page(cast(Any, doc)):
                yield from self._event(dict(event))
        elif name == "stream_datum" and self._descriptors.get(doc["descriptor"], _UNKNOWN).mixed:
            raise DocumentError(
                f"run {self._start['uid'][:8]} keeps frames of all kinds in one stream of a file, which cannot be told"
                " apart here; give flats and darks a stream each"
            )
        else:
            yield name, doc

    def _labelled(self, doc: Mapping[str, Any], stream: str, uid: str) -> dict[str, Any]:
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

    def _energy_keys(self, keys: Mapping[str, Any], doc: Mapping[str, Any]) -> list[str]:
        of_axis = doc.get("object_keys", {}).get(self._layout.energy, [self._layout.energy])
        return [key for key in of_axis if key in keys and not keys[key].get("shape")]

    def _event(self, event: dict[str, Any]) -> Iterator[Document]:
        descriptor = self._descriptors.get(event["descriptor"])
        if descriptor is None or descriptor.stream is None:
            yield "event", event
            return
        stream = descriptor.stream
        uid = event["descriptor"]
        if descriptor.mixed:
            kind = event["data"].get(self._layout.frame_type)
            if kind not in self._layout.frame_types:
                raise DocumentError(
                    f"an event of run {self._start['uid'][:8]} says {self._layout.frame_type} = {kind!r}; known are "
                    f"{', '.join(map(repr, self._layout.frame_types))}"
                )
            stream = self._layout.frame_types[kind]
            uid = _derived(uid, stream)
            if uid not in self._told:
                self._told.add(uid)
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
                data[key] = float(_in_ev(np.asarray([value]))[0])
        data |= shot_values(shot, self._attempts[known])
        told = {**event, "descriptor": uid, "data": data}
        if descriptor.mixed:
            self._numbers[stream] += 1
            told["seq_num"] = self._numbers[stream]
        told["timestamps"] = {
            **event.get("timestamps", {}),
            **dict.fromkeys(shot_values(shot, 0), event["time"]),
        }
        yield "event", told

    def _shot(self, stream: Stream, event: Mapping[str, Any], descriptor: Mapping[str, Any]) -> Shot:
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
            return float(_in_ev(np.asarray([float(cast(Any, value))]))[0])
        except (TypeError, ValueError):
            return float("nan")

    def _exposure_s(self, event: Mapping[str, Any], descriptor: Mapping[str, Any]) -> float:
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
    doc: Mapping[str, Any]
    stream: Stream | None
    mixed: bool


_UNKNOWN = _Descriptor({}, None, False)


def _names(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


def _events(documents: Sequence[Document]) -> Iterator[Mapping[str, Any]]:
    for name, doc in documents:
        if name == "event":
            yield doc
        elif name == "event_page":
            yield from unpack_event_page(cast(Any, doc))


def _distinct(energies: Sequence[float]) -> list[float]:
    """Return each energy once, in the order met; readings of the same one as often as they came."""
    found: list[float] = []
    told: list[float] = []
    for value in energies:
        same = next((known for known in found if abs(known - value) <= _SAME_ENERGY_EV), None)
        if same is None:
            found.append(value)
        told.append(value if same is None else same)
    return told


def _in_ev(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return energies in eV, given in eV or keV."""
    return np.where(np.abs(values) < _HIGHEST_KEV, values * _KEV, values)


def _derived(uid: str, word: str) -> str:
    """Return a uid that is the same each time a run is translated."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{uid}/{word}"))
