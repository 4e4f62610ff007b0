"""Spectra with the energy axis in continuous motion."""

import uuid
from itertools import pairwise
from typing import Any, Optional, cast

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky import Msg
from bluesky.protocols import Flyable, Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_devices.protocols import EnergyFlyer, FlightPath
from beamline_plans.errors import PlanError
from beamline_plans.grids import EnergyGrid, edge_named
from beamline_plans.running import (
    FrameLabel,
    PauseWatch,
    QuietStop,
    check_roles,
    check_value,
    grid_from,
    restore_wrapper,
)

from ._xas import check_point_request, describe_points, given_channels, take_darks

__all__ = ["flight_path", "xas_fly"]

# How often the samples so far are announced while the axis moves.
_ANNOUNCE_EVERY_S = 1.0
_SLACK_S = 60.0


def xas_fly(
    energy: Movable,
    flyer: Flyable,
    *,
    edge: str,
    grid: Any = None,
    i0: Optional[Readable] = None,
    it: Optional[Readable] = None,
    iref: Optional[Readable] = None,
    tey: Optional[Readable] = None,
    fy: Optional[Readable] = None,
    shutter: Optional[Movable] = None,
    sweeps: int = 1,
    n_darks: int = 0,
    sample_s: float = 0.02,
    references: Optional[dict] = None,
    anchors: Optional[dict] = None,
    compared_with: Optional[dict] = None,
    dead_time_s: Optional[dict] = None,
    md: Optional[dict] = None,
) -> MsgGenerator[str]:
    """Take a spectrum across one edge while the energy axis moves (fly scan).

    The axis crosses the cell around each energy of the grid in the exposure of that energy; position and detectors of
    every sample are recorded on the way, and the analysis bins the samples to the grid. However the scan ends, what
    has been recorded is kept, the shutter is closed and the energy restored. A sweep that a pause came upon is flown
    again.

    Parameters
    ----------
    energy : EnergyAxis
        Photon energy in eV.
    flyer : EnergyFlyer
        What moves that axis evenly and records samples meanwhile.
    edge : str
        For example "Ni_K".
    grid : EnergyGrid, dict, str or None
        As for `xanes_scan`; increasing energies.
    i0, it, iref, tey, fy : PointDetector
        Incident and transmitted intensity, transmission of the reference foil, total electron yield and
        fluorescence yield; the flyer records each in a column of its name. At least one.
    shutter : Shutter
        Opened for the scan if given.
    sweeps : int
        How often the whole grid is flown; each sweep has an energy axis of its own by its foil.
    n_darks : int
        Readings with the shutter closed before the first sweep, which give the offsets of the detectors.
    sample_s : float
        Time of a sample; no longer than the shortest exposure of the grid.
    references : dict
        Spectra of known state of charge, as for `xanes_scan`.
    anchors : dict
        Standards that make the calibration line: edge_energy_ev and valence of each, their definition and
        edge_energy_sigma_ev.
    compared_with : dict
        A stored spectrum to take the difference to: energy_ev, normalized_mu and name.
    dead_time_s : dict
        Dead time of each channel that counts photons, such as {"fy": 1e-6}, 0 for none; those not named are currents.
    md : dict
        Metadata of the run, who and what among them as for `xanes_scan`.

    Returns
    -------
    str
        The uid of the run.

    Raises
    ------
    PlanError
        Before anything moves, if the request makes no sense or the energy axis would refuse a move.
    """
    channels = given_channels(i0=i0, it=it, iref=iref, tey=tey, fy=fy)
    planned = grid_from(grid, edge)
    entries = {
        "n_darks": n_darks,
        "references": references,
        "anchors": anchors,
        "compared_with": compared_with,
        "dead_time_s": dead_time_s,
    }
    entries = check_point_request(energy, channels, planned, 1, sweeps, shutter, entries)
    check_roles(
        (("flyer", flyer, ("name", "recorded", "prepare", "kickoff", "complete", "describe_collect")),)
    )
    first = flight_path(planned, 0, sample_s)
    for energy_ev in (first.energies_ev[0], first.energies_ev[-1]):
        check_value(energy, energy_ev)
    start = describe_points(
        energy,
        channels,
        edge_named(edge).name,
        planned,
        1,
        sweeps,
        {"plan_name": "xas_fly", "scan_group": str(uuid.uuid4()), **(md or {})},
        entries | {"flight": {"sample_s": sample_s, **cast(Any, flyer).recorded}},
    )
    # The samples are in a file: there is no event to plot.
    start |= {"detectors": [flyer.name], "hints": {}}
    detectors = list(channels.values())
    label, watch = FrameLabel(), PauseWatch()

    @bpp.stage_decorator([*detectors, flyer])
    @bpp.run_decorator(md=start)
    def inside() -> MsgGenerator[None]:
        yield from watch.register()
        if n_darks:
            yield from take_darks(energy, detectors, label, shutter, planned, n_darks)
        yield from bps.declare_stream(flyer, name="primary", collect=True)

        def flights() -> MsgGenerator[None]:
            for sweep in range(sweeps):
                yield from _sweep(
                    cast(EnergyFlyer, flyer), flight_path(planned, sweep, sample_s), shutter, watch
                )
            yield from bps.checkpoint()

        def keep() -> MsgGenerator[None]:
            """Announce what was recorded of a sweep that was not flown to its end."""
            yield Msg("stop", QuietStop(flyer))
            yield from bps.collect(flyer, name="primary", return_payload=False)

        yield from bpp.finalize_wrapper(flights(), keep())

    uid: str = yield from restore_wrapper(energy, inside(), shutter)
    return uid


