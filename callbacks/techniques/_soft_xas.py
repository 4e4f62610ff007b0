"""Soft XAS: currents of yields and mesh against energy, to normalised yields and what they say of a surface layer."""

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.interpolate import CubicSpline

from callbacks.documents import Channel, LeftOut
from callbacks.reduce import DarkCurrents, Reduced, Reducer
from edge_fitting import (
    DEPTHS_NM,
    Component,
    EdgeFittingError,
    LineAxis,
    ReducedLayer,
    SoftYieldFit,
    clipped,
    describe_yield,
    line_axis,
    reduced_layer,
    soft_edge,
)
from scan_contract import RunContract, SoftContract

from ._point_sweeps import PointSweeps, about_scan, energies_in_words
from ._soft_xas_result import SOFT_XAS_SCHEMA, YIELDS
from ._technique import EstimatorOptions, RunState, Technique

Array = npt.NDArray[np.float64]
Currents = dict[str, Array]

_ROLES = ("i0", "tey", "fy", "iref")
_WORDS = {
    "i0": "the incident intensity",
    "iref": "the reference",
    **{k: f"the {v}" for k, v in YIELDS.items()},
}
_NUMBERS = (
    "step", "low_ev", "high_ev", "gamma", "gamma_window", "branching_ratio", "pre_edge_area", "saturation",
)  # fmt: skip
# Sweeps that are nearer to one another than this are averaged as they are.
_SAME_AXIS_EV = 0.01
_FEWEST = 3


