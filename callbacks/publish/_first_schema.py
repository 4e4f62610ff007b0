"""Maps as version 1 of the spec NimcoSOC kept them, in Tiled or on disk."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from callbacks.results import RESERVED_NAMES
from callbacks.techniques import FULL_FIELD_SCHEMA

FIRST_SPEC = "NimcoSOC"
_TAKEN = ("units", "mean_spectrum", "history")
_TABLES = {"frames": "frame_", "particles": "particle_"}


def from_first_schema(metadata: Mapping[str, Any], keys: list[str], read: Callable[[str], Any]) -> xr.Dataset:
    """Return maps of version 1 as a result of today.

    Parameters
    ----------
    metadata : mapping
        Of the container.
    keys : list of str
        Names of its arrays and tables.
    read : callable
        Gives one of them: an array, or a mapping of columns.
    """
    values: dict[str, Any] = {}
    for key in keys:
        if key in FULL_FIELD_SCHEMA:
            values[key] = np.asarray(read(key))
        elif key in _TABLES:
            table = read(key)
            values |= {
                name: np.asarray(table[column])
                for column in table
                if (name := f"{_TABLES[key]}{column}") in FULL_FIELD_SCHEMA
            }
    if (pixel_size_nm := metadata.get("pixel_size_nm")) and "status" in values:
        for dim, size in zip(("row", "column"), values["status"].shape, strict=True):
            values[dim] = np.arange(size) * pixel_size_nm / 1000
    if spectrum := metadata.get("mean_spectrum"):
        values["energy_ev"] = spectrum["energy_ev"]
        values["mean_optical_depth"] = np.asarray(spectrum["optical_depth"], float)
    if history := metadata.get("history"):
        values["history_n_frames"], values["history_sigma"] = np.asarray(history, float).T
    attrs = {
        "technique": "full_field",
        "sample": {},
        "edges": [metadata.get("edge")],
        "complete": metadata.get("n_frames", 0) >= metadata.get("frames_expected", 0),
        **{key: value for key, value in metadata.items() if key not in (*_TAKEN, *RESERVED_NAMES)},
    }
    signal = "soc" if metadata.get("references") else "edge_energy_ev"
    return FULL_FIELD_SCHEMA.make(
        values, attrs, signal="edge_jump" if "edge_jump_sigma" in values else signal
    )
