"""A scan that takes the energies that help most, and stops when the map is good enough."""

import math
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional, Protocol

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_plans.errors import PlanError
from beamline_plans.running import (
    Clock,
    FrameTaker,
    Instrument,
    ScanRequest,
    check_provenance,
    grid_from,
    now_s,
    one_run,
    safe_state_wrapper,
)
from edge_fitting import EdgeFittingError, EnergyChooser, ReferenceSeries, choose_energies
from scan_contract import ALL_ENERGIES

__all__ = ["AdaptiveResult", "LiveMaps", "MapUpdate", "adaptive_xanes"]

_MIN_FRAMES = 5  # four unknowns per pixel, and one frame more to tell the noise
_MEDIAN_PIXELS = 50_000
_POLL_S = 0.05


class MapUpdate(Protocol):
    """Maps of the frames of a run that have been fitted so far; an ``xarray.Dataset`` is one."""

    @property
    def attrs(self) -> Mapping[Any, Any]:
        """What is known about them, ``n_frames`` among it: the number of sample frames in them."""
        ...

    def __getitem__(self, name: str) -> Any:
        """Return an array with ``values``: ``soc`` and ``soc_sigma``."""
        ...


class LiveMaps(Protocol):
    """The live analysis as `adaptive_xanes` needs it; `callbacks.LiveSOC` is one."""

    def latest(self, uid: str) -> MapUpdate:
        """Return the last maps of run `uid` without waiting; raises while there are none."""
        ...


@dataclass(frozen=True)
class AdaptiveResult:
    """What an adaptive scan did and what it saved.

    Parameters
    ----------
    uid : str
        The run.
    reason : {"target", "frames", "dose", "time"}
        What ended it: the target precision, or the budget that was spent.
    n_frames : int
        Sample frames taken.
    median_sigma : float or None
        Median sigma of the state of charge over the fitted pixels, as last reported by the analysis.
    n_frames_full, frames_saved : int
        Frames of the full grid, and how many fewer were taken.
    dose_saved : float
        Share of the full grid's sample exposure that was not spent.
    """

    uid: str
    reason: str
    n_frames: int
    median_sigma: Optional[float]
    n_frames_full: int
    frames_saved: int
    dose_saved: float

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        why = {
            "target": "the target is reached",
            "frames": "the frames are spent",
            "dose": "the dose is spent",
            "time": "the time is spent",
        }[self.reason]
        sigma = "no sigma known" if self.median_sigma is None else f"median sigma {self.median_sigma:.3f}"
        return (
            f"Stopped because {why}: {self.n_frames} frames, {sigma}; the full grid has {self.n_frames_full} "
            f"frames, {100 * self.dose_saved:.0f} % of its dose was saved."
        )


def adaptive_xanes(
    camera: Readable,
    energy: Movable,
    shutter: Movable,
    stage: Movable,
    *,
    edge: str,
    references: dict,
    live: Any,
    target_sigma: float = 0.06,
    max_frames: int = 30,
    max_exposure_s: Optional[float] = None,
    max_time_s: Optional[float] = None,
    grid: Any = None,
    first_frames: int = 6,
    calibration_error_ev: float = 0.5,
    i0: Optional[Readable] = None,
    n_flats: int = 1,
    n_darks: int = 5,
    pixel_size_nm: Optional[float] = None,
    i0_min: Optional[float] = None,
    timeout_s: float = 5.0,
    md: Optional[dict] = None,
) -> MsgGenerator[AdaptiveResult]:
    """Take the energies that lower the variance of the state of charge most, until the map is good enough.

    The first energies are chosen together; from then on each next one is the candidate that helps most given those
    taken. The scan ends when the median sigma over the fitted pixels, as the live analysis reports it, is at
    most `target_sigma`, or when a budget is spent. An energy that is taken again gets the next repeat number
    and shares the flats of its first visit. Each decision is an event of the stream "adaptive".

    Parameters
    ----------
    camera, energy, shutter, stage, i0
        The devices, as for `xanes_scan`.
    edge : str
        For example "Ni_K".
    references : dict
        `ReferenceSeries.to_dict()`: what the energies are chosen for.
    live : LiveMaps
        The live analysis that follows the run, such as a subscribed `callbacks.LiveSOC`.
    target_sigma : float
        Wanted median sigma of the state of charge (0 to 1).
    max_frames : int
        Most sample frames.
    max_exposure_s, max_time_s : float
        Most exposure of the sample and longest duration in seconds.
    grid : EnergyGrid, dict, str or None
        The candidates, as for `xanes_scan`; also the full grid that the savings refer to.
    first_frames : int
        Frames taken before the analysis is asked for the first time, at least 5.
    calibration_error_ev : float
        The energies are chosen to be good also when the axis is off by this much.
    n_flats, n_darks, pixel_size_nm, i0_min
        As for `xanes_scan`.
    timeout_s : float
        How long to wait for the analysis before taking another frame without its word.
    md : dict
        Metadata of the run.

    Returns
    -------
    AdaptiveResult
        What was done and saved.

    Raises
    ------
    PlanError
        Before anything moves, if the request makes no sense or a device would refuse a move.
    """
    instrument = Instrument(camera, energy, shutter, stage, i0)  # type: ignore[arg-type]
    request = ScanRequest(
        edge,
        grid_from(grid, edge, references=references),
        n_flats=n_flats,
        n_darks=n_darks,
        references=references,
        pixel_size_nm=pixel_size_nm,
        i0_min=i0_min,
    )
    instrument.check(request.grid.energies_ev)
    if references is None:
        raise PlanError(
            "adaptive_xanes needs reference spectra to choose energies for; measure standards first."
        )
    if not hasattr(live, "latest"):
        raise PlanError(
            "adaptive_xanes needs the live analysis; pass the LiveSOC that follows the RunEngine."
        )
    budget = _Budget(target_sigma, max_frames, max_exposure_s, max_time_s)
    if not _MIN_FRAMES <= first_frames <= max_frames:
        raise PlanError(
            f"first_frames must be between {_MIN_FRAMES} and max_frames ({max_frames}), not {first_frames}."
        )
    chooser = _Chooser(request, first_frames, calibration_error_ev)
    run_md = {
        "plan_name": "adaptive_xanes",
        "scan_group": str(uuid.uuid4()),
        **(md or {}),
        "num_points": max_frames,
    }
    extra = {
        "max_frames": max_frames,
        "adaptive": {
            "target_sigma": target_sigma,
            "max_frames": max_frames,
            "max_exposure_s": max_exposure_s,
            "max_time_s": max_time_s,
            "first_frames": first_frames,
            "calibration_error_ev": calibration_error_ev,
        },
    }
    request.contract(instrument, **check_provenance(md), **extra)
    outcome: list[AdaptiveResult] = []

    def take(taker: FrameTaker, uid: str) -> MsgGenerator[None]:
        scan = _AdaptiveScan(request, chooser, budget, live, first_frames, timeout_s)
        outcome.append((yield from scan.run(taker, uid)))

    yield from safe_state_wrapper(instrument, one_run(instrument, request, run_md, entries=extra, take=take))
    return outcome[0]


