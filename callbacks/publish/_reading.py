"""Results back from Tiled."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from callbacks.errors import CallbackError, ReadingError
from callbacks.results import (
    CONTENTS,
    CURRENT,
    VERSION,
    WRITTEN_BY,
    KeptVariable,
    dataset_of,
    variables_from,
)
from edge_fitting import EdgeFittingError, edge_among

from ._containers import (
    VERSION_MARK,
    analysed_s,
    attributes_of,
    from_metadata,
    is_written,
)
from ._first_schema import FIRST_SPEC, from_first_schema
from ._versions import version_of, whole_versions

_MOST_READS = 5


@dataclass(frozen=True)
class SOCVersion:
    """One version of the result of a run.

    Attributes
    ----------
    version : int
        Its number, for `open_soc`.
    current : bool
        Whether it is what readers get who ask for none.
    edge : str
        Name of the result: its edge, or else its technique.
    analysed_s : float or None
        When its analysis began (seconds since the epoch); None where that is not known.
    final, n_frames
        Whether the analysis came to its end, and with how many frames.
    method : str or None
        Estimator.
    software : str or None
        Version of nimco.
    options : mapping
        What was asked for of the analysis.
    reference_sources : tuple of mapping
        Where the references came from.
    """

    version: int
    current: bool
    edge: str
    analysed_s: float | None
    final: bool
    n_frames: int | None
    method: str | None
    software: str | None
    options: Mapping[str, Any] = field(repr=False)
    reference_sources: tuple[Mapping[str, Any], ...] = field(repr=False)


def open_soc(
    client: Any,
    uid: str,
    edge: str | None = None,
    version: int | None = None,
    *,
    arrays: Collection[str] | None = None,
) -> xr.Dataset:
    """Read the result of a run, as it was published.

    Parameters
    ----------
    client : tiled client
        The root of the server, or its container ``maps``.
    uid : str
        Uid of the raw run, or its beginning.
    edge : str, optional
        Which edge; may be left out where the run has maps of only one.
    version : int, optional
        Which version, see `soc_versions`; by default the current one.
    arrays : collection of str, optional
        Names of the maps to read, where not all are needed; tables and metadata are read anyway.

    Returns
    -------
    xarray.Dataset
        One variable per map, with dimensions ``row`` and ``column`` (in um where the pixel size is known), beside them
        the columns of the tables, the mean spectrum and the history, and the metadata as attributes: see
        docs/reference/nimco-soc.md. While the run goes on, what is not written yet is missing. Its ``encoding`` says
        the ``version`` and whether it is the ``current`` one.

    Raises
    ------
    ReadingError
        There are no such maps, or several that fit.
    """
    for _ in range(_MOST_READS):
        node = maps_of_run(client, uid, edge, version)
        before = _owner(node)
        try:
            result = read_result(node, arrays)
        except (ReadingError, KeyError, httpx.HTTPStatusError):
            if _owner(node.refresh()) == before:
                raise
            continue
        # Where another analysis took the place meanwhile, this may be parts of both.
        if _owner(node.refresh()) == before:
            number = version_of(node.item["id"], node.metadata)
            result.encoding |= {VERSION: number, CURRENT: VERSION_MARK not in node.item["id"]}
            return result
    raise ReadingError(f"the maps of run {uid} are written anew again and again; read them once that is over")


def soc_versions(client: Any, uid: str, edge: str | None = None) -> list[SOCVersion]:
    """List the versions of the result of a run, the oldest first.

    Parameters
    ----------
    client, uid, edge
        As for `open_soc`.

    Raises
    ------
    ReadingError
        There are no such maps, or several that fit.
    """
    of_run, _, name = _place_of(client, uid, edge)
    found = [_described(name, key, node.metadata) for key, node in whole_versions(of_run, name).items()]
    return sorted(found, key=lambda held: held.version)


def open_soc_table(
    client: Any, uid: str, name: str, edge: str | None = None, version: int | None = None
) -> pd.DataFrame:
    """Read a table that stands beside the maps of a run.

    Parameters
    ----------
    client, uid, edge, version
        As for `open_soc`.
    name : str
        ``frames`` or ``particles``.

    Returns
    -------
    pandas.DataFrame
        One line per frame, or per particle.

    Raises
    ------
    ReadingError
        There are no such maps, or no such table beside them (yet).
    """
    node = maps_of_run(client, uid, edge, version)
    if CONTENTS in node.metadata:
        known = tuple(
            dict.fromkeys(
                about.group for about in variables_of_node(node.metadata) if about.storage == "table"
            )
        )
    else:
        known = ("frames", "particles")
    if name in node:
        return node[name].read()
    if name not in (*known, "frames", "particles"):
        raise ReadingError(f"there is no table {name!r}; ask for {' or '.join(map(repr, known))}")
    raise ReadingError(f"the maps of run {uid} have no table {name!r} (yet)")


def read_result(node: Any, arrays: Collection[str] | None = None) -> xr.Dataset:
    """Return what a container holds; of its arrays those that are named.

    Raises
    ------
    ReadingError
        It is not a result that this version of the software reads.
    """
    metadata = dict(node.metadata)
    parts = dict(node.items())  # all of them by one request
    if CONTENTS not in metadata:
        return from_first_schema(metadata, list(parts), lambda key: node[key].read())
    try:
        variables = variables_of_node(metadata)
        sizes = metadata[CONTENTS]["sizes"]
        tables: dict[str, pd.DataFrame] = {}
        held: dict[str, Any] = {}
        for about in variables:
            if about.storage == "metadata":
                held[about.name] = about, from_metadata(metadata, about)
            elif about.storage == "table" and about.group in parts:
                if about.group not in tables:
                    part = parts[about.group]
                    tables[about.group] = part.read() if is_written(part) else pd.DataFrame()
                table = tables[about.group]
                if about.column in table:
                    held[about.name] = about, about.decode(table[about.column].to_numpy(), (len(table),))
            elif about.storage == "array" and arrays is not None and about.name not in arrays:
                continue
            elif about.storage == "array" and about.name in parts:
                array = _read_array(node, parts[about.name])
                held[about.name] = about, about.decode(array, array.shape)
            elif 0 in (shape := tuple(sizes.get(dim, 1) for dim in about.dims)):
                held[about.name] = about, about.decode([], shape)
        return dataset_of(held, attributes_of(metadata, variables))
    except (CallbackError, KeyError, TypeError) as error:
        raise ReadingError(f"the maps of run {metadata.get('raw_uid')} cannot be read: {error}") from error


def _read_array(node: Any, part: Any) -> npt.NDArray[Any]:
    """Return the values of an array; one that was replaced since it was listed is looked up again."""
    try:
        return np.asarray(part.read())
    except (KeyError, ValueError, httpx.HTTPStatusError):
        return np.asarray(node[part.item["id"]].read())


def maps_of_run(client: Any, uid: str, edge: str | None = None, version: int | None = None) -> Any:
    """Return the container of the maps of a run, of the current version unless another one is asked for.

    Raises
    ------
    ReadingError
        There are no such maps, or several that fit.
    """
    of_run, full, name = _place_of(client, uid, edge)
    node = of_run[name] if version is None else _of_version(of_run, full, name, version)
    if CONTENTS not in node.metadata and FIRST_SPEC not in {spec.name for spec in node.specs}:
        raise ReadingError(f"{full}/{name} was not written by this software (no spec {FIRST_SPEC})")
    return node


def _place_of(client: Any, uid: str, edge: str | None) -> tuple[Any, str, str]:
    """Return the container of the results of a run, the run's whole uid, and the name of the result."""
    maps = client.get("maps", client)
    full = _full_uid(maps, uid)
    of_run = maps[full]
    edges = [key for key in of_run if VERSION_MARK not in key]
    if edge is None and len(edges) != 1:
        raise ReadingError(f"run {uid} has maps of {', '.join(edges) or 'no edge yet'}; name the edge")
    try:
        name = edges[0] if edge is None else edge_among(edge, edges)
    except EdgeFittingError as error:
        raise ReadingError(str(error)) from error
    if name not in edges:
        raise ReadingError(f"run {uid} has no maps of {name}, only of {', '.join(edges) or 'no edge yet'}")
    return of_run, full, name


