"""Checks that the documents of a run keep the contract."""

from collections.abc import Iterable, Mapping
from typing import Any

from ._contract import Contract
from ._full_field_contract import FullFieldContract
from ._labels import ALL_ENERGIES, LABEL_DEVICE, STREAMS, read_label, read_shot
from ._point_contract import PointContract
from ._read_contract import read_contract
from ._tomography_contract import ANGLE_AXIS, TomographyContract
from ._xrf_contract import XRFContract
from .errors import ContractError

__all__ = ["validate_run_documents"]

_EVENT_KEYS = tuple(
    f"{LABEL_DEVICE}_{word}"
    for word in ("energy_index", "energy_setpoint_ev", "exposure_s", "repeat", "attempt")
)


def validate_run_documents(documents: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Check that the documents of one run keep the contract of a scan.

    The start document describes the grid, every event of the streams dark, flat and primary says which reading
    it is, none was taken twice as the same attempt, and a run that ended in success holds every reading it
    announced. A continuous scan has the columns that its contract names.

    Parameters
    ----------
    documents : iterable of (name, document)
        The documents of exactly one run in the order they were emitted. Event pages are understood.

    Raises
    ------
    ContractError
        With one sentence on the first thing that is wrong.
    """
    run = _Run()
    for name, document in documents:
        run.take(name, document)
    run.finish()


class _Run:
    def __init__(self) -> None:
        self._scan: Contract | None = None
        self._streams: dict[str, str] = {}
        self._seen: dict[str, set[tuple[Any, ...]]] = {stream: set() for stream in STREAMS}
        self._exit_status: Any = None

    def take(self, name: str, doc: Mapping[str, Any]) -> None:
        if name == "start":
            if self._scan is not None:
                raise ContractError("the documents hold more than one start document; give one run at a time")
            for key in ("plan_name", "scan_group"):
                if not isinstance(doc.get(key), str):
                    raise ContractError(f"the start document has no {key}, or not as text")
            self._scan = read_contract(doc).scan
            for role in ("camera", "energy") if isinstance(self._scan, FullFieldContract) else ("energy",):
                if self._scan.devices.get(role) is None:
                    raise ContractError(f"the start document does not say which device is the {role}")
        elif self._scan is None:
            raise ContractError(f"the first document is a {name}, not a start document")
        elif name == "descriptor":
            self._descriptor(doc, self._scan)
        elif name == "event":
            self._event(doc["descriptor"], doc["data"], self._scan)
        elif name == "event_page":
            for row in range(len(doc["seq_num"])):
                data = {key: column[row] for key, column in doc["data"].items()}
                self._event(doc["descriptor"], data, self._scan)
        elif name == "stop":
            self._exit_status = doc["exit_status"]

    def _descriptor(self, doc: Mapping[str, Any], scan: Contract) -> None:
        stream = doc.get("name", "primary")
        self._streams[doc["uid"]] = stream
        if stream not in STREAMS:
            return
        if stream == "primary" and isinstance(scan, PointContract) and scan.flight is not None:
            self._columns(doc, scan)
            return
        for key in _EVENT_KEYS:
            if key not in doc["data_keys"]:
                raise ContractError(f"the stream {stream} has no data key {key}")
        for role, device in scan.devices.items():
            if device is not None and device not in doc.get("object_keys", {}):
                raise ContractError(f"the stream {stream} holds no reading of the {role} {device!r}")

    @staticmethod
    def _columns(doc: Mapping[str, Any], scan: PointContract) -> None:
        """Check that a continuous scan records what its contract says."""
        assert scan.flight is not None
        flight = scan.flight
        for key in (flight.position, flight.exposure, flight.sweep, flight.flight, *scan.channels.values()):
            if key not in doc["data_keys"]:
                raise ContractError(f"the stream primary has no column {key}")

    def _event(self, descriptor: str, data: Mapping[str, Any], scan: Contract) -> None:
        stream = self._streams.get(descriptor)
        if stream is None:
            raise ContractError("an event refers to a descriptor that is not among the documents")
        if stream not in STREAMS:
            return
        label, shot = read_label(stream, data), read_shot(stream, data)
        index, n_energies = label.energy_index, len(scan.energies_ev)
        if not ALL_ENERGIES <= index < n_energies or (index == ALL_ENERGIES and stream == "primary"):
            raise ContractError(
                f"an event of {stream} has the energy index {index} in a grid of {n_energies}"
            )
        if index >= 0 and not abs(shot.energy_setpoint_ev - scan.energies_ev[index]) <= 1e-6:
            raise ContractError(
                f"an event of {stream} says {shot.energy_setpoint_ev:g} eV at energy index {index}, the grid says "
                f"{scan.energies_ev[index]:g} eV"
            )
        if index >= 0 and stream == "primary" and abs(shot.exposure_s - scan.exposure_s[index]) > 1e-9:
            raise ContractError(
                f"an event of {stream} says {shot.exposure_s:g} s at energy index {index}, the grid says "
                f"{scan.exposure_s[index]:g} s"
            )
        if label.repeat < 0 or label.attempt < 0:
            raise ContractError(
                f"an event of {stream} counts repeat {label.repeat}, attempt {label.attempt}; both start at 0"
            )
        for axis, place in label.axes.items():
            if axis not in scan.axes or not 0 <= place < len(scan.axes[axis]):
                raise ContractError(
                    f"an event of {stream} has place {place} on an axis {axis!r} that the run lacks"
                )
        # Darks of different exposures share the index of all energies.
        reading = (index, shot.exposure_s, label.repeat, label.attempt, shot.axes)
        if reading in self._seen[stream]:
            raise ContractError(
                f"the stream {stream} holds energy index {index}, repeat {label.repeat} twice as attempt "
                f"{label.attempt}"
            )
        self._seen[stream].add(reading)

    def finish(self) -> None:
        if self._scan is None:
            raise ContractError("there is no start document")
        if self._exit_status is None:
            raise ContractError("there is no stop document; the run is not finished")
        if self._exit_status != "success":
            return
        if isinstance(self._scan, PointContract) and self._scan.flight is not None:
            return  # its samples are in a file
        frames = {(index, repeat) for index, _, repeat, *_ in self._seen["primary"]}
        if (self._scan.model_extra or {}).get("adaptive") is not None:
            self._check_adaptive(frames)
            return
        expected = {
            (index, repeat) for index in self._scan.taken_indices for repeat in range(self._scan.repeats)
        }
        _complete("primary", expected, frames)
        if isinstance(self._scan, TomographyContract):
            self._check_angles(self._scan)
        if isinstance(self._scan, FullFieldContract):
            self._check_corrections(self._scan)
        if isinstance(self._scan, XRFContract):
            taken = len({(index, axes) for index, *_, axes in self._seen["primary"]})
            if taken < self._scan.readings_expected:
                raise ContractError(
                    f"the run ended in success with {taken} of {self._scan.readings_expected} places of its raster"
                )

    def _check_angles(self, scan: TomographyContract) -> None:
        """Check that each energy has all its angles."""
        taken = {
            (index, place)
            for index, *_, axes in self._seen["primary"]
            for name, place in axes
            if name == ANGLE_AXIS
        }
        for index in scan.taken_indices:
            missing = [place for place in scan.places_taken(index) if (index, place) not in taken]
            if missing:
                raise ContractError(
                    f"the run ended in success but energy index {index} lacks {len(missing)} of its angles, first "
                    f"{scan.angles_deg[missing[0]]:g} degrees"
                )

    def _check_corrections(self, scan: FullFieldContract) -> None:
        """Check the flats and darks of a run with a camera."""
        taken = {(index, repeat) for index, _, repeat, *_ in self._seen["flat"]}
        indices: tuple[int, ...] = {
            "none": (),
            "before_all": (ALL_ENERGIES,),
        }.get(
            scan.flat_order, tuple(range(len(scan.energies_ev))) if scan.take.flat is None else scan.take.flat
        )
        _complete("flat", {(index, repeat) for index in indices for repeat in range(scan.n_flats)}, taken)
        darks = dict.fromkeys(scan.exposure_s, 0)
        for _, exposure, *_ in self._seen["dark"]:
            darks[exposure] = darks.get(exposure, 0) + 1
        for exposure, count in darks.items():
            if count < scan.n_darks:
                raise ContractError(
                    f"the run ended in success with {count} darks of {exposure:g} s where {scan.n_darks} were announced"
                )

    def _check_adaptive(self, frames: set[tuple[int, int]]) -> None:
        """Check what a scan that chooses its energies promises: a flat for each, no gap in the repeats."""
        flats = {index for index, *_ in self._seen["flat"]}
        for index, repeat in sorted(frames):
            if index not in flats:
                raise ContractError(f"the run ended in success without a flat of energy index {index}")
            if repeat and (index, repeat - 1) not in frames:
                raise ContractError(f"energy index {index} has a repeat {repeat} but no repeat {repeat - 1}")


def _complete(stream: str, expected: set[tuple[int, int]], taken: set[tuple[int, int]]) -> None:
    missing = sorted(expected - taken)
    if missing:
        index, repeat = missing[0]
        raise ContractError(
            f"the run ended in success but the stream {stream} lacks {len(missing)} of {len(expected)} frames, first "
            f"energy index {index}, repeat {repeat}"
        )
