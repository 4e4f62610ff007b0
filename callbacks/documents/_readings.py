"""Documents of one run in, readings out: the only module that knows how a camera's image travels."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
from event_model import Event, EventDescriptor, EventPage, unpack_event_page

from callbacks.errors import CallbackError, DocumentError, FrameError, MissingFrameError
from edge_fitting import EDGES, SOFT_EDGES
from scan_contract import LABEL_DEVICE, STREAMS, PointContract, RunContract, XRFContract, read_label

from ._assets import AssetIndex, Reference
from ._channels import EXPOSURE_KEY, ChannelKey, StreamKeys, as_image, as_number, channel_value, resolve_keys
from ._flown_readings import FlownReadings
from ._frame_files import FrameFiles, FramePlace, mean_exposure
from ._left_out import FrameLoss, LeftOut
from ._reading import IMAGE_CHANNELS, Channel, EventIdentity, Image, Reading, event_identity
from ._root_map import RootMap
from ._run_contract import is_soft

FILE_TIMEOUT_S = 20.0
# Further from the edge no scan of it goes: such a number is another quantity or unit.
_NEAR_EDGE_EV = (-1000.0, 2000.0)
SETPOINT_KEY = f"{LABEL_DEVICE}_energy_setpoint_ev"


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
        edge = contract.scan.edge
        known = (SOFT_EDGES if is_soft(contract.scan) else EDGES)[edge].energy_ev
        # What excites fluorescence may be far above the edge.
        self._edge_ev = contract.scan.energies_ev[0] if isinstance(contract.scan, XRFContract) else known
        self._keys: dict[str, StreamKeys] = {}
        self._seen: set[EventIdentity] = set()
        self._assets = AssetIndex(roots)
        self._files = FrameFiles(file_timeout_s)
        scan = contract.scan
        self._flown = (
            FlownReadings(scan, roots, self._files)
            if isinstance(scan, PointContract) and scan.flight is not None
            else None
        )
        self._waiting: dict[Reference, deque[Event]] = defaultdict(deque)
        self._late: list[tuple[StreamKeys, Event, FramePlace]] = []
        self._said: list[str] = []

    @property
    def warnings(self) -> list[str]:
        """What else a reader of the results should know."""
        return self._said + ([] if self._flown is None else self._flown.warnings)

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
            self._open_stream(cast(EventDescriptor, doc))
            return []
        if name == "stop":
            return self._finish()
        if name == "event":
            return self._each([cast(Event, doc)])
        if name == "event_page":
            return self._each(unpack_event_page(cast(EventPage, doc)))
        if self._flown is not None:
            return self._flown.add(name, doc)
        references = self._assets.add(name, doc)
        return self._each(
            [event for found in references for event in self._waiting.pop(found, ())], waited=True
        )

    def _open_stream(self, doc: EventDescriptor) -> None:
        if self._flown is not None and doc["name"] == "primary":
            self._flown.open(doc)
        elif doc["name"] in STREAMS and doc["uid"] not in self._keys:
            self._keys[doc["uid"]] = resolve_keys(self._contract, self._channels, doc)

    def _each(self, events: Iterable[Event], *, waited: bool = False) -> list[Reading]:
        readings: list[Reading] = []
        errors: list[CallbackError] = []
        for event in events:
            keys: StreamKeys | None = None
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

    def _lose(self, keys: StreamKeys, event: Event, reason: str) -> None:
        """Note a frame that cannot be used."""
        data = event["data"]
        try:
            label = read_label(keys.stream, data)
            loss = FrameLoss(
                slot=label.slot,
                attempt=label.attempt,
                energy_ev=self._named_energy_ev(keys, event),
                exposure_s=float(data[EXPOSURE_KEY]),
                reason=reason.removesuffix(MissingFrameError.OUTLOOK).removesuffix("; it is left out"),
            )
        except (KeyError, TypeError, ValueError):
            self._said.append(reason)  # nothing says which frame it was
            return
        self.left_out.add(loss)

    def _image(self, keys: StreamKeys, image: ChannelKey, event: Event) -> Image | None:
        """Return the image of an event; None while nothing says where it is."""
        value = event["data"].get(image.key)
        if value is not None and not isinstance(value, str):
            return as_image(value, image)
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

    def _from_file(self, image: ChannelKey, place: FramePlace) -> Image:
        block = self._files.read(place)
        if block.shape[1:] != image.frame_shape:
            raise FrameError(
                f"its image has the shape {block.shape[1:]} in {place.path} where {image.frame_shape} was "
                "announced; it is left out"
            )
        return mean_exposure(block, image.saturation)

    def _finish(self) -> list[Reading]:
        readings = [] if self._flown is None else self._flown.finish()
        self._files.wait_again()
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

    def _reading(self, keys: StreamKeys, event: Event, image: Image | None) -> Reading:
        data = event["data"]
        channels = {
            role: channel_value(channel, data.get(channel.key)) for role, channel in keys.others.items()
        }
        if keys.image is not None:
            channels[keys.image[0]] = image
        try:
            reading = Reading(
                label=read_label(keys.stream, data),
                energy_ev=self._energy_ev(keys, event),
                energy_setpoint_ev=as_number(data.get(SETPOINT_KEY)),
                exposure_s=float(data[EXPOSURE_KEY]),
                i0=1.0 if keys.i0 is None else as_number(data.get(keys.i0)),
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

    def _energy_ev(self, keys: StreamKeys, event: Event) -> float:
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
            if note not in self._said:
                self._said.append(note)
            return 1000.0 * value
        if keys.stream != "primary":
            return value  # darks and flats are used by their energy index
        if not np.isfinite(value):
            raise FrameError("no energy was read back; it is left out")
        raise FrameError(
            f"{keys.energy or 'the energy'} is read back as a number that is neither eV nor keV near the "
            f"{self._contract.scan.edge} edge ({self._edge_ev:g} eV); it is left out"
        )

    def _named_energy_ev(self, keys: StreamKeys, event: Event) -> float:
        """Return the energy to name an event by: the readback, or what was set where that is none."""
        value = self._readback(keys, event)
        if _is_near(1000.0 * value, self._edge_ev):
            return 1000.0 * value
        return value if _is_near(value, self._edge_ev) else _setpoint_ev(event)

    @staticmethod
    def _readback(keys: StreamKeys, event: Event) -> float:
        return _setpoint_ev(event) if keys.energy is None else as_number(event["data"].get(keys.energy))


def _setpoint_ev(event: Event) -> float:
    return as_number(event["data"].get(SETPOINT_KEY))


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
