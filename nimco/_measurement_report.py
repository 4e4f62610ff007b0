"""The report of a measurement: one HTML file with all that belongs to its results, to be read, printed and kept."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from tiled.queries import Key

from callbacks import CallbackError, LiveSOCPlot, open_soc
from callbacks.results import sample_name
from nimco._report import figures_of
from nimco._stored_runs import no_run
from nimco._version import __version__
from nimco.errors import NimcoError

_MOST_PARTICLES = 200
_VERSION_MARK = "@"
# What a report says of each particle, where its table has it: column, heading, digits.
_PARTICLE_COLUMNS = (
    ("label", "particle", 0),
    ("diameter_um", "diameter (µm)", 2),
    ("pixels", "pixels", 0),
    ("soc_mean", "SOC", 3),
    ("soc_mean_sigma", "±", 3),
    ("soc_intrinsic_spread", "spread", 3),
    ("soc_rim_minus_bulk", "rim − bulk", 3),
    ("soc_crack_minus_bulk", "cracks − bulk", 3),
    ("edge_energy_mean_ev", "edge energy (eV)", 2),
    ("crack_share", "crack share", 3),
)
_STYLE = """
body { font: 10.5pt/1.4 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 17pt; margin: 0 0 .2rem; } h2 { font-size: 13pt; border-bottom: 1px solid #bbb; margin-top: 2rem; }
h3 { font-size: 11pt; margin: 1rem 0 .3rem; } p.sub { color: #555; margin: 0 0 1rem; }
table { border-collapse: collapse; font-size: 9pt; }
th, td { padding: .12rem .6rem .12rem 0; text-align: left; vertical-align: top; }
thead th { border-bottom: 1px solid #999; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
img { width: 100%; height: auto; }
ul.warn { background: #fff4e5; border-left: 4px solid #d55e00; padding: .5rem 1.5rem; }
code { font-size: 9pt; } .wide { overflow-x: auto; }
@page { margin: 15mm; }
@media print { body { margin: 0; max-width: none; } h2 { break-before: page; } h2.first { break-before: auto; }
  tr, img, ul.warn { break-inside: avoid; } thead { display: table-header-group; } .wide { overflow: visible; } }
"""


def results_of_measurement(client: Any, name: str) -> tuple[str, list[xr.Dataset]]:
    """Return the results of a measurement, in the order in which its runs began.

    Parameters
    ----------
    client : tiled client
        Root of a server.
    name : str
        A ``scan_group``, or a run (or the beginning of its uid) whose measurement is meant.

    Returns
    -------
    scan_group : str
    results : list of xarray.Dataset
        The current version of each.

    Raises
    ------
    NimcoError
        There is no such measurement, or it has no results.
    """
    raw, maps = client["raw"], client["maps"]
    group = name
    starts = _starts_of(raw, group)
    if not starts:
        try:
            start = raw[name].metadata["start"]
        except (KeyError, ValueError) as error:  # less than five characters of a uid are no key for Tiled
            raise NimcoError(
                f"There is no measurement (scan_group) {name} in Tiled, and {no_run(name)}."
            ) from error
        group = str(start.get("scan_group") or start["uid"])
        starts = _starts_of(raw, group) or [start]
    results = []
    for start in starts:
        uid = start["uid"]
        if uid not in maps:
            continue
        for edge in maps[uid]:
            if _VERSION_MARK not in edge:
                try:
                    results.append(open_soc(client, uid, edge))
                except CallbackError:
                    continue  # another analysis is at it, or it is no result of ours
    if not results:
        raise NimcoError(
            f"The measurement {group} has {len(starts)} run(s) and no maps yet; analyse them with: nimco reanalyse "
            f"{' '.join(start['uid'][:8] for start in starts[:3])}"
        )
    return group, results


def report_html(group: str, results: Sequence[xr.Dataset]) -> str:
    """Write the report of a measurement; nothing in it is fetched from elsewhere.

    Parameters
    ----------
    group : str
        Its ``scan_group``.
    results : sequence of xarray.Dataset
        Its results.
    """
    first = results[0].attrs
    title = sample_name(first) or f"measurement {group[:8]}"
    said = [f"measurement {group}"]
    for key in ("field_of_view", "proposal"):
        if first.get(key):
            said.append(f"{key.replace('_', ' ')}: {_text(first[key])}")
    said.append(f"written {datetime.now().astimezone():%Y-%m-%d %H:%M %Z} by nimco {__version__}")
    parts = [
        f"<h1>{escape(title)}</h1><p class='sub'>{escape(' · '.join(said))}</p>",
        _overview(results),
        *(_section(result, number) for number, result in enumerate(results)),
    ]
    return (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def write_report(group: str, results: Sequence[xr.Dataset], path: Path) -> Path:
    """Write the report into a file, which appears as a whole.

    Raises
    ------
    NimcoError
        It cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(report_html(group, results), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise NimcoError(
            f"{path} cannot be written ({error.strerror}); name another file with --to."
        ) from error
    return path


def _starts_of(raw: Any, group: str) -> list[dict[str, Any]]:
    starts = [run.metadata["start"] for run in raw.search(Key("start.scan_group") == group).values()]
    return sorted(starts, key=lambda start: start.get("time", 0.0))


def _overview(results: Sequence[xr.Dataset]) -> str:
    figures = [figures_of(result) if "pixels" in result.attrs else {} for result in results]
    heads = ["", *(_edge(result) for result in results)]
    rows = [
        ["run", *(str(result.attrs["raw_uid"])[:8] for result in results)],
        ["frames", *(_frames(result) for result in results)],
        ["state", *(_state(result) for result in results)],
    ]
    for label in dict.fromkeys(label for column in figures for label in column):
        rows.append([label, *(column.get(label, "") for column in figures)])
    rows.append(["warnings", *(str(len(result.attrs.get("warnings") or ())) for result in results)])
    return _table(heads, rows)


def _section(result: xr.Dataset, number: int) -> str:
    about = result.attrs
    uid = str(about["raw_uid"])
    version = result.encoding.get("version")
    first = " class='first'" if number == 0 else ""
    parts = [
        f"<h2{first}>{escape(_edge(result))}, run <code>{escape(uid)}</code>"
        f"{'' if version is None else f', version {version}'}</h2>"
    ]
    if warnings := about.get("warnings"):
        parts.append("<ul class='warn'>" + "".join(f"<li>{escape(said)}</li>" for said in warnings) + "</ul>")
    else:
        parts.append("<p>No warnings.</p>")
    parts.append(
        f"<img alt='maps, histogram and spectrum of run {escape(uid[:8])}' src='{_picture(result)}'>"
    )
    parts += [_particles(result), _parameters(result), _references(about), _versions(about)]
    return "".join(parts)


def _picture(result: xr.Dataset) -> str:
    buffer = io.BytesIO()
    drawing = LiveSOCPlot(Path(), show=False)
    try:
        drawing.render(result).savefig(buffer, format="png", dpi=130)
    finally:
        drawing.close()
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _particles(result: xr.Dataset) -> str:
    n_particles = result.sizes.get("particle", 0)
    columns = [
        (result[f"particle_{name}"].values, head, digits)
        for name, head, digits in _PARTICLE_COLUMNS
        if f"particle_{name}" in result and result[f"particle_{name}"].dims == ("particle",)
    ]
    if not n_particles or not columns:
        return ""
    rows = [
        [_number(values[k], digits) for values, _, digits in columns]
        for k in range(min(n_particles, _MOST_PARTICLES))
    ]
    note = "" if n_particles <= _MOST_PARTICLES else f", the first {_MOST_PARTICLES}"
    heads = [head for _, head, _ in columns]
    return f"<h3>Particles ({n_particles}{note})</h3><div class='wide'>{_table(heads, rows, numeric_first=True)}</div>"


def _parameters(result: xr.Dataset) -> str:
    about = result.attrs
    asked = about.get("parameters") or {}
    energies, exposures = asked.get("energies_ev") or [], asked.get("exposure_s") or []
    options = (about.get("analysis") or {}).get("options") or {}
    rows: list[list[Any]] = [
        ["definition of the edge energy", about.get("definition")],
        ["estimator", about.get("method")],
    ]
    if energies:
        rows.append(["energies", f"{len(energies)}, {min(energies):.1f}–{max(energies):.1f} eV"])
    if exposures:
        low, high = min(exposures), max(exposures)
        rows.append(["exposure", f"{low:g} s" if low == high else f"{low:g}–{high:g} s"])
    rows += [
        ["repeats", asked.get("repeats")],
        ["pixel size", None if not about.get("pixel_size_nm") else f"{about['pixel_size_nm']:g} nm"],
        ["plan", about.get("plan_name")],
        ["calibration", about.get("calibration")],
        *([f"analysis: {key.replace('_', ' ')}", value] for key, value in options.items()),
    ]
    shown = [[str(label), _text(value)] for label, value in rows if value not in (None, "", {}, [])]
    return f"<h3>Parameters</h3>{_table([], shown)}"


def _references(about: Mapping[str, Any]) -> str:
    sources = about.get("reference_sources") or []
    held = about.get("references")
    if not held:
        return "<h3>References</h3><p>None: there is an edge energy and no state of charge.</p>"
    states = ", ".join(f"{state:g}" for state in held.get("soc", []))
    energies = held.get("energy_ev") or [np.nan]
    said = f"<p>{len(held.get('soc', []))} spectra, SOC {escape(states)}, {energies[0]:.1f}–{energies[-1]:.1f} eV.</p>"
    if not sources:
        return f"<h3>References</h3>{said}<p>Where they came from was not recorded.</p>"
    keys = list(dict.fromkeys(key for source in sources for key in source))
    rows = [[_text(source.get(key)) for key in keys] for source in sources]
    heads = [key.replace("_", " ") for key in keys]
    return f"<h3>References</h3>{said}<div class='wide'>{_table(heads, rows)}</div>"


def _versions(about: Mapping[str, Any]) -> str:
    analysis = about.get("analysis") or {}
    began = analysis.get("began_s")
    rows = [[name, _text(version)] for name, version in (about.get("versions") or {}).items()]
    if began:
        rows.insert(0, ["analysed", f"{datetime.fromtimestamp(began).astimezone():%Y-%m-%d %H:%M:%S %Z}"])
    return f"<h3>Software</h3>{_table([], rows)}" if rows else ""


def _table(heads: Iterable[str], rows: Iterable[Sequence[str]], *, numeric_first: bool = False) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if numeric_first or (place and len(row) > 2) else ''}>{escape(str(cell))}</{tag}>"
            for place, cell in enumerate(row)
        )

    head = "".join(f"<tr>{cells(list(heads), 'th')}</tr>" for heads in [list(heads)] if heads)
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table>{f'<thead>{head}</thead>' if head else ''}<tbody>{body}</tbody></table>"


def _edge(result: xr.Dataset) -> str:
    return str(result.attrs.get("edge") or result.attrs.get("technique") or "").replace("_", " ")


def _frames(result: xr.Dataset) -> str:
    about = result.attrs
    if about.get("n_frames") is None:
        return ""
    return f"{about['n_frames']} of {about.get('frames_expected', about['n_frames'])}"


def _state(result: xr.Dataset) -> str:
    about = result.attrs
    if not about.get("final"):
        return "running"
    return "partial" if about.get("partial") else "complete"


def _number(value: Any, digits: int) -> str:
    if value is None or not np.isfinite(value):
        return ""
    return f"{value:.{digits}f}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_text(held)}" for key, held in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(held) for held in value)
    if isinstance(value, float):
        return f"{value:.8g}"
    return str(value)
