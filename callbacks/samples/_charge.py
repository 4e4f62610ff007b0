"""State of charge of maps against the charge that has passed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from callbacks.errors import ReadingError
from callbacks.publish import replacing

from ._comparison_picture import LABELS
from ._cycler import CyclerData
from ._cycler_times import utc_text
from ._series_picture import time_unit

Array = npt.NDArray[np.float64]
_LARGEST_PULL = 3.0


@dataclass(frozen=True)
class CellCapacity:
    """What is known of the cell.

    Attributes
    ----------
    capacity_ah : float
        Charge that takes it from a state of charge of 0 to 1.
    capacity_sigma_ah : float
        Its standard deviation.
    initial_soc, initial_soc_sigma : float
        State of charge at the first line of the cycler's file, and its standard deviation.
    """

    capacity_ah: float
    capacity_sigma_ah: float = 0.0
    initial_soc: float = 0.0
    initial_soc_sigma: float = 0.0

    def __post_init__(self) -> None:
        if not (self.capacity_ah > 0 and np.isfinite(self.capacity_ah)):
            raise ReadingError(f"a capacity is a positive number of Ah, not {self.capacity_ah:g}")
        if not min(self.capacity_sigma_ah, self.initial_soc_sigma) >= 0:
            raise ReadingError("standard deviations of capacity and initial state of charge are not negative")
        if not -0.5 <= self.initial_soc <= 1.5:
            raise ReadingError(f"an initial state of charge is between 0 and 1, not {self.initial_soc:g}")

    def soc(self, charge_ah: Array) -> Array:
        """Return the state of charge after a charge has passed."""
        return self.initial_soc + charge_ah / self.capacity_ah


@dataclass(frozen=True)
class ChargeCalibration:
    """How the axis of the maps' state of charge lies to the coulomb count of the cell.

    Attributes
    ----------
    offset, offset_sigma : float
        What to add to the maps, and its standard deviation: noise of the maps, how much particles differ over the
        square root of their number (a field is a sample of the cell), initial state of charge and capacity.
    scale, scale_sigma : float
        Slope of the maps' means against the coulomb count, 1 where both have one scale; NaN for fewer than two states.
    n_maps : int
        Maps that it is from.
    warnings : tuple of str
        What speaks against it, in words.
    """

    offset: float
    offset_sigma: float
    scale: float
    scale_sigma: float
    n_maps: int
    warnings: tuple[str, ...] = ()


def join_charge(series: xr.Dataset, cycler: CyclerData) -> pd.DataFrame:
    """Return what the cycler recorded in the middle of each map of a series.

    Parameters
    ----------
    series : xarray.Dataset
        Of `follow_series`.
    cycler : CyclerData
        On the clock of the beamline, see `CyclerData.on_clock`.

    Returns
    -------
    pandas.DataFrame
        One line a map: ``time_s``, ``charge_ah``, ``charge_change_ah`` (by how much it changed while the map was
        taken), ``voltage_v``, ``current_a``; NaN for maps outside of the file.

    Raises
    ------
    ReadingError
        No map lies in the time of the file, or its times are not absolute.
    """
    if not cycler.is_absolute:
        raise ReadingError(f"it is not known when {cycler.source} was recorded; see on_clock")
    time_s = series["step_time_s"].values
    half = 0.5 * np.nan_to_num(series["step_duration_s"].values)
    first, last = cycler.time_s[0], cycler.time_s[-1]
    inside = (time_s >= first) & (time_s <= last)
    if not inside.any():
        raise ReadingError(
            f"{cycler.source} covers {utc_text(first)} to {utc_text(last)} and the maps were taken from "
            f"{utc_text(float(np.nanmin(time_s)))} to {utc_text(float(np.nanmax(time_s)))}: they do not overlap; give "
            "the offset of the clocks (--clock-offset), or the file of this cell"
        )

    def at(values: Array, when: Array) -> Array:
        return np.where(inside, np.interp(when, cycler.time_s, values), np.nan)

    return pd.DataFrame(
        {
            "time_s": time_s,
            "charge_ah": at(cycler.charge_ah, time_s),
            "charge_change_ah": at(cycler.charge_ah, time_s + half) - at(cycler.charge_ah, time_s - half),
            "voltage_v": at(cycler.voltage_v, time_s),
            "current_a": at(cycler.current_a, time_s),
        }
    )


def calibrate_by_charge(series: xr.Dataset, joined: pd.DataFrame, cell: CellCapacity) -> ChargeCalibration:
    """Put the state of charge of the maps on the axis of the coulomb count.

    Parameters
    ----------
    series : xarray.Dataset
        Of `follow_series`, with a state of charge.
    joined : DataFrame
        Of `join_charge`.
    cell : CellCapacity
        What is known of the cell.

    Returns
    -------
    ChargeCalibration

    Raises
    ------
    ReadingError
        The series has no state of charge, or no map with a charge.

    Notes
    -----
    The mean of a map stands for the cell. An offset of the energy axis moves all maps alike, whatever the number of
    frames; the coulomb count does not know it.
    """
    if series.attrs.get("signal") != "soc":
        raise ReadingError("a series without state of charge is not calibrated by charge: give references")
    mean, noise = series["step_mean"].values, series["step_mean_sigma"].values
    counted = cell.soc(joined["charge_ah"].to_numpy(float))
    # The charge is even over a map that was taken while it changed: the middle is known no better than that.
    moving = np.abs(joined["charge_change_ah"].to_numpy(float)) / cell.capacity_ah / np.sqrt(12.0)
    used = np.isfinite(mean) & np.isfinite(counted)
    if not used.any():
        raise ReadingError("no map of the series has both a state of charge and a charge that has passed")
    sigma = np.sqrt(noise**2 + np.nan_to_num(moving) ** 2)[used]
    difference = (counted - mean)[used]
    weight = 1.0 / np.maximum(sigma, 1e-6) ** 2
    offset = float(np.sum(weight * difference) / weight.sum())
    scatter = float(np.std(difference, ddof=1) / np.sqrt(used.sum())) if used.sum() > 1 else 0.0
    by_noise = max(float(np.sqrt(1.0 / weight.sum())), scatter)
    passed = float(np.sum(weight * joined["charge_ah"].to_numpy(float)[used]) / weight.sum())
    by_capacity = abs(passed) / cell.capacity_ah**2 * cell.capacity_sigma_ah
    parts = by_noise, _of_sample(series), cell.initial_soc_sigma, by_capacity
    scale, scale_sigma = _slope(counted[used], mean[used], sigma, cell.capacity_sigma_ah / cell.capacity_ah)
    warnings = []
    if scale_sigma == scale_sigma and abs(scale - 1.0) > _LARGEST_PULL * scale_sigma:
        warnings.append(
            f"The maps change by {scale:.2f} ± {scale_sigma:.2f} of what the charge says: capacity, clock, references "
            "or the field (does it take part?) are not as assumed; an offset does not mend that."
        )
        if scale < 0:
            warnings[-1] += " They change the other way: does the cycler count discharging positive?"
    if (n_outside := int((~np.isfinite(joined["charge_ah"])).sum())) > 0:
        warnings.append(f"{n_outside} of {len(joined)} maps lie outside of the time of the cycler's file.")
    return ChargeCalibration(
        offset,
        float(np.sqrt(sum(part**2 for part in parts))),
        scale,
        scale_sigma,
        int(used.sum()),
        tuple(warnings),
    )


def _of_sample(series: xr.Dataset) -> float:
    """Return by how much the mean of a field differs from that of the cell, as its particles do."""
    values = series["track_value"].values[series["track_region"].values < 0]
    steps = series["track_step"].values[series["track_region"].values < 0]
    spreads = [
        np.std(held, ddof=1) / np.sqrt(held.size)
        for step in np.unique(steps)
        if (held := values[(steps == step) & np.isfinite(values)]).size > 1
    ]
    return float(np.median(spreads)) if spreads else 0.0


def _slope(counted: Array, mean: Array, sigma: Array, capacity_share: float) -> tuple[float, float]:
    weight = 1.0 / np.maximum(sigma, 1e-6) ** 2
    middle = np.sum(weight * counted) / weight.sum()
    spread = float(np.sum(weight * (counted - middle) ** 2))
    if counted.size < 2 or not np.ptp(counted) > 0.01:
        return float("nan"), float("nan")
    slope = float(np.sum(weight * (counted - middle) * mean) / spread)
    rest = mean - np.sum(weight * mean) / weight.sum() - slope * (counted - middle)
    misfit = float(np.sum(weight * rest**2)) / (counted.size - 2) if counted.size > 2 else 1.0
    return slope, float(np.hypot(np.sqrt(max(misfit, 1.0) / spread), slope * capacity_share))


def draw_charge(
    series: xr.Dataset,
    joined: pd.DataFrame,
    cycler: CyclerData,
    path: Path | str,
    *,
    cell: CellCapacity | None = None,
    calibration: ChargeCalibration | None = None,
) -> Path:
    """Draw the state of charge of map and particles against the charge passed, and what the cycler recorded.

    Raises
    ------
    ExportError
        It cannot be written.
    """
    figure = Figure(figsize=(9.5, 4.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    charge = 1e3 * joined["charge_ah"].to_numpy(float)
    particle, step = series["track_particle"].values, series["track_step"].values
    for label in np.unique(particle[particle > 0]):
        own = particle == label
        left.plot(charge[step[own]], series["track_value"].values[own], color="0.8", lw=0.7)
    mean = series["step_mean"].values
    error = np.hypot(series["step_mean_sigma"].values, np.nan_to_num(series["step_systematic"].values))
    left.errorbar(
        charge, mean, error, fmt="ko-", ms=4, capsize=2, label="mean of the map, with what is systematic"
    )
    if cell is not None:
        line = np.array([np.nanmin(charge), np.nanmax(charge)])
        left.plot(line, cell.soc(line / 1e3), "C3--", label="coulomb count")
    if calibration is not None:
        said = f"calibrated: {calibration.offset:+.3f} ± {calibration.offset_sigma:.3f}"
        left.errorbar(
            charge, mean + calibration.offset, calibration.offset_sigma, fmt="C0s", ms=4, label=said
        )
    left.set(xlabel="charge passed (mAh)", ylabel=LABELS[str(series.attrs["signal"])])
    left.legend(fontsize=7, frameon=False)
    unit, unit_s = time_unit(float(np.ptp(cycler.time_s)))
    passed = (cycler.time_s - cycler.time_s[0]) / unit_s
    right.plot(passed, cycler.voltage_v, "C0")
    right.set(xlabel=f"time on the cycler ({unit})", ylabel="voltage (V)")
    current = right.twinx()
    current.plot(passed, 1e3 * cycler.current_a, "C1", lw=0.8)
    current.set_ylabel("current (mA)", color="C1")
    half = 0.5 * np.nan_to_num(series["step_duration_s"].values)
    for middle, reach in zip(series["step_time_s"].values, half, strict=True):
        ends = (np.array([middle - reach, middle + reach]) - cycler.time_s[0]) / unit_s
        right.axvspan(ends[0], max(ends[1], ends[0] + 1e-3 * (passed[-1] or 1.0)), color="0.85", zorder=0)
    right.set_title("grey: maps", loc="left", fontsize=8)
    return replacing(Path(path), lambda unfinished: figure.savefig(unfinished, format="png"))
