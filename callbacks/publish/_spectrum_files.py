"""Point spectra as files of the field: XDI, Athena projects, and one table of a campaign."""

import csv
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from callbacks.errors import ExportError
from callbacks.results import sample_name
from edge_fitting import (
    EDGE_DEFINITIONS,
    AthenaGroup,
    EdgeFittingError,
    write_athena_project,
)

from ._exports import replacing

_COLUMNS = (
    ("energy_ev", "energy", "eV"),
    ("mu", "mutrans", ""),
    ("foil_mu", "murefer", ""),
    ("normalized_mu", "norm", ""),
    ("mu_sigma", "mu_sigma", ""),
)
_SCALARS = (
    *(f"{name}{suffix}" for name in EDGE_DEFINITIONS for suffix in ("_ev", "_sigma_ev")),
    "axis_offset_ev",
    "axis_offset_sigma_ev",
    "edge_step",
    "edge_step_sigma",
    "soc",
    "soc_sigma",
    "soc_systematic",
    "valence",
    "valence_sigma",
    "valence_systematic",
)


def export_xdi(result: xr.Dataset, path: Path | str) -> Path:
    """Write a point spectrum as XDI (XAFS Data Interchange 1.0), replacing an older file as a whole.

    Columns are energy on the calibrated axis, absorption of sample and foil, normalised absorption and standard
    deviation, where there are any. The header says element, edge, sample, start and proposal as far as the run did, and
    under ``Nimco`` what put the axis right and the edge energies.

    Parameters
    ----------
    result : xarray.Dataset
        Of point XAS.
    path : Path or str
        File to write.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ExportError
        It is no point spectrum, or cannot be written.
    """
    _check(result)
    columns = [(key, label, unit) for key, label, unit in _COLUMNS if key in result]
    lines = ["# XDI/1.0 nimco"]
    for number, (_, label, unit) in enumerate(columns, 1):
        lines.append(f"# Column.{number}: {label} {unit}".rstrip())
    lines += [f"# {name}: {_one_line(value)}" for name, value in _header(result).items()]
    lines.append("# ///")
    lines += [f"# {_one_line(warning)}" for warning in result.attrs.get("warnings", ())]
    lines.append("#" + "-" * 30)
    lines.append("# " + "  ".join(label for _, label, _ in columns))
    rows = np.stack([result[key].values for key, _, _ in columns], axis=1)
    lines += ["  " + "  ".join(f"{value:.9g}" for value in row) for row in rows]
    text = "\n".join(lines) + "\n"
    return replacing(Path(path), lambda unfinished: _write(unfinished, text))


def export_athena(results: Sequence[xr.Dataset], path: Path | str) -> Path:
    """Write point spectra as one Athena project, each with its foil as a group of its own where there is one.

    Parameters
    ----------
    results : sequence of xarray.Dataset
        Of point XAS.
    path : Path or str
        File to write.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ExportError
        There are none, one is no point spectrum, or the file cannot be written.
    """
    groups = []
    for number, result in enumerate(results):
        _check(result)
        name, label = f"nim{number:04d}", sample_name(result.attrs) or result.attrs["raw_uid"][:8]
        energy = result["energy_ev"].values
        has_foil = "foil_mu" in result and bool(np.isfinite(result["foil_mu"].values).all())
        reference = f"ref{number:04d}" if has_foil else ""
        groups.append(
            AthenaGroup(
                name, label, energy, result["mu"].values, sigma=result["mu_sigma"].values, reference=reference
            )
        )
        if has_foil:
            groups.append(
                AthenaGroup(reference, f"  Ref {label}", energy, result["foil_mu"].values, reference=name)
            )
    try:
        return replacing(Path(path), lambda unfinished: _write_project(unfinished, groups))
    except EdgeFittingError as error:
        raise ExportError(f"the Athena project {path} cannot be written: {error}") from error


def export_campaign(results: Sequence[xr.Dataset], path: Path | str) -> Path:
    """Write one line for each point spectrum: what it is of, edge energies, step, state of charge, valence.

    Parameters
    ----------
    results : sequence of xarray.Dataset
        Of point XAS.
    path : Path or str
        CSV file to write.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ExportError
        There are none, one is no point spectrum, or the file cannot be written.
    """
    if not results:
        raise ExportError("a table of a campaign needs at least one result")
    for result in results:
        _check(result)
    head = ["raw_uid", "time", "sample", "edge", "sweeps_used", "sweeps", "glitches", *_SCALARS, "warnings"]

    def write(unfinished: Path) -> None:
        with unfinished.open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(head)
            for result in results:
                about = result.attrs
                used = int(result["sweep_used"].values.sum())
                numbers = [f"{float(result[name]):.9g}" if name in result else "" for name in _SCALARS]
                table.writerow(
                    [
                        about["raw_uid"],
                        _time(about),
                        sample_name(about),
                        about["edge"],
                        used,
                        result.sizes["sweep"],
                        result.sizes.get("glitch", 0),
                        *numbers,
                        "; ".join(map(_one_line, about.get("warnings", ()))),
                    ]
                )

    return replacing(Path(path), write)


def _check(result: xr.Dataset) -> None:
    if "mu" not in result or "energy_ev" not in result or result["mu"].dims != ("energy",):
        raise ExportError(
            f"the result of run {str(result.attrs.get('raw_uid', '?'))[:8]} is no point spectrum: export it with nimco "
            "export"
        )


def _header(result: xr.Dataset) -> dict[str, Any]:
    """Return the fields of the header in the name spaces of XDI, and our own."""
    about = result.attrs
    edge = str(about["edge"])
    sample: Mapping[str, Any] = about.get("sample") or {}
    proposal: Mapping[str, Any] = about.get("proposal") or {}
    calibration: Mapping[str, Any] = about.get("calibration") or {}
    fields: dict[str, Any] = {
        "Element.symbol": about["element"],
        "Element.edge": edge.partition("_")[2],
        "Element.reference": about["element"] if "foil_mu" in result else None,
        "Sample.name": sample_name(about) or None,
        "Sample.id": about["raw_uid"],
        **{f"Sample.{_word(key)}": value for key, value in sample.items() if key != "name"},
        **{f"Detector.{role}": device for role, device in (about.get("channels") or {}).items()},
        "Mono.d_spacing": about.get("d_spacing_angstrom"),
        "Scan.start_time": _time(about),
        "Scan.edge_energy": _number(result, "inflection_ev"),
        **{f"Facility.{_word(key)}": value for key, value in proposal.items()},
        "Nimco.measured_as": about.get("measured_as"),
        "Nimco.axis": calibration.get("axis"),
        "Nimco.axis_definition": calibration.get("definition"),
        "Nimco.sweeps": result.sizes.get("sweep"),
        **{f"Nimco.{name}": _number(result, name) for name in _SCALARS},
    }
    return {name: value for name, value in fields.items() if value not in (None, "", {})}


def _number(result: xr.Dataset, name: str) -> str | None:
    if name not in result or not np.isfinite(float(result[name])):
        return None
    return f"{float(result[name]):.9g}"


def _time(about: Mapping[str, Any]) -> str:
    return datetime.fromtimestamp(float(about.get("time") or 0.0), UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _word(key: Any) -> str:
    return re.sub(r"\W+", "_", str(key)) or "_"


def _one_line(value: Any) -> str:
    return " ".join(str(value).split())


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _write_project(path: Path, groups: Sequence[AthenaGroup]) -> None:
    write_athena_project(path, groups)
