"""What the live analysis tells its subscribers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks.documents import read_only
from edge_fitting import EdgeMaps, OffsetChoice, ReferenceSeries

from ._common_grid import GridPlace


@dataclass(frozen=True)
class FrameSummary:
    """One line of the table of frames of a run.

    Attributes
    ----------
    energy_index, repeat, attempt, seq_num : int
        Which frame it was.
    energy_ev, exposure_s, i0 : float
        Readback, exposure and incident intensity.
    mean_od : float
        Mean optical depth over the sampled pixels.
    bad_pixels : int
        Pixels of the sample of pixels without a finite optical depth.
    time_s : float
        When the event was recorded (seconds since the epoch).
    magnification, rotation_deg : float
        By how much it was larger and turned, as that was taken out; NaN where it was not looked for.
    shift_px, shift_sigma_px : tuple of float
        Displacement of the sample that was taken out (rows, columns; positive down and right), and its standard
        deviations; NaN where the frame is as it came.
    chi2, residual_od : float
        Its reduced chi2, and its optical depth beyond the fit (mean over pixels with an edge); NaN where that cannot be
        told yet.
    """

    energy_index: int
    repeat: int
    attempt: int
    seq_num: int
    energy_ev: float
    exposure_s: float
    i0: float
    mean_od: float
    bad_pixels: int
    time_s: float
    shift_px: tuple[float, float] = (math.nan, math.nan)
    shift_sigma_px: tuple[float, float] = (math.nan, math.nan)
    magnification: float = math.nan
    rotation_deg: float = math.nan
    chi2: float = math.nan
    residual_od: float = math.nan

    @property
    def shift_row_px(self) -> float:
        """Displacement along the rows."""
        return self.shift_px[0]

    @property
    def shift_column_px(self) -> float:
        """Displacement along the columns."""
        return self.shift_px[1]


@dataclass(frozen=True)
class SOCUpdate:
    """The state of the analysis of one run; read-only, since all subscribers get the same one.

    Attributes
    ----------
    raw_uid, scan_group, edge : str
        The run, the measurement it belongs to, its edge.
    raw_uids : tuple of str
        The runs whose frames are in the maps: this one, after those that were interrupted and that it resumes.
    maps : EdgeMaps
        Maps of all frames so far.
    frames_done, frames_expected : int
        Sample frames in the maps, and in the whole run.
    final : bool
        Whether the run is over.
    exit_status : str or None
        How the run ended; None while it goes on.
    xanes, start : mapping
        The contract and the whole start document.
    references : ReferenceSeries or None
        Reference spectra of the fit.
    mean_energy_ev, mean_od : ndarray, (n,)
        Mean spectrum over the fitted pixels (over all before there are any), by rising energy.
    history : ndarray, (m, 2)
        Frames done, and median sigma of the state of charge then (of the edge energy in eV where there is
        no SOC).
    frames : tuple of FrameSummary
        Table of the frames in the maps, in the order they came.
    warnings : tuple of str
        What a reader of the maps should know.
    time_s : float
        When the last frame of the maps was recorded (seconds since the epoch).
    axis_offset : {"report", "fit"} or float
        What was done about an offset between the axes of scan and references.
    grid : GridPlace or None
        Where the maps lie on the grid of the first run of the measurement, once the run is over.
    """

    raw_uid: str
    scan_group: str
    edge: str
    raw_uids: tuple[str, ...]
    maps: EdgeMaps
    frames_done: int
    frames_expected: int
    final: bool
    exit_status: str | None
    xanes: Mapping[str, Any] = field(repr=False)
    start: Mapping[str, Any] = field(repr=False)
    references: ReferenceSeries | None = field(repr=False)
    mean_energy_ev: npt.NDArray[np.float64] = field(repr=False)
    mean_od: npt.NDArray[np.float64] = field(repr=False)
    history: npt.NDArray[np.float64] = field(repr=False)
    frames: tuple[FrameSummary, ...] = field(repr=False)
    warnings: tuple[str, ...]
    time_s: float
    axis_offset: OffsetChoice = "report"
    grid: GridPlace | None = None

    def __post_init__(self) -> None:
        for name in ("maps", "xanes", "start", "mean_energy_ev", "mean_od", "history"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    @property
    def complete(self) -> bool:
        """Whether every planned frame is in the maps."""
        return self.frames_done >= self.frames_expected
