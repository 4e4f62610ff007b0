"""Results as files: HDF5 in the NeXus layout, TIFF and CSV."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from callbacks.errors import ExportError
from callbacks.results import CURRENT, VERSION, related, software_versions, variables_of
from scan_contract import optional_import

from ._containers import VERSION_MARK, analysed_s, container_name
from ._who_and_what import group_in, json_of, text_in, who_and_what, write_note, write_who_and_what

# Units of ours that the units of NeXus (UDUNITS) do not know; all are pure numbers there.
_PIXELS = ("px", "pixel")
_PURE_NUMBERS = ("", "optical depth", *_PIXELS)


def export_nexus(
    maps: xr.Dataset, path: Path | str, *, tables: Mapping[str, pd.DataFrame] | None = None
) -> Path:
    """Write a result to an HDF5 file in the NeXus layout, replacing an older one as a whole.

    Each array is an ``NXdata`` group with its axes (in um where the pixel size is known, else in pixels); standard
    deviations are the ``_errors`` of their value, and what is kept as a table an ``NXcollection``. The default plot is
    the signal of the result: the state of charge, or the edge energy where there is none. ``process`` holds what was
    fitted and how: edge, definition of the edge energy, references, parameters, versions, and all metadata as JSON.

    Parameters
    ----------
    maps : xarray.Dataset
        From `open_soc`, or as a subscriber gets it.
    path : Path
        File to write.
    tables : mapping of str to DataFrame, optional
        Further tables to go along.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ExportError
        It cannot be written.
    """
    return replacing(Path(path), lambda unfinished: _write_nexus(unfinished, maps, tables or {}))


def export_tiff(maps: xr.Dataset, folder: Path | str) -> list[Path]:
    """Write each array of two or more dimensions to a TIFF of its own, named by run, edge and array.

    Values are float32 (the status uint8) with NaN where there is no value; ImageJ reads the pixel size in
    um from them, and run, unit and definition from their info. More than two dimensions become a stack.

    Parameters
    ----------
    maps : xarray.Dataset
        From `open_soc`, or as a subscriber gets it.
    folder : Path
        Where to write; created where missing.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ExportError
        They cannot be written.
    """
    folder = Path(folder)
    return [
        replacing(folder / f"{export_stem(maps)}_{name}.tif", partial(_write_tiff, maps=maps, name=name))
        for name in map(str, maps.data_vars)
        if maps[name].ndim >= 2
    ]


def export_csv(maps: xr.Dataset, folder: Path | str) -> list[Path]:
    """Write what has one dimension to a CSV for each table or dimension, named by run, edge and table.

    Lines that begin with ``#`` say first what was measured, and by which analysis, where the result does.

    Parameters
    ----------
    maps : xarray.Dataset
        From `open_soc`, or as a subscriber gets it.
    folder : Path
        Where to write; created where missing.

    Returns
    -------
    list of Path
        The files: of full-field maps ``frames``, ``particles``, ``mean_spectrum`` and ``history``.

    Raises
    ------
    ExportError
        They cannot be written.
    """
    columns: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for about in variables_of(maps):
        if len(about.dims) == 1 and about.storage != "array":
            columns.setdefault(about.group, {})[about.column] = maps[about.name].values
    folder = Path(folder)
    return [
        replacing(
            folder / f"{export_stem(maps)}_{name}.csv",
            partial(_write_csv, maps=maps, table=pd.DataFrame(held)),
        )
        for name, held in columns.items()
    ]


def export_stem(maps: xr.Dataset) -> str:
    """Return what the files of a result begin with: its run, its edge, and its version where it is an older one."""
    version = "" if maps.encoding.get(CURRENT, True) else f"{VERSION_MARK}{maps.encoding[VERSION]}"
    return f"{maps.attrs['raw_uid'][:8]}_{container_name(maps)}{version}"


def replacing(path: Path, write: Callable[[Path], None]) -> Path:
    """Write a file beside its place, then put it there."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(unfinished)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(
            f"cannot write {path} ({error.strerror or error}); choose another folder or make room"
        ) from error
    return path


def _write_csv(path: Path, maps: xr.Dataset, table: pd.DataFrame) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        known = who_and_what(maps)
        for key, value in ({"run": maps.attrs["raw_uid"], **known} if known else {}).items():
            said = value if isinstance(value, str) else json_of(value)
            file.write(f"# {key}: {' '.join(said.splitlines())}\n")
        table.to_csv(file, index=False)


