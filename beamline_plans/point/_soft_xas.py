"""Spectra of soft edges with yields of different depth."""

import uuid
from collections.abc import Mapping
from typing import Any, Optional, Union

from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_plans.errors import PlanError
from beamline_plans.grids import EnergyGrid, soft_edge_named, soft_grid
from beamline_plans.running import restore_wrapper
from edge_fitting import SoftEdge
from scan_contract import SoftContract

from ._xas import checked_run, given_channels

__all__ = ["checked_soft_grid", "soft_xas_scan"]


def soft_xas_scan(
    energy: Movable,
    *,
    edges: Union[list[str], tuple[str, ...]] = ("Ni_L3",),
    grids: Optional[dict] = None,
    i0: Optional[Readable] = None,
    tey: Optional[Readable] = None,
    fy: Optional[Readable] = None,
    iref: Optional[Readable] = None,
    shutter: Optional[Movable] = None,
    repeats: int = 1,
    sweeps: int = 1,
    n_darks: int = 0,
    components: Optional[dict] = None,
    lines: Optional[dict] = None,
    stored_axis: Optional[dict] = None,
    mesh: Optional[dict] = None,
    bulk: Optional[dict] = None,
    saturation: Optional[dict] = None,
    depths_nm: Optional[dict] = None,
    md: Optional[dict] = None,
) -> MsgGenerator[list[str]]:
    """Take spectra of soft edges, each with electron yield, fluorescence yield and incident intensity at once.

    One run for each edge, tied by one `scan_group`. Everything is checked for all edges before anything moves. However
    the scan ends, the shutter is closed and the energy restored.

    Parameters
    ----------
    energy : EnergyAxis
        Photon energy in eV, which the undulator follows.
    edges : list of str
        The edges in the order they are measured: "Ni_L3", "Co_L3", "Mn_L3" (each for L3 and L2), "O_K".
    grids : dict
        Grid per edge: an EnergyGrid or its dictionary; an edge without one gets its preset.
    i0 : PointDetector
        Incident intensity: the drain current of a gold mesh.
    tey, fy : PointDetector
        Drain current of the sample, and fluorescence yield; at least one.
    iref : PointDetector
        Drain current of a reference sample before the station, for the energy axis.
    shutter : Shutter
        Opened for the scan if given.
    repeats : int
        Readings per energy in each sweep.
    sweeps : int
        How often the whole grid of an edge is gone through.
    n_darks : int
        Readings with the shutter closed before the first sweep of each edge, which give the offsets.
    components : dict
        Per edge a list of normalised spectra of known states: name, energy_ev, normalized_mu and valence of each.
    lines : dict
        Per edge the line of the reference: energy_ev, sigma_ev and name.
    stored_axis : dict
        Offset of the axis that was measured before: offset_ev, sigma_ev and source.
    mesh : dict
        What the mesh shows per photon: energy_ev and normalized_mu.
    bulk : dict
        Per edge the valence of the bulk, from hard XAS: valence, sigma and source.
    saturation : dict
        Absorption of the edge step over the depth of "tey" and "fy", where it is known.
    depths_nm : dict
        Depth of "tey" and "fy", where it is known.
    md : dict
        Metadata of every run, who and what among them as for `xanes_scan`.

    Returns
    -------
    list of str
        The uids of the runs, one per edge.

    Raises
    ------
    PlanError
        Before anything moves, if the request makes no sense or the energy axis would refuse a move.
    """
    found = _edges(edges)
    if len({edge.name for edge in found}) != len(found):
        raise PlanError(f"An edge is named twice in {', '.join(edges)}: name each once.")
    if tey is None and fy is None:
        raise PlanError("There is no yield to measure; give tey, fy or both.")
    if lines and iref is None:
        raise PlanError("A line of a reference needs its signal: give iref, or no lines.")
    per_edge = {
        "components": _by_edge(components, "components"),
        "line": _by_edge(lines, "lines"),
        "bulk": _by_edge(bulk, "bulk"),
    }
    given = _by_edge(grids, "grids")
    channels = given_channels(i0=i0, tey=tey, fy=fy, iref=iref)
    run_md = {
        "plan_name": "soft_xas_scan",
        "scan_group": str(uuid.uuid4()),
        "edges": [edge.name for edge in found],
        **(md or {}),
    }
    runs = [
        checked_run(
            energy,
            channels,
            edge.name,
            checked_soft_grid(given.get(edge.name), edge),
            repeats,
            shutter,
            run_md,
            model=SoftContract,
            sweeps=sweeps,
            entries={
                "n_darks": n_darks,
                "stored_axis": stored_axis,
                "mesh": mesh,
                "saturation": saturation,
                "depths_nm": depths_nm,
                **{key: values.get(edge.name) for key, values in per_edge.items()},
            },
        )
        for edge in found
    ]

    def all_edges() -> MsgGenerator[list[str]]:
        uids = []
        for run in runs:
            uids.append((yield from run()))
        return uids

    uids: list[str] = yield from restore_wrapper(energy, all_edges(), shutter)
    return uids


def _edges(edges: Any) -> list[SoftEdge]:
    if not isinstance(edges, (list, tuple)) or not edges:
        raise PlanError('edges must be a list of soft edges, such as ["Ni_L3", "O_K"].')
    return [soft_edge_named(name) for name in edges]


def _by_edge(given: Optional[dict], what: str) -> dict[str, Any]:
    """Return what was given per edge by the names of the edges."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise PlanError(f"{what} must name an edge for each entry, not be a {type(given).__name__}.")
    return {soft_edge_named(name).name: value for name, value in given.items()}


def checked_soft_grid(grid: Any, edge: SoftEdge) -> EnergyGrid:
    """Return the grid of an edge, the preset by default, with its energies checked.

    Raises
    ------
    PlanError
        It is no grid, or one of another edge.
    """
    if grid is None:
        return soft_grid(edge)
    if isinstance(grid, Mapping):
        grid = EnergyGrid.from_dict(dict(grid))
    if not isinstance(grid, EnergyGrid):
        raise PlanError(f"The grid of {edge.name} must be an EnergyGrid or its dictionary, not {grid!r}.")
    low, high = edge.reaches_ev
    for energy_ev in grid.energies_ev:
        if not low <= energy_ev <= high:
            raise PlanError(
                f"The energy {energy_ev:g} eV is out of range for {edge.name} ({low:g}-{high:g} eV); give energies "
                "around the edge."
            )
    return grid
