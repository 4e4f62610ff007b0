"""What full-field transmission gives: maps of each pixel, tables of frames and particles, mean spectrum, history."""

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from callbacks.results import Field, ResultSchema
from edge_fitting import EDGES, EdgeMaps, FitStatus

from ._particles import PARTICLE_FIELDS, find_particles
from ._update import SOCUpdate

_MAP = ("row", "column")
_FRAME, _SPECTRUM, _HISTORY = ("frame",), ("energy",), ("history",)


def _frame(column: str, dtype: str, unit: str, meaning: str) -> Field:
    return Field(f"frame_{column}", _FRAME, dtype, unit, meaning, "quality", path=f"frames/{column}")


FULL_FIELD_SCHEMA = ResultSchema(
    "NimcoSOC",
    "2",
    (
        Field("soc", _MAP, "float32", "", "state of charge on the scale of the references"),
        Field("soc_sigma", _MAP, "float32", "", "standard deviation of the state of charge", "sigma", "soc"),
        Field("edge_energy_ev", _MAP, "float32", "eV", "edge energy by the definition in the metadata"),
        Field(
            "edge_energy_sigma_ev",
            _MAP,
            "float32",
            "eV",
            "standard deviation of the edge energy",
            "sigma",
            "edge_energy_ev",
        ),
        Field(
            "edge_jump", _MAP, "float32", "optical depth", "height of the edge: thickness times concentration"
        ),
        Field(
            "edge_jump_sigma",
            _MAP,
            "float32",
            "optical depth",
            "standard deviation of the height of the edge, of a jump map",
            "sigma",
            "edge_jump",
        ),
        Field(
            "optical_depth",
            _MAP,
            "float32",
            "optical depth",
            "highest that was met: for judging what light beside the sample does, and where the sample is",
        ),
        Field(
            "goodness",
            _MAP,
            "float32",
            "",
            "squared residual over squared data; smaller is better",
            "quality",
        ),
        Field(
            "reduced_chi2",
            _MAP,
            "float32",
            "",
            "squared residual over what noise leaves, per degree of freedom: about 1 where the references fit",
            "quality",
        ),
        Field(
            "status",
            _MAP,
            "uint8",
            "",
            "why a pixel has a value or none: status_legend in the metadata",
            "status",
        ),
        Field(
            "material",
            _MAP,
            "uint8",
            "",
            "1 where the pixel absorbs at least a quarter of what the fitted ones do, and an optical depth of 0.1",
            "quality",
        ),
        Field("row", ("row",), "float64", "um", "position along the rows", "coordinate", storage="array"),
        Field(
            "column",
            ("column",),
            "float64",
            "um",
            "position along the columns",
            "coordinate",
            storage="array",
        ),
        Field(
            "energy_ev",
            _SPECTRUM,
            "float64",
            "eV",
            "photon energy, mean readback",
            "coordinate",
            storage="metadata",
            path="mean_spectrum/energy_ev",
        ),
        Field(
            "mean_optical_depth",
            _SPECTRUM,
            "float64",
            "optical depth",
            "mean spectrum of the fitted pixels (of all before there are any)",
            "quality",
            storage="metadata",
            path="mean_spectrum/optical_depth",
        ),
        Field(
            "history_n_frames",
            _HISTORY,
            "int64",
            "",
            "frames in the maps",
            "coordinate",
            storage="metadata",
            path="history/n_frames",
        ),
        Field(
            "history_sigma",
            _HISTORY,
            "float64",
            "",
            "median sigma then: of the signal, in its unit",
            "quality",
            storage="metadata",
            path="history/sigma",
        ),
        _frame("energy_index", "int64", "", "which of the planned energies"),
        _frame("repeat", "int64", "", "which of the frames at this energy"),
        _frame("attempt", "int64", "", "how often the frame had been taken before"),
        _frame("seq_num", "int64", "", "number of the event"),
        _frame("energy_ev", "float64", "eV", "readback of the energy"),
        _frame("exposure_s", "float64", "s", "exposure"),
        _frame("i0", "float64", "", "incident intensity, in the unit of the monitor"),
        _frame("mean_od", "float64", "optical depth", "mean over the sampled pixels"),
        _frame("bad_pixels", "int64", "", "sampled pixels without a finite optical depth"),
        _frame(
            "shift_row_px",
            "float64",
            "pixel",
            "displacement of the sample along the rows that was taken out; NaN: none",
        ),
        _frame("shift_column_px", "float64", "pixel", "the same along the columns"),
        _frame(
            "shift_sigma_px",
            "float64",
            "pixel",
            "standard deviation of the displacement, the larger of both; inf: unknown",
        ),
        _frame(
            "magnification",
            "float64",
            "",
            "size of the picture over that of the first frame, as it was taken out; NaN: not looked for",
        ),
        _frame("rotation_deg", "float64", "degree", "rotation against the first frame, counter-clockwise"),
        _frame("chi2", "float64", "", "reduced chi2 of the frame: about 1 where it agrees; NaN: unknown"),
        _frame(
            "residual_od",
            "float64",
            "optical depth",
            "what the frame has beyond the fit, mean over pixels with an edge; NaN: unknown",
        ),
        _frame("time_s", "float64", "s", "when the event was recorded, since the epoch"),
        *PARTICLE_FIELDS,
    ),
)
"""Arrays of a result of full-field transmission; maps have the shape of the frames, NaN where there is no value."""

