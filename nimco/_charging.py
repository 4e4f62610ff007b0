"""What `nimco series` does with the file of a battery cycler."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd
import xarray as xr
from rich.console import Console

from callbacks import (
    CellCapacity,
    ChargeCalibration,
    CyclerData,
    calibrate_by_charge,
    draw_charge,
    join_charge,
    read_cycler,
)
from nimco.errors import NimcoError


@dataclass(frozen=True)
class Charging:
    """The options that have to do with a cycler.

    Attributes
    ----------
    file : Path or None
        Its export.
    start : str or None
        When the test began, where the file does not say.
    offset_s, drift_s_per_h : float
        Of its clock.
    capacity_mah, capacity_sigma_mah, initial_soc, initial_soc_sigma
        What is known of the cell.
    plot : Path or None
        PNG of state of charge against charge.
    discharge_positive : bool
        Whether the file counts discharging positive.
    """

    file: Path | None
    start: str | None
    offset_s: float
    drift_s_per_h: float
    capacity_mah: float | None
    capacity_sigma_mah: float
    initial_soc: float
    initial_soc_sigma: float
    plot: Path | None
    discharge_positive: bool = False

    @property
    def cell(self) -> CellCapacity | None:
        """What is known of the cell; None without its capacity."""
        if self.capacity_mah is None:
            return None
        return CellCapacity(
            self.capacity_mah / 1e3, self.capacity_sigma_mah / 1e3, self.initial_soc, self.initial_soc_sigma
        )

    def read(self) -> CyclerData | None:
        """Return what the cycler recorded, on the clock of the beamline; None where no file is given.

        Raises
        ------
        NimcoError, ReadingError
            Options without a file, or a file that cannot be used.
        """
        if self.file is None:
            given = self.plot, self.capacity_mah, self.start, self.discharge_positive or None
            if any(one is not None for one in given):
                raise NimcoError(
                    "--cycler-start, --capacity-mah, --discharge-positive and --charge-plot need a file of a cycler "
                    "(--cycler)."
                )
            return None
        start_s = None
        if self.start is not None:
            try:
                start_s = datetime.fromisoformat(self.start).timestamp()
            except ValueError:
                raise NimcoError(
                    f"--cycler-start is a date and time such as 2026-11-28T10:00:00, not '{self.start}'."
                ) from None
        return read_cycler(self.file, discharge_positive=self.discharge_positive).on_clock(
            start_s=start_s, offset_s=self.offset_s, drift_s_per_h=self.drift_s_per_h
        )


def join_and_say(
    one: xr.Dataset, cycler: CyclerData, charging: Charging, console: Console, plot: Path | None
) -> tuple[pd.DataFrame, ChargeCalibration | None]:
    """Join a series with what the cycler recorded, calibrate it where the cell is known, say and draw it."""
    joined = join_charge(one, cycler)
    charge = ", ".join(f"{1e3 * value:.3f}" for value in joined["charge_ah"])
    console.print(f"charge passed (mAh, {cycler.charge_from}): {charge}", highlight=False)
    if cycler.falls_while_charged:
        console.print(
            f"The voltage in {cycler.source} falls as the cell is charged: where it counts discharging positive, "
            "say so (--discharge-positive).",
            highlight=False,
        )
    cell, calibration = charging.cell, None
    if cell is not None:
        calibration = calibrate_by_charge(one, joined, cell)
        scale = (
            ""
            if calibration.scale != calibration.scale
            else f", slope {calibration.scale:.3f} ± {calibration.scale_sigma:.3f}"
        )
        console.print(
            f"coulomb count less maps: {calibration.offset:+.3f} ± {calibration.offset_sigma:.3f} from "
            f"{calibration.n_maps} maps{scale if calibration.scale == calibration.scale else ''}",
            highlight=False,
        )
        for warning in calibration.warnings:
            console.print(warning, highlight=False)
    if plot is not None:
        draw_charge(one, joined, cycler, plot, cell=cell, calibration=calibration)
    return joined, calibration
