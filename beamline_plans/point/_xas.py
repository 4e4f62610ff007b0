"""Spectra with point detectors: transmission, electron yield, fluorescence."""

import uuid
from collections.abc import Callable
from typing import Any, Optional

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_plans.errors import PlanError
from beamline_plans.grids import EnergyGrid, edge_named
from beamline_plans.running import (
    FrameLabel,
    PauseWatch,
    check_provenance,
    check_roles,
    check_value,
    first_value,
    grid_from,
    restore_wrapper,
    trigger,
)
from scan_contract import (
    ALL_ENERGIES,
    CONTRACT_KEY,
    SWEEP_AXIS,
    ContractError,
    PointContract,
    Shot,
    make_contract,
)

from ._watch import SweepWatch

__all__ = ["checked_run", "point_scan", "xas_scan"]

_CHANNELS = ("i0", "it", "iref", "tey", "fy")


def xas_scan(
    energy: Movable,
    *,
    edge: str,
    grid: Any = None,
    i0: Optional[Readable] = None,
    it: Optional[Readable] = None,
    iref: Optional[Readable] = None,
    tey: Optional[Readable] = None,
    fy: Optional[Readable] = None,
    shutter: Optional[Movable] = None,
    repeats: int = 1,
    sweeps: int = 1,
    n_darks: int = 0,
    target_sigma_ev: Optional[float] = None,
    references: Optional[dict] = None,
    anchors: Optional[dict] = None,
    compared_with: Optional[dict] = None,
    dead_time_s: Optional[dict] = None,
    md: Optional[dict] = None,
) -> MsgGenerator[str]:
    """Take a spectrum across one edge with point detectors.

    Every event says which energy of the grid it is, as the frames of `xanes_scan` do; the contract in the
    start document holds the grid and says which device is which channel. However the scan ends, the shutter is
    closed and the energy restored.

    Parameters
    ----------
    energy : EnergyAxis
        Photon energy in eV.
    edge : str
        For example "Ni_L3".
    grid : EnergyGrid, dict, str or None
        As for `xanes_scan`. A detector with a settable `exposure_s` gets the exposure of each energy.
    i0, it, iref, tey, fy : PointDetector
        Incident and transmitted intensity, transmission of the reference foil, total electron yield and
        fluorescence yield; at least one.
    shutter : Shutter
        Opened for the scan if given.
    repeats : int
        Readings per energy in each sweep.
    sweeps : int
        How often the whole grid is gone through; each sweep has an energy axis of its own by its foil.
    n_darks : int
        Readings with the shutter closed before the first sweep, which give the offsets of the detectors.
    target_sigma_ev : float, optional
        No further sweep once the half-jump energy of all so far is known so well, in eV; needs `i0` and `it`.
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
    run_md = {"plan_name": "xas_scan", "scan_group": str(uuid.uuid4()), **(md or {})}
    if target_sigma_ev is not None and not {"i0", "it"} <= set(channels):
        raise PlanError("target_sigma_ev needs i0 and it: the plan itself watches their absorption.")
    entries = {
        "n_darks": n_darks,
        "target_sigma_ev": target_sigma_ev,
        "references": references,
        "anchors": anchors,
        "compared_with": compared_with,
        "dead_time_s": dead_time_s,
    }
    watch = None if target_sigma_ev is None else SweepWatch(edge_named(edge).name, target_sigma_ev)
    scan = point_scan(
        energy,
        channels,
        edge,
        grid_from(grid, edge),
        repeats,
        shutter,
        run_md,
        listener=None if watch is None else watch.add,
        sweeps=sweeps,
        entries=entries,
        is_enough=None if watch is None else watch.is_enough,
    )
    return (yield from scan)


def point_scan(
    energy: Any,
    channels: dict[str, Any],
    edge: str,
    grid: EnergyGrid,
    repeats: int,
    shutter: Optional[Any],
    md: dict[str, Any],
    listener: Optional[Callable[[float, dict[str, float]], None]] = None,
    *,
    sweeps: int = 1,
    entries: Optional[dict[str, Any]] = None,
    is_enough: Optional[Callable[[], bool]] = None,
) -> MsgGenerator[str]:
    """Take a spectrum; `listener` is told the energy readback and the value of each channel of each event.

    `is_enough` is asked after each sweep whether it was the last one. What a pause or a suspension came upon is taken
    again and only then told.
    """
    run = checked_run(
        energy,
        channels,
        edge_named(edge).name,
        grid,
        repeats,
        shutter,
        md,
        listener,
        sweeps=sweeps,
        entries=entries,
        is_enough=is_enough,
    )
    uid: str = yield from restore_wrapper(energy, run(), shutter)
    return uid


def checked_run(
    energy: Any,
    channels: dict[str, Any],
    edge: str,
    grid: EnergyGrid,
    repeats: int,
    shutter: Optional[Any],
    md: dict[str, Any],
    listener: Optional[Callable[[float, dict[str, float]], None]] = None,
    *,
    model: Any = PointContract,
    sweeps: int = 1,
    entries: Optional[dict[str, Any]] = None,
    is_enough: Optional[Callable[[], bool]] = None,
) -> Callable[[], MsgGenerator[str]]:
    """Check all that a spectrum needs, and return the run that takes it; energy and shutter stay where it ends.

    Raises
    ------
    PlanError
        If the request makes no sense or a device would refuse a move.
    """
    entries = check_point_request(energy, channels, grid, repeats, sweeps, shutter, entries)
    n_darks = entries.get("n_darks", 0)
    detectors = list(channels.values())
    timed = [device.exposure_s for device in detectors if hasattr(device, "exposure_s")]
    label, watch = FrameLabel(), PauseWatch()
    heard: list[tuple[float, dict[str, float]]] = []
    start = describe_points(
        energy, channels, edge, grid, repeats, sweeps, md, entries, model=model, may_end=is_enough is not None
    )

    def one_reading(shot: Shot) -> MsgGenerator[None]:
        readback, values = yield from read_point(energy, detectors, label, shot)
        if (
            shot.stream == "primary"
            and listener is not None
            and readback is not None
            and None not in values.values()
        ):
            heard.append((readback, {role: values[device.name] for role, device in channels.items()}))

    def one_energy(
        index: int, energy_ev: float, exposure_s: float, axes: tuple[tuple[str, int], ...]
    ) -> MsgGenerator[None]:
        yield from bps.checkpoint()
        yield from bps.mv(energy, energy_ev, *(item for axis in timed for item in (axis, exposure_s)))
        if shutter is not None:
            yield from bps.mv(shutter, "open")
        for repeat in range(repeats):
            yield from one_reading(Shot("primary", index, energy_ev, exposure_s, repeat, axes))

    def one_energy_heard(*about: Any) -> MsgGenerator[None]:
        """Tell the listener of readings that the RunEngine has not taken again behind the back of the plan."""
        if listener is None:
            return (yield from one_energy(*about))
        pauses = -1
        while pauses != watch.pauses:
            pauses = watch.pauses
            heard.clear()
            yield from one_energy(*about)
            yield from bps.checkpoint()
        for reading in heard:
            listener(*reading)

    @bpp.stage_decorator(detectors)
    @bpp.run_decorator(md=start)
    def inside() -> MsgGenerator[Any]:
        yield from watch.register()
        if n_darks:
            yield from take_darks(energy, detectors, label, shutter, grid, n_darks)
        for sweep in range(sweeps):
            axes = ((SWEEP_AXIS, sweep),) if sweeps > 1 else ()
            for index, (energy_ev, exposure_s) in enumerate(grid):
                yield from one_energy_heard(index, energy_ev, exposure_s, axes)
            if is_enough is not None and is_enough():
                break
        yield from bps.checkpoint()

    run: Callable[[], MsgGenerator[str]] = inside
    return run


def given_channels(**devices: Any) -> dict[str, Any]:
    """Return the detectors that are given, by their roles."""
    return {role: device for role, device in devices.items() if device is not None}


def check_point_request(
    energy: Any,
    channels: dict[str, Any],
    grid: EnergyGrid,
    repeats: int,
    sweeps: int,
    shutter: Optional[Any],
    entries: Optional[dict[str, Any]],
) -> dict[str, Any]:
    """Check what every spectrum needs, and return those entries of the contract that were given.

    Raises
    ------
    PlanError
        If the request makes no sense or a device would refuse a move.
    """
    if not channels:
        raise PlanError(f"There is nothing to measure with; give at least one of {', '.join(_CHANNELS)}.")
    if repeats < 1:
        raise PlanError(f"repeats must be at least 1, not {repeats}.")
    if sweeps < 1:
        raise PlanError(f"sweeps must be at least 1, not {sweeps}.")
    entries = {key: value for key, value in (entries or {}).items() if value}
    if entries.get("n_darks", 0) and shutter is None:
        raise PlanError("Readings without beam need the shutter: give shutter, or n_darks=0.")
    check_roles(
        (
            ("energy", energy, ("name", "read", "describe", "set", "hints")),
            *((role, device, ("name", "read", "describe")) for role, device in channels.items()),
            ("shutter", shutter, ("name", "set")),
        )
    )
    for energy_ev in sorted(set(grid.energies_ev)):
        check_value(energy, energy_ev)
    if shutter is not None:
        for position in ("open", "closed"):
            check_value(shutter, position)
    return entries


def describe_points(
    energy: Any,
    channels: dict[str, Any],
    edge: str,
    grid: EnergyGrid,
    repeats: int,
    sweeps: int,
    md: dict[str, Any],
    entries: dict[str, Any],
    *,
    model: Any = PointContract,
    may_end: bool = False,
) -> dict[str, Any]:
    """Return the start document of a spectrum.

    Raises
    ------
    PlanError
        If no contract can say it.
    """
    try:
        contract = make_contract(
            model,
            edge=edge,
            **grid.to_dict(),
            repeats=repeats,
            channels={role: device.name for role, device in channels.items()},
            devices={"energy": energy.name, **{role: device.name for role, device in channels.items()}},
            axes={SWEEP_AXIS: tuple(float(sweep) for sweep in range(sweeps))} if sweeps > 1 else {},
            max_frames=len(grid) * repeats * sweeps if may_end else None,
            **entries,
            **check_provenance(md),
        )
    except ContractError as error:
        raise PlanError(f"The scan cannot be described: {error}.") from error
    return {
        "detectors": [device.name for device in channels.values()],
        "motors": [energy.name],
        "num_points": contract.readings_expected,
        "hints": {"dimensions": [([*energy.hints.get("fields", [])[:1]], "primary")]},
        **md,
        CONTRACT_KEY: contract.to_dict(),
    }


def read_point(
    energy: Any, detectors: list[Any], label: FrameLabel, shot: Shot
) -> MsgGenerator[tuple[Optional[float], dict[str, Any]]]:
    """Take one reading; return the energy as read back and the value of each detector by its name."""
    yield from trigger(detectors, label, shot)
    yield from bps.create(name=shot.stream)
    yield from bps.read(label)
    readback = first_value(energy, (yield from bps.read(energy)))
    values = {}
    for device in detectors:
        values[device.name] = first_value(device, (yield from bps.read(device)))
    yield from bps.save()
    return readback, values


def take_darks(
    energy: Any, detectors: list[Any], label: FrameLabel, shutter: Any, grid: EnergyGrid, n_darks: int
) -> MsgGenerator[None]:
    """Take readings with the shutter closed, as long as the longest of the grid."""
    exposure_s = max(grid.exposure_s)
    timed = [device.exposure_s for device in detectors if hasattr(device, "exposure_s")]
    yield from bps.checkpoint()
    yield from bps.mv(shutter, "closed", *(item for axis in timed for item in (axis, exposure_s)))
    for repeat in range(n_darks):
        shot = Shot("dark", ALL_ENERGIES, grid.energies_ev[0], exposure_s, repeat)
        yield from read_point(energy, detectors, label, shot)
