"""Energy grids from files: lists of energies, and tables of regions."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from beamline_plans.errors import GridError
from edge_fitting import EdgeFittingError, TextTable, Title, read_text_table

from ._regions import DEFAULT_EXPOSURE_S, EnergyRegion

__all__ = ["read_grid_file"]

_KEV_BELOW = 100.0
_ENERGY = ("energy", "energies", "e", "photon_energy", "mono_energy")
_EXPOSURE = (
    "exposure",
    "exposure_time",
    "dwell",
    "dwell_time",
    "count_time",
    "integration_time",
    "time",
    "t",
)
_START, _STOP, _STEP = ("start", "from", "begin"), ("stop", "end", "to"), ("step", "increment", "delta")
_SECONDS = {"": 1.0, "s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6}

Column = npt.NDArray[np.float64]


def read_grid_file(path: Path) -> tuple[list[float], list[float], list[EnergyRegion]]:
    """Return energies (eV) and exposures (s) of a list of energies, or the regions of a table of regions.

    Raises
    ------
    GridError
        If the file cannot be read, or its columns cannot be told apart.
    """
    try:
        table = read_text_table(path)
        titles = table.titles(lambda name: name in (*_ENERGY, *_EXPOSURE, *_START, *_STOP, *_STEP))
    except EdgeFittingError as error:
        raise GridError(f"The grid {error}") from error
    if titles is None:
        raise GridError(
            f"The grid file {path} has no column energy_ev; its first line must be energy_ev,exposure_s."
        )
    if np.isnan(table.values).all(axis=0).any():
        raise GridError(f"The grid file {path} has a column without values; remove it.")
    exposure = _exposures(table, titles)
    ends = [
        column for names in (_START, _STOP, _STEP) if (column := _column(table, titles, names)) is not None
    ]
    if len(ends) == 3:
        return [], [], _regions(table, ends, exposure)
    energy = _column(table, titles, _ENERGY)
    if energy is None:
        named = ", ".join(title.name or "?" for title in titles)
        raise GridError(
            f"The grid file {path} has no column energy_ev, only {named}; its first line must be energy_ev,exposure_s."
        )
    return _in_ev(table, *energy).tolist(), exposure.tolist(), []


def _regions(table: TextTable, ends: list[tuple[Title, Column]], exposure: Column) -> list[EnergyRegion]:
    units = {title.unit for title, _ in ends}
    if units == {""}:
        # The sizes of start and stop tell the unit of all three.
        in_kev = {bool(column.max() < _KEV_BELOW) for _, column in ends[:2]}
        units = {"kev" if in_kev == {True} else "ev"}
        if len(in_kev) > 1:
            raise GridError(f"The grid file {table.path} mixes keV and eV; give start, stop and step in eV.")
    unit = units.pop()
    if units:
        raise GridError(f"The grid file {table.path} mixes units; give start, stop and step in eV.")
    start, stop, step = (_in_ev(table, Title(title.name, unit), column) for title, column in ends)
    return [EnergyRegion(*map(float, row)) for row in zip(start, stop, step, exposure, strict=True)]


def _column(
    table: TextTable, titles: tuple[Title, ...], names: tuple[str, ...]
) -> tuple[Title, Column] | None:
    found = [index for index, title in enumerate(titles) if title.name in names]
    if len(found) > 1:
        named = ", ".join(titles[index].name for index in found)
        raise GridError(f"The grid file {table.path} has several columns for one thing ({named}); keep one.")
    return (titles[found[0]], table.values[:, found[0]]) if found else None


def _exposures(table: TextTable, titles: tuple[Title, ...]) -> Column:
    found = _column(table, titles, _EXPOSURE)
    if found is None:
        return np.full(table.values.shape[0], DEFAULT_EXPOSURE_S)
    title, values = found
    if title.unit not in _SECONDS:
        raise GridError(f"The grid file {table.path} gives exposures in {title.unit}; give them in s or ms.")
    return values * _SECONDS[title.unit]


def _in_ev(table: TextTable, title: Title, values: Column) -> Column:
    """Energies in eV: keV where the title says so, or where it says nothing and no number could be eV."""
    if title.unit not in ("", "ev", "kev"):
        raise GridError(f"The grid file {table.path} gives '{title.name}' in {title.unit}; give eV or keV.")
    finite = values[np.isfinite(values)]
    unnamed_kev = title.unit == "" and finite.size and finite.max() < _KEV_BELOW
    if title.unit == "kev" and finite.size and finite.max() >= _KEV_BELOW:
        raise GridError(
            f"The grid file {table.path} gives {finite.max():g} in keV by its title, which is eV by its size; "
            "correct it."
        )
    # Rounding removes the 8345.000000000001 that a factor of 1000 gives.
    return np.round(values * 1000.0, 6) if title.unit == "kev" or unnamed_kev else values
