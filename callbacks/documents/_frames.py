"""Documents of one run in, frames out: the only module that knows how a camera's image travels."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from event_model import unpack_event_page

from callbacks.errors import CallbackError, DocumentError, FrameError, MissingFrameError
from edge_fitting import EDGES

from ._assets import AssetBook, Reference
from ._contract import ScanContract
from ._frame_files import FrameFiles, FramePlace, mean_exposure
from ._left_out import FrameLoss, LeftOut
from ._root_map import RootMap
from ._saturation import stated_saturation

STREAMS = ("dark", "flat", "primary")

FILE_TIMEOUT_S = 20.0

# Further from the edge no scan of it goes: such a number is another quantity or unit.
_NEAR_EDGE_EV = (-1000.0, 2000.0)

Image = npt.NDArray[Any]
Event = Mapping[str, Any]
EventIdentity = tuple[str, int, float]


def event_identity(event: Event) -> EventIdentity:
    """Return what makes an event the same one live and read back from Tiled, which does not keep its uid."""
    return str(event["descriptor"]), int(event["seq_num"]), float(event["time"])


@dataclass(frozen=True)
class FrameRecord:
    """One frame of the camera with everything that says what it is.

    Attributes
    ----------
    stream : str
        ``dark``, ``flat`` or ``primary``.
    energy_index : int
        Index into the planned energies; -1 where the frame serves all of them.
    repeat, attempt : int
        Number of the frame at this energy, and how often this very frame had been taken before.
    energy_ev, energy_setpoint_ev : float
        Readback and setpoint.
    exposure_s, i0 : float
        Exposure, and incident intensity (1 where none was measured).
    image : ndarray, (rows, cols)
        Counts as the camera gave them.
    seq_num : int
        Number of the event in its stream.
    uid : str
        Uid of the event.
    time_s : float
        When the event was recorded (seconds since the epoch).
    """

    stream: str
    energy_index: int
    repeat: int
    attempt: int
    energy_ev: float
    energy_setpoint_ev: float
    exposure_s: float
    i0: float
    image: Image = field(repr=False)
    seq_num: int
    uid: str
    time_s: float

    @property
    def slot(self) -> tuple[str, int, int]:
        """What the frame is for: a later attempt at the same slot replaces it."""
        return self.stream, self.energy_index, self.repeat


@dataclass(frozen=True)
class _Keys:
    """Where a stream keeps what a frame needs."""

    stream: str
    image: str
    energy: str | None
    i0: str | None
    shape: tuple[int, ...]
    dtype: str | None
    saturation: float | None

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return tuple(size for size in self.shape if size != 1)[-2:]

    @property
    def per_event(self) -> int:
        """Exposures of one event."""
        return max(int(np.prod(self.shape[:-2])), 1)


class RunFrames:
    """Frames of one run from its documents.

    Feed it every document of the run after the start document; `add` returns the frames that have become
    complete. An event seen twice gives one frame. Frames travel in the events, or in files that the
    documents name: those are read while they are being written, and waited for within bounds. A frame that
    cannot be read costs that frame.

    Parameters
    ----------
    contract : ScanContract
        What the start document said.
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
    stated_saturation : float or None
        Counts at which the camera says that it saturates, None where nothing says so.
    warnings : list of str
        What else a reader of the maps should know.
    """

    def __init__(
        self,
        contract: ScanContract,
        *,
        file_timeout_s: float = FILE_TIMEOUT_S,
        roots: RootMap | None = None,
        left_out: LeftOut | None = None,
    ) -> None:
        self.left_out = LeftOut() if left_out is None else left_out
        self.stated_saturation: float | None = None
        self._contract = contract
        self._edge_ev = EDGES[contract.edge].energy_ev
        self._keys: dict[str, _Keys] = {}
        self._seen: set[EventIdentity] = set()
        self._assets = AssetBook(roots)
        self._files = FrameFiles(file_timeout_s)
        self._waiting: dict[Reference, deque[Event]] = defaultdict(deque)
        self._late: list[tuple[_Keys, Event, FramePlace]] = []
        self.warnings: list[str] = []

    def add(self, name: str, doc: Mapping[str, Any]) -> list[FrameRecord]:
        """Take one document and return the frames it completes, in order.

        After the stop document, what is left is looked for once more; what is lost then is in `warnings`.

        Raises
        ------
        DocumentError
            A stream of frames without an image or without energy.
        FrameError
            An image that is not what the descriptor promised, or a file that has not come in time. Where
            one document completes several frames and some of them are good, those are returned. Either
            way the bad ones are in `left_out`.
        """
        try:
            return self._add(name, doc)
        except _NOT_AS_IT_SHOULD_BE as error:
            raise _unusable(name, doc, error) from error

    def _add(self, name: str, doc: Mapping[str, Any]) -> list[FrameRecord]:
        if name == "descriptor":
            if doc["name"] in STREAMS and doc["uid"] not in self._keys:
                keys = _resolve_keys(self._contract, doc)
                self._keys[doc["uid"]] = keys
                self.stated_saturation = keys.saturation
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

    def _each(self, events: Iterable[Event], *, waited: bool = False) -> list[FrameRecord]:
        frames: list[FrameRecord] = []
        errors: list[CallbackError] = []
        for event in events:
            keys: _Keys | None = None
            try:
                keys = self._keys.get(event["descriptor"])
                if keys is None or (event_identity(event) in self._seen and not waited):
                    continue
                image = self._image(keys, event)
                self._seen.add(event_identity(event))
                if image is not None:
                    frames.append(self._record(keys, event, image))
            except CallbackError as error:
                errors.append(error)
                if keys is not None:
                    self._lose(keys, event, str(error))
            except _NOT_AS_IT_SHOULD_BE as error:
                unusable = _unusable("event", event, error)
                errors.append(unusable)
                if keys is not None and isinstance(event.get("data"), Mapping):
                    self._lose(keys, event, str(unusable))
        if errors and not frames:
            raise errors[0]
        return frames

    def _lose(self, keys: _Keys, event: Event, reason: str) -> None:
        """Note a frame that cannot be used."""
        data = event["data"]
        try:
            loss = FrameLoss(
                slot=(keys.stream, int(data["xanes_energy_index"]), int(data.get("xanes_repeat", 0))),
                attempt=int(data.get("xanes_attempt", 0)),
                energy_ev=self._named_energy_ev(keys, event),
                exposure_s=float(data["xanes_exposure_s"]),
                reason=reason.removesuffix(MissingFrameError.OUTLOOK).removesuffix("; it is left out"),
            )
        except (KeyError, TypeError, ValueError):
            self.warnings.append(reason)  # nothing says which frame it was
            return
        self.left_out.add(loss)

    def _image(self, keys: _Keys, event: Event) -> Image | None:
        """Return the image of an event; None while nothing says where it is."""
        value = event["data"].get(keys.image)
        if value is not None and not isinstance(value, str):
            return _as_image(value, keys)
        self._seen.add(event_identity(event))
        reference = self._assets.reference(keys.image, event)
        place = self._assets.take(reference, keys.per_event)
        if place is None:
            self._waiting[reference].append(event)
            return None
        try:
            return self._from_file(keys, event, place)
        except MissingFrameError:
            self._late.append((keys, event, place))
            raise

    def _from_file(self, keys: _Keys, event: Event, place: FramePlace) -> Image:
        block = self._files.read(place)
        if block.shape[1:] != keys.frame_shape:
            raise FrameError(
                f"its image has the shape {block.shape[1:]} in {place.path} where {keys.frame_shape} was "
                "announced; it is left out"
            )
        return mean_exposure(block, keys.saturation)

    def _finish(self) -> list[FrameRecord]:
        frames = []
        self._files.be_patient()
        for keys, event, place in self._late:
            try:
                frames.append(self._record(keys, event, self._from_file(keys, event, place)))
            except CallbackError as error:
                self._lose(keys, event, str(error))
        self._late.clear()
        for events in self._waiting.values():
            for event in events:
                keys = self._keys[event["descriptor"]]
                self._lose(keys, event, "no document says where its image is")
        self._waiting.clear()
        self._files.close()
        return frames

    def _record(self, keys: _Keys, event: Event, image: Image) -> FrameRecord:
        data = event["data"]
        try:
            record = FrameRecord(
                stream=keys.stream,
                energy_index=int(data["xanes_energy_index"]),
                repeat=int(data.get("xanes_repeat", 0)),
                attempt=int(data.get("xanes_attempt", 0)),
                energy_ev=self._energy_ev(keys, event),
                energy_setpoint_ev=_number(data.get("xanes_energy_setpoint_ev")),
                exposure_s=float(data["xanes_exposure_s"]),
                i0=1.0 if keys.i0 is None else _number(data.get(keys.i0)),
                image=image,
                seq_num=int(event["seq_num"]),
                uid=str(event["uid"]),
                time_s=float(event["time"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DocumentError(
                f"event {event['seq_num']} of stream {keys.stream!r} does not say which frame it is "
                f"({type(error).__name__}: {error}); it is left out"
            ) from error
        self.left_out.discard(record.slot)
        return record

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
            f"{self._contract.edge} edge ({self._edge_ev:g} eV); it is left out"
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
    return _number(event["data"].get("xanes_energy_setpoint_ev"))


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


def _resolve_keys(contract: ScanContract, descriptor: Mapping[str, Any]) -> _Keys:
    stream = descriptor["name"]
    data_keys = descriptor["data_keys"]
    camera = contract.devices.get("camera")
    of_camera = descriptor.get("object_keys", {}).get(camera, list(data_keys))
    images = [
        key for key in of_camera if sum(1 for size in data_keys[key].get("shape") or () if size != 1) >= 2
    ]
    if len(images) != 1:
        raise DocumentError(
            f"stream {stream!r} of run {contract.raw_uid[:8]} has {len(images)} images of camera {camera!r}"
            " where exactly one is needed"
        )
    for key in ("xanes_energy_index", "xanes_exposure_s"):
        if key not in data_keys:
            raise DocumentError(
                f"stream {stream!r} of run {contract.raw_uid[:8]} lacks {key}: it was not recorded by "
                "one of our plans"
            )
    image = data_keys[images[0]]
    return _Keys(
        stream=stream,
        image=images[0],
        energy=_hinted(descriptor, contract.devices.get("energy")),
        i0=_hinted(descriptor, contract.devices.get("i0")),
        shape=tuple(int(size) for size in image["shape"]),
        dtype=image.get("dtype_numpy"),
        saturation=stated_saturation(contract.xanes, descriptor, camera),
    )


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


def _as_image(value: Any, keys: _Keys) -> Image:
    """Return the image with its two axes, refusing what cannot be one."""
    try:
        image = np.asarray(value)
    except ValueError as error:
        raise FrameError("its image is ragged; it is left out") from error
    if image.dtype == object:
        raise FrameError("its image is ragged; it is left out")
    if not isinstance(value, np.ndarray) and keys.dtype is not None:
        image = image.astype(keys.dtype)  # documents that went through JSON lost their type
    if image.dtype.kind not in "uif":
        raise FrameError(f"its image holds {image.dtype} where counts are needed; it is left out")
    expected = tuple(size for size in keys.shape if size != 1)
    if image.ndim == 1 and len(expected) == 2 and image.size == expected[0] * expected[1]:
        image = image.reshape(expected)  # waveforms of classic EPICS signals arrive flat
    found = tuple(size for size in image.shape if size != 1)
    if found != expected:
        raise FrameError(
            f"its image has the shape {image.shape} where {keys.shape} was announced; it is left out"
        )
    return mean_exposure(image.reshape(-1, *found[-2:]), keys.saturation)
