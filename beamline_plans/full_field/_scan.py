"""Scans of one edge and of several edges as one measurement."""

import uuid
from typing import Any, Literal, Optional, Union

from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_plans.running import Instrument, one_run, requests_for_edges, safe_state_wrapper

__all__ = ["multi_edge_xanes", "xanes_scan"]


def xanes_scan(
    camera: Readable,
    energy: Movable,
    shutter: Movable,
    stage: Movable,
    *,
    edge: str,
    grid: Any = None,
    order: Optional[Literal["ascending", "descending", "interleaved", "informative"]] = None,
    i0: Optional[Readable] = None,
    flat_order: Literal["per_energy", "every_n", "after_all", "before_all", "none"] = "per_energy",
    flat_every: int = 10,
    n_flats: int = 1,
    n_darks: int = 5,
    repeats: int = 1,
    references: Optional[dict] = None,
    pixel_size_nm: Optional[float] = None,
    i0_min: Optional[float] = None,
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
    order : str
        Order of the energies: "ascending", "descending", "interleaved" (coarse to fine) or "informative" (those first
        that tell most about the state of charge, by `references`); by default that of the grid.
    i0 : PointDetector
        Incident intensity, read with each frame.
    flat_order : str
        "per_energy": flats beside each energy's frames. "every_n": the frames of `flat_every` energies, then
        the flats of the same energies. "after_all": flats when all frames are taken. "before_all": `n_flats` flats in
        all, at the first energy, before the frames. "none": images only.
    flat_every : int
        Energies between two series of flats with "every_n".
    n_flats : int
        Flats per energy, or in all with "before_all".
    n_darks : int
        Darks per distinct exposure.
    repeats : int
        Frames per energy.
    references : dict
        `ReferenceSeries.to_dict()`, for the live analysis.
    pixel_size_nm : float
        Pixel size at the sample in nm.
    i0_min : float
        A frame during which I0 was lower is marked and taken again, a few times at most.
    md : dict
        Metadata of the run. `sample`, `field_of_view` and `proposal`, each a dictionary or just a name, say who and
        what: see `scan_contract.Sample`, `FieldOfView` and `Proposal`.

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
    (request,) = requests_for_edges(
        instrument,
        [edge],
        grids={edge: grid},
        references=None if references is None else {edge: references},
        order=order,
        flat_order=flat_order,
        flat_every=flat_every,
        n_flats=n_flats,
        n_darks=n_darks,
        repeats=repeats,
        pixel_size_nm=pixel_size_nm,
        i0_min=i0_min,
        md=md,
    )
    run_md = {"plan_name": "xanes_scan", "scan_group": str(uuid.uuid4()), **(md or {})}
    return (yield from safe_state_wrapper(instrument, one_run(instrument, request, run_md)))


def multi_edge_xanes(
    camera: Readable,
    energy: Movable,
    shutter: Movable,
    stage: Movable,
    *,
    edges: Union[list[str], tuple[str, ...]] = ("Ni_K", "Mn_K", "Co_K"),
    grids: Optional[dict] = None,
    order: Optional[Literal["ascending", "descending", "interleaved", "informative"]] = None,
    i0: Optional[Readable] = None,
    flat_order: Literal["per_energy", "every_n", "after_all", "before_all", "none"] = "per_energy",
    flat_every: int = 10,
    n_flats: int = 1,
    n_darks: int = 5,
    repeats: int = 1,
    references: Optional[dict] = None,
    pixel_size_nm: Optional[float] = None,
    i0_min: Optional[float] = None,
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
    order, flat_order, flat_every, n_flats, n_darks, repeats, pixel_size_nm, i0_min
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
    requests = requests_for_edges(
        instrument,
        edges,
        grids=grids,
        references=references,
        filter_per_edge=filter_per_edge,
        order=order,
        flat_order=flat_order,
        flat_every=flat_every,
        n_flats=n_flats,
        n_darks=n_darks,
        repeats=repeats,
        pixel_size_nm=pixel_size_nm,
        i0_min=i0_min,
        md=md,
    )
    run_md = {
        "plan_name": "multi_edge_xanes",
        "scan_group": str(uuid.uuid4()),
        "edges": [request.edge for request in requests],
        **(md or {}),
    }

    def all_edges() -> MsgGenerator[list[str]]:
        uids = []
        for request in requests:
            uids.append((yield from one_run(instrument, request, run_md)))
        return uids

    return (yield from safe_state_wrapper(instrument, all_edges()))
