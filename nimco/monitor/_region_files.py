"""Spectra of regions as files: a table (CSV) of all, and one of them as XDI."""

from collections.abc import Iterable, Iterator
from typing import Any

from nimco._version import __version__

from ._region_spectra import RegionResult

_COLUMNS = ("region", "energy_ev", "optical_depth", "scatter", "fit", "residual")


def csv_of(results: Iterable[RegionResult], about: dict[str, Any]) -> str:
    """Return a table with a line per region and energy; lines before it begin with ``#``."""
    lines = [f"# {key}: {value}" for key, value in about.items() if value not in (None, "")]
    lines.append(f"# made by: nimco {__version__}")
    table = []
    for result in results:
        lines += [f"# {line}" for line in _described(result)]
        if result.spectrum is None:
            continue
        for row in _rows(result):
            table.append(",".join((_quoted(result.region.name), *row)))
    return "\n".join([*lines, ",".join(_COLUMNS), *table]) + "\n"


def xdi_of(result: RegionResult, about: dict[str, Any]) -> str:
    """Return the spectrum of a region as an XDI file (X-ray Data Interchange, version 1.0)."""
    element, _, edge = str(about.get("edge") or "").partition("_")
    lines = [
        f"# XDI/1.0 nimco/{__version__}",
        "# Column.1: energy eV",
        "# Column.2: mutrans",
        "# Column.3: scatter",
        "# Column.4: fit",
        "# Column.5: residual",
        f"# Element.symbol: {element}",
        f"# Element.edge: {edge}",
        *(
            f"# Nimco.{key.replace(' ', '_')}: {value}"
            for key, value in about.items()
            if key not in ("edge", "sample") and value not in (None, "")
        ),
    ]
    if about.get("sample"):
        lines.append(f"# Sample.name: {about['sample']}")
    lines += ["# ///", *(f"# {line}" for line in _described(result)), "# ---"]
    lines.append("# energy mutrans scatter fit residual")
    lines += [" ".join(part or "nan" for part in row) for row in _rows(result)]
    return "\n".join(lines) + "\n"


def _described(result: RegionResult) -> Iterator[str]:
    region = result.region
    where = "; ".join(f"{row:.1f} {column:.1f}" for row, column in region.points)
    pixels = "" if result.spectrum is None else f", {result.spectrum.n_pixels} pixels"
    yield f"region {region.name}: {region.kind}, row and column {where}{pixels}"
    if result.note:
        yield f"region {region.name}: {result.note}"
    if result.fit is not None:
        values = ", ".join(
            f"{name} {value:.6g}" for name, value in result.fit.values.items() if value is not None
        )
        if values:
            yield f"region {region.name}: {values}"


def _rows(result: RegionResult) -> Iterator[tuple[str, ...]]:
    spectrum, fit = result.spectrum, result.fit
    if spectrum is None:
        return
    curve = None if fit is None else fit.curve
    for index, (energy, depth, scatter) in enumerate(
        zip(spectrum.energy_ev, spectrum.optical_depth, spectrum.scatter, strict=True)
    ):
        model = ("", "") if curve is None else (f"{curve[index]:.7g}", f"{depth - curve[index]:.4g}")
        yield f"{energy:.4f}", f"{depth:.7g}", f"{scatter:.4g}", *model


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text
