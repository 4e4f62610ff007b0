"""Results of soft XAS as a series: gamma, valence and the share of each component against the cycle."""

import csv
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray as xr

from callbacks.errors import ExportError
from callbacks.results import sample_name

from ._exports import replacing

_SPEC = "NimcoSoftXAS"
_YIELDS = ("tey", "fy")


def export_soft_series(results: Sequence[xr.Dataset], path: Path | str) -> Path:
    """Write one line for each result of soft XAS, in order of the cycle, or of time where a sample has none.

    Parameters
    ----------
    results : sequence of xarray.Dataset
        Of soft XAS, at one edge or several.
    path : Path or str
        CSV file to write: what it is of (sample, cycle, voltage), every number with its standard deviation, and the
        share of each component in each yield.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ExportError
        There are none, one is of another technique, or the file cannot be written.
    """
    if not results:
        raise ExportError("a series needs at least one result")
    for result in results:
        if result.attrs.get("spec") != _SPEC:
            raise ExportError(
                f"the result of run {str(result.attrs.get('raw_uid', '?'))[:8]} is not of soft XAS: give those of "
                "soft_xas_scan"
            )
    cycles = [_of_sample(result, "cycle") for result in results]
    if all(isinstance(cycle, int | float) for cycle in cycles):
        order = sorted(range(len(results)), key=lambda k: cycles[k])
    else:
        order = sorted(range(len(results)), key=lambda k: float(results[k].attrs.get("time") or 0.0))
    rows = [_row(results[k]) for k in order]
    head = [*dict.fromkeys(name for row in rows for name in row if name != "warnings"), "warnings"]

    def write(unfinished: Path) -> None:
        with unfinished.open("w", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, head, restval="")
            table.writeheader()
            table.writerows(rows)

    return replacing(Path(path), write)


def _row(result: xr.Dataset) -> dict[str, Any]:
    about = result.attrs
    when = about.get("time")
    row: dict[str, Any] = {
        "raw_uid": about["raw_uid"],
        "time": datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds") if when else "",
        "sample": sample_name(about),
        "cycle": _of_sample(result, "cycle"),
        "voltage_v": _of_sample(result, "voltage_v"),
        "edge": about["edge"],
    }
    for name, values in result.data_vars.items():
        if values.ndim == 0:
            row[str(name)] = f"{float(values):.9g}"
    for key in _YIELDS:
        for kind in ("fraction", "fraction_sigma"):
            if f"{key}_{kind}" in result:
                shares = result[f"{key}_{kind}"].values
                for component, share in zip(about["component_names"], shares, strict=True):
                    row[f"{key}_{kind} {component}"] = f"{float(share):.9g}"
    row["warnings"] = "; ".join(" ".join(str(word).split()) for word in about.get("warnings", ()))
    return row


def _of_sample(result: xr.Dataset, key: str) -> Any:
    sample = result.attrs.get("sample")
    value = sample.get(key) if isinstance(sample, Mapping) else None
    return "" if value is None else value
