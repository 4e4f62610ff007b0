"""Maps of one place over time: put on each other, particles and regions followed through them."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from callbacks.errors import ReadingError
from callbacks.publish import nearest_on_grid
from callbacks.results import Field, ResultSchema, software_versions
from callbacks.techniques import has_value
from edge_fitting import FitStatus, ImagePlace, match_maps

_STACK, _MAP, _STEP, _TRACK = ("step", "row", "column"), ("row", "column"), ("step",), ("track",)
_LEAST_CORRELATION = 0.5
_QUANTITIES = (("soc", "soc_sigma"), ("edge_energy_ev", "edge_energy_sigma_ev"))
_KEPT = ("sample", "field_of_view", "proposal", "scan_group", "series_group", "definition", "references")

Mask = npt.NDArray[np.bool_]


def _of_step(name: str, dtype: str, unit: str, meaning: str) -> Field:
    return Field(f"step_{name}", _STEP, dtype, unit, meaning, "quality", path=f"steps/{name}")


def _of_track(name: str, dtype: str, unit: str, meaning: str) -> Field:
    return Field(f"track_{name}", _TRACK, dtype, unit, meaning, "quality", path=f"tracks/{name}")


SERIES_SCHEMA = ResultSchema(
    "NimcoMapSeries",
    "1",
    (
        Field("soc", _STACK, "float32", "", "state of charge, on the pixels of the first map"),
        Field("soc_sigma", _STACK, "float32", "", "its standard deviation", "sigma", "soc"),
        Field("edge_energy_ev", _STACK, "float32", "eV", "edge energy, on the pixels of the first map"),
        Field("edge_energy_sigma_ev", _STACK, "float32", "eV", "its sigma", "sigma", "edge_energy_ev"),
        Field("particle_label_map", _MAP, "int32", "", "particles of the first map, 0 for none", "quality"),
        Field("row", ("row",), "float64", "um", "position along the rows", "coordinate", storage="array"),
        Field(
            "column", ("column",), "float64", "um", "position along columns", "coordinate", storage="array"
        ),
        _of_step("time_s", "float64", "s", "middle of the scan, since the epoch"),
        _of_step("duration_s", "float64", "s", "from its first frame to its last"),
        _of_step("cycle", "float64", "", "cycle of the series or of the sample; NaN: not said"),
        _of_step(
            "shift_row_px",
            "float64",
            "pixel",
            "displacement against the first map, taken out in whole pixels",
        ),
        _of_step("shift_column_px", "float64", "pixel", "the same along the columns"),
        _of_step("correlation", "float64", "", "of the edge jump with that of the first map, so displaced"),
        _of_step("mean", "float64", "", "mean over all pixels with a value, in the unit of the signal"),
        _of_step("mean_sigma", "float64", "", "standard deviation of the mean by the noise of the pixels"),
        _of_step(
            "systematic", "float64", "", "standard deviation that all pixels of the map share; NaN: not known"
        ),
        _of_track("step", "int64", "", "which map"),
        _of_track("particle", "int64", "", "number of the particle; 0 for a region"),
        _of_track("region", "int64", "", "place in the attribute regions; -1 for a particle"),
        _of_track(
            "value", "float64", "", "mean over its pixels that have a value, in the unit of the signal"
        ),
        _of_track("sigma", "float64", "", "standard deviation of the mean by the noise of its pixels"),
        _of_track("pixels", "int64", "", "pixels with a value"),
    ),
)
"""A stack of maps of one place at one edge, and the tracks of its particles and regions."""


@dataclass
class _Step:
    """What is kept of one result."""

    uid: str
    place: str
    edge: str
    time_s: float
    duration_s: float
    cycle: float
    values: dict[str, npt.NDArray[np.float32]]
    jump: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32] | None
    coordinates: dict[str, npt.NDArray[np.float64]]
    systematic: float
    about: dict[str, Any]
    grid: Mapping[str, Any]
    final: bool


def follow_series(
    results: Iterable[xr.Dataset], *, regions: Mapping[str, Mapping[str, Mask]] | None = None
) -> list[xr.Dataset]:
    """Put the maps of each place on each other, and follow its particles and regions through them.

    Parameters
    ----------
    results : iterable of xarray.Dataset
        Final results of full-field transmission at one edge, as from `stored_fields`. Which are of one place is said
        by ``series`` (`xanes_series`), or else by the name of the field of view.
    regions : mapping, optional
        By the uid of a run, masks (rows, cols) of named regions; those of the first map of a place count.

    Returns
    -------
    list of xarray.Dataset
        One a place, following `SERIES_SCHEMA`, in the order of their first maps; ``place`` among the attributes.

    Raises
    ------
    ReadingError
        No results, maps of different sizes at one place, or without values.

    Notes
    -----
    Maps are laid on the pixels of the first, each pixel the nearest, so that values and sigmas stay as they were
    fitted; how follows from ``grid`` (the analysis compared the optical depths), else from the edge jump
    (`edge_fitting.match_maps`). Errors of means are those of the noise of the pixels: what a map shares
    (energy axis, references) is ``step_systematic``, and how pixels differ is no error of a change over time.
    """
    places: dict[str, list[_Step]] = {}
    for result in results:
        step = _step_of(result)
        places.setdefault(step.place, []).append(step)
    if not places:
        raise ReadingError("there are no maps to follow over time")
    edges = sorted({step.edge for steps in places.values() for step in steps})
    if len(edges) > 1:
        raise ReadingError(f"results of several edges ({', '.join(edges)}) are no series; choose one")
    made = []
    for place, steps in places.items():
        steps.sort(key=lambda step: step.time_s)
        made.append(_series_of(place, steps, (regions or {}).get(steps[0].uid, {}), len(places) > 1))
    return made


def series_table(series: xr.Dataset) -> pd.DataFrame:
    """Return one line a map and particle or region: time, cycle, value, its sigma and what is systematic.

    Parameters
    ----------
    series : xarray.Dataset
        Of `follow_series`, or read back.
    """
    names = list(series.attrs.get("regions") or ())
    step = series["track_step"].values
    times = series["step_time_s"].values
    held = {
        name: series[f"track_{name}"].values for name in ("particle", "region", "value", "sigma", "pixels")
    }
    tracks = pd.DataFrame(
        {
            "place": str(series.attrs.get("place") or ""),
            "time_s": times[step],
            "hours": (times[step] - times[0]) / 3600.0,
            "cycle": series["step_cycle"].values[step],
            "what": [
                f"particle {particle}" if region < 0 else names[region]
                for particle, region in zip(held["particle"], held["region"], strict=True)
            ],
            "value": held["value"],
            "sigma": held["sigma"],
            "systematic": series["step_systematic"].values[step],
            "pixels": held["pixels"],
        }
    )
    whole = pd.DataFrame(
        {
            "place": str(series.attrs.get("place") or ""),
            "time_s": times,
            "hours": (times - times[0]) / 3600.0,
            "cycle": series["step_cycle"].values,
            "what": "map",
            "value": series["step_mean"].values,
            "sigma": series["step_mean_sigma"].values,
            "systematic": series["step_systematic"].values,
            "pixels": [int(np.isfinite(one).sum()) for one in series[series.attrs["signal"]].values],
        }
    )
    return pd.concat([whole, tracks], ignore_index=True)


def _step_of(result: xr.Dataset) -> _Step:
    about = result.attrs
    uid = str(about.get("raw_uid"))
    carries = has_value(result) if "status" in result and "soc" in result else None
    values = {}
    for name, sigma in _QUANTITIES:
        if carries is not None and name in result and sigma in result:
            for part in (name, sigma):
                values[part] = np.where(carries, result[part].values, np.float32(np.nan))
    if not values or not any(np.isfinite(held).any() for held in values.values()):
        raise ReadingError(
            f"the result of run {uid[:8]} has no map of state of charge or edge energy to follow"
        )
    view, series, sample = (
        held if isinstance(held := about.get(part), Mapping) else {}
        for part in ("field_of_view", "series", "sample")
    )
    place = series.get("place", view.get("name"))
    time_s, duration_s = _time_of(result)
    cycle = series.get("cycle", sample.get("cycle"))
    return _Step(
        uid=uid,
        place="" if place is None else str(place),
        edge=str(about.get("edge")),
        time_s=time_s,
        duration_s=duration_s,
        cycle=float("nan") if cycle is None else float(cycle),
        values=values,
        jump=jump_scene(result),
        labels=result["particle_label_map"].values if "particle_label_map" in result else None,
        coordinates={name: result[name].values for name in _MAP if name in result.coords},
        systematic=_number(about.get("soc_systematic")),
        about={name: about[name] for name in _KEPT if about.get(name)},
        grid=held if isinstance(held := about.get("grid"), Mapping) else {},
        final=bool(about.get("final")),
    )


def jump_scene(result: xr.Dataset) -> npt.NDArray[np.float32]:
    """Return the edge jump, 0 where there is no edge and NaN where nothing is known: what places are told by."""
    jump = np.where(has_value(result), result["edge_jump"].values, np.float32(np.nan))
    return np.asarray(np.where(result["status"].values == FitStatus.NO_EDGE, np.float32(0.0), jump))


def _time_of(result: xr.Dataset) -> tuple[float, float]:
    """Return the middle of a scan, and how long it took."""
    times = result["frame_time_s"].values if "frame_time_s" in result else np.empty(0)
    times = times[np.isfinite(times) & (times > 0)]
    if not times.size:
        return _number(result.attrs.get("start_time_s", result.attrs.get("time"))), float("nan")
    return float(0.5 * (times.min() + times.max())), float(np.ptp(times))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _series_of(place: str, steps: Sequence[_Step], regions: Mapping[str, Mask], several: bool) -> xr.Dataset:
    first = steps[0]
    warnings: list[str] = []
    for step in steps:
        if step.jump.shape != first.jump.shape:
            raise ReadingError(
                f"the maps of runs {first.uid[:8]} and {step.uid[:8]} have {first.jump.shape} and {step.jump.shape} "
                "pixels; a series is of one size"
            )
    found = [_place_of(step, first) for step in steps]
    places = [held for held, _ in found]
    for step, (held, correlation) in zip(steps, found, strict=True):
        if not held.found:
            warnings.append(
                f"The map of run {step.uid[:8]} does not show the place of the first one (correlation of the edge jump "
                f"{correlation:.2f}): it is left where it is, and particles and regions in it may be others."
            )
    known = [
        name
        for name, _ in _QUANTITIES
        if all(np.isfinite(step.values.get(name, np.nan)).any() for step in steps)
    ]
    if not known:
        raise ReadingError(
            "some maps have a state of charge only and some an edge energy only: they are no series"
        )
    signal = known[0]
    stacks: dict[str, Any] = {}
    for name, sigma in _QUANTITIES:
        if name in known:
            for part in (name, sigma):
                stacks[part] = np.stack(
                    [_moved(step.values[part], held) for step, held in zip(steps, places, strict=True)]
                )
    labels = np.zeros(first.jump.shape, np.int32) if first.labels is None else first.labels
    sigma = dict(_QUANTITIES)[signal]
    whole = [_mean(*pair) for pair in zip(stacks[signal], stacks[sigma], strict=True)]
    names, masks = list(regions), [_checked(mask, labels, name) for name, mask in regions.items()]
    uids = [step.uid for step in steps]
    base = str(first.about.get("series_group") or uuid.uuid5(uuid.NAMESPACE_OID, " ".join(uids)))
    said = {
        **first.about,
        "technique": "map_series",
        "raw_uid": f"{base}-{_plain(place)}" if several else base,
        "raw_uids": uids,
        "edge": first.edge,
        "place": place,
        "regions": names,
        "final": all(step.final for step in steps),
        "warnings": [*warnings, *_scale_warnings(steps, signal)],
        "versions": software_versions(),
        "analysis": {"id": uuid.uuid4().hex, "options": {}},
    }
    values = {
        **stacks,
        **first.coordinates,
        "particle_label_map": labels,
        "step_time_s": [step.time_s for step in steps],
        "step_duration_s": [step.duration_s for step in steps],
        "step_cycle": [step.cycle for step in steps],
        "step_shift_row_px": [0.0 + held.shift_px[0] for held in places],
        "step_shift_column_px": [0.0 + held.shift_px[1] for held in places],
        "step_correlation": [correlation for _, correlation in found],
        "step_mean": [mean for mean, _, _ in whole],
        "step_mean_sigma": [error for _, error, _ in whole],
        "step_systematic": [step.systematic if signal == "soc" else float("nan") for step in steps],
        **_tracks(stacks[signal], stacks[sigma], labels, masks),
    }
    return SERIES_SCHEMA.make(values, said, signal=signal)


def _tracks(
    values: npt.NDArray[np.float32],
    sigma: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
    regions: Sequence[Mask],
) -> dict[str, Any]:
    """Return the columns of the tracks: each particle at each step, then each region."""
    rows: list[tuple[float, ...]] = []
    n_labels = int(labels.max()) + 1
    flat = labels.ravel()
    present = [int(label) for label in np.unique(flat) if label > 0]
    means = []
    for step_values, step_sigma in zip(values, sigma, strict=True):
        good = np.isfinite(step_values) & np.isfinite(step_sigma)
        weights = good.ravel().astype(float)
        pixels = np.bincount(flat, weights, n_labels)
        total = np.bincount(flat, np.where(good, step_values, 0.0).ravel(), n_labels)
        noise = np.bincount(flat, np.where(good, step_sigma.astype(float) ** 2, 0.0).ravel(), n_labels)
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append((total / pixels, np.sqrt(noise) / pixels, pixels))
    for label in present:
        for step, (mean, error, pixels) in enumerate(means):
            rows.append((step, label, -1, mean[label], error[label], pixels[label]))
    for number, mask in enumerate(regions):
        for step in range(len(values)):
            rows.append((step, 0, number, *_mean(values[step][mask], sigma[step][mask])))
    columns = np.array(rows, dtype=float).reshape(-1, 6).T
    return {
        f"track_{name}": column
        for name, column in zip(
            ("step", "particle", "region", "value", "sigma", "pixels"), columns, strict=True
        )
    }


def _mean(values: npt.NDArray[Any], sigma: npt.NDArray[Any]) -> tuple[float, float, int]:
    good = np.isfinite(values) & np.isfinite(sigma)
    n = int(good.sum())
    if not n:
        return float("nan"), float("nan"), 0
    return (
        float(values[good].mean(dtype=float)),
        float(np.sqrt(np.sum(sigma[good].astype(float) ** 2)) / n),
        n,
    )


def _place_of(step: _Step, first: _Step) -> tuple[ImagePlace, float]:
    """Return where a map lies against the first one, and the correlation of both where they had to be compared.

    Where the analysis has found how the sample moved (``grid``), by the optical depth of all frames, that counts.
    """
    if step is first:
        return ImagePlace(found=True, quality=1.0), 1.0
    grid = step.grid
    if grid.get("found") and grid.get("raw_uid") == first.uid:
        return ImagePlace(
            shift_px=(float(grid["shift_px"][0]), float(grid["shift_px"][1])),
            magnification=float(grid["magnification"]),
            rotation_deg=float(grid["rotation_deg"]),
            found=True,
        ), float("nan")
    match = match_maps(first.jump, step.jump)
    if match is None or not match.correlation >= _LEAST_CORRELATION:
        return ImagePlace(), float("nan") if match is None else match.correlation
    down, right = match.offset_px
    return ImagePlace(shift_px=(-down, -right), found=True), match.correlation


def _moved(values: npt.NDArray[np.float32], place: ImagePlace) -> npt.NDArray[np.float32]:
    """Return a map on the pixels of the first one, each the nearest as it was fitted; NaN where it does not reach."""
    return nearest_on_grid(values, place, np.full_like(values, np.nan))


def _checked(mask: Mask, labels: npt.NDArray[np.int32], name: str) -> Mask:
    if mask.shape != labels.shape:
        raise ReadingError(f"the region {name} is for maps of {mask.shape} pixels, not {labels.shape}")
    return mask


def _plain(place: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in place) or "0"


def _scale_warnings(steps: Sequence[_Step], signal: str) -> list[str]:
    key = "references" if signal == "soc" else "definition"
    if len({repr(step.about.get(key)) for step in steps}) > 1:
        return [f"The maps differ in their {key}: their values are on different scales."]
    return []
