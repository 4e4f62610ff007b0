"""The contract between plans and analysis: what the documents of a run must hold."""

from collections.abc import Iterable, Mapping
from typing import Any

from beamline_plans.errors import DocumentError

__all__ = ["SCHEMA_VERSION", "STREAMS", "validate_run_documents"]

SCHEMA_VERSION = 1
STREAMS = ("dark", "flat", "primary")

_START_KEYS: dict[str, tuple[type, ...]] = {
    "schema_version": (int,),
    "edge": (str,),
    "energies_ev": (list, tuple),
    "exposure_s": (list, tuple),
    "repeats": (int,),
    "technique": (str,),
    "flat_order": (str,),
    "n_flats": (int,),
    "n_darks": (int,),
    "pixel_size_nm": (int, float, type(None)),
    "references": (dict, type(None)),
    "devices": (dict,),
}
_EVENT_KEYS = (
    "xanes_energy_index",
    "xanes_energy_setpoint_ev",
    "xanes_exposure_s",
    "xanes_repeat",
    "xanes_attempt",
)


def validate_run_documents(documents: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Check that the documents of one run keep the contract of a scan.

    The start document describes the grid, every event of the streams dark, flat and primary says which frame
    it is, no frame was taken twice as the same attempt, and a run that ended in success holds every frame it
    announced.

    Parameters
    ----------
    documents : iterable of (name, document)
        The documents of exactly one run in the order they were emitted. Event pages are understood.

    Raises
    ------
    DocumentError
        With one sentence on the first thing that is wrong.
    """
    run = _Run()
    for name, document in documents:
        run.take(name, document)
    run.finish()


class _Run:
    def __init__(self) -> None:
        self._xanes: Mapping[str, Any] = {}
        self._streams: dict[str, str] = {}
        self._seen: dict[str, set[tuple[int, float, int, int]]] = {stream: set() for stream in STREAMS}
        self._exit_status: Any = None
        self._open = False

    def take(self, name: str, doc: Mapping[str, Any]) -> None:
        if name == "start":
            if self._open:
                raise DocumentError(
                    "The documents hold more than one start document; give one run at a time."
                )
            self._open = True
            self._xanes = _checked_start(doc)
        elif not self._open:
            raise DocumentError(f"The first document is a {name}, not a start document.")
        elif name == "descriptor":
            self._descriptor(doc)
        elif name == "event":
            self._event(doc["descriptor"], doc["data"])
        elif name == "event_page":
            for row in range(len(doc["seq_num"])):
                self._event(doc["descriptor"], {key: column[row] for key, column in doc["data"].items()})
        elif name == "stop":
            self._exit_status = doc["exit_status"]

    def _descriptor(self, doc: Mapping[str, Any]) -> None:
        stream = doc.get("name", "primary")
        self._streams[doc["uid"]] = stream
        if stream not in STREAMS:
            return
        for key in _EVENT_KEYS:
            if key not in doc["data_keys"]:
                raise DocumentError(f"The stream {stream} has no data key {key}.")
        for role, device in self._xanes["devices"].items():
            if device is not None and device not in doc.get("object_keys", {}):
                raise DocumentError(f"The stream {stream} holds no reading of the {role} {device!r}.")

    def _event(self, descriptor: str, data: Mapping[str, Any]) -> None:
        stream = self._streams.get(descriptor)
        if stream is None:
            raise DocumentError("An event refers to a descriptor that is not among the documents.")
        if stream not in STREAMS:
            return
        energies, exposures = self._xanes["energies_ev"], self._xanes["exposure_s"]
        index, repeat, attempt = (int(data[f"xanes_{key}"]) for key in ("energy_index", "repeat", "attempt"))
        setpoint, exposure = float(data["xanes_energy_setpoint_ev"]), float(data["xanes_exposure_s"])
        if not -1 <= index < len(energies) or (index == -1 and stream == "primary"):
            raise DocumentError(
                f"An event of {stream} has the energy index {index} in a grid of {len(energies)}."
            )
        if index >= 0 and abs(setpoint - energies[index]) > 1e-6:
            raise DocumentError(
                f"An event of {stream} says {setpoint:g} eV at energy index {index}, "
                f"the grid says {energies[index]:g} eV."
            )
        if index >= 0 and stream == "primary" and abs(exposure - exposures[index]) > 1e-9:
            raise DocumentError(
                f"An event of {stream} says {exposure:g} s at energy index {index}, "
                f"the grid says {exposures[index]:g} s."
            )
        if repeat < 0 or attempt < 0:
            raise DocumentError(
                f"An event of {stream} counts repeat {repeat}, attempt {attempt}; both start at 0."
            )
        frame = (index, exposure, repeat, attempt)
        if frame in self._seen[stream]:
            raise DocumentError(
                f"The stream {stream} holds energy index {index}, repeat {repeat} twice as attempt {attempt}."
            )
        self._seen[stream].add(frame)

    def finish(self) -> None:
        if not self._open:
            raise DocumentError("There is no start document.")
        if self._exit_status is None:
            raise DocumentError("There is no stop document; the run is not finished.")
        if self._exit_status != "success":
            return
        if "adaptive" in self._xanes:
            self._check_adaptive()
            return
        # A run that resumes another one takes what that one lacks.
        take = self._xanes.get("take", {})
        every = range(len(self._xanes["energies_ev"]))
        expected = {
            stream: {(i, r) for i in take.get(stream, every) for r in range(self._xanes[count])}
            for stream, count in (("primary", "repeats"), ("flat", "n_flats"))
        }
        for stream, frames in expected.items():
            missing = sorted(frames - {(index, repeat) for index, _, repeat, _ in self._seen[stream]})
            if missing:
                index, repeat = missing[0]
                raise DocumentError(
                    f"The run ended in success but the stream {stream} lacks {len(missing)} of "
                    f"{len(frames)} frames, first energy index {index}, repeat {repeat}."
                )
        darks = dict.fromkeys(self._xanes["exposure_s"], 0)
        for _, exposure, _, _ in self._seen["dark"]:
            darks[exposure] = darks.get(exposure, 0) + 1
        for exposure, count in darks.items():
            if count < self._xanes["n_darks"]:
                raise DocumentError(
                    f"The run ended in success with {count} darks of {exposure:g} s where "
                    f"{self._xanes['n_darks']} were announced."
                )

    def _check_adaptive(self) -> None:
        """Check what a scan that chooses its energies promises: a flat for each, no gap in the repeats."""
        flats = {index for index, *_ in self._seen["flat"]}
        frames = {(index, repeat) for index, _, repeat, _ in self._seen["primary"]}
        for index, repeat in sorted(frames):
            if index not in flats:
                raise DocumentError(f"The run ended in success without a flat of energy index {index}.")
            if repeat and (index, repeat - 1) not in frames:
                raise DocumentError(f"Energy index {index} has a repeat {repeat} but no repeat {repeat - 1}.")


def _checked_start(doc: Mapping[str, Any]) -> Mapping[str, Any]:
    for key, types in (("plan_name", str), ("scan_group", str), ("xanes", dict)):
        if not isinstance(doc.get(key), types):
            raise DocumentError(f"The start document has no {key}, or not as a {types.__name__}.")
    xanes: Mapping[str, Any] = doc["xanes"]
    for key, allowed in _START_KEYS.items():
        if key not in xanes:
            raise DocumentError(f"The xanes block of the start document has no {key}.")
        if not isinstance(xanes[key], allowed) or isinstance(xanes[key], bool):
            raise DocumentError(f"{key} in the xanes block of the start document is {xanes[key]!r}.")
    if xanes["schema_version"] != SCHEMA_VERSION:
        raise DocumentError(
            f"The run has schema version {xanes['schema_version']}; this software reads {SCHEMA_VERSION}."
        )
    if not xanes["energies_ev"] or len(xanes["energies_ev"]) != len(xanes["exposure_s"]):
        raise DocumentError(
            f"The start document has {len(xanes['energies_ev'])} energies "
            f"and {len(xanes['exposure_s'])} exposures."
        )
    for role in ("camera", "energy", "i0"):
        if role not in xanes["devices"]:
            raise DocumentError(f"The start document does not say which device is the {role}.")
    return xanes