class SoftXASEstimator:
    """Two yields of a soft edge from the sweeps so far.

    Parameters
    ----------
    contract : RunContract
        What the start document said.
    """

    def __init__(self, contract: RunContract) -> None:
        self._contract = contract
        self._scan = cast(SoftContract, contract.scan)
        self._edge = soft_edge(contract.scan.edge)
        self._points = PointSweeps()
        self._components = [
            Component(
                one.name,
                np.asarray(one.energy_ev),
                np.asarray(one.normalized_mu),
                math.nan if one.valence is None else one.valence,
            )
            for one in self._scan.components
        ]

    def push(self, reduced: Reduced) -> None:
        """Add one reading."""
        self._points.push(reduced)

    def retract(self, reduced: Reduced) -> None:
        """Take one reading out again."""
        self._points.retract(reduced)

    def merge(self, other: "SoftXASEstimator") -> None:
        """Add the readings of another part of the scan."""
        self._points.merge(other._points)

    def result(self, state: RunState) -> xr.Dataset | None:
        """Return what the yields say; None before there are a few points."""
        said: list[str] = []
        sweeps = []
        for number in self._points.numbers:
            energies, currents = self._points.currents(number, _ROLES)
            if energies.size >= 2:
                sweeps.append((number, energies, self._positive(number, energies, currents, said)))
        if not sweeps:
            return None
        axes = [self._axis(energies, currents) for _, energies, currents in sweeps]
        axis, moved = self._common_axis(axes, said)
        yields = self._yields(sweeps, moved, said)
        if yields is None:
            return None
        energy_ev, values = yields
        fits: dict[str, SoftYieldFit] = {}
        for key in YIELDS:
            if key not in values:
                continue
            try:
                fits[key] = describe_yield(
                    energy_ev,
                    values[key],
                    edge=self._edge,
                    channel=key,
                    components=self._components,
                    saturation=self._scan.saturation.get(key),
                )
            except EdgeFittingError as error:
                said.append(f"{YIELDS[key]}: {str(error).rstrip('.')}")
        for key, fit in fits.items():
            said += [f"{YIELDS[key]}: {words}" for words in fit.warnings]
        layer = self._layer(fits, said)
        return self._dataset(state, energy_ev, values, fits, layer, axis, said)

    def _positive(self, number: int, energies: Array, currents: Currents, said: list[str]) -> Currents:
        """Make currents positive that an amplifier gives as negative; NaN where one passes through zero."""
        out = {}
        for role, values in currents.items():
            finite = values[np.isfinite(values)]
            if finite.size and np.median(finite) < 0 and (finite < 0).mean() > 0.9:
                said.append(f"the currents of {_WORDS[role]} are negative: their sign is turned")
                values = -values
            bad = ~(np.isfinite(values) & (values > 0))
            if bad.any():
                said.append(
                    f"sweep {number + 1}: {int(bad.sum())} of {bad.size} currents of {_WORDS[role]} are zero or less, "
                    f"or no number, {energies_in_words(energies[bad])}: these points are left out"
                )
            at_limit = clipped(values)
            if at_limit.any():
                said.append(
                    f"sweep {number + 1}: {_WORDS[role]} is saturated: {int(at_limit.sum())} currents have the same "
                    f"highest value, {energies_in_words(energies[at_limit])}: these points are left out"
                )
            out[role] = np.where(bad | at_limit, np.nan, values)
        return out

    def _axis(self, energies: Array, currents: Currents) -> LineAxis:
        """Return what the line of the reference in the same sweep says of the axis."""
        line = self._scan.line
        if line is None or "iref" not in currents:
            return LineAxis(reason="no line of a reference was measured")
        i0 = currents.get("i0", np.ones_like(energies))
        return line_axis(energies, currents["iref"] / i0, line.energy_ev, line.sigma_ev)

    def _common_axis(self, axes: list[LineAxis], said: list[str]) -> tuple[dict[str, Any], list[float]]:
        """Return what puts the axis right, and what to add to the energies of each sweep."""
        stored, line = self._scan.stored_axis, self._scan.line
        found = [axis for axis in axes if not axis.reason]
        if found:
            mean = float(np.mean([axis.offset_ev for axis in found]))
            sigma = float(np.mean([axis.sigma_ev for axis in found]))
            assert line is not None
            words = f"top of the line {line.name or 'of the reference'} at {line.energy_ev:g} eV in the same sweep"
            for number, axis in enumerate(axes):
                if axis.reason:
                    said.append(
                        f"sweep {number + 1}: {axis.reason}: its axis is put right as the mean of the others"
                    )
            moved = [mean if axis.reason else axis.offset_ev for axis in axes]
            return {"offset_ev": mean, "sigma_ev": sigma, "axis": words, "source": "line"}, moved
        if line is not None:
            said.append(f"{axes[0].reason}: it does not calibrate the energy axis")
        if stored is not None:
            words = f"stored offset: {stored.source or 'measured before'}"
            about = {
                "offset_ev": stored.offset_ev,
                "sigma_ev": stored.sigma_ev,
                "axis": words,
                "source": "stored",
            }
            return about, [stored.offset_ev] * len(axes)
        said.append(
            "the energy axis is the readback, not calibrated: neither a line nor a stored offset was given"
        )
        about = {
            "offset_ev": 0.0,
            "sigma_ev": math.nan,
            "axis": "energies are the readbacks",
            "source": "readback",
        }
        return about, [0.0] * len(axes)

    def _yields(
        self, sweeps: list[tuple[int, Array, Currents]], moved: list[float], said: list[str]
    ) -> tuple[Array, Currents] | None:
        """Divide the yields by what the mesh says, and average the sweeps on the energies of the longest one."""
        first = int(np.argmax([energies.size for _, energies, _ in sweeps]))
        grid = sweeps[first][1] + moved[first]
        gathered: dict[str, list[Array]] = {}
        for (_, energies, currents), offset in zip(sweeps, moved, strict=True):
            x = energies + offset
            i0 = currents.get("i0")
            if i0 is None:
                i0 = np.ones_like(x)
            if self._scan.mesh is not None:
                i0 = i0 / np.interp(x, self._scan.mesh.energy_ev, self._scan.mesh.normalized_mu)
            for key in YIELDS:
                if key in currents:
                    gathered.setdefault(key, []).append(_on_grid(x, currents[key] / i0, grid))
        if "i0" not in sweeps[first][2]:
            said.append("I0 was not measured: changes of the beam are in the yields")
        if not gathered:
            return None
        values = {}
        for key, rows in gathered.items():
            stack = np.stack(rows)
            count = np.isfinite(stack).sum(axis=0)
            values[key] = np.where(count > 0, np.nansum(stack, axis=0) / np.maximum(count, 1), np.nan)
        return grid, values

    def _layer(self, fits: Mapping[str, SoftYieldFit], said: list[str]) -> ReducedLayer | None:
        """Return the layers that explain both yields, where a linear combination gives the valence of each."""
        found = {key: fit.components for key, fit in fits.items() if fit.components is not None}
        if set(found) != set(YIELDS) or not all(np.isfinite(fit.valence) for fit in found.values()):
            return None
        if soft_edge(self._edge).l2_ev is None:
            return None
        depths = tuple(self._scan.depths_nm.get(key, DEPTHS_NM[key]) for key in ("tey", "fy"))
        bulk = self._scan.bulk
        try:
            layer = reduced_layer(
                (found["tey"].valence, found["tey"].valence_sigma),
                (found["fy"].valence, found["fy"].valence_sigma),
                reduced_valence=min(one.valence for one in self._components),
                bulk=None if bulk is None else (bulk.valence, bulk.sigma),
                depths_nm=cast(tuple[float, float], depths) if self._scan.depths_nm else None,
            )
        except EdgeFittingError as error:
            said.append(f"no layer: {str(error).rstrip('.')}")
            return None
        said += layer.warnings
        return layer

    def _dataset(
        self,
        state: RunState,
        energy_ev: Array,
        measured: Currents,
        fits: Mapping[str, SoftYieldFit],
        layer: ReducedLayer | None,
        axis: Mapping[str, Any],
        said: list[str],
    ) -> xr.Dataset:
        values: dict[str, Any] = {
            "energy_ev": energy_ev,
            **measured,
            "axis_offset_ev": axis["offset_ev"],
            "axis_offset_sigma_ev": axis["sigma_ev"],
        }
        signal = next(iter(measured))
        for key, fit in fits.items():
            values |= _of_yield(key, fit, energy_ev, [one.name for one in self._components])
            if np.isfinite(fit.step.value) and not signal.endswith("_normalized"):
                signal = f"{key}_normalized"
        if set(fits) == set(YIELDS):
            tey, fy = fits["tey"].gamma, fits["fy"].gamma
            values["delta_gamma"] = fy.value - tey.value
            values["delta_gamma_sigma"] = math.hypot(fy.sigma, tey.sigma)
            shifts = fits["fy"].gamma_shift - fits["tey"].gamma_shift
            parts = [fy.systematic, tey.systematic, shifts]
            values["delta_gamma_systematic"] = math.sqrt(sum(p**2 for p in parts if math.isfinite(p)))
        if layer is not None:
            values |= {
                "layer_nm": layer.thickness_nm,
                "layer_reduced_fraction": np.where(layer.possible, layer.reduced_fraction, np.nan),
                "layer_sigma": layer.sigma,
                "layer_systematic": layer.systematic,
                "layer_bulk_valence": np.where(layer.possible, layer.bulk_valence, np.nan),
                "layer_bulk_valence_sigma": layer.bulk_valence_sigma,
                "point_nm": layer.point_nm,
                "point_nm_sigma": layer.point_sigma_nm,
                "point_reduced_fraction": layer.point_fraction,
                "point_reduced_fraction_sigma": layer.point_fraction_sigma,
            }
        return SOFT_XAS_SCHEMA.make(
            values, self._metadata(state, fits, axis, [*state.warnings, *said]), signal=signal
        )

    def _metadata(
        self, state: RunState, fits: Mapping[str, SoftYieldFit], axis: Mapping[str, Any], said: list[str]
    ) -> dict[str, Any]:
        contract, scan, edge = self._contract, self._scan, self._edge
        about = about_scan(
            contract, state, self._points.offsets, said, mesh_structure_divided_out=scan.mesh is not None
        )
        return about | {
            "technique": "soft_xas",
            "edges": [edge.name],
            "edge": edge.name,
            "element": edge.element,
            "channels": dict(scan.channels),
            "definitions": {
                "gamma": "I(L3 high)/I(L3 low), heights of the fitted lines above pre-edge line and two-step continuum "
                "(2 to 1)",
                "pre_edge_area": "area below the main edge of oxygen, its foot taken off",
            },
            "calibration": {"axis": axis["axis"], "source": axis["source"]},
            "component_names": [one.name for one in self._components],
            "component_valences": [one.valence for one in self._components],
            "saturation_from": {key: fit.saturation_from for key, fit in fits.items()},
            "has_white_line": {key: fit.has_white_line for key, fit in fits.items()},
            "bulk": None if scan.bulk is None else scan.bulk.model_dump(mode="json"),
            "depths_nm": {key: scan.depths_nm.get(key, DEPTHS_NM[key]) for key in YIELDS},
        }


