"""Maps back from Tiled."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from callbacks.errors import ReadingError
from edge_fitting import EdgeFittingError, edge_name

from ._schema import ARRAYS, DIMS, SPEC_NAME


def open_soc(client: Any, uid: str, edge: str | None = None) -> xr.Dataset:
    """Read the maps of a run.

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
        One variable per map, with dimensions ``row`` and ``column`` (in um where the pixel size is known),
        and the metadata as attributes.

    Raises
    ------
    ReadingError
        There are no such maps, or several that fit.
    """
    node = maps_of_run(client, uid, edge)
    metadata = dict(node.metadata)
    units = metadata.get("units", {})
    variables = {
        key: (DIMS, np.asarray(node[key].read()), {"units": units.get(key, ""), "long_name": meaning})
        for key, (_, meaning) in ARRAYS.items()
        if key in node
    }
    dataset = xr.Dataset(variables, attrs=metadata)
    if pixel_size_nm := metadata.get("pixel_size_nm"):
        for dim in DIMS:
            position = np.arange(dataset.sizes[dim]) * pixel_size_nm / 1000
            dataset = dataset.assign_coords({dim: (dim, position, {"units": "um"})})
    return dataset


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
    if name not in ("frames", "particles"):
        raise ReadingError(f"there is no table {name!r}; ask for 'frames' or 'particles'")
    if name not in node:
        raise ReadingError(f"the maps of run {uid} have no table {name!r} (yet)")
    return node[name].read()


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
    edges = list(of_run)
    if edge is None and len(edges) != 1:
        raise ReadingError(f"run {uid} has maps of {', '.join(edges) or 'no edge yet'}; name the edge")
    try:
        name = edge_name(edge) if edge else edges[0]
    except EdgeFittingError as error:
        raise ReadingError(str(error)) from error
    if name not in edges:
        raise ReadingError(f"run {uid} has no maps of {name}, only of {', '.join(edges) or 'no edge yet'}")
    node = of_run[name]
    if SPEC_NAME not in {spec.name for spec in node.specs}:
        raise ReadingError(f"{full}/{name} was not written by this software (no spec {SPEC_NAME})")
    return node


def _full_uid(maps: Any, uid: str) -> str:
    if uid in maps:
        return uid
    found = [key for key in maps if key.startswith(uid)] if uid else []
    if len(found) == 1:
        return str(found[0])
    if found:
        raise ReadingError(f"{len(found)} runs begin with {uid}; give more of the uid")
    raise ReadingError(f"there are no maps of run {uid} on this server")
