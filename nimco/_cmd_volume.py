"""`nimco volume`: particles, cracks, damage and state of charge of reconstructed volumes."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from callbacks import analyse_volume, draw_volume
from callbacks.publish import replacing
from nimco._soc_range import parse_soc_range
from nimco._stopping import ended_by_signal
from nimco.errors import NimcoError, VolumeError
from nimco.volumes import Volume, read_volume, write_volume

_SHARES = ("crack_share", "fine_share")
_CLASSES = ("least", "mild", "severe")


def volume(
    *,
    files: list[str],
    others: Mapping[str, str | None],
    voxel_size_nm: float | None,
    threshold: float | None,
    min_diameter_um: float | None,
    widest_crack_um: float | None,
    damage: str | None,
    plot: Path | None,
    table: Path | None,
    to: Path | None,
    soc_range: str | None,
) -> None:
    """Analyse volumes from files; print what was found, write picture, tables, and the labelled volume."""
    given = {name: place for name, place in others.items() if place is not None}
    if given and len(files) > 1:
        raise NimcoError(
            f"--{next(iter(given)).replace('_', '-')} belongs to one volume: give one FILE with it."
        )
    limits = parse_soc_range(soc_range)
    options: dict[str, Any] = {
        "threshold": threshold,
        "min_diameter_um": min_diameter_um,
        "widest_crack_um": widest_crack_um,
    }
    if damage is not None:
        options["damage_limits"] = _damage_limits(damage)
    console = Console()
    done: list[str] = []
    with ended_by_signal(lambda: f"written so far: {', '.join(done) or 'nothing'}"):
        found: list[xr.Dataset] = []
        for number, file in enumerate(files):
            held = read_volume(file, voxel_size_nm=voxel_size_nm, others=given)
            one = analyse_volume(
                held.density,
                voxel_size_nm=held.voxel_size_nm,
                soc=held.soc,
                soc_sigma=held.soc_sigma,
                mask=held.mask,
                source=held.source,
                **options,
            )
            console.print(particle_table(one))
            for line in sentences(one):
                console.print(line, highlight=False)
            if plot is not None:
                done.append(str(draw_volume(one, _numbered(plot, number, len(files)), limits)))
            if to is not None:
                done += map(str, write_volume(_labelled(one), _numbered(to, number, len(files))))
            found.append(one.drop_vars([name for name in one.data_vars if one[name].ndim == 3]))
        if table is not None:
            done += [str(path) for path in _write_tables(found, table)]
    for path in done:
        console.print(path, highlight=False, soft_wrap=True)


def particle_table(one: xr.Dataset) -> Table:
    """Build the table: one line a particle."""
    size = " x ".join(str(n) for n in one["density"].shape)
    title = f"{one.attrs['source'] or 'volume'}: {one.sizes['particle']} particles in {size} voxels"
    shown = Table(
        title=f"{title} of {one.attrs['voxel_size_nm']:g} nm",
        title_justify="left",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        caption="cut: by the border of the volume; ?: another class within one sigma; 0.486(2): 0.486 ± 0.002",
        caption_justify="left",
    )
    zones = ("soc_mean", "soc_surface_minus_bulk", "soc_crack_minus_bulk") if "soc" in one else ()
    heads = ("SOC", "surface\nless bulk", "at cracks\nless bulk")[: len(zones)]
    for head in ("particle", "diameter\n(um)", "cracks\n(%)", "of it fine\n(%)", "damage", *heads):
        shown.add_column(head, justify="right")
    for k in range(one.sizes["particle"]):
        row = {name: float(one[f"particle_{name}"].values[k]) for name in _columns(one)}
        damage = _CLASSES[int(row["damage"])] + ("" if row["damage_sure"] else " ?")
        shown.add_row(
            f"{int(row['label'])}{' cut' if row['at_border'] else ''}",
            f"{row['diameter_um']:.2f}",
            *(_with_error(100 * row[name], 100 * row[f"{name}_sigma"], 1) for name in _SHARES),
            damage,
            *(_in_brackets(row[name], row[f"{name}_sigma"]) for name in zones),
        )
    return shown


def sentences(one: xr.Dataset) -> list[str]:
    """Say threshold, sizes of cracks, classes and how damage changes through the volume."""
    about = one.attrs
    mild, severe = about["damage_limits"]
    counts = np.bincount(one["particle_damage"].values, minlength=3)
    wide, fine = (
        one[f"particle_{kind}_thickness_um"].values[one[f"particle_{kind}_share"].values > 0]
        for kind in ("wide", "fine")
    )
    lines = [
        f"material above {about['threshold']:.4g} (void {about['void_level']:.4g}, solid {about['solid_level']:.4g}, "
        f"noise {about['noise']:.2g}, smoothed by {about['smoothing_px']:g} voxels)",
        f"cracks: wide {_thickness(wide)}, fine {_thickness(fine)}",
        f"damage: {counts[2]} severe (cracks {100 * severe:g} % or more), {counts[1]} mild ({100 * mild:g} %), "
        f"{counts[0]} least",
    ]
    for axis, held in about["crack_share_slope_per_um"].items():
        if held["slope"] is not None:
            lines.append(
                f"crack share along {axis}s: {100 * held['slope']:+.3f} ± {100 * held['sigma']:.3f} % per um"
            )
    return lines


def _thickness(values: np.ndarray) -> str:
    values = values[np.isfinite(values)]
    return f"{np.median(values):.3g} um thick (median of {values.size} particles)" if values.size else "none"


def _columns(one: xr.Dataset) -> list[str]:
    return [str(name).removeprefix("particle_") for name in one.data_vars if one[name].dims == ("particle",)]


def _with_error(value: float, sigma: float, digits: int) -> str:
    if not np.isfinite(value):
        return ""
    return f"{value:.{digits}f}±{sigma:.{digits}f}"


def _in_brackets(value: float, sigma: float) -> str:
    """Write a value with its error in units of the last digit, so that a line is no wider than a terminal."""
    if not np.isfinite(value):
        return ""
    return f"{value:.3f}({max(round(1000 * sigma), 1) if np.isfinite(sigma) else '?'})"


def _numbered(path: Path, number: int, count: int) -> Path:
    return path if count == 1 else path.with_stem(f"{path.stem}-{number + 1}")


def _labelled(one: xr.Dataset) -> Volume:
    """Return the volume with the particle of each voxel, and its cracks."""
    return Volume(
        density=one["density"].values,
        voxel_size_nm=float(one.attrs["voxel_size_nm"]),
        soc=one["soc"].values if "soc" in one else None,
        soc_sigma=one["soc_sigma"].values if "soc_sigma" in one else None,
        particles=one["particle_label_map"].values,
        cracks=one["crack"].values,
        source=str(one.attrs["source"]),
    )


def _write_tables(found: list[xr.Dataset], path: Path) -> list[Path]:
    """Write particles, depths and damage by place, a CSV each, the file in the first column."""
    written = []
    for dim, suffix in (("particle", ""), ("depth", "_depths"), ("bin", "_damage")):
        parts = []
        for one in found:
            columns = {
                str(name).removeprefix(f"{dim}_"): one[name].values
                for name in one.data_vars
                if one[name].dims == (dim,)
            }
            if columns:
                parts.append(pd.DataFrame({"file": one.attrs["source"], **columns}))
        if parts:
            rows = pd.concat(parts, ignore_index=True)
            place = path.with_stem(f"{path.stem}{suffix}")
            written.append(replacing(place, partial(rows.to_csv, index=False)))
    return written


def _damage_limits(text: str) -> tuple[float, float]:
    try:
        mild, severe = (float(part) for part in text.split(","))
    except ValueError:
        raise VolumeError(f"--damage must be MILD,SEVERE such as 0.02,0.08, not '{text}'.") from None
    return mild, severe
