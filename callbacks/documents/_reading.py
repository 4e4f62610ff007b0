"""One event with its label and what was read in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, cast

import numpy.typing as npt
from event_model import Event

from scan_contract import Label

from ._left_out import Slot

Image = npt.NDArray[Any]
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
    kind : {"image", "spectrum", "scalar", "array"}
        What the device gives in one event. Images may travel in files; the others are in the events. An array has any
        number of dimensions, and the key of the device or, with `part`, that of one of its parts.
    optional : bool
        Whether a run may do without it; a reading then has no such channel.
    part : str
        Of an array: what comes after the name of the device in its key.
    """

    device: str
    kind: Literal["image", "spectrum", "scalar", "array"]
    optional: bool = False
    part: str = ""


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
