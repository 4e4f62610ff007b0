"""Point XAS: ion chambers against energy, to one calibrated spectrum and what it says."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import xarray as xr

from callbacks.documents import Channel, LeftOut
from callbacks.reduce import CountRates, DarkCurrents, Reduced, Reducer
from edge_fitting import (
    EDGE_DEFINITIONS,
    EDGES,
    GLITCH_KINDS,
    AnchorCalibration,
    EdgeFittingError,
    MergedSweeps,
    ReferenceSeries,
    SpectrumFit,
    Sweep,
    SweepAxis,
    describe_spectrum,
    find_glitches,
    foil_axis,
    merge_sweeps,
    warm_up,
)
from scan_contract import PointContract, RunContract

from ._planned import references_of
from ._point_sweeps import PointSweeps, about_scan, energies_in_words, sweep_of
from ._technique import EstimatorOptions, RunState, Technique
from ._xas_result import XAS_SCHEMA

Array = npt.NDArray[np.float64]

_ROLES = ("i0", "it", "iref", "fy", "tey")


@dataclass(frozen=True, eq=False)
class _OneSweep:
    """A sweep as it is measured, without its glitches."""

    sweep: Sweep
    glitch_ev: Array
    glitch_kind: npt.NDArray[np.uint8]
    warnings: tuple[str, ...]
    is_whole: bool


class XASEstimator:
    """One spectrum of the sweeps so far: each on the axis of its own foil, weighted by its noise.

    Parameters
    ----------
    contract : RunContract
        What the start document said.
    references : ReferenceSeries or None
        Spectra of known state of charge.
    """

    def __init__(self, contract: RunContract, references: ReferenceSeries | None) -> None:
        self._contract = contract
        self._scan = cast(PointContract, contract.scan)
        self._references = references
        self._points = PointSweeps()
        self._sweeps: dict[int, _OneSweep] = {}
        self._axes: dict[int, SweepAxis] = {}

    def push(self, reduced: Reduced) -> None:
        """Add one reading."""
        self._points.push(reduced)
        self._forget(sweep_of(reduced))

    def retract(self, reduced: Reduced) -> None:
        """Take one reading out again."""
        self._points.retract(reduced)
        self._forget(sweep_of(reduced))

    def merge(self, other: "XASEstimator") -> None:
        """Add the readings of another part of the scan."""
        for sweep in self._points.merge(other._points):
            self._forget(sweep)

    def result(self, state: RunState) -> xr.Dataset | None:
        """Return the spectrum with all that belongs to it; None before there are two points."""
        for number in self._points.numbers:
            if number not in self._sweeps:
                self._sweeps[number] = self._formed(number)
        numbers = [number for number in sorted(self._sweeps) if self._sweeps[number].sweep.energy_ev.size > 1]
        if not numbers:
            return None
        edge = self._scan.edge
        for number in numbers:
            # A foil is looked at once its sweep is whole: it takes longer than all the rest.
            if number not in self._axes and (self._sweeps[number].is_whole or state.final):
                self._axes[number] = foil_axis(self._sweeps[number].sweep, edge)
        if not any(number in self._axes for number in numbers):
            axes = [SweepAxis(reason="its foil is looked at when the sweep is whole") for _ in numbers]
        else:
            axes = [
                self._axes.get(number, SweepAxis(reason="its foil is looked at when the sweep is whole"))
                for number in numbers
            ]
        merged = merge_sweeps([self._sweeps[number].sweep for number in numbers], edge=edge, axes=axes)
        fit = describe_spectrum(
            merged.energy_ev, merged.mu, edge=edge, sigma=merged.sigma, references=self._references
        )
        return self._dataset(state, numbers, merged, fit)

    def _forget(self, sweep: int) -> None:
        self._sweeps.pop(sweep, None)
        self._axes.pop(sweep, None)

    def _formed(self, number: int) -> _OneSweep:
        """Make absorption of the currents of a sweep, and take out what is none."""
        energies, currents = self._points.currents(number, _ROLES)
        i0 = currents.get("i0")
        mu, said = _absorption(currents)
        foil = _foil(currents)
        good = np.isfinite(mu)
        if (n_bad := int((~good).sum())) > 0:
            said.append(
                f"sweep {number + 1}: {n_bad} of {good.size} points have a current of zero or less, or that is no "
                f"number, {energies_in_words(energies[~good])}: they are left out"
            )
        if foil is not None and (n_bad := int((good & ~np.isfinite(foil)).sum())) > 0:
            said.append(
                f"sweep {number + 1}: {n_bad} of {good.size} points behind the foil have a current of zero or less, "
                "or that is no number: the foil is without them"
            )
        exposures_s = self._points.exposures_s(number)[good]
        energies, mu = energies[good], mu[good]
        foil = None if foil is None else foil[good]
        glitches = find_glitches(energies, None if i0 is None else i0[good], mu, edge=self._scan.edge)
        if glitches.warning:
            said.append(f"sweep {number + 1}: {glitches.warning}")
        found = glitches.found
        if found.any():
            said.append(f"sweep {number + 1}: {_glitch_words(energies, glitches.kind)}: they are left out")
        kept = ~found
        return _OneSweep(
            sweep=Sweep(energies[kept], mu[kept], None if foil is None else foil[kept], exposures_s[kept]),
            glitch_ev=energies[found],
            glitch_kind=glitches.kind[found],
            warnings=tuple(said),
            is_whole=self._points.n_readings(number) >= len(self._scan.taken_indices) * self._scan.repeats,
        )

    def _dataset(
        self, state: RunState, numbers: list[int], merged: MergedSweeps, fit: SpectrumFit
    ) -> xr.Dataset:
        held = [self._sweeps[number] for number in numbers]
        n = merged.energy_ev.size
        values: dict[str, Any] = {
            "energy_ev": merged.energy_ev,
            "mu": merged.mu,
            "mu_sigma": merged.sigma,
            "n_sweeps": merged.n_sweeps,
            "edge_step": fit.edge_step,
            "edge_step_sigma": fit.edge_step_sigma,
            "axis_offset_ev": float(np.mean([axis.offset_ev for axis in merged.axes])),
            "axis_offset_sigma_ev": merged.axis_sigma_ev,
            "sweep_number": numbers,
            "sweep_offset_ev": [axis.offset_ev for axis in merged.axes],
            "sweep_offset_sigma_ev": [
                math.hypot(axis.sigma_ev, axis.common_sigma_ev) for axis in merged.axes
            ],
            "sweep_by_foil": [axis.source == "foil" for axis in merged.axes],
            "sweep_used": merged.used,
            "sweep_noise": merged.noise,
            "sweep_deviation": merged.deviation,
            "sweep_n_points": [one.sweep.energy_ev.size for one in held],
            "glitch_sweep": np.repeat(numbers, [one.glitch_ev.size for one in held]),
            "glitch_energy_ev": np.concatenate([one.glitch_ev for one in held]),
            "glitch_kind": np.concatenate([one.glitch_kind for one in held]),
        }
        if merged.foil_mu is not None:
            values["foil_mu"] = merged.foil_mu
        for name, position in fit.positions.items():
            values[f"{name}_ev"], values[f"{name}_sigma_ev"] = position.value_ev, position.sigma_ev
        if fit.normalized is not None:
            values["normalized_mu"], values["normalized_mu_sigma"] = fit.normalized, fit.normalized_sigma
        if fit.residual is not None:
            values["residual"] = fit.residual
        said = [*state.warnings, *(words for one in held for words in one.warnings)]
        said += [*merged.warnings, *fit.warnings]
        if self._references is not None:
            values["soc"], values["soc_sigma"] = fit.soc, fit.soc_sigma
            values["soc_systematic"] = math.nan if fit.soc_systematic is None else fit.soc_systematic
        values |= self._valence(fit, merged.axis_sigma_ev, said)
        values |= self._difference(merged.energy_ev, fit, said)
        assert all(np.size(values[name]) == n for name in ("mu", "mu_sigma", "n_sweeps"))
        return XAS_SCHEMA.make(values, self._metadata(state, merged, fit, said), signal="mu")

    def _valence(self, fit: SpectrumFit, axis_sigma_ev: float, said: list[str]) -> dict[str, float]:
        """Read the valence off the calibration line, where the run brought one."""
        anchors = self._scan.anchors
        if anchors is None:
            return {}
        found = fit.positions[anchors.definition]
        if not np.isfinite(found.value_ev):
            said.append(f"no valence: the spectrum has no edge energy by {anchors.definition}")
            return {}
        try:
            line = AnchorCalibration(
                anchors.edge_energy_ev,
                anchors.valence,
                kind="linear",
                measured_sigma=anchors.edge_energy_sigma_ev,
            )
        except EdgeFittingError as error:
            said.append(f"no valence: {str(error).rstrip('.')}")
            return {}
        read = line.convert([found.value_ev], [math.hypot(found.sigma_ev, axis_sigma_ev)])
        if read.outside[0]:
            said.append(
                f"the edge energy {found.value_ev:.2f} eV lies beyond the standards of the calibration line "
                f"({min(anchors.edge_energy_ev):.2f} to {max(anchors.edge_energy_ev):.2f} eV)"
            )
        return {
            "valence": float(read.value[0]),
            "valence_sigma": float(read.sigma[0]),
            "valence_systematic": float(read.anchor_sigma[0]),
        }

    def _difference(self, energy_ev: Array, fit: SpectrumFit, said: list[str]) -> dict[str, Array]:
        """Subtract the stored spectrum, where the run brought one."""
        stored = self._scan.compared_with
        if stored is None or fit.normalized is None:
            return {}
        x, y = np.asarray(stored.energy_ev), np.asarray(stored.normalized_mu)
        inside = (energy_ev >= x[0]) & (energy_ev <= x[-1])
        if not inside.all():
            said.append(
                f"the stored spectrum covers {x[0]:.1f} to {x[-1]:.1f} eV: no difference at "
                f"{int((~inside).sum())} of {energy_ev.size} points"
            )
        return {"difference": np.where(inside, fit.normalized - np.interp(energy_ev, x, y), np.nan)}

    def _metadata(
        self, state: RunState, merged: MergedSweeps, fit: SpectrumFit, said: list[str]
    ) -> dict[str, Any]:
        contract, scan = self._contract, self._scan
        edge = EDGES[scan.edge]
        calibrated = [axis.calibration for axis in merged.axes if axis.calibration is not None]
        target, half_jump = scan.target_sigma_ev, fit.positions["half_jump"].sigma_ev
        needed = None
        if target is not None and np.isfinite(half_jump):
            needed = math.ceil(int(merged.used.sum()) * (half_jump / target) ** 2)
        return about_scan(contract, state, self._points.offsets, said) | {
            "technique": "xas",
            "edges": [scan.edge],
            "edge": scan.edge,
            "element": edge.element,
            "channels": dict(scan.channels),
            "dead_time_s": dict(scan.dead_time_s),
            "d_spacing_angstrom": None if scan.flight is None else scan.flight.d_spacing_angstrom,
            "measured_as": _measured_as(scan.channels),
            "definitions": {name: fit.positions[name].definition for name in EDGE_DEFINITIONS},
            "edge_status": {name: fit.positions[name].status for name in EDGE_DEFINITIONS},
            "definition": fit.positions["half_jump"].definition,
            "calibration": {
                "foil_inflection_ev": edge.foil_inflection_ev,
                "definition": calibrated[0].definition if calibrated else None,
                "axis": f"first inflection of the {edge.element} foil of each sweep"
                if calibrated
                else "energies are the axis' own readbacks, in eV",
                "sources": [axis.source for axis in merged.axes],
            },
            "anchors": None if scan.anchors is None else scan.anchors.model_dump(mode="json"),
            "compared_with": None if scan.compared_with is None else scan.compared_with.name,
            "references": None if self._references is None else self._references.to_dict(),
            "glitch_kinds": {str(number): name for number, name in enumerate(GLITCH_KINDS)},
            "target_sigma_ev": target,
            "sweeps_needed": needed,
        }


def _measured_as(channels: Mapping[str, str]) -> str:
    for role, words in (("it", "transmission"), ("fy", "fluorescence"), ("tey", "electron yield")):
        if role in channels:
            return words
    return "reference foil"


def _absorption(currents: Mapping[str, Array]) -> tuple[Array, list[str]]:
    """Return the absorption of the sample, NaN where a current cannot be; and what to say."""
    said: list[str] = []
    i0 = currents.get("i0")
    through = currents.get("it", currents.get("iref") if not {"fy", "tey"} & set(currents) else None)
    measured = through if through is not None else currents.get("fy", currents.get("tey"))
    if measured is None:
        return np.full(0 if i0 is None else i0.size, np.nan), said
    if i0 is None:
        said.append("I0 was not measured: changes of the beam are in the absorption")
        i0 = np.ones_like(measured)
    with np.errstate(invalid="ignore", divide="ignore"):
        if through is not None:
            mu = np.log(i0 / through)
            mu[~((i0 > 0) & (through > 0))] = np.nan
        else:
            mu = measured / i0
            mu[~(i0 > 0)] = np.nan
    return np.where(np.isfinite(mu), mu, np.nan), said


def _foil(currents: Mapping[str, Array]) -> Array | None:
    """Return the absorption of the foil, which stands behind It where there is one; None without one."""
    behind = currents.get("iref")
    before = currents.get("it", currents.get("i0"))
    if behind is None or before is None:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        foil = np.log(before / behind)
    return np.where((before > 0) & (behind > 0), foil, np.nan)


def _glitch_words(energies: Array, kinds: npt.NDArray[np.uint8]) -> str:
    parts = [
        f"glitches of {GLITCH_KINDS[kind]} {energies_in_words(energies[kinds == kind])}"
        for kind in range(1, len(GLITCH_KINDS))
        if (kinds == kind).any()
    ]
    return ", ".join(parts)


def _reducers(contract: RunContract, left_out: LeftOut) -> list[Reducer]:
    scan = cast(PointContract, contract.scan)
    return [CountRates(scan.dead_time_s), DarkCurrents(scan.n_darks)]


def _estimator(contract: RunContract, options: EstimatorOptions) -> XASEstimator | None:
    scan = cast(PointContract, contract.scan)
    if not set(scan.channels) & {"it", "iref", "fy", "tey"}:
        return None  # the incident intensity alone is no spectrum
    for method in EDGE_DEFINITIONS:
        warm_up(cast(Any, method))
    return XASEstimator(contract, options.references_for(scan.edge) or references_of(contract))


XAS = Technique(
    name="xas",
    contract=PointContract,
    reducers=_reducers,
    estimator=_estimator,
    channels={role: Channel(role, "scalar", optional=True) for role in _ROLES},
)
"""Point XAS with ion chambers, fluorescence or electron yield."""
