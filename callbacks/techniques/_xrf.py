"""Fluorescence maps: spectra of points to counts of elements, compositions, and series over energies."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import xarray as xr

from callbacks.documents import Channel, LeftOut
from callbacks.errors import DocumentError
from callbacks.reduce import McaElements, Reduced, Reducer, common_scale
from edge_fitting import (
    CountRatio,
    DetectorResponse,
    EdgeFittingError,
    Sensitivity,
    ThinFilmStandard,
    atomic_fractions,
    atoms_sensitivity,
    calibrate_spectrum,
    element_ratio,
    line_groups,
    self_absorption,
)
from scan_contract import COLUMN_AXIS, ROW_AXIS, RunContract, XRFContract

from ._point_sweeps import about_scan
from ._technique import EstimatorOptions, RunState, Technique
from ._xrf_result import XRF_SCHEMA
from ._xrf_soc import xanes_soc
from ._xrf_spectra import FittedRaster, RasterSpectra

Array = npt.NDArray[np.float64]

_OF_OXIDE = ("Mn", "Co", "Ni")
# Mass of a layered oxide over that of its transition metals.
_OXIDE_MASS_RATIO = 1.68
# Photons that the sample keeps from here on are said.
_MUCH_ABSORBED = 0.95
# The response is found anew when the spectrum has grown by this.
_GROWN = 1.4
_ROUNDS = 4
_BEYOND_DOUBT = 4.0


class XRFEstimator:
    """Maps from the spectra so far.

    Parameters
    ----------
    contract : RunContract
        What the start document said.
    """

    def __init__(self, contract: RunContract) -> None:
        self._contract = contract
        self._scan = cast(XRFContract, contract.scan)
        self._elements, self._not_excited = excited(self._scan)
        axes = self._scan.axes
        self._shape = len(axes[ROW_AXIS]), len(axes[COLUMN_AXIS])
        self._rasters: dict[int, RasterSpectra] = {}
        self._fitted: dict[int, tuple[int, int, FittedRaster]] = {}
        self._response: DetectorResponse | None = None
        self._response_counts = 0.0
        self._compton: tuple[float, float] | None = None
        self._response_version = 0

    def push(self, reduced: Reduced) -> None:
        """Add a point or a line."""
        try:
            self._raster(reduced).put(reduced)
        except (ValueError, KeyError, IndexError) as error:
            raise EdgeFittingError(f"it does not fit the raster: {error}") from error

    def retract(self, reduced: Reduced) -> None:
        """Take a point or a line out again."""
        self._raster(reduced).take_out(reduced)

    def merge(self, other: "XRFEstimator") -> None:
        """Add what another part of the scan has."""
        for index, raster in other._rasters.items():
            self._rasters.setdefault(index, RasterSpectra(self._shape)).fill_from(raster)

    def result(self, state: RunState) -> xr.Dataset | None:
        """Return the maps; None before there is a point."""
        held = {
            index: total for index in self._rasters if (total := self._rasters[index].total()) is not None
        }
        if not held:
            return None
        said = list(self._not_excited)
        energies = self._scan.energies_ev
        main = max(held, key=lambda index: energies[index])
        self._find_response(held[main], energies[main], said, final=state.final)
        try:
            fitted = {index: self._fit(index, total) for index, total in held.items()}
        except EdgeFittingError as error:
            raise EdgeFittingError(f"the spectra cannot be fitted: {error}") from error
        one = fitted[main]
        said += one.found.warnings
        # Below an edge of the scan its element is looked for, and not there.
        values = self._maps(one, self._rasters[main], max(energies), said)
        if len(energies) > 1:
            values |= self._series(fitted)
            values |= self._state_of_charge(values, said) if len(held) == len(energies) else {}
        self._say_missing(said)
        attrs = self._about(state, one, said)
        signal = next(
            (name for name in ("soc", "ni_fraction", "mn_ni", "element_counts") if name in values), None
        )
        return XRF_SCHEMA.make(values, attrs, signal=signal)

    def _raster(self, reduced: Reduced) -> RasterSpectra:
        return self._rasters.setdefault(reduced.label.energy_index, RasterSpectra(self._shape))

    def _find_response(self, total: Array, energy_ev: float, said: list[str], *, final: bool) -> None:
        """Fit the detector's response to the summed spectrum, again when there is much more of it."""
        counts = float(total.sum())
        enough = _GROWN * self._response_counts
        if self._response is not None and counts < enough and not (final and counts > self._response_counts):
            return
        known = [one for one in self._scan.calibration if one is not None]
        nominal = common_scale([DetectorResponse(one.gain_ev, one.offset_ev) for one in known])
        found = self._calibrated(total, energy_ev, nominal, fit_response=True)
        self._response, self._response_counts = found.model.response, counts
        self._compton = found.compton
        self._response_version += 1

    def _calibrated(
        self, total: Array, energy_ev: float, nominal: DetectorResponse, *, fit_response: bool
    ) -> Any:
        return calibrate_spectrum(
            total,
            self._elements,
            energy_ev,
            nominal=nominal,
            angle_deg=self._scan.angle_deg,
            fit_response=fit_response,
            lines_at_ev=max(self._scan.energies_ev),
            compton=self._compton,
        )

    def _fit(self, index: int, total: Array) -> FittedRaster:
        raster = self._rasters[index]
        held = self._fitted.get(index)
        if held is not None and held[:2] == (raster.version, self._response_version):
            return held[2]
        assert self._response is not None
        found = self._calibrated(total, self._scan.energies_ev[index], self._response, fit_response=False)
        fitted = raster.fitted(found)
        self._fitted[index] = raster.version, self._response_version, fitted
        return fitted

    def _maps(
        self, one: FittedRaster, raster: RasterSpectra, energy_ev: float, said: list[str]
    ) -> dict[str, Any]:
        n, counts = one.counts.n_elements, one.counts
        axes = self._scan.axes
        values: dict[str, Any] = {
            "row_um": axes[ROW_AXIS],
            "column_um": axes[COLUMN_AXIS],
            "element_counts": np.stack([one.on_map(counts.counts[:, k]) for k in range(n)]),
            "element_counts_sigma": np.stack([one.on_map(counts.sigma[:, k]) for k in range(n)]),
            "element_counts_free": np.stack([one.on_map(counts.free[:, k]) for k in range(n)]),
            "scatter_counts": one.on_map(counts.free[:, n : n + 2].sum(axis=1)),
            "i0": raster.i0,
            "point_status": raster.status,
            "energy_ev": np.asarray(self._scan.energies_ev),
            "channel_ev": one.found.model.response.energy_ev(one.found.model.window.channels),
            "summed_spectrum": self._sum_in_window(raster, one),
            "summed_fit": one.found.curve,
            "summed_background": one.found.background,
        }
        escape = self._densities(one, energy_ev, values, said)
        for name, ratio in self._ratios(one, energy_ev, escape).items():
            known = self._has_nickel(one)
            values[name] = one.on_map(np.where(known, ratio.value, np.nan))
            values[f"{name}_sigma"] = one.on_map(np.where(known, ratio.sigma, np.nan))
        return values

    def _has_nickel(self, one: FittedRaster) -> npt.NDArray[np.bool_]:
        """Return which points have nickel beyond doubt: elsewhere a ratio over it would be noise."""
        k = self._elements.index("Ni")
        return np.asarray(one.counts.free[:, k] > _BEYOND_DOUBT * one.counts.sigma[:, k], bool)

    @staticmethod
    def _sum_in_window(raster: RasterSpectra, one: FittedRaster) -> Array:
        total = raster.total()
        assert total is not None
        return np.asarray(total[one.found.model.window.slice])

    def _densities(
        self, one: FittedRaster, energy_ev: float, values: dict[str, Any], said: list[str]
    ) -> dict[str, Array]:
        """Add areal densities where there is a standard; return what the sample lets out of each element's photons."""
        if self._scan.standard is None:
            said.append(
                "no standard was given: there are no areal densities, and ratios are not corrected for absorption in "
                "the sample"
            )
            return {}
        standard = ThinFilmStandard(self._scan.standard.areal_density_ug_cm2, self._scan.standard.counts)
        sensitivity = standard.sensitivity(self._elements, energy_ev)
        escape = self._escape(one, sensitivity, energy_ev)
        names = one.counts.names[: one.counts.n_elements]
        scale = {name: sensitivity.counts[name] * one.i0 * escape[name] for name in names}
        for key, of in (("areal_density", one.counts.free), ("areal_density_sigma", one.counts.sigma)):
            values[key] = np.stack([one.on_map(of[:, k] / scale[name]) for k, name in enumerate(names)])
        values["escape"] = np.stack([one.on_map(escape[name]) for name in names])
        least = {name: float(np.nanpercentile(escape[name], 5)) for name in names}
        worst = min(least, key=lambda name: least[name])
        if least[worst] < _MUCH_ABSORBED:
            said.append(
                f"the sample keeps up to {1 - least[worst]:.0%} of the photons of {worst}: densities and ratios are "
                "corrected as for an even layer, which a particle is not"
            )
        if sensitivity.from_tables:
            said.append(f"the standard has no {', '.join(sensitivity.from_tables)}: scaled by tables")
        return escape

    def _escape(self, one: FittedRaster, sensitivity: Sensitivity, energy_ev: float) -> dict[str, Array]:
        names = one.counts.names[: one.counts.n_elements]
        ratio, angles_deg = self._geometry()
        escape = {name: np.ones(one.i0.size) for name in names}
        for _ in range(_ROUNDS):
            density = {
                name: np.maximum(one.counts.free[:, k], 0.0)
                / (sensitivity.counts[name] * one.i0 * escape[name])
                for k, name in enumerate(names)
            }
            escape = self_absorption(density, energy_ev, mass_ratio=ratio, angles_deg=angles_deg)
        return escape

    def _geometry(self) -> tuple[float, tuple[float, float]]:
        """Return the mass of everything over that of what is measured, and the angles of beam and detector."""
        ratio = _OXIDE_MASS_RATIO if set(_OF_OXIDE) & set(self._elements) else 1.0
        angle = abs(90.0 - self._scan.angle_deg)
        return ratio, (90.0, 45.0 if angle < 5.0 else max(angle, 10.0))

    def _ratios(
        self, one: FittedRaster, energy_ev: float, escape: Mapping[str, Array]
    ) -> dict[str, CountRatio]:
        names = set(self._elements)
        table = atoms_sensitivity(list(self._elements), energy_ev)
        about: Any = {"variance_factor": one.variance_factor}
        free = one.counts.free
        found = {}
        for key, top in (("mn_ni", "Mn"), ("co_ni", "Co")):
            if {top, "Ni"} <= names:
                ratio = element_ratio(one.projection, free, (top, "Ni"), table, **about)
                found[key] = _scaled(ratio, escape, top)
        if set(_OF_OXIDE) <= names:
            weights = _mean_escape(escape, table)
            found["ni_fraction"] = atomic_fractions(one.projection, free, _OF_OXIDE, weights, **about)["Ni"]
        return found

    def _series(self, fitted: Mapping[int, FittedRaster]) -> dict[str, Any]:
        """Return the photons of the edge's element at each energy, over I0."""
        element = self._contract.scan.edge.partition("_")[0]
        n = len(self._scan.energies_ev)
        series, sigma = (np.full((n, *self._shape), np.nan, np.float32) for _ in range(2))
        if element in self._elements:
            k = self._elements.index(element)
            for index, one in fitted.items():
                i0 = one.i0 / np.nanmean(one.i0)
                series[index] = one.on_map(one.counts.free[:, k] / i0)
                sigma[index] = one.on_map(one.counts.sigma[:, k] / i0)
        return {"series": series, "series_sigma": sigma}

    def _state_of_charge(self, values: Mapping[str, Any], said: list[str]) -> dict[str, Any]:
        """Return the state of charge of each point, where there are references."""
        try:
            mass_ratio, angles_deg = self._geometry()
            about = {"element_names": self._elements, "mass_ratio": mass_ratio, "angles_deg": angles_deg}
            soc, words = xanes_soc(self._contract, {**values, **about})
        except EdgeFittingError as error:
            said.append(f"no state of charge: {str(error).rstrip('.')}")
            return {}
        said += words
        return soc

    def _say_missing(self, said: list[str]) -> None:
        lacking = sum(int((raster.status == 1).sum()) for raster in self._rasters.values())
        rows = {
            int(row)
            for raster in self._rasters.values()
            for row in np.flatnonzero((raster.status == 1).all(axis=1))
        }
        if lacking:
            lines = f", whole lines among them ({len(rows)})" if rows else ""
            said.append(f"{lacking} points were not measured{lines}: they are NaN")

    def _about(self, state: RunState, one: FittedRaster, said: list[str]) -> dict[str, Any]:
        response = one.found.model.response
        scan = self._scan
        about = about_scan(self._contract, state, {}, [*state.warnings, *said], line=scan.line)
        return about | {
            "technique": "xrf",
            "edges": [scan.edge],
            "edge": scan.edge,
            "element": scan.edge.partition("_")[0],
            "elements": list(self._elements),
            "pixel_size_nm": scan.pixel_size_nm,
            "focus_um": scan.focus_um,
            "excitation_ev": one.found.model.excitation_ev,
            "chi2": one.found.chi2,
            "response": {
                "gain_ev": response.gain_ev,
                "offset_ev": response.offset_ev,
                "noise_ev": response.noise_ev,
                "fano": response.fano,
                "escape": response.escape,
            },
            "standard": None if scan.standard is None else scan.standard.model_dump(mode="json"),
            "absorption_corrected": scan.standard is not None,
        }