def _of_version(of_run: Any, full: str, name: str, version: int) -> Any:
    found = {version_of(key, node.metadata): node for key, node in whole_versions(of_run, name).items()}
    if version not in found:
        known = ", ".join(map(str, sorted(found)))
        raise ReadingError(f"the maps of run {full[:8]} at {name} have no version {version}, only {known}")
    return found[version]


def _described(name: str, key: str, metadata: Mapping[str, Any]) -> SOCVersion:
    about = metadata.get("analysis")
    versions = metadata.get("versions")
    return SOCVersion(
        version=version_of(key, metadata),
        current=key == name,
        edge=name,
        analysed_s=analysed_s(metadata) or None,
        final=bool(metadata.get("final")),
        n_frames=metadata.get("n_frames"),
        method=metadata.get("method"),
        software=versions.get("nimco") if isinstance(versions, Mapping) else None,
        options=dict(about.get("options") or {}) if isinstance(about, Mapping) else {},
        reference_sources=tuple(metadata.get("reference_sources") or ()),
    )


def _owner(node: Any) -> Any:
    """Return which analysis wrote a container."""
    return node.metadata.get(WRITTEN_BY)


def variables_of_node(metadata: Mapping[str, Any]) -> tuple[KeptVariable, ...]:
    """Return the variables that the metadata of a container announce."""
    return variables_from(metadata[CONTENTS].get("variables"))


def _full_uid(maps: Any, uid: str) -> str:
    if uid in maps:
        return uid
    found = [key for key in maps if key.startswith(uid)] if uid else []
    if len(found) == 1:
        return str(found[0])
    if found:
        raise ReadingError(f"{len(found)} runs begin with {uid}; give more of the uid")
    raise ReadingError(f"there are no maps of run {uid} on this server")
