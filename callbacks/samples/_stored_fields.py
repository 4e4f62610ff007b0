"""Results of many runs from Tiled: by their uids, by what ties them together, or by their sample."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import xarray as xr
from tiled.queries import Key

from callbacks.errors import ReadingError
from callbacks.publish import open_soc
from edge_fitting import edge_among

_TIES = ("scan_group", "series_group", "mosaic_group")
# Where a start document says the name of the sample: of our plans, and as a user gives it to any plan.
_SAMPLE_KEYS = ("xanes.sample.name", "sample.name", "sample")
_VERSION_MARK = "@"
# Of the maps, those that samples are told by.
_READ = (
    "soc", "soc_sigma", "edge_energy_ev", "edge_energy_sigma_ev", "edge_jump", "status", "particle_label_map", "row",
    "column",
)  # fmt: skip


def stored_fields(
    client: Any,
    runs: Iterable[str] = (),
    *,
    samples: Iterable[str] = (),
    edge: str | None = None,
) -> Iterator[xr.Dataset]:
    """Read results of full-field runs, one after the other, in the order in which the runs began.

    Parameters
    ----------
    client : tiled client
        Root of a server.
    runs : iterable of str
        Uids of runs or their beginnings (five characters or more), a ``scan_group``, ``series_group`` or
        ``mosaic_group``.
    samples : iterable of str
        Names of samples: all their runs that have maps.
    edge : str, optional
        Of which edge; needed where there are several.

    Yields
    ------
    xarray.Dataset
        The current version of each, of its maps those of state of charge, edge energy, jump, status and particles;
        with ``start_time_s`` and, of a `xanes_series` ``series``, of a `xanes_mosaic` ``mosaic`` among its attributes.

    Raises
    ------
    ReadingError
        Before the first: nothing of that name, no maps, or maps of several edges. While reading: a map that cannot be
        read.
    """
    raw, maps = client["raw"], client["maps"]
    starts: dict[str, Mapping[str, Any]] = {}
    for name in runs:
        starts |= _of_name(raw, name)
    for name in samples:
        found: dict[str, Mapping[str, Any]] = {}
        for key in _SAMPLE_KEYS:
            found |= _of_query(raw, Key(f"start.{key}") == name)
        if not found:
            raise ReadingError(
                f"there is no run of a sample {name!r} on this server; plans take md={{'sample': {name!r}}}"
            )
        starts |= found
    of_run = {uid: _edges_of(maps, uid) for uid in starts}
    edges = sorted({name for names in of_run.values() for name in names})
    if not edges:
        raise ReadingError(
            f"none of {len(starts)} run(s) has maps yet; analyse them with: nimco reanalyse "
            f"{' '.join(uid[:8] for uid in list(starts)[:3])}"
        )
    if edge is None and len(edges) > 1:
        raise ReadingError(f"there are maps at {', '.join(edges)}; say which with edge (--edge)")
    wanted = edges[0] if edge is None else edge_among(edge, edges)
    if wanted not in edges:
        raise ReadingError(f"there are no maps at {wanted}, only at {', '.join(edges)}")
    ordered = sorted(
        (uid for uid, names in of_run.items() if wanted in names),
        key=lambda uid: float(starts[uid].get("time") or 0.0),
    )
    return _read(client, ordered, wanted, starts)


def _read(
    client: Any, uids: list[str], edge: str, starts: Mapping[str, Mapping[str, Any]]
) -> Iterator[xr.Dataset]:
    for uid in uids:
        start = starts[uid]
        said = {
            name: start[name]
            for name in ("series", "series_group", "mosaic", "mosaic_group")
            if start.get(name)
        }
        if isinstance(time_s := start.get("time"), int | float):
            said["start_time_s"] = float(time_s)
        yield open_soc(client, uid, edge, arrays=_READ).assign_attrs(said)


def _of_name(raw: Any, name: str) -> dict[str, Mapping[str, Any]]:
    for tie in _TIES:
        if found := _of_query(raw, Key(f"start.{tie}") == name):
            return found
    try:
        start = raw[name].metadata["start"]
    except (KeyError, ValueError) as error:  # less than five characters of a uid are no key for Tiled
        raise ReadingError(
            f"there is no run, scan_group, series_group or mosaic_group {name} on this server, or several runs begin so"
        ) from error
    return {str(start["uid"]): start}


def _of_query(raw: Any, query: Any) -> dict[str, Mapping[str, Any]]:
    starts = (run.metadata["start"] for run in raw.search(query).values())
    return {str(start["uid"]): start for start in starts}


def _edges_of(maps: Any, uid: str) -> list[str]:
    """Return the edges at which a run has maps of full-field transmission, but for those of the jump alone."""
    if uid not in maps:
        return []
    return [
        key
        for key, node in maps[uid].items()
        if _VERSION_MARK not in key
        and node.metadata.get("technique", "full_field") == "full_field"
        and node.metadata.get("signal") != "edge_jump"
    ]
