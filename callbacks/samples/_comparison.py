"""Samples, cycles or fields compared on one scale, each pooled from all its fields of view."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from callbacks.errors import ReadingError
from callbacks.results import sample_name
from callbacks.techniques import has_value
from edge_fitting import EdgeFittingError, MapField, PooledMaps, label_particles, pool_maps

Quantity = Literal["soc", "edge_energy_ev"]
_SIGMA: Mapping[str, str] = {"soc": "soc_sigma", "edge_energy_ev": "edge_energy_sigma_ev"}
_SMALLEST_PX = 16
_OF_SAMPLE = ("composition", "electrode_side", "part", "cycle", "voltage_v", "history")
GROUP_KEYS = ("sample", "field", "place", "run", *_OF_SAMPLE)
"""What results may be grouped by."""


@dataclass(frozen=True)
class SampleGroup:
    """What is compared: all fields of view of one sample, cycle or whatever was grouped by.

    Attributes
    ----------
    key : tuple
        What the group is: a value for each key that was grouped by.
    pooled : PooledMaps
        Its fields pooled.
    systematic : float or None
        Standard deviation that all pixels of a field share (energy axis, references), the largest of its fields; None
        where it is not known. It is in none of the other errors.
    uids : tuple of str
        The runs.
    n_warnings : int
        Warnings about their maps.
    """

    key: tuple[Any, ...]
    pooled: PooledMaps
    systematic: float | None
    uids: tuple[str, ...]
    n_warnings: int

    @property
    def name(self) -> str:
        """What the group is, as text."""
        return ", ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in self.key)


@dataclass(frozen=True)
class SampleComparison:
    """Groups on one scale.

    Attributes
    ----------
    by : tuple of str
        What the results were grouped by.
    edge : str
        Of which edge.
    quantity : str
        What is compared: ``soc`` or ``edge_energy_ev``.
    groups : tuple of SampleGroup
        In order of their keys where these are numbers, else in that of the runs.
    warnings : tuple of str
        What keeps the groups from being on one scale, in words.
    """

    by: tuple[str, ...]
    edge: str
    quantity: Quantity
    groups: tuple[SampleGroup, ...]
    warnings: tuple[str, ...] = ()

    def table(self) -> pd.DataFrame:
        """Return one line a group: mean, peak, width and spreads with their errors, and the shift to the first group.

        The error of a shift is that of both means; what is systematic in both is not in it.
        """
        rows = []
        first = self.groups[0].pooled
        for group in self.groups:
            pooled = group.pooled
            rows.append(
                {
                    **dict(zip(self.by, group.key, strict=True)),
                    "fields": pooled.n_fields,
                    "particles": pooled.n_particles,
                    "pixels": pooled.n_values,
                    "mean": pooled.mean,
                    "mean_sigma": pooled.mean_sigma,
                    "systematic": np.nan if group.systematic is None else group.systematic,
                    "median": pooled.median,
                    "peak": pooled.peak,
                    "peak_sigma": pooled.peak_sigma,
                    "fwhm": pooled.fwhm,
                    "fwhm_sigma": pooled.fwhm_sigma,
                    "errors_from": pooled.errors_from,
                    "within": pooled.within,
                    "within_sigma": pooled.within_sigma,
                    "between_particles": pooled.between_particles,
                    "between_particles_sigma": pooled.between_particles_sigma,
                    "between_fields": pooled.between_fields,
                    "between_fields_sigma": pooled.between_fields_sigma,
                    "shift": pooled.mean - first.mean,
                    "shift_sigma": 0.0
                    if pooled is first
                    else float(np.hypot(pooled.mean_sigma, first.mean_sigma)),
                    "warnings": group.n_warnings,
                    "runs": " ".join(uid[:8] for uid in group.uids),
                }
            )
        return pd.DataFrame(rows)


@dataclass
class _Field:
    """What is kept of one result: its maps, as small as they are needed."""

    key: tuple[Any, ...]
    maps: dict[str, MapField]
    uid: str
    edge: str
    definition: str
    references: str
    systematic: float | None
    n_warnings: int
    final: bool


@dataclass
class _Fields:
    held: list[_Field] = field(default_factory=list)

    def said(self, name: str) -> set[Any]:
        return {getattr(one, name) for one in self.held}


def compare_samples(
    results: Iterable[xr.Dataset],
    by: Iterable[str] = ("sample",),
    *,
    quantity: Quantity | None = None,
) -> SampleComparison:
    """Pool the fields of view of each sample (cycle, part, ...) and put all on one scale.

    Parameters
    ----------
    results : iterable of xarray.Dataset
        Of full-field transmission at one edge, as from `stored_fields`; read one after the other.
    by : iterable of str
        What tells the groups: ``sample``, ``cycle``, ``field``, ``place``, ``run``, ``part``, ``voltage_v``,
        ``composition``, ``electrode_side``, ``history``; several together are one key.
    quantity : {"soc", "edge_energy_ev"}, optional
        By default the state of charge where all have one, else the edge energy.

    Returns
    -------
    SampleComparison

    Raises
    ------
    ReadingError
        A result that does not say what is grouped by, results of several edges, or none with the quantity.
    """
    keys = tuple(by)
    for name in keys:
        if name not in GROUP_KEYS:
            raise ReadingError(f"results are not grouped by {name!r}; choose of {', '.join(GROUP_KEYS)}")
    fields = _Fields([_field_of(result, keys) for result in results])
    if not keys or not fields.held:
        raise ReadingError("there is nothing to compare: give runs or samples, and what to group them by")
    edges = sorted(fields.said("edge"))
    if len(edges) > 1:
        raise ReadingError(f"results of several edges ({', '.join(edges)}) are not on one scale; choose one")
    chosen = quantity or _common_quantity(fields.held)
    of_key: dict[tuple[Any, ...], list[_Field]] = {}
    for one in fields.held:
        of_key.setdefault(one.key, []).append(one)
    groups = [_pooled(key, held, chosen) for key, held in of_key.items()]
    if all(isinstance(part, int | float) for group in groups for part in group.key):
        groups.sort(key=lambda group: group.key)
    return SampleComparison(keys, edges[0], chosen, tuple(groups), tuple(_warnings(fields, chosen)))


def _field_of(result: xr.Dataset, keys: tuple[str, ...]) -> _Field:
    about = result.attrs
    uid = str(about.get("raw_uid"))
    maps: dict[str, MapField] = {}
    if "status" in result:
        carries = has_value(result)
        labels = (
            result["particle_label_map"].values
            if "particle_label_map" in result
            else label_particles(carries, min_pixels=_SMALLEST_PX)
        )
        for name, sigma in _SIGMA.items():
            if name in result and sigma in result:
                values = np.where(carries, result[name].values, np.float32(np.nan))
                if np.isfinite(values).any():
                    maps[name] = MapField(values, result[sigma].values, labels)
    if not maps:
        raise ReadingError(
            f"the result of run {uid[:8]} has no map of state of charge or edge energy to compare"
        )
    systematic = about.get("soc_systematic")
    return _Field(
        key=tuple(_value_of(result, name) for name in keys),
        maps=maps,
        uid=uid,
        edge=str(about.get("edge")),
        definition=str(about.get("definition")),
        references=repr(about.get("references")),
        systematic=float(systematic) if isinstance(systematic, int | float) else None,
        n_warnings=len(about.get("warnings") or ()),
        final=bool(about.get("final")),
    )


def _value_of(result: xr.Dataset, name: str) -> Any:
    about = result.attrs
    sample, view, series = (
        held if isinstance(held := about.get(part), Mapping) else {}
        for part in ("sample", "field_of_view", "series")
    )
    value: Any = None
    if name == "run":
        value = str(about.get("raw_uid"))[:8]
    elif name == "sample":
        value = (sample.get("name") if sample else about.get("sample")) or None
        value = None if value is None else sample_name({"sample": value})
    elif name == "field":
        value = view.get("name")
    elif name == "place":
        value = series.get("place")
    else:
        value = sample.get(name)
        if value is None and name == "cycle":
            value = series.get("cycle")
    if value is None:
        raise ReadingError(
            f"run {str(about.get('raw_uid'))[:8]} does not say its {name.replace('_', ' ')}; group by something that "
            "all say (--by run), or leave it out"
        )
    return float(value) if isinstance(value, int | float) else str(value)


def _common_quantity(fields: list[_Field]) -> Quantity:
    for name in ("soc", "edge_energy_ev"):
        if all(name in one.maps for one in fields):
            return name
    raise ReadingError(
        "some results have a state of charge only and some an edge energy only; compare those that have the same"
    )


def _pooled(key: tuple[Any, ...], held: list[_Field], quantity: Quantity) -> SampleGroup:
    for one in held:
        if quantity not in one.maps:
            raise ReadingError(f"the result of run {one.uid[:8]} has no {quantity}; compare without that run")
    try:
        pooled = pool_maps([one.maps[quantity] for one in held])
    except EdgeFittingError as error:
        raise ReadingError(f"run {held[0].uid[:8]} and those pooled with it: {error}") from error
    known = [one.systematic for one in held if one.systematic is not None] if quantity == "soc" else []
    return SampleGroup(
        key=key,
        pooled=pooled,
        systematic=max(known) if len(known) == len(held) else None,
        uids=tuple(one.uid for one in held),
        n_warnings=sum(one.n_warnings for one in held),
    )


def _warnings(fields: _Fields, quantity: Quantity) -> list[str]:
    said = []
    if quantity == "soc" and len(fields.said("references")) > 1:
        said.append(
            "The maps were fitted with different references: their states of charge are on different scales; analyse "
            "them with one set (nimco reanalyse --references)."
        )
    if quantity == "edge_energy_ev" and len(found := fields.said("definition")) > 1:
        said.append(
            f"The edge energies are of different definitions ({', '.join(sorted(found))}): they do not compare."
        )
    if running := [one.uid[:8] for one in fields.held if not one.final]:
        said.append(f"Not final yet: {', '.join(running)}.")
    if warned := [one.uid[:8] for one in fields.held if one.n_warnings]:
        said.append(f"There are warnings about the maps of {', '.join(warned)}; read them (nimco report).")
    return said
