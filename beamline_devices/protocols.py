"""What a plan may ask of a device, composed from `bluesky.protocols`.

Plans are written against these and nothing else, so that the digital twin, classic ophyd devices and
ophyd-async devices serve the same scan. Whether a call answers at once or hands back an awaitable is the
business of the RunEngine.
"""

from typing import Any, Protocol, runtime_checkable

from bluesky.protocols import (
    Checkable,
    HasHints,
    HasName,
    Movable,
    Readable,
    Stageable,
    Triggerable,
)

__all__ = ["EnergyAxis", "FrameDetector", "NamedPosition", "PointDetector", "SampleStage", "Shutter"]


@runtime_checkable
class EnergyAxis(Movable[float], Readable[Any], Checkable[float], HasHints, Protocol):
    """Photon energy of the beam in eV.

    ``hints["fields"][0]`` names the readback key in eV; ``check_value`` refuses an energy outside the limits
    before anything moves.
    """


@runtime_checkable
class FrameDetector(Readable[Any], Triggerable, Stageable, Protocol):
    """A camera: one trigger, one frame.

    Its reading holds exactly one image (a key with two or more dimensions longer than one).
    """

    exposure_s: Movable[float]
    """Exposure of the next frame in seconds."""


@runtime_checkable
class PointDetector(Readable[Any], Triggerable, HasHints, Protocol):
    """One number per trigger, such as the incident intensity; ``hints["fields"][0]`` names its key."""


@runtime_checkable
class NamedPosition(Movable[str], Readable[Any], Checkable[str], HasName, Protocol):
    """A device with a few named positions; ``check_value`` refuses any other name."""


@runtime_checkable
class Shutter(NamedPosition, Protocol):
    """Beam shutter with the positions "open" and "closed"."""


@runtime_checkable
class SampleStage(NamedPosition, Protocol):
    """Stage that takes the sample "in" and "out" of the beam."""
