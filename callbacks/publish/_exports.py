"""Maps as files: HDF5 in the NeXus layout, and TIFF."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import xarray as xr

from callbacks.errors import ExportError
from scan_contract import optional_import

from ._schema import software_versions

_SIGMA_OF = {"soc": "soc_sigma", "edge_energy_ev": "edge_energy_sigma_ev"}


def export_nexus(
    maps: xr.Dataset, path: Path | str, *, tables: Mapping[str, pd.DataFrame] | None = None
) -> Path:
    """Write the maps of a run to an HDF5 file in the NeXus layout, replacing an older one as a whole.

    Each map is an ``NXdata`` group with axes in um (pixels where the pixel size is not known); standard
    deviations are the ``_errors`` of their map. The default plot is the state of charge, or the edge energy
    where there is none. ``process`` holds what was fitted and how: edge, definition of the edge energy,
    references, parameters, versions, and all metadata as JSON.

    Parameters
    ----------
    maps : xarray.Dataset
        From `open_soc`.
    path : Path
        File to write.
    tables : mapping of str to DataFrame, optional
        Tables to go along, for example those of `open_soc_table`.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ExportError
        It cannot be written.
    """
    return _replacing(Path(path), lambda unfinished: _write_nexus(unfinished, maps, tables or {}))


def export_tiff(maps: xr.Dataset, folder: Path | str) -> list[Path]:
    """Write each map to a TIFF of its own, named by run, edge and map.

    Values are float32 (the status uint8) with NaN where there is no value; ImageJ reads the pixel size in
    um from them, and run, unit and definition from their info.

    Parameters
    ----------
    maps : xarray.Dataset
        From `open_soc`.
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
    stem = f"{maps.attrs['raw_uid'][:8]}_{maps.attrs['edge']}"
    return [
        _replacing(folder / f"{stem}_{name}.tif", partial(_write_tiff, maps=maps, name=name))
        for name in map(str, maps.data_vars)
    ]


def _replacing(path: Path, write: Callable[[Path], None]) -> Path:
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


def _write_nexus(path: Path, maps: xr.Dataset, tables: Mapping[str, pd.DataFrame]) -> None:
    about = maps.attrs
    now = datetime.now(UTC).isoformat()
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
        entry = _group(file, "entry", "NXentry")
        entry.attrs["default"] = "soc" if _has_values(maps, "soc") else "edge_energy_ev"
        _text(entry, "title", f"{about['edge'].replace('_', ' ')} edge, run {about['raw_uid'][:8]}")
        _text(entry, "entry_identifier", about["raw_uid"])
        _text(entry, "experiment_identifier", about.get("scan_group", ""))
        _text(entry, "end_time", datetime.fromtimestamp(float(about["time"]), UTC).isoformat())
        for name in map(str, maps.data_vars):
            if name not in _SIGMA_OF.values():
                _write_map(entry, maps, name)
        _write_spectrum(entry, about)
        _write_references(entry, about)
        _write_process(entry, about, now)
        for name, table in tables.items():
            _write_table(entry, name, table)


def _write_map(entry: h5py.Group, maps: xr.Dataset, name: str) -> None:
    group = _group(entry, name, "NXdata", signal=name, axes=list(map(str, maps[name].dims)))
    data = group.create_dataset(name, data=maps[name].values, compression="gzip", shuffle=True)
    data.attrs.update(
        {"units": _unit(maps[name].attrs.get("units", "")), "long_name": maps[name].attrs["long_name"]}
    )
    sigma = _SIGMA_OF.get(name)
    if sigma is not None and sigma in maps:
        errors = group.create_dataset(
            f"{name}_errors", data=maps[sigma].values, compression="gzip", shuffle=True
        )
        errors.attrs["units"] = data.attrs["units"]
        group.attrs["uncertainties"] = f"{name}_errors"
    for axis, dim in enumerate(map(str, maps[name].dims)):
        known = dim in maps.coords
        position = maps[dim].values if known else np.arange(maps.sizes[dim], dtype=float)
        group.create_dataset(dim, data=position).attrs["units"] = "um" if known else "pixel"
        group.attrs[f"{dim}_indices"] = axis