@dataclass(frozen=True)
class _Budget:
    target_sigma: float
    max_frames: int
    max_exposure_s: Optional[float]
    max_time_s: Optional[float]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.target_sigma) and self.target_sigma > 0):
            raise PlanError(f"target_sigma must be a positive number, not {self.target_sigma}.")
        if self.max_frames < _MIN_FRAMES:
            raise PlanError(f"max_frames must be at least {_MIN_FRAMES}, not {self.max_frames}.")
        for name, value in (("max_exposure_s", self.max_exposure_s), ("max_time_s", self.max_time_s)):
            if value is not None and not value > 0:
                raise PlanError(f"{name} must be positive, not {value}.")

    def spent(self, n_frames: int, exposure_s: float, next_s: float, time_s: float) -> Optional[str]:
        """Name the budget that forbids one more frame of `next_s` seconds."""
        if n_frames >= self.max_frames:
            return "frames"
        if self.max_exposure_s is not None and exposure_s + next_s > self.max_exposure_s * (1 + 1e-9):
            return "dose"
        if self.max_time_s is not None and time_s >= self.max_time_s:
            return "time"
        return None


class _Chooser:
    """Which position of the grid comes next."""

    def __init__(self, request: ScanRequest, first_frames: int, calibration_error_ev: float) -> None:
        series = ReferenceSeries.from_dict(request.references or {})
        self._energies = np.asarray(request.grid.energies_ev)
        self._exposures = np.asarray(request.grid.exposure_s)
        # Only the ratio of the candidates' weights matters for the choice.
        sigma = np.sqrt(self._exposures.mean() / self._exposures)
        candidates, first = np.unique(self._energies, return_index=True)
        common: dict[str, Any] = {
            "candidates_ev": candidates,
            "calibration_error_ev": calibration_error_ev,
        }
        try:
            together = choose_energies(series, first_frames, 1.0, sigma[first], **common)
            self._greedy = EnergyChooser(series, 1.0, sigma[first], **common)
        except EdgeFittingError as error:
            raise PlanError(f"No energies can be chosen: {str(error).rstrip('.')}.") from error
        self._queue = [self._index(e) for e in together.energies_ev]

    def _index(self, energy_ev: float) -> int:
        return int(np.argmin(np.abs(self._energies - energy_ev)))

    def next_index(self) -> int:
        """Return the position in the grid of the frame that helps most, and count it as taken."""
        index = self._queue.pop(0) if self._queue else self._index(self._greedy.next_energy())
        self._greedy.add(self._energies[index])
        return index


class _Decision:
    """Readable that carries the decisions of the scan into their own stream."""

    name = "adaptive"
    parent = None

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.time_s = 0.0

    def read(self) -> dict[str, Any]:
        return {
            f"adaptive_{key}": {"value": value, "timestamp": self.time_s}
            for key, value in self.values.items()
        }

    def describe(self) -> dict[str, Any]:
        kinds = {int: "integer", float: "number", str: "string"}
        return {
            f"adaptive_{key}": {"source": "plan:adaptive", "dtype": kinds[type(value)], "shape": []}
            for key, value in self.values.items()
        }


