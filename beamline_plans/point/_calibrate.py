"""Putting the energy axis right with a metal foil."""

import math
import uuid
from typing import Any, Literal, Optional

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_plans.errors import PlanError
from beamline_plans.grids import EnergyGrid, EnergyRegion, edge_named
from beamline_plans.running import check_roles, first_value, grid_from
from edge_fitting import EdgeFittingError, calibrate_foil

from ._xas import point_scan

__all__ = ["calibrate_energy"]


def calibrate_energy(
    energy: Movable,
    i0: Readable,
    foil: Readable,
    offset: Movable,
    *,
    edge: str,
    grid: Any = None,
    exposure_s: float = 0.5,
    shutter: Optional[Movable] = None,
    write: Literal["ask", "yes", "no"] = "ask",
    max_shift_ev: float = 10.0,
    md: Optional[dict] = None,
) -> MsgGenerator[float]:
    """Scan a metal foil and correct the offset of the energy axis by its first inflection.

    The absorption is ``ln(i0 / foil)``. What was found is shown before anything is written.

    Parameters
    ----------
    energy : EnergyAxis
        Photon energy in eV.
    i0, foil : PointDetector
        Intensity before and behind the foil.
    offset : Movable
        What the energy axis adds to the monochromator's own energy, in eV (OFF of an EPICS motor): a foil
        found 1 eV too high lowers it by 1 eV.
    edge : str
        Edge of the foil's metal, for example "Ni_K".
    grid : EnergyGrid, dict, str or None
        By default 20 eV below to 40 eV above the edge, in steps of 0.25 eV within 8 eV of it and 1 eV
        elsewhere.
    exposure_s : float
        Exposure of the default grid in seconds.
    shutter : Shutter
        Opened for the scan if given.
    write : {"ask", "yes", "no"}
        "yes": write the offset. "no": leave it, only say what was found. "ask": ask at the terminal first.
    max_shift_ev : float
        A larger shift is refused: it is more likely the wrong foil than a lost axis.
    md : dict
        Metadata of the run.

    Returns
    -------
    float
        How many eV the foil was found above its convention; nan where nothing was measured, as in a dry run.

    Raises
    ------
    PlanError
        If the foil's inflection is not found or the shift is larger than `max_shift_ev`; nothing is written.
    """
    if write not in ("ask", "yes", "no"):
        raise PlanError(f"write must be ask, yes or no, not {write!r}.")
    if not max_shift_ev > 0:
        raise PlanError(f"max_shift_ev must be positive, not {max_shift_ev}.")
    around = edge_named(edge)
    if grid is None:
        e0 = around.foil_inflection_ev
        around_e0 = ((-20, -8, 1.0), (-8, 8, 0.25), (8, 40, 1.0))
        grid = EnergyGrid.from_regions(
            [EnergyRegion(e0 + a, e0 + b, step, exposure_s) for a, b, step in around_e0]
        )
    writing = ("name", "read") if write == "no" else ("name", "read", "set")
    check_roles(
        (
            ("energy", energy, ("name", "read", "describe", "set", "hints")),
            ("i0", i0, ("name", "read", "describe")),
            ("foil", foil, ("name", "read", "describe")),
            ("offset", offset, writing),
        )
    )
    before = first_value(offset, (yield from bps.read(offset)))
    if before is not None and not isinstance(before, (int, float, np.number)):
        raise PlanError(
            f"{getattr(offset, 'name', offset)!s} reads {before!r}; pass an offset in eV, a number."
        )
    measured: list[tuple[float, float]] = []

    def listen(energy_ev: float, values: dict[str, float]) -> None:
        measured.append((energy_ev, values["i0"] / values["iref"] if values["iref"] else math.nan))

    run_md = {"plan_name": "calibrate_energy", "scan_group": str(uuid.uuid4()), **(md or {})}
    channels = {"i0": i0, "iref": foil}
    yield from point_scan(energy, channels, edge, grid_from(grid, edge), 1, shutter, run_md, listen)
    if not measured:
        return math.nan
    energies, ratios = np.asarray(measured).T
    if not (np.isfinite(ratios) & (ratios > 0)).all():
        raise PlanError(f"{foil.name} or {i0.name} read zero or less; check the beam and the dark currents.")
    try:
        found = calibrate_foil(energies, np.log(ratios), edge=edge)
    except EdgeFittingError as error:
        raise PlanError(f"The foil scan gives no calibration: {str(error).rstrip('.')}.") from error
    shift = found.measured_ev - found.nominal_ev
    present = first_value(offset, (yield from bps.read(offset)))
    if present is None:
        raise PlanError(
            f"{getattr(offset, 'name', offset)!s} gave no reading, so the offset is left as it is."
        )
    wanted = present - shift
    steps_sigma_ev = math.sqrt(max(found.sigma_ev**2 - found.noise_sigma_ev**2, 0.0))
    report = (
        f"{around.name.replace('_', ' ')} foil: first inflection at {found.measured_ev:.3f} +- {found.sigma_ev:.3f} eV "
        f"({found.noise_sigma_ev:.3f} eV by noise, {steps_sigma_ev:.3f} eV by the steps of the scan); "
        f"convention {found.nominal_ev:.3f} eV ({found.definition}); "
        f"offset {present:.3f} -> {wanted:.3f} eV"
    )
    print(report)  # noqa: T201 - the person at the terminal decides on it
    if abs(shift) > max_shift_ev:
        raise PlanError(
            f"The foil is {shift:+.2f} eV off, more than {max_shift_ev:g} eV; check that it is a "
            f"{around.element} foil, or raise max_shift_ev."
        )
    if write == "ask":
        answer = yield from bps.input_plan("Write the new offset? [y/N] ")
        write = "yes" if str(answer or "").strip().lower() in ("y", "yes") else "no"
    if write == "yes":
        yield from bps.checkpoint()
        yield from bps.mv(offset, wanted)
    return shift
