"""STXM: counts of lines or points to optical depth, maps of the oxidation state and of the thickness."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import xarray as xr

from callbacks.documents import Channel, LeftOut, Reading
from callbacks.reduce import EachReading, Reduced, Reducer
from edge_fitting import EdgeFittingError, soft_edge
from edge_fitting.soft import bare_region
from scan_contract import RunContract, StxmContract

from ._soft_images import Images, SoftImageFit, ascending, components_of
from ._technique import EstimatorOptions, RunState, Technique

Array = npt.NDArray[np.float64]

# Transmission of so many times the stray light, or this optical depth, leaves too little of the sample's own light.
_STRAY_TIMES = 5.0
_THICKEST = 3.0
_LARGE_DEAD_SHARE = 0.3


class StxmEstimator:
    """The stack of a raster, line by line or point by point.

    Parameters
    ----------
    contract : RunContract
        What the start document said.
    options : EstimatorOptions
        Whether images are registered.
    """

    def __init__(self, contract: RunContract, options: EstimatorOptions) -> None:
        scan = cast(StxmContract, contract.scan)
        self._scan = scan
        shape = len(scan.energies_ev), len(scan.rows_um), len(scan.columns_um)
        self._counts = np.full(shape, np.nan, np.float32)
        self._i0 = np.full(shape[:2] if "line" in scan.channels else shape, np.nan)
        self._read_ev = np.full(shape[0], np.nan)
        self._last = 0
        self._edge = soft_edge(scan.edge)
        material = None if scan.material is None else (scan.material.formula, scan.material.density_g_cm3)
        self._fit = SoftImageFit(contract, options, material, "optical depth")

    def push(self, reduced: Reduced) -> None:
        """Add a line or a point.

        Raises
        ------
        EdgeFittingError
            It has another number of points than the raster, or belongs to none of its lines.
        """
        place, counts = self._place(reduced), np.asarray(reduced.values["counts"], np.float64)
        if counts.shape != self._counts[place].shape:
            raise EdgeFittingError(
                f"it has {counts.size} points where the raster has {self._counts[place].size}"
            )
        if counts.ndim and self._scan.snake and place[1] % 2:
            counts = counts[::-1]
        self._counts[place] = np.where(counts >= 0, counts, np.nan)
        self._i0[place[: self._i0.ndim]] = reduced.values["i0"]
        self._read_ev[place[0]] = reduced.energy_ev
        self._last = place[0]

    def retract(self, reduced: Reduced) -> None:
        """Take a line or a point out again."""
        place = self._place(reduced)
        self._counts[place] = np.nan
        self._i0[place[: self._i0.ndim]] = np.nan

    def merge(self, other: "StxmEstimator") -> None:
        """Add what another part of the scan has."""
        taken = np.isnan(self._counts) & np.isfinite(other._counts)
        self._counts[taken] = other._counts[taken]
        of_i0 = np.isnan(self._i0) & np.isfinite(other._i0)
        self._i0[of_i0] = other._i0[of_i0]
        self._read_ev = np.where(np.isfinite(self._read_ev), self._read_ev, other._read_ev)
        self._last = max(self._last, other._last)

    def result(self, state: RunState) -> xr.Dataset | None:
        """Return maps, or the images alone where none can be made; None before the first line."""
        begun = np.isfinite(self._read_ev)
        if not begun.any():
            return None
        order = ascending(self._read_ev[begun])
        indices = np.flatnonzero(begun)[order]
        counts = self._counts[indices]
        exposure_s = np.asarray(self._scan.exposure_s)[indices]
        done = np.isfinite(counts).mean(axis=(1, 2))
        said: list[str] = []
        rate = self._rate(counts, exposure_s, said)
        images = self._images(self._read_ev[indices], rate, counts, exposure_s, indices, said)
        self._lacking(state, said)
        shown = np.flatnonzero(indices == self._last)[0]
        fields: dict[str, Any] = {
            "row_um": np.asarray(self._scan.rows_um),
            "column_um": np.asarray(self._scan.columns_um),
        }
        if images.energy_ev.size:
            kept = np.isin(self._read_ev[indices], images.energy_ev)
            fields["lines_done"] = done[kept]
        out = self._fit.dataset(state, images, rate[shown], **fields)
        lacking = [
            index
            for index in range(len(self._scan.energies_ev))
            if not np.isfinite(self._counts[index]).all()
        ]
        return out.assign_attrs({**out.attrs, "energies_lacking": lacking})

    def _place(self, reduced: Reduced) -> tuple[int, ...]:
        axes, index = reduced.label.axes, reduced.label.energy_index
        place: tuple[int, ...] = (index, axes.get("row", -1))
        if "counts" in self._scan.channels:
            place = (*place, axes.get("column", -1))
        if not all(0 <= at < size for at, size in zip(place, self._counts.shape, strict=False)):
            raise EdgeFittingError(f"it belongs to no place of the raster: {place}")
        return place

    def _rate(self, counts: npt.NDArray[np.float32], exposure_s: Array, said: list[str]) -> Any:
        """Return counts per second with what the dead time lost, without those of the dark (float32)."""
        rate = counts / exposure_s[:, None, None].astype(np.float32)
        lost = rate * np.float32(self._scan.dead_time_s)
        impossible = lost >= 1.0
        if impossible.any():
            said.append(
                f"{int(impossible.sum())} points count faster than a dead time of {self._scan.dead_time_s:.3g} s "
                "allows: they are left out; look at that number"
            )
        if (share := float(np.nanmax(np.where(impossible, 0.0, lost), initial=0.0))) > _LARGE_DEAD_SHARE:
            said.append(
                f"up to {share:.0%} of the counts were lost in the dead time: they are added, and an error of the dead "
                "time counts in proportion"
            )
        with np.errstate(invalid="ignore", divide="ignore"):
            out = np.where(impossible, np.nan, rate / (1.0 - lost)) - np.float32(self._scan.dark_hz)
        return out.astype(np.float32)

    def _images(
        self,
        energy_ev: Array,
        rate: Any,
        counts: Any,
        exposure_s: Array,
        indices: npt.NDArray[np.intp],
        said: list[str],
    ) -> Images:
        none = Images(
            np.empty(0), np.empty((0, *rate.shape[1:]), np.float32), rate[:0], np.zeros(0, bool), said=said
        )
        steady = self._steadied(rate, indices, said)
        try:
            open_beam, relative, fields = self._open_beam(energy_ev, rate, steady, counts, exposure_s)
        except EdgeFittingError as error:
            said.append(str(error).rstrip("."))
            return none
        lit = np.isfinite(open_beam) & (open_beam > 0)
        if not lit.all():
            said.append(
                f"I0 is zero or unknown at {int((~lit).sum())} of {lit.size} energies, the first "
                f"{energy_ev[~lit][0]:.1f} eV: they are left out"
            )
        if not lit.any():
            return none
        beam = open_beam[lit, None, None].astype(np.float32)
        stray = np.float32(self._scan.stray_share)
        with np.errstate(invalid="ignore", divide="ignore"):
            # The open beam holds the stray light too.
            passed = steady[lit] / beam * (1.0 + stray) - stray
            depth = np.where(passed > 0, -np.log(passed), np.nan).astype(np.float32)
            dose = (beam * exposure_s[lit, None, None].astype(np.float32)) / (1.0 + stray)
            seen = dose * (np.maximum(passed, 0) + stray) + self._scan.dark_hz * exposure_s[lit, None, None]
            variance = (seen / (dose * passed) ** 2 + relative[lit, None, None]).astype(np.float32)
        limit = max(_STRAY_TIMES * self._scan.stray_share, float(np.exp(-_THICKEST)))
        with np.errstate(invalid="ignore"):
            dark = np.isfinite(steady[lit]) & (passed <= 0)
            thick = (np.nanmin(np.where(np.isfinite(passed), passed, np.inf), axis=0) < limit) | dark.any(
                axis=0
            )
        if n := int(thick.sum()):
            said.append(
                f"{n} pixels let less than {limit:.1%} of the light through at some energy: light beside the sample "
                "counts there, they have no state"
            )
        fields["open_beam"] = open_beam[lit]
        whole = np.isfinite(counts[lit]).all(axis=(1, 2))
        return Images(energy_ev[lit], depth, variance, whole, thick, fields, said)

    def _steadied(self, rate: Any, indices: npt.NDArray[np.intp], said: list[str]) -> Any:
        """Divide by the current before the sample, relative to its mean at each energy: what flickers goes."""
        if "i0" not in self._scan.channels:
            return rate
        i0 = self._i0[indices]
        i0 = i0[:, :, None] if i0.ndim == 2 else i0
        good = np.isfinite(i0) & (i0 > 0)
        if not good.any():
            said.append("the current I0 is zero or missing everywhere: it is not divided by")
            return rate
        if bad := int((~good & np.isfinite(rate).any(axis=2, keepdims=True)).sum()):
            said.append(f"the current I0 is zero or missing in {bad} readings: they are left out")
        mean = np.nanmean(np.where(good, i0, np.nan), axis=(1, 2), keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(good, rate * (mean / i0), np.nan).astype(np.float32)

    def _open_beam(
        self, energy_ev: Array, rate: Any, steady: Any, counts: Any, exposure_s: Array
    ) -> tuple[Array, Array, dict[str, Any]]:
        """Return the counts per second without sample, the variance of that over its square, and where it was taken."""
        given = self._scan.open_beam
        if given is not None:
            out = np.interp(energy_ev, given.energy_ev, given.rate_hz, left=np.nan, right=np.nan)
            return out, np.zeros_like(out), {}
        held = np.isfinite(counts).any(axis=(1, 2))
        found = bare_region(
            energy_ev[held], steady[held], counts[held], self._edge, components_of(self._scan)
        )
        beam, relative = np.full(energy_ev.size, np.nan), np.zeros(energy_ev.size)
        beam[held], relative[held] = found.rate, found.relative_variance
        return beam, relative, {"bare": found.pixels.astype(np.uint8)}

    def _lacking(self, state: RunState, said: list[str]) -> None:
        if not state.final:
            return
        part = [
            index
            for index in range(len(self._counts))
            if np.isfinite(self._counts[index]).any() and not np.isfinite(self._counts[index]).all()
        ]
        if part:
            energy = self._scan.energies_ev[part[0]]
            said.append(
                f"{len(part)} images have missing points, the first at {energy:.1f} eV: those pixels are fitted "
                "without them"
            )


def _values(reading: Reading) -> Mapping[str, Any]:
    channels = reading.channels
    return {"counts": channels.get("line", channels.get("counts")), "i0": reading.i0}


def _reducers(contract: RunContract, left_out: LeftOut) -> list[Reducer]:
    return [EachReading(_values)]


STXM = Technique(
    name="stxm",
    contract=StxmContract,
    reducers=_reducers,
    estimator=StxmEstimator,
    channels={
        "line": Channel("line", "spectrum", optional=True),
        "counts": Channel("counts", "scalar", optional=True),
    },
)
"""Scanning transmission X-ray microscopy at a soft edge."""