def flight_path(grid: EnergyGrid, sweep: int, sample_s: float) -> FlightPath:
    """Return the path through a grid: the cell around each energy is crossed in its exposure.

    Parameters
    ----------
    grid : EnergyGrid
        Increasing energies.
    sweep : int
        Number of the sweep.
    sample_s : float
        Time of a sample.

    Raises
    ------
    PlanError
        If the axis cannot fly so.
    """
    energies = grid.energies_ev
    if len(energies) < 2 or any(b <= a for a, b in pairwise(energies)):
        raise PlanError(
            "A continuous scan needs increasing energies, each once; order the grid, or take it with xas_scan."
        )
    if not 0 < sample_s <= min(grid.exposure_s):
        raise PlanError(
            f"sample_s must be positive and no longer than the shortest exposure of the grid, "
            f"{min(grid.exposure_s):g} s, not {sample_s:g} s."
        )
    middles = [0.5 * (a + b) for a, b in pairwise(energies)]
    ends = [2 * energies[0] - middles[0], *middles, 2 * energies[-1] - middles[-1]]
    times = [0.0]
    for exposure_s in grid.exposure_s:
        times.append(times[-1] + exposure_s)
    return FlightPath(sweep, tuple(ends), tuple(times), float(sample_s))


def _sweep(
    flyer: EnergyFlyer, path: FlightPath, shutter: Optional[Any], watch: PauseWatch
) -> MsgGenerator[None]:
    """Fly one sweep, and once more where a pause ended it and the RunEngine does not rewind."""
    pauses = -1
    while pauses != watch.pauses:
        pauses = watch.pauses
        yield from bps.checkpoint()
        yield from bps.prepare(flyer, path, wait=True)
        if shutter is not None:
            yield from bps.mv(shutter, "open")
        yield from bps.kickoff(flyer, wait=True)
        group = str(uuid.uuid4())
        yield from bps.complete(flyer, group=group, wait=False)
        left_s = path.duration_s + _SLACK_S
        while not (yield from bps.wait(group=group, timeout=_ANNOUNCE_EVERY_S, error_on_timeout=False)):
            left_s -= _ANNOUNCE_EVERY_S
            if left_s < 0:
                raise PlanError(
                    f"{flyer.name} has not come to the end of its path {_SLACK_S:g} s after it should have; look at "
                    "the axis."
                )
            yield from bps.collect(flyer, name="primary", return_payload=False)
        yield from bps.collect(flyer, name="primary", return_payload=False)
        if watch.rewindable:
            return
