"""Samples of a continuous scan out of its columns, binned to the energies of the grid."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from event_model import EventDescriptor, StreamDatum, StreamResource

from callbacks.errors import CallbackError, DocumentError, MissingFrameError
from scan_contract import HC_EV_ANGSTROM, SWEEP_AXIS, Flight, Label, PointContract

from ._assets import place_of_stream
from ._frame_files import FrameFiles, FramePlace
from ._reading import Reading
from ._root_map import RootMap

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Announced:
    """Samples by their numbers in the stream, and where a column has them."""

    first: int
    stop: int
    resource: str
    index: int


@dataclass
class _Bin:
    """What the samples nearest to one energy of the grid add up to."""

    flight: float
    exposure_s: float = 0.0
    energy: float = 0.0
    values: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    attempt: int = -1


class FlownReadings:
    """Readings of a continuous scan: one for each sweep and energy of the grid.

    Samples belong to the energy of the grid that they are nearest to; energy and channels of a reading are their means,
    weighted by the counting time of each. A reading is given when the axis has left its energy, and once more where
    further samples of it come: a later attempt replaces an earlier one.

    Parameters
    ----------
    scan : PointContract
        Of a continuous scan.
    roots : RootMap, optional
        Where the folders of the files are on this machine.
    files : FrameFiles
        What opens them.

    Attributes
    ----------
    warnings : list of str
        What a reader of the results should know.
    """

    def __init__(self, scan: PointContract, roots: RootMap | None, files: FrameFiles) -> None:
        assert scan.flight is not None
        self._flight: Flight = scan.flight
        self._scan = scan
        self._roots = roots or RootMap()
        self._files = files
        order = np.argsort(scan.energies_ev)
        self._order = order
        energies = np.asarray(scan.energies_ev, float)[order]
        middles = 0.5 * (energies[1:] + energies[:-1])
        # The cells at both ends are as wide beyond their energies as before them.
        first = 2 * energies[0] - middles[0] if middles.size else -np.inf
        last = 2 * energies[-1] - middles[-1] if middles.size else np.inf
        self._ends = np.array([first, *middles, last])
        flight = self._flight
        self._columns = {
            "position": flight.position,
            "exposure": flight.exposure,
            "sweep": flight.sweep,
            "flight": flight.flight,
            **scan.channels,
        }
        self._descriptor: str | None = None
        self._places: dict[str, tuple[str, FramePlace | DocumentError]] = {}
        self._early: dict[str, list[StreamDatum]] = defaultdict(list)
        self._announced: dict[str, list[_Announced]] = defaultdict(list)
        self._done = 0
        self._bins: dict[tuple[int, int], _Bin] = {}
        self._held: set[tuple[int, int]] = set()
        self._n_unusable = 0
        self._time_s = 0.0
        self._lost = ""

    @property
    def warnings(self) -> list[str]:
        """What a reader of the results should know."""
        said = [self._lost] if self._lost else []
        if self._n_unusable:
            said.append(
                f"{self._n_unusable} of {self._done} samples have no number in a column, or no counting time: they are "
                "left out"
            )
        return said

    def open(self, doc: EventDescriptor) -> None:
        """Take the descriptor of the samples.

        Raises
        ------
        DocumentError
            A column is not there.
        """
        for key in self._columns.values():
            if key not in doc["data_keys"]:
                raise DocumentError(
                    f"stream {doc['name']!r} lacks the column {key!r} that the contract of this continuous scan names"
                )
        self._descriptor = doc["uid"]
        self._time_s = float(doc.get("time") or 0.0)

    def add(self, name: str, doc: Mapping[str, Any]) -> list[Reading]:
        """Take a stream resource or stream datum and return the readings that are complete.

        Raises
        ------
        CallbackError
            The samples cannot be read.
        """
        if name == "stream_resource" and doc["uid"] not in self._places:
            resource = cast(StreamResource, doc)
            self._places[doc["uid"]] = (resource["data_key"], place_of_stream(resource, self._roots))
            for early in self._early.pop(doc["uid"], ()):
                self._announce(early)
        elif name == "stream_datum":
            self._announce(cast(StreamDatum, doc))
        return self._read()

    def finish(self) -> list[Reading]:
        """Return the readings that the axis has not left: the run is over."""
        self._files.wait_again()
        readings: list[Reading] = []
        try:
            readings = self._read()
        except CallbackError as error:
            self._lost = str(error).removesuffix(MissingFrameError.OUTLOOK)
        readings += [self._reading(place) for place in sorted(self._held)]
        self._held.clear()
        return readings

    def _announce(self, doc: StreamDatum) -> None:
        if doc["stream_resource"] not in self._places:
            self._early[doc["stream_resource"]].append(doc)
            return
        if doc["descriptor"] != self._descriptor:
            return
        key, _ = self._places[doc["stream_resource"]]
        # Numbers of a stream begin at 1.
        first, stop = doc["seq_nums"]["start"] - 1, doc["seq_nums"]["stop"] - 1
        if stop - first != doc["indices"]["stop"] - doc["indices"]["start"]:
            return  # nothing says which sample is which
        self._announced[key].append(_Announced(first, stop, doc["stream_resource"], doc["indices"]["start"]))

    def _read(self) -> list[Reading]:
        """Read what all columns have, as far as no sample is missing in between."""
        stop = min(self._reach(key) for key in set(self._columns.values()))
        if stop <= self._done:
            return []
        values = {role: self._column(key, self._done, stop) for role, key in self._columns.items()}
        self._done = stop
        return self._bin(values)

    def _reach(self, key: str) -> int:
        reach = self._done
        for one in sorted(self._announced[key], key=lambda found: found.first):
            if one.first <= reach:
                reach = max(reach, one.stop)
        return reach

    def _column(self, key: str, first: int, stop: int) -> Array:
        values = np.full(stop - first, np.nan)
        for one in self._announced[key]:
            low, high = max(first, one.first), min(stop, one.stop)
            if low >= high:
                continue
            _, place = self._places[one.resource]
            if isinstance(place, DocumentError):
                raise place
            wanted = replace(place, index=one.index + low - one.first, samples=high - low)
            values[low - first : high - first] = self._files.read(wanted)
        return values

    def _bin(self, values: Mapping[str, Array]) -> list[Reading]:
        flight = self._flight
        with np.errstate(all="ignore"):
            if flight.position_unit == "deg":
                assert flight.d_spacing_angstrom is not None
                sine = np.sin(np.radians(values["position"]))
                energies = HC_EV_ANGSTROM / (2.0 * flight.d_spacing_angstrom * sine)
            else:
                energies = values["position"]
        energies = energies + flight.offset_ev
        usable = np.isfinite(energies) & (values["exposure"] > 0)
        for column in values.values():
            usable &= np.isfinite(column)
        self._n_unusable += int((~usable).sum())
        cells = np.searchsorted(self._ends, energies, side="right") - 1
        n_sweeps = len(self._scan.axes.get(SWEEP_AXIS, (0.0,)))
        inside = usable & (cells >= 0) & (cells < len(self._order))
        inside &= (values["sweep"] >= 0) & (values["sweep"] < n_sweeps)
        left: list[tuple[int, int]] = []
        for row in np.flatnonzero(inside):
            place = int(values["sweep"][row]), int(self._order[cells[row]])
            number = float(values["flight"][row])
            held = self._bins.get(place)
            if held is None or held.flight < number:
                held = self._bins[place] = _Bin(number, attempt=-1 if held is None else held.attempt)
            elif held.flight > number:
                continue
            exposure_s = float(values["exposure"][row])
            held.exposure_s += exposure_s
            held.energy += exposure_s * float(energies[row])
            for role in self._scan.channels:
                # Counts add up; currents are averaged over the time.
                counts = role in self._scan.dead_time_s
                held.values[role] += (1.0 if counts else exposure_s) * float(values[role][row])
            left += [other for other in self._held if other != place]
            self._held = {place}
        return [self._reading(place) for place in dict.fromkeys(left)]

    def _reading(self, place: tuple[int, int]) -> Reading:
        sweep, index = place
        held = self._bins[place]
        held.attempt += 1
        axes = {SWEEP_AXIS: sweep} if SWEEP_AXIS in self._scan.axes else {}
        energy_ev = held.energy / held.exposure_s
        return Reading(
            label=Label("primary", index, attempt=held.attempt, axes=axes),
            energy_ev=energy_ev,
            energy_setpoint_ev=float(self._scan.energies_ev[index]),
            exposure_s=held.exposure_s,
            i0=held.values.get("i0", math.nan) / held.exposure_s,
            channels={
                role: value if role in self._scan.dead_time_s else value / held.exposure_s
                for role, value in held.values.items()
            },
            seq_num=self._done,
            uid=f"{self._descriptor}/{sweep}/{index}",
            time_s=self._time_s,
        )
