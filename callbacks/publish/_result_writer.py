"""The container of a result in Tiled."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from tiled.client.metadata_update import DELETE_KEY
from tiled.structures.core import Spec

from callbacks.errors import DeliveryError
from callbacks.results import ALARMS, BY_STORE, WRITTEN_BY, Alarm, first_of, variables_of

from ._containers import (
    CHANGED_MEANWHILE,
    arrays_of,
    container_metadata,
    container_name,
    tables_of,
)
from ._uploads import write_array
from ._versions import claim

_OTHERS_PERIOD_S = 2.0
_MOST_MOVES = 10


class ResultWriter:
    """Creates the container of a result, or takes up one that an earlier process left, and writes into it.

    Parameters
    ----------
    maps_container : tiled client of a container
        Where results are written.
    result : xarray.Dataset
        The first result; `write` it too.
    moved : callable
        Called after each array that the server took, and each step beside: a sign of life of a slow one.
    analysis_id : str
        Which analysis the results are of: it writes over its own only.
    """

    def __init__(
        self, maps_container: Any, result: xr.Dataset, moved: Callable[[], object], analysis_id: str
    ) -> None:
        self._moved = moved
        self._analysis_id = analysis_id
        uid = result.attrs["raw_uid"]
        if uid not in maps_container:
            about = {"raw_uid": uid, "scan_group": result.attrs.get("scan_group"), "raw_path": f"raw/{uid}"}
            maps_container.create_container(uid, metadata=about)
        self._of_run = maps_container[uid]
        self._node: Any = None
        self._made_with: dict[str, xr.Dataset] = {}

    def write(self, result: xr.Dataset, alarms: Sequence[Alarm] = ()) -> None:
        """Write a result: what viewers watch first, the rest from time to time and at the end.

        Parameters
        ----------
        result : xarray.Dataset
            What to write.
        alarms : sequence of Alarm
            What was wrong with its scan so far; kept in the metadata of its container.

        Raises
        ------
        DeliveryError
            Other analyses take the place of this one again and again.
        """
        final = bool(result.attrs.get("final"))
        for _ in range(_MOST_MOVES):
            try:
                if not self._is_own():
                    self._claim(result)
                self._write(result, final, alarms)
                if not final or self._is_own():
                    return
            except KeyError:
                self._node = None
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                # Into a container that still is its own, what is refused as bad is so.
                if status not in CHANGED_MEANWHILE or (status == httpx.codes.BAD_REQUEST and self._is_own()):
                    raise
                self._node = None  # another analysis took the place, and cleared it or filled it
        raise DeliveryError(
            f"other analyses write {container_name(result)} of run {result.attrs['raw_uid'][:8]} at the same time; "
            "let one end first"
        )

    def _claim(self, result: xr.Dataset) -> None:
        """Find the container of this analysis, and what is in it already."""
        self._made_with.clear()
        specs = [Spec(result.attrs["spec"], version=str(result.attrs["schema_version"]))]
        metadata = container_metadata(result)
        self._node = claim(
            self._of_run, container_name(result), self._analysis_id, metadata, specs, self._moved
        )
        self._written = self._held_metadata()
        self._known = {key: self._node[key] for key in self._node}
        arrays, tables = arrays_of(result), tables_of(result)
        for key in [key for key in self._known if key not in arrays and key not in tables]:
            self._known.pop(key).delete(external_only=False)
        # What an earlier writer left is not what this one has.
        self._others_written = -np.inf if self._known else time.monotonic()
        for key in [key for key in arrays if key not in self._known]:
            self._create(key, arrays[key], result)
            self._made_with[key] = result

    def _held_metadata(self) -> dict[str, Any]:
        return {key: value for key, value in self._node.metadata.items() if key not in BY_STORE}

    def _is_own(self) -> bool:
        """Return whether the container is still that of this analysis."""
        if self._node is None:
            return False
        try:
            return bool(self._node.refresh().metadata.get(WRITTEN_BY) == self._analysis_id)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return False
            raise

    def _write(self, result: xr.Dataset, final: bool, alarms: Sequence[Alarm]) -> None:
        arrays, tables = arrays_of(result), tables_of(result)
        where = {about.name: about.group for about in variables_of(result) if about.storage == "table"}
        first = dict.fromkeys(where.get(name, name) for name in first_of(result))
        now = final or time.monotonic() - self._others_written > _OTHERS_PERIOD_S
        for key in (*first, *(key for key in (*arrays, *tables) if key not in first and now)):
            if key in arrays:
                self._write_array(key, arrays[key], result)
            elif key in tables:
                self._write_table(key, tables[key])
        self._made_with.clear()
        if now:
            self._others_written = time.monotonic()
        metadata = container_metadata(result)
        if alarms:
            metadata[ALARMS] = [alarm.to_dict() for alarm in alarms]
        if final:
            if not self._is_own():
                return
            self._node.update_metadata(_change(self._held_metadata(), metadata), drop_revision=True)
            for key in arrays:
                self._known[key].close_stream()
                self._moved()
            self._node.close_stream()
        else:
            self._node.update_metadata(_change(self._written, metadata), drop_revision=True)
        self._written = metadata

    def _create(self, key: str, array: npt.NDArray[Any], result: xr.Dataset) -> None:
        variable = result[key]
        self._known[key] = self._node.write_array(
            array, key=key, dims=tuple(map(str, variable.dims)), metadata=dict(variable.attrs)
        )
        self._moved()

    def _write_array(self, key: str, array: npt.NDArray[Any], result: xr.Dataset) -> None:
        if self._made_with.get(key) is result:
            return  # it holds these values already
        there = self._known.get(key)
        if there is not None and (tuple(there.shape), there.dtype) != (array.shape, array.dtype):
            # The server keeps the shape of an array; one that has grown is another one.
            there.delete(external_only=False)
            there = None
        if there is None:
            self._create(key, array, result)
            return
        write_array(there, array, self._is_own)
        self._moved()

    def _write_table(self, key: str, table: pd.DataFrame) -> None:
        there = self._known.get(key)
        if there is not None and list(there.columns) != list(table.columns):
            there.delete(external_only=False)
            del self._known[key]
            there = None
        if there is not None:
            there.write(table)
        elif len(table):
            self._known[key] = self._node.write_table(table, key=key)
        self._moved()


def _change(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return what turns old metadata into new ones, as tiled merges them."""
    change: dict[str, Any] = {key: DELETE_KEY for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            change[key] = value
        elif isinstance(value, Mapping) and isinstance(old[key], Mapping):
            if inner := _change(old[key], value):
                change[key] = inner
        elif not _same(old[key], value):
            change[key] = value
    return change


def _same(old: Any, new: Any) -> bool:
    return type(old) is type(new) and bool(np.all(old == new)) if isinstance(new, np.ndarray) else old == new