def _write_nexus(path: Path, maps: xr.Dataset, tables: Mapping[str, pd.DataFrame]) -> None:
    about = maps.attrs
    now = datetime.now(UTC).isoformat()
    name = container_name(maps)
    shown = [str(name) for name in maps.data_vars if _is_shown(maps, str(name))]
    with h5py.File(path, "w") as file:
        file.attrs.update(
            {
                "NX_class": "NXroot",
                "default": "entry",
                "file_time": now,
                "creator": "nimco",
                "HDF5_Version": _hdf5(),
            }
        )
        entry = group_in(file, "entry", "NXentry")
        entry.attrs["default"] = _default(maps, shown)
        title = f"{name.replace('_', ' ')} edge" if "edge" in about else name.replace("_", " ")
        text_in(entry, "title", f"{title}, run {about['raw_uid'][:8]}")
        text_in(entry, "entry_identifier", about["raw_uid"])
        write_who_and_what(entry, maps, shown)
        if about.get("time"):
            text_in(entry, "end_time", datetime.fromtimestamp(float(about["time"]), UTC).isoformat())
        for variable in shown:
            _write_data(entry, maps, variable)
        if "mean_optical_depth" in maps and maps["mean_optical_depth"].size:
            _write_spectrum(entry, maps)
        _write_references(entry, about)
        _write_process(entry, maps)
        _write_tables(entry, maps, tables)


def _is_shown(maps: xr.Dataset, name: str) -> bool:
    """Return whether a variable is data to be plotted: an array, or a value along one dimension."""
    attrs, dims = maps[name].attrs, maps[name].dims
    if attrs.get("role") == "sigma" and maps[attrs["of"]].dims == dims:
        return False
    return len(dims) > 1 or (len(dims) == 1 and attrs.get("role") == "value")


def _default(maps: xr.Dataset, shown: list[str]) -> str:
    """Return what a viewer shows first: the signal, or what has values where that has none."""
    signal = str(maps.attrs.get("signal"))
    values = [name for name in shown if maps[name].attrs.get("role") == "value"]
    wanted = [signal, *values] if signal in shown else values
    return next((name for name in wanted if _has_values(maps, name)), wanted[0] if wanted else "process")


def _write_data(entry: h5py.Group, maps: xr.Dataset, name: str) -> None:
    variable = maps[name]
    dims = list(map(str, variable.dims))
    group = group_in(entry, name, "NXdata", signal=name, axes=dims)
    data = _dataset(group, name, variable.values, variable.attrs)
    for sigma in related(maps, name, "sigma"):
        _dataset(group, f"{name}_errors", maps[sigma].values, {"units": variable.attrs.get("units", "")})
        group.attrs["uncertainties"] = f"{name}_errors"
    for axis, dim in enumerate(dims):
        along = [held for held in maps.coords.values() if held.dims == (dim,)]
        if along:
            _dataset(group, dim, along[0].values, along[0].attrs)
        else:
            unit = "pixel" if dim in ("row", "column") else ""
            _dataset(group, dim, np.arange(variable.sizes[dim], dtype=float), {"units": unit})
        group.attrs[f"{dim}_indices"] = axis
    if "long_name" not in data.attrs:
        data.attrs["long_name"] = name


def _write_spectrum(entry: h5py.Group, maps: xr.Dataset) -> None:
    group = group_in(entry, "mean_spectrum", "NXdata", signal="optical_depth", axes=["energy"])
    _dataset(group, "optical_depth", maps["mean_optical_depth"].values, maps["mean_optical_depth"].attrs)
    _dataset(group, "energy", maps["energy_ev"].values, maps["energy_ev"].attrs)


def _write_references(entry: h5py.Group, about: Mapping[str, Any]) -> None:
    references = about.get("references")
    if not references:
        return
    group = group_in(entry, "references", "NXdata", signal="mu", axes=["soc", "energy"])
    _dataset(group, "mu", np.asarray(references["mu"], float), {})
    _dataset(group, "soc", np.asarray(references["soc"], float), {})
    _dataset(group, "energy", np.asarray(references["energy_ev"], float), {"units": "eV"})


