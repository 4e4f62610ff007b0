"""Scans of one edge and of several edges as one measurement."""

import uuid
from typing import Any, Literal, Optional, Union

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from ._errors import PlanError
from ._frames import FrameTaker, left_safe
from ._instrument import Instrument
from ._request import ScanRequest, grid_from

__all__ = ["multi_edge_xanes", "xanes_scan"]


def xanes_scan(
    camera: Readable,
    energy: Movable,
    shutter: Movable,
    stage: Movable,
    *,
    edge: str,
    grid: Any = None,
    i0: Optional[Readable] = None,
    flat_order: Literal["per_energy", "every_n", "after_all", "none"] = "per_energy",
    flat_every: int = 10,
    n_flats: int = 1,
    n_darks: int = 5,
    repeats: int = 1,
    references: Optional[dict] = None,
    pixel_size_nm: Optional[float] = None,
    md: Optional[dict] = None,
) -> MsgGenerator[str]:
    """Take a full-field XANES stack across one edge.

    Darks come first, with the shutter closed. Then the energies are taken in the order of the grid, with
    flats as `flat_order` says. Each energy begins at a checkpoint. However the scan ends, the shutter is
    closed, the sample brought back in and the energy restored.

    Parameters
    ----------
    camera : FrameDetector
        Camera with a settable `exposure_s`.
    energy : EnergyAxis
        Photon energy in eV.
    shutter : Shutter
        Takes "open" and "closed".
    stage : SampleStage
        Takes "in" and "out".
    edge : str
        For example "Ni_K".
    grid : EnergyGrid, dict, str or None
        Energies and exposures, their dictionary form, the name of a preset, or None for the preset of the
        edge.
    i0 : PointDetector
        Incident intensity, read with each frame.
    flat_order : str
        "per_energy": flats beside each energy's frames. "every_n": the frames of `flat_every` energies, then
        the flats of the same energies. "after_all": flats when all frames are taken. "none": images only.
    flat_every : int
        Energies between two series of flats with "every_n".
    n_flats : int
        Flats per energy.
    n_darks : int
        Darks per distinct exposure.
    repeats : int
        Frames per energy.
    references : dict
        `ReferenceSeries.to_dict()`, for the live analysis.
    pixel_size_nm : float
        Pixel size at the sample in nm.
    md : dict
        Metadata of the run.

    Returns
    -------
    str
        The uid of the run.

    Raises
    ------
    PlanError
        Before anything moves, if the request makes no sense or a device would refuse a move.
    """
    instrument = Instrument(camera, energy, shutter, stage, i0)  # type: ignore[arg-type]
    request = ScanRequest(
        edge,
        grid_from(grid, edge),
        flat_order,
        flat_every,
        n_flats,
        n_darks,
        repeats,
        references,
        pixel_size_nm,
    )
    instrument.check(request.grid.energies_ev)
    run_md = {"plan_name": "xanes_scan", "scan_group": str(uuid.uuid4()), **(md or {})}
    return (yield from left_safe(instrument, one_run(instrument, request, run_md)))


