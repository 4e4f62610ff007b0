"""A coarse map, and a fine one of what it finds."""

import uuid
from typing import Any, Optional, Union

import numpy as np
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from beamline_plans.errors import PlanError

from ._request import RasterDevices, positions
from ._xrf import raster_request, raster_run

__all__ = ["xrf_coarse_fine"]

# Between the background and the brightest points.
_THRESHOLD = 0.3


def xrf_coarse_fine(
    mca: Readable,
    energy: Movable,
    row_axis: Movable,
    column_axis: Movable,
    *,
    rows_um: Union[list[float], dict],
    columns_um: Union[list[float], dict],
    fine_step_um: float,
    exposure_s: float,
    fine_exposure_s: float,
    elements: Union[list[str], tuple[str, ...]],
    calibration: list,
    margin_um: float = 0.5,
    energies_ev: Optional[list[float]] = None,
    edge: str = "Ni_K",
    fly: bool = False,
    i0: Optional[Readable] = None,
    shutter: Optional[Movable] = None,
    angle_deg: float = 90.0,
    focus_um: Optional[float] = None,
    standard: Optional[dict] = None,
    references: Optional[dict] = None,
    md: Optional[dict] = None,
) -> MsgGenerator[list[str]]:
    """Take a coarse map, and a fine one of the rectangle in which it finds something.

    Parameters
    ----------
    mca, energy, row_axis, column_axis, rows_um, columns_um, exposure_s, elements, calibration, energies_ev, edge, fly
        As for `xrf_map`; the rows, columns and exposure are those of the coarse map, which is taken at the last energy.
    fine_step_um : float
        Step of the fine map.
    fine_exposure_s : float
        Time of a point of the fine map.
    margin_um : float
        How far the fine map goes beyond what was found.
    i0, shutter, angle_deg, focus_um, standard, references, md
        As for `xrf_map`.

    Returns
    -------
    list of str
        The uids of both runs; of one where the coarse map finds nothing.

    Raises
    ------
    PlanError
        As for `xrf_map`.
    """
    if not (fine_step_um > 0 and fine_exposure_s > 0 and margin_um >= 0):
        raise PlanError("fine_step_um and fine_exposure_s must be above 0, and margin_um not below it.")
    devices = RasterDevices(mca, energy, row_axis, column_axis, i0, shutter)
    entries = {
        "elements": tuple(elements) if isinstance(elements, (list, tuple)) else elements,
        "calibration": calibration,
        "angle_deg": angle_deg,
        "focus_um": focus_um,
        "standard": standard,
    }
    last = None if energies_ev is None else list(energies_ev[-1:])
    coarse = yield from raster_request(devices, rows_um, columns_um, exposure_s, last, edge, fly, entries)
    bright = np.zeros((len(coarse.rows_um), len(coarse.columns_um)))

    def listen(_index: int, row: int, column: int, reading: Any) -> None:
        counts = np.asarray(reading[mca.name]["value"], float)
        if column < 0:
            bright[row] = counts.sum(axis=tuple(range(1, counts.ndim)))
        else:
            bright[row, column] = counts.sum()

    group = {"scan_group": str(uuid.uuid4()), **(md or {})}
    run_md = {"plan_name": "xrf_coarse_fine", **group, "part": "coarse"}
    uids = [(yield from raster_run(devices, coarse, run_md, listener=listen))]
    box = found_box(bright, coarse.rows_um, coarse.columns_um)
    if box is None:
        return uids
    rows, columns = (
        {"start": low - margin_um, "stop": high + margin_um, "step": fine_step_um} for low, high in box
    )
    limits = (coarse.rows_um, coarse.columns_um)
    places = [
        [place for place in positions(one, "the fine map") if min(whole) <= place <= max(whole)]
        for one, whole in zip((rows, columns), limits, strict=True)
    ]
    fine = yield from raster_request(
        devices, places[0], places[1], fine_exposure_s, energies_ev or list(coarse.energies_ev), edge, fly,
        {**entries, "references": references},
    )  # fmt: skip
    uids.append(
        (yield from raster_run(devices, fine, {"plan_name": "xrf_coarse_fine", **group, "part": "fine"}))
    )
    return uids


def found_box(
    bright: Any, rows_um: tuple[float, ...], columns_um: tuple[float, ...]
) -> Optional[list[tuple[float, float]]]:
    """Return the rows and columns around those that stand out, first and last; None where nothing does."""
    low, high = float(np.median(bright)), float(bright.max())
    background = float(np.percentile(bright, 10))
    if high < background + 6.0 * np.sqrt(max(background, 1.0)):
        return None
    there = bright > background + _THRESHOLD * (high - min(background, low))
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    # What is there may reach up to the next coarse point.
    return [
        (places[max(int(at[0]) - 1, 0)], places[min(int(at[-1]) + 1, len(places) - 1)])
        for places, at in ((rows_um, rows), (columns_um, columns))
    ]