def _write_process(entry: h5py.Group, maps: xr.Dataset) -> None:
    about = maps.attrs
    process = group_in(entry, "process", "NXprocess")
    versions = about.get("versions") or software_versions()
    text_in(process, "program", "nimco")
    text_in(process, "version", versions.get("nimco", ""))
    if began_s := analysed_s(about):
        text_in(process, "date", datetime.fromtimestamp(began_s, UTC).isoformat())
    if VERSION in maps.encoding:
        process.create_dataset("result_version", data=int(maps.encoding[VERSION]))
    for key in ("analysis", "reference_sources"):
        if about.get(key):
            write_note(process, key, json_of(about[key]))
    for key in ("edge", "element", "method", "definition", "raw_path", "exit_status"):
        text_in(process, "edge_energy_definition" if key == "definition" else key, str(about.get(key) or ""))
    process.create_dataset("partial", data=bool(about.get("partial")))
    process.create_dataset("n_frames", data=int(about.get("n_frames", 0)))
    if about.get("pixel_size_nm"):
        process.create_dataset("pixel_size", data=float(about["pixel_size_nm"])).attrs["units"] = "nm"
    write_note(process, "metadata", json_of(about))


def _write_tables(entry: h5py.Group, maps: xr.Dataset, further: Mapping[str, pd.DataFrame]) -> None:
    for about in variables_of(maps):
        if len(about.dims) == 1 and about.storage != "array" and about.group not in further:
            group = entry.get(about.group)
            if group is None:
                group = group_in(entry, about.group, "NXcollection")
            if about.column not in group and group.attrs["NX_class"] == "NXcollection":
                _dataset(group, about.column, maps[about.name].values, about.attrs)
    for name, table in further.items():
        group = group_in(entry, name, "NXcollection")
        units = {
            about.column: about.attrs.get("units", "") for about in variables_of(maps) if about.group == name
        }
        for column in table.columns:
            _dataset(group, str(column), table[column].to_numpy(), {"units": units.get(str(column), "")})


def _dataset(
    group: h5py.Group, name: str, values: npt.NDArray[Any], attrs: Mapping[str, Any]
) -> h5py.Dataset:
    """Write an array, numbers with their unit; text, times and yes or no have none."""
    values = np.asarray(values)
    if values.dtype.kind in "mM":
        values = np.datetime_as_string(values) if values.dtype.kind == "M" else values.astype(str)
    unit, meaning = str(attrs.get("units", "")), attrs.get("long_name")
    if values.dtype.kind in "OUS":
        texts = np.vectorize(_as_text, otypes=[object])(values) if values.size else values.astype(object)
        data = group.create_dataset(name, data=texts, dtype=h5py.string_dtype())
    else:
        packed = {"compression": "gzip", "shuffle": True} if values.ndim > 1 and values.size else {}
        data = group.create_dataset(name, data=values, **packed)
        if values.dtype.kind != "b":
            data.attrs["units"] = "1" if unit in _PURE_NUMBERS else unit
    if unit in _PIXELS:
        meaning = f"{meaning or name}, in pixels"
    if meaning is not None:
        data.attrs["long_name"] = meaning
    return data


def _as_text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _write_tiff(path: Path, maps: xr.Dataset, name: str) -> None:
    about = maps.attrs
    values = maps[name].values
    with optional_import("files", "TIFF files"):
        import tifffile
    pixel_um = float(about["pixel_size_nm"]) / 1000 if about.get("pixel_size_nm") else None
    info = {
        "run": about["raw_uid"],
        "edge": container_name(maps),
        "map": name,
        "unit": maps[name].attrs.get("units", ""),
        "meaning": maps[name].attrs.get("long_name", ""),
        "edge_energy_definition": about.get("definition"),
        "partial": bool(about.get("partial")),
        "status_legend": about.get("status_legend"),
        **who_and_what(maps),
    }
    while values.ndim > 3:
        values = values.reshape(-1, *values.shape[2:])
    values = values.astype(np.uint8) if values.dtype.kind == "b" else values
    values = values.astype(np.float32) if values.dtype.str[1:] not in ("u1", "u2", "f4") else values
    metadata: dict[str, Any] = {"axes": "ZYX"[-values.ndim :], "Info": json_of(info)}
    finite = values[np.isfinite(values)]
    if finite.size:
        metadata |= {"min": float(np.percentile(finite, 1)), "max": float(np.percentile(finite, 99))}
    if pixel_um is not None:
        metadata["unit"] = "um"
    tifffile.imwrite(
        path,
        values,
        imagej=True,
        resolution=None if pixel_um is None else (1 / pixel_um, 1 / pixel_um),
        metadata=metadata,
    )


def _has_values(maps: xr.Dataset, name: str) -> bool:
    return name in maps and bool(np.isfinite(maps[name].values).any())


def _hdf5() -> str:
    return str(h5py.version.hdf5_version)
