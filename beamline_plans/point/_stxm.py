"""Energy stacks and spectra with a scanning focus."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any, Literal, Optional, Union

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_devices.protocols import CountedLine
from beamline_plans.errors import PlanError
from beamline_plans.grids import EnergyGrid, soft_edge_named
from beamline_plans.running import (
    FrameLabel,
    check_provenance,
    check_roles,
    check_value,
    restore_wrapper,
)
from scan_contract import CONTRACT_KEY, ContractError, Shot, StxmContract, make_contract

from ._focus import Focus
from ._raster import Region, regions_from
from ._soft_xas import checked_soft_grid
from ._xas import given_channels, read_point

__all__ = ["stxm_scan"]


def stxm_scan(
    energy: Movable,
    *,
    edge: str = "Ni_L3",
    grid: Any = None,
    regions: Union[dict, list],
    dwell_s: Optional[float] = None,
    line: Optional[Readable] = None,
    counter: Optional[Readable] = None,
    stage: Optional[Readable] = None,
    i0: Optional[Readable] = None,
    zone_plate: Optional[Movable] = None,
    aperture: Optional[Movable] = None,
    shutter: Optional[Movable] = None,
    focus: Optional[dict] = None,
    clearance_um: float = 100.0,
    order: Literal["image", "spectrum"] = "image",
    snake: bool = True,
    dead_time_s: float = 0.0,
    dark_hz: float = 0.0,
    stray_share: float = 0.0,
    components: Optional[list] = None,
    material: Optional[dict] = None,
    open_beam: Optional[dict] = None,
    resumes: Optional[str] = None,
    take: Optional[list] = None,
    md: Optional[dict] = None,
) -> MsgGenerator[list[str]]:
    """Raster regions with a focus at the energies of a soft edge, by lines in motion or point by point.

    One run for each region, tied by one `scan_group`; an overview is a region with a grid of one energy. Everything is
    checked for all regions before anything moves. However the scan ends, the shutter is closed, and energy, zone plate
    and aperture go back to where they were.

    Parameters
    ----------
    energy : EnergyAxis
        Photon energy in eV.
    edge : str
        "Ni_L3", "Co_L3", "Mn_L3" (each for L3 and L2) or "O_K".
    grid : EnergyGrid or dict
        Energies and time at each point; by default the preset of the edge.
    regions : dict or list of dict
        Each with centre_um [x, y], size_um [width, height], step_um, and a name where there are several.
    dwell_s : float, optional
        Time at each point in place of that of the grid; the preset takes 3 ms.
    line : LineDetector
        Counts along a line while the stage runs. Either this, or `counter` and `stage`.
    counter : PointDetector
        Counts where the stage stands.
    stage : Device
        With the axes x and y in um, for points.
    i0 : PointDetector
        A current before the sample, read with each line.
    zone_plate, aperture : Movable
        Distances from the sample in um.
    shutter : Shutter
        Opened for the scan if given.
    focus : dict
        energy_ev, zone_plate_um and aperture_um: where both have to be at which energy.
    clearance_um : float
        Least distance between sample, aperture and zone plate.
    order : str
        "image": all lines at one energy, then the next energy. "spectrum": all energies at one line, or point.
    snake : bool
        Whether every second line runs backward.
    dead_time_s, dark_hz, stray_share : float
        Of the counter: dead time of a count, counts per second without beam, share of the open beam that reaches it
        beside the sample.
    components : list
        Normalised spectra of known states: name, energy_ev, normalized_mu and valence of each.
    material : dict
        formula and density_g_cm3 of the sample, which make a thickness of the edge.
    open_beam : dict
        Counts per second without sample from a scan of its own: energy_ev and rate_hz.
    resumes : str
        Uid of the aborted run that this one goes on with; of one region.
    take : list
        Indices of the energies that run lacks, as `energies_lacking` of its result says.
    md : dict
        Metadata of every run, who and what among them as for `xanes_scan`.

    Returns
    -------
    list of str
        The uids of the runs, one per region.

    Raises
    ------
    PlanError
        Before anything moves, if the request makes no sense, the focus table ends or brings what it moves together, or
        a device would refuse a move.
    """
    chosen = soft_edge_named(edge)
    planned = _grid(grid, chosen, dwell_s)
    found = regions_from(regions)
    if order not in ("image", "spectrum"):
        raise PlanError(f'order must be "image" or "spectrum", not {order!r}.')
    if (line is None) == (counter is None):
        raise PlanError("A raster is counted along lines or at points: give either line or counter.")
    if counter is not None and not (hasattr(stage, "x") and hasattr(stage, "y")):
        raise PlanError("Points need the stage that goes to them: give stage, with the axes x and y.")
    if (resumes is None) != (take is None):
        raise PlanError("A resumed scan needs both the uid, resumes, and the energies to take, take.")
    if resumes is not None and (len(found) != 1 or order != "image"):
        raise PlanError("A scan is resumed region by region, and where it took images: give that one region.")
    channels = given_channels(line=line, counts=counter, i0=i0)
    aim = None if focus is None else Focus(zone_plate, aperture, focus, clearance_um)
    _check(energy, channels, shutter, planned, aim)
    run_md = {"plan_name": "stxm_scan", "scan_group": str(uuid.uuid4()), **(md or {})}
    entries = {
        "order": order,
        "snake": snake and line is not None,
        "dead_time_s": dead_time_s,
        "dark_hz": dark_hz,
        "stray_share": stray_share,
        "components": tuple(components or ()),
        "material": material,
        "open_beam": open_beam,
        "focus": None if aim is None else aim.table.model_dump(),
        "resumes": resumes,
        "take": {} if take is None else {"primary": tuple(take)},
    }
    runs = [
        _run(energy, channels, stage, shutter, chosen.name, planned, region, aim, entries, run_md)
        for region in found
    ]

    def all_regions() -> MsgGenerator[list[str]]:
        uids = []
        for run in runs:
            uids.append((yield from run()))
        return uids

    safe = restore_wrapper(energy, all_regions(), shutter)
    if aim is None:
        return (yield from safe)
    here = yield from aim.places()

    def refocus() -> MsgGenerator[None]:
        if here is not None:
            yield from aim.go(*here)

    uids: list[str] = yield from bpp.finalize_wrapper(safe, refocus)
    return uids


def _grid(grid: Any, edge: Any, dwell_s: Optional[float]) -> EnergyGrid:
    planned = checked_soft_grid(grid, edge)
    if dwell_s is None:
        dwell_s = 0.003 if grid is None else None
    if dwell_s is None:
        return planned
    if not dwell_s > 0:
        raise PlanError(f"dwell_s must be positive, not {dwell_s:g}.")
    return EnergyGrid(planned.energies_ev, tuple(dwell_s for _ in planned.energies_ev))


def _check(
    energy: Any, channels: dict[str, Any], shutter: Optional[Any], grid: EnergyGrid, aim: Optional[Focus]
) -> None:
    check_roles(
        (
            ("energy", energy, ("name", "read", "describe", "set", "hints")),
            *((role, device, ("name", "read", "describe")) for role, device in channels.items()),
            ("shutter", shutter, ("name", "set")),
        )
    )
    if "line" in channels:
        check_roles((("line", channels["line"], ("line", "exposure_s", "trigger")),))
    for energy_ev in sorted(set(grid.energies_ev)):
        check_value(energy, energy_ev)
    for device in channels.values():
        for dwell_s in sorted(set(grid.exposure_s)):
            if hasattr(device, "exposure_s"):
                check_value(device.exposure_s, dwell_s)
    if shutter is not None:
        for position in ("open", "closed"):
            check_value(shutter, position)
    if aim is not None:
        aim.check(sorted(set(grid.energies_ev)))


def _run(
    energy: Any,
    channels: dict[str, Any],
    stage: Optional[Any],
    shutter: Optional[Any],
    edge: str,
    grid: EnergyGrid,
    region: Region,
    aim: Optional[Focus],
    entries: dict[str, Any],
    md: dict[str, Any],
) -> Callable[[], MsgGenerator[str]]:
    """Check a region and return the run that takes it."""
    by_lines = "line" in channels
    if by_lines:
        for y_um in (region.rows_um[0], region.rows_um[-1]):
            check_value(channels["line"].line, _line(region, y_um))
    else:
        assert stage is not None
        for axis, places in ((stage.x, region.columns_um), (stage.y, region.rows_um)):
            for place in (places[0], places[-1]):
                check_value(axis, place)
    axes = {"row": region.rows_um} | ({} if by_lines else {"column": region.columns_um})
    try:
        contract = make_contract(
            StxmContract,
            edge=edge,
            **grid.to_dict(),
            channels={role: device.name for role, device in channels.items()},
            devices={"energy": energy.name, **{role: device.name for role, device in channels.items()}},
            axes=axes,
            columns_um=region.columns_um,
            pixel_size_nm=1e3 * region.step_um,
            region=region.name,
            **entries,
            **check_provenance(md),
        )
    except ContractError as error:
        raise PlanError(f"The scan cannot be described: {error}.") from error
    start = {
        "detectors": [device.name for device in channels.values()],
        "motors": [energy.name],
        "num_points": contract.readings_expected,
        "hints": {},
        **md,
        CONTRACT_KEY: contract.to_dict(),
    }
    detectors = list(channels.values())
    timed = [device.exposure_s for device in detectors if hasattr(device, "exposure_s")]
    label = FrameLabel()

    def go(index: int) -> MsgGenerator[None]:
        dwell_s = grid.exposure_s[index]
        yield from bps.checkpoint()
        yield from bps.mv(
            energy, grid.energies_ev[index], *(item for axis in timed for item in (axis, dwell_s))
        )
        if aim is not None:
            yield from aim.move(grid.energies_ev[index])

    def reading(index: int, row: int, column: Optional[int]) -> MsgGenerator[None]:
        places = (("row", row),) if column is None else (("column", column), ("row", row))
        shot = Shot("primary", index, grid.energies_ev[index], grid.exposure_s[index], 0, places)
        yield from bps.checkpoint()
        if column is None:
            backward = contract.snake and row % 2 == 1
            yield from bps.mv(channels["line"].line, _line(region, region.rows_um[row], backward=backward))
        else:
            assert stage is not None
            yield from bps.mv(stage.x, region.columns_um[column], stage.y, region.rows_um[row])
        if shutter is not None:
            yield from bps.mv(shutter, "open")
        yield from read_point(energy, detectors, label, shot)

    @bpp.stage_decorator(detectors)
    @bpp.run_decorator(md=start)
    def inside() -> MsgGenerator[None]:
        last = -1
        for index, row, column in _visits(contract):
            if index != last:
                yield from go(index)
                last = index
            yield from reading(index, row, column)
        yield from bps.checkpoint()

    run: Callable[[], MsgGenerator[str]] = inside
    return run


def _visits(contract: StxmContract) -> Iterator[tuple[int, int, Optional[int]]]:
    """Return energy, row and column of each reading, in order; no column for whole lines."""
    columns: Any = range(len(contract.axes["column"])) if "column" in contract.axes else (None,)
    places = [(row, column) for row in range(len(contract.rows_um)) for column in columns]
    if contract.order == "image":
        for index in contract.taken_indices:
            for row, column in places:
                yield index, row, column
    else:
        for row, column in places:
            for index in contract.taken_indices:
                yield index, row, column


def _line(region: Region, y_um: float, *, backward: bool = False) -> CountedLine:
    first, last = region.columns_um[0], region.columns_um[-1]
    if backward:
        first, last = last, first
    return CountedLine(y_um, first, last, len(region.columns_um))
