"""Maps with a fluorescence detector."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any, Optional, Union

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_plans.errors import PlanError
from beamline_plans.grids import edge_named
from beamline_plans.running import FrameLabel, restore_wrapper, trigger
from scan_contract import COLUMN_AXIS, ROW_AXIS, Shot

from ._request import RasterDevices, RasterRequest, positions

__all__ = ["Listener", "raster_request", "raster_run", "xrf_map"]

Listener = Callable[[int, int, int, Any], None]
"""Told energy index, row, column (-1 for a whole line) and what the detector read."""


def xrf_map(
    mca: Readable,
    energy: Movable,
    row_axis: Movable,
    column_axis: Movable,
    *,
    rows_um: Union[list[float], dict],
    columns_um: Union[list[float], dict],
    exposure_s: float,
    elements: Union[list[str], tuple[str, ...]],
    calibration: list,
    energies_ev: Optional[list[float]] = None,
    edge: str = "Ni_K",
    fly: bool = False,
    i0: Optional[Readable] = None,
    shutter: Optional[Movable] = None,
    angle_deg: float = 90.0,
    focus_um: Optional[float] = None,
    standard: Optional[dict] = None,
    references: Optional[dict] = None,
    composition_references: Optional[list] = None,
    md: Optional[dict] = None,
) -> MsgGenerator[str]:
    """Scan the focus over a sample, point by point or line by line, and take fluorescence spectra.

    With several energies there is a whole map at each, one after the other: fluorescence XANES of each point. What a
    pause or a failure comes upon is taken again from the point, or the line, that it came upon. However the scan ends,
    the shutter is closed, and the energy and both axes are where they were.

    Parameters
    ----------
    mca : McaDetector
        Fluorescence detector; one that flies lines, with `fly`.
    energy : EnergyAxis
        Photon energy in eV.
    row_axis, column_axis : Movable
        Stage of the sample in um.
    rows_um, columns_um : list of float or dict
        Positions, or {"start": -4, "stop": 4, "step": 0.2}.
    exposure_s : float
        Time of a point.
    elements : list of str
        What to look for: "Ni" for its K lines, "Pb_L" for others.
    calibration : list
        Nominal energy scale of each detector element: {"gain_ev": 10, "offset_ev": 0}, or None where there is none.
    energies_ev : list of float
        Energies of the beam; by default where it is.
    edge : str
        The edge that the energies are at or above; the result has its name.
    fly : bool
        Whether lines are flown.
    i0 : PointDetector
        Incident intensity; of lines that are flown the detector has its own.
    shutter : Shutter
        Opened for the scan if given.
    angle_deg : float
        Angle between the beam and the way to the detector.
    focus_um : float
        Full width at half maximum of the focus.
    standard : dict
        A film of known densities: areal_density_ug_cm2 and counts per unit of I0, by element, and source.
    references : dict
        Spectra of known state of charge, as for `xanes_scan`, for a map over energies.
    composition_references : list
        The same of several compositions, blended for that of each point: fraction (of the edge's element),
        references and name of each.
    md : dict
        Metadata of the run, who and what among them as for `xanes_scan`.

    Returns
    -------
    str
        The uid of the run.

    Raises
    ------
    PlanError
        Before anything moves, if the request makes no sense or a device would refuse a move.
    """
    devices = RasterDevices(mca, energy, row_axis, column_axis, i0, shutter)
    entries = {
        "elements": tuple(elements) if isinstance(elements, (list, tuple)) else elements,
        "calibration": calibration,
        "angle_deg": angle_deg,
        "focus_um": focus_um,
        "standard": standard,
        "references": references,
        "composition_references": composition_references,
    }
    request = yield from raster_request(
        devices, rows_um, columns_um, exposure_s, energies_ev, edge, fly, entries
    )
    run_md = {"plan_name": "xrf_map", "scan_group": str(uuid.uuid4()), **(md or {})}
    return (yield from raster_run(devices, request, run_md))


def raster_request(
    devices: RasterDevices,
    rows_um: Any,
    columns_um: Any,
    exposure_s: float,
    energies_ev: Optional[list[float]],
    edge: str,
    fly: bool,
    entries: dict[str, Any],
) -> MsgGenerator[RasterRequest]:
    """Return the checked request; the energy is where the beam is, if none is given."""
    if energies_ev is None:
        reading = yield from bps.read(devices.energy)
        energies_ev = [_readback(devices.energy, reading)]
    if not isinstance(energies_ev, (list, tuple)) or not energies_ev:
        raise PlanError("energies_ev must be a list of energies in eV, or left out.")
    try:
        energies = tuple(float(one) for one in energies_ev)
    except (TypeError, ValueError):
        raise PlanError(f"energies_ev holds what is no energy: {list(energies_ev)}.") from None
    request = RasterRequest(
        positions(rows_um, "rows_um"),
        positions(columns_um, "columns_um"),
        energies,
        exposure_s,
        bool(fly),
        edge_named(edge).name,
        {key: value for key, value in entries.items() if value is not None},
    )
    request.check(devices)
    return request


def _readback(energy: Any, reading: Any) -> float:
    """Return where the energy is; a simulation of the plan that reads nothing asks the device itself."""
    fields = energy.hints.get("fields") or [energy.name]
    if not reading:
        reading = energy.read()
    return float(reading[fields[0]]["value"])


def raster_run(
    devices: RasterDevices,
    request: RasterRequest,
    md: dict[str, Any],
    *,
    take: Optional[dict[str, Any]] = None,
    listener: Optional[Listener] = None,
) -> MsgGenerator[str]:
    """Take a raster, or what is left of one; `take` says what: entries ``resumes`` and ``take`` of the contract."""
    start = request.start(devices, md, take)
    label = FrameLabel()
    detectors = [devices.mca] if devices.i0 is None or request.line else [devices.mca, devices.i0]

    @bpp.stage_decorator([devices.mca])
    @bpp.run_decorator(md=start)
    def inside() -> MsgGenerator[None]:
        at_ev: Optional[int] = None
        for index, row in _lines(request, take):
            yield from bps.checkpoint()
            if index != at_ev:
                yield from bps.mv(
                    devices.energy, request.energies_ev[index], devices.mca.exposure_s, request.exposure_s
                )
                at_ev = index
            line = _flown_line if request.line else _stepped_line
            yield from line(devices, detectors, request, label, index, row, listener)
        yield from bps.checkpoint()

    plan: MsgGenerator[str] = restore_wrapper(devices.energy, inside(), devices.shutter)
    for axis in (devices.column_axis, devices.row_axis):
        plan = restore_wrapper(axis, plan)
    return (yield from plan)


def _lines(request: RasterRequest, take: Optional[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    """Yield energy index and row of the lines to take."""
    wanted = (take or {}).get("take", {})
    indices = wanted.get("primary", range(len(request.energies_ev)))
    first = wanted.get("first_row", 0)
    for index in indices:
        for row in range(first, len(request.rows_um)):
            yield index, row
        first = 0


def _stepped_line(
    devices: RasterDevices,
    detectors: list[Any],
    request: RasterRequest,
    label: FrameLabel,
    index: int,
    row: int,
    listener: Optional[Listener],
) -> MsgGenerator[None]:
    for column, column_um in enumerate(request.columns_um):
        yield from bps.checkpoint()
        yield from bps.mv(devices.row_axis, request.rows_um[row], devices.column_axis, column_um)
        if devices.shutter is not None:
            yield from bps.mv(devices.shutter, "open")
        axes = ((COLUMN_AXIS, column), (ROW_AXIS, row))
        shot = Shot("primary", index, request.energies_ev[index], request.exposure_s, 0, axes)
        reads = [devices.row_axis, devices.column_axis]
        reading = yield from _event(devices, detectors, label, shot, reads)
        if listener is not None and reading:
            listener(index, row, column, reading)


def _flown_line(
    devices: RasterDevices,
    detectors: list[Any],
    request: RasterRequest,
    label: FrameLabel,
    index: int,
    row: int,
    listener: Optional[Listener],
) -> MsgGenerator[None]:
    yield from bps.mv(devices.row_axis, request.rows_um[row])
    if devices.shutter is not None:
        yield from bps.mv(devices.shutter, "open")
    yield from bps.prepare(devices.mca, request.path(row), wait=True)
    shot = Shot("primary", index, request.energies_ev[index], request.exposure_s, 0, ((ROW_AXIS, row),))
    reading = yield from _event(devices, detectors, label, shot, [devices.row_axis])
    if listener is not None and reading:
        listener(index, row, -1, reading)


def _event(
    devices: RasterDevices, detectors: list[Any], label: FrameLabel, shot: Shot, axes: list[Any]
) -> MsgGenerator[Any]:
    """Take one event and return what the detector read."""
    yield from trigger(detectors, label, shot)
    yield from bps.create(name=shot.stream)
    yield from bps.read(label)
    yield from bps.read(devices.energy)
    for axis in axes:
        yield from bps.read(axis)
    reading = yield from bps.read(devices.mca)
    for device in detectors[1:]:
        yield from bps.read(device)
    yield from bps.save()
    return reading