def multi_edge_xanes(
    camera: Readable,
    energy: Movable,
    shutter: Movable,
    stage: Movable,
    *,
    edges: Union[list[str], tuple[str, ...]] = ("Ni_K", "Mn_K", "Co_K"),
    grids: Optional[dict] = None,
    i0: Optional[Readable] = None,
    flat_order: Literal["per_energy", "every_n", "after_all", "none"] = "per_energy",
    flat_every: int = 10,
    n_flats: int = 1,
    n_darks: int = 5,
    repeats: int = 1,
    references: Optional[dict] = None,
    pixel_size_nm: Optional[float] = None,
    filters: Optional[Movable] = None,
    filter_per_edge: Optional[dict] = None,
    md: Optional[dict] = None,
) -> MsgGenerator[list[str]]:
    """Take XANES stacks across several edges as one measurement, one run per edge.

    The runs are tied by one `scan_group`. Everything is checked for all edges before anything moves. See
    `xanes_scan` for the parameters not described here.

    Parameters
    ----------
    camera, energy, shutter, stage, i0
        The devices, as for `xanes_scan`.
    edges : list of str
        The edges in the order they are measured.
    grids : dict
        Grid per edge, in any form `xanes_scan` accepts; an edge without one gets its preset.
    flat_order, flat_every, n_flats, n_darks, repeats, pixel_size_nm
        As for `xanes_scan`, for every edge.
    references : dict
        `ReferenceSeries.to_dict()` per edge.
    filters : Movable
        Beam filters, moved before an edge that `filter_per_edge` names and restored at the end.
    filter_per_edge : dict
        Position of `filters` per edge.
    md : dict
        Metadata of every run.

    Returns
    -------
    list of str
        The uids of the runs, one per edge.

    Raises
    ------
    PlanError
        Before anything moves, if the request makes no sense or a device would refuse a move.
    """
    instrument = Instrument(camera, energy, shutter, stage, i0, filters)  # type: ignore[arg-type]
    if not edges:
        raise PlanError("There is no edge to measure; name at least one.")
    if len(set(edges)) != len(edges):
        raise PlanError(
            f"An edge is named twice in {', '.join(edges)}; use xanes_series to repeat a measurement."
        )
    positions = filter_per_edge or {}
    for what, given in (("grids", grids), ("references", references), ("filter_per_edge", positions)):
        unknown = sorted(set(given or {}) - set(edges))
        if unknown:
            raise PlanError(f"{what} names {unknown[0]!r}, which is not among the edges {', '.join(edges)}.")
    if positions and filters is None:
        raise PlanError("filter_per_edge is given but no filters; pass the device that moves them.")
    requests = [
        ScanRequest(
            edge,
            grid_from((grids or {}).get(edge), edge),
            flat_order,
            flat_every,
            n_flats,
            n_darks,
            repeats,
            (references or {}).get(edge),
            pixel_size_nm,
            positions.get(edge),
        )
        for edge in edges
    ]
    instrument.check((e for request in requests for e in request.grid.energies_ev), positions.values())
    run_md = {
        "plan_name": "multi_edge_xanes",
        "scan_group": str(uuid.uuid4()),
        "edges": list(edges),
        **(md or {}),
    }

    def all_edges() -> MsgGenerator[list[str]]:
        uids = []
        for request in requests:
            uids.append((yield from one_run(instrument, request, run_md)))
        return uids

    return (yield from left_safe(instrument, all_edges()))


def one_run(instrument: Instrument, request: ScanRequest, md: dict[str, Any]) -> MsgGenerator[str]:
    """Stage the detectors and take one edge as one run, leaving the instrument as it was last.

    Returns
    -------
    str
        The uid of the run.
    """
    start = {
        "detectors": [device.name for device in instrument.detectors],
        "motors": [instrument.energy.name],
        "num_points": request.n_events,
        "hints": {"dimensions": [([_energy_key(instrument)], "primary")]},
        **md,
        "xanes": request.metadata(instrument),
    }

    @bpp.stage_decorator(instrument.detectors)
    @bpp.run_decorator(md=start)
    def run() -> MsgGenerator[None]:
        if request.filter_position is not None:
            yield from bps.mv(instrument.filters, request.filter_position)
        yield from take_frames(FrameTaker(instrument), request)

    return (yield from run())


def take_frames(taker: FrameTaker, request: ScanRequest) -> MsgGenerator[None]:
    """Take the darks, flats and frames of one run in the order the request asks for."""
    grid = request.grid
    for exposure_s in dict.fromkeys(grid.exposure_s):
        yield from taker.visit("dark", -1, grid.energies_ev[0], exposure_s, request.n_darks)
    block = {"per_energy": 1, "every_n": request.flat_every}.get(request.flat_order, len(grid))
    visits = list(enumerate(grid))
    for first in range(0, len(visits), block):
        streams = [("primary", request.repeats), ("flat", request.n_flats)]
        if request.flat_order == "none":
            streams.pop()
        elif request.flat_order == "per_energy" and first % 2 == 0:
            # Alternating which comes first halves the number of times the sample travels.
            streams.reverse()
        for stream, n_frames in streams:
            for index, (energy_ev, exposure_s) in visits[first : first + block]:
                yield from taker.visit(stream, index, energy_ev, exposure_s, n_frames)
    yield from bps.checkpoint()


def _energy_key(instrument: Instrument) -> str:
    fields = instrument.energy.hints.get("fields")
    return fields[0] if fields else instrument.energy.name
