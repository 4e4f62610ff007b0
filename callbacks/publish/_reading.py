"""Results back from Tiled."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from callbacks.errors import CallbackError, ReadingError
from callbacks.results import KeptVariable, dataset_of, variables_from
from edge_fitting import EdgeFittingError, edge_name

from ._containers import CONTENTS, VERSION_MARK, attributes_of, from_metadata
from ._first_schema import FIRST_SPEC, from_first_schema


def open_soc(client: Any, uid: str, edge: str | None = None) -> xr.Dataset:
    """Read the result of a run, as it was published.

    Parameters
    ----------
    client : tiled client
        The root of the server, or its container ``maps``.
    uid : str
        Uid of the raw run, or its beginning.
    edge : str, optional
        Which edge; may be left out where the run has maps of only one.

    Returns
    -------
    xarray.Dataset
        One variable per map, with dimensions ``row`` and ``column`` (in um where the pixel size is known), beside them
        the columns of the tables, the mean spectrum and the history, and the metadata as attributes: see
        docs/reference/nimco-soc.md. While the run goes on, what is not written yet is missing.

    Raises
    ------
    ReadingError
        There are no such maps, or several that fit.
    """
    return read_result(maps_of_run(client, uid, edge))


def open_soc_table(client: Any, uid: str, name: str, edge: str | None = None) -> pd.DataFrame:
    """Read a table that stands beside the maps of a run.

    Parameters
    ----------
    client, uid, edge
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
    node = maps_of_run(client, uid, edge)
    if CONTENTS in node.metadata:
        known = tuple(
            dict.fromkeys(about.group for about in _variables(node.metadata) if about.storage == "table")
        )
    else:
        known = ("frames", "particles")
    if name in node:
        return node[name].read()
    if name not in (*known, "frames", "particles"):
        raise ReadingError(f"there is no table {name!r}; ask for {' or '.join(map(repr, known))}")
    raise ReadingError(f"the maps of run {uid} have no table {name!r} (yet)")


def read_result(node: Any) -> xr.Dataset:
    """Return what a container holds.

    Raises
    ------
    ReadingError
        It is not a result that this version of the software reads.
    """
    metadata = dict(node.metadata)
    keys = list(node)
    if CONTENTS not in metadata:
        return from_first_schema(metadata, keys, lambda key: node[key].read())
    try:
        variables = _variables(metadata)
        sizes = metadata[CONTENTS]["sizes"]
        tables: dict[str, pd.DataFrame] = {}
        held: dict[str, Any] = {}
        for about in variables:
            if about.storage == "metadata":
                held[about.name] = about, from_metadata(metadata, about)
            elif about.storage == "table" and about.group in keys:
                if about.group not in tables:
                    tables[about.group] = node[about.group].read()
                table = tables[about.group]
                if about.column in table:
                    held[about.name] = about, about.decode(table[about.column].to_numpy(), (len(table),))
            elif about.storage == "array" and about.name in keys:
                array = np.asarray(node[about.name].read())
                held[about.name] = about, about.decode(array, array.shape)
            elif 0 in (shape := tuple(sizes.get(dim, 1) for dim in about.dims)):
                held[about.name] = about, about.decode([], shape)
        return dataset_of(held, attributes_of(metadata, variables))
    except (CallbackError, KeyError, TypeError) as error:
        raise ReadingError(f"the maps of run {metadata.get('raw_uid')} cannot be read: {error}") from error


def maps_of_run(client: Any, uid: str, edge: str | None = None) -> Any:
    """Return the container of the maps of a run.

    Raises
    ------
    ReadingError
        There are no such maps, or several that fit.
    """
    maps = client.get("maps", client)
    full = _full_uid(maps, uid)
    of_run = maps[full]
    edges = [key for key in of_run if VERSION_MARK not in key]
    if edge is None and len(edges) != 1:
        raise ReadingError(f"run {uid} has maps of {', '.join(edges) or 'no edge yet'}; name the edge")
    try:
        name = edges[0] if edge is None else edge if edge in edges else edge_name(edge)
    except EdgeFittingError as error:
        raise ReadingError(str(error)) from error
    if name not in edges:
        raise ReadingError(f"run {uid} has no maps of {name}, only of {', '.join(edges) or 'no edge yet'}")
    node = of_run[name]
    if CONTENTS not in node.metadata and FIRST_SPEC not in {spec.name for spec in node.specs}:
        raise ReadingError(f"{full}/{name} was not written by this software (no spec {FIRST_SPEC})")
    return node


def _variables(metadata: Mapping[str, Any]) -> tuple[KeptVariable, ...]:
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
