"""How a result looks in Tiled: where it is, what its metadata are, and which are its arrays and tables."""

from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from callbacks.errors import ReadingError
from callbacks.results import BY_STORE, CONTENTS, KeptVariable, plain_metadata, variables_of

# What Tiled answers where another writer has deleted a node, made it, or made it anew in another shape, meanwhile.
CHANGED_MEANWHILE = (httpx.codes.NOT_FOUND, httpx.codes.CONFLICT, httpx.codes.BAD_REQUEST)
VERSION_MARK = "@"

_MOST_LOOKS = 3


def container_name(result: xr.Dataset) -> str:
    """Return the name of the container of a result below that of its run: its edge, or else its technique."""
    return str(result.attrs.get("edge") or result.attrs.get("technique") or result.attrs["spec"])


def container_path(result: xr.Dataset) -> str:
    """Return the path of the container of a result below the root of the server."""
    return f"maps/{result.attrs['raw_uid']}/{container_name(result)}"


def analysis_id(attrs: Mapping[str, Any]) -> str | None:
    """Return which analysis a result is of; None where it does not say."""
    about = attrs.get("analysis")
    said = about.get("id") if isinstance(about, Mapping) else None
    return str(said) if said else None


def analysed_s(attrs: Mapping[str, Any]) -> float:
    """Return when the analysis of a result began, in seconds since the epoch; 0 where it does not say."""
    about = attrs.get("analysis")
    said = about.get("began_s") if isinstance(about, Mapping) else None
    return float(said) if isinstance(said, int | float) else 0.0


def container_metadata(result: xr.Dataset) -> dict[str, Any]:
    """Return the metadata of the container of a result, plain JSON."""
    variables = variables_of(result)
    metadata = dict(result.attrs)
    for about in variables:
        if about.storage == "metadata":
            values = plain_metadata(result[about.name].values)
            metadata.setdefault(about.group, {})
            metadata[about.group] = {**metadata[about.group], about.column: values}
    metadata[CONTENTS] = {
        "variables": [about.to_dict() for about in variables],
        "sizes": {str(dim): int(size) for dim, size in result.sizes.items()},
    }
    return metadata


def arrays_of(result: xr.Dataset) -> dict[str, npt.NDArray[Any]]:
    """Return what a result keeps as arrays of their own, by name."""
    return {
        about.name: np.ascontiguousarray(result[about.name].values)
        for about in variables_of(result)
        if about.storage == "array"
    }


def tables_of(result: xr.Dataset) -> dict[str, pd.DataFrame]:
    """Return what a result keeps as tables, by name."""
    columns: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for about in variables_of(result):
        if about.storage == "table":
            columns.setdefault(about.group, {})[about.column] = result[about.name].values
    return {name: pd.DataFrame(held) for name, held in columns.items()}


def is_written(part: Any) -> bool:
    """Return whether an array or a table has values: of a table only the name is there when its writer ended too early.

    Raises
    ------
    httpx.HTTPError
        The server does not answer.
    """
    if part.structure_family != "table":
        return True
    link = part.item["links"]["partition"].format(index=0)
    for _ in range(_MOST_LOOKS):
        if part.context.http_client.get(link).status_code < httpx.codes.INTERNAL_SERVER_ERROR:
            return True
        part.refresh()  # fails where the trouble is the server's
    return False


def attributes_of(metadata: Mapping[str, Any], variables: tuple[KeptVariable, ...]) -> dict[str, Any]:
    """Return the attributes of a result: the metadata of its container without what became variables."""
    taken = {CONTENTS, *BY_STORE, *(about.group for about in variables if about.storage == "metadata")}
    return {key: value for key, value in metadata.items() if key not in taken}


def from_metadata(metadata: Mapping[str, Any], about: KeptVariable) -> npt.NDArray[Any]:
    """Return a variable that is kept in the metadata.

    Raises
    ------
    ReadingError
        It is not there.
    """
    try:
        values = metadata[about.group][about.column]
    except (KeyError, TypeError) as error:
        raise ReadingError(f"the metadata have no {about.group}/{about.column}") from error
    shape = np.shape(values)
    return about.decode(values, shape if len(shape) == len(about.dims) else (0,) * len(about.dims))
