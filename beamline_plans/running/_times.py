"""How long things take: assumed at first, learnt from the documents of past runs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Optional, cast

import numpy as np
from event_model import EventPage, unpack_event_page

from beamline_plans.errors import PlanError
from scan_contract import ALL_ENERGIES, LABEL_DEVICE, STREAMS, ContractError, Shot, read_label, read_shot

__all__ = ["TimeModel", "learn_times"]

_FEWEST = 3  # examples of a kind of move from which its time is taken


@dataclass(frozen=True)
class TimeModel:
    """Durations of what a scan does, in seconds.

    Parameters
    ----------
    frame_s : float
        What a frame costs beyond its exposure: read-out, reading the devices, saving the event.
    energy_s, energy_s_per_ev : float
        A move of the energy: fixed part, and part per eV.
    stage_s : float
        Bringing the sample in or out.
    shutter_s : float
        Opening or closing the shutter.
    other_s : float
        A move of anything else.
    """

    frame_s: float = 0.1
    energy_s: float = 0.1
    energy_s_per_ev: float = 0.02
    stage_s: float = 2.0
    shutter_s: float = 0.1
    other_s: float = 1.0

    def to_dict(self) -> dict[str, float]:
        """Return the durations by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TimeModel":
        """Rebuild a model from `to_dict`.

        Raises
        ------
        PlanError
            If a name is unknown or a value is not a time.
        """
        known = {item.name for item in fields(cls)}
        for name, value in data.items():
            if name not in known:
                raise PlanError(f"There is no duration {name!r}; known are {', '.join(sorted(known))}.")
            if not isinstance(value, (int, float)) or not (np.isfinite(value) and value >= 0):
                raise PlanError(f"The duration {name} must be a number of seconds, not {value!r}.")
        return cls(**{name: float(value) for name, value in data.items()})


@dataclass(frozen=True)
class _Step:
    """What lies between two consecutive events."""

    seconds: float  # beyond the exposure
    energy_ev: float  # distance
    stage: bool
    shutter: bool


def learn_times(
    documents: Iterable[tuple[str, Mapping[str, Any]]], before: Optional[TimeModel] = None
) -> TimeModel:
    """Learn durations from the documents of runs of `xanes_scan` and its relatives.

    What the runs hold no example of stays as `before` says. Pauses do not matter, as medians are taken.

    Parameters
    ----------
    documents : iterable of (name, document)
        Documents of one or more runs, each run's in order.
    before : TimeModel, optional
        What is known so far.
    """
    model = before or TimeModel()
    # Frames that came faster than they were exposed are a simulation or a replay that waits for nothing.
    steps = [step for step in _steps(documents) if step.seconds >= 0]
    learnt: dict[str, float] = {}
    still = [s.seconds for s in steps if not (s.energy_ev or s.stage or s.shutter)]
    energy = [(s.energy_ev, s.seconds) for s in steps if s.energy_ev and not (s.stage or s.shutter)]
    stage = [s for s in steps if s.stage and not s.shutter]
    if len(still) >= _FEWEST:
        learnt["frame_s"] = _median(still)
    frame_s = learnt.get("frame_s", model.frame_s)
    if len(energy) >= _FEWEST:
        learnt["energy_s"], learnt["energy_s_per_ev"] = _line(
            [(distance, seconds - frame_s) for distance, seconds in energy]
        )
    fixed, per_ev = (learnt.get(k, getattr(model, k)) for k in ("energy_s", "energy_s_per_ev"))
    # Sample and energy travel at the same time: only where the sample took longer does it show.
    slower = [s.seconds - frame_s for s in stage if s.seconds - frame_s > fixed + per_ev * s.energy_ev]
    if len(slower) >= _FEWEST:
        learnt["stage_s"] = _median(slower)
    return TimeModel.from_dict({**model.to_dict(), **learnt})


def _median(values: list[float]) -> float:
    return max(float(np.median(values)), 0.0)


def _line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Fit the fixed and the proportional part of a time against a distance, neither negative, outliers out."""
    distance, seconds = np.asarray(points).T
    design = np.stack([np.ones_like(distance), distance], axis=1)
    keep = np.ones(distance.size, bool)
    coefficients = np.zeros(2)
    for _ in range(3):
        if np.ptp(distance[keep]) > 0:
            coefficients = np.linalg.lstsq(design[keep], seconds[keep], rcond=None)[0]
        else:
            coefficients = np.array([np.median(seconds[keep]), 0.0])
        off = np.abs(seconds - design @ coefficients)
        keep = off <= 5 * max(float(np.median(off)), 1e-3)
    if coefficients[1] < 0:
        return _median(list(seconds)), 0.0
    if coefficients[0] < 0:
        return 0.0, max(float(np.median(seconds / distance)), 0.0)
    return float(coefficients[0]), float(coefficients[1])


def _one_by_one(
    documents: Iterable[tuple[str, Mapping[str, Any]]],
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield documents with pages of events taken apart."""
    for name, doc in documents:
        if name == "event_page":
            yield from (("event", event) for event in unpack_event_page(cast(EventPage, doc)))
        else:
            yield name, doc


def _steps(documents: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterable[_Step]:
    streams: dict[str, str] = {}
    last: Optional[tuple[float, str, float]] = None
    for name, doc in _one_by_one(documents):
        if name == "start":
            last = None
        elif name == "descriptor":
            streams[doc["uid"]] = doc.get("name", "primary")
        elif name == "event":
            stream = streams.get(doc["descriptor"], "")
            shot = _first_attempt(stream, doc["data"])
            if shot is None:
                last = None
                continue
            now = (float(doc["time"]), stream, shot.energy_setpoint_ev)
            if last is not None:
                yield _Step(
                    seconds=now[0] - last[0] - shot.exposure_s,
                    energy_ev=abs(now[2] - last[2]),
                    stage=(stream == "flat") is not (last[1] == "flat"),
                    shutter=(stream == "dark") is not (last[1] == "dark"),
                )
            last = now


def _first_attempt(stream: str, data: Mapping[str, Any]) -> Optional[Shot]:
    """Return what an event was taken for, unless it had been taken before or does not say."""
    if stream not in STREAMS:
        return None
    # Which energy of the grid it was does not matter for a duration.
    data = {f"{LABEL_DEVICE}_energy_index": ALL_ENERGIES, **data}
    try:
        return None if read_label(stream, data).attempt else read_shot(stream, data)
    except ContractError:
        return None
