"""Documents of one run in, readings out: the only module that knows how a camera's image travels."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from event_model import unpack_event_page

from callbacks.errors import CallbackError, DocumentError, FrameError, MissingFrameError
from edge_fitting import EDGES
from scan_contract import CONTRACT_KEY, LABEL_DEVICE, STREAMS, Label, RunContract, read_label

from ._assets import AssetBook, Reference
from ._frame_files import FrameFiles, FramePlace, mean_exposure
from ._left_out import FrameLoss, LeftOut, Slot
from ._root_map import RootMap
from ._saturation import stated_saturation

FILE_TIMEOUT_S = 20.0

# Further from the edge no scan of it goes: such a number is another quantity or unit.
_NEAR_EDGE_EV = (-1000.0, 2000.0)

_EXPOSURE_KEY = f"{LABEL_DEVICE}_exposure_s"
_SETPOINT_KEY = f"{LABEL_DEVICE}_energy_setpoint_ev"

Image = npt.NDArray[Any]
Event = Mapping[str, Any]
EventIdentity = tuple[str, int, float]


def event_identity(event: Event) -> EventIdentity:
    """Return what makes an event the same one live and read back from Tiled, which does not keep its uid."""
    return str(event["descriptor"]), int(event["seq_num"]), float(event["time"])


@dataclass(frozen=True)
class Channel:
    """What of an event a technique reads.

    Parameters
    ----------
    device : str
        Role of the device in the contract, such as ``camera``; the contract says which device has it.
    kind : {"image", "spectrum", "scalar"}
        What the device gives in one event. Images may travel in files; the others are in the events.
    """

    device: str
    kind: Literal["image", "spectrum", "scalar"]


IMAGE_CHANNELS: Mapping[str, Channel] = MappingProxyType({"image": Channel("camera", "image")})
"""One image of the camera per event."""


@dataclass(frozen=True)
class Reading:
    """One event of an energy scan with everything that says what it is.

    Attributes
    ----------
    label : Label
        Stream, energy index, repeat, attempt, and places on the technique's own axes.
    energy_ev, energy_setpoint_ev : float
        Readback and setpoint.
    exposure_s, i0 : float
        Exposure, and incident intensity (1 where none was measured).
    channels : mapping of str to ndarray or float
        Values by role: an image, (rows, cols), as the camera gave it; a spectrum, (n,); a scalar.
    seq_num : int
        Number of the event in its stream.
    uid : str
        Uid of the event.
    time_s : float
        When the event was recorded (seconds since the epoch).
    saturation_counts : float or None
        Counts at which the camera says that it saturates, None where nothing says so.
    """

    label: Label
    energy_ev: float
    energy_setpoint_ev: float
    exposure_s: float
    i0: float
    channels: Mapping[str, Any] = field(repr=False)
    seq_num: int
    uid: str
    time_s: float
    saturation_counts: float | None = None

    @property
    def stream(self) -> str:
        """``dark``, ``flat`` or ``primary``."""
        return self.label.stream

    @property
    def energy_index(self) -> int:
        """Index into the planned energies; -1 where the reading serves all of them."""
        return self.label.energy_index

    @property
    def repeat(self) -> int:
        """Number of the reading at its place of the plan."""
        return self.label.repeat

    @property
    def attempt(self) -> int:
        """How often this very reading had been taken before."""
        return self.label.attempt

    @property
    def slot(self) -> Slot:
        """What the reading is for: a later attempt at the same slot replaces it."""
        return self.label.slot

    @property
    def image(self) -> Image:
        """The image, for techniques that have one."""
        return cast(Image, self.channels["image"])

    def with_image(self, image: Image) -> "Reading":
        """Return the same reading with another image."""
        return replace(self, channels={**self.channels, "image": image})


@dataclass(frozen=True)
class _ChannelKey:
    """Where a stream keeps a channel."""

    key: str
    kind: str
    shape: tuple[int, ...] = ()
    dtype: str | None = None
    saturation: float | None = None

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return tuple(size for size in self.shape if size != 1)[-2:]

    @property
    def per_event(self) -> int:
        """Exposures of one event."""
        return max(int(np.prod(self.shape[:-2])), 1)


@dataclass(frozen=True)
class _Keys:
    """Where a stream keeps what a reading needs."""

    stream: str
    energy: str | None
    i0: str | None
    image: tuple[str, _ChannelKey] | None
    others: Mapping[str, _ChannelKey]


class RunReadings:
    """Readings of one run from its documents.

    Feed it every document of the run after the start document; `add` returns the readings that have become
    complete. An event seen twice gives one reading. Frames travel in the events, or in files that the
    documents name: those are read while they are being written, and waited for within bounds. A frame that
    cannot be read costs that frame.

    Parameters
    ----------
    contract : RunContract
        What the start document said.
    channels : mapping of str to Channel
        What to read of each event, by role; at most one image.
    file_timeout_s : float
        How long to wait for a frame that should be in a file.
    roots : RootMap, optional
        Where the folders of the detector's files are on this machine.
    left_out : LeftOut, optional
        Where frames that cannot be used are noted; by default an account of its own.

    Attributes
    ----------
    left_out : LeftOut
        The frames that could not be used so far.
    warnings : list of str
        What else a reader of the results should know.

    Raises
    ------
    CallbackError
        For more than one channel with images.
    """

    def __init__(
        self,
        contract: RunContract,
        channels: Mapping[str, Channel] = IMAGE_CHANNELS,
        *,
        file_timeout_s: float = FILE_TIMEOUT_S,
        roots: RootMap | None = None,
        left_out: LeftOut | None = None,
    ) -> None:
        if sum(channel.kind == "image" for channel in channels.values()) > 1:
            raise CallbackError("readings with more than one image cannot be read; give one image channel")
        self.left_out = LeftOut() if left_out is None else left_out
        self._contract = contract
        self._channels = channels
        self._edge_ev = EDGES[contract.scan.edge].energy_ev
        self._keys: dict[str, _Keys] = {}
        self._seen: set[EventIdentity] = set()
        self._assets = AssetBook(roots)
        self._files = FrameFiles(file_timeout_s)
        self._waiting: dict[Reference, deque[Event]] = defaultdict(deque)
        self._late: list[tuple[_Keys, Event, FramePlace]] = []
        self.warnings: list[str] = []

    def add(self, name: str, doc: Mapping[str, Any]) -> list[Reading]:
        """Take one document and return the readings it completes, in order.

        After the stop document, what is left is looked for once more; what is lost then is in `warnings`.

        Raises
        ------
        DocumentError
            A stream without what is to be read of it.
        FrameError
            An image that is not what the descriptor promised, or a file that has not come in time. Where
            one document completes several frames and some of them are good, those are returned. Either
            way the bad ones are in `left_out`.
        """
        try:
            return self._add(name, doc)
        except _NOT_AS_IT_SHOULD_BE as error:
            raise _unusable(name, doc, error) from error

    def _add(self, name: str, doc: Mapping[str, Any]) -> list[Reading]:
        if name == "descriptor":
            if doc["name"] in STREAMS and doc["uid"] not in self._keys:
                keys = _resolve_keys(self._contract, self._channels, doc)
                self._keys[doc["uid"]] = keys
            return []
        if name == "stop":
            return self._finish()
        if name == "event":
            return self._each([doc])
        if name == "event_page":
            return self._each(unpack_event_page(cast(Any, doc)))
        references = self._assets.add(name, doc)
        return self._each(
            [event for found in references for event in self._waiting.pop(found, ())], waited=True
        )

    def _each(self, events: Iterable[Event], *, waited: bool = False) -> list[Reading]:
        readings: list[Reading] = []
        errors: list[CallbackError] = []
        for event in events:
            keys: _Keys | None = None
            try:
                keys = self._keys.get(event["descriptor"])
                if keys is None or (event_identity(event) in self._seen and not waited):
                    continue
                image = None if keys.image is None else self._image(keys, keys.image[1], event)
                self._seen.add(event_identity(event))
                if keys.image is None or image is not None:
                    readings.append(self._reading(keys, event, image))
            except CallbackError as error:
                errors.append(error)
                if keys is not None:
                    self._lose(keys, event, str(error))
            except _NOT_AS_IT_SHOULD_BE as error:
                unusable = _unusable("event", event, error)
                errors.append(unusable)
                if keys is not None and isinstance(event.get("data"), Mapping):
                    self._lose(keys, event, str(unusable))
        if errors and not readings:
            raise errors[0]
        return readings

    def _lose(self, keys: _Keys, event: Event, reason: str) -> None:
        """Note a frame that cannot be used."""
        data = event["data"]
        try:
            label = read_label(keys.stream, data)
            loss = FrameLoss(
                slot=label.slot,
                attempt=label.attempt,
                energy_ev=self._named_energy_ev(keys, event),
                exposure_s=float(data[_EXPOSURE_KEY]),
                reason=reason.removesuffix(MissingFrameError.OUTLOOK).removesuffix("; it is left out"),
            )
        except (KeyError, TypeError, ValueError):
            self.warnings.append(reason)  # nothing says which frame it was
            return
        self.left_out.add(loss)

    def _image(self, keys: _Keys, image: _ChannelKey, event: Event) -> Image | None:
        """Return the image of an event; None while nothing says where it is."""
        value = event["data"].get(image.key)
        if value is not None and not isinstance(value, str):
            return _as_image(value, image)
        self._seen.add(event_identity(event))
        reference = self._assets.reference(image.key, event)
        place = self._assets.take(reference, image.per_event)
        if place is None:
            self._waiting[reference].append(event)
            return None
        try:
            return self._from_file(image, place)
        except MissingFrameError:
            self._late.append((keys, event, place))
            raise

    def _from_file(self, image: _ChannelKey, place: FramePlace) -> Image:
        block = self._files.read(place)
        if block.shape[1:] != image.frame_shape:
            raise FrameError(
                f"its image has the shape {block.shape[1:]} in {place.path} where {image.frame_shape} was "
                "announced; it is left out"
            )
        return mean_exposure(block, image.saturation)

    def _finish(self) -> list[Reading]:
        readings = []
        self._files.be_patient()
        for keys, event, place in self._late:
            assert keys.image is not None
            try:
                readings.append(self._reading(keys, event, self._from_file(keys.image[1], place)))
            except CallbackError as error:
                self._lose(keys, event, str(error))
        self._late.clear()
        for events in self._waiting.values():
            for event in events:
                keys = self._keys[event["descriptor"]]
                self._lose(keys, event, "no document says where its image is")
        self._waiting.clear()
        self._files.close()
        return readings

    def _reading(self, keys: _Keys, event: Event, image: Image | None) -> Reading:
        data = event["data"]
        channels = {role: _value(channel, data.get(channel.key)) for role, channel in keys.others.items()}
        if keys.image is not None:
            channels[keys.image[0]] = image
        try:
            reading = Reading(
                label=read_label(keys.stream, data),
                energy_ev=self._energy_ev(keys, event),
                energy_setpoint_ev=_number(data.get(_SETPOINT_KEY)),
                exposure_s=float(data[_EXPOSURE_KEY]),
                i0=1.0 if keys.i0 is None else _number(data.get(keys.i0)),
                channels=channels,
                seq_num=int(event["seq_num"]),
                uid=str(event["uid"]),
                time_s=float(event["time"]),
                saturation_counts=None if keys.image is None else keys.image[1].saturation,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DocumentError(
                f"event {event['seq_num']} of stream {keys.stream!r} does not say which reading it is "
                f"({type(error).__name__}: {error}); it is left out"
            ) from error
        self.left_out.discard(reading.slot)
        return reading

    def _energy_ev(self, keys: _Keys, event: Event) -> float:
        """Return the energy of an event, from keV where the axis reads back in keV.

        Raises
        ------
        FrameError
            A sample frame at a number that is neither.
        """
        value = self._readback(keys, event)
        if _is_near(value, self._edge_ev):
            return value
        if _is_near(1000.0 * value, self._edge_ev):
            note = f"{keys.energy or 'the energy'} reads back in keV; its values were multiplied by 1000"
            if note not in self.warnings:
                self.warnings.append(note)
            return 1000.0 * value
        if keys.stream != "primary":
            return value  # darks and flats are used by their energy index
        if not np.isfinite(value):
            raise FrameError("no energy was read back; it is left out")
        raise FrameError(
            f"{keys.energy or 'the energy'} is read back as a number that is neither eV nor keV near the "
            f"{self._contract.scan.edge} edge ({self._edge_ev:g} eV); it is left out"
        )

    def _named_energy_ev(self, keys: _Keys, event: Event) -> float:
        """Return the energy to name an event by: the readback, or what was set where that is none."""
        value = self._readback(keys, event)
        if _is_near(1000.0 * value, self._edge_ev):
            return 1000.0 * value
        return value if _is_near(value, self._edge_ev) else _setpoint_ev(event)

    @staticmethod
    def _readback(keys: _Keys, event: Event) -> float:
        return _setpoint_ev(event) if keys.energy is None else _number(event["data"].get(keys.energy))


def _setpoint_ev(event: Event) -> float:
    return _number(event["data"].get(_SETPOINT_KEY))


def _number(value: Any) -> float:
    """Return a value as a number, NaN where it is none."""
    try:
        return float(np.asarray(value, float).reshape(-1)[0])
    except (TypeError, ValueError, IndexError):
        return float("nan")


def _is_near(energy: float, edge_ev: float) -> bool:
    return _NEAR_EDGE_EV[0] < energy - edge_ev < _NEAR_EDGE_EV[1]


def _unusable(name: str, doc: Any, error: Exception) -> DocumentError:
    number = doc.get("seq_num") if isinstance(doc, Mapping) else None
    return DocumentError(
        f"a document {name!r}{'' if number is None else f' (number {number})'} does not say what it must "
        f"({type(error).__name__}: {error}); it is left out"
    )


# What comes of a document whose parts are missing or of another type.
_NOT_AS_IT_SHOULD_BE = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)


def _resolve_keys(
    contract: RunContract, channels: Mapping[str, Channel], descriptor: Mapping[str, Any]
) -> _Keys:
    stream = descriptor["name"]
    image: tuple[str, _ChannelKey] | None = None
    others = {}
    for role, channel in channels.items():
        key = _channel_key(contract, channel, descriptor)
        if channel.kind == "image":
            image = role, key
        else:
            others[role] = key
    for label_key in (f"{LABEL_DEVICE}_energy_index", _EXPOSURE_KEY):
        if label_key not in descriptor["data_keys"]:
            raise DocumentError(
                f"stream {stream!r} of run {contract.raw_uid[:8]} lacks {label_key}: it was not recorded by "
                "one of our plans"
            )
    return _Keys(
        stream=stream,
        energy=_hinted(descriptor, _device(contract, "energy")),
        i0=_hinted(descriptor, _device(contract, "i0")),
        image=image,
        others=others,
    )


def _device(contract: RunContract, role: str) -> str | None:
    """Return the device that has a role, or measures a channel of that name."""
    scan = contract.scan
    of_channel: Mapping[str, str] = getattr(scan, "channels", None) or {}
    return scan.devices.get(role, of_channel.get(role))


def _channel_key(contract: RunContract, channel: Channel, descriptor: Mapping[str, Any]) -> _ChannelKey:
    """Find where a stream keeps a channel.

    Raises
    ------
    DocumentError
        It is not there, or more than one thing could be it.
    """
    data_keys = descriptor["data_keys"]
    device = _device(contract, channel.device)
    if channel.kind == "scalar":
        key = _hinted(descriptor, device)
        found = [] if key is None else [key]
    else:
        n_dims = 2 if channel.kind == "image" else 1
        of_device = descriptor.get("object_keys", {}).get(device, list(data_keys))
        found = [key for key in of_device if _fits(data_keys[key].get("shape") or (), n_dims)]
    if len(found) != 1:
        raise DocumentError(
            f"stream {descriptor['name']!r} of run {contract.raw_uid[:8]} has {len(found)} {channel.kind}s of "
            f"{channel.device} {device!r} where exactly one is needed"
        )
    data_key = data_keys[found[0]]
    return _ChannelKey(
        key=found[0],
        kind=channel.kind,
        shape=tuple(int(size) for size in data_key.get("shape") or ()),
        dtype=data_key.get("dtype_numpy"),
        saturation=stated_saturation(contract.start.get(CONTRACT_KEY, {}), descriptor, device)
        if channel.kind == "image"
        else None,
    )


def _fits(shape: Iterable[int], n_dims: int) -> bool:
    """Whether a shape is that of an image (2; several exposures of it too) or of a spectrum (1)."""
    wide = sum(1 for size in shape if size != 1)
    return wide >= 2 if n_dims == 2 else wide == 1


def _value(channel: _ChannelKey, value: Any) -> Any:
    """Return a scalar as a number (NaN where it is none), or a spectrum with its one axis.

    Raises
    ------
    FrameError
        A spectrum that is none, or of another length than was announced.
    """
    if channel.kind == "scalar":
        return _number(value)
    try:
        spectrum = np.asarray(value, channel.dtype).reshape(-1)
    except (TypeError, ValueError) as error:
        raise FrameError("its spectrum is no list of numbers; it is left out") from error
    if spectrum.size != int(np.prod(channel.shape)) or spectrum.dtype.kind not in "uif":
        raise FrameError(
            f"its spectrum has {spectrum.size} values of type {spectrum.dtype} where {channel.shape} was announced; "
            "it is left out"
        )
    return spectrum


def _hinted(descriptor: Mapping[str, Any], device: str | None) -> str | None:
    """Return the key of a device's value: its first hint, else its first scalar."""
    if device is None:
        return None
    data_keys = descriptor["data_keys"]
    for key in descriptor.get("hints", {}).get(device, {}).get("fields", ()):
        if key in data_keys:
            return str(key)
    for key in descriptor.get("object_keys", {}).get(device, ()):
        if not data_keys[key].get("shape"):
            return str(key)
    return None


def _as_image(value: Any, channel: _ChannelKey) -> Image:
    """Return the image with its two axes, refusing what cannot be one."""
    try:
        image = np.asarray(value)
    except ValueError as error:
        raise FrameError("its image is ragged; it is left out") from error
    if image.dtype == object:
        raise FrameError("its image is ragged; it is left out")
    if not isinstance(value, np.ndarray) and channel.dtype is not None:
        image = image.astype(channel.dtype)  # documents that went through JSON lost their type
    if image.dtype.kind not in "uif":
        raise FrameError(f"its image holds {image.dtype} where counts are needed; it is left out")
    expected = tuple(size for size in channel.shape if size != 1)
    if image.ndim == 1 and len(expected) == 2 and image.size == expected[0] * expected[1]:
        image = image.reshape(expected)  # waveforms of classic EPICS signals arrive flat
    found = tuple(size for size in image.shape if size != 1)
    if found != expected:
        raise FrameError(
            f"its image has the shape {image.shape} where {channel.shape} was announced; it is left out"
        )
    return mean_exposure(image.reshape(-1, *found[-2:]), channel.saturation)
