"""What a plan may ask of a device, composed from `bluesky.protocols`.

Plans are written against these and nothing else, so that the digital twin, classic ophyd devices and
ophyd-async devices serve the same scan. Whether a call answers at once or hands back an awaitable is the
business of the RunEngine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from bluesky.protocols import (
    Checkable,
    Flyable,
    HasHints,
    HasName,
    Movable,
    Preparable,
    Readable,
    Stageable,
    Stoppable,
    Triggerable,
    WritesStreamAssets,
)

__all__ = [
    "CountedLine",
    "EnergyAxis",
    "EnergyFlyer",
    "FlightPath",
    "FrameDetector",
    "LineDetector",
    "LinePath",
    "McaDetector",
    "NamedPosition",
    "PointDetector",
    "RotationAxis",
    "SampleStage",
    "Shutter",
]


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


@runtime_checkable
class RotationAxis(Movable[float], Readable[Any], HasName, Protocol):
    """Axis that turns the sample, in degrees."""


@dataclass(frozen=True)
class CountedLine:
    """A line of points that a stage runs along while a counter counts at each.

    Attributes
    ----------
    y_um : float
        Place of the line.
    first_um, last_um : float
        Places of the first and the last point.
    n_points : int
        How many points, evenly spaced.
    """

    y_um: float
    first_um: float
    last_um: float
    n_points: int


@runtime_checkable
class LineDetector(Readable[Any], Triggerable, HasHints, Protocol):
    """Counts at each point of a line per trigger; its reading holds exactly one array, of one dimension."""

    line: Movable[CountedLine]
    """The line that is taken next."""
    exposure_s: Movable[float]
    """Time at each point in seconds."""


@dataclass(frozen=True)
class FlightPath:
    """How the energy axis is to move while samples are recorded.

    Attributes
    ----------
    sweep : int
        Number of the sweep, from 0; recorded with each sample.
    energies_ev, times_s : tuple of float, (n,)
        Increasing energies, and when each is reached; in between the axis moves evenly. The first is where it starts.
    sample_s : float
        Time of a sample.
    """

    sweep: int
    energies_ev: tuple[float, ...]
    times_s: tuple[float, ...]
    sample_s: float

    @property
    def duration_s(self) -> float:
        """Time of the flight."""
        return self.times_s[-1] - self.times_s[0]


@dataclass(frozen=True)
class LinePath:
    """A line of a raster that is to be flown: evenly, a point every so often.

    Attributes
    ----------
    row : int
        Number of the line.
    first_um, last_um : float
        Middle of the first and of the last point.
    n_points : int
        How many there are.
    dwell_s : float
        Time of a point.
    """

    row: int
    first_um: float
    last_um: float
    n_points: int
    dwell_s: float

    @property
    def duration_s(self) -> float:
        """Time of the line."""
        return self.n_points * self.dwell_s


@runtime_checkable
class McaDetector(Readable[Any], Triggerable, Stageable, HasName, Protocol):
    """Fluorescence detector of one or several elements, of a point or of a line.

    Its reading has the spectra, ``<name>`` of shape ([points,] elements, channels), and the times ``<name>_live_s`` and
    ``<name>_real_s`` of shape ([points,] elements). One that flies lines takes a `LinePath` with ``prepare``, goes to
    its start, and flies it when triggered; ``<name>_i0`` is then the incident intensity of each point.
    """

    exposure_s: Movable[float]
    """Time of a point in seconds."""


@runtime_checkable
class EnergyFlyer(Preparable, Flyable, Stageable, Stoppable, WritesStreamAssets, HasName, Protocol):
    """Moves the energy axis along a `FlightPath` and records position and detectors on the way.

    ``prepare`` takes the path and goes to its start, ``kickoff`` begins, ``complete`` waits for the end; the samples of
    one run are rows of one HDF5 file, announced as stream resources and stream datums, one column a data key. ``pause``
    ends a flight under way at once.
    """

    recorded: Mapping[str, Any]
    """Which column is what: the entries of `scan_contract.Flight` without ``sample_s``."""
