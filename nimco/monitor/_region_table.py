"""The regions of a measurement: a small table in Tiled beside the maps, which several viewers write."""

import time
from dataclasses import replace
from typing import Any

import httpx
import pandas as pd

from ._regions import Region, RegionError
from ._source import Source

_LOOK_S = 1.0
_MARK = "@regions"
_REFUSED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.METHOD_NOT_ALLOWED)
_MOST_REGIONS = 200


class RegionTable(Source):
    """Regions by their ids; of two states of one the later counts, so that viewers who write at once lose nothing.

    The table is ``maps/<uid>/<name>@regions``: readers of results pass over names with that mark. What another
    writer's table lacks of ours is written again, until both are the same.

    Parameters
    ----------
    client : tiled client
        The root of the server, with the key of the viewer.
    uid, name : str
        Uid of the run, and name of its result.

    Attributes
    ----------
    kept_here : str
        Why the regions are not in Tiled, in a sentence; empty where they are.
    """

    def __init__(self, client: Any, uid: str, name: str) -> None:
        super().__init__("monitor regions")
        self._client, self._uid, self._key = client, uid, f"{name}{_MARK}"
        self._held: dict[str, Region] = {}
        self.kept_here = ""

    @property
    def regions(self) -> list[Region]:
        """The regions, in the order in which they were made."""
        with self._lock:
            return [region for region in self._held.values() if not region.deleted]

    def put(self, region: Region) -> None:
        """Set a region.

        Raises
        ------
        RegionError
            There are too many.
        """
        with self._lock:
            known = self._held.get(region.id)
            if known is None and len(self._held) >= _MOST_REGIONS:
                raise RegionError(f"There are {_MOST_REGIONS} regions already; remove some first.")
            self._held[region.id] = replace(region, changed_s=self._later(known))
        self._changed()
        self._wake.set()

    def remove(self, region_id: str) -> None:
        """Remove a region; one that is not there is removed already."""
        with self._lock:
            known = self._held.get(region_id)
            if known is not None:
                self._held[region_id] = replace(known, deleted=True, changed_s=self._later(known))
        self._changed()
        self._wake.set()

    def _later(self, known: Region | None) -> float:
        return max(time.time(), 0.0 if known is None else known.changed_s + 1e-3)

    def _follow(self) -> None:
        while not self._ended.is_set():
            self._exchange()
            if self.problem:
                self._said("")
            self._pause(_LOOK_S)

    def _exchange(self) -> None:
        """Take what is new in the table, and write what it lacks."""
        try:
            of_run = self._client["maps"][self._uid]
        except KeyError:
            if self._held:
                self._keep_here("The regions are kept here only until the first map is in Tiled.")
            return
        try:
            table = of_run[self._key]
            stored = _read(table)
        except KeyError:
            table, stored = None, {}
        with self._lock:
            before = [region for region in self._held.values() if not region.deleted]
            for region in stored.values():
                held = self._held.get(region.id)
                if held is None or region.changed_s > held.changed_s:
                    self._held[region.id] = region
            held_now = dict(self._held)
        if before != [region for region in held_now.values() if not region.deleted]:
            self._changed()
        if held_now == stored or not held_now:
            return
        rows = pd.DataFrame([region.to_row() for region in held_now.values()])
        try:
            if table is None:
                of_run.write_table(rows, key=self._key)
            else:
                table.write(rows)
        except httpx.HTTPStatusError as error:
            if error.response.status_code in _REFUSED:
                self._keep_here(
                    "Your key may not write to Tiled: the regions are kept in this monitor only, until it ends."
                )
                return
            if error.response.status_code == httpx.codes.CONFLICT:  # another viewer made the table meanwhile
                self._wake.set()
                return
            raise
        self._keep_here("")

    def _keep_here(self, why: str) -> None:
        if why != self.kept_here:
            self.kept_here = why
            self._changed()


def stored_regions(client: Any, uid: str, name: str) -> list[Region]:
    """Return the regions that viewers have set in a result, in the order in which they were made.

    Parameters
    ----------
    client : tiled client
        The root of the server.
    uid, name : str
        Uid of the run, and name of its result.
    """
    try:
        stored = _read(client["maps"][uid][f"{name}{_MARK}"])
    except KeyError:
        return []
    return [region for region in stored.values() if not region.deleted]


def _read(table: Any) -> dict[str, Region]:
    """Return the regions of a table; a line that is none is passed over."""
    found = {}
    # Asked for once: the client would ask again and again for a table that is made and not written yet.
    link = table.item["links"]["partition"].format(index=0)
    if table.context.http_client.get(link).status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        return {}
    rows = table.read().to_dict("records")
    for row in rows:
        try:
            region = Region.from_row(row)
        except RegionError:
            continue
        found[region.id] = region
    return found
