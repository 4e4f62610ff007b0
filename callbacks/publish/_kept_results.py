"""Results on disk that wait for Tiled."""

from pathlib import Path
from typing import Any

import xarray as xr

from callbacks.documents import Spool
from callbacks.errors import CallbackError, DamagedSpoolError, SpoolError
from callbacks.results import dataset_of, variables_from, variables_of

from ._first_schema import from_first_schema


def keep_on_disk(result: xr.Dataset, path: Path) -> None:
    """Write a result to a file of its own, replacing an older one as a whole.

    Raises
    ------
    SpoolError
        The file cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise SpoolError(f"cannot write the spool {path} ({error.strerror})") from error
    variables = variables_of(result)
    spool = Spool(unfinished)
    try:
        spool.append(
            _RESULT,
            {
                "attrs": dict(result.attrs),
                "variables": [about.to_dict() for about in variables],
                "arrays": {about.name: result[about.name].values for about in variables},
            },
        )
    except BaseException:
        spool.close(delete=True)
        raise
    spool.close()
    try:
        unfinished.replace(path)
    except OSError as error:
        raise SpoolError(f"cannot write the spool {path} ({error.strerror})") from error


def read_from_disk(path: Path) -> xr.Dataset:
    """Return the result in a file.

    Raises
    ------
    SpoolError
        The file cannot be read, or does not hold a result as it was written.
    """
    spool = Spool(path, writable=False)
    if spool.content.damage is not None:
        raise DamagedSpoolError(f"{path} is not as it was written: {spool.content.damage}")
    for _, offset in spool.content.records:
        name, content = spool.read(offset)
        try:
            if name == _RESULT:
                return _decoded(content)
            if name == _FIRST:
                parts = {**content["arrays"], **content["tables"]}
                return from_first_schema(content["metadata"], list(parts), parts.__getitem__)
        except (CallbackError, KeyError, TypeError, ValueError) as error:
            raise DamagedSpoolError(
                f"{path} holds no map that can be read ({type(error).__name__}: {error})"
            ) from error
    raise DamagedSpoolError(f"{path} holds no map")


def _decoded(content: dict[str, Any]) -> xr.Dataset:
    arrays = content["arrays"]
    held = {
        about.name: (about, about.decode(arrays[about.name], arrays[about.name].shape))
        for about in variables_from(content["variables"])
    }
    return dataset_of(held, content["attrs"])


_RESULT = "result"
_FIRST = "map"  # as written before results had a schema