def _write_spectrum(entry: h5py.Group, about: Mapping[str, Any]) -> None:
    spectrum = about.get("mean_spectrum")
    if not spectrum or not len(spectrum["energy_ev"]):
        return
    group = _group(entry, "mean_spectrum", "NXdata", signal="optical_depth", axes=["energy"])
    group.create_dataset("optical_depth", data=np.asarray(spectrum["optical_depth"], float)).attrs[
        "units"
    ] = "1"
    group.create_dataset("energy", data=np.asarray(spectrum["energy_ev"], float)).attrs["units"] = "eV"


def _write_references(entry: h5py.Group, about: Mapping[str, Any]) -> None:
    references = about.get("references")
    if not references:
        return
    group = _group(entry, "references", "NXdata", signal="mu", axes=["soc", "energy"])
    group.create_dataset("mu", data=np.asarray(references["mu"], float)).attrs["units"] = "1"
    group.create_dataset("soc", data=np.asarray(references["soc"], float)).attrs["units"] = "1"
    group.create_dataset("energy", data=np.asarray(references["energy_ev"], float)).attrs["units"] = "eV"


def _write_process(entry: h5py.Group, about: Mapping[str, Any], now: str) -> None:
    process = _group(entry, "process", "NXprocess")
    versions = about.get("versions") or software_versions()
    _text(process, "program", "nimco")
    _text(process, "version", versions.get("nimco", ""))
    _text(process, "date", now)
    for key in ("edge", "element", "method", "definition", "raw_path", "exit_status"):
        _text(process, "edge_energy_definition" if key == "definition" else key, str(about.get(key) or ""))
    process.create_dataset("partial", data=bool(about.get("partial")))
    process.create_dataset("n_frames", data=int(about.get("n_frames", 0)))
    if about.get("pixel_size_nm"):
        process.create_dataset("pixel_size", data=float(about["pixel_size_nm"])).attrs["units"] = "nm"
    metadata = _group(process, "metadata", "NXnote")
    _text(metadata, "type", "application/json")
    _text(metadata, "data", _json(about))


def _write_table(entry: h5py.Group, name: str, table: pd.DataFrame) -> None:
    group = _group(entry, name, "NXcollection")
    for column in table.columns:
        values = table[column].to_numpy()
        group.create_dataset(str(column), data=values.astype("S") if values.dtype == object else values)


def _write_tiff(path: Path, maps: xr.Dataset, name: str) -> None:
    about = maps.attrs
    values = maps[name].values
    with optional_import("files", "TIFF files"):
        import tifffile
    pixel_um = float(about["pixel_size_nm"]) / 1000 if about.get("pixel_size_nm") else None
    info = {
        "run": about["raw_uid"],
        "edge": about["edge"],
        "map": name,
        "unit": maps[name].attrs.get("units", ""),
        "meaning": maps[name].attrs["long_name"],
        "edge_energy_definition": about["definition"],
        "partial": bool(about.get("partial")),
        "status_legend": about.get("status_legend"),
    }
    metadata: dict[str, Any] = {"axes": "YX", "Info": _json(info)}
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


def _group(parent: h5py.Group, name: str, nx_class: str, **attributes: Any) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs.update({"NX_class": nx_class, **attributes})
    return group


def _text(group: h5py.Group, name: str, text: str) -> None:
    group.create_dataset(name, data=text, dtype=h5py.string_dtype())


def _unit(unit: str) -> str:
    return "1" if unit in ("", "optical depth") else unit


def _has_values(maps: xr.Dataset, name: str) -> bool:
    return name in maps and bool(np.isfinite(maps[name].values).any())


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value)


def _hdf5() -> str:
    return str(h5py.version.hdf5_version)
