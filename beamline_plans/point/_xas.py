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
    check_provenance,
    check_roles,
    check_value,
    first_value,
    grid_from,
    restore_wrapper,
    trigger,
)
from scan_contract import CONTRACT_KEY, ContractError, PointContract, Shot, make_contract

__all__ = ["point_scan", "xas_scan"]

CHANNELS = ("i0", "it", "iref", "tey", "fy")


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
        Readings per energy.
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
    channels = {
        role: device
        for role, device in zip(CHANNELS, (i0, it, iref, tey, fy), strict=True)
        if device is not None
    }
    run_md = {"plan_name": "xas_scan", "scan_group": str(uuid.uuid4()), **(md or {})}
    scan = point_scan(energy, channels, edge, grid_from(grid, edge), repeats, shutter, run_md)
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
) -> MsgGenerator[str]:
    """Take a spectrum; `listener` is told the energy readback and the value of each channel of each event."""
    if not channels:
        raise PlanError(f"There is nothing to measure with; give at least one of {', '.join(CHANNELS)}.")
    if repeats < 1:
        raise PlanError(f"repeats must be at least 1, not {repeats}.")
    edge = edge_named(edge).name
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
    detectors = list(channels.values())
    timed = [device.exposure_s for device in detectors if hasattr(device, "exposure_s")]
    label = FrameLabel()
    try:
        contract = make_contract(
            PointContract,
            edge=edge,
            **grid.to_dict(),
            repeats=repeats,
            channels={role: device.name for role, device in channels.items()},
            devices={"energy": energy.name, **{role: device.name for role, device in channels.items()}},
            **check_provenance(md),
        )
    except ContractError as error:
        raise PlanError(f"The scan cannot be described: {error}.") from error
    start = {
        "detectors": [device.name for device in detectors],
        "motors": [energy.name],
        "num_points": contract.readings_expected,
        "hints": {"dimensions": [([*energy.hints.get("fields", [])[:1]], "primary")]},
        **md,
        CONTRACT_KEY: contract.to_dict(),
    }

    def one_reading(shot: Shot) -> MsgGenerator[None]:
        yield from trigger(detectors, label, shot)
        yield from bps.create(name="primary")
        yield from bps.read(label)
        readback = first_value(energy, (yield from bps.read(energy)))
        values = {}
        for device in detectors:
            values[device.name] = first_value(device, (yield from bps.read(device)))
        yield from bps.save()
        if listener is not None and readback is not None and None not in values.values():
            listener(readback, {role: values[device.name] for role, device in channels.items()})

    @bpp.stage_decorator(detectors)
    @bpp.run_decorator(md=start)
    def inside() -> MsgGenerator[None]:
        for index, (energy_ev, exposure_s) in enumerate(grid):
            yield from bps.checkpoint()
            yield from bps.mv(energy, energy_ev, *(item for axis in timed for item in (axis, exposure_s)))
            if shutter is not None:
                yield from bps.mv(shutter, "open")
            for repeat in range(repeats):
                yield from one_reading(Shot("primary", index, energy_ev, exposure_s, repeat))
        yield from bps.checkpoint()

    uid: str = yield from restore_wrapper(energy, inside(), shutter)
    return uid
