"""Where a stream keeps the channels of its readings, and what its values become."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from event_model import EventDescriptor

from callbacks.errors import DocumentError, FrameError
from scan_contract import CONTRACT_KEY, LABEL_DEVICE, RunContract

from ._frame_files import mean_exposure
from ._reading import Channel, Image
from ._saturation import stated_saturation

EXPOSURE_KEY = f"{LABEL_DEVICE}_exposure_s"


@dataclass(frozen=True)
class ChannelKey:
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
class StreamKeys:
    """Where a stream keeps what a reading needs."""

    stream: str
    energy: str | None
    i0: str | None
    image: tuple[str, ChannelKey] | None
    others: Mapping[str, ChannelKey]


def as_number(value: Any) -> float:
    """Return a value as a number, NaN where it is none."""
    try:
        return float(np.asarray(value, float).reshape(-1)[0])
    except (TypeError, ValueError, IndexError):
        return float("nan")


def resolve_keys(
    contract: RunContract, channels: Mapping[str, Channel], descriptor: EventDescriptor
) -> StreamKeys:
    stream = descriptor["name"]
    image: tuple[str, ChannelKey] | None = None
    others = {}
    for role, channel in channels.items():
        if channel.optional and _device(contract, channel.device) is None:
            continue
        if channel.optional and channel.kind == "array" and not _array_keys(contract, channel, descriptor):
            continue
        key = _channel_key(contract, channel, descriptor)
        if channel.kind == "image":
            image = role, key
        else:
            others[role] = key
    for label_key in (f"{LABEL_DEVICE}_energy_index", EXPOSURE_KEY):
        if label_key not in descriptor["data_keys"]:
            raise DocumentError(
                f"stream {stream!r} of run {contract.raw_uid[:8]} lacks {label_key}: it was not recorded by "
                "one of our plans"
            )
    return StreamKeys(
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


def _channel_key(contract: RunContract, channel: Channel, descriptor: EventDescriptor) -> ChannelKey:
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
    elif channel.kind == "array":
        found = _array_keys(contract, channel, descriptor)
    else:
        n_dims = 2 if channel.kind == "image" else 1
        of_device = descriptor.get("object_keys", {}).get(device or "", list(data_keys))
        found = [key for key in of_device if _fits(data_keys[key].get("shape") or (), n_dims)]
    if len(found) != 1:
        raise DocumentError(
            f"stream {descriptor['name']!r} of run {contract.raw_uid[:8]} has {len(found)} {channel.kind}s of "
            f"{channel.device} {device!r} where exactly one is needed"
        )
    data_key = data_keys[found[0]]
    sizes, dtype = data_key.get("shape") or (), data_key.get("dtype_numpy")
    if None in sizes:
        raise DocumentError(
            f"stream {descriptor['name']!r} of run {contract.raw_uid[:8]} does not say how large {found[0]!r} is: its "
            f"shape is {list(sizes)}"
        )
    return ChannelKey(
        key=found[0],
        kind=channel.kind,
        shape=tuple(int(size) for size in sizes if size is not None),
        dtype=dtype if isinstance(dtype, str) else None,
        saturation=stated_saturation(contract.start.get(CONTRACT_KEY, {}), descriptor, device)
        if channel.kind == "image"
        else None,
    )


def _array_keys(contract: RunContract, channel: Channel, descriptor: EventDescriptor) -> list[str]:
    """Return the key of an array, if the stream has it."""
    device = _device(contract, channel.device)
    key = f"{device}_{channel.part}" if channel.part else str(device)
    return [key] if device is not None and key in descriptor["data_keys"] else []


def _fits(shape: Iterable[int | None], n_dims: int) -> bool:
    """Whether a shape is that of an image (2; several exposures of it too) or of a spectrum (1)."""
    wide = sum(1 for size in shape if size != 1)
    return wide >= 2 if n_dims == 2 else wide == 1


def channel_value(channel: ChannelKey, value: Any) -> Any:
    """Return a scalar as a number (NaN where it is none), or a spectrum with its one axis.

    Raises
    ------
    FrameError
        A spectrum that is none, or of another length than was announced.
    """
    if channel.kind == "scalar":
        return as_number(value)
    if channel.kind == "array":
        return _array(channel, value)
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


def _array(channel: ChannelKey, value: Any) -> Any:
    try:
        array = np.asarray(value, channel.dtype)
        if array.dtype.kind in "uif":
            return array.reshape(channel.shape)
    except (TypeError, ValueError):
        pass
    raise FrameError(f"its {channel.key} is no array of numbers of the shape {channel.shape}; it is left out")


def _hinted(descriptor: EventDescriptor, device: str | None) -> str | None:
    """Return the key of a device's value: its first hint, else its first scalar."""
    if device is None:
        return None
    data_keys = descriptor["data_keys"]
    hints: Mapping[str, Any] = cast(Any, descriptor).get(
        "hints", {}
    )  # event-model has the type of one device here
    for key in hints.get(device, {}).get("fields", ()):
        if key in data_keys:
            return str(key)
    for key in descriptor.get("object_keys", {}).get(device, ()):
        if not data_keys[key].get("shape"):
            return str(key)
    return None


def as_image(value: Any, channel: ChannelKey) -> Image:
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
