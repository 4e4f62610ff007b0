"""State of charge from fluorescence over an edge, with the references of one composition or of that of each point."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from edge_fitting import (
    CompositionReferences,
    EdgeFittingError,
    ReferenceSeries,
    fit_composed_soc,
    fit_stack,
    without_saturation,
)
from scan_contract import RunContract, XRFContract

from ._planned import references_of

_FEWEST = 5
# What of an edge's step a point must have to be read.
_LEAST_STEP = 6.0
_THICK = 0.9


def xanes_soc(contract: RunContract, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return state of charge and its sigma for each point, and what is to be said of them.

    Parameters
    ----------
    contract : RunContract
        Of a map over energies.
    values : mapping
        The result so far: ``series`` and its sigma, and the composition.

    Raises
    ------
    EdgeFittingError
        The series cannot be fitted.
    """
    scan = cast(XRFContract, contract.scan)
    references = references_of(contract)
    if references is None and not scan.composition_references:
        return {}, []
    energies = np.asarray(scan.energies_ev)
    if energies.size < _FEWEST:
        raise EdgeFittingError(f"{energies.size} energies are too few, take {_FEWEST} at least")
    series, sigma = np.asarray(values["series"]), np.asarray(values["series_sigma"])
    step = np.nanmax(series, axis=0) - np.nanmin(series, axis=0)
    bright = np.isfinite(series).all(axis=0) & (step > _LEAST_STEP * np.nanmax(sigma, axis=0))
    if not bright.any():
        raise EdgeFittingError("no point shows the edge beyond its noise")
    if "areal_density" in values:
        series = _unsaturated(scan, energies, series, values, bright)
    scale = float(np.median(step[bright]))
    stack = np.where(bright, series / scale, np.nan).astype(np.float32)
    weights = 1.0 / np.maximum((sigma[:, bright] ** 2).mean(axis=1), 1e-12)
    weights = weights / weights.mean()
    said = []
    if "areal_density" not in values:
        said.append(
            "without a standard the saturation of the fluorescence is not corrected: the state of charge of points "
            "that absorb is off"
        )
    elif np.nanmin(values["escape"][:, bright]) < _THICK:
        said.append(
            "the sample absorbs a good part of the fluorescence: its saturation over the edge is corrected as for an "
            "even layer"
        )
    if scan.composition_references:
        return _composed(scan, energies, stack, values, weights, said)
    assert references is not None
    maps = fit_stack(
        energies, stack[:, bright][:, None, :], edge=scan.edge, references=references, weights=weights
    )
    out = {name: np.full(bright.shape, np.nan, np.float32) for name in ("soc", "soc_sigma")}
    out["soc"][bright], out["soc_sigma"][bright] = maps.soc[0], maps.soc_sigma[0]
    return out, [*said, *maps.warnings]


def _composed(
    scan: XRFContract, energies: Any, stack: Any, values: Mapping[str, Any], weights: Any, said: list[str]
) -> tuple[dict[str, Any], list[str]]:
    if "ni_fraction" not in values or scan.edge != "Ni_K":
        raise EdgeFittingError(
            "references of several compositions need the fraction of nickel and its K edge"
        )
    known = [
        CompositionReferences(one.fraction, ReferenceSeries.from_dict(one.references), one.name)
        for one in scan.composition_references
    ]
    found = fit_composed_soc(
        energies,
        stack,
        values["ni_fraction"],
        known,
        fraction_sigma=values["ni_fraction_sigma"],
        edge=scan.edge,
        weights=weights,
    )
    out = {"soc": found.soc, "soc_sigma": found.soc_sigma, "soc_supported": found.supported.astype(np.int16)}
    return out, [*said, *found.warnings]


def _unsaturated(
    scan: XRFContract, energies: Any, series: Any, values: Mapping[str, Any], bright: Any
) -> Any:
    """Return the series as a thin sample would give it."""
    element = scan.edge.partition("_")[0]
    density = {
        name: values["areal_density"][k][bright]
        for k, name in enumerate(values["element_names"])
        if "_" not in name
    }
    out = np.full_like(series, np.nan)
    out[:, bright] = without_saturation(
        energies,
        series[:, bright],
        density,
        element,
        mass_ratio=values["mass_ratio"],
        angles_deg=values["angles_deg"],
    )
    return out
