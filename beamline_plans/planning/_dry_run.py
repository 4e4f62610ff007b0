"""What a plan would do, without doing it."""

import inspect
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
from bluesky import Msg
from bluesky.utils import MsgGenerator

from beamline_devices.protocols import CountedLine, FlightPath, LinePath
from beamline_plans.errors import PlanError
from beamline_plans.grids import DEFAULT_EXPOSURE_S, EnergyGrid
from beamline_plans.running import Clock, FrameLabel, TimeModel, check_value
from edge_fitting import ReferenceSeries, expected_sigma, optical_depth_sigma, voxel_sigma
from scan_contract import FullFieldContract, TomographyContract, is_energy_scan, read_contract

__all__ = ["DryRun", "dry_run"]

# Frames of a fully open beam on a 16-bit camera run at a fraction of full well.
_COUNTS_PER_S = 20_000.0
_MOST_MESSAGES = 10_000_000
# Of the width of the field: what the sample in a rotation series fills of it.
_SAMPLE_SHARE = 0.75


@dataclass
class DryRun:
    """What a plan would do.

    Parameters
    ----------
    n_runs, n_moves : int
        Runs it opens and moves it makes.
    frames : Counter
        Events per stream.
    time_s : float
        How long it takes.
    sample_exposure_s : float
        Exposure of the sample summed over its frames.
    sample_open_s : float
        Time during which the sample stands in the open beam, moves and read-out included.
    disk_bytes : int
        Size of the frames, uncompressed.
    energy_s, energy_ascending_s : float
        Time that the energy is on its way, in the order of the grids and as it would be in ascending order.
    expected_sigma : dict
        Expected sigma of the state of charge per edge, for runs with references.
    """

    n_runs: int = 0
    n_moves: int = 0
    frames: Counter[str] = field(default_factory=Counter)
    time_s: float = 0.0
    sample_exposure_s: float = 0.0
    sample_open_s: float = 0.0
    disk_bytes: int = 0
    energy_s: float = 0.0
    energy_ascending_s: float = 0.0
    expected_sigma: dict[str, float] = field(default_factory=dict)

    @property
    def n_frames(self) -> int:
        """Frames of all kinds."""
        return sum(self.frames[stream] for stream in ("dark", "flat", "primary"))

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {stream}" for stream, count in self.frames.items())
        minutes, seconds = divmod(round(self.time_s), 60)
        rows = [
            ("runs", f"{self.n_runs}"),
            ("frames", f"{self.n_frames}" + (f" ({kinds})" if kinds else "")),
            ("moves", f"{self.n_moves}"),
            ("time", f"{minutes} min {seconds:02d} s" if minutes else f"{self.time_s:.1f} s"),
            ("sample exposed", f"{self.sample_exposure_s:.1f} s"),
            ("sample in open beam", f"{self.sample_open_s:.1f} s"),
            ("frames on disk", f"{self.disk_bytes / 1e9:.3f} GB, uncompressed"),
            *((f"sigma of SOC, {edge}", f"{sigma:.3f}") for edge, sigma in self.expected_sigma.items()),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def dry_run(
    plan: MsgGenerator[Any],
    *,
    times: Optional[TimeModel] = None,
    jump: float = 0.5,
    counts_per_s: float = _COUNTS_PER_S,
    free_bytes: Optional[int] = None,
    max_time_s: Optional[float] = None,
    max_sample_exposure_s: Optional[float] = None,
) -> DryRun:
    """Go through the messages of a plan without a RunEngine; nothing moves.

    Every value that a device would be set to is shown to the device's own limits.

    Parameters
    ----------
    plan : generator
        The plan, such as ``xanes_scan(...)``. It is used up.
    times : TimeModel, optional
        How long things take, for example from `learn_times`.
    jump : float
        Edge jump, in optical depth, for which the sigma of the state of charge is predicted.
    counts_per_s : float
        Photons per pixel and second in the open beam, for the same.
    free_bytes : int, optional
        Room on the disk.
    max_time_s, max_sample_exposure_s : float, optional
        Time and sample exposure there are.

    Returns
    -------
    DryRun
        The outcome.

    Raises
    ------
    PlanError
        If a device would refuse a move, the plan refuses its own arguments, or disk, time or dose do not
        suffice; the message says by how much.
    """
    if not (jump > 0 and counts_per_s > 0):
        raise PlanError(f"jump and counts_per_s must be positive, not {jump} and {counts_per_s}.")
    simulation = _Simulation(times or TimeModel(), jump, counts_per_s)
    answer: Any = None
    try:
        for _ in range(_MOST_MESSAGES):
            answer = simulation.take(plan.send(answer))
    except StopIteration:
        pass
    finally:
        plan.close()
    found = simulation.found
    found.time_s = simulation.now_s
    if free_bytes is not None and found.disk_bytes > free_bytes:
        raise PlanError(
            f"The frames need {found.disk_bytes / 1e9:.1f} GB but {free_bytes / 1e9:.1f} GB are free; make room or "
            "take fewer frames."
        )
    if max_time_s is not None and found.time_s > max_time_s:
        raise PlanError(
            f"The plan takes {found.time_s / 60:.0f} min but {max_time_s / 60:.0f} min are left; take fewer energies."
        )
    if max_sample_exposure_s is not None and found.sample_exposure_s > max_sample_exposure_s:
        raise PlanError(
            f"The sample would be exposed for {found.sample_exposure_s:g} s, more than {max_sample_exposure_s:g} s; "
            "take fewer or shorter frames."
        )
    return found


class _Simulation:
    """A RunEngine and devices that only keep time."""

    def __init__(self, times: TimeModel, jump: float, counts_per_s: float) -> None:
        self._times = times
        self._jump = jump
        self._counts_per_s = counts_per_s
        self.now_s = 0.0
        self.found = DryRun()
        self._where: dict[int, Any] = {}
        self._groups: dict[Any, float] = {}
        self._paths: dict[int, FlightPath] = {}
        self._lines: dict[int, LinePath] = {}
        self._axes: set[str] = set()
        self._detectors: set[str] = set()
        self._bytes: dict[int, int] = {}
        self._columns = 0
        self._rotation_series: Optional[TomographyContract] = None
        self._stream = ""
        self._event_bytes = 0
        self._event_exposure_s = 0.0
        self._sample_in = True
        self._beam = False

    def take(self, msg: Msg) -> Any:
        handler = getattr(self, f"_{msg.command}", None)
        return None if handler is None else handler(msg)

    def _advance(self, moment_s: float) -> None:
        if moment_s > self.now_s:
            if self._beam and self._sample_in:
                self.found.sample_open_s += moment_s - self.now_s
            self.now_s = moment_s

    def _open_run(self, msg: Msg) -> str:
        self.found.n_runs += 1
        self._axes.update(msg.kwargs.get("motors", ()))
        self._detectors.update(msg.kwargs.get("detectors", ()))
        if is_energy_scan(msg.kwargs):
            scan = read_contract(msg.kwargs).scan
            # What turns or shifts the sample takes the time of any other move.
            self._axes -= {str(scan.devices.get(role)) for role in ("rotation", "row", "column")}
            if isinstance(scan, TomographyContract):
                self._rotation_series = scan
            elif isinstance(scan, FullFieldContract) and (scan.model_extra or {}).get("adaptive") is None:
                self._compare_orders(scan)
                if scan.references is not None:
                    self._predict_sigma(scan, scan.references)
        return f"dry run {self.found.n_runs}"

    def _compare_orders(self, scan: FullFieldContract) -> None:
        """Count the way between the energies as the frames and flats of a run visit them."""
        energies = [scan.energies_ev[index] for index in scan.taken_indices]
        block = {"per_energy": 1, "every_n": scan.flat_every}.get(scan.flat_order, max(len(energies), 1))
        rounds = 2 if scan.flat_order in ("every_n", "after_all") else 1
        for name, order in (("energy_s", energies), ("energy_ascending_s", sorted(energies))):
            visits = [
                energy
                for first in range(0, len(order), block)
                for energy in order[first : first + block] * rounds
            ]
            way_ev = float(np.abs(np.diff(visits)).sum())
            spent_s = len(visits) * self._times.energy_s + way_ev * self._times.energy_s_per_ev
            setattr(self.found, name, getattr(self.found, name) + spent_s)

    def _predict_sigma(self, scan: FullFieldContract, references: Mapping[str, Any]) -> None:
        grid = EnergyGrid(scan.energies_ev, scan.exposure_s)
        counts = self._counts_per_s * float(np.mean(grid.exposure_s)) * scan.repeats
        n_flats = max(scan.n_flats, 1) / scan.repeats
        sigma = float(optical_depth_sigma(counts, n_flats=n_flats))
        series = ReferenceSeries.from_dict(references)
        self.found.expected_sigma[scan.edge] = expected_sigma(grid, series, self._jump, sigma)

    def _predict_voxel_sigma(self, scan: TomographyContract) -> None:
        """Predict sigma in a voxel of a sample whose edge jump is met along three quarters of the field."""
        if scan.references is None or not self._columns:
            return
        grid = EnergyGrid(scan.energies_ev, scan.exposure_s)
        counts = self._counts_per_s * float(np.mean(grid.exposure_s)) * scan.repeats
        sigma = float(
            optical_depth_sigma(counts, n_flats=max(scan.n_flats * scan.flat_rounds, 1) / scan.repeats)
        )
        n_angles = float(np.mean([len(scan.places_of(index)) for index in range(len(grid))]))
        self.found.expected_sigma[f"{scan.edge} per voxel"] = expected_sigma(
            grid,
            ReferenceSeries.from_dict(scan.references),
            self._jump / (_SAMPLE_SHARE * self._columns),
            voxel_sigma(sigma, n_angles),
        )

    def _set(self, msg: Msg) -> None:
        device, value = msg.obj, msg.args[0]
        if isinstance(device, FrameLabel):
            return
        check_value(device, value)
        self.found.n_moves += 1
        done = self.now_s + self._duration(device, value)
        group = msg.kwargs.get("group")
        self._groups[group] = max(self._groups.get(group, 0.0), done)
        self._where[id(device)] = value
        if value in ("open", "closed"):
            self._beam = value == "open"
        elif value in ("in", "out"):
            # The sample is in the beam until it is gone, and from when it arrives.
            self._sample_in = value == "in"

    def _duration(self, device: Any, value: Any) -> float:
        if id(device) not in self._where:
            self._reading(device)
        times, before = self._times, self._where.get(id(device))
        if isinstance(value, str):
            fixed = {
                "open": times.shutter_s,
                "closed": times.shutter_s,
                "in": times.stage_s,
                "out": times.stage_s,
            }
            return 0.0 if value == before else fixed.get(value, times.other_s)
        parent = getattr(device, "parent", None)
        if parent is not None and getattr(parent, "name", None) in self._detectors:
            return 0.0  # a setting of a detector, such as its exposure
        if getattr(device, "name", None) in self._axes:
            distance = 0.0 if before is None else abs(value - before)
            return times.energy_s + times.energy_s_per_ev * distance
        return 0.0 if value == before else times.other_s

    def _trigger(self, msg: Msg) -> None:
        setting = getattr(msg.obj, "exposure_s", None)
        exposure_s = 0.0 if setting is None else float(self._where.get(id(setting), DEFAULT_EXPOSURE_S))
        line = self._lines.get(id(msg.obj))
        if line is not None:
            exposure_s = line.duration_s
        counted = self._where.get(id(getattr(msg.obj, "line", None)))
        if isinstance(counted, CountedLine):
            exposure_s *= counted.n_points
        group = msg.kwargs.get("group")
        self._groups[group] = max(self._groups.get(group, 0.0), self.now_s + exposure_s)
        self._event_exposure_s = max(self._event_exposure_s, exposure_s)

    def _prepare(self, msg: Msg) -> None:
        path = msg.args[0]
        if isinstance(path, LinePath):
            self._prepare_line(msg, path)
        if not isinstance(path, FlightPath):
            return
        self._paths[id(msg.obj)] = path
        self.found.n_moves += 1
        group = msg.kwargs.get("group")
        way_ev = abs(path.energies_ev[-1] - path.energies_ev[0])
        done = self.now_s + self._times.energy_s + self._times.energy_s_per_ev * way_ev
        self._groups[group] = max(self._groups.get(group, 0.0), done)

    def _prepare_line(self, msg: Msg, path: LinePath) -> None:
        check_value(msg.obj, path)
        self._lines[id(msg.obj)] = path
        self.found.n_moves += 1
        group = msg.kwargs.get("group")
        self._groups[group] = max(self._groups.get(group, 0.0), self.now_s + self._times.other_s)

    def _complete(self, msg: Msg) -> None:
        path = self._paths.get(id(msg.obj))
        if path is None:
            return
        n_samples = math.ceil(path.duration_s / path.sample_s)
        group = msg.kwargs.get("group")
        self._groups[group] = max(self._groups.get(group, 0.0), self.now_s + path.duration_s)
        self.found.frames["primary"] += n_samples
        self.found.sample_exposure_s += path.duration_s
        self.found.disk_bytes += n_samples * _bytes_per_event(msg.obj.describe_collect())

    def _wait(self, msg: Msg) -> bool:
        group = msg.args[0] if msg.args else msg.kwargs.get("group")
        self._advance(self._groups.pop(group, self.now_s))
        return True

    def _sleep(self, msg: Msg) -> None:
        self._advance(self.now_s + float(msg.args[0]))

    def _create(self, msg: Msg) -> None:
        self._stream = msg.kwargs.get("name", msg.args[0] if msg.args else "")
        self._event_bytes = 0

    def _read(self, msg: Msg) -> Any:
        if isinstance(msg.obj, Clock):
            return {"clock": {"value": self.now_s, "timestamp": self.now_s}}
        if self._stream:
            self._event_bytes += self._size(msg.obj)
            return None
        # A plan asks where things are before it begins, so as to bring them back.
        return self._reading(msg.obj)

    def _reading(self, device: Any) -> Any:
        try:
            reading = device.read()
        except Exception:
            return None
        if inspect.iscoroutine(reading):
            reading.close()
            return None
        self._note_position(device, reading)
        return reading

    def _note_position(self, device: Any, reading: Mapping[str, Any]) -> None:
        fields = getattr(device, "hints", {}).get("fields") or list(reading)
        if fields and fields[0] in reading:
            self._where.setdefault(id(device), reading[fields[0]]["value"])

    def _size(self, device: Any) -> int:
        line = self._lines.get(id(device))
        if line is not None:  # described as it was prepared last, by somebody else
            described = device.describe()
            points = (described.get(device.name, {}).get("shape") or [1])[0]
            return int(_bytes_per_event(described) // max(points, 1) * line.n_points)
        if id(device) not in self._bytes:
            described = device.describe()
            self._bytes[id(device)] = _bytes_per_event(described)
            if isinstance(described, Mapping):
                shapes = [key["shape"] for key in described.values() if len(key["shape"]) >= 2]
                self._columns = shapes[0][-1] if shapes else self._columns
        return self._bytes[id(device)]

    def _save(self, _msg: Msg) -> None:
        self._advance(self.now_s + self._times.frame_s)
        if self._rotation_series is not None:
            self._predict_voxel_sigma(self._rotation_series)
            self._rotation_series = None
        self.found.frames[self._stream] += 1
        self.found.disk_bytes += self._event_bytes
        if self._stream == "primary":
            self.found.sample_exposure_s += self._event_exposure_s
        self._stream, self._event_exposure_s = "", 0.0

    def _drop(self, _msg: Msg) -> None:
        self._stream, self._event_exposure_s = "", 0.0


def _bytes_per_event(description: Any) -> int:
    """Size of what a device adds to an event; 0 where only an event loop could tell what that is."""
    if inspect.iscoroutine(description):
        description.close()
        return 0
    total = 0
    for key in description.values():
        try:
            size = np.dtype(key.get("dtype_numpy", "<f8")).itemsize
        except TypeError:
            size = 8
        total += size * math.prod(n or 1 for n in key["shape"])
    return total