_MAPS = tuple(
    field.name for field in FULL_FIELD_SCHEMA.along(*_MAP) if field.name in EdgeMaps.__dataclass_fields__
)
_MOST_HISTORY = 500
_SAMPLED_PIXELS = 65_536
# Pixels that absorb less than this, or than a quarter of what the fitted ones do, hold no material.
_LEAST_DEPTH = 0.1
_LEAST_SHARE = 0.25


def result_of(update: SOCUpdate) -> xr.Dataset:
    """Make the result that all subscribers get of the state of an analysis.

    Parameters
    ----------
    update : SOCUpdate
        What the analysis holds. Particles are told apart once the run is over.

    Returns
    -------
    xarray.Dataset
        Follows `FULL_FIELD_SCHEMA`. Its attributes are the metadata of docs/reference/nimco-soc.md.
    """
    maps = update.maps
    values: dict[str, Any] = {name: array for name in _MAPS if (array := getattr(maps, name)) is not None}
    if maps.method == "series" and update.references is not None and maps.reduced_chi2 is None:
        # Unknown with few frames: whoever follows the run finds the same arrays from the beginning.
        values["reduced_chi2"] = np.full(maps.shape, np.nan, np.float32)
    values["material"] = _material(maps)
    pixel_size_nm = update.xanes.get("pixel_size_nm")
    if pixel_size_nm:
        for dim, size in zip(_MAP, maps.shape, strict=True):
            values[dim] = np.arange(size) * pixel_size_nm / 1000
    values["energy_ev"], values["mean_optical_depth"] = update.mean_energy_ev, update.mean_od
    values["history_n_frames"], values["history_sigma"] = _thinned(update.history).T
    values |= _frame_table(update)
    heterogeneity: dict[str, Any] = {}
    if update.final:
        found = find_particles(maps, pixel_size_nm)
        values |= found.values
        heterogeneity = found.heterogeneity
    if maps.edge_jump_sigma is not None:
        signal = "edge_jump"
    else:
        signal = "edge_energy_ev" if update.references is None else "soc"
    result = FULL_FIELD_SCHEMA.make(
        values, _metadata(update) | {"heterogeneity": heterogeneity}, signal=signal
    )
    result["history_sigma"].attrs["units"] = FULL_FIELD_SCHEMA[signal].unit
    return result


def has_value(result: xr.Dataset) -> npt.NDArray[np.bool_]:
    """Return which pixels have a state of charge, an edge energy or, of a jump map, a jump; shape (rows, cols).

    Parameters
    ----------
    result : xarray.Dataset
        Of full-field transmission.
    """
    carries = result["status"].values <= FitStatus.ABOVE_RANGE
    if "edge_jump_sigma" in result:
        return np.asarray(carries)
    found = np.isfinite(result["soc"].values) | np.isfinite(result["edge_energy_ev"].values)
    return np.asarray(carries & found)