class _AdaptiveScan:
    def __init__(
        self,
        request: ScanRequest,
        chooser: _Chooser,
        budget: _Budget,
        live: LiveMaps,
        first_frames: int,
        timeout_s: float,
    ) -> None:
        self._first_frames = first_frames
        self._request = request
        self._chooser = chooser
        self._budget = budget
        self._live = live
        self._timeout_s = timeout_s
        self._clock = Clock()
        self._decision = _Decision()

    def run(self, taker: FrameTaker, uid: str) -> MsgGenerator[AdaptiveResult]:
        grid, request = self._request.grid, self._request
        for exposure_s in dict.fromkeys(grid.exposure_s):
            yield from taker.take("dark", ALL_ENERGIES, grid.energies_ev[0], exposure_s, request.n_darks)
        began = yield from now_s(self._clock)
        taken: Counter[int] = Counter()
        exposure_spent = 0.0
        sigma: Optional[float] = None
        check_at, checked_at = self._first_frames, 0
        reason: Optional[str] = None
        while reason is None:
            index = self._chooser.next_index()
            elapsed = (yield from now_s(self._clock)) - began
            n_frames = sum(taken.values())
            reason = self._budget.spent(n_frames, exposure_spent, grid.exposure_s[index], elapsed)
            if reason is not None:
                break
            energy_ev, exposure_s = grid.energies_ev[index], grid.exposure_s[index]
            if not taken[index]:
                yield from taker.take("flat", index, energy_ev, exposure_s, request.n_flats)
            yield from taker.take("primary", index, energy_ev, exposure_s, 1, first_repeat=taken[index])
            taken[index] += 1
            n_frames += 1
            exposure_spent += exposure_s
            if n_frames < min(check_at, self._budget.max_frames):
                continue
            sigma, checked_at = (yield from self._await_sigma(uid, n_frames, sigma)), n_frames
            if sigma is not None and sigma <= self._budget.target_sigma:
                reason = "target"
            check_at = self._next_check(n_frames, sigma)
            yield from self._record_decision(n_frames, sigma, reason or "more frames")
        n_frames = sum(taken.values())
        if reason != "target":
            if checked_at < n_frames:
                sigma = yield from self._await_sigma(uid, n_frames, sigma)
            yield from self._record_decision(n_frames, sigma, reason)
        full_exposure = sum(grid.exposure_s)
        result = AdaptiveResult(
            uid=uid,
            reason=reason,
            n_frames=n_frames,
            median_sigma=sigma,
            n_frames_full=len(grid),
            frames_saved=len(grid) - n_frames,
            dose_saved=1.0 - exposure_spent / full_exposure,
        )
        print(result.sentence)  # noqa: T201 - what the scan has to say to the person at the terminal
        return result

    def _next_check(self, n_frames: int, sigma: Optional[float]) -> int:
        """Return after how many frames to ask again: half of what the variance is expected to need."""
        if sigma is None:
            return n_frames + 1
        needed = n_frames * ((sigma / self._budget.target_sigma) ** 2 - 1.0)
        return n_frames + max(1, math.floor(needed / 2))

    def _await_sigma(self, uid: str, n_frames: int, last: Optional[float]) -> MsgGenerator[Optional[float]]:
        """Wait for the maps of all frames; give up waiting, not the scan, when the analysis is late."""
        began = yield from now_s(self._clock)
        while True:
            update = _latest(self._live, uid)
            if update is not None and update.attrs["n_frames"] >= n_frames:
                return median_sigma(update)
            waited = (yield from now_s(self._clock)) - began
            if waited >= self._timeout_s:
                return last if update is None else median_sigma(update)
            yield from bps.sleep(_POLL_S)

    def _record_decision(self, n_frames: int, sigma: Optional[float], what: str) -> MsgGenerator[None]:
        self._decision.values = {
            "n_frames": n_frames,
            "median_sigma": math.nan if sigma is None else sigma,
            "decision": what,
        }
        self._decision.time_s = time.time()
        yield from bps.checkpoint()
        yield from bps.create(name="adaptive")
        yield from bps.read(self._decision)
        yield from bps.save()


def _latest(live: LiveMaps, uid: str) -> Optional[MapUpdate]:
    try:
        return live.latest(uid)
    except Exception:  # the analysis has its own ways to say that there is nothing yet
        return None


def median_sigma(maps: MapUpdate) -> Optional[float]:
    """Return the median sigma of the state of charge over the pixels that have one."""
    soc, sigma = maps["soc"].values, maps["soc_sigma"].values
    sigma = sigma[np.isfinite(soc) & np.isfinite(sigma)]
    if sigma.size == 0:
        return None
    # Called on the thread of the RunEngine: a sample of the pixels gives the median as well.
    return float(np.median(sigma[:: max(1, sigma.size // _MEDIAN_PIXELS)]))