def _on_grid(x: Array, y: Array, grid: Array) -> Array:
    """Return a sweep at the energies of another one; NaN where it does not reach or has a gap."""
    good = np.isfinite(y)
    out = np.full(grid.size, np.nan)
    if good.sum() < _FEWEST:
        return out
    if x.size == grid.size and np.abs(x - grid).max() < _SAME_AXIS_EV:
        return np.where(good, y, np.nan)
    x, y = x[good], y[good]
    inside = (grid >= x[0]) & (grid <= x[-1])
    at = np.clip(np.searchsorted(x, grid) - 1, 0, x.size - 2)
    inside &= (x[at + 1] - x[at]) <= 2.5 * np.gradient(grid)
    out[inside] = CubicSpline(x, y)(grid[inside])
    return out


def _of_yield(key: str, fit: SoftYieldFit, energy_ev: Array, names: list[str]) -> dict[str, Any]:
    """Return the fields of one yield, on the energies of the result."""
    place = np.searchsorted(energy_ev, fit.energy_ev)

    def placed(values: Array) -> Array:
        out = np.full(energy_ev.size, np.nan)
        out[place] = values
        return out

    out: dict[str, Any] = {}
    if np.isfinite(fit.step.value):
        out |= {
            f"{key}_normalized": placed(fit.normalized),
            f"{key}_normalized_sigma": placed(fit.normalized_sigma),
            f"{key}_curve": placed(fit.curve),
        }
    for name in (
        "step",
        "low_ev",
        "high_ev",
        "gamma",
        "gamma_window",
        "branching_ratio",
        "pre_edge_area",
        "saturation",
    ):
        number = getattr(fit, name)
        out[f"{key}_{name}"], out[f"{key}_{name}_sigma"] = number.value, number.sigma
        if f"{key}_{name}_systematic" in SOFT_XAS_SCHEMA:
            out[f"{key}_{name}_systematic"] = number.systematic
    out[f"{key}_gamma_shift"] = fit.gamma_shift
    if fit.components is not None:
        out |= {
            f"{key}_valence": fit.components.valence,
            f"{key}_valence_sigma": fit.components.valence_sigma,
            f"{key}_fraction": [fit.components.fractions[name] for name in names],
            f"{key}_fraction_sigma": [fit.components.sigma[name] for name in names],
        }
    return out


def _reducers(contract: RunContract, left_out: LeftOut) -> list[Reducer]:
    return [DarkCurrents(cast(SoftContract, contract.scan).n_darks)]


def _estimator(contract: RunContract, options: EstimatorOptions) -> SoftXASEstimator | None:
    scan = cast(SoftContract, contract.scan)
    return SoftXASEstimator(contract) if set(scan.channels) & set(YIELDS) else None


SOFT_XAS = Technique(
    name="soft_xas",
    contract=SoftContract,
    reducers=_reducers,
    estimator=_estimator,
    channels={role: Channel(role, "scalar", optional=True) for role in _ROLES},
)
"""Soft XAS with electron yield and fluorescence yield at once."""
