"""Documents of one run in, frames out: the only module that knows how a camera's image travels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from event_model import unpack_event_page

from callbacks._contract import ScanContract
from callbacks._errors import DocumentError, FrameError

STREAMS = ("dark", "flat", "primary")

Image = npt.NDArray[Any]


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


class RunFrames:
    """Frames of one run from its documents.

    Feed it every document of the run after the start document; `add` returns the frames that have become
    complete. An event seen twice gives one frame.

    Parameters
    ----------
    contract : ScanContract
        What the start document said.
    """

    def __init__(self, contract: ScanContract) -> None:
        self._contract = contract
        self._keys: dict[str, _Keys] = {}
        self._seen: set[str] = set()

    def add(self, name: str, doc: Any) -> list[FrameRecord]:
        """Take one document and return the frames it completes, in order.

        Raises
        ------
        DocumentError
            A stream of frames without an image or without energy.
        FrameError
            An image that is not what the descriptor promised.
        """
        if name == "descriptor":
            if doc["name"] in STREAMS and doc["uid"] not in self._keys:
                self._keys[doc["uid"]] = _resolve_keys(self._contract, doc)
        elif name == "event":
            return self._event(doc)
        elif name == "event_page":
            return [frame for event in unpack_event_page(doc) for frame in self._event(event)]
        return []

    def _event(self, doc: Mapping[str, Any]) -> list[FrameRecord]:
        keys = self._keys.get(doc["descriptor"])
        if keys is None or doc["uid"] in self._seen:
            return []
        data = doc["data"]
        image = _as_image(data[keys.image], keys, doc)
        self._seen.add(doc["uid"])
        setpoint = float(data.get("xanes_energy_setpoint_ev", np.nan))
        return [
            FrameRecord(
                stream=keys.stream,
                energy_index=int(data["xanes_energy_index"]),
                repeat=int(data.get("xanes_repeat", 0)),
                attempt=int(data.get("xanes_attempt", 0)),
                energy_ev=setpoint if keys.energy is None else float(data[keys.energy]),
                energy_setpoint_ev=setpoint,
                exposure_s=float(data["xanes_exposure_s"]),
                i0=1.0 if keys.i0 is None else float(data[keys.i0]),
                image=image,
                seq_num=int(doc["seq_num"]),
                uid=str(doc["uid"]),
                time_s=float(doc["time"]),
            )
        ]


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
                f"stream {stream!r} of run {contract.raw_uid[:8]} lacks {key}: it was not recorded by one of our plans"
            )
    image = data_keys[images[0]]
    return _Keys(
        stream=stream,
        image=images[0],
        energy=_hinted(descriptor, contract.devices.get("energy")),
        i0=_hinted(descriptor, contract.devices.get("i0")),
        shape=tuple(int(size) for size in image["shape"]),
        dtype=image.get("dtype_numpy"),
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


def _as_image(value: Any, keys: _Keys, doc: Mapping[str, Any]) -> Image:
    """Return the image with its two axes, refusing what cannot be one."""
    image = np.asarray(value)
    if image.dtype == object:
        raise FrameError(
            f"event {doc['seq_num']} of stream {keys.stream!r} holds a ragged image; it is left out"
        )
    if not isinstance(value, np.ndarray) and keys.dtype is not None:
        image = image.astype(keys.dtype)  # documents that went through JSON lost their type
    expected = tuple(size for size in keys.shape if size != 1)
    if image.ndim == 1 and len(expected) == 2 and image.size == expected[0] * expected[1]:
        image = image.reshape(expected)  # waveforms of classic EPICS signals arrive flat
    found = tuple(size for size in image.shape if size != 1)
    if found != expected:
        raise FrameError(
            f"event {doc['seq_num']} of stream {keys.stream!r} holds an image of shape {image.shape} where "
            f"{keys.shape} was announced; it is left out"
        )
    if len(found) == 3:
        # Several exposures of one point: their mean is the frame.
        return image.reshape(found).mean(axis=0)
    return image.reshape(found)
