"""A result in Tiled, read part by part: large maps one at a time, and single pixels of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import xarray as xr

from callbacks.errors import ReadingError
from callbacks.results import ALARMS, CONTENTS, WRITTEN_BY, KeptVariable

from ._containers import CHANGED_MEANWHILE, VERSION_MARK, attributes_of, from_metadata
from ._reading import maps_of_run, read_result, variables_of_node


class StoredResult:
    """What a container of a result holds, by its schema; nothing large is read before it is asked for.

    Parameters
    ----------
    client : tiled client
        The root of the server, or its container ``maps``.
    uid : str
        Uid of the raw run, or its beginning.
    edge : str, optional
        Which edge; may be left out where the run has a result of only one.
    version : int, optional
        Which version, see `soc_versions`; by default the current one.

    Attributes
    ----------
    name : str
        Name of the result: its edge, or else its technique.
    attrs : dict
        What the result says of itself, as `open_soc` gives it.
    variables : dict of str to dict
        Of each variable its ``dims``, and what it says of itself: ``units``, ``long_name``, ``role``, ``of``.

    Raises
    ------
    ReadingError
        There is no such result, or several that fit.
    """

    def __init__(self, client: Any, uid: str, edge: str | None = None, version: int | None = None) -> None:
        self._node = maps_of_run(client, uid, edge, version)
        self.name = str(self._node.item["id"]).partition(VERSION_MARK)[0]
        self._whole: xr.Dataset | None = None
        self._take(self._node.metadata)

    def refresh(self) -> None:
        """Read the metadata anew.

        Raises
        ------
        ReadingError
            The result is no longer there, or cannot be read.
        """
        try:
            self._take(self._node.refresh().metadata)
        except KeyError as error:
            raise ReadingError(f"the result {self.name} is no longer on this server") from error
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in CHANGED_MEANWHILE:
                raise
            raise ReadingError(f"the result {self.name} is no longer on this server") from error

    @property
    def written_by(self) -> Any:
        """Which analysis wrote it."""
        return self._node.metadata.get(WRITTEN_BY)

    @property
    def alarms(self) -> list[dict[str, Any]]:
        """What was wrong while the scan ran: those that are over first, each as `Alarm` names it."""
        held = self._node.metadata.get(ALARMS)
        return (
            [dict(alarm) for alarm in held if isinstance(alarm, Mapping)]
            if isinstance(held, Sequence)
            else []
        )

    def read(self, name: str) -> npt.NDArray[Any]:
        """Return the values of a variable; empty where it is not written yet.

        Raises
        ------
        ReadingError
            It is none of the result, or cannot be read.
        """
        if name not in self.variables:
            raise ReadingError(f"there is no {name!r}; there are {', '.join(self.variables)}")
        if self._whole is not None:
            return np.asarray(self._whole[name].values)
        about = self._kept[name]
        if about.storage == "metadata":
            return from_metadata(self._node.metadata, about)
        key = about.group if about.storage == "table" else about.name
        try:
            values = self._node[key].read()
            return np.asarray(values[about.column] if about.storage == "table" else values)
        except KeyError:
            return np.empty((0,) * len(about.dims), about.dtype)

    def at(self, name: str, row: int, column: int) -> float | None:
        """Return the value of a map at one pixel; None where it has none."""
        try:
            value = (
                self._node[name][row, column]
                if self._whole is None
                else self._whole[name].values[row, column]
            )
        except (KeyError, IndexError):
            return None
        number = float(np.asarray(value).reshape(-1)[0])
        return number if np.isfinite(number) else None

    def _take(self, metadata: Mapping[str, Any]) -> None:
        if CONTENTS not in metadata:  # as version 1 of the schema kept it
            self._whole = read_result(self._node)
            self.attrs = dict(self._whole.attrs)
            self.variables = {
                str(name): {"dims": tuple(map(str, held.dims)), **held.attrs}
                for name, held in self._whole.variables.items()
            }
            return
        kept = variables_of_node(metadata)
        self._kept: dict[str, KeptVariable] = {about.name: about for about in kept}
        self.attrs = attributes_of(metadata, kept)
        self.variables = {about.name: {"dims": about.dims, **about.attrs} for about in kept}
