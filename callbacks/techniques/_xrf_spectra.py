"""The spectra of a raster so far, and what the fit makes of them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks.reduce import Reduced
from edge_fitting import CalibratedSpectrum, ComponentCounts, SpectrumProjection
from scan_contract import COLUMN_AXIS, ROW_AXIS

Array = npt.NDArray[np.float64]

MISSING, SATURATED = 1, 2
"""Status of points that have no value."""


@dataclass(eq=False)
class FittedRaster:
    """What the fit of all points at one energy gives.

    Attributes
    ----------
    found : CalibratedSpectrum
        Of the sum.
    projection : SpectrumProjection
        What was applied to each point.
    counts : ComponentCounts
        Of the points that have a value, in order.
    where : ndarray of bool, shape (rows, columns)
        Which those are.
    variance_factor, i0 : ndarray, shape (n,)
        Of them.
    """

    found: CalibratedSpectrum
    projection: SpectrumProjection
    counts: ComponentCounts
    where: npt.NDArray[np.bool_]
    variance_factor: Array
    i0: Array

    def on_map(self, values: Any) -> npt.NDArray[np.float32]:
        """Return values of the points as a map, NaN elsewhere."""
        out = np.full(self.where.shape, np.nan, np.float32)
        out[self.where] = values
        return out


@dataclass(eq=False)
class RasterSpectra:
    """Spectra of all points at one energy.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns.
    version : int
        Changes with what is held.
    """

    shape: tuple[int, int]
    version: int = 0
    _spectra: npt.NDArray[np.float32] | None = None
    _variance: Array = field(default_factory=lambda: np.empty(0))
    _i0: Array = field(default_factory=lambda: np.empty(0))
    _status: npt.NDArray[np.int16] = field(default_factory=lambda: np.empty(0, np.int16))

    def __post_init__(self) -> None:
        self._variance, self._i0 = np.ones(self.shape), np.ones(self.shape)
        self._status = np.full(self.shape, MISSING, np.int16)

    @property
    def status(self) -> npt.NDArray[np.int16]:
        """0 where there is a value, else why not."""
        return self._status

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Points with a value."""
        return np.asarray(self._status == 0, bool)

    @property
    def i0(self) -> Array:
        """Incident intensity of each point."""
        return np.where(self.usable, self._i0, np.nan)

    def put(self, reduced: Reduced) -> None:
        """Take a point or a line."""
        values, notes = np.asarray(reduced.values), reduced.notes
        if self._spectra is None:
            self._spectra = np.zeros((*self.shape, values.shape[1]), np.float32)
        place = self._place(reduced)
        self._spectra[place] = values
        self._variance[place] = notes["variance_factor"]
        self._i0[place] = notes["i0"]
        self._status[place] = np.where(notes["saturated"], SATURATED, 0)
        self.version += 1

    def take_out(self, reduced: Reduced) -> None:
        """Take a point or a line out again."""
        self._status[self._place(reduced)] = MISSING
        self.version += 1

    def fill_from(self, other: "RasterSpectra") -> None:
        """Take what another one has and this one lacks."""
        lacking = self.usable < other.usable
        if other._spectra is None or not lacking.any():
            return
        if self._spectra is None:
            self._spectra = np.zeros_like(other._spectra)
        for mine, theirs in (
            (self._spectra, other._spectra), (self._variance, other._variance), (self._i0, other._i0),
            (self._status, other._status),
        ):  # fmt: skip
            mine[lacking] = theirs[lacking]
        self.version += 1

    def total(self) -> Array | None:
        """Return the sum of all spectra; None before there is any."""
        if self._spectra is None or not self.usable.any():
            return None
        return np.asarray(self._spectra[self.usable].sum(axis=0, dtype=np.float64))

    def fitted(self, found: CalibratedSpectrum) -> FittedRaster:
        """Fit every point by the components of the sum."""
        assert self._spectra is not None
        where = self.usable
        rows = self._spectra[where][:, found.model.window.slice]
        projection = SpectrumProjection(found.model, found.curve / max(len(rows), 1))
        variance = self._variance[where]
        counts = projection.fit(rows, variance_factor=variance)
        return FittedRaster(found, projection, counts, where.copy(), variance, self._i0[where])

    def _place(self, reduced: Reduced) -> Any:
        row, column = reduced.label.axes[ROW_AXIS], reduced.label.axes.get(COLUMN_AXIS)
        n = len(np.asarray(reduced.values))
        if not 0 <= row < self.shape[0] or (column is None and n != self.shape[1]):
            raise ValueError(f"a line of {n} points does not fit a raster of {self.shape[1]} columns")
        return (
            (slice(row, row + 1), slice(None))
            if column is None
            else (slice(row, row + 1), slice(column, column + 1))
        )