def _metadata(update: SOCUpdate) -> dict[str, Any]:
    """Return everything that a reader of the maps needs to know beside the arrays."""
    edge, maps = EDGES[update.edge], update.maps
    edges = update.start.get("edges")
    # Of a fit without references no source is named, whatever the start document says.
    unused: dict[str, Any] = {"reference_sources": []} if update.references is None else {}
    return {
        **unused,
        "technique": "full_field",
        "raw_uid": update.raw_uid,
        "raw_path": f"raw/{update.raw_uid}",
        "raw_uids": update.raw_uids,
        "scan_group": update.scan_group,
        "edges": [str(name) for name in edges] if isinstance(edges, list | tuple) else [update.edge],
        "edge": update.edge,
        "element": edge.element,
        "definition": maps.definition,
        "method": maps.method,
        "calibration": {
            "foil_inflection_ev": edge.foil_inflection_ev,
            "axis": "energies are the axis' own readbacks, in eV",
        },
        "pixel_size_nm": update.xanes.get("pixel_size_nm"),
        "references": None if update.references is None else update.references.to_dict(),
        "parameters": {
            "method": maps.method,
            "energies_ev": [float(value) for value in update.xanes["energies_ev"]],
            "exposure_s": [float(value) for value in update.xanes["exposure_s"]],
            "repeats": update.xanes.get("repeats", 1),
            "axis_offset": update.axis_offset,
        },
        "status_legend": {str(int(code)): code.name for code in FitStatus},
        "n_frames": update.frames_done,
        "frames_expected": update.frames_expected,
        "final": update.final,
        "complete": update.complete,
        "partial": not (update.final and update.complete),
        "exit_status": update.exit_status,
        "warnings": update.warnings,
        "axis_offset_ev": maps.axis_offset_ev,
        "axis_offset_sigma_ev": maps.axis_offset_sigma_ev,
        "axis_offset_reason": maps.axis_offset_reason,
        "soc_systematic": maps.soc_systematic,
        "chi2": maps.chi2,
        "stray_light": maps.stray_light,
        "stray_light_sigma": maps.stray_light_sigma,
        "stray_light_taken_out": maps.stray_light_taken_out,
        "grid": None if update.grid is None else update.grid.to_dict(),
        "pixels": _pixels(maps.status),
        "median_soc_sigma": _finite_median(maps.soc_sigma, exact=update.final),
        "time": update.time_s,
    }


def _material(maps: EdgeMaps) -> npt.NDArray[np.uint8]:
    step = max(1, maps.optical_depth.size // _SAMPLED_PIXELS)
    depth = maps.optical_depth.reshape(-1)[::step][maps.has_value.reshape(-1)[::step]]
    least = _LEAST_SHARE * float(np.median(depth)) if depth.size else _LEAST_DEPTH
    return np.asarray(maps.optical_depth >= max(least, _LEAST_DEPTH), np.uint8)


def _frame_table(update: SOCUpdate) -> dict[str, Any]:
    """Return one line per sample frame in the maps, in the order they came."""
    fields = FULL_FIELD_SCHEMA.along(*_FRAME)
    columns = {
        field.name: [getattr(frame, field.name.removeprefix("frame_")) for frame in update.frames]
        for field in fields
    }
    columns["frame_shift_sigma_px"] = [max(frame.shift_sigma_px) for frame in update.frames]
    return columns


def _pixels(status: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Count the pixels of each status, in steps that let other threads run.

    Those that do not occur are written too: Tiled merges metadata, and the count of before would stay.
    """
    return {code.name: int(np.count_nonzero(status == code)) for code in FitStatus}


def _thinned(history: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return at most so many rows, the last among them, that the metadata stays small."""
    step = -(-len(history) // _MOST_HISTORY) or 1
    return history[::-1][::step][::-1]


def _finite_median(values: npt.NDArray[np.float32], *, exact: bool) -> float | None:
    """Return the median of what is finite; of some of the pixels while the scan runs."""
    step = 1 if exact else max(1, values.size // _SAMPLED_PIXELS)
    sampled = values.reshape(-1)[::step]
    finite = sampled[np.isfinite(sampled)]
    return float(np.median(finite)) if finite.size else None