def excited(scan: XRFContract) -> tuple[list[str], list[str]]:
    """Return the elements whose lines the beam excites, and what is to be said of the others."""
    kept, said = [], []
    for name in scan.elements:
        try:
            line_groups([name], max(scan.energies_ev))
        except EdgeFittingError as error:
            said.append(str(error).rstrip("."))
        else:
            kept.append(name)
    return kept, said


def _scaled(ratio: CountRatio, escape: Mapping[str, Array], top: str) -> CountRatio:
    if not escape:
        return ratio
    factor = escape["Ni"] / escape[top]
    return CountRatio(ratio.value * factor, ratio.low * factor, ratio.high * factor)


def _mean_escape(escape: Mapping[str, Array], table: Mapping[str, float]) -> dict[str, Any]:
    """Return the counts per atom of each element at each point, relative."""
    return {name: value * escape.get(name, 1.0) for name, value in table.items()}


def _reducers(contract: RunContract, left_out: LeftOut) -> list[Reducer]:
    scan = cast(XRFContract, contract.scan)
    nominal = [
        None if one is None else DetectorResponse(one.gain_ev, one.offset_ev) for one in scan.calibration
    ]
    return [McaElements(excited(scan)[0], max(scan.energies_ev), nominal, scan.angle_deg, left_out)]


def _estimator(contract: RunContract, options: EstimatorOptions) -> XRFEstimator:
    kept, said = excited(cast(XRFContract, contract.scan))
    if not kept:
        raise DocumentError(f"run {contract.raw_uid[:8]} cannot be analysed: {'; '.join(said)}")
    return XRFEstimator(contract)


XRF = Technique(
    name="xrf",
    contract=XRFContract,
    reducers=_reducers,
    estimator=_estimator,
    channels={
        "mca": Channel("mca", "array"),
        "live_s": Channel("mca", "array", optional=True, part="live_s"),
        "real_s": Channel("mca", "array", optional=True, part="real_s"),
        "line_i0": Channel("mca", "array", optional=True, part="i0"),
    },
)
"""Maps with a fluorescence detector."""
